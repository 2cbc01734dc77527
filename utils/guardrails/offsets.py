"""Where folded characters stand in the raw text."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

__all__ = ["Offsets"]

_BREAKS_MAX = 4096
"""Breaks that are kept at most. Only the places of findings that go back further than that are approximate."""


class Offsets:
    """Positions in the folded and in the raw text. *folded* and *raw* are the lengths so far.

    As long as each raw character folds to one, both move together: they differ by a constant. Where one folds to none
    or to several, a break notes the next folded position and its raw one. What is dropped belongs to the one before.
    """

    __slots__ = ("_folded_breaks", "_raw_breaks", "folded", "raw")

    def __init__(self) -> None:
        self.folded = 0
        self.raw = 0
        self._folded_breaks = [0]
        self._raw_breaks = [0]

    def add(self, parts: Sequence[str]) -> None:
        """Note the raw characters that fold to *parts*."""
        for part in parts:
            size = len(part)
            for n in range(size) if size > 1 else ():
                self._note(self.folded + n, self.raw)
            self.folded += size
            self.raw += 1
            if size != 1:
                self._note(self.folded, self.raw)

    def start(self, position: int) -> int:
        """The raw position of the character that folded *position* belongs to."""
        n = max(0, bisect_right(self._folded_breaks, position) - 1)
        return self._raw_breaks[n] + position - self._folded_breaks[n]

    def end(self, position: int) -> int:
        """Where the raw character of folded *position* - 1 ends, with the dropped ones that follow it so far."""
        raw = self.start(position - 1)
        while position < self.folded:
            after = self.start(position)
            if after > raw:
                return after
            position += 1
        return self.raw

    def forget(self, raw: int) -> None:
        """Places before *raw* will not be asked for exactly: drop what only they need."""
        keep = max(bisect_left(self._raw_breaks, raw) - 1, len(self._raw_breaks) - _BREAKS_MAX, 0)
        if keep:
            del self._folded_breaks[:keep], self._raw_breaks[:keep]

    @property
    def breaks(self) -> int:
        """How many breaks are kept."""
        return len(self._raw_breaks)

    def _note(self, folded: int, raw: int) -> None:
        if self._folded_breaks[-1] == folded:
            self._raw_breaks[-1] = raw
        else:
            self._folded_breaks.append(folded)
            self._raw_breaks.append(raw)
