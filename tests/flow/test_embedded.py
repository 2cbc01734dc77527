"""The whole flow on the embedded model: real HTTP, a real model, real failures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.flow.harness import run_flow
from utils.embedded_model.fetch import fetch
from utils.embedded_model.server import EmbeddedServer
from utils.embedded_model.spec import PINNED
from utils.events import Interrupted, Resumed, Retrying, TextDelta
from utils.failure_simulator import FaultTransport, parse_plan
from utils.run_context import Parameters

PARAMETERS = Parameters(temperature=0.7, max_tokens=16, seed=7, logprobs=True)
PROMPT = "Name three rivers and say where each one flows."


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    import asyncio

    with EmbeddedServer(fetch(), expected_sha256=PINNED.sha256) as server:
        yield asyncio.run(server.wait_ready())


@pytest.fixture(scope="module")
def whole(base_url: str) -> str:
    run = run_flow(base_url, prompt=PROMPT, parameters=PARAMETERS, deadline_s=60.0)
    assert run.report.outcome == "complete"
    assert len(run.report.text) > 20
    tokens = [token for event in run.events if isinstance(event, TextDelta) for token in event.tokens]
    assert tokens
    assert all(token.logprob <= 0 for token in tokens)
    assert run.report.usage is not None
    assert run.report.usage["completion_tokens"] <= 16
    return run.report.text


PLANS = {
    "none": ("ok", 0),
    "refused twice": ("refused*2", 2),
    "cut before text": ("reset@1e", 1),
    "cut after one word": ("reset@2e", 1),
    "cut in the middle": ("reset@12e", 1),
    "cut twice, the second time earlier": ("reset@14e, reset@5e", 2),
    "cut twice, the second time later": ("reset@5e, reset@14e", 2),
    "refused, then cut": ("refused, reset@9e", 2),
}


@pytest.mark.parametrize("name", PLANS)
def test_an_answer_with_failures_equals_the_uninterrupted_one(name: str, base_url: str, whole: str) -> None:
    spec, failures = PLANS[name]
    plan = parse_plan(spec)
    run = run_flow(
        base_url,
        prompt=PROMPT,
        parameters=PARAMETERS,
        deterministic=True,
        retries=2,
        deadline_s=60.0,
        wrap_transport=lambda inner: FaultTransport(inner, plan),
    )
    assert run.report.text == whole
    assert run.report.exit_code == 0
    assert plan.injected == failures
    assert len([event for event in run.events if isinstance(event, Retrying)]) == failures
    assert all(event.cause.simulated for event in run.events if isinstance(event, Interrupted | Retrying))
    assert any(isinstance(event, Resumed) for event in run.events) == any(
        isinstance(event, Interrupted) for event in run.events
    )
