"""Requests for the rest of an answer, and which ways a target allows. Pure."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.errors import InternalError
from utils.events import TextDelta
from utils.resilience.continuation import (
    MAX_QUOTED_CHARS,
    Capabilities,
    Detected,
    RemainingTokens,
    capabilities_of,
    continue_request,
    prefill_request,
    remaining_tokens,
    strategies,
)
from utils.resilience.stitching import Stitcher
from utils.run_context import EMBEDDED, Parameters, Request, RunContext, Target

CONTEXT = RunContext(clock=lambda: 0.0, started_s=0.0)
PARTIAL = "A circuit breaker sits between a program and a service that it needs. While the service answers, the brea"
SCHEMA = Parameters(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {}}})
SERVER = Target("http://127.0.0.1:9/v1", "m")


def request(**parameters: Any) -> Request:
    return Request("What is it?", CONTEXT, system="Be brief.", parameters=Parameters(**parameters))


def test_a_prefill_sends_the_partial_answer_last_and_without_the_white_space_at_its_end() -> None:
    asked = prefill_request(request(seed=1, stop=("END",)), "one two \n")
    assert asked.messages() == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is it?"},
        {"role": "assistant", "content": "one two"},
    ]
    assert asked.strategy == "prefill"
    assert dict(asked.extra_body) == {}
    assert asked.parameters == Parameters(seed=1, stop=("END",))


@pytest.mark.parametrize(
    ("form", "message", "body"),
    [
        ("trailing", {}, {}),
        ("prefix", {"prefix": True}, {}),
        ("continue_final_message", {}, {"continue_final_message": True, "add_generation_prompt": False}),
    ],
)
def test_each_form_of_prefill_says_what_its_servers_want(form: Any, message: Any, body: Any) -> None:
    asked = prefill_request(request(), PARTIAL, form=form)
    assert asked.messages()[-1] == {"role": "assistant", "content": PARTIAL, **message}
    assert dict(asked.extra_body) == body


def test_the_request_in_words_quotes_the_answer_and_ends_with_its_last_words() -> None:
    asked = continue_request(request(), PARTIAL + " ")
    quoted, instruction = asked.messages()[-2:]
    assert quoted == {"role": "assistant", "content": PARTIAL}
    assert instruction["role"] == "user"
    tail = instruction["content"].rpartition("\n\n")[2]
    assert PARTIAL.endswith(f" {tail}")
    assert 48 <= len(tail) <= 60
    assert "left out" not in instruction["content"]
    assert asked.strategy == "continue"


def test_of_a_long_answer_only_the_end_is_quoted_and_the_model_is_told() -> None:
    partial = "x" * 500 + "\n" + f"{'line of text. ' * 9}\n" * 200
    quoted, instruction = continue_request(request(), partial).messages()[-2:]
    assert len(quoted["content"]) <= MAX_QUOTED_CHARS
    assert partial.rstrip().endswith("\n" + quoted["content"])
    assert "its beginning is left out" in instruction["content"]


@pytest.mark.parametrize("make", [prefill_request, continue_request])
@pytest.mark.parametrize(
    ("asked", "partial"), [(request(), " \n"), (request(), ""), (Request("p", CONTEXT, parameters=SCHEMA), "{")]
)
def test_blank_and_structured_answers_are_never_continued_so(make: Any, asked: Request, partial: str) -> None:
    with pytest.raises(InternalError):
        make(asked, partial)


@given(partial=st.text(min_size=60, max_size=300).filter(lambda text: len(text.strip()) > 50))
def test_the_words_that_are_asked_for_are_the_last_ones(partial: str) -> None:
    tail = continue_request(request(), partial).messages()[-1]["content"].rpartition("The last words:\n\n")[2]
    assert partial.rstrip().endswith(tail)


def test_the_words_that_are_asked_for_are_enough_to_find_the_seam_inside_a_word() -> None:
    tail = continue_request(request(), PARTIAL).messages()[-1]["content"].rpartition("\n\n")[2]
    stitcher = Stitcher(PARTIAL, "continue")
    events = [*stitcher.feed([TextDelta(tail + "ker is closed.")]), *stitcher.finish()]
    assert events == [TextDelta("ker is closed.")]


def test_the_rest_may_have_the_tokens_that_are_left() -> None:
    assert remaining_tokens(100, PARTIAL, 30) == RemainingTokens(70, False)
    assert remaining_tokens(20, PARTIAL, 30) == RemainingTokens(0, False)
    estimated = remaining_tokens(100, PARTIAL)
    assert estimated.is_estimated
    assert 65 < estimated.tokens < 90
    assert remaining_tokens(5, PARTIAL) == RemainingTokens(1, True)
    assert prefill_request(request(max_tokens=100), PARTIAL, counted=30).parameters.max_tokens == 70
    assert prefill_request(request(), PARTIAL, counted=30).parameters.max_tokens is None
    # The words that are repeated cost tokens too.
    assert 75 < (continue_request(request(max_tokens=100), PARTIAL, counted=30).parameters.max_tokens or 0) < 95


@pytest.mark.parametrize(
    ("target", "detected", "expected"),
    [
        (Target(EMBEDDED, "m", is_deterministic=True), None, Capabilities(True, "trailing", True)),
        (SERVER, None, Capabilities(False, None, True)),
        (Target(SERVER.base_url, "m", is_deterministic=True), None, Capabilities(True, None, True)),
        (SERVER, Detected(owned_by="llamacpp"), Capabilities(False, "trailing", True)),
        (SERVER, Detected(owned_by="vllm"), Capabilities(False, "continue_final_message", True)),
        (SERVER, Detected(owned_by="mistralai"), Capabilities(False, "prefix", True)),
        (SERVER, Detected(owned_by="openai"), Capabilities(False, None, True)),
    ],
)
def test_what_a_target_allows_follows_from_what_is_known_of_it(
    target: Target, detected: Detected | None, expected: Capabilities
) -> None:
    assert capabilities_of(target, detected) == expected


def test_what_the_user_configured_overrules_what_was_detected() -> None:
    mine = Capabilities(prefill=None, continue_=False)
    assert capabilities_of(SERVER, Detected(owned_by="vllm"), mine) == mine


@pytest.mark.parametrize(
    ("capabilities", "parameters", "shown", "has_reasoned", "ways"),
    [
        (Capabilities(True, "trailing"), Parameters(), PARTIAL, False, ("replay", "prefill", "continue")),
        (Capabilities(False, "trailing"), Parameters(), PARTIAL, False, ("prefill", "continue")),
        (Capabilities(), Parameters(), PARTIAL, False, ("continue",)),
        (Capabilities(continue_=False), Parameters(), PARTIAL, False, ()),
        (Capabilities(True, "trailing"), Parameters(), PARTIAL, True, ("replay", "continue")),
        (Capabilities(True, "trailing"), SCHEMA, "{", False, ("replay",)),
        (Capabilities(False, "trailing"), SCHEMA, "{", False, ()),
        (Capabilities(True, "trailing"), Parameters(), " \n", False, ("replay",)),
        (Capabilities(False, "trailing"), Parameters(), "", False, ("restart",)),
    ],
)
def test_the_surest_way_that_is_allowed_comes_first(
    capabilities: Capabilities, parameters: Parameters, shown: str, has_reasoned: bool, ways: tuple[str, ...]
) -> None:
    asked = Request("p", CONTEXT, parameters=parameters)
    assert strategies(capabilities, asked, shown, has_reasoned=has_reasoned) == ways
