"""A Markdown table that grows: every row is read, measured and laid out once, however often the table is drawn.

rich lays a table out as a whole, which costs a millisecond for each row and frame, and a second for one of 600 rows
when it has ended. Here the widths of the columns are rich's own; the rows are put together as rich does it, one by one,
and stay as they are until a wider cell changes the widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE, Box
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from utils.render.inline import parsed, styled

if TYPE_CHECKING:
    from markdown_it.token import Token

__all__ = ["MIN_COLUMN", "GrowingTable", "empty_table"]

_ASCII_BOX = Box("    \n    \n -- \n    \n    \n -- \n    \n    \n", ascii=True)

MIN_COLUMN = 4
"""Columns of the terminal for each bar of a row: with fewer a table is shown as it was written."""

_Line = list[Segment]
_Measures = list[tuple[int, int]]
_SIDES: tuple[JustifyMethod, ...] = ("right", "center", "left")
_HEADING = Style(bold=True)


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

    `read_chars` counts the characters that were parsed: the measure of the work done.
    """

    def __init__(self, head: str, console: Console, *, is_ascii: bool) -> None:
        self.head = head
        self.read_chars = 0
        self._console = console
        self._is_ascii = is_ascii
        self._border = console.get_style("markdown.table.border")
        self._headings = self._cells(head, rows=1)
        self._columns = len(self._headings or ())
        for heading in self._headings or ():
            heading.stylize("markdown.table.header")
        # Each row is parsed under a head of the same number of columns, as short as can be.
        self._above = "|x" * self._columns + "|\n" + head.partition("\n")[2] + "\n"
        self._lines: list[str] = []
        self._rows: list[list[Text]] = []
        self._laid: list[list[_Line] | None] = []
        self._most_bars = max(line.count("|") for line in head.split("\n"))
        self._measures = self._wider([(0, 0)] * self._columns, self._headings or ())
        self._asked: tuple[_Measures, int] | None = None
        self._widths: list[int] = []

    def lines(self, body: str, width: int, newest: int | None = None) -> list[_Line] | None:
        """The table with the rows in *body*, on *width* columns; with *newest* only the last so many rows of *body*.

        None if it cannot be put together row by row: too narrow, or no table in the judgement of the parser.
        """
        lines = body.split("\n") if body else []
        known = len(self._lines)
        if known >= len(lines) or lines[:known] != self._lines:
            self._lines, self._rows, self._laid, known = [], [], [], 0
            self._measures = self._wider([(0, 0)] * self._columns, self._headings or ())
        for line in lines[known:-1]:
            self._add(line)
        last = self._row_of(lines[-1]) if lines else []
        if self._headings is None or last is None:
            return None
        bars = max(self._most_bars, lines[-1].count("|") if lines else 0)
        if width < MIN_COLUMN * bars or not self._set_widths(self._wider(self._measures, last), width):
            return None
        first = 0 if newest is None else len(lines) - newest
        table = [] if first > 0 else self._head_lines()
        for index in range(max(0, first), len(self._rows)):
            laid = self._laid[index]
            if laid is None:
                laid = self._laid[index] = self._lay(self._rows[index])
            table.extend(laid)
        if last:
            table.extend(self._lay(last))
        return table

    def _add(self, line: str) -> None:
        row = self._row_of(line)
        if row is None:
            self._headings = None
            return
        self._lines.append(line)
        self._rows.append(row)
        self._laid.append(None)
        self._measures = self._wider(self._measures, row)
        self._most_bars = max(self._most_bars, line.count("|"))

    def _row_of(self, line: str) -> list[Text] | None:
        return self._cells(self._above + line, rows=2)

    def _cells(self, text: str, *, rows: int) -> list[Text] | None:
        """The cells of the last row, if *text* is a table of so many *rows* and nothing else."""
        self.read_chars += len(text)
        tokens = parsed(text)
        row_starts = [index for index, token in enumerate(tokens) if token.type == "tr_open"]
        if len(row_starts) != rows or tokens[-1].type != "table_close":
            return None
        cells: list[Text] = []
        for opening, inline in zip(tokens[row_starts[-1] :], tokens[row_starts[-1] + 1 :], strict=False):
            if opening.type in ("td_open", "th_open"):
                cell = styled(inline.children or (), self._console)
                if cell is None:
                    return None
                cell.justify = _justification(opening)
                cells.append(cell)
        return cells

    def _wider(self, measures: _Measures, row: Sequence[Text]) -> _Measures:
        """The least and the greatest width of each column of *measures*, with those of *row*."""
        options = self._console.options
        sizes = (cell.__rich_measure__(self._console, options) for cell in row)
        return [(max(a, c), max(b, d)) for (a, b), (c, d) in zip(measures, sizes, strict=True)] if row else measures

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
                self._laid = [None] * len(self._rows)
        return sum(self._widths) + 2 * self._columns <= width

    def _head_lines(self) -> list[_Line]:
        line = ("-" if self._is_ascii else "─") * (sum(self._widths) + 2 * self._columns - 2)
        return [*self._lay(self._headings or [], is_head=True), [Segment(f" {line} ", self._border)]]

    def _lay(self, row: Sequence[Text], *, is_head: bool = False) -> list[_Line]:
        """The lines of *row*: its cells side by side, one column of padding and one of the border between them."""
        style = _HEADING if is_head else None
        cells = [self._folded(cell, width, style) for cell, width in zip(row, self._widths, strict=True)]
        height = max(len(lines) for lines in cells)
        for lines, width in zip(cells, self._widths, strict=True):
            missing = [[Segment(" " * width, style)] for _ in range(height - len(lines))]
            lines[:] = [*missing, *lines] if is_head else [*lines, *missing]
        edge, padding = Segment(" ", self._border), Segment(" ", style)
        table: list[_Line] = []
        for number in range(height):
            out = [edge]
            for lines in cells:
                out += (*lines[number], padding, edge)
            del out[-2]  # no padding at the edge
            table.append(out)
        return table

    def _folded(self, cell: Text, width: int, style: Style | None) -> list[_Line]:
        """*cell* in lines of *width* columns."""
        lines: list[_Line] = []
        for text in cell.wrap(self._console, width):
            line = list(Segment.apply_style(text.render(self._console), style))
            if missing := width - sum(segment.cell_length for segment in line):
                line.append(Segment(" " * missing, style))
            lines.append(line)
        return lines or [[Segment(" " * width, style)]]


def _justification(token: Token) -> JustifyMethod:
    style = str(token.attrs.get("style"))
    return next((side for side in _SIDES if f"text-align:{side}" in style), "default")
