"""Markdown of a model, read so that nothing it wrote disappears, and its running text as rich's `Text`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markdown import MarkdownIt  # type: ignore[attr-defined]  # the parser whose tokens rich's Markdown takes
from rich.style import Style
from rich.text import Text

if TYPE_CHECKING:
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

__all__ = ["MarkdownReader", "paragraph_of"]

_REFERENCE = re.compile(r"^( {0,3})\[(?=[^\]\n]+\]:)", re.MULTILINE)
_HALF = re.compile(r"`|<[\w/!?]")
"""What is left in the text of code and of HTML that has not ended."""

_STYLES = {"em": "markdown.em", "strong": "markdown.strong", "s": "markdown.s"}


class MarkdownReader:
    """Reads texts with one parser: making one costs as much as reading a sentence.

    *console* knows the styles. `chars` counts the characters read: the measure of the work done.
    """

    def __init__(self, console: Console) -> None:
        self.chars = 0
        self._console = console
        self._parser = MarkdownIt().enable("strikethrough").enable("table")
        self._parser.inline.ruler2.push("waiting", _note_waiting)

    def blocks(self, text: str) -> list[Token]:
        """The tokens of *text*. Line breaks stay; link reference definitions, HTML and images are text."""
        self.chars += len(text)
        tokens = self._parser.parse(_escaped(text))
        _keep(tokens)
        return tokens

    def inline(self, text: str) -> tuple[list[Token], bool]:
        """The tokens of *text*, a part of a paragraph, and whether something in it waits for its other half."""
        self.chars += len(text)
        env: dict[str, bool] = {}
        tokens = self._parser.parseInline(_escaped(text), env)
        children = tokens[0].children or []
        plain = "".join(token.content for token in children if token.type == "text")
        is_waiting = "is_waiting" in env or _HALF.search(plain) is not None or plain.rfind("[") > plain.rfind("]")
        _keep(tokens)
        return children, is_waiting

    def styled(self, tokens: Sequence[Token]) -> Text | None:
        """Inline *tokens* as rich's Markdown writes them with `hyperlinks=False`; None if there are others among them.

        A link's address is shown, not hidden behind its text: the reader should see where it leads.
        """
        text = Text(overflow="fold")
        styles = [Style.null()]
        links: list[tuple[list[str], str]] = []  # the open ones: pieces, which lose their styles, and address

        def enter(name: str) -> None:
            styles.append(styles[-1] + self._console.get_style(name, default="none"))

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


def paragraph_of(tokens: Sequence[Token]) -> Sequence[Token] | None:
    """The inline tokens of *tokens*, if they are one paragraph and nothing else."""
    if len(tokens) == 3 and tokens[0].type == "paragraph_open":
        return tokens[1].children
    return None


def _note_waiting(state: StateInline) -> None:
    """Remember that an emphasis was opened and not closed."""
    if any(delimiter.open and delimiter.end < 0 for delimiter in state.delimiters):
        state.env["is_waiting"] = True


def _escaped(text: str) -> str:
    """*text* without link reference definitions, which would vanish."""
    return _REFERENCE.sub(r"\1\\[", text)


def _keep(tokens: list[Token]) -> None:
    """Make text of what a browser would not show as it was written."""
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
