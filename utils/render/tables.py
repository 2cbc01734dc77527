"""A Markdown table that grows: every row is read, measured and laid out once, however often the table is drawn.

rich lays a table out as a whole, which costs a millisecond for each row and frame, and a second for one of 600 rows
when it has ended. Here the widths of the columns are rich's own; the rows are put together as rich does it, one by one,
and stay as they are until a wider cell changes the widths.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import dropwhile
from typing import TYPE_CHECKING

from rich.box import SIMPLE, Box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from utils.render.reader import MarkdownReader
from utils.render.screen import Row

if TYPE_CHECKING:
    from markdown_it.token import Token

__all__ = ["MIN_COLUMN", "GrowingTable", "empty_table"]

MIN_COLUMN = 4
"""Columns of the terminal for each bar of a row: with fewer a table is shown as it was written."""

_ASCII_BOX = Box("    \n    \n -- \n    \n    \n -- \n    \n    \n", ascii=True)
_HEADING = Style(bold=True)
_SIDES: tuple[JustifyMethod, ...] = ("right", "center", "left")

_Line = list[Segment]
_Measures = list[tuple[int, int]]


def empty_table(*, is_ascii: bool) -> Table:
    """A table of rich as all tables here look, without columns."""
    box = _ASCII_BOX if is_ascii else SIMPLE
    return Table(box=box, pad_edge=False, style="markdown.table.border", show_edge=True, collapse_padding=True)


class _Probe:
    """Stands for all cells of a column: as wide as they are, and told how wide the column gets."""

    def __init__(self, least: int, most: int) -> None:
        self._measure = Measurement(least, most)
        self.width = 0

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return self._measure

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self.width = options.max_width
        return ()


class GrowingTable:
    """The rows of the table under *head*, which is its first two lines; one for each table.

    *row* makes a row of a line, an empty one of a line that shows nothing.
    """

    def __init__(
        self, head: str, reader: MarkdownReader, console: Console, row: Callable[[_Line], Row], *, is_ascii: bool
    ) -> None:
        self._reader = reader
        self._console = console
        self._row = row
        self._is_ascii = is_ascii
        self._border = console.get_style("markdown.table.border")
        self._headings = self._cells(head, rows=1) or []  # empty: no table that can be put together here
        for heading in self._headings:
            heading.stylize("markdown.table.header")
        self._bars = max(line.count("|") for line in head.split("\n"))
        # Each row is read under a head of the same number of columns, as short as can be.
        self._above = "|x" * len(self._headings) + "|\n" + head.partition("\n")[2] + "\n"
        self._asked: tuple[_Measures, int] | None = None
        self._widths: list[int] = []
        self._begin()

    def _begin(self) -> None:
        self._lines: list[str] = []
        self._texts: list[list[Text]] = []
        self._laid: list[list[Row] | None] = []
        self._most_bars = self._bars
        self._measures = self._wider([(0, 0)] * len(self._headings), self._headings)

    def rows(self, body: str, width: int, newest: int | None = None) -> list[Row] | None:
        """The table with the rows in *body*, on *width* columns; with *newest* only the last so many of them.

        None if it cannot be put together row by row: too narrow, or no table in the judgement of the parser.
        """
        lines = body.split("\n") if body else []
        known = len(self._lines)
        if known >= len(lines) or lines[:known] != self._lines:
            self._begin()
            known = 0
        for line in lines[known:-1]:
            self._add(line)
        last = self._read(lines[-1]) if lines else []
        if not self._headings or last is None:
            return None
        bars = max(self._most_bars, lines[-1].count("|") if lines else 0)
        if width < MIN_COLUMN * bars or not self._set_widths(self._wider(self._measures, last), width):
            return None
        texts = [*self._texts, last] if lines else []
        while texts and not any(cell.plain.strip() for cell in texts[-1]):
            texts.pop()  # empty rows at the end are not shown
        first = 0 if newest is None else len(texts) - newest
        empty = self._row([])
        table: list[Row] = []
        if first <= 0:
            table.extend(dropwhile(lambda row: row == empty, self._head_rows()))
        for index in range(max(0, first), len(texts)):
            table += self._laid_row(index, texts[index])
        while table and table[-1] == empty:
            table.pop()
        return table

    def _laid_row(self, index: int, cells: Sequence[Text]) -> list[Row]:
        if index >= len(self._laid):  # the one that still grows
            return self._lay(cells)
        laid = self._laid[index]
        if laid is None:
            laid = self._laid[index] = self._lay(cells)
        return laid

    def _add(self, line: str) -> None:
        cells = self._read(line)
        if cells is None:
            self._headings = []
        else:
            self._lines.append(line)
            self._texts.append(cells)
            self._laid.append(None)
            self._measures = self._wider(self._measures, cells)
            self._most_bars = max(self._most_bars, line.count("|"))

    def _read(self, line: str) -> list[Text] | None:
        return self._cells(self._above + line, rows=2) if self._headings else None

    def _cells(self, text: str, *, rows: int) -> list[Text] | None:
        """The cells of the last of so many *rows*; None if *text* has not so many of a table."""
        tokens = self._reader.blocks(text)
        starts = [index for index, token in enumerate(tokens) if token.type == "tr_open"]
        if len(starts) != rows:
            return None
        cells: list[Text] = []
        for index in range(starts[-1], len(tokens)):
            if tokens[index].type in ("td_open", "th_open"):
                cell = self._reader.styled(tokens[index + 1].children or ())
                if cell is None:
                    return None
                cell.justify = _justification(tokens[index])
                cells.append(cell)
        return cells

    def _wider(self, measures: _Measures, cells: Sequence[Text]) -> _Measures:
        """The least and the greatest width of each column of *measures*, with those of *cells*."""
        options = self._console.options
        sizes = (cell.__rich_measure__(self._console, options) for cell in cells)
        return [(max(a, c), max(b, d)) for (a, b), (c, d) in zip(measures, sizes, strict=True)] if cells else measures

    def _set_widths(self, measures: _Measures, width: int) -> bool:
        """Let rich say how wide the columns get; False if they do not fit."""
        if self._asked != (measures, width):
            self._asked = measures, width
            probes = [_Probe(*measure) for measure in measures]
            table = empty_table(is_ascii=self._is_ascii)
            for probe in probes:
                table.add_column(probe, overflow="fold")
            self._console.render_lines(table, self._console.options.update(width=width, height=None), pad=False)
            widths = [probe.width for probe in probes]
            if widths != self._widths:
                self._widths = widths
                self._laid = [None] * len(self._texts)
        return sum(self._widths) + 2 * len(self._widths) <= width

    def _head_rows(self) -> list[Row]:
        line = ("-" if self._is_ascii else "─") * (sum(self._widths) + 2 * len(self._widths) - 2)
        return [*self._lay(self._headings, is_head=True), self._row([Segment(f" {line} ", self._border)])]

    def _lay(self, cells: Sequence[Text], *, is_head: bool = False) -> list[Row]:
        """*cells* side by side, one column of padding and one of the border between them."""
        style = _HEADING if is_head else None
        columns = [self._folded(cell, width, style) for cell, width in zip(cells, self._widths, strict=True)]
        height = max(len(lines) for lines in columns)
        for lines, width in zip(columns, self._widths, strict=True):
            missing = [[Segment(" " * width, style)] for _ in range(height - len(lines))]
            lines[:] = [*missing, *lines] if is_head else [*lines, *missing]
        edge, padding = Segment(" ", self._border), Segment(" ", style)
        rows: list[Row] = []
        for number in range(height):
            line = [edge]
            for lines in columns:
                line += (*lines[number], padding, edge)
            rows.append(self._row(line))
        return rows

    def _folded(self, cell: Text, width: int, style: Style | None) -> list[_Line]:
        """*cell* in lines of *width* columns."""
        is_simple = cell.justify == "default" and cell_len(cell.plain) <= width and "\t" not in cell.plain
        lines: list[_Line] = []
        for text in [cell] if is_simple else cell.wrap(self._console, width):
            line = list(Segment.apply_style(text.render(self._console), style))
            if missing := width - sum(segment.cell_length for segment in line):
                line.append(Segment(" " * missing, style))
            lines.append(line)
        return lines or [[Segment(" " * width, style)]]


def _justification(token: Token) -> JustifyMethod:
    style = str(token.attrs.get("style"))
    return next((side for side in _SIDES if f"text-align:{side}" in style), "default")
