"""Rehearsed outages of a real server, through the whole flow: what the matrix of real faults expects, marked."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from tests.flow.harness import FlowRun, run_flow
from tests.support.faults import FULL_TEXT, THREE_WORDS, WORDS, good_answer
from tests.support.scripted_server import Reset, ScriptedServer, Send, WaitUntilRead, wait_until
from tests.support.wire import chunk, delta, head, role, sse
from utils.errors import Cancelled
from utils.events import Flagged, Interrupted, Retrying, TextDelta
from utils.failure_simulator import FailurePlan, FaultTransport, MarkingBackend, parse_plan
from utils.failures.faults import KINDS
from utils.openai_stream import OpenAIBackend
from utils.run_context import Parameters, RunContext

DEADLINE_S = 0.2
BEGINNING = [sse(role()), *(sse(delta(word)) for word in WORDS[:3])]
FOUR_EVENTS = sum(map(len, BEGINNING))
"""Bytes of the first four events: a role and three words."""


class RehearsedBackend(OpenAIBackend):
    """The backend as `--failure-plan` puts it together."""

    def __init__(self, base_url: str, plan: FailurePlan) -> None:
        super().__init__(
            base_url=base_url,
            api_key="sk-test-0123456789",
            connect_timeout_s=DEADLINE_S / 2,
            wrap_transport=lambda inner: FaultTransport(inner, plan),
        )
        inner: Any = SimpleNamespace(open_chat=super().open_chat)
        self._marking = MarkingBackend(inner)

    async def open_chat(self, *args: Any, **kwargs: Any) -> Any:
        return await self._marking.open_chat(*args, **kwargs)


def rehearse(base_url: str, plan: FailurePlan, **options: Any) -> FlowRun:
    options.setdefault("deadline_s", DEADLINE_S)
    return run_flow(base_url, backend=RehearsedBackend(base_url, plan), **options)


NOTHING = [
    ("refused", "unreachable", 69),
    ("dns", "unreachable", 69),
    ("tls", "unreachable", 69),
    ("connect_timeout", "unreachable", 69),
    ("read_timeout", "first_token_timeout", 69),
    ("read_timeout=0.01", "idle_timeout", 69),
    *((f"status={status}", "server_failure", 69) for status in (408, 409, 500, 502, 503, 504, 529)),
    *((f"status={status}", "request_refused", 65) for status in (400, 413, 422)),
    *((f"status={status}", "auth_failed", 77) for status in (401, 403)),
    ("status=404", "model_not_found", 78),
    ("status=429", "rate_limited", 75),
    ("status=429 retry-after=120", "rate_limited", 75),
    ("status=429 retry-after-ms=10", "rate_limited", 75),
    ("status=429 should-retry=false", "rate_limited", 75),
    ("quota", "auth_failed", 77),
    ("html", "not_a_stream", 69),
    ("json", "not_a_stream", 69),
    ("empty", "not_a_stream", 69),
    ("content_type=text/plain", "not_a_stream", 69),
    *((f"{kind}@0b", error, 69) for kind, error in (("cut", "not_a_stream"), ("reset", "connection_lost"))),
    ("incomplete@1e", "connection_lost", 69),
    ("cut@1e", "stream_truncated", 69),
    ("stall@0b", "first_token_timeout", 69),
    ("stall@1e", "first_token_timeout", 69),
    ("drip=10", "first_token_timeout", 69),
    ("garbage@0e", "protocol_error", 69),
    ("error_object@0e", "server_failure", 69),
    ("error_object=rate_limit_exceeded@1e", "rate_limited", 75),
    ("error_object=insufficient_quota@0%", "auth_failed", 77),
    ("early_done@1e", "stream_truncated", 69),
]
PLACES = ("4e", f"{FOUR_EVENTS}b", "40%")
"""The same place three times: `max_tokens` is 10, so 40 % are four events."""
PARTLY = {
    "cut": "stream_truncated",
    "reset": "connection_lost",
    "incomplete": "connection_lost",
    "stall": "idle_timeout",
    "drip=10": "idle_timeout",
    "garbage": "protocol_error",
    "null_event": "protocol_error",
    "invalid_utf8": "protocol_error",
    "error_object": "server_failure",
    "early_done": "stream_truncated",
}
BROKEN = [
    *((plan, error, code, "") for plan, error, code in NOTHING),
    *((f"{kind}@{place}", error, 3, THREE_WORDS) for kind, error in PARTLY.items() for place in PLACES),
    (f"reset@{FOUR_EVENTS - 20}b", "connection_lost", 3, "The quick "),
    ("cut@100%", "stream_truncated", 3, "".join(WORDS[:9])),
    ("no_finish", "stream_truncated", 3, FULL_TEXT),
]
ONE_PLACE = [row for row in BROKEN if not row[0].endswith(PLACES[1:])]
HARMLESS = [
    ("onebyte", FULL_TEXT),
    ("drip=100000", FULL_TEXT),
    ("no_done", FULL_TEXT),
    *((f"stall=0.05@{place}", FULL_TEXT) for place in ("0b", *PLACES)),
    *((f"garbage_line@{place}", FULL_TEXT) for place in PLACES),
    *((f"duplicate@{place}", FULL_TEXT.replace("brown ", "brown brown ")) for place in PLACES),
    ("cut@500e", FULL_TEXT),
]


@pytest.fixture(scope="module", autouse=True)
def _first_client() -> None:
    """The first client of a process loads certificates, which no deadline of a test should have to wait for."""
    OpenAIBackend(base_url="http://127.0.0.1:9/v1", api_key=None)


def parameters() -> Parameters:
    return Parameters(max_tokens=10)


@pytest.mark.parametrize(("spec", "code", "exit_code", "text"), BROKEN, ids=[row[0] for row in BROKEN])
def test_a_rehearsed_fault_ends_as_the_real_one_does_and_says_that_it_was_asked_for(
    spec: str, code: str, exit_code: int, text: str
) -> None:
    plan = parse_plan(spec)
    with ScriptedServer(default=good_answer()) as server:
        run = rehearse(server.base_url, plan, parameters=parameters())
        wait_until(lambda: server.open_connections() == 0)
        asked = sum(request.path.endswith("/chat/completions") for request in server.requests)
    error = run.report.error
    assert error is not None
    assert (error.code, run.report.exit_code, run.report.text) == (code, exit_code, text)
    assert error.simulated
    assert "asked for" in error.hint
    assert run.seconds < DEADLINE_S + 1.5
    assert (plan.injected, plan.planned) == (1, 1)
    assert asked == (1 if KINDS[spec.split("=")[0].split("@")[0].split(" ")[0]].phase == "body" else 0)


@pytest.mark.parametrize(("spec", "code", "exit_code", "text"), ONE_PLACE, ids=[row[0] for row in ONE_PLACE])
def test_a_good_second_attempt_gives_the_whole_answer_exactly_once(
    spec: str, code: str, exit_code: int, text: str
) -> None:
    plan = parse_plan(f"{spec}, ok")
    with ScriptedServer(default=good_answer()) as server:
        run = rehearse(server.base_url, plan, parameters=parameters(), retries=2, deterministic=True)
        wait_until(lambda: server.open_connections() == 0)
    is_final = exit_code in (65, 77, 78) or "should-retry=false" in spec or "120" in spec
    if is_final:
        assert (run.report.exit_code, run.report.text) == (exit_code, text)
        return
    assert (run.report.exit_code, run.report.text) == (0, FULL_TEXT)
    assert run.report.metrics["resumes"] == (1 if text else 0)
    causes = [event.cause for event in run.events if isinstance(event, Retrying | Interrupted)]
    assert [cause.code for cause in causes] == [code] * len(causes)
    assert all(cause.simulated for cause in causes)
    assert causes


@pytest.mark.parametrize(("spec", "text"), HARMLESS, ids=[row[0] for row in HARMLESS])
def test_what_a_client_has_to_bear_is_borne(spec: str, text: str) -> None:
    plan = parse_plan(spec)
    with ScriptedServer(default=good_answer()) as server:
        run = rehearse(server.base_url, plan, parameters=parameters())
        wait_until(lambda: server.open_connections() == 0)
    assert (run.report.exit_code, run.report.text, run.report.error) == (0, text, None)
    assert plan.injected == (0 if "500e" in spec else 1)
    flagged = [event.rule for event in run.events if isinstance(event, Flagged)]
    assert flagged == (["duplicated_event"] if "duplicate" in spec else [])


def test_every_kind_is_rehearsed_here() -> None:
    met = {row[0].split("=")[0].split("@")[0].split(" ")[0] for row in [*BROKEN, *HARMLESS]}
    assert met == set(KINDS)


@pytest.mark.parametrize("seed", range(12))
def test_random_outages_are_survived_by_enough_attempts(seed: int) -> None:
    plan = parse_plan("random(rate=0.6)*4, ok", seed=seed)
    with ScriptedServer(default=good_answer()) as server:
        run = rehearse(server.base_url, plan, retries=8, deterministic=True, deadline_s=2.0)
        wait_until(lambda: server.open_connections() == 0)
    assert (run.report.exit_code, run.report.text) == (0, FULL_TEXT)
    assert plan.injected == plan.statistics().planned == run.report.metrics["attempts"] - 1


def test_a_real_failure_is_not_called_simulated() -> None:
    broken = [Send(head() + b"".join(map(chunk, BEGINNING))), WaitUntilRead(), Reset()]
    for spec in ("ok", "onebyte", "cut@9e", "stall=0.01@1e", "drip=5000", "duplicate@2e"):
        plan = parse_plan(f"{spec} forever")
        with ScriptedServer(default=broken) as server:
            run = rehearse(server.base_url, plan)
        assert run.report.error is not None
        assert (run.report.error.code, run.report.error.simulated) == ("connection_lost", False)


def test_a_cancel_during_a_rehearsed_stall_is_the_users() -> None:
    def stop(event: object, context: RunContext) -> None:
        if isinstance(event, TextDelta):
            asyncio.get_running_loop().call_later(0.05, context.stop, Cancelled("cancelled"))

    with ScriptedServer(default=good_answer()) as server:
        run = rehearse(server.base_url, parse_plan("stall@2e"), on_event=stop, deadline_s=5.0)
        wait_until(lambda: server.open_connections() == 0)
    assert run.report.exit_code == 130
    assert run.report.error is not None
    assert not run.report.error.simulated


def test_the_time_for_the_whole_run_ends_a_rehearsed_stall_and_the_error_says_why() -> None:
    with ScriptedServer(default=good_answer()) as server:
        run = rehearse(server.base_url, parse_plan("stall@3e"), deadline_s=5.0, total_s=0.3)
        wait_until(lambda: server.open_connections() == 0)
    assert run.report.error is not None
    assert (run.report.error.code, run.report.error.simulated) == ("total_timeout", True)
    assert (run.report.exit_code, run.report.text) == (3, "The quick ")
