"""Blocks of an answer to rows of a terminal, with rich."""

from __future__ import annotations

import io
from collections.abc import Iterable
from contextlib import suppress
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
from utils.render.paragraphs import GrowingParagraph
from utils.render.reader import MarkdownReader, paragraph_of
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

    Never raises: a block that rich cannot render is shown as it was written.
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
        self._reader = MarkdownReader(self._console)
        self._syntaxes: dict[str, Syntax | None] = {}
        self._table: GrowingTable | None = None
        self._table_at: tuple[str, Segment] | None = None
        self._paragraph: GrowingParagraph | None = None
        self._paragraph_at: tuple[Segment, Segment, int] | None = None

    @property
    def rendered_chars(self) -> int:
        """The characters that were read as Markdown or as code, previews included: the measure of the work done."""
        return self._reader.chars

    def rows(self, block: Block, width: int) -> list[Row]:
        """The final rows of *block* on a terminal of *width* columns.

        A line of code is one row, wider than the terminal if need be: the terminal wraps it, and copying gives the
        line back as it was written.
        """
        try:
            match block.kind:
                case "blank":
                    return [Row("", 0)]
                case "code":
                    return [self._code_row(block)]
                case "fence":
                    return [self.line(block.text, _DIM)]
                case "quote":
                    bar = Segment(self._glyph("▌ "), _DIM)
                    return self._prefixed(block.text, width, bar, bar)
                case "table" if (rows := self._table_rows(block, width)) is not None:
                    return rows
                case _:
                    return self._prefixed(block.text, width, *self._margins(block, width))
        except Exception:  # the answer matters more than its looks, and a sink must not raise
            return [self.line(line) for line in block.text.split("\n")]

    def preview(self, block: Block, width: int, height: int) -> list[Row]:
        """The last *height* rows of *block* while it still grows.

        Costs what is new and at most what fits there, not the length of the block.
        """
        limit = width * height
        if block.kind in ("code", "fence"):
            tail = block.text[-limit:].expandtabs()
            self._reader.chars += len(tail)
            style = _DIM if block.kind == "fence" else _PLAIN
            return [self.line(piece, style) for piece in chop_cells(tail, width)[-height:]]
        rows: list[Row] | None = None
        with suppress(Exception):  # as in `rows`
            if block.kind == "table":
                rows = self._table_rows(block, width, height)
            elif block.kind != "quote" and block.text.strip():
                rows = self._paragraph_rows(block, width, height)
        if rows is None and block.kind == "table":
            rows = self.rows(replace(block, text=_table_tail(block.text, limit, height), kind="text"), width)
        elif rows is None:
            rows = self.rows(replace(block, text=_tail(block.text, limit, height)), width)
        return rows[-height:]

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

    def _margins(self, block: Block, width: int) -> tuple[Segment, Segment]:
        """What stands before the first row, and before the others."""
        indent = " " * min(block.indent, width // 3)
        marker = f"{self._glyph(block.marker)} " if block.marker else ""
        return Segment(indent + marker, _MARKER), Segment(indent + " " * len(marker))

    def _margined(self, margin: Segment, line: list[Segment]) -> Row:
        return self._row([margin, *_without_padding(line)])

    def _table_rows(self, block: Block, width: int, newest: int | None = None) -> list[Row] | None:
        """The rows of a table, with what is known of it from the last time; None if rich has to judge it as a whole."""
        head, body = _table_parts(block.text)
        margin = self._margins(block, width)[1]
        table = self._table
        if table is None or self._table_at != (head, margin):
            self._table_at = head, margin
            table = GrowingTable(
                head,
                self._reader,
                self._console,
                lambda line: self._margined(margin, line if _visible(line) else []),
                is_ascii=self.is_ascii,
            )
        self._table = table if newest else None  # the final rows are asked for once
        return table.rows(body, max(1, width - cell_len(margin.text)), newest)

    def _paragraph_rows(self, block: Block, width: int, newest: int) -> list[Row] | None:
        """The last rows of a paragraph, with what is known of it from the last time; None if it is none."""
        first, others = self._margins(block, width)
        paragraph = self._paragraph
        if paragraph is None or self._paragraph_at != (first, others, width) or not paragraph.is_begin_of(block.text):
            self._paragraph_at = first, others, width
            self._paragraph = paragraph = GrowingParagraph(
                self._reader,
                self._console,
                max(1, width - cell_len(first.text)),
                lambda line, is_first: self._margined(first if is_first else others, line),
            )
        return paragraph.rows(block.text, newest)

    def _prefixed(self, text: str, width: int, first: Segment, others: Segment) -> list[Row]:
        if not text.strip():
            return [self._row([first])]
        lines = self._markdown(text, max(1, width - cell_len(first.text)))
        while lines and not _visible(lines[0]):
            del lines[0]
        while lines and not _visible(lines[-1]):
            del lines[-1]
        return [
            self._margined(first if index == 0 else others, line)
            for index, line in enumerate(lines or [[Segment(text)]])
        ]

    def _markdown(self, text: str, width: int) -> list[list[Segment]]:
        if "|" in text and width < MIN_COLUMN * max(line.count("|") for line in text.split("\n")):
            self._reader.chars += len(text)
            return self._lines(Text(text, overflow="fold"), width)
        tokens = self._reader.blocks(text)
        inline = paragraph_of(tokens)
        paragraph = self._reader.styled(inline) if inline else None
        if paragraph is None:
            return self._lines(_AnswerMarkdown.of(tokens), width)
        # What rich would do in the end, without its way there: half the time of a short block.
        return [list(line.render(self._console)) for line in paragraph.wrap(self._console, width)]

    def _lines(self, renderable: RenderableType, width: int) -> list[list[Segment]]:
        options = self._console.options.update(width=width, height=None)
        options.encoding = "ascii" if self.is_ascii else "utf-8"
        return self._console.render_lines(renderable, options, pad=False)

    def _code_row(self, block: Block) -> Row:
        self._reader.chars += len(block.text)
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
