"""Counts findings that were hidden: a mask grows by one replacement per character, and is one finding all the same."""

from __future__ import annotations

from utils.events import Redacted

__all__ = ["Replacements"]


class Replacements:
    """Tell it of every replacement and of the characters shown up to its end; `count` is the number of findings."""

    __slots__ = ("_newest", "_until_chars", "count")

    def __init__(self) -> None:
        self.count = 0
        self._newest: Redacted | None = None
        self._until_chars = 0

    def add(self, event: Redacted, *, shown_before: int, shown_after: int) -> None:
        """*event* was shown between these numbers of characters."""
        self.count += not self._continues(event, shown_before)
        self._newest, self._until_chars = event, shown_after

    def _continues(self, event: Redacted, shown_before: int) -> bool:
        """Whether it makes the newest one longer: nothing visible comes between, and two findings never touch."""
        last = self._newest
        return (
            last is not None
            and last.rule == event.rule
            and last.raw_start + len(last.replacement) == event.raw_start
            and self._until_chars == shown_before
        )
