"""Strings on their way into the page. What is not known to be `Html` is escaped wherever it is put in.

A record holds what servers and models said: names, codes, an answer. None of it may act on the page, and all of it must
come out as UTF-8. Forgetting something here shows a reader too many ampersands; it never lets a model write markup.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import Final

from utils.render.harmless import make_harmless

__all__ = ["MAX_NAME_CHARS", "Html", "TextBudget", "code", "joined", "safe", "sentence", "tag", "text"]

MAX_NAME_CHARS = 300
"""Characters shown of anything but the texts of the run: a name may come from a server, which may send a megabyte."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_BLOCK_CHARS: Final = 4_096


class Html(str):
    """Markup that is ready for the page. Whatever is made of it with the methods of `str` is a plain string again."""

    __slots__ = ()


def safe(value: str) -> Html:
    """*value* escaped, with control characters, bidirectional overrides and isolates visible, and no lone surrogate."""
    return Html(html.escape(_SURROGATE.sub("\ufffd", make_harmless(value)), quote=True))


def text(value: object) -> Html:
    """*value* as it is if it is `Html`; else escaped, and cut after 300 characters."""
    if isinstance(value, Html):
        return value
    plain = str(value)
    return safe(plain if len(plain) <= MAX_NAME_CHARS else plain[: MAX_NAME_CHARS - 1] + "…")


def code(value: object) -> Html:
    """A name from outside: set apart from our words, whatever its direction of writing. None: not recorded."""
    return text("n/a") if value is None else tag("code", str(value))


def joined(parts: Iterable[str]) -> Html:
    """*parts* one after the other."""
    return Html("".join(map(text, parts)))


def sentence(*parts: str) -> Html:
    """The same of single parts."""
    return joined(parts)


def tag(name: str, *children: str, **attributes: str | float | None) -> Html:
    """An element. A trailing underscore of an attribute's name is dropped, others are hyphens; None leaves it out."""
    shown = [
        f' {key.rstrip("_").replace("_", "-")}="{safe(value if isinstance(value, str) else f"{value:.7g}")}"'
        for key, value in attributes.items()
        if value is not None
    ]
    return Html(f"<{name}{''.join(shown)}>{joined(children)}</{name}>")


class TextBudget:
    """Shows long texts until they would take more than *limit* bytes of the page."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self.left_out = 0
        """Characters that are not shown."""

    def take(self, value: str) -> Html:
        """As much of *value* as there is room for; nothing more once something was left out."""
        shown: list[Html] = []
        for start in range(0, len(value), _BLOCK_CHARS):
            escaped = safe(value[start : start + _BLOCK_CHARS])
            size = len(escaped) if escaped.isascii() else len(escaped.encode())
            if self.left_out or size > self._left:
                self.left_out += len(value) - start
                break
            self._left -= size
            shown.append(escaped)
        return Html("".join(shown))
