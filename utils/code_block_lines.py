"""What the lines of Markdown begin with, and how far they are indented. Pure; see `utils.code_block`."""

from __future__ import annotations

import re

__all__ = ["FENCE", "HTML_STARTS", "ITEM", "LineCursor", "is_heading", "is_rule", "is_underline"]

TAB_COLUMNS = 4

FENCE = re.compile(r"(`{3,}+)[^`]*$|(~{3,})")
"""A line that opens a block of code, without its indentation. The info string of backticks has none."""

ITEM = re.compile(r"(?:[-+*]|([0-9]{1,9})[.)])(?=[ \t]|$)")

_HEADING = re.compile(r"#{1,6}(?:[ \t]|$)")
_RULE = re.compile(r"(?:(?:\*[ \t]*+){3,}+|(?:-[ \t]*+){3,}+|(?:_[ \t]*+){3,}+)$")
_UNDERLINE = re.compile(r"(?:=+|-+)[ \t]*$")

_ELEMENTS = (
    *("address", "article", "aside", "base", "basefont", "blockquote", "body", "caption", "center", "col", "colgroup"),
    *("dd", "details", "dialog", "dir", "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form"),
    *("frame", "frameset", "h1", "h2", "h3", "h4", "h5", "h6", "head", "header", "hr", "html", "iframe", "legend"),
    *("li", "link", "main", "menu", "menuitem", "nav", "noframes", "ol", "optgroup", "option", "p", "param", "search"),
    *("section", "summary", "table", "tbody", "td", "tfoot", "th", "thead", "title", "tr", "track", "ul"),
)
_ATTRIBUTE = r"""[ \t]+[A-Za-z_:][A-Za-z0-9_.:-]*+(?:[ \t]*=[ \t]*(?:[^ \t"'=<>`]++|'[^']*+'|"[^"]*+"))?"""

HTML_STARTS: tuple[tuple[re.Pattern[str], re.Pattern[str] | None], ...] = (
    (
        re.compile(r"<(?:script|pre|style|textarea)(?:[ \t>]|$)", re.IGNORECASE),
        re.compile(r"</(?:script|pre|style|textarea)>", re.IGNORECASE),
    ),
    (re.compile("<!--"), re.compile("-->")),
    (re.compile(r"<\?"), re.compile(r"\?>")),
    (re.compile("<![A-Za-z]"), re.compile(">")),
    (re.compile(r"<!\[CDATA\["), re.compile(r"\]\]>")),
    (re.compile(rf"</?(?:{'|'.join(_ELEMENTS)})(?:[ \t]|/?>|$)", re.IGNORECASE), None),
    (
        re.compile(rf"(?:<[A-Za-z][A-Za-z0-9-]*+(?:{_ATTRIBUTE})*+[ \t]*/?>|</[A-Za-z][A-Za-z0-9-]*+[ \t]*>)[ \t]*$"),
        None,
    ),
)
"""How HTML begins, and what ends it, on the same line or a later one; None: a blank line."""


def is_heading(rest: str) -> bool:
    """Whether the line is a heading by itself; *rest* is what follows its indentation."""
    return _HEADING.match(rest) is not None


def is_rule(rest: str) -> bool:
    """Whether the line is a thematic break."""
    return _RULE.match(rest) is not None


def is_underline(rest: str) -> bool:
    """Whether the line makes a heading of the paragraph before it."""
    return _UNDERLINE.match(rest) is not None


class LineCursor:
    """Walks along the start of a *line* by columns. A tab reaches to the next multiple of four, and may be split."""

    __slots__ = ("_column", "_left", "_position", "line")

    def __init__(self, line: str) -> None:
        self.line = line
        self._position = 0
        self._column = 0
        self._left = 0
        """Columns of the tab before the position that are still to come."""

    def white_space(self) -> tuple[int, int]:
        """The columns of white space that follow, and the position of what comes after it."""
        column, position = self._column + self._left, self._position
        while position < len(self.line) and self.line[position] in " \t":
            column += TAB_COLUMNS - column % TAB_COLUMNS if self.line[position] == "\t" else 1
            position += 1
        return column - self._column, position

    def skip(self, columns: int) -> None:
        """Pass over at most *columns* of white space."""
        taken = min(columns, self._left)
        self._left -= taken
        while taken < columns and self._position < len(self.line) and self.line[self._position] in " \t":
            here = self._column + taken
            width = TAB_COLUMNS - here % TAB_COLUMNS if self.line[self._position] == "\t" else 1
            self._position += 1
            self._left = max(0, taken + width - columns)
            taken = min(columns, taken + width)
        self._column += taken

    def go_to(self, position: int) -> None:
        """Pass over the white space and the one or more characters before *position*."""
        columns, first = self.white_space()
        self._column += columns + position - first
        self._position, self._left = position, 0

    def rest_of(self, line: str) -> str:
        """What follows in *line*, which begins like the own one."""
        return " " * self._left + line[self._position :]
