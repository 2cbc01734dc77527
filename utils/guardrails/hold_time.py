"""How long text is held, for the price of a clock reading and a few additions per piece of text."""

from __future__ import annotations

from collections import deque

from utils.clock import Clock
from utils.events import Redacted, TextDelta
from utils.guardrails.guard import Guard, GuardEvent
from utils.guardrails.hold_log import HoldLog

__all__ = ["HoldTime"]


class HoldTime:
    """Feeds *guard*, and measures how long its characters wait until they are shown, hidden or dropped.

    Exact for every character; they are decided in the order in which they came. In ordinary text all that is held came
    with one piece, so one instant is remembered; pieces are kept one by one only while held text spans several.
    """

    __slots__ = (
        *("_char_seconds", "_clock", "_feed", "_guard", "_held", "_oldest_at", "_pieces", "_shown"),
        *("log", "longest_s"),
    )

    def __init__(self, guard: Guard, clock: Clock) -> None:
        self._guard = guard
        self._feed = guard.feed
        self._clock = clock
        self._held = 0
        self._char_seconds = self._oldest_at = 0.0
        self._pieces: deque[tuple[int, float]] = deque()
        """(characters still held, arrival), oldest first; empty: all that is held came at `_oldest_at`."""
        self.longest_s = 0.0
        """The longest time of one character that is held no more, in seconds."""
        self.log = HoldLog()
        """What waited, piece by piece."""
        self._shown = 0

    def feed(self, text: str) -> list[GuardEvent]:
        """What the guard's `feed` returns. Raises: what that raises."""
        events = self._feed(text)
        held = self._guard.held_chars
        waited = 0.0
        if self._pieces or held > len(text):
            waited = self._note(len(text), held)
        elif before := self._held:
            now = self._clock()
            waited = now - self._oldest_at
            self._char_seconds += before * waited
            if waited > self.longest_s:
                self.longest_s = waited
            self._oldest_at = now
            self._held = held
            self.log.add_level(now, held)
        elif held:
            self._oldest_at = now = self._clock()
            self._held = held
            self.log.add_level(now, held)
        if events:
            self._note_shown(events, waited)
        return events

    def note_end(self, events: list[GuardEvent] | None = None) -> None:
        """The guard has ended: what it still held has just been decided, and *events* of it are shown."""
        self._note_shown(events or [], self._note(0, self._guard.held_chars))

    def mean_s(self, seen_chars: int) -> float:
        """Seconds that a character waited, over all *seen_chars* characters; 0 if none came."""
        return self._char_seconds / seen_chars if seen_chars else 0.0

    def _note_shown(self, events: list[GuardEvent], waited_s: float) -> None:
        start = end = self._shown
        for event in events:
            if isinstance(event, TextDelta):
                end += len(event.text)
            elif isinstance(event, Redacted):
                end += len(event.replacement)
        self._shown = end
        if waited_s and end > start:
            self.log.add_release(start, end, waited_s)

    def _note(self, came: int, held: int) -> float:
        """Count who leaves; the longest that one of them had waited, in seconds."""
        now = self._clock()
        pieces = self._pieces
        if self._held and not pieces:
            pieces.append((self._held, self._oldest_at))
        if came:
            pieces.append((came, now))
        leaving = self._held + came - held
        longest_s = 0.0
        while leaving > 0:
            count, arrived = pieces.popleft()
            waited = now - arrived
            self._char_seconds += min(count, leaving) * waited
            longest_s = max(longest_s, waited)
            if count > leaving:
                pieces.appendleft((count - leaving, arrived))
            leaving -= count
        self.longest_s = max(self.longest_s, longest_s)
        if len(pieces) == 1:
            self._oldest_at = pieces.pop()[1]
        if held != self._held:
            self.log.add_level(now, held)
        self._held = held
        return longest_s
