"""Structured answers over real HTTP: scripted servers, and the embedded model, which is constrained by the schema."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import pytest

from tests.cli.command_line import is_slot_free
from tests.flow.harness import run_flow
from tests.support.exhaustive import exhaustive
from tests.support.paced_server import PacedServer
from tests.support.scripted_server import Close, ScriptedServer, Send, wait_until
from tests.support.wire import DONE, delta, error_response, finish, sse, stream_response
from utils.embedded_model.fetch import fetch
from utils.embedded_model.server import EmbeddedServer
from utils.embedded_model.spec import PINNED
from utils.errors import AppError
from utils.events import Aborted, Adapted, Event, Retrying, TextDelta
from utils.metrics.recorder import Recorder
from utils.openai_stream import OpenAIBackend
from utils.resilience.backoff import Backoff
from utils.resilience.resilient_stream import Opener
from utils.resilience.retry_policy import RetryPolicy
from utils.resilience.upstream import Upstream
from utils.run_context import Deadlines, Parameters, Request, RunContext, Target
from utils.run_report import exit_code_of, outcome_of
from utils.validation.plan import ValidationPlan, ValidatorFactory
from utils.validation.retrying import checked
from utils.validation.structured import compile_json_schema, compile_regex
from utils.validation.validators import Validator

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "minItems": 1, "maxItems": 2},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
STRUCTURE = compile_json_schema(PERSON, source="person.json")
WHOLE = '{"name": "Ada", "age": 36, "tags": ["red"]}'


@dataclass
class Answer:
    """What one request left behind."""

    events: list[Event]
    text: str
    exit_code: int
    outcome: str
    seconds: float

    @property
    def error(self) -> AppError:
        assert isinstance(self.events[-1], Aborted)
        return self.events[-1].error


def ask(
    base_url: str,
    plan: ValidationPlan,
    *,
    prompt: str = "Describe a person.",
    parameters: Parameters | None = None,
    total_s: float | None = None,
    deadline_s: float = 5.0,
    format_sent: bool = True,
) -> Answer:
    async def main() -> Answer:
        started_s = time.monotonic()
        recorder = Recorder(started_s)
        events: list[Event] = []
        context = RunContext(
            clock=time.monotonic,
            started_s=started_s,
            deadline_s=None if total_s is None else started_s + total_s,
            listeners=(recorder.handle, lambda event, now: events.append(event)),
        )
        backend = OpenAIBackend(base_url=base_url, api_key=None, closes_connections=True)
        policy = RetryPolicy(0, backoff=Backoff(0.001, 0.002))
        opener = Opener([Upstream(Target(base_url, "m"), backend)], policy, random.Random(1))
        sent = parameters or Parameters()
        if format_sent:
            sent = Parameters(sent.temperature, sent.max_tokens, sent.seed, response_format=plan.response_format)
        request = Request(prompt, context, parameters=sent, deadlines=Deadlines(deadline_s, deadline_s, total_s))
        opened = await opener.open(request)
        try:
            async for event in checked(opened, request, plan, opener.open):
                context.emit(event)
        finally:
            await opened.aclose()
            await backend.aclose()
        assert recorder.terminal is not None
        shown = recorder.text_shown
        return Answer(
            events,
            recorder.text,
            exit_code_of(recorder.terminal, text_shown=shown),
            outcome_of(recorder.terminal, text_shown=shown),
            time.monotonic() - started_s,
        )

    return asyncio.run(main())


def person(retries: int = 0) -> ValidationPlan:
    return ValidationPlan((STRUCTURE.validator,), retries, STRUCTURE.response_format)


def answering(*parts: str, reason: str = "stop") -> list[Any]:
    chunks = [sse(delta(part)) for part in parts]
    return [Send(stream_response(*chunks, sse(finish(reason)), sse(DONE))), Close()]


def refusal(message: str, param: str | None = None) -> list[Any]:
    return [Send(error_response(400, message, kind="invalid_request_error", param=param)), Close()]


# -- scripted servers ------------------------------------------------------------------------------------------------


def test_a_valid_answer_streams_through_and_the_schema_was_sent() -> None:
    with ScriptedServer([answering(WHOLE[:10], WHOLE[10:])]) as server:
        answer = ask(server.base_url, person())
        body = server.requests[0].json
    assert (answer.text, answer.exit_code) == (WHOLE, 0)
    assert [event.text for event in answer.events if isinstance(event, TextDelta)] == [WHOLE[:10], WHOLE[10:]]
    assert body["response_format"]["type"] == "json_schema"
    assert body["response_format"]["json_schema"]["schema"] == PERSON


def test_an_invalid_answer_ends_where_it_becomes_invalid_with_exit_code_4() -> None:
    with ScriptedServer([answering('{"name": "Ada", "a', 'ge": "36"', ', "tags": []}')]) as server:
        answer = ask(server.base_url, person())
    assert (answer.text, answer.exit_code, answer.outcome) == ('{"name": "Ada", "age": ', 4, "blocked")
    assert answer.error.code == "validation_failed"
    assert "at character 24" in answer.error.message
    assert answer.error.hint


def test_an_impossible_byte_closes_the_connection_although_the_server_would_go_on() -> None:
    with PacedServer(pieces=['{"na', "me", '": ', "5", *["and on "] * 500], interval_s=0.01) as server:
        answer = ask(server.base_url, person())
        wait_until(lambda: server.open_connections() == 0)
    assert (answer.text, answer.exit_code) == ('{"name": ', 4)
    assert answer.seconds < 2.0


def test_the_second_answer_is_the_only_one_that_is_shown() -> None:
    with ScriptedServer([answering("Sure! ", "Here it is: ", WHOLE), answering(WHOLE[:7], WHOLE[7:])]) as server:
        answer = ask(server.base_url, person(retries=1), parameters=Parameters(seed=3))
        first, second = (request.json for request in server.requests)
    assert (answer.text, answer.exit_code) == (WHOLE, 0)
    retrying = [n for n, event in enumerate(answer.events) if isinstance(event, Retrying)]
    shown = [n for n, event in enumerate(answer.events) if isinstance(event, TextDelta)]
    assert len(retrying) == len(shown) == 1
    assert retrying < shown
    assert (first["seed"], second["seed"]) == (3, 4)
    asked = second["messages"][-1]["content"]
    assert asked.startswith(first["messages"][-1]["content"])
    assert "refused" in asked
    assert "Sure!" not in asked


def test_without_a_valid_answer_nothing_is_shown() -> None:
    with ScriptedServer([answering("{}"), answering('{"name"', reason="length"), answering("no")]) as server:
        answer = ask(server.base_url, person(retries=2))
        assert len(server.requests) == 3
    assert (answer.text, answer.exit_code, answer.outcome) == ("", 4, "blocked")
    assert "3 attempts" in answer.error.message


def test_the_total_time_covers_all_attempts() -> None:
    bad = ['{"name": "', *["a" * 7] * 10_000]
    with PacedServer(pieces=bad, interval_s=0.05) as server:
        answer = ask(server.base_url, person(retries=50), total_s=0.8)
        assert len(server.streams) > 1
        wait_until(lambda: server.open_connections() == 0)
    assert answer.error.code == "total_timeout"
    assert (answer.text, answer.exit_code) == ("", 69)
    assert answer.seconds < 3.0


def test_a_failure_of_the_server_between_two_attempts_is_that_failure() -> None:
    down = [Send(error_response(503, "down")), Close()]
    with ScriptedServer([answering("[]"), down]) as server:
        answer = ask(server.base_url, person(retries=1))
    assert (answer.text, answer.exit_code, answer.error.code) == ("", 69, "server_failure")


REFUSALS = {
    "by name": refusal("no", "response_format"),
    "by a nested name": refusal("no", "response_format.json_schema"),
    "by an index": refusal("no", "response_format[type]"),
    "as OpenAI does in strict mode": refusal(
        "Invalid schema for response_format 'answer': In context=(), 'additionalProperties' is required to be "
        "supplied and to be false.",
        "response_format",
    ),
    "as llama.cpp does": refusal("Failed to parse grammar"),
    "as llama.cpp does with a schema": refusal("JSON schema conversion failed: Unresolved ref"),
    "in words": refusal("This model does not support response_format of type json_schema"),
}


@pytest.mark.parametrize("how", REFUSALS)
def test_a_server_that_refuses_the_schema_is_asked_without_it_and_its_answer_is_judged_all_the_same(how: str) -> None:
    with ScriptedServer([REFUSALS[how], REFUSALS[how], answering("[]")]) as server:
        answer = ask(server.base_url, person())
        strict, plain, without = (request.json for request in server.requests)
    assert strict["response_format"]["json_schema"]["strict"] is True
    assert "strict" not in plain["response_format"]["json_schema"]
    assert plain["response_format"]["json_schema"]["schema"] == PERSON
    assert "response_format" not in without
    changed = [(event.what, event.after) for event in answer.events if isinstance(event, Adapted)]
    assert changed == [("request.response_format", "not strict"), ("request.response_format", "left out")]
    assert (answer.text, answer.exit_code) == ("", 4)


def test_a_refusal_of_something_else_keeps_the_schema() -> None:
    with ScriptedServer([refusal("no", "seed"), answering(WHOLE)]) as server:
        answer = ask(server.base_url, person(), parameters=Parameters(seed=1))
        assert "response_format" in server.requests[1].json
    assert answer.exit_code == 0


class Broken:
    """A validator with a fault of its own."""

    def feed(self, text: str) -> None:
        raise ValueError(text)

    def finish(self) -> None:
        pass


def breaks_at(number: int) -> ValidatorFactory:
    """Makes validators of the schema; the one of answer *number* is broken."""
    made = itertools.count(1)
    return lambda: STRUCTURE.validator() if next(made) != number else cast(Validator, Broken())


VALID, BAD = answering(WHOLE), answering('{"name": 5}')
CUT: list[Any] = [Send(stream_response(sse(delta('{"name"')))), Close()]
LIMITED = answering('{"name"', reason="length")
DOWN: list[Any] = [Send(error_response(503, "down")), Close()]
STRUCTURES: dict[str, tuple[list[list[Any]], ValidationPlan | None, str | None]] = {
    "valid": ([VALID], person(), "valid"),
    "valid at the second time": ([BAD, VALID], person(retries=1), "valid"),
    "refused in its middle": ([BAD], person(), "invalid"),
    "refused at its end": ([LIMITED], person(), "invalid"),
    "refused each time": ([BAD, LIMITED], person(retries=1), "invalid"),
    "nothing was asked for": ([BAD], None, None),
    "cut": ([CUT], person(), None),
    "refused, then cut": ([BAD, CUT], person(retries=1), None),
    "no answer": ([DOWN], person(), None),
    "a broken check": ([VALID], ValidationPlan((breaks_at(1),)), None),
    "refused, then a broken check": ([BAD, VALID], ValidationPlan((breaks_at(2),), retries=1), None),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_report_says_whether_the_structure_is_valid(name: str) -> None:
    answers, plan, expected = STRUCTURES[name]
    with ScriptedServer(answers) as server:
        report = run_flow(server.base_url, validation=plan).report
        assert len(server.requests) == len(answers)
    completeness = report.quality["completeness"]
    assert completeness["structure"] == expected
    # The server said so of each answer that was not cut; of one that was refused it does not matter.
    ended = expected == "valid" or plan is None
    assert completeness["finish_reason"] == ("stop" if ended else None)
    assert (report.exit_code == 4) == (expected == "invalid" or "broken" in name)


# -- the embedded model ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def embedded() -> Iterator[str]:
    with EmbeddedServer(fetch(), expected_sha256=PINNED.sha256) as server:
        yield asyncio.run(server.wait_ready())


def check_person(text: str) -> None:
    value = json.loads(text)
    assert list(value) == ["name", "age", "tags"]
    assert isinstance(value["name"], str)
    assert len(value["name"]) <= 20
    assert type(value["age"]) is int
    assert 0 <= value["age"] <= 150
    assert set(value["tags"]) <= {"red", "green", "blue"}
    assert 1 <= len(value["tags"]) <= 2


@pytest.mark.parametrize("seed", [1, *exhaustive([2, 3])])
def test_the_embedded_model_answers_with_valid_json(embedded: str, seed: int) -> None:
    parameters = Parameters(temperature=0.8, max_tokens=120, seed=seed)
    answer = ask(embedded, person(), prompt="Tell me about a person.", parameters=parameters, deadline_s=60.0)
    assert answer.exit_code == 0, answer.events[-1]
    check_person(answer.text)


def test_a_document_that_the_token_limit_cuts_is_no_success(embedded: str) -> None:
    parameters = Parameters(temperature=0.0, max_tokens=4, seed=1)
    answer = ask(embedded, person(), parameters=parameters, deadline_s=60.0)
    assert answer.exit_code == 4
    assert "token limit" in answer.error.message
    assert answer.text


def test_an_answer_that_is_cut_frees_the_servers_slot_at_once(embedded: str) -> None:
    plan = ValidationPlan((compile_regex("[A-Za-z' ]{1,40}").validator,))
    parameters = Parameters(temperature=0.0, max_tokens=2000, seed=1)
    answer = ask(embedded, plan, prompt="Tell a very long story.", parameters=parameters, deadline_s=60.0)
    assert answer.exit_code == 4
    assert 0 < len(answer.text) <= 40
    wait_until(lambda: is_slot_free(embedded), timeout_s=0.5)
