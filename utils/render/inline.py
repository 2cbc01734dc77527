"""Markdown of a model: parsed so that nothing it wrote disappears, and its running text as rich's `Text`.

One parser serves all blocks: making one costs as much as reading a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markdown import MarkdownIt  # type: ignore[attr-defined]  # rich's own parser: its elements read what it writes
from rich.style import Style
from rich.text import Text

if TYPE_CHECKING:
    from markdown_it.token import Token

__all__ = ["paragraph_of", "parsed", "styled"]

_REFERENCE = re.compile(r"^( {0,3})\[(?=[^\]\n]+\]:)", re.MULTILINE)
_STYLES = {"em": "markdown.em", "strong": "markdown.strong", "s": "markdown.s"}


@cache
def _parser() -> MarkdownIt:
    return MarkdownIt().enable("strikethrough").enable("table")


def parsed(text: str) -> list[Token]:
    """The tokens of *text*, in which line breaks stay.

    Link reference definitions, HTML and images, which a browser would not show as they were written, are text.
    """
    tokens = _parser().parse(_REFERENCE.sub(r"\1\\[", text))
    for token in tokens:
        if token.type == "html_block":
            token.type, token.tag = "code_block", ""
        for child in token.children or ():
            if child.type == "softbreak":
                child.type = "hardbreak"
            elif child.type == "html_inline":
                child.type = "text"
            elif child.type == "image":
                child.type, child.tag = "text", ""
                child.content = f"[image: {child.content}] ({child.attrs.get('src', '')})"
                child.children = None
    return tokens


def paragraph_of(tokens: Sequence[Token]) -> Sequence[Token] | None:
    """The inline tokens of *tokens*, if they are one paragraph and nothing else."""
    if len(tokens) == 3 and tokens[0].type == "paragraph_open":
        return tokens[1].children
    return None


def styled(tokens: Sequence[Token], console: Console) -> Text | None:
    """Inline *tokens* as rich's `Markdown` with `hyperlinks=False` writes them; None if there are others among them.

    A link's address is shown, not hidden behind its text: the reader should see where it leads.
    """
    text = Text(justify="left", overflow="fold")
    styles = [Style.null()]
    links: list[tuple[list[str], str]] = []  # the open ones: pieces, which lose their styles, and address

    def enter(name: str) -> None:
        styles.append(styles[-1] + console.get_style(name, default="none"))

    def add(piece: str) -> None:
        if links:
            links[-1][0].append(piece)
        else:
            text.append(piece, styles[-1])

    def add_in(name: str, piece: str) -> None:
        enter(name)
        add(piece)
        styles.pop()

    for token in tokens:
        match token.type:
            case "text":
                add(token.content)
            case "hardbreak":
                add("\n")
            case "code_inline":
                add_in("markdown.code", token.content)
            case "link_open":
                links.append(([], str(token.attrs.get("href", ""))))
            case "link_close":
                pieces, address = links.pop()
                add_in("markdown.link", "".join(pieces))
                add(" (")
                add_in("markdown.link_url", address)
                add(")")
            case _ if token.tag in _STYLES and token.nesting > 0:
                enter(_STYLES[token.tag])
            case _ if token.tag in _STYLES and token.nesting < 0:
                styles.pop()
            case _:
                return None
    return text
