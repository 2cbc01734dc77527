"""How long text is held, for the price of a clock reading and a few additions per piece of text."""

from __future__ import annotations

from collections import deque

from utils.clock import Clock
from utils.guardrails.guard import Guard, GuardEvent

__all__ = ["HoldTime"]


class HoldTime:
    """Feeds *guard*, and measures how long its characters wait until they are shown, hidden or dropped.

    Exact for every character; they are decided in the order in which they came. In ordinary text all that is held came
    with one piece, so one instant is remembered; pieces are kept one by one only while held text spans several.
    """

    __slots__ = ("_char_seconds", "_clock", "_feed", "_guard", "_held", "_oldest_at", "_pieces", "longest_s")

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

    def feed(self, text: str) -> list[GuardEvent]:
        """What the guard's `feed` returns. Raises: what that raises."""
        events = self._feed(text)
        held = self._guard.held_chars
        if self._pieces or held > len(text):
            self._note(len(text), held)
        elif before := self._held:
            now = self._clock()
            waited = now - self._oldest_at
            self._char_seconds += before * waited
            if waited > self.longest_s:
                self.longest_s = waited
            self._oldest_at = now
            self._held = held
        elif held:
            self._oldest_at = self._clock()
            self._held = held
        return events

    def note_end(self) -> None:
        """The guard has ended: what it still held has just been decided."""
        self._note(0, self._guard.held_chars)

    def mean_s(self, seen_chars: int) -> float:
        """Seconds that a character waited, over all *seen_chars* characters; 0 if none came."""
        return self._char_seconds / seen_chars if seen_chars else 0.0

    def _note(self, came: int, held: int) -> None:
        now = self._clock()
        pieces = self._pieces
        if self._held and not pieces:
            pieces.append((self._held, self._oldest_at))
        if came:
            pieces.append((came, now))
        leaving = self._held + came - held
        while leaving > 0:
            count, arrived = pieces.popleft()
            waited = now - arrived
            self._char_seconds += min(count, leaving) * waited
            self.longest_s = max(self.longest_s, waited)
            if count > leaving:
                pieces.appendleft((count - leaving, arrived))
            leaving -= count
        if len(pieces) == 1:
            self._oldest_at = pieces.pop()[1]
        self._held = held
