"""The graph and its nodes, with a mocked stream in the place of the network."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

import pytest

import nodes
from flow import create_streaming_graph
from nodes import RunInput, Shared, StreamingLLM
from tests.flow.harness import prompt_policy, run_flow
from tests.support.sample_rules import sample_rules
from utils.answer_guard import AnswerPolicy
from utils.errors import AppError, AuthFailed, Cancelled, ConnectionLost, InternalError, ProviderError
from utils.events import (
    Aborted,
    Event,
    FellBack,
    Finished,
    Flagged,
    Interrupted,
    Opened,
    Redacted,
    Resumed,
    Retrying,
    TextDelta,
    Usage,
)
from utils.guardrails.rules import RuleSet
from utils.metrics.recorder import Recorder
from utils.resilience.breaker import Breaker
from utils.resilience.continuation import Detected
from utils.resilience.rate_headers import RateHeaders
from utils.resilience.resilient_stream import Opener, ResilientStream
from utils.resilience.retry_policy import RetryPolicy
from utils.resilience.upstream import Upstream
from utils.run_context import EMBEDDED, Request, RunContext, Target
from utils.well_formed import well_formed


class MockSource:
    """Plays batches of events; an error among them is raised."""

    def __init__(self, batches: list[Any]) -> None:
        self._batches = list(batches)
        self.is_closed = False

    async def next_batch(self) -> list[Event]:
        item = self._batches.pop(0)
        if isinstance(item, BaseException):
            raise item
        assert isinstance(item, list)
        return item

    @property
    def rate_headers(self) -> RateHeaders:
        return RateHeaders()

    async def aclose(self) -> None:
        self.is_closed = True


class MockBackend:
    """One list of batches per attempt; an error in the place of a list refuses the connection."""

    def __init__(self, *attempts: Any) -> None:
        self._attempts = list(attempts)
        self.sources: list[MockSource] = []

    async def open_chat(self, *args: Any, **options: Any) -> MockSource:
        attempt = self._attempts.pop(0)
        if isinstance(attempt, BaseException):
            raise attempt
        self.sources.append(MockSource(attempt))
        return self.sources[-1]

    async def detect(self, *args: Any) -> Detected:
        return Detected()

    @property
    def is_all_closed(self) -> bool:
        return all(source.is_closed for source in self.sources)


def text(*parts: str) -> list[Event]:
    return [TextDelta(part) for part in parts]


OPENED = Opened("t", "m", 1)
STOP = Finished("stop")
BROKE = ConnectionLost("broke")


def types(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in events]


def test_an_answer_flows_through_all_four_nodes() -> None:
    backend = MockBackend([[OPENED, *text("Hel")], text("lo"), [Usage(3, 2, 5), STOP]])
    run = run_flow("http://x/v1", backend=backend)
    assert run.report.text == "Hello"
    assert (run.report.outcome, run.report.exit_code, run.report.finish_reason) == ("complete", 0, "stop")
    assert run.report.usage is not None
    assert run.report.usage["completion_tokens"] == 2
    assert types(run.events) == ["Opened", "TextDelta", "TextDelta", "Usage", "Finished"]
    assert backend.is_all_closed


def test_a_failure_before_text_is_retried_and_told_at_once() -> None:
    run = run_flow("http://x/v1", backend=MockBackend(BROKE, [[OPENED], text("Hi"), [STOP]]), retries=1)
    assert types(run.events) == ["Retrying", "Opened", "TextDelta", "Finished"]
    assert run.report.exit_code == 0


def test_a_cut_answer_is_resumed_without_a_doubled_or_a_lost_character() -> None:
    backend = MockBackend(
        [[OPENED, *text("The quick ")], text("bro"), BROKE],
        [[OPENED, *text("The qui", "ck br")], BROKE],
        [[OPENED, *text("The quick brown fox")], [STOP]],
    )
    run = run_flow("http://x/v1", backend=backend, retries=2, deterministic=True)
    assert run.report.text == "The quick brown fox"
    assert types(run.events) == [
        "Opened",
        "TextDelta",
        "TextDelta",
        "Interrupted",
        "Retrying",
        "Opened",
        "Interrupted",
        "Retrying",
        "Opened",
        "Resumed",
        "TextDelta",
        "Finished",
    ]
    resumed = next(event for event in run.events if isinstance(event, Resumed))
    assert (resumed.strategy, resumed.attempt, resumed.overlap_chars) == ("replay", 3, 13)
    assert backend.is_all_closed


def test_an_answer_cut_right_before_its_end_is_completed() -> None:
    backend = MockBackend([[OPENED, *text("Hi")], BROKE], [[OPENED, *text("H", "i")], [STOP]])
    run = run_flow("http://x/v1", backend=backend, retries=1, deterministic=True)
    assert (run.report.text, run.report.exit_code) == ("Hi", 0)
    assert "Resumed" in types(run.events)


@pytest.mark.parametrize("again", [text("Other"), text("H"), [TextDelta("Hj")]])
def test_a_replay_that_differs_or_ends_early_is_not_joined(again: list[Event]) -> None:
    backend = MockBackend([[OPENED, *text("Hi")], BROKE], [[OPENED, *again], [STOP]])
    run = run_flow("http://x/v1", backend=backend, retries=1, deterministic=True)
    assert (run.report.text, run.report.exit_code, run.report.outcome) == ("Hi", 3, "incomplete")
    assert run.report.error is not None
    assert run.report.error.code == "resume_diverged"


def test_without_a_deterministic_target_a_cut_answer_stays_incomplete() -> None:
    run = run_flow("http://x/v1", backend=MockBackend([[OPENED, *text("Hi")], BROKE]), retries=2)
    assert (run.report.text, run.report.exit_code) == ("Hi", 3)
    assert types(run.events)[-2:] == ["Interrupted", "Aborted"]


def test_a_rejected_prompt_never_reaches_the_model() -> None:
    run = run_flow("http://x/v1", backend=MockBackend(), prompt="hello \x1b[2J")
    assert (run.report.outcome, run.report.exit_code) == ("rejected", 4)
    assert types(run.events) == ["Aborted"]


def test_the_users_own_key_in_the_prompt_is_not_sent() -> None:
    key = "my-private-key-0123456789"
    run = run_flow("http://x/v1", backend=MockBackend(), api_key=key, prompt=f"use {key} please")
    assert run.report.exit_code == 4
    assert run.report.error is not None
    assert key not in run.report.error.message + run.report.error.hint + str(run.report.as_json())


def test_an_unavailable_target_is_an_outcome_not_an_exception() -> None:
    run = run_flow("http://x/v1", backend=MockBackend(AuthFailed("no", hint="key")))
    assert (run.report.outcome, run.report.exit_code, run.report.text) == ("unavailable", 77, "")


def test_guardrails_hide_a_secret_split_over_a_failure() -> None:
    secret = "bob@example.com"
    for place in range(1, len(secret)):
        backend = MockBackend(
            [[OPENED, *text("Mail ", secret[:place])], BROKE],
            [[OPENED, *text("Mail ", secret, " now")], [STOP]],
        )
        run = run_flow("http://x/v1", backend=backend, retries=1, deterministic=True, rules=sample_rules())
        assert run.report.text == "Mail [EMAIL] now"
        assert sum(isinstance(event, Redacted) for event in run.events) == 1


INSULT = "You are a fucking idiot."


@pytest.mark.parametrize(
    ("mode", "text_shown", "exit_code"),
    [
        ("off", f"Hello. {INSULT} Bye bob@example.com.", 0),
        ("flag", f"Hello. {INSULT} Bye bob@example.com.", 0),
        ("stop", f"Hello. {INSULT}", 4),
        ("hold", "Hello. ", 4),
    ],
)
def test_toxic_sentences_are_flagged_stop_the_answer_or_are_never_shown(
    mode: nodes.ToxicityPolicy, text_shown: str, exit_code: int
) -> None:
    pieces = ["Hel", "lo. You are ", "a fucking id", "iot. By", "e bob@exam", "ple.com."]
    backend = MockBackend([[OPENED, *text(*pieces[:3])], text(*pieces[3:]), [STOP]])
    run = run_flow("http://x/v1", backend=backend, toxicity=mode)
    assert run.report.text.rstrip() == text_shown.rstrip()
    assert run.report.exit_code == exit_code
    flagged = [event.rule for event in run.events if isinstance(event, Flagged)]
    assert flagged == (["toxicity"] if mode == "flag" else [])
    assert backend.is_all_closed
    if mode != "off":
        assert run.report.guard["toxicity"]["mode"] == mode
        assert run.report.guard["toxicity"]["toxic"] == 1


def test_the_redactor_works_behind_the_judgement_of_sentences() -> None:
    backend = MockBackend([[OPENED, *text("Mail bob@exam", "ple.com now. ", "Bye.")], [STOP]])
    run = run_flow("http://x/v1", backend=backend, toxicity="hold", rules=sample_rules())
    assert run.report.text == "Mail [EMAIL] now. Bye."


def test_a_stop_ends_the_run_and_keeps_the_partial_answer() -> None:
    backend = MockBackend([[OPENED, *text("Hel")], text("lo"), *[text("x")] * 50])

    def stop(event: Event, context: RunContext) -> Cancelled | None:
        return Cancelled("cancelled") if isinstance(event, TextDelta) and event.text == "lo" else None

    # The mock never waits, so the stop is seen where the next wait would be.
    backend_with_wait = WaitingBackend(backend)
    run = run_flow("http://x/v1", backend=backend_with_wait, on_event=stop)
    assert run.report.text == "Hello"
    assert (run.report.outcome, run.report.exit_code) == ("cancelled", 130)
    assert backend.is_all_closed


class WaitingBackend:
    """Puts the watchdog around every batch, as the real stream does."""

    def __init__(self, inner: MockBackend) -> None:
        self._inner = inner

    async def open_chat(self, *args: Any, watchdog: Any, **options: Any) -> Any:
        source = await self._inner.open_chat()

        class Waiting:
            async def next_batch(self) -> list[Event]:
                return await watchdog.wait(source.next_batch(), None, lambda: BROKE)  # type: ignore[no-any-return]

            async def aclose(self) -> None:
                await source.aclose()

        return Waiting()


def test_the_breaker_sees_failures_that_happen_after_the_stream_was_opened() -> None:
    breaker = Breaker(failure_threshold=2)
    for _ in range(2):
        run_flow("http://x/v1", backend=MockBackend([[OPENED, *text("Hi")], ConnectionLost("cut")]), breaker=breaker)
    run = run_flow("http://x/v1", backend=MockBackend(), breaker=breaker)
    assert run.report.error is not None
    assert run.report.error.code == "breaker_open"
    assert run.report.exit_code == 69
    assert run.report.breaker["state"] == "open"


@pytest.mark.parametrize("error", [AuthFailed("key"), Cancelled("c")])
def test_errors_that_are_not_the_targets_fault_do_not_count(error: AppError) -> None:
    breaker = Breaker(failure_threshold=1)
    run_flow("http://x/v1", backend=MockBackend(error), breaker=breaker)
    assert breaker.statistics().state.value == "closed"


def test_a_bug_in_the_stream_passes_as_the_bug_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        run_flow("http://x/v1", backend=MockBackend([[OPENED, *text("Hi")], ZeroDivisionError()]))


def test_one_flow_serves_many_runs_and_its_state_survives_the_node_copies() -> None:
    backend = MockBackend(*[[[OPENED, *text(str(n))], [STOP]] for n in range(10)], AuthFailed("no"))
    target = Target(EMBEDDED, "m", is_deterministic=True)
    breaker = Breaker()
    graph = create_streaming_graph(
        Opener([Upstream(target, backend, breaker)], RetryPolicy(retries=0)), prompt=prompt_policy()
    )

    async def once() -> Shared:
        now = time.monotonic()
        recorder = Recorder(now)
        context = RunContext(clock=time.monotonic, started_s=now, listeners=(recorder.handle,))
        shared: Shared = {"recorder": recorder, "run_input": RunInput("hi", context)}
        assert await graph.run_async(shared) in ("complete", "unavailable")
        return shared

    answers = [asyncio.run(once())["report"].text for _ in range(11)]
    assert answers == [*map(str, range(10)), ""]
    llm = next(node for node in graph.nodes() if isinstance(node, StreamingLLM))
    assert llm.get_stats()["total_executions"] == 11
    assert llm.metrics["suppressed_count"] == 1
    assert llm.get_stream_stats()["outcomes"] == {"complete": 10, "unavailable": 1}
    assert breaker.statistics().succeeded == 10


async def opened_stream(backend: MockBackend, breaker: Breaker) -> ResilientStream:
    context = RunContext(clock=time.monotonic, started_s=time.monotonic())
    opener = Opener([Upstream(Target(EMBEDDED, "m"), backend, breaker)], RetryPolicy(retries=0))
    return await opener.open(Request("hi", context))


def test_a_consumer_that_leaves_closes_the_connection_and_is_no_failure() -> None:
    backend, breaker = MockBackend([[OPENED, *text("Hel", "lo")], text("x")]), Breaker(failure_threshold=1)

    async def leave() -> None:
        stream = await opened_stream(backend, breaker)
        assert await anext(stream) == TextDelta("Hel")
        await stream.aclose()
        await stream.aclose()

    asyncio.run(leave())
    assert backend.is_all_closed
    assert (breaker.statistics().released, breaker.statistics().state.value) == (1, "closed")


def test_a_stream_that_nobody_reads_is_closed_too() -> None:
    backend = MockBackend([[OPENED, *text("Hel", "lo")]])

    async def leave() -> None:
        await (await opened_stream(backend, Breaker())).aclose()

    asyncio.run(leave())
    assert backend.is_all_closed


@pytest.mark.parametrize("rules", [None, sample_rules()])
def test_a_consumer_that_fails_leaves_nothing_open(rules: RuleSet | None) -> None:
    backend = MockBackend([[OPENED, *text("Hel "), *text("lo ")], text("x")])

    async def fail() -> None:
        def listener(event: Event, now: float) -> None:
            if isinstance(event, TextDelta):
                raise ZeroDivisionError

        context = RunContext(clock=time.monotonic, started_s=time.monotonic(), listeners=(listener,))
        graph = create_streaming_graph(
            Opener([Upstream(Target(EMBEDDED, "m"), backend)]), prompt=prompt_policy(), answer=AnswerPolicy(rules)
        )
        shared: Shared = {"recorder": Recorder(0.0), "run_input": RunInput("hi", context)}
        with pytest.raises(ZeroDivisionError):
            await graph.run_async(shared)
        assert backend.is_all_closed

    asyncio.run(fail())


class CountedStream:
    """An event stream of one text that then waits; it counts how often it was closed."""

    def __init__(self) -> None:
        self.closed = 0
        self._is_told = False

    def __aiter__(self) -> CountedStream:
        return self

    async def __anext__(self) -> Event:
        if self._is_told:
            await asyncio.Event().wait()
        self._is_told = True
        return TextDelta("Hel")

    async def aclose(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("how", ["a listener fails", "the task is cancelled"])
def test_the_node_that_drains_a_stream_closes_it_itself(how: str) -> None:
    stream = CountedStream()

    async def drain() -> None:
        told = asyncio.Event()

        def listener(event: Event, now: float) -> None:
            told.set()
            if how == "a listener fails":
                raise ZeroDivisionError

        context = RunContext(clock=time.monotonic, started_s=time.monotonic(), listeners=(listener,))
        opener = Opener([Upstream(Target(EMBEDDED, "m"), MockBackend())])
        node = nodes.TokenAggregator(opener, nodes.StreamLog(), model_requested="m")
        draining = asyncio.create_task(node.exec_async((stream, context)))
        await told.wait()
        if how == "the task is cancelled":
            draining.cancel()
        with pytest.raises((ZeroDivisionError, asyncio.CancelledError)):
            await draining

    asyncio.run(drain())
    assert stream.closed == 1


def test_every_action_that_a_node_can_return_has_an_edge() -> None:
    graph = create_streaming_graph(Opener([Upstream(Target(EMBEDDED, "m"), MockBackend())]), prompt=prompt_policy())
    actions = {
        "PromptProcessor": {nodes.READY, nodes.REJECTED},
        "StreamingLLM": {nodes.STREAMING, nodes.UNAVAILABLE},
        "ResponseHandler": {nodes.GUARDED},
        "TokenAggregator": set(),
    }
    assert {type(node).__name__: set(node.successors) for node in graph.nodes()} == actions


def test_ill_formed_streams_are_made_well_formed() -> None:
    async def stream(*events: Event) -> AsyncGenerator[Event, None]:
        for event in events:
            yield event

    async def collect(*events: Event) -> list[Event]:
        return [event async for event in well_formed(stream(*events))]

    assert asyncio.run(collect(TextDelta("a"), STOP, TextDelta("b"), STOP)) == [TextDelta("a"), STOP]
    *shown, last = asyncio.run(collect(TextDelta("a"), TextDelta("")))
    assert shown == [TextDelta("a")]
    assert isinstance(last, Aborted)
    assert isinstance(last.error, InternalError)


def test_events_of_every_kind_become_json() -> None:
    from utils.events import as_json

    cause: ProviderError = ConnectionLost("broke", hint="run again", simulated=True)
    row = as_json(Interrupted(cause, 5), 1.25)
    assert row == {
        "type": "interrupted",
        "t_s": 1.25,
        "cause": {"code": "connection_lost", "message": "broke", "hint": "run again", "simulated": True},
        "chars": 5,
    }
    assert as_json(Retrying(2, 0.5, cause), 0.0)["type"] == "retrying"
    assert as_json(FellBack("a", "b", "c"), 0.0) == {
        "type": "fell_back",
        "t_s": 0.0,
        "from_target": "a",
        "to_target": "b",
        "cause": "c",
    }
