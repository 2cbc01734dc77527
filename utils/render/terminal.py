"""The answer on a terminal: finished blocks are printed once, only the open block is redrawn."""

from __future__ import annotations

from utils.events import Event, Redacted
from utils.render.blocks import Block, Splitter
from utils.render.harmless import make_harmless
from utils.render.painter import Painter
from utils.render.screen import Row, Screen
from utils.render.sink import shown_text
from utils.run_report import RunReport

_ASTERISK = "\u2217"
"""Stands for the asterisks of a mask, which would be drawn as a rule or as bold text."""

__all__ = ["MAX_LIVE_ROWS", "TerminalSink"]

MAX_LIVE_ROWS = 12
"""Rows of the open block that are redrawn; of a longer one the end is shown until it is finished."""


class TerminalSink:
    """Feeds the answer to *splitter*, and shows its blocks on *screen* as *painter* renders them.

    The cost of an answer is linear in its length: each block is rendered once when it is final, and a frame renders
    at most `MAX_LIVE_ROWS` rows of the open one. The text reaches the terminal with the next frame; `close`
    without `finish` prints what is there, so that an answer cut short stays visible.
    """

    tick_s: float | None = None

    def __init__(self, screen: Screen, splitter: Splitter, painter: Painter) -> None:
        self._screen = screen
        self._splitter = splitter
        self._painter = painter
        self._final: list[Block] = []
        self._is_open = True
        screen.add(self)

    def handle(self, event: Event, now: float) -> None:
        """Add the text of *event*; it is drawn with the next frame."""
        text = make_harmless(shown_text(event))
        if isinstance(event, Redacted):
            text = text.replace("*", _ASTERISK)
        if text and self._is_open:
            self._final.extend(self._splitter.feed(text))
            self._screen.request()

    def finish(self, report: RunReport) -> None:
        """Print the rest of the answer; the cursor is then at the start of a line."""
        self.close()

    def close(self) -> None:
        """Print the rest of the answer, if `finish` was not called, and give the live rows back."""
        if self._is_open:
            self._is_open = False
            self._final.extend(self._splitter.finish())
            self._screen.remove(self)

    @property
    def is_inside(self) -> bool:
        """Whether a block of code is open."""
        return self._is_open and self._splitter.is_inside

    def commit(self, width: int) -> list[Row]:
        """The rows of the blocks that became final since the last call."""
        blocks, self._final = self._final, []
        return [row for block in blocks for row in self._painter.rows(block, width)]

    def live(self, width: int, height: int) -> list[Row]:
        """The last rows of the open block."""
        height = min(height, MAX_LIVE_ROWS)
        if height < 1 or not self._is_open:
            return []
        rows: list[Row] = []
        for block in self._splitter.open():
            rows.extend(self._painter.preview(block, width, height))
        return rows[-height:]
