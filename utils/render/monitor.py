"""`--monitor-performance`: a panel while the answer comes, of fixed height once it streams; figures at the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.style import Style

from utils.clock import Clock
from utils.events import Event
from utils.metrics.snapshot import Snapshot, StageStates
from utils.render.figures import counted, duration, report_lines
from utils.render.painter import Painter
from utils.render.screen import Row, Screen
from utils.render.sparkline import ASCII_LEVELS, BLOCK_LEVELS, sparkline
from utils.run_report import RunReport

__all__ = ["PANEL_ROWS", "TICK_S", "MonitorPanel"]

PANEL_ROWS = 6
"""Rows of the panel from the first text on; before that there is only one row to fill, and the bar above it."""

TICK_S = 1 / 8
"""Least time between two renderings of the figures, in seconds; with nothing going on also the longest."""

_MIN_ANSWER_ROWS = 3
_MIN_SPARKS = 8
_STALL_S = 1.0
_DIM = Style(dim=True)
_BOLD = Style(bold=True)
_ALARM = Style(color="red")
_STATES = {
    "waiting": Style(color="yellow"),
    "streaming": Style(color="green"),
    "recovering": Style(color="magenta"),
    "finished": Style(color="green"),
    "blocked": Style(color="red"),
    "aborted": Style(color="red"),
}

_Cells = list[tuple[str, Style | None]]


class _Group(NamedTuple):
    """Pieces of text that are shown together or not at all; of the groups of a row the highest *rank* goes first."""

    rank: int
    cells: _Cells


class MonitorPanel:
    """Shows *snapshot* below the answer; `finish` takes the panel away and prints the figures of the report.

    The panel is left out while the terminal has too few rows for it and a few rows of the answer. *stages* tells of
    breaker, limiter and guard.
    """

    tick_s: float | None = TICK_S
    is_inside = False

    def __init__(
        self,
        screen: Screen,
        painter: Painter,
        snapshot: Callable[[float], Snapshot],
        clock: Clock,
        *,
        stages: Callable[[], StageStates] = StageStates,
        is_ascii: bool = False,
    ) -> None:
        self._screen = screen
        self._painter = painter
        self._snapshot = snapshot
        self._clock = clock
        self._stages = stages
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
        self._screen.note(report_lines(report, self._screen.width))
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
        bar: _Cells = [(self._bar * width, _DIM)]
        stages = self._stages()
        if now.ttft_s is None:
            return [bar, self._fitted(_waiting(now, stages, width), width)]
        return [
            bar,
            self._fitted(_progress(now), width),
            self._fitted(_throughput(now), width),
            self._fitted(_stages(now, stages), width),
            self._latency(now, width),
            self._confidence(now, width),
        ]

    def _fitted(self, groups: list[_Group], width: int) -> _Cells:
        """*groups* side by side, without as many of the least important ones as it takes to fit."""
        groups = [group for group in groups if group.cells]
        while len(groups) > 1 and _width(groups) + (len(groups) - 1) * len(self._separator) > width:
            groups.remove(max(groups, key=lambda group: group.rank))
        cells: _Cells = []
        for group in groups:
            if cells:
                cells.append((self._separator, _DIM))
            cells.extend(group.cells)
        return cells

    def _latency(self, now: Snapshot, width: int) -> _Cells:
        stall = now.longest_stall_s
        if stall is None:
            return [("latency    ", _DIM), ("n/a until the second chunk", None)]
        tail = f" max {duration(stall)}"
        if width < 11 + len(tail) + _MIN_SPARKS:
            tail = ""
        room = max(0, width - 11 - len(tail))
        line = sparkline(now.latencies_s, room, top=_ceiling(now.latencies_s[-room:]), levels=self._levels)
        stall_style = Style(color="red") if stall >= _STALL_S else None
        return [("latency    ", _DIM), (line, Style(color="cyan")), (tail, stall_style)]

    def _confidence(self, now: Snapshot, width: int) -> _Cells:
        # A fixed scale from 0 to 1: the same height means the same probability in every frame.
        line = sparkline(now.confidence, max(0, width - 11), top=1.0, levels=self._levels)
        return [("confidence ", _DIM), (line, Style(color="blue")) if line else ("n/a (no logprobs)", None)]


def _waiting(now: Snapshot, stages: StageStates, width: int) -> list[_Group]:
    what: str = now.state
    if now.state not in ("finished", "blocked", "aborted"):
        full = "waiting for the rate limit" if stages.queued else "waiting for the first token"
        what = full if width >= len(full) else "waiting"
    breaker = stages.breaker if stages.breaker not in (None, "closed") else None
    return [
        _Group(0, [(what, _STATES[now.state])]),
        _Group(1, [(f"{now.elapsed_s:.1f} s", None)]),
        _Group(3, [(f"attempt {now.retries + 1}", None)]),
        _Group(2, [("breaker ", _DIM), (breaker, _ALARM)] if breaker else []),
        _Group(4, [(now.model or now.target or "", None)] if now.model or now.target else []),
    ]


def _progress(now: Snapshot) -> list[_Group]:
    about = "about " if now.token_source in ("chunks", "estimate") else ""
    return [
        _Group(0, [(now.state, _STATES[now.state])]),
        _Group(1, [(f"{now.elapsed_s:.1f} s", None)]),
        _Group(3, [("first token ", _DIM), (duration(now.ttft_s), None)]),
        _Group(2, [(about + counted(now.tokens, "token"), None)]),
        _Group(4, [(now.model or now.target or "", None)] if now.model or now.target else []),
    ]


def _throughput(now: Snapshot) -> list[_Group]:
    counts = ((now.retries, "retry", "retries"), (now.resumes, "resume", None), (now.fallbacks, "fallback", None))
    recovery = ", ".join(counted(count, one, many) for count, one, many in counts if count)
    return [
        _Group(0, [(_rate(now.tokens_per_s_now), _BOLD), (" tokens/s now", _DIM)]),
        _Group(2, [(_rate(now.tokens_per_s), _BOLD), (" average", _DIM)]),
        _Group(1, [(recovery, None)] if recovery else []),
    ]


def _stages(now: Snapshot, stages: StageStates) -> list[_Group]:
    is_closed = stages.breaker == "closed"
    breaker: _Cells = [("breaker ", _DIM), (stages.breaker, None if is_closed else _ALARM)] if stages.breaker else []
    guard = [f"{count:,} {word}" for count, word in ((now.redactions, "hidden"), (now.flags, "flagged")) if count]
    if stages.held_chars is not None:
        # Always there while a guard is: what comes and goes with every word makes the row jump.
        guard.append(f"{stages.held_chars:,} held back")
    return [
        _Group(3 if is_closed else 0, breaker),
        _Group(1, [("guard ", _DIM), (", ".join(guard), None)] if guard else []),
        _Group(2, [("limit ", _DIM), (limit, None)] if (limit := _limit(stages)) else []),
    ]


def _limit(stages: StageStates) -> str:
    if stages.queued:
        return f"{stages.queued:,} waiting"
    levels = ((stages.requests_left, "request"), (stages.tokens_left, "token"))
    left = ", ".join(counted(math.floor(level), what) for level, what in levels if level is not None)
    return f"{left} left" if left else ""


def _ceiling(values: Sequence[float]) -> float:
    """The top of the scale for *values*: twice their 90th percentile, so that one stall does not flatten the rest."""
    ordered = sorted(values)
    usual = 2 * ordered[len(ordered) * 9 // 10] if ordered else 0.0
    return min(usual, ordered[-1]) if usual else max(ordered, default=0.0)


def _width(groups: list[_Group]) -> int:
    return sum(cell_len(text) for group in groups for text, _ in group.cells)


def _rate(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.1f}"
