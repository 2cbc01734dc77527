"""What goes over the wire: the request's body and headers, and how it adapts to what a server refuses."""

from __future__ import annotations

import threading
import time

import pytest

from tests.flow.harness import run_flow
from tests.support.faults import FULL_TEXT, good_answer
from tests.support.paced_server import PacedServer
from tests.support.scripted_server import Close, ScriptedServer, Send, Signal, WaitForClientClose, wait_until
from tests.support.wire import DONE, delta, error_response, finish, head, json_response, sse, stream_response
from utils.errors import Cancelled
from utils.events import Adapted, Event, TextDelta
from utils.run_context import Parameters, RunContext

EVERYTHING = Parameters(temperature=0.7, max_tokens=5, seed=3, stop=("END", "\n"), logprobs=True)


def refusal(parameter: str, *, in_message: bool = False) -> list[object]:
    message = f"Unsupported parameter: '{parameter}' is not supported with this model." if in_message else "no"
    response = error_response(400, message, kind="invalid_request_error", param=None if in_message else parameter)
    return [Send(response), Close()]


def test_the_request_holds_what_the_user_gave_and_nothing_else() -> None:
    with ScriptedServer([good_answer()]) as server:
        run_flow(server.base_url, parameters=EVERYTHING, system="Be brief.", prompt="Hi\n", model="m")
        run_flow(server.base_url, prompt="Hi", model="m")
        full, bare = (request.json for request in server.requests)
        headers = server.requests[0].headers
    assert full == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi\n"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.7,
        "max_tokens": 5,
        "seed": 3,
        "stop": ["END", "\n"],
        "logprobs": True,
    }
    assert set(bare) == {"model", "messages", "stream", "stream_options"}
    assert headers["authorization"] == "Bearer sk-test-0123456789"
    assert headers["accept"] == "text/event-stream"
    assert headers["accept-encoding"] == "identity"


def test_without_a_key_no_authorization_is_sent() -> None:
    with ScriptedServer([good_answer()]) as server:
        run = run_flow(server.base_url, api_key=None)
        assert "authorization" not in server.requests[0].headers
    assert run.report.text == FULL_TEXT


@pytest.mark.parametrize("in_message", [False, True])
@pytest.mark.parametrize("parameter", ["temperature", "seed", "stop", "logprobs", "stream_options"])
def test_a_parameter_that_is_refused_by_name_is_left_out_once_and_said(parameter: str, in_message: bool) -> None:
    with ScriptedServer([refusal(parameter, in_message=in_message), good_answer()]) as server:  # type: ignore[list-item]
        run = run_flow(server.base_url, parameters=EVERYTHING)
        first, second = (request.json for request in server.requests)
    assert set(first) - set(second) == {parameter}
    assert run.report.text == FULL_TEXT
    assert [event.what for event in run.events if isinstance(event, Adapted)] == [f"request.{parameter}"]


def test_max_tokens_is_sent_under_its_other_name_and_then_not_at_all() -> None:
    scripts = [refusal("max_tokens"), refusal("max_completion_tokens"), good_answer()]
    with ScriptedServer(scripts) as server:  # type: ignore[arg-type]
        run_flow(server.base_url, parameters=EVERYTHING)
        first, second, third = (request.json for request in server.requests)
    assert (first["max_tokens"], second["max_completion_tokens"]) == (5, 5)
    assert not {"max_tokens", "max_completion_tokens"} & set(third)


def test_a_server_that_goes_on_refusing_is_not_asked_for_ever() -> None:
    with ScriptedServer([refusal("temperature")]) as server:  # type: ignore[list-item]
        run = run_flow(server.base_url, parameters=EVERYTHING)
        assert len(server.requests) == 2
    assert run.report.exit_code == 65


def test_without_a_model_the_first_one_that_the_server_lists_is_asked_and_named() -> None:
    with PacedServer(n_chunks=3, interval_s=0.001) as server:
        run = run_flow(server.base_url, model="")
        assert run.report.text == server.text
    adapted = [event for event in run.events if isinstance(event, Adapted)]
    assert [event.what for event in adapted] == ["model"]


@pytest.mark.parametrize("body", [b"<html>", b'{"data": [{"no": 1}]}', b'{"data": 5}', b"[]"])
def test_a_server_that_lists_no_models_is_an_error_with_a_way_out(body: bytes) -> None:
    with ScriptedServer([[Send(head(200, content_type="application/json", length=len(body)) + body), Close()]]) as s:
        run = run_flow(s.base_url, model="")
    assert run.report.error is not None
    assert "--model" in run.report.error.hint


def test_an_unknown_model_is_answered_with_names_that_exist() -> None:
    missing = [Send(error_response(404, "The model `llama3` does not exist", code="model_not_found")), Close()]
    models = [Send(json_response({"data": [{"id": "llama3.2"}, {"id": "qwen"}]})), Close()]
    with ScriptedServer([missing, models]) as server:
        run = run_flow(server.base_url, model="llama3")
    assert run.report.exit_code == 78
    assert run.report.error is not None
    assert "llama3.2" in run.report.error.hint


def test_a_key_that_the_server_repeats_is_removed_from_its_message() -> None:
    key = "sk-bad"
    rejected = [Send(error_response(401, f"Incorrect API key provided: {key}", code="invalid_api_key")), Close()]
    with ScriptedServer([rejected]) as server:
        run = run_flow(server.base_url, api_key=key)
    assert run.report.exit_code == 77
    assert key not in str(run.report.as_json())


def test_done_alone_is_enough_where_that_is_declared() -> None:
    with ScriptedServer([[Send(stream_response(sse(delta("Hi")), sse(DONE))), Close()]]) as server:
        assert run_flow(server.base_url, finish_reason_optional=True).report.exit_code == 0
        assert run_flow(server.base_url).report.exit_code == 3


@pytest.mark.parametrize(
    ("reason", "exit_code", "outcome"), [("length", 0, "complete"), ("content_filter", 4, "blocked")]
)
def test_finish_reasons_decide_the_outcome(reason: str, exit_code: int, outcome: str) -> None:
    with ScriptedServer([[Send(stream_response(sse(delta("Hi")), sse(finish(reason)), sse(DONE))), Close()]]) as s:
        report = run_flow(s.base_url).report
    assert (report.exit_code, report.outcome, report.text) == (exit_code, outcome, "Hi")


def test_a_stop_closes_the_connection_at_once() -> None:
    with PacedServer(n_chunks=200, interval_s=0.01) as server:

        def stop(event: Event, context: RunContext) -> Cancelled | None:
            return Cancelled("cancelled") if isinstance(event, TextDelta) else None

        run = run_flow(server.base_url, on_event=stop)
        wait_until(lambda: server.open_connections() == 0)
    assert run.report.outcome == "cancelled"
    assert run.seconds < 1.0


def test_the_total_time_ends_a_stream_that_never_stops_talking() -> None:
    with PacedServer(n_chunks=2000, interval_s=0.01) as server:
        started_s = time.monotonic()
        run = run_flow(server.base_url, total_s=0.3)
        assert time.monotonic() - started_s < 1.5
    assert run.report.exit_code == 3
    assert run.report.error is not None
    assert run.report.error.code == "total_timeout"


def test_a_slow_consumer_is_not_taken_for_a_slow_server() -> None:
    seen: list[Event] = []

    def dawdle(event: Event, context: RunContext) -> None:
        if isinstance(event, TextDelta) and not seen:
            seen.append(event)
            # Longer than the idle deadline below, but on our side.
            threading.Event().wait(0.4)

    with PacedServer(n_chunks=4, interval_s=0.001) as server:
        run = run_flow(server.base_url, deadline_s=0.3, on_event=dawdle)
        assert run.report.text == server.text


def test_every_end_leaves_no_connection_open() -> None:
    hang = [Send(head()), Signal(threading.Event()), WaitForClientClose()]
    for script in (good_answer(), hang):
        with ScriptedServer([script]) as server:
            run_flow(server.base_url, deadline_s=0.2)
            wait_until(lambda s=server: s.open_connections() == 0)  # type: ignore[misc]
