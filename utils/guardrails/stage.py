"""The guard as a stage of the stream: an async generator around an event stream."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import assert_never

from utils.errors import AnswerBlocked, InternalError
from utils.events import (
    Aborted,
    Blocked,
    Event,
    Finished,
    Flagged,
    ReasoningDelta,
    Redacted,
    TerminalEvent,
    TextDelta,
    TokenLogprob,
)
from utils.guardrails.redactor import Guard, GuardEvent, GuardStatistics
from utils.run_context import EventStream

__all__ = ["OnStatistics", "guarded"]

OnStatistics = Callable[[GuardStatistics, GuardStatistics | None], None]
"""Receives the figures of the answer's guard and, if the model reasoned, of the reasoning's guard."""


async def guarded(
    stream: EventStream, redactor_factory: Callable[[], Guard], *, on_statistics: OnStatistics | None = None
) -> AsyncGenerator[Event, None]:
    """Pass *stream* on with its answer and its reasoning guarded, each by a guard of its own.

    Order: other events pass at once; they never overtake released text, and held text stays held, also across
    `Interrupted` and `Resumed`, so a secret that a failure cuts in half is still caught. At `Finished` the held tails
    are released first; at `Aborted`, at a rule's `Blocked`, and if the consumer goes away, they are dropped. A guard
    that raises, and a stream that ends without a terminal event, end with `Aborted`: nothing more is shown.

    Token detail stays whole with a delta that is released alone and verbatim. Elsewhere the tokens' texts, which would
    tell what the guard removes, are blanked; their probabilities go on with the next text, so confidence stays known.
    Replacements in the reasoning are part of its text: `Redacted` speaks of the answer only.

    *stream* is closed before the terminal event is passed on, and at every other end of a generator that was started
    (of one that was not, whoever opened *stream* closes it); *on_statistics* is called once, at the very end.
    """
    guards = _Guards(redactor_factory)
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


class _Guards:
    """The guards of one stream: the pure part of the stage, without I/O."""

    def __init__(self, redactor_factory: Callable[[], Guard]) -> None:
        self._factory = redactor_factory
        self._answer = redactor_factory()
        self._reasoning: Guard | None = None
        self._blanked: list[TokenLogprob] = []
        """Tokens of text that was not released with them, without their texts."""

    def step(self, event: Event) -> tuple[list[Event], TerminalEvent | None]:
        """What to pass on for *event*, and the terminal event if this is the end."""
        try:
            match event:
                case TextDelta():
                    return self._ended(self._answer_events(self._answer.feed(event.text), event))
                case ReasoningDelta():
                    if self._reasoning is None:
                        self._reasoning = self._factory()
                    return self._ended(_reasoning_events(self._reasoning.feed(event.text)))
                case Finished():
                    shown = _reasoning_events(self._reasoning.finish()) if self._reasoning is not None else []
                    shown += self._answer_events(self._answer.finish(), None)
                    passed, blocked = self._ended(shown)
                    return passed, blocked or event
                case Blocked() | Aborted():
                    self.cancel()
                    return [], event
                case _:
                    return [event], None
        except Exception as error:
            self.cancel()
            # the text of a foreign error may quote the answer, so only its class is told
            return [], Aborted(
                AnswerBlocked(
                    f"a guard rule failed ({type(error).__name__}), so the rest of the answer is not shown",
                    hint="run again without the rule that fails, or report this as a bug",
                )
            )

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
        if not self._blanked:
            return list(events)
        shown: list[Event] = []
        for event in events:
            if isinstance(event, TextDelta) and self._blanked:
                shown.append(TextDelta(event.text, tuple(self._blanked)))
                self._blanked = []
            else:
                shown.append(event)
        return shown

    def _ended(self, events: list[Event]) -> tuple[list[Event], TerminalEvent | None]:
        """Split *events* at the first `Blocked`; nothing after it is shown."""
        for n, event in enumerate(events):
            if isinstance(event, Blocked):
                self.cancel()
                return events[:n], event
        return events, None


def _reasoning_events(events: list[GuardEvent]) -> list[Event]:
    passed: list[Event] = []
    for event in events:
        match event:
            case TextDelta():
                passed.append(ReasoningDelta(event.text))
            case Redacted():
                if event.replacement:
                    passed.append(ReasoningDelta(event.replacement))
            case Flagged():
                pass  # its offsets are those of another text; the finding stands in the reasoning's figures
            case Blocked():
                passed.append(event)
            case _:
                assert_never(event)
    return passed
