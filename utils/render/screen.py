"""The lower end of a terminal: a few rows that are redrawn, and everything above them, which is final.

Theory of operation. Between two frames the cursor stands at the end of the last live row, or at its start if there
is no room for the echo of a key (`^C`), which must not take the cursor to another row. A frame is one write:
move to the first live row, erase to the end of the screen, print what became final, print the new live rows.
Nothing modal stays switched on between frames, so there is nothing to restore after a crash.

Live rows are printed with automatic wrapping off: a row that turns out wider than expected (ambiguous-width
characters) is clipped, and the number of rows to move up stays right. After the terminal got narrower, terminals
that re-wrap have folded the live rows into more rows than were drawn, the others have not; *reflows* says which.

Notes are lines of others between those of the parts. While a part is in the middle of what must stay whole (a block
of code), they wait: shown live below it, and printed when it has ended.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from utils.clock import Clock
from utils.render.output import running_loop
from utils.render.wrapping import printed_width

if TYPE_CHECKING:
    from asyncio import TimerHandle

__all__ = ["FRAME_S", "Part", "Row", "Screen"]

FRAME_S = 1 / 12
"""Least time between two frames, in seconds."""

_ECHO_COLUMNS = 4
"""Columns that stay free behind the cursor: two keys of the kind of Ctrl-C."""

_MAX_WAITING = 4
"""Rows of waiting notes that are shown live, the newest."""


class Row(NamedTuple):
    """One row for the terminal: its text with escape sequences of ours, and how many columns it takes."""

    text: str
    cells: int


class Part(Protocol):
    """One owner of live rows."""

    tick_s: float | None
    """Redraw at least this often, in seconds, even if nothing happens; None: only on request."""

    @property
    def is_inside(self) -> bool:
        """Whether the next final row belongs to the last one, so that nothing may be printed between them."""
        ...

    def commit(self, width: int) -> Sequence[Row]:
        """Rows that are final now, each returned exactly once."""
        ...

    def live(self, width: int, height: int) -> Sequence[Row]:
        """At most *height* rows that the next frame replaces, none wider than *width* columns."""
        ...


class Screen:
    """Owns the live region of one terminal; parts are drawn from top to bottom in the order they were added.

    *write* gets one string per frame. *size* gives (columns, rows) and is asked at every frame, so a resize needs
    no signal. Inside an event loop frames are timers on it; without one they are drawn by `request` when due.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        size: Callable[[], tuple[int, int]],
        clock: Clock,
        *,
        reflows: bool = True,
    ) -> None:
        self._write = write
        self._size = size
        self._clock = clock
        self._reflows = reflows
        self._parts: list[Part] = []
        self._above: list[Row] = []
        self._waiting: list[Row] = []
        self._drawn: list[int] = []
        self._drawn_width = 0
        self._is_at_start = False
        self._due_s = -math.inf
        self._timer: TimerHandle | None = None
        self._timer_s = math.inf
        self._is_drawing = False
        self.frames = 0

    @property
    def width(self) -> int:
        """Columns of the terminal now."""
        return self._size()[0]

    def add(self, part: Part) -> None:
        """Show *part* below the parts that are there."""
        self._parts.append(part)

    def remove(self, part: Part) -> None:
        """Print what *part* has finished, and stop showing it; no-op if it is not there."""
        if part in self._parts:
            self._above.extend(part.commit(self._size()[0]))
            self._parts.remove(part)
            self.draw()

    def note(self, lines: Sequence[str]) -> None:
        """Print *lines* above the live region, after all that is final so far; at once if there is no live region.

        In the middle of a block that must stay whole they are shown below it, and printed after its end.
        """
        width = self._size()[0]
        for part in self._parts:
            self._above.extend(part.commit(width))
        self._waiting.extend(Row(line, printed_width(line)) for line in lines)
        self._release()
        if self._parts:
            self.request()
        else:
            self.draw()  # nobody is left who will draw the last frame

    def request(self) -> None:
        """Something changed: draw a frame as soon as the frame rate allows."""
        self._arm(max(self._due_s, self._clock()))

    def _release(self) -> None:
        if self._waiting and not any(part.is_inside for part in self._parts):
            self._above.extend(self._waiting)
            self._waiting.clear()

    def _arm(self, at_s: float) -> None:
        loop = running_loop()
        if loop is None:
            if self._clock() >= at_s:
                self.draw()
            return
        if self._timer is not None:
            if self._timer_s <= at_s:
                return
            self._timer.cancel()
        self._timer_s = at_s
        self._timer = loop.call_later(max(0.0, at_s - self._clock()), self.draw)

    def draw(self) -> None:
        """Draw a frame now."""
        self._is_drawing = True
        try:
            self._draw()
        finally:
            self._is_drawing = False

    def suspend(self) -> None:
        """Take the live region away, for a program that is about to be stopped; callable from a signal handler.

        In the middle of a frame nothing is done: the frame goes on when the program does.
        """
        if not self._is_drawing:
            erased = self._erase(*self._size())
            self._drawn = []
            if erased:
                self._write(erased)

    def resume(self) -> None:
        """Draw the live region again, below what others wrote meanwhile; callable from a signal handler."""
        loop = running_loop()
        if loop is not None and self._parts:
            loop.call_soon_threadsafe(self.draw)  # the only call of a loop that a handler may make

    def _draw(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._clock()
        self._due_s = now + FRAME_S
        width, height = self._size()
        for part in self._parts:
            self._above.extend(part.commit(width))
        self._release()
        above, self._above = self._above, []
        live = self._live_rows(width, height)
        out = [self._erase(width, height)]
        out.extend(f"{row.text}\n" for row in above)
        self._is_at_start = bool(live) and live[-1].cells > width - _ECHO_COLUMNS
        if live:
            out.append(_clipped(live))
        if self._is_at_start:
            out.append("\r")
        self._drawn = [row.cells for row in live]
        self._drawn_width = width
        frame = "".join(out)
        if frame:
            self.frames += 1
            self._write(frame)
        ticks = [part.tick_s for part in self._parts if part.tick_s is not None]
        if ticks and running_loop() is not None:
            self._arm(now + max(min(ticks), FRAME_S))

    def _live_rows(self, width: int, height: int) -> list[Row]:
        # One row stays free for the line above, so that the region never scrolls its own first row away. The last
        # part (the panel) has a fixed height and comes first; the answer above it gets what is left.
        free = height - 1
        blocks: list[Sequence[Row]] = []
        for part in reversed(self._parts):
            if part.is_inside:
                waiting = self._waiting[-_MAX_WAITING:][: max(0, free)]
                free -= len(waiting)
                blocks.append(waiting)
            rows = part.live(width, max(0, free))
            free -= len(rows)
            blocks.append(rows)
        return [row for rows in reversed(blocks) for row in rows]

    def _erase(self, width: int, height: int) -> str:
        if not self._drawn:
            return ""
        rows = len(self._drawn)
        if self._reflows and width < self._drawn_width:
            *above, last = (max(1, -(-cells // width)) for cells in self._drawn)
            rows = sum(above) + (1 if self._is_at_start else last)
        up = min(rows, height) - 1
        return f"\r\x1b[{up}A\x1b[J" if up else "\r\x1b[J"


def _clipped(rows: Sequence[Row]) -> str:
    return "\x1b[?7l" + "\n".join(row.text for row in rows) + "\x1b[?7h"
