"""The matches of flag rules: told once nothing can make them longer, and never a reason to hold text."""

from __future__ import annotations

from utils.guardrails.compiled import Reader
from utils.guardrails.offsets import Offsets
from utils.guardrails.scanners import NOT_LIVE, Match

__all__ = ["FlagRun", "Flags"]

FlagRun = tuple[int, int, int]
"""A rule's number, and the raw start and end of a maximal run of its matches."""

_OPEN_MAX = 1000
"""Runs of a rule that may wait; only a match that is live for very long makes more of them, told before it ends."""


class Flags:
    """The flag rules of one stream. `oldest`: the raw position from which on places must stay known exactly."""

    __slots__ = ("_found", "_reader", "_runs", "oldest")

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._runs: dict[int, list[tuple[int, int]]] = {}  # by rule, those that may still grow, in order
        self._found: list[Match] = []
        self.oldest = NOT_LIVE

    def __bool__(self) -> bool:
        return bool(self._reader)

    def read(self, text: str, base: int, offsets: Offsets) -> list[FlagRun]:
        """Read folded *text*, whose places are in *offsets*; returns the runs that are complete."""
        live = self._reader.scan(text, base, self._found)
        if live != NOT_LIVE:
            live = offsets.start(live)
        if self._found:
            self._join(offsets)
        self.oldest = live
        return self._close(min(live, offsets.raw)) if self._runs else []

    def extend(self, end: int, new_end: int) -> None:
        """Characters that are dropped before matching follow at *end*: they belong to the one before them."""
        for runs in self._runs.values():
            if runs[-1][1] == end:
                runs[-1] = runs[-1][0], new_end

    def finish(self, offsets: Offsets) -> list[FlagRun]:
        """The text is whole: all runs are."""
        self._reader.finish(offsets.folded, self._found)
        self._join(offsets)
        return self.close()

    def close(self) -> list[FlagRun]:
        """The text goes on unseen: the runs so far."""
        return self._close(NOT_LIVE)

    def _close(self, live: int) -> list[FlagRun]:
        """The runs that end before *live*: a match that starts where a run ends is part of it."""
        closed: list[FlagRun] = []
        for order, runs in list(self._runs.items()):
            count = sum(1 for _, end in runs if end < live)
            count = max(count, len(runs) - _OPEN_MAX)
            closed += [(order, start, end) for start, end in runs[:count]]
            del runs[:count]
            if not runs:
                del self._runs[order]
        return closed

    def _join(self, offsets: Offsets) -> None:
        for match in self._found:
            place = offsets.start(match.start), offsets.end(match.end)
            self._runs.setdefault(match.rule, []).append(place)
        self._found.clear()
        for order, runs in self._runs.items():
            joined: list[tuple[int, int]] = []
            for start, end in sorted(runs):
                if joined and start <= joined[-1][1]:
                    joined[-1] = joined[-1][0], max(end, joined[-1][1])
                else:
                    joined.append((start, end))
            self._runs[order] = joined
