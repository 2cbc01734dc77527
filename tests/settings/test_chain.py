"""From settings to upstreams: what each target of a chain is given, and what is made when."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from utils.chain import TargetChain
from utils.resilience.continuation import Capabilities
from utils.run_context import EMBEDDED, Parameters, Target
from utils.settings import Settings
from utils.state_store import StateStore

SERVER = Target("http://127.0.0.1:9/v1", "m", api_key="sk-test-0123456789")
OURS = Target(EMBEDDED, "smollm2", is_deterministic=True)


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("KAYGRAPH_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state" / "state.sqlite3"


def chain(*targets: Target, made: list[Target] | None = None, wrap: Any = None, **values: object) -> TargetChain:
    def embedded(target: Target) -> Any:
        assert made is not None, "nobody asked the embedded model"
        made.append(target)
        raise AssertionError("stop here")

    settings = Settings.model_validate(values)
    return TargetChain(settings, targets, embedded=embedded, wrap_transport=wrap, prompt="Hi")


def test_the_embedded_model_behind_a_server_has_its_own_defaults_and_is_not_made_before_it_is_asked() -> None:
    server, ours = chain(SERVER, OURS).upstreams
    assert server.defaults == Parameters()
    assert ours.defaults == Parameters(temperature=0.2, max_tokens=512, seed=1)
    given = chain(SERVER, OURS, temperature=0.9, seed=5).upstreams[1]
    assert given.defaults == Parameters(temperature=0.9, max_tokens=512, seed=5)


def test_limits_are_per_target_and_have_room_for_the_request() -> None:
    assert chain(SERVER).upstreams[0].limiter is None
    first, second = chain(SERVER, OURS, tpm=1000, rpm=3).upstreams
    assert first.limiter is not None
    assert second.limiter is not None
    assert first.limiter is not second.limiter
    figures = second.limiter.statistics()
    assert (figures.requests_per_minute, figures.tokens_per_minute) == (3, 1000)
    assert figures.tokens_level is not None
    assert figures.tokens_level > 512


def test_only_an_adapting_run_hedges_and_never_the_embedded_model() -> None:
    assert [upstream.hedger is not None for upstream in chain(SERVER, OURS).upstreams] == [False, False]
    assert [upstream.hedger is not None for upstream in chain(SERVER, OURS, adaptive=True).upstreams] == [True, False]


def test_the_setting_says_how_an_answer_goes_on() -> None:
    assert chain(SERVER).upstreams[0].configured is None
    assert chain(SERVER, resume="never").upstreams[0].configured == Capabilities(False, None, False)


def test_retries_that_were_asked_for_are_within_the_budget() -> None:
    upstream = chain(SERVER, retries=9).upstreams[0]
    for _ in range(9):
        assert upstream.budget.allows(0.0)
        upstream.budget.spend(0.0)
    assert not upstream.budget.allows(0.0)


def test_what_was_measured_is_there_for_the_next_process(state: Path) -> None:
    first = chain(SERVER)
    for _ in range(30):
        first.upstreams[0].observed.first_content_s.observe(0.5)
    assert first.remember() is None
    asyncio.run(first.aclose())
    known = chain(SERVER).upstreams[0].observed.first_content_s
    assert known.count >= 29
    assert known.quantile(0.5) == pytest.approx(0.5, rel=0.03)


def test_a_breaker_is_shared_but_that_of_the_embedded_model(state: Path) -> None:
    first, second = chain(SERVER, OURS), chain(SERVER, OURS)
    for upstream in first.upstreams:
        for _ in range(5):
            permit: Any = upstream.breaker.admit(0.0)
            permit.fail(0.0)
    seen = [type(upstream.breaker.admit(0.0)).__name__ for upstream in second.upstreams]
    assert seen == ["Refused", "Permit"]


def test_a_run_with_simulated_failures_leaves_no_trace_and_marks_its_errors(state: Path) -> None:
    from utils.failures.marking import MarkingBackend

    simulated = chain(SERVER, wrap=lambda inner: inner)
    permit: Any = simulated.upstreams[0].breaker.admit(0.0)
    permit.fail(0.0)
    simulated.upstreams[0].observed.first_content_s.observe(1.0)
    assert simulated.remember() is None
    assert isinstance(simulated.upstreams[0].backend, MarkingBackend)
    assert not state.exists()


def test_a_file_that_cannot_be_used_is_told_only_where_it_was_needed(state: Path) -> None:
    state.parent.mkdir()
    state.write_text("something else")
    quiet = chain(SERVER)
    quiet.upstreams[0].observed.first_content_s.observe(1.0)
    assert quiet.remember() is None
    adapting = chain(SERVER, adaptive=True)
    adapting.upstreams[0].observed.first_content_s.observe(1.0)
    assert "is not a state file of this program" in str(adapting.remember())
    failed = chain(SERVER)
    permit: Any = failed.upstreams[0].breaker.admit(0.0)
    permit.fail(0.0)
    assert "is not a state file of this program" in str(failed.remember())


def test_the_store_is_closed_with_the_chain(state: Path) -> None:
    used = chain(SERVER)
    used.upstreams[0].observed.gap_s.observe(0.01)
    used.remember()
    asyncio.run(used.aclose())
    with StateStore(state) as other:
        assert other.load("unknown") is None


def test_a_run_may_hedge_with_what_earlier_runs_have_saved() -> None:
    for hedges, may in ((0, True), (1, True), (2, False)):
        before = chain(SERVER, adaptive=True)
        observed = before.upstreams[0].observed
        for _ in range(42 if hedges == 0 else 0):
            observed.first_content_s.observe(0.5)
        if hedges:
            observed.hedges.observe(1.0)
        before.remember()
        asyncio.run(before.aclose())
        hedger = chain(SERVER, adaptive=True).upstreams[0].hedger
        assert hedger is not None
        plan = hedger.plan()
        assert plan.delay_s == pytest.approx(0.5, rel=0.03)
        assert plan.may_start() is may


@pytest.mark.parametrize(("first_token_s", "least_s"), [(None, 60.0), (300.0, 300.0), (0.0, 3600.0)])
def test_a_probe_keeps_its_place_for_as_long_as_it_may_wait_for_text(
    first_token_s: float | None, least_s: float
) -> None:
    values = {} if first_token_s is None else {"first_token_timeout_s": first_token_s}
    assert chain(SERVER, **values).upstreams[0].breaker.policy.permit_s > least_s
