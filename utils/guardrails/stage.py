"""The guard as a stage of the stream: an async generator around an event stream."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncGenerator, Callable
from typing import assert_never

from utils.clock import Clock
from utils.errors import AnswerBlocked, InternalError
from utils.events import (
    Aborted,
    Blocked,
    Event,
    Finished,
    Flagged,
    ReasoningDelta,
    Redacted,
    Retrying,
    TerminalEvent,
    TextDelta,
    TokenLogprob,
)
from utils.guardrails.findings import FindingAction
from utils.guardrails.hold_log import HoldLog
from utils.guardrails.hold_time import HoldTime
from utils.guardrails.redactor import Guard, GuardEvent, GuardStatistics
from utils.run_context import EventStream

__all__ = ["OnStatistics", "guard_failed", "guarded"]

OnStatistics = Callable[[GuardStatistics, GuardStatistics | None], None]
"""Receives the figures of the answer's guard and, if the model reasoned, of the reasoning's guard."""


async def guarded(
    stream: EventStream,
    redactor_factory: Callable[[], Guard],
    *,
    reasoning_factory: Callable[[], Guard] | None = None,
    clock: Clock | None = None,
    on_statistics: OnStatistics | None = None,
    on_hold: Callable[[HoldLog], None] | None = None,
) -> AsyncGenerator[Event, None]:
    """Pass *stream* on with its answer and its reasoning guarded, each by a guard of its own.

    *reasoning_factory* makes the reasoning's guard if it is to be another one. With a *clock* the figures say how long
    text was held, and *on_hold* is given the log of it at the start (it fills as the answer comes). They also say what
    each rule's findings led to (`RuleFindings.action`).

    Order: other events pass at once; they never overtake released text, and held text stays held, also across
    `Interrupted` and `Resumed`, so a secret that a failure cuts in half is still caught. `Retrying` begins the
    reasoning anew, so what is held of it is dropped. At `Finished` the held tails are released first, unless the token
    limit cut the answer: then what might have become a match is dropped. At `Aborted`, at a rule's `Blocked`, and if
    the consumer goes away, they are dropped. A guard that raises, and a stream that ends without a terminal event, end
    with `Aborted`: nothing more is shown.

    Token detail stays whole with a delta that is released alone and verbatim. Elsewhere the tokens' texts, which would
    tell what the guard removes, are blanked; their probabilities go on with the next text, so confidence stays known.
    Tokens after which no text is released (those of a replacement at the very end, or of what is dropped) are left out.
    Replacements in the reasoning are part of its text: `Redacted` speaks of the answer only.

    *stream* is closed before the terminal event is passed on, and at every other end of a generator that was started
    (of one that was not, whoever opened *stream* closes it); *on_statistics* is called once, at the very end.
    """
    guards = _Guards(redactor_factory, reasoning_factory or redactor_factory, clock)
    if on_hold is not None and guards.hold_log is not None:
        on_hold(guards.hold_log)
    try:
        async with contextlib.aclosing(stream):
            async for event in stream:
                shown, terminal = guards.step(event)
                for item in shown:
                    yield item
                if terminal is not None:
                    break
            else:
                terminal = Aborted(InternalError("the stream ended without a terminal event"))
        yield terminal
    finally:
        guards.cancel()
        if on_statistics is not None:
            on_statistics(*guards.statistics())


def guard_failed(error: Exception) -> Aborted:
    """The end of a stream whose guard failed. The text of *error* may quote the answer, so only its class is told."""
    return Aborted(
        AnswerBlocked(
            f"a guard rule failed ({type(error).__name__}), so the rest of the answer is not shown",
            hint="run again without the rule that fails, or report this as a bug",
        )
    )


class _Channel:
    """One guard, with what the stage learns about it: how long it held text, and what its findings led to."""

    __slots__ = ("_hold", "actions", "feed", "guard")

    def __init__(self, guard: Guard, clock: Clock | None) -> None:
        self.guard = guard
        self._hold = HoldTime(guard, clock) if clock is not None else None
        self.feed = self._hold.feed if self._hold is not None else guard.feed
        self.actions: dict[str, FindingAction] = {}

    def finish(self, *, is_cut: bool) -> list[GuardEvent]:
        events = self.guard.finish(is_cut=is_cut)
        if self._hold is not None:
            self._hold.note_end(events)
        return events

    def cancel(self) -> None:
        self.guard.cancel()
        if self._hold is not None:
            self._hold.note_end()

    @property
    def hold_log(self) -> HoldLog | None:
        """What waited in it; None if nobody measured."""
        return self._hold.log if self._hold is not None else None

    def statistics(self) -> GuardStatistics:
        figures = self.guard.statistics()
        findings = tuple(dataclasses.replace(f, action=self.actions.get(f.rule)) for f in figures.findings)
        hold = self._hold
        if hold is None:
            return dataclasses.replace(figures, findings=findings)
        mean_s = hold.mean_s(figures.seen_chars)
        return dataclasses.replace(figures, findings=findings, held_mean_s=mean_s, held_max_s=hold.longest_s)


class _Guards:
    """The guards of one stream: the pure part of the stage, without I/O."""

    def __init__(
        self, factory: Callable[[], Guard], reasoning_factory: Callable[[], Guard], clock: Clock | None
    ) -> None:
        self._reasoning_factory = reasoning_factory
        self._clock = clock
        self._answer = _Channel(factory(), clock)
        self._reasoning: _Channel | None = None
        self._blanked: list[TokenLogprob] = []
        """Tokens of text that was not released with them, without their texts."""

    @property
    def hold_log(self) -> HoldLog | None:
        """What waited in the answer's guard."""
        return self._answer.hold_log

    def step(self, event: Event) -> tuple[list[Event], TerminalEvent | None]:
        """What to pass on for *event*, and the terminal event if this is the end."""
        try:
            match event:
                case TextDelta():
                    events = self._answer.feed(event.text)
                    if not event.tokens and not self._blanked and len(events) == 1 and type(events[0]) is TextDelta:
                        return [events[0]], None
                    return self._ended(self._answer_events(events, event))
                case ReasoningDelta():
                    if self._reasoning is None:
                        self._reasoning = _Channel(self._reasoning_factory(), self._clock)
                    return self._ended(_reasoning_events(self._reasoning.feed(event.text), self._reasoning.actions))
                case Retrying():
                    if self._reasoning is not None:
                        self._reasoning.cancel()
                        self._reasoning = None
                    return [event], None
                case Finished():
                    shown: list[Event] = []
                    if self._reasoning is not None:
                        shown += _reasoning_events(self._reasoning.finish(is_cut=event.is_cut), self._reasoning.actions)
                    shown += self._answer_events(self._answer.finish(is_cut=event.is_cut), None)
                    passed, blocked = self._ended(shown)
                    return passed, blocked or event
                case Blocked() | Aborted():
                    self.cancel()
                    return [], event
                case _:
                    return [event], None
        except Exception as error:
            self.cancel()
            return [], guard_failed(error)

    def cancel(self) -> None:
        """Drop what is held."""
        self._answer.cancel()
        if self._reasoning is not None:
            self._reasoning.cancel()

    def statistics(self) -> tuple[GuardStatistics, GuardStatistics | None]:
        """The figures of the answer's and the reasoning's guard."""
        return self._answer.statistics(), self._reasoning.statistics() if self._reasoning is not None else None

    def _answer_events(self, events: list[GuardEvent], source: TextDelta | None) -> list[Event]:
        if source is not None and source.tokens:
            only = events[0] if len(events) == 1 else None
            is_verbatim = isinstance(only, TextDelta) and only.text == source.text
            # A server may send tokens ahead of their text, or others than it.
            if is_verbatim and not self._blanked and "".join(token.text for token in source.tokens) == source.text:
                return [source]
            self._blanked += [TokenLogprob("", token.logprob) for token in source.tokens]
        shown: list[Event] = []
        if not self._blanked:
            shown += events
            return shown
        for event in events:
            if isinstance(event, TextDelta) and self._blanked:
                shown.append(TextDelta(event.text, tuple(self._blanked)))
                self._blanked = []
            else:
                shown.append(event)
        return shown

    def _ended(self, events: list[Event]) -> tuple[list[Event], TerminalEvent | None]:
        """Split *events* at the first `Blocked`; nothing after it is shown. Notes what the answer's rules led to."""
        for n, event in enumerate(events):
            match event:
                case Redacted():
                    self._answer.actions[event.rule] = "hidden"
                case Flagged():
                    self._answer.actions[event.rule] = "flagged"
                case Blocked():
                    self._answer.actions.setdefault(event.rule, "blocked")
                    self.cancel()
                    return events[:n], event
        return events, None


def _reasoning_events(events: list[GuardEvent], actions: dict[str, FindingAction]) -> list[Event]:
    passed: list[Event] = []
    for event in events:
        match event:
            case TextDelta():
                passed.append(ReasoningDelta(event.text))
            case Redacted():
                actions[event.rule] = "hidden"
                if event.replacement:
                    passed.append(ReasoningDelta(event.replacement))
            case Flagged():
                # its offsets are those of another text; the finding stands in the reasoning's figures
                actions[event.rule] = "flagged"
            case Blocked():
                actions[event.rule] = "blocked"
                passed.append(event)
            case _:
                assert_never(event)
    return passed
