"""Replay-verify: the same request again, checked against what was delivered, going on right after it. Pure.

Nothing of the new answer passes until it has repeated the delivered text exactly, so a character is never shown
twice and never lost. If it differs anywhere the resume is refused; what was shown cannot be taken back.
"""

from __future__ import annotations

from collections.abc import Iterable

from utils.errors import ResumeDiverged
from utils.events import Event, Finished, Flagged, ReasoningDelta, TextDelta

__all__ = ["Replay"]


class Replay:
    """Feed it the events of the new attempt; it lets pass what lies behind the *delivered* text.

    `is_caught_up` turns true when the whole delivered text has been repeated. Until then events other than text
    pass, reasoning is dropped (it was passed on before), and nothing is shown.
    """

    def __init__(self, delivered: str) -> None:
        self._delivered = delivered
        self._position = 0
        self.is_caught_up = not delivered

    @property
    def overlap_chars(self) -> int:
        """How much of the delivered text has been received again."""
        return self._position

    def feed(self, events: Iterable[Event]) -> list[Event]:
        """The events that may pass. Raises ResumeDiverged at the first difference, an early end included."""
        passed: list[Event] = []
        for event in events:
            if self.is_caught_up:
                passed.append(event)
            elif isinstance(event, TextDelta):
                rest = self._verified(event)
                if rest is not None:
                    passed.append(rest)
            elif isinstance(event, Finished):
                raise ResumeDiverged(
                    f"the repeated answer ended after {self._position} characters, before the first one did",
                    hint="the answer is not whole; run again",
                )
            elif not isinstance(event, ReasoningDelta | Flagged):
                passed.append(event)
        return passed

    def _verified(self, delta: TextDelta) -> TextDelta | None:
        start = self._position
        expected = self._delivered[start : start + len(delta.text)]
        if not delta.text.startswith(expected):
            same = next((i for i, pair in enumerate(zip(expected, delta.text, strict=False)) if pair[0] != pair[1]), 0)
            raise ResumeDiverged(
                f"the repeated answer differs from the first one at character {start + same}",
                hint="the answer is not whole; run again",
            )
        self._position = start + len(expected)
        self.is_caught_up = self._position == len(self._delivered)
        rest = delta.text[len(expected) :]
        # Tokens of a delta that was shown in part cannot be told apart by character.
        return TextDelta(rest) if rest else None
