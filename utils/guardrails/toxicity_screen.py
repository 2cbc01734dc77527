"""Puts the toxicity guard in front of a guard that changes text, so that both act as one.

Why in front: the classifier judges what the model wrote, also the words that the other guard masks; its offsets are
those of the raw text; and the other guard reads the raw text up to the block, so what it promises about shown text
stays true. Behind it, hidden text would have no length and no score, and replacements would overtake held sentences.
"""

from __future__ import annotations

from utils.events import Blocked, TextDelta
from utils.guardrails.redactor import Guard, GuardEvent, GuardStateError, GuardStatistics
from utils.guardrails.toxicity import ToxicityGuard

__all__ = ["ScreenedGuard"]


class ScreenedGuard:
    """A guard: raw text -> *screen* -> *guard* -> reader. One per stream, as are its parts.

    `Flagged` events of the screen come after the events of the text they were found with. A `Blocked` of either ends
    both; what the other still holds is dropped.
    """

    def __init__(self, screen: ToxicityGuard, guard: Guard) -> None:
        self._screen = screen
        self._guard = guard
        self._is_ended = False
        self._feeds = self._held_sum = self._held_max = 0

    @property
    def held_chars(self) -> int:
        """Characters received, neither shown nor hidden yet, in either part."""
        return self._screen.held_chars + self._guard.held_chars

    def feed(self, text: str) -> list[GuardEvent]:
        """Read *text*. Raises: GuardStateError after the end; what a part raises, and then both have ended."""
        if self._is_ended:
            raise GuardStateError("feed() after the end of the stream")
        try:
            events = self._passed(self._screen.feed(text))
        except BaseException:
            self.cancel()
            raise
        held = self.held_chars
        self._feeds += 1
        self._held_sum += held
        self._held_max = max(self._held_max, held)
        return events

    def finish(self, *, is_cut: bool = False) -> list[GuardEvent]:
        """The text ends: release both tails, unless one blocks. Raises: as `feed`. State afterwards: ended."""
        if self._is_ended:
            raise GuardStateError("finish() after the end of the stream")
        try:
            events = self._passed(self._screen.finish())
            if not self._is_ended:
                events += self._guard.finish(is_cut=is_cut)
        except BaseException:
            self.cancel()
            raise
        self._is_ended = True
        return events

    def cancel(self) -> int:
        """Drop what either part holds; how many characters that were."""
        self._is_ended = True
        return self._screen.cancel() + self._guard.cancel()

    def statistics(self) -> GuardStatistics:
        """Both parts' figures as one. Held characters are measured over both; findings keep each part's offsets."""
        screen, guard = self._screen.statistics(), self._guard.statistics()
        return GuardStatistics(
            rules=screen.rules + guard.rules,
            findings=screen.findings + guard.findings,
            seen_chars=screen.seen_chars,
            held_max_chars=self._held_max,
            held_mean_chars=self._held_sum / self._feeds if self._feeds else 0.0,
            overflows=screen.overflows + guard.overflows,
            dropped_chars=screen.dropped_chars + guard.dropped_chars,
        )

    def _passed(self, screened: list[GuardEvent]) -> list[GuardEvent]:
        """Send what the screen lets through to the guard; stop at the first block."""
        events: list[GuardEvent] = []
        for event in screened:
            shown = self._guard.feed(event.text) if isinstance(event, TextDelta) else [event]
            for item in shown:
                events.append(item)
                if isinstance(item, Blocked):
                    self.cancel()
                    return events
        return events
