"""Join the answer of a server that was asked to go on to what was delivered before. Pure; the rules are in `seam`.

The beginning of the continuation is held until it is clear what it repeats; then everything passes as it comes. This
is for targets that do not give the same answer twice: where they do, `resume.Replay` proves every character instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from utils.errors import ResumeDiverged
from utils.events import Event, Flagged, ReasoningDelta, TerminalEvent, TextDelta
from utils.resilience.seam import Join, StitchKind, find_anchor, find_join, has_begun_again
from utils.resilience.seam_text import DeliveredText, open_fence

__all__ = ["HOLD_CHARS", "Stitcher", "prefill_text"]

HOLD_CHARS = 200
"""Held before the first judgement: room for an announcement and for a repeated sentence."""
_ANCHOR_SLACK_CHARS = 400


def prefill_text(delivered: str) -> tuple[str, str]:
    """What of *delivered* may be prefilled, and the white space behind it, which would derail the next token."""
    text = delivered.rstrip()
    return text, delivered[len(text) :]


class Stitcher:
    """Feed it the raw events of the new attempt, before any guard; it lets pass what comes behind *delivered*.

    *delivered* is the raw text that was handed on, all of it; *kind* says how the target was asked: `prefill` (its
    white space at the end was stripped, and comes once: as it was delivered, however the server begins) or `continue`.

    Laws: the text that passes is `inserted` (at most one space or newline) and an end of the continuation, except for
    the mark that closes a quotation or fence around it; it does not depend on how the continuation was cut into
    deltas. Held are at most HOLD_CHARS, or about as much as was delivered while the continuation repeats it.

    `is_caught_up` turns true when the place of the seam is known, before the first text passes. If the attempt fails
    first, drop the stitcher: what it holds was never delivered. Raises ResumeDiverged if the answer was begun once
    more and became another; a stitcher that raised is of no further use.
    """

    def __init__(self, delivered: str, kind: StitchKind) -> None:
        self._delivered = DeliveredText(delivered)
        self._kind: StitchKind = kind
        self._held: list[TextDelta | Flagged] = []
        self._held_chars = 0
        self._next_check = HOLD_CHARS
        self._is_begun_again = False
        self._wrapped = _Wrapped(delivered, "")
        self._is_finished = False
        self.join: Join | None = None
        """What was done at the seam; None until it is known."""

    @property
    def is_caught_up(self) -> bool:
        """Whether the place of the seam is known."""
        return self.join is not None

    @property
    def is_unproved(self) -> bool:
        """Whether the continuation repeated nothing by which its place could be told."""
        return self.join is not None and not self.join.overlap_chars

    @property
    def overlap_chars(self) -> int:
        """How much of the delivered text was received again and dropped."""
        return self.join.overlap_chars if self.join else 0

    @property
    def dropped_chars(self) -> int:
        """How much of the continuation did not pass: repeats, announcements, marks around it."""
        return self.join.cut + self._wrapped.dropped_chars if self.join else 0

    def feed(self, events: Iterable[Event]) -> list[Event]:
        """The events that may pass. `Finished` brings out what is held, see `finish`.

        Until the seam is found, reasoning is dropped: it is about the request to go on. Offsets of `Flagged` are
        moved to where the text stands in the whole answer.
        """
        assert not self._is_finished, "feed after the end"
        passed: list[Event] = []
        for event in events:
            match event:
                case TextDelta() | Flagged():
                    if self.join is not None:
                        passed += self._passed(event, self.join)
                        continue
                    self._held.append(event)
                    if isinstance(event, TextDelta):
                        self._held_chars += len(event.text)
                        passed += self._checked()
                case ReasoningDelta():
                    if self.join is not None:
                        passed.append(event)
                case _:
                    if isinstance(event, TerminalEvent):
                        passed += self.finish()
                    passed.append(event)
        return passed

    def finish(self) -> list[Event]:
        """What is still held, after the last event of an attempt that ended well; a second call returns nothing."""
        if self._is_finished:
            return []
        self._is_finished = True
        if self._kind == "continue" and self.join is None and not self._held_chars:
            raise ResumeDiverged(
                "the server was asked to go on with the answer and wrote nothing",
                hint="the answer is not whole; run again",
            )
        passed: list[Event] = []
        if self.join is None:
            passed += self._decided(self._text(), is_end=True)
        rest = self._wrapped.finish()
        if rest:
            passed.append(TextDelta(rest))
        return passed

    def _text(self) -> str:
        return "".join(event.text for event in self._held if isinstance(event, TextDelta))

    def _checked(self) -> list[Event]:
        # Judged only at certain lengths, so that the size of the deltas does not matter.
        while self._held_chars >= self._next_check:
            check = self._next_check
            self._next_check += max(64, check // 8)
            passed = self._decided(self._text()[:check], is_end=False)
            if self.join is not None:
                return passed
        return []

    def _decided(self, start: str, *, is_end: bool) -> list[Event]:
        join = self._judged(start, is_end=is_end)
        if join is None:
            return []
        self.join = join
        self._wrapped = _Wrapped(self._delivered.text, join.wrapper)
        passed: list[Event] = [TextDelta(join.inserted)] if join.inserted else []
        position = 0
        for event in self._held:
            if isinstance(event, TextDelta):
                begin, position = position, position + len(event.text)
                if position <= join.cut:
                    continue
                if begin < join.cut:
                    # Tokens of a delta that passes in part cannot be told apart by character.
                    event = TextDelta(event.text[join.cut - begin :])
            passed += self._passed(event, join)
        self._held = []
        return passed

    def _judged(self, start: str, *, is_end: bool) -> Join | None:
        delivered = self._delivered
        if not self._is_begun_again:
            join = find_join(delivered, start, self._kind, is_end=is_end)
            # Of an answer that is begun again, a later part may look like a repeat of its end: a refrain.
            if join is None or join.kind == "restart" or not has_begun_again(delivered, start):
                return join
            self._is_begun_again = True
        join = find_anchor(delivered, start)
        if join is None and (is_end or len(start) > 1.25 * len(delivered.text) + _ANCHOR_SLACK_CHARS):
            raise ResumeDiverged(
                "the server was asked to go on, but began the answer again and wrote another one",
                hint="the answer is not whole; run again",
            )
        return join

    def _passed(self, event: TextDelta | Flagged, join: Join) -> list[Event]:
        if isinstance(event, Flagged):
            moved = len(self._delivered.text) + len(join.inserted) - join.cut
            if event.raw_end < join.cut:
                return []
            start = max(event.raw_start, join.cut) + moved
            return [Flagged(event.rule, start, event.raw_end + moved)]
        if not join.wrapper:
            return [event]
        text = self._wrapped.feed(event.text)
        return [TextDelta(text)] if text else []


class _Wrapped:
    """Holds back a mark at the end that may close what was opened in front of the continuation."""

    def __init__(self, delivered: str, mark: str) -> None:
        self._text = delivered
        """The answer so far, kept only if there is a mark: whether another one is open decides about the last."""
        self._mark = mark
        self._pending = ""
        self.dropped_chars = 0
        is_fence = mark.startswith("`")
        self._end = re.compile(r"(?:\n[ \t]*`{0,3}\s*)\Z" if is_fence else rf"{re.escape(mark)}\s*\Z")

    def feed(self, text: str) -> str:
        """What may pass."""
        text = self._pending + text
        match = self._end.search(text)
        cut = match.start() if match else len(text)
        passed, self._pending = text[:cut], text[cut:]
        self._text += passed
        return passed

    def finish(self) -> str:
        """What is held, without the mark."""
        rest, self._pending = self._pending, ""
        if self._mark and self._mark in rest and self._is_outer():
            self.dropped_chars = len(rest)
            return ""
        return rest

    def _is_outer(self) -> bool:
        if self._mark.startswith("`"):
            return open_fence(self._text) is None
        return self._text.count(self._mark) % 2 == 0 if self._mark == '"' else True
