"""When the guard held how much, and which shown text had waited for it; for the report of a run. Pure."""

from __future__ import annotations

from array import array
from bisect import bisect_right

__all__ = ["MAX_ENTRIES", "HoldLog"]

MAX_ENTRIES = 4_096
"""Kept of each kind: with an address rule about one word in two waits, so these are some 8,000 words."""


class HoldLog:
    """Positions count the characters shown, replacements included. The first 4,096 entries of each kind are kept."""

    __slots__ = ("_ends", "_levels", "_starts", "_times", "_waits", "held_chars", "left_out")

    def __init__(self) -> None:
        self._starts = array("q")
        self._ends = array("q")
        self._waits = array("d")
        self._times = array("d")
        self._levels = array("q")
        self.held_chars = 0
        """How many are held now."""
        self.left_out = 0
        """Entries that came too late to be kept."""

    def add_release(self, start: int, end: int, waited_s: float) -> None:
        """Text was shown at [start, end) of which the oldest character had waited *waited_s* seconds."""
        if len(self._starts) < MAX_ENTRIES:
            self._starts.append(start)
            self._ends.append(end)
            self._waits.append(waited_s)
        else:
            self.left_out += 1

    def add_level(self, now: float, held_chars: int) -> None:
        """From the instant *now* on *held_chars* characters are held."""
        self.held_chars = held_chars
        if len(self._times) < MAX_ENTRIES:
            self._times.append(now)
            self._levels.append(held_chars)
        else:
            self.left_out += 1

    def held_s(self, position: int) -> float:
        """How long the text shown at *position* had waited; 0 if it came straight through."""
        place = bisect_right(self._starts, position) - 1
        return self._waits[place] if place >= 0 and position < self._ends[place] else 0.0

    def levels(self) -> list[tuple[float, int]]:
        """(instant, characters held from then on), in order."""
        return list(zip(self._times, self._levels, strict=True))
