"""Blocks of an answer to rows of a terminal, with rich."""

from __future__ import annotations

import io
from collections.abc import Iterable
from copy import copy
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Literal

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.color import ColorSystem
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.markdown import CodeBlock, Heading, HorizontalRule, Markdown, TableElement
from rich.segment import Segment
from rich.style import Style
from rich.syntax import Syntax
from rich.text import Text
from rich.theme import Theme

from utils.render.blocks import Block
from utils.render.harmless import can_encode, make_harmless
from utils.render.inline import paragraph_of, parsed, styled
from utils.render.screen import Row
from utils.render.tables import MIN_COLUMN, GrowingTable, empty_table

if TYPE_CHECKING:
    from markdown_it.token import Token

__all__ = ["Color", "Painter"]

Color = Literal["color", "mono", "none"]
"""Colours and attributes, attributes alone (NO_COLOR), or plain text."""

# The palette is the terminal's own sixteen colours: they fit light and dark backgrounds, because the user chose them.
_THEME = Theme(
    {
        "markdown.h1": "bold underline",
        "markdown.h2": "bold underline",
        "markdown.h3": "bold",
        "markdown.h4": "bold",
        "markdown.h5": "bold",
        "markdown.h6": "bold",
        "markdown.code": "cyan",
        "markdown.hr": "dim",
        "markdown.table.header": "bold",
        "markdown.table.border": "dim",
    }
)
_CODE_THEME = "ansi_dark"
_MAX_HIGHLIGHTED = 2_000  # characters of a code line; longer ones are data, not code, and lexers are slow on them
_PLAIN = Style.null()
_DIM = Style(dim=True)
_MARKER = Style(bold=True)
_ASCII = {"•": "*", "▌ ": "> ", "…": "~"}
_MAX_RULE = 40  # columns; a longer one says no more, and would fold when the terminal gets narrower


class _LeftHeading(Heading):
    """A heading at the left margin: a box or centring around it would be copied along with the text."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self.text.justify = "left"
        yield self.text


class _FoldingTable(TableElement):
    """A table that folds long words instead of cutting them off."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = empty_table(is_ascii=options.ascii_only)
        if self.header is not None and self.header.row is not None:
            for cell in self.header.row.cells:
                heading = cell.content.copy()
                heading.stylize("markdown.table.header")
                table.add_column(heading, overflow="fold")
        for row in self.body.rows if self.body is not None else ():
            table.add_row(*(cell.content for cell in row.cells))
        yield table


class _Rule(HorizontalRule):
    """The line of a table's head, also between paragraphs."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        line = "-" if options.ascii_only else "─"
        yield Text(line * min(_MAX_RULE, options.max_width), style="markdown.hr")


class _PlainCode(CodeBlock):
    """Code inside a quote or an indented paragraph: its characters, no frame, no padding."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(str(self.text).rstrip("\n"), style="markdown.code", overflow="fold")


class _FencedCode(_PlainCode):
    """Code inside a quote, between its fences: they are shown as they were written, as outside of quotes."""

    fence = "```"
    info = ""

    @classmethod
    def create(cls, markdown: Markdown, token: Token) -> _FencedCode:
        """The element of *token*."""
        code = cls("text", markdown.code_theme)
        code.fence, code.info = token.markup or cls.fence, token.info
        return code

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(self.fence + self.info, style=_DIM)
        yield from super().__rich_console__(console, options)
        yield Text(self.fence, style=_DIM)


class _AnswerMarkdown(Markdown):
    """Markdown of a model: nothing it wrote disappears, and its line breaks stay."""

    elements = {  # noqa: RUF012 - declared as a ClassVar by the base class
        **Markdown.elements,
        "heading_open": _LeftHeading,
        "table_open": _FoldingTable,
        "fence": _FencedCode,
        "hr": _Rule,
        "code_block": _PlainCode,
    }

    @classmethod
    def of(cls, tokens: list[Token]) -> _AnswerMarkdown:
        """What *tokens* say; rich would make a parser for each text."""
        markdown = copy(_template())
        markdown.parsed = tokens
        return markdown


@cache
def _template() -> _AnswerMarkdown:
    return _AnswerMarkdown("", hyperlinks=False)


class Painter:
    """Renders blocks for one terminal.

    `rendered_chars` counts the characters of every block that went through rich, previews included: the measure
    of the work done. Never raises: a block that rich cannot render is shown as it was written.
    """

    def __init__(self, color: Color = "color", encoding: str = "utf-8") -> None:
        self.is_ascii = not can_encode("•▌…━▁", encoding)
        self._console = Console(
            file=io.StringIO(),
            force_terminal=True,
            color_system="standard",
            theme=_THEME,
            width=80,
            height=25,
            _environ={},
        )
        self._color = color
        self._syntaxes: dict[str, Syntax | None] = {}
        self._table: GrowingTable | None = None
        self.rendered_chars = 0

    def rows(self, block: Block, width: int) -> list[Row]:
        """The final rows of *block* on a terminal of *width* columns.

        A line of code is one row, wider than the terminal if need be: the terminal wraps it, and copying gives the
        line back as it was written.
        """
        self.rendered_chars += len(block.text)
        return self._rows(block, width)

    def preview(self, block: Block, width: int, height: int) -> list[Row]:
        """The last *height* rows of *block* while it still grows; costs at most what fits there, not its length."""
        limit = width * height
        if block.kind in ("code", "fence"):
            tail = block.text[-limit:].expandtabs()
            self.rendered_chars += len(tail)
            style = _DIM if block.kind == "fence" else _PLAIN
            return [self.line(piece, style) for piece in chop_cells(tail, width)[-height:]]
        if block.kind == "table":
            return self._rows(block, width, newest=height)[-height:]
        return self.rows(replace(block, text=_tail(block.text, limit, height)), width)[-height:]

    def _rows(self, block: Block, width: int, newest: int | None = None) -> list[Row]:
        """With *newest* of a table at least the last so many rows."""
        try:
            match block.kind:
                case "blank":
                    return [Row("", 0)]
                case "code":
                    return [self._code_row(block)]
                case "fence":
                    return [self.line(block.text, _DIM)]
                case "quote":
                    return self._prefixed(block, width, *self._quote_bars(), newest)
                case _:
                    indent = " " * min(block.indent, width // 3)
                    marker = f"{self._glyph(block.marker)} " if block.marker else ""
                    hanging = Segment(indent + " " * len(marker))
                    return self._prefixed(block, width, Segment(indent + marker, _MARKER), hanging, newest)
        except Exception:  # the answer matters more than its looks, and a sink must not raise
            return [self.line(line) for line in block.text.split("\n")]

    def line(self, text: str, style: Style = _PLAIN) -> Row:
        """*text* as one row."""
        return self._row([Segment(text, style)])

    def columns(self, cells: Iterable[tuple[str, Style | None]], width: int) -> Row:
        """Pieces of text side by side, cut with an ellipsis at *width* columns."""
        segments = [Segment(text, style) for text, style in cells]
        total = sum(cell_len(segment.text) for segment in segments)
        if total <= width:
            return self._row(segments)
        fitted: list[Segment] = []
        free = max(0, width - 1)
        for text, style, _ in segments:
            piece = set_cell_size(text, min(free, cell_len(text)))
            free -= cell_len(piece)
            fitted.append(Segment(piece, style))
        return self._row([*fitted, Segment(self._glyph("…"))])

    def _glyph(self, glyph: str) -> str:
        return _ASCII.get(glyph, glyph) if self.is_ascii else glyph

    def _quote_bars(self) -> tuple[Segment, Segment]:
        bar = Segment(self._glyph("▌ "), _DIM)
        return bar, bar

    def _prefixed(self, block: Block, width: int, first: Segment, others: Segment, newest: int | None) -> list[Row]:
        inner = max(1, width - cell_len(first.text))
        if not block.text.strip():
            return [self._row([first])]
        lines = self._table_lines(block.text, inner, newest) if block.kind == "table" else None
        if lines is None:
            text = block.text if newest is None else _table_tail(block.text, width * newest, newest)
            lines = self._markdown(text, inner)
        while lines and not _visible(lines[0]):
            del lines[0]
        while lines and not _visible(lines[-1]):
            del lines[-1]
        return [
            self._row([first if index == 0 else others, *_without_padding(line)])
            for index, line in enumerate(lines or [[Segment(block.text)]])
        ]

    def _table_lines(self, text: str, width: int, newest: int | None) -> list[list[Segment]] | None:
        head, body = _table_parts(text)
        table = self._table
        if table is None or table.head != head:
            table = GrowingTable(head, self._console, is_ascii=self.is_ascii)
        self._table = None if newest is None else table  # the final rows are asked for once
        return table.lines(body, width, newest)

    def _markdown(self, text: str, width: int) -> list[list[Segment]]:
        is_table = "|" in text and width < MIN_COLUMN * max(line.count("|") for line in text.split("\n"))
        return self._lines(Text(text, overflow="fold"), width) if is_table else self._parsed(parsed(text), width)

    def _parsed(self, tokens: list[Token], width: int) -> list[list[Segment]]:
        inline = paragraph_of(tokens)
        paragraph = styled(inline, self._console) if inline else None
        if paragraph is None:
            return self._lines(_AnswerMarkdown.of(tokens), width)
        # What rich would do in the end, without its way there: half the time of a short block.
        return [list(line.render(self._console)) for line in paragraph.wrap(self._console, width)]

    def _lines(self, renderable: RenderableType, width: int) -> list[list[Segment]]:
        options = self._console.options.update(width=width, height=None)
        options.encoding = "ascii" if self.is_ascii else "utf-8"
        return self._console.render_lines(renderable, options, pad=False)

    def _code_row(self, block: Block) -> Row:
        if not block.language or len(block.text) > _MAX_HIGHLIGHTED or not block.text.strip():
            return self.line(block.text)
        syntax = self._syntax(block.language)
        if syntax is None:
            return self.line(block.text)
        text = syntax.highlight(block.text)
        text.rstrip()
        if text.plain != block.text.rstrip():  # the lexer changed something, such as tabs
            return self.line(block.text)
        return self._row(list(text.render(self._console, end="")))

    def _syntax(self, language: str) -> Syntax | None:
        if language not in self._syntaxes:
            syntax = Syntax("", language, theme=_CODE_THEME, background_color=None)
            self._syntaxes[language] = syntax if syntax.lexer is not None else None
        return self._syntaxes[language]

    def _row(self, segments: list[Segment]) -> Row:
        out: list[str] = []
        cells = 0
        for text, style, control in segments:
            if control:
                continue
            # The last gate: whatever produced this text, an entity in the Markdown too, no control leaves from here.
            text = make_harmless(text).replace("\n", " ")
            cells += cell_len(text)
            out.append(self._styled(text, style))
        return Row("".join(out), cells)

    def _styled(self, text: str, style: Style | None) -> str:
        if style is None or self._color == "none":
            return text
        if self._color == "mono":
            style = style.without_color
        return style.render(text, color_system=ColorSystem.STANDARD)


def _tail(text: str, chars: int, lines: int) -> str:
    """The end of *text*: at most *lines* lines and *chars* characters, cut at a space if there is one."""
    start = len(text)
    for _ in range(lines):
        start = text.rfind("\n", 0, start)
        if start < 0:
            break
    start += 1
    if len(text) - start > chars:
        start = len(text) - chars
        start = text.find(" ", start) + 1 or start
    return text[start:]


def _table_parts(text: str) -> tuple[str, str]:
    """The head of a table, which are two lines, and the rows under it."""
    end = text.find("\n", text.find("\n") + 1)
    return (text, "") if end < 0 else (text[:end], text[end + 1 :])


def _table_tail(text: str, chars: int, lines: int) -> str:
    """The end of a table, under its head: without it rows would not be read as a table."""
    head, body = _table_parts(text)
    tail = _tail(body, chars, lines)
    return text if tail == body else f"{head}\n{tail}"


def _without_padding(line: list[Segment]) -> list[Segment]:
    while line:
        text, style, _ = line[-1]
        if bare := text.rstrip(" "):
            return [*line[:-1], Segment(bare, style)]
        line = line[:-1]
    return line


def _visible(line: list[Segment]) -> bool:
    return any(segment.text.strip() for segment in line)
