"""Validation as stages: where the text ends, that nothing stays open, and how an answer is asked for again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from utils.errors import AppError, Cancelled, ConnectionLost, InternalError, ValidationFailed
from utils.events import (
    Aborted,
    Blocked,
    Event,
    Finished,
    Interrupted,
    Opened,
    ReasoningDelta,
    Resumed,
    Retrying,
    TextDelta,
    TokenLogprob,
    Usage,
    as_json,
)
from utils.run_context import EventStream, Parameters, Request, RunContext
from utils.validation.plan import ValidationPlan, parse_spec
from utils.validation.retrying import checked
from utils.validation.stage import validated
from utils.validation.structured import compile_json_schema
from utils.validation.validators import Violation

STOP = Finished("stop")
LOST = ConnectionLost("broke")
NUMBERS = compile_json_schema({"type": "array", "items": {"type": "integer"}}, source="test").validator


class Script:
    """An event stream that plays *events* and counts how often it was closed."""

    def __init__(self, *events: Event) -> None:
        self._events = iter(events)
        self.closed = 0
        self.pulled = 0

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        for event in self._events:
            self.pulled += 1
            return event
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed += 1


def text(*parts: str) -> list[Event]:
    return [TextDelta(part) for part in parts]


def drain(stream: Script, *specs: str) -> list[Event]:
    async def run() -> list[Event]:
        makers = [parse_spec(spec) for spec in specs] or [NUMBERS]
        return [event async for event in validated(stream, [make() for make in makers])]

    return asyncio.run(run())


def failure(event: Event) -> ValidationFailed:
    assert isinstance(event, Aborted)
    assert isinstance(event.error, ValidationFailed)
    assert event.error.exit_code == event.error.exit_code_for(text_shown=True) == 4
    assert event.error.hint
    return event.error


def test_a_valid_answer_passes_as_it_came() -> None:
    events = [Opened("t", "m", 1), ReasoningDelta("{hm"), *text("[1", ", 2]"), Usage(1, 2, 3), STOP]
    stream = Script(*events)
    assert drain(stream) == events
    assert stream.closed


def test_the_answer_ends_at_its_first_impossible_place_and_the_stream_is_closed_before_it_is_shown() -> None:
    stream = Script(*text("[1, 2", ", 3x, 4", ", 5]"), STOP)

    async def run() -> list[Event]:
        shown: list[Event] = []
        async for event in validated(stream, [NUMBERS()]):
            shown.append(event)
            if len(shown) == 2:
                assert stream.closed
        return shown

    *shown, last = asyncio.run(run())
    assert shown == [TextDelta("[1, 2"), TextDelta(", 3")]
    assert failure(last).message == (
        "the answer is not valid: JSON schema: expected a digit, ',' or ']' at character 9"
    )
    assert stream.pulled == 2


def test_nothing_is_shown_of_a_piece_whose_first_character_is_impossible() -> None:
    *shown, last = drain(Script(*text("[", "x]"), STOP))
    assert shown == [TextDelta("[")]
    failure(last)


@pytest.mark.parametrize(
    ("reason", "says", "hint"),
    [("stop", "ends too early", "--validate-retries"), ("length", "token limit", "--max-tokens")],
)
def test_an_incomplete_answer_is_no_success(reason: str, says: str, hint: str) -> None:
    *shown, last = drain(Script(*text("[1, 2"), Finished(reason)))
    assert shown == [TextDelta("[1, 2")]
    assert says in failure(last).message
    assert hint in failure(last).hint


def test_a_complete_answer_at_the_token_limit_is_whole() -> None:
    assert drain(Script(*text("[1]"), Finished("length")))[-1] == Finished("length")


@pytest.mark.parametrize("terminal", [Blocked("rule"), Aborted(LOST), Aborted(Cancelled("c"))])
def test_an_answer_that_ended_otherwise_keeps_its_own_end(terminal: Event) -> None:
    assert drain(Script(*text("[1"), terminal)) == [TextDelta("[1"), terminal]


def test_a_stream_without_an_end_is_a_bug() -> None:
    *_, last = drain(Script(*text("[1]")))
    assert isinstance(last, Aborted)
    assert isinstance(last.error, InternalError)


def test_of_several_validators_the_first_place_counts() -> None:
    shown, last = drain(Script(*text("abc\x00def"), STOP), "max-chars=5", "no-control")
    assert shown == TextDelta("abc")
    assert "no-control" in failure(last).message
    shown, last = drain(Script(*text("abcdef\x00"), STOP), "no-control", "max-chars=5")
    assert shown == TextDelta("abcde")
    assert "max-chars" in failure(last).message


def test_a_cut_piece_keeps_the_tokens_that_lie_in_it_whole() -> None:
    tokens = tuple(TokenLogprob(part, -0.5) for part in ("[1", ", 2", "x]"))
    shown, _ = drain(Script(TextDelta("[1, 2x]", tokens), STOP))
    assert shown == TextDelta("[1, 2", tokens[:2])
    shown, _ = drain(Script(TextDelta("[1, 2x]", (TokenLogprob("other", -0.5),)), STOP))
    assert shown == TextDelta("[1, 2", ())


class Failing:
    name = "failing"

    def feed(self, text: str) -> Violation | None:
        raise ZeroDivisionError(text)

    def finish(self) -> Violation | None:
        return None


def test_a_validator_that_raises_fails_closed_and_quotes_nothing() -> None:
    async def run() -> list[Event]:
        return [event async for event in validated(Script(*text("secret"), STOP), [Failing()])]

    (last,) = asyncio.run(run())
    assert "ZeroDivisionError" in failure(last).message
    assert "secret" not in failure(last).message


def test_a_consumer_that_leaves_closes_the_stream() -> None:
    stream = Script(*text("[1", "]"), STOP)

    async def leave() -> None:
        events = validated(stream, [NUMBERS()])
        await anext(events)
        await events.aclose()

    asyncio.run(leave())
    assert stream.closed


# -- asking again ----------------------------------------------------------------------------------------------------

CONTEXT = RunContext(clock=lambda: 0.0, started_s=0.0)
REQUEST = Request("List them.", CONTEXT, system="Be brief.", parameters=Parameters(seed=7))


class Server:
    """Hands out *answers* one by one and remembers the requests."""

    def __init__(self, *answers: Script) -> None:
        self._answers = list(answers)
        self.opened = [self._answers.pop(0)]
        self.requests: list[Request] = []

    async def reopen(self, request: Request) -> EventStream:
        assert all(stream.closed for stream in self.opened)
        self.requests.append(request)
        self.opened.append(self._answers.pop(0))
        return self.opened[-1]


def ask(server: Server, retries: int, violations: list[Violation] | None = None) -> list[Event]:
    async def run() -> list[Event]:
        found = [] if violations is None else violations
        stream = checked(
            server.opened[0], REQUEST, ValidationPlan((NUMBERS,), retries), server.reopen, on_violation=found.append
        )
        return [event async for event in stream]

    return asyncio.run(run())


def test_only_the_valid_answer_is_shown_and_each_retry_is_said() -> None:
    first = Script(*text("[1, ", "two]"), STOP)
    second = Script(*text("[1, "), Finished("length"))
    third = Script(Opened("t", "m", 1), *text("[1,", " 2"), Usage(1, 2, 3), *text("]"), STOP)
    server, found = Server(first, second, third), list[Violation]()
    events = ask(server, 2, found)
    retries = [event for event in events if isinstance(event, Retrying)]
    assert [(event.attempt, event.delay_s) for event in retries] == [(2, 0.0), (3, 0.0)]
    assert all(isinstance(event.cause, ValidationFailed) for event in retries)
    assert events[2:] == [Opened("t", "m", 1), TextDelta("[1, 2"), Usage(1, 2, 3), TextDelta("]"), STOP]
    assert [violation.position for violation in found] == [4, 4]
    assert first.pulled == 2
    assert all(stream.closed for stream in server.opened)
    assert as_json(retries[0], 0.0)["cause"]["code"] == "validation_failed"


def test_the_next_request_says_why_without_quoting_and_has_another_seed() -> None:
    server = Server(Script(*text('["swordfish"]'), STOP), Script(*text("[x"), STOP), Script(*text("[1]"), STOP))
    ask(server, 2)
    first, second = server.requests
    assert first.prompt.startswith("List them.\n\n[An earlier answer to this was refused: JSON schema: expected ")
    assert "at character 2" in first.prompt
    assert "swordfish" not in first.prompt
    assert '{"type":"array","items":{"type":"integer"}}]' in first.prompt
    assert second.prompt.count("An earlier answer") == 1
    assert [request.parameters.seed for request in server.requests] == [8, 9]
    assert (first.system, first.context) == (REQUEST.system, REQUEST.context)


def test_nothing_is_shown_while_the_answer_is_not_whole() -> None:
    stream = Script(*text("[1"), Interrupted(LOST, 2), Resumed("replay", 2, 0.1, 2), *text("]"), STOP)

    async def run() -> None:
        events = checked(stream, REQUEST, ValidationPlan((NUMBERS,), 1), Server(stream).reopen)
        first = await anext(events)
        assert stream.pulled == 5
        assert stream.closed
        assert [first, *[event async for event in events]] == [
            TextDelta("[1"),
            Interrupted(LOST, 2),
            Resumed("replay", 2, 0.1, 2),
            TextDelta("]"),
            STOP,
        ]

    asyncio.run(run())


def test_when_no_answer_is_valid_nothing_is_shown() -> None:
    *retries, last = ask(Server(*[Script(*text("[x"), STOP) for _ in range(3)]), 2)
    assert [type(event) for event in retries] == [Retrying, Retrying]
    assert failure(last).message.startswith("no valid answer in 3 attempts; the last one: the answer is not valid: ")


@pytest.mark.parametrize("error", [LOST, Cancelled("c")])
def test_an_answer_that_breaks_shows_nothing_and_is_not_asked_for_again(error: AppError) -> None:
    server = Server(Script(*text("[1"), Aborted(error)))
    assert ask(server, 3) == [Aborted(error)]
    assert server.requests == []


def test_without_retries_the_answer_flows_and_is_not_asked_for_again() -> None:
    server, found = Server(Script(*text("[1", ", x"), STOP)), list[Violation]()
    *shown, last = ask(server, 0, found)
    assert shown == text("[1", ", ")
    failure(last)
    assert len(found) == 1


def test_a_consumer_that_leaves_while_it_waits_closes_the_answer() -> None:
    async def leave() -> None:
        stream = Script(*text("[1"))
        waiting = asyncio.Event()

        async def pulled() -> Event:
            waiting.set()
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

        stream.__class__ = type("Hanging", (Script,), {"__anext__": lambda self: pulled()})
        events = checked(stream, REQUEST, ValidationPlan((NUMBERS,), 1), Server(stream).reopen)
        task = asyncio.ensure_future(anext(events))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert stream.closed

    asyncio.run(leave())


def test_what_the_token_limit_cut_is_not_mended_by_more_attempts() -> None:
    answers = [Script(*text("[1"), Finished("length")) for _ in range(2)]
    assert failure(ask(Server(*answers), 1)[-1]).hint == "raise --max-tokens, or ask for less"
