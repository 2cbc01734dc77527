"""What every guard on a stream of text has in common."""

from __future__ import annotations

from typing import Protocol

from utils.events import Blocked, Flagged, Redacted, TextDelta
from utils.guardrails.findings import GuardStatistics

__all__ = ["Guard", "GuardEvent", "GuardStateError"]

GuardEvent = TextDelta | Redacted | Flagged | Blocked


class GuardStateError(AssertionError):
    """A guard was used after its end, or found that it broke its own promise. A bug of ours, never the user's."""


class Guard(Protocol):
    """What stands between a stream of text and its reader; one per stream.

    `feed` and `finish` return what may be shown now. After `finish`, `cancel` or a `Blocked` only `cancel` (again) and
    the figures may be asked for.
    """

    def feed(self, text: str) -> list[GuardEvent]:
        """Read the next piece of raw text."""
        ...

    def finish(self, *, is_cut: bool = False) -> list[GuardEvent]:
        """The text ends: decide trailing boundaries and release the tail.

        *is_cut*: it ends in the middle, because a limit was reached. What might have become a match is dropped.
        """
        ...

    def cancel(self) -> int:
        """The text is not whole: drop what is held; returns how many characters were dropped."""
        ...

    @property
    def held_chars(self) -> int:
        """Characters received, neither shown nor hidden yet."""
        ...

    def statistics(self) -> GuardStatistics:
        """A snapshot of the figures."""
        ...
