"""`--monitor-performance`: a panel of fixed height while the answer streams, and the figures at the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from rich.style import Style

from utils.clock import Clock
from utils.events import Event
from utils.metrics.snapshot import Snapshot
from utils.render.figures import report_lines
from utils.render.painter import Painter
from utils.render.screen import Row, Screen
from utils.render.sparkline import ASCII_LEVELS, BLOCK_LEVELS, sparkline
from utils.run_report import RunReport

__all__ = ["PANEL_ROWS", "TICK_S", "MonitorPanel"]

PANEL_ROWS = 5
TICK_S = 1 / 8
"""Least time between two renderings of the figures, in seconds; with nothing going on also the longest."""

_MIN_ANSWER_ROWS = 3
_STALL_S = 1.0
_DIM = Style(dim=True)
_BOLD = Style(bold=True)
_STATES = {
    "waiting": Style(color="yellow"),
    "streaming": Style(color="green"),
    "recovering": Style(color="magenta"),
    "finished": Style(color="green"),
    "blocked": Style(color="red"),
    "aborted": Style(color="red"),
}

_Cells = list[tuple[str, Style | None]]


class MonitorPanel:
    """Shows *snapshot* below the answer; `finish` takes the panel away and prints the figures of the report.

    The panel is left out while the terminal has too few rows for it and a few rows of the answer. *breaker* gives
    the state of the circuit breaker, if there is one.
    """

    tick_s: float | None = TICK_S

    def __init__(
        self,
        screen: Screen,
        painter: Painter,
        snapshot: Callable[[float], Snapshot],
        clock: Clock,
        *,
        breaker: Callable[[], str] | None = None,
        is_ascii: bool = False,
    ) -> None:
        self._screen = screen
        self._painter = painter
        self._snapshot = snapshot
        self._clock = clock
        self._breaker = breaker
        self._levels = ASCII_LEVELS if is_ascii else BLOCK_LEVELS
        self._separator, self._bar = (" | ", "-") if is_ascii else (" · ", "─")
        self._rows: list[Row] = []
        self._rows_width = 0
        self._rows_s = -math.inf
        screen.add(self)
        screen.request()

    def handle(self, event: Event, now: float) -> None:
        """The next frame shows what *event* changed."""
        self._screen.request()

    def finish(self, report: RunReport) -> None:
        """Replace the panel by the final figures."""
        self._screen.remove(self)
        self._screen.note(report_lines(report))
        self._screen.draw()

    def close(self) -> None:
        """Take the panel away, if `finish` did not."""
        self._screen.remove(self)

    def commit(self, width: int) -> Sequence[Row]:
        """A panel is never final."""
        return ()

    def live(self, width: int, height: int) -> list[Row]:
        """The rows of the panel, computed at most every `TICK_S` seconds."""
        if height < PANEL_ROWS + _MIN_ANSWER_ROWS:
            return []
        now = self._clock()
        if now - self._rows_s >= TICK_S or width != self._rows_width:
            try:
                lines = self._lines(self._snapshot(now), width)
            except Exception as error:  # figures that fail must not take the answer with them
                lines = [[(f"no figures: {type(error).__name__}", _DIM)], *([[]] * (PANEL_ROWS - 1))]
            self._rows = [self._painter.columns(line, width) for line in lines]
            self._rows_s, self._rows_width = now, width
        return self._rows

    def _lines(self, now: Snapshot, width: int) -> list[_Cells]:
        separator: tuple[str, Style | None] = (self._separator, _DIM)
        return [
            [(self._bar * width, _DIM)],
            [
                (now.state, _STATES[now.state]),
                separator,
                (f"{now.elapsed_s:.1f} s", None),
                separator,
                ("first token ", _DIM),
                (_time(now.ttft_s), None),
                separator,
                (f"{now.tokens:,} tokens", None),
                (f" by {now.token_source}", _DIM),
                separator,
                (now.model or now.target or "no model yet", None),
            ],
            [
                (_rate(now.tokens_per_s_now), _BOLD),
                (" tokens/s now", _DIM),
                separator,
                (_rate(now.tokens_per_s), _BOLD),
                (" average", _DIM),
                separator,
                ("retries ", _DIM),
                (f"{now.retries}", None),
                (" resumes ", _DIM),
                (f"{now.resumes}", None),
                (" fallbacks ", _DIM),
                (f"{now.fallbacks}", None),
                separator,
                ("breaker ", _DIM),
                (self._breaker() if self._breaker else "n/a", None),
                separator,
                ("hidden ", _DIM),
                (f"{now.redactions}", None),
                (" flagged ", _DIM),
                (f"{now.flags}", None),
            ],
            self._latency(now, width),
            self._confidence(now, width),
        ]

    def _latency(self, now: Snapshot, width: int) -> _Cells:
        stall = now.longest_stall_s
        tail = f" max {_time(stall)}"
        line = sparkline(now.latencies_s, max(0, width - 11 - len(tail)), levels=self._levels)
        stall_style = Style(color="red") if stall is not None and stall >= _STALL_S else None
        return [("latency    ", _DIM), (line or "n/a", Style(color="cyan")), (tail, stall_style)]

    def _confidence(self, now: Snapshot, width: int) -> _Cells:
        # A fixed scale from 0 to 1: the same height means the same probability in every frame.
        line = sparkline(now.confidence, max(0, width - 11), top=1.0, levels=self._levels)
        return [("confidence ", _DIM), (line, Style(color="blue")) if line else ("n/a", None)]


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "n/a"
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _rate(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.1f}"
