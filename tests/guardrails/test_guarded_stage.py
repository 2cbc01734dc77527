"""The guard as a stage: order, ends, failures in the middle of a secret, and that nothing stays open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from tests.support.sample_rules import sample_rules
from utils.errors import AnswerBlocked, Cancelled, ConnectionLost, InternalError
from utils.events import (
    Aborted,
    Blocked,
    Event,
    Finished,
    Flagged,
    Interrupted,
    Opened,
    ReasoningDelta,
    Redacted,
    Resumed,
    Retrying,
    TextDelta,
    TokenLogprob,
    Usage,
)
from utils.guardrails.redactor import Guard, GuardEvent, GuardStatistics, Redactor
from utils.guardrails.stage import guarded

RULES = sample_rules()
LOST = ConnectionLost("The connection was lost.")
STOP = Finished("stop")


class Script:
    """An event stream that plays *events* and counts how often it was closed."""

    def __init__(self, events: Sequence[Event], error: Exception | None = None) -> None:
        self._events = iter(events)
        self._error = error
        self.closed = 0
        self.pulled = 0

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        for event in self._events:
            self.pulled += 1
            return event
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed += 1


def redactor() -> Guard:
    return Redactor(RULES)


def drain(
    stream: Script,
    factory: Callable[[], Guard] = redactor,
    on_statistics: Callable[[GuardStatistics, GuardStatistics | None], None] | None = None,
) -> list[Event]:
    async def run() -> list[Event]:
        return [event async for event in guarded(stream, factory, on_statistics=on_statistics)]

    return asyncio.run(run())


def test_text_is_guarded_and_the_tail_comes_before_the_terminal_event() -> None:
    stream = Script([TextDelta("Ask bob@exam"), TextDelta("ple.com ple"), TextDelta("ase"), STOP])
    assert drain(stream) == [
        TextDelta("Ask "),
        Redacted("email", "[EMAIL]", 4),
        TextDelta(" "),
        TextDelta("please"),
        STOP,
    ]
    assert stream.closed == 1


def test_other_events_pass_at_once_while_text_stays_held() -> None:
    opened, usage, retry = Opened("t", "m", 1), Usage(1, 2, 3), Retrying(2, 0.5, LOST)
    events = [opened, TextDelta("one two"), usage, retry, TextDelta(" three"), STOP]
    assert drain(Script(events)) == [
        opened,
        TextDelta("one "),
        usage,
        retry,
        TextDelta("two "),
        TextDelta("three"),
        STOP,
    ]


def test_a_secret_that_a_failure_cuts_in_half_is_still_hidden() -> None:
    interrupted, resumed = Interrupted(LOST, 12), Resumed("replay", 2, 0.1, 0)
    stream = Script([TextDelta("Card 4111 11"), interrupted, resumed, TextDelta("11 1111 1111."), STOP])
    assert drain(stream) == [
        TextDelta("Card "),
        interrupted,
        resumed,
        Redacted("payment_card", "[CARD]", 5),
        TextDelta("."),
        STOP,
    ]


@pytest.mark.parametrize("error", [LOST, Cancelled("Stopped.")])
def test_an_abort_drops_the_held_tail_and_reports_it(error: ConnectionLost | Cancelled) -> None:
    figures: list[GuardStatistics] = []
    stream = Script([TextDelta("see 4111 1111 1111 1111"), Aborted(error)])
    events = drain(stream, on_statistics=lambda answer, reasoning: figures.append(answer))
    assert events == [TextDelta("see "), Aborted(error)]
    assert [f.dropped_chars for f in figures] == [19]
    assert stream.closed == 1


def test_a_block_from_upstream_drops_the_held_tail() -> None:
    assert drain(Script([TextDelta("some text"), Blocked("schema")])) == [TextDelta("some "), Blocked("schema")]


def test_reasoning_has_a_guard_of_its_own_and_stays_reasoning() -> None:
    figures: list[GuardStatistics | None] = []
    stream = Script(
        [ReasoningDelta("ask a@b.co"), TextDelta("to c@d.c"), ReasoningDelta("m now"), TextDelta("om"), STOP]
    )
    events = drain(stream, on_statistics=lambda answer, reasoning: figures.append(reasoning))
    assert events == [
        ReasoningDelta("ask "),
        ReasoningDelta("[EMAIL]"),
        TextDelta("to "),
        ReasoningDelta(" "),
        Redacted("email", "[EMAIL]", 3),
        ReasoningDelta("now"),
        STOP,
    ]
    (reasoning,) = figures
    assert reasoning is not None
    assert [(f.rule, f.ranges) for f in reasoning.findings] == [("email", ((4, 11),))]


def test_without_reasoning_there_are_no_figures_for_it() -> None:
    figures: list[tuple[GuardStatistics, GuardStatistics | None]] = []
    drain(Script([TextDelta("x"), STOP]), on_statistics=lambda *both: figures.append(both))
    assert [(answer.seen_chars, reasoning) for answer, reasoning in figures] == [(1, None)]


def test_token_texts_stay_only_with_a_delta_that_is_released_verbatim_but_probabilities_are_never_lost() -> None:
    whole = TextDelta(" ... ", (TokenLogprob(" ... ", -0.1),))
    part = TextDelta(" see", (TokenLogprob(" see", -0.2),))
    rest = TextDelta(" a@b.com ", (TokenLogprob(" a@b", -0.3), TokenLogprob(".com ", -0.4)))
    assert drain(Script([whole, part, rest, STOP])) == [
        whole,
        TextDelta(" ", (TokenLogprob("", -0.2),)),
        TextDelta("see ", (TokenLogprob("", -0.3), TokenLogprob("", -0.4))),
        Redacted("email", "[EMAIL]", 10),
        TextDelta(" "),
        STOP,
    ]


@pytest.mark.parametrize("more", [[], [TextDelta("x", (TokenLogprob("x", -0.2),))]])
def test_tokens_after_which_nothing_is_released_are_left_out(more: list[Event]) -> None:
    secret = TextDelta("a@b.com", (TokenLogprob("a@b", -0.3), TokenLogprob(".com", -0.4)))
    assert drain(Script([secret, *more, STOP])) == [Redacted("email", "[EMAIL]", 0), STOP]


class Fake:
    """A guard that answers with what it is told, or fails."""

    def __init__(self, events: Sequence[GuardEvent] = (), error: Exception | None = None) -> None:
        self.events = list(events)
        self.error = error
        self.cancelled = 0
        self.held_chars = 0

    def feed(self, text: str) -> list[GuardEvent]:
        if self.error is not None:
            raise self.error
        return self.events

    def finish(self, *, is_cut: bool = False) -> list[GuardEvent]:
        return self.feed("")

    def cancel(self) -> int:
        self.cancelled += 1
        return 0

    def statistics(self) -> GuardStatistics:
        return GuardStatistics((), (), 0, 0, 0.0, 0, 0)


@pytest.mark.parametrize("last", [TextDelta("x"), STOP])
def test_a_blocking_rule_ends_the_stream_after_the_safe_text(last: Event) -> None:
    guard = Fake([TextDelta("safe"), Blocked("poison"), TextDelta("never")])
    stream = Script([last, TextDelta("more"), STOP])
    assert drain(stream, lambda: guard) == [TextDelta("safe"), Blocked("poison")]
    assert (stream.closed, stream.pulled) == (1, 1)
    assert guard.cancelled > 0


def test_a_blocking_rule_in_the_reasoning_ends_the_stream_too() -> None:
    stream = Script([ReasoningDelta("x"), TextDelta("more"), STOP])
    factory = lambda: Fake([TextDelta("a"), Redacted("r", "", 0), Flagged("f", 0, 1), Blocked("poison")])  # noqa: E731
    assert drain(stream, factory) == [ReasoningDelta("a"), Blocked("poison")]


def test_flags_of_the_answer_pass() -> None:
    guard = Fake([TextDelta("a"), Flagged("tone", 0, 1)])
    events = drain(Script([TextDelta("a"), Aborted(LOST)]), lambda: guard)
    assert events == [TextDelta("a"), Flagged("tone", 0, 1), Aborted(LOST)]


@pytest.mark.parametrize("last", [TextDelta("secret-word"), ReasoningDelta("secret-word"), STOP])
def test_a_rule_that_fails_shows_nothing_more(last: Event) -> None:
    guard = Fake(error=ValueError("near secret-word"))
    stream = Script([last, TextDelta("more"), STOP])
    (terminal,) = drain(stream, lambda: guard)
    assert isinstance(terminal, Aborted)
    assert isinstance(terminal.error, AnswerBlocked)
    assert terminal.error.exit_code == 4
    assert terminal.error.message == "a guard rule failed (ValueError), so the rest of the answer is not shown"
    assert "secret-word" not in terminal.error.hint
    assert (stream.closed, stream.pulled) == (1, 1)


def test_a_stream_without_a_terminal_event_gets_one_and_its_tail_is_dropped() -> None:
    *shown, terminal = drain(Script([TextDelta("a tail")]))
    assert shown == [TextDelta("a ")]
    assert isinstance(terminal, Aborted)
    assert isinstance(terminal.error, InternalError)


def test_an_error_of_the_stream_passes_through_and_nothing_stays_open() -> None:
    figures: list[GuardStatistics] = []
    stream = Script([TextDelta("a tail")], OSError("gone"))
    with pytest.raises(OSError, match="gone"):
        drain(stream, on_statistics=lambda answer, reasoning: figures.append(answer))
    assert stream.closed == 1
    assert [f.dropped_chars for f in figures] == [4]


def test_a_consumer_that_goes_away_closes_the_stream_and_drops_the_tail() -> None:
    figures: list[GuardStatistics] = []
    stream = Script([TextDelta("one two"), TextDelta(" three"), STOP])

    async def run() -> None:
        events = guarded(stream, redactor, on_statistics=lambda answer, reasoning: figures.append(answer))
        assert await anext(events) == TextDelta("one ")
        await events.aclose()

    asyncio.run(run())
    assert stream.closed == 1
    assert [f.dropped_chars for f in figures] == [3]


@pytest.mark.parametrize("limit", ["length", "LENGTH", "max_tokens"])
@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        (["card 4111 1111 1111 ", "111"], "card "),
        (["key sk-abc", "def"], "key "),
        (["all said. "], "all said. "),
        (["card 4111 1111 1111 1111"], "card [CARD]"),
        (["mail bob@exam", "ple.com and o"], "mail [EMAIL] and "),
    ],
)
def test_what_might_have_become_a_match_is_dropped_where_the_token_limit_cuts(
    limit: str, pieces: list[str], shown: str
) -> None:
    figures: list[GuardStatistics] = []
    stream = Script([*map(TextDelta, pieces), Finished(limit)])
    events = drain(stream, on_statistics=lambda answer, reasoning: figures.append(answer))
    text = "".join(e.text if isinstance(e, TextDelta) else e.replacement for e in events[:-1])  # type: ignore[union-attr]
    assert (text, events[-1]) == (shown, Finished(limit))
    whole = drain(Script([*map(TextDelta, pieces), STOP]))
    tail = "".join(e.text if isinstance(e, TextDelta) else e.replacement for e in whole[:-1])  # type: ignore[union-attr]
    assert figures[0].dropped_chars == len(tail) - len(shown)


def test_a_retry_begins_the_reasoning_anew() -> None:
    events = [
        ReasoningDelta("the key is sk-abcdefghijklmnop"[:20]),
        Retrying(2, 0.0, LOST),
        ReasoningDelta("the key is sk-abcdefghijklmnop"),
        STOP,
    ]
    shown = [e.text for e in drain(Script(events)) if isinstance(e, ReasoningDelta)]
    assert "".join(shown) == "the key is the key is [KEY]"
