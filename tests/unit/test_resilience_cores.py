"""Breaker, back-off and replay: pure, with a fake clock."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from utils.errors import ResumeDiverged
from utils.events import Event, Finished, ReasoningDelta, TextDelta, TokenLogprob
from utils.resilience.backoff import Backoff
from utils.resilience.breaker import Breaker, BreakerState, Permit, Refused
from utils.resilience.resume import Replay


def permit(breaker: Breaker, now: float) -> Permit:
    given = breaker.admit(now)
    assert isinstance(given, Permit)
    return given


def opened(now: float = 0.0, **options: float) -> Breaker:
    breaker = Breaker(failure_threshold=3, open_s=10.0, max_open_s=30.0, **options)  # type: ignore[arg-type]
    for _ in range(3):
        permit(breaker, now).fail(now)
    assert breaker.statistics().state is BreakerState.OPEN
    return breaker


def test_the_breaker_opens_after_the_threshold_and_says_for_how_long() -> None:
    breaker = opened()
    assert breaker.admit(4.0) == Refused(6.0)
    assert breaker.statistics().refused == 1


def test_a_success_in_between_starts_the_count_anew() -> None:
    breaker = Breaker(failure_threshold=2)
    permit(breaker, 0.0).fail(0.0)
    permit(breaker, 0.0).succeed(0.0)
    permit(breaker, 0.0).fail(0.0)
    assert breaker.statistics().state is BreakerState.CLOSED


def test_half_open_lets_one_probe_through_and_its_success_closes() -> None:
    breaker = opened()
    probe = permit(breaker, 10.0)
    assert isinstance(breaker.admit(10.0), Refused)
    probe.succeed(11.0)
    assert breaker.statistics().state is BreakerState.CLOSED


def test_a_failed_probe_opens_for_twice_as_long_up_to_the_cap() -> None:
    breaker = opened()
    now, waits = 10.0, []
    for _ in range(4):
        permit(breaker, now).fail(now)
        refused = breaker.admit(now)
        assert isinstance(refused, Refused)
        waits.append(refused.retry_after_s)
        now += refused.retry_after_s
    assert waits == [20.0, 30.0, 30.0, 30.0]


def test_a_silent_probe_expires_and_a_living_one_does_not() -> None:
    breaker = opened(permit_s=5.0)
    silent = permit(breaker, 10.0)
    assert breaker.admit(14.0) == Refused(1.0)
    alive = permit(breaker, 15.0)
    alive.keep_alive(19.0)
    assert isinstance(breaker.admit(21.0), Refused)
    silent.succeed(22.0)
    assert breaker.statistics().state is BreakerState.HALF_OPEN
    alive.succeed(23.0)
    assert breaker.statistics().state is BreakerState.CLOSED


def test_a_probe_that_reports_after_its_expiry_has_no_say() -> None:
    breaker = opened(permit_s=5.0)
    permit(breaker, 10.0).succeed(15.0)
    assert breaker.statistics().state is BreakerState.HALF_OPEN


def test_late_results_of_an_earlier_generation_change_nothing() -> None:
    breaker = Breaker(failure_threshold=1, open_s=10.0)
    late_success, late_failure = permit(breaker, 0.0), permit(breaker, 0.0)
    permit(breaker, 0.0).fail(0.0)
    probe = permit(breaker, 10.0)
    late_success.succeed(10.0)
    assert breaker.statistics().state is BreakerState.HALF_OPEN
    probe.succeed(10.0)
    late_failure.fail(10.0)
    assert breaker.statistics().state is BreakerState.CLOSED


def test_a_release_is_no_verdict_and_only_the_first_report_counts() -> None:
    breaker = Breaker(failure_threshold=1)
    first = permit(breaker, 0.0)
    first.release(0.0)
    first.fail(0.0)
    assert breaker.statistics().state is BreakerState.CLOSED
    assert breaker.statistics().released == 1


@pytest.mark.parametrize("options", [{"failure_threshold": 0}, {"open_s": 0.0}, {"open_s": 2.0, "max_open_s": 1.0}])
def test_a_breaker_that_makes_no_sense_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="a breaker needs"):
        Breaker(**options)  # type: ignore[arg-type]


class BreakerMachine(RuleBasedStateMachine):
    """Any order of admissions, outcomes and time keeps the invariants."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(failure_threshold=2, open_s=4.0, max_open_s=9.0, half_open_permits=2, permit_s=6.0)
        self.now = 0.0
        self.permits: list[Permit] = []

    @rule(seconds=st.floats(0.1, 8.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def admit(self) -> None:
        answer = self.breaker.admit(self.now)
        if isinstance(answer, Permit):
            assert self.breaker.statistics().state is not BreakerState.OPEN
            self.permits.append(answer)
        else:
            assert 0.0 < answer.retry_after_s <= 9.0
            assert self.breaker.statistics().state is not BreakerState.CLOSED

    @precondition(lambda self: self.permits)
    @rule(data=st.data(), outcome=st.sampled_from(["succeed", "fail", "release"]))
    def report(self, data: st.DataObject, outcome: str) -> None:
        before = self.breaker.statistics()
        one = self.permits.pop(data.draw(st.integers(0, len(self.permits) - 1)))
        is_current = one.generation == self.breaker._generation
        getattr(one, outcome)(self.now)
        if not is_current or outcome == "release":
            assert self.breaker.statistics().state is before.state

    @invariant()
    def counts_add_up(self) -> None:
        s = self.breaker.statistics()
        assert s.admitted == s.succeeded + s.failed + s.released + len(self.permits)
        assert len(self.breaker._probes) <= 2
        assert s.failures_in_a_row < 2 or s.state is BreakerState.OPEN


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=60, stateful_step_count=30)


@given(st.integers(1, 5000), st.integers(0, 2**32))
def test_backoff_stays_between_zero_and_its_cap(attempt: int, seed: int) -> None:
    delay_s = Backoff(0.25, 8.0).delay_s(attempt, random.Random(seed))
    assert 0.0 <= delay_s <= min(8.0, 0.25 * 2.0 ** min(attempt - 1, 60))


def test_backoff_counts_attempts_from_one() -> None:
    with pytest.raises(ValueError, match="counts from 1"):
        Backoff().delay_s(0, random.Random(1))


def texts(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def cut(text: str, places: list[int]) -> list[str]:
    bounds = sorted({min(place, len(text)) for place in places} | {0, len(text)})
    return [text[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]


@given(st.text(max_size=40), st.integers(0, 40), st.lists(st.integers(0, 40), max_size=6))
def test_a_replay_delivers_exactly_what_lies_behind_the_delivered_text(
    text: str, delivered: int, places: list[int]
) -> None:
    delivered = min(delivered, len(text))
    replay = Replay(text[:delivered])
    passed = replay.feed([TextDelta(piece) for piece in cut(text, places)])
    assert texts(passed) == text[delivered:]
    assert replay.is_caught_up
    assert replay.overlap_chars == delivered
    assert all(event.text for event in passed if isinstance(event, TextDelta))


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20), st.lists(st.integers(0, 20), max_size=5))
def test_a_replay_that_differs_is_refused_and_shows_nothing(delivered: str, other: str, places: list[int]) -> None:
    replay = Replay(delivered)
    events = [TextDelta(piece) for piece in cut(other, places)]
    if other.startswith(delivered) or delivered.startswith(other):
        assert texts(replay.feed(events)) == other[len(delivered) :]
    else:
        with pytest.raises(ResumeDiverged, match="differs from the first one at character"):
            replay.feed(events)


def test_tokens_and_reasoning_of_the_overlap_do_not_pass() -> None:
    replay = Replay("Hello")
    tokens = (TokenLogprob("x", -1.0),)
    assert replay.feed([ReasoningDelta("hm"), TextDelta("Hel", tokens), TextDelta("lo wor", tokens)]) == [
        TextDelta(" wor")
    ]
    assert replay.feed([TextDelta("ld", tokens)]) == [TextDelta("ld", tokens)]


def test_a_replay_that_ends_early_is_refused() -> None:
    replay = Replay("Hello")
    with pytest.raises(ResumeDiverged, match="ended after 3 characters"):
        replay.feed([TextDelta("Hel"), Finished("stop")])
