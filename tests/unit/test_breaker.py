"""The circuit breaker: every pair of state and signal, its thresholds and its times."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable

import pytest

from kaygraph import Node
from utils.resilience.breaker import Breaker, BreakerState, ChangeCause, Permit, Refused, StateChange
from utils.resilience.breaker_policy import BreakerPolicy
from utils.resilience.target_states import TargetStates, target_key
from utils.run_context import EMBEDDED, Target

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
POLICY = BreakerPolicy(failure_threshold=2, open_s=10.0, max_open_s=30.0, permit_s=5.0, slow_after_s=3.0)


def admitted(breaker: Breaker, now: float) -> Permit:
    permit = breaker.admit(now)
    assert isinstance(permit, Permit)
    return permit


def refused(breaker: Breaker, now: float) -> Refused:
    answer = breaker.admit(now)
    assert isinstance(answer, Refused)
    return answer


def brought_to(state: BreakerState) -> tuple[Breaker, Permit, Permit, float]:
    """A breaker in *state*, a permit of its generation (none if open: the same as the old), an old one, and now."""
    breaker = Breaker(POLICY)
    old = admitted(breaker, 0.0)
    for _ in range(2):
        admitted(breaker, 0.0).fail(0.0)
    if state is OPEN:
        return breaker, old, old, 1.0
    probe = admitted(breaker, 10.0)
    if state is HALF_OPEN:
        return breaker, probe, old, 11.0
    probe.succeed(11.0)
    return breaker, admitted(breaker, 11.0), old, 12.0


SIGNALS: dict[str, Callable[[Permit, float], None]] = {
    "first content": lambda permit, now: permit.first_content(now),
    "slow first content": lambda permit, now: permit.first_content(now + 3.0),
    "success": lambda permit, now: permit.succeed(now),
    "failure": lambda permit, now: permit.fail(now),
    "failure that asks for time": lambda permit, now: permit.fail(now, retry_after_s=60.0),
    "429": lambda permit, now: permit.cool_down(now, 7.0),
    "429 without a time": lambda permit, now: permit.cool_down(now, None),
    "cancel or 4xx": lambda permit, now: permit.release(now),
    "more content": lambda permit, now: permit.keep_alive(now),
}
# What a signal on a permit of the present generation makes of a state, and how long calls are refused after it.
TABLE: dict[tuple[BreakerState, str], tuple[BreakerState, float]] = {
    (CLOSED, "first content"): (CLOSED, 0.0),
    (CLOSED, "slow first content"): (CLOSED, 0.0),
    (CLOSED, "success"): (CLOSED, 0.0),
    (CLOSED, "failure"): (CLOSED, 0.0),
    (CLOSED, "failure that asks for time"): (CLOSED, 30.0),
    (CLOSED, "429"): (CLOSED, 7.0),
    (CLOSED, "429 without a time"): (CLOSED, 0.0),
    (CLOSED, "cancel or 4xx"): (CLOSED, 0.0),
    (CLOSED, "more content"): (CLOSED, 0.0),
    (HALF_OPEN, "first content"): (CLOSED, 0.0),
    (HALF_OPEN, "slow first content"): (OPEN, 23.0),
    (HALF_OPEN, "success"): (CLOSED, 0.0),
    (HALF_OPEN, "failure"): (OPEN, 20.0),
    (HALF_OPEN, "failure that asks for time"): (OPEN, 30.0),
    (HALF_OPEN, "429"): (HALF_OPEN, 7.0),
    (HALF_OPEN, "429 without a time"): (HALF_OPEN, 0.0),
    (HALF_OPEN, "cancel or 4xx"): (HALF_OPEN, 0.0),
    (HALF_OPEN, "more content"): (HALF_OPEN, 5.0),
}


@pytest.mark.parametrize(("state", "signal"), TABLE)
def test_a_signal_of_the_present_generation(state: BreakerState, signal: str) -> None:
    breaker, permit, _, now = brought_to(state)
    SIGNALS[signal](permit, now)
    expected, wait_s = TABLE[state, signal]
    assert breaker.statistics().state is expected
    answer = breaker.admit(now)
    assert (answer.retry_after_s if isinstance(answer, Refused) else 0.0) == pytest.approx(wait_s)
    assert isinstance(answer, Permit) or answer.is_cooldown == (signal in ("429", "failure that asks for time"))


# Who asks for a permit: the state after it, and how long it is refused. The probe that is out was admitted at 10.
ADMISSIONS: dict[tuple[BreakerState, float], tuple[BreakerState, float]] = {
    (CLOSED, 12.0): (CLOSED, 0.0),
    (OPEN, 1.0): (OPEN, 9.0),
    (OPEN, 10.0): (HALF_OPEN, 0.0),
    (HALF_OPEN, 11.0): (HALF_OPEN, 4.0),
    (HALF_OPEN, 15.0): (HALF_OPEN, 0.0),
}


@pytest.mark.parametrize(("state", "now"), ADMISSIONS)
def test_an_admission(state: BreakerState, now: float) -> None:
    breaker = brought_to(state)[0]
    expected, wait_s = ADMISSIONS[state, now]
    answer = breaker.admit(now)
    assert (answer.retry_after_s if isinstance(answer, Refused) else 0.0) == pytest.approx(wait_s)
    assert breaker.statistics().state is expected


@pytest.mark.parametrize("state", BreakerState)
def test_time_changes_no_state_until_somebody_asks(state: BreakerState) -> None:
    breaker, _, _, now = brought_to(state)
    before = breaker.statistics()
    after = breaker.statistics(now + 3600.0)
    assert (after.state, after.generation, after.opened) == (before.state, before.generation, before.opened)
    assert (after.retry_after_s, after.probes, after.window_calls) == (0.0, 0, 0)
    assert breaker.changes_since(before.generation) == ()


@pytest.mark.parametrize("somebody_asks", [False, True])
@pytest.mark.parametrize("state", BreakerState)
def test_the_expiry_of_a_permit_changes_no_state_and_is_no_outcome(state: BreakerState, somebody_asks: bool) -> None:
    breaker, permit, _, _ = brought_to(state)
    before = breaker.statistics()
    now = max(permit.expires_s, 10.0)
    figures = breaker.statistics(now)
    assert (figures.state, figures.failed, figures.released, figures.probes) == (state, before.failed, 0, 0)
    if somebody_asks:
        admitted(breaker, now)
    permit.succeed(now)
    after = breaker.statistics()
    assert after.state is (HALF_OPEN if state is OPEN and somebody_asks else state)
    assert after.ignored == before.ignored + (state is not CLOSED)


def test_a_probe_at_the_told_instant_is_not_refused_for_the_resolution_of_a_clock() -> None:
    breaker, _, _, now = brought_to(HALF_OPEN)
    admitted(breaker, now + refused(breaker, now).retry_after_s - 1e-9)


@pytest.mark.parametrize("state", BreakerState)
@pytest.mark.parametrize("signal", SIGNALS)
def test_a_late_signal_of_an_earlier_generation_changes_no_state(state: BreakerState, signal: str) -> None:
    breaker, _, old, now = brought_to(state)
    before = breaker.statistics(now)
    SIGNALS[signal](old, now)
    after = breaker.statistics(now)
    for name in ("state", "generation", "failures_in_a_row", "consecutive_opens", "window_calls", "probes", "opened"):
        assert getattr(after, name) == getattr(before, name), name
    assert after.ignored == before.ignored + (signal in ("success", "failure", "failure that asks for time"))
    assert before.retry_after_s is not None
    asked_s = {"429": 7.0, "failure that asks for time": 30.0}.get(signal, 0.0)
    assert after.retry_after_s == pytest.approx(max(before.retry_after_s, asked_s))


@pytest.mark.parametrize("first", ["success", "failure", "429", "cancel or 4xx"])
@pytest.mark.parametrize("second", SIGNALS)
def test_only_the_first_outcome_of_a_permit_counts(first: str, second: str) -> None:
    breaker, permit, _, now = brought_to(CLOSED)
    SIGNALS[first](permit, now)
    before = breaker.statistics(now)
    SIGNALS[second](permit, now)
    assert breaker.statistics(now) == before


def test_a_failure_after_the_first_content_of_the_probe_that_closed_counts() -> None:
    breaker, probe, _, now = brought_to(HALF_OPEN)
    probe.first_content(now)
    probe.fail(now + 20.0)
    assert breaker.statistics().failures_in_a_row == 1
    assert breaker.statistics().ignored == 0


def test_the_open_time_doubles_until_an_answer_is_whole() -> None:
    breaker, probe, _, now = brought_to(HALF_OPEN)
    probe.first_content(now)
    probe.fail(now)
    admitted(breaker, now).fail(now)
    assert refused(breaker, now).retry_after_s == pytest.approx(20.0)
    whole = admitted(breaker, now + 20.0)
    whole.first_content(now + 20.0)
    whole.succeed(now + 20.0)
    for _ in range(2):
        admitted(breaker, now + 21.0).fail(now + 21.0)
    assert refused(breaker, now + 21.0).retry_after_s == pytest.approx(10.0)


def ended(breaker: Breaker, outcomes: str, *, start: float = 0.0, step: float = 1.0) -> None:
    """Calls that end one after the other: S whole, F failed, L late (slow) and whole, X late and failed."""
    for i, outcome in enumerate(outcomes):
        now = start + i * step
        permit = admitted(breaker, now - 9.0)
        permit.first_content(now - (9.0 if outcome in "SF" else 0.0))
        (permit.succeed if outcome in "SL" else permit.fail)(now)


RATES: dict[str, tuple[str, ChangeCause | None]] = {
    "half of the calls failed": ("SFSFSFSF", ChangeCause.FAILURE_RATE),
    "too few calls to say": ("SFSFSF", None),
    "less than half of the calls failed": ("SFSFSFSSFSSFSSFSSF", None),
    "the rate is reached by a success": ("FSFFSFSS", None),
    "most of the calls were slow": ("LLSLLLSLLL", ChangeCause.SLOW_RATE),
    "not enough of the calls were slow": ("LLSLLSLLSLLS", None),
    "slow failures count as failed": ("SXSXSXSX", ChangeCause.FAILURE_RATE),
    "slow failures count as slow": ("LLLLLLLX", ChangeCause.SLOW_RATE),
    "five failures in a row": ("FFFFF", ChangeCause.FAILURES_IN_A_ROW),
    "a success in between": ("FFFFSFF", None),
}


@pytest.mark.parametrize("name", RATES)
def test_rates_open_the_breaker(name: str) -> None:
    outcomes, cause = RATES[name]
    changes: list[StateChange] = []
    breaker = Breaker(minimum_calls=8, window_calls=20, slow_after_s=3.0, slow_rate=0.8)
    breaker.add_listener(changes.append)
    ended(breaker, outcomes)
    assert [change.cause for change in changes] == ([] if cause is None else [cause])


@pytest.mark.parametrize("kind", ["failure", "slow"])
@pytest.mark.parametrize(("per_mille", "calls"), [(140, 50), (70, 100), (280, 25), (350, 20), (550, 100)])
def test_a_rate_that_is_reached_exactly_opens_whatever_its_rounding(kind: str, per_mille: int, calls: int) -> None:
    bad = per_mille * calls // 1000
    rates = {f"{kind}_rate": per_mille / 1000}
    breaker = Breaker(failure_threshold=101, minimum_calls=calls, window_calls=calls, slow_after_s=3.0, **rates)
    ended(breaker, "S" * (calls - bad) + ("F" if kind == "failure" else "L") * (bad - 1), step=0.01)
    assert breaker.statistics().state is CLOSED
    ended(breaker, "F" if kind == "failure" else "L", start=2.0)
    assert breaker.statistics().state is OPEN


def test_the_window_forgets_by_count_and_by_age() -> None:
    breaker = Breaker(minimum_calls=4, window_calls=6, window_s=30.0)
    ended(breaker, "FFSSSSSS")
    figures = breaker.statistics(8.0)
    assert (figures.window_calls, figures.window_failures) == (6, 0)
    ended(breaker, "F", start=9.0)
    assert breaker.statistics(36.9).window_calls == 2
    assert breaker.statistics(39.0).window_calls == 0
    ended(breaker, "F" * 3, start=40.0)
    assert breaker.statistics().state is CLOSED


def test_jitter_only_shortens_and_is_reproducible() -> None:
    waits = []
    for seed in (*range(30), 0):
        breaker = Breaker(failure_threshold=1, open_s=10.0, jitter=0.2, rng=random.Random(seed))
        admitted(breaker, 0.0).fail(0.0)
        waits.append(refused(breaker, 0.0).retry_after_s)
    assert all(8.0 <= wait <= 10.0 for wait in waits)
    assert len(set(waits)) == 30
    assert waits[0] == waits[-1]


@pytest.mark.parametrize("asked_s", [12.0, 1e9, -3.0])
def test_a_server_cannot_ask_for_more_than_the_cap(asked_s: float) -> None:
    breaker = Breaker(POLICY)
    admitted(breaker, 0.0).cool_down(0.0, asked_s)
    figures = breaker.statistics(0.0)
    assert figures.retry_after_s == min(max(asked_s, 0.0), 30.0)
    assert (figures.failed, figures.failures_in_a_row, figures.rate_limited) == (0, 0, 1)


def test_a_retry_at_the_asked_instant_is_not_refused_for_a_rounding_error() -> None:
    breaker = Breaker()
    admitted(breaker, 0.1).cool_down(0.1, 0.7)
    assert isinstance(breaker.admit(0.1 + 0.7 - 1e-9), Permit)


@pytest.mark.parametrize(
    "options",
    [
        {"failure_threshold": 0},
        {"half_open_permits": 0},
        {"minimum_calls": 0},
        {"minimum_calls": 51},
        {"failure_rate": 0.0},
        {"failure_rate": 1.1},
        {"slow_rate": 0.0},
        {"slow_after_s": 0.0},
        {"jitter": 1.0},
        {"jitter": -0.1},
        {"open_s": 0.0},
        {"open_s": 2.0, "max_open_s": 1.0},
        {"max_open_s": float("inf")},
        {"max_open_s": float("nan")},
        {"window_s": 0.0},
        {"window_s": float("nan")},
        {"permit_s": 0.0},
        {"permit_s": float("inf")},
        {"permit_s": float("nan")},
    ],
    ids=str,
)
def test_a_policy_that_makes_no_sense_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="a breaker needs"):
        Breaker(**options)


def test_listeners_hear_every_change_and_may_ask_the_breaker() -> None:
    breaker = Breaker(POLICY)
    heard: list[tuple[StateChange, BreakerState]] = []
    breaker.add_listener(lambda change: heard.append((change, breaker.statistics().state)))
    for _ in range(2):
        admitted(breaker, 0.0).fail(0.0)
    admitted(breaker, 10.0).fail(11.0)
    admitted(breaker, 31.0).first_content(32.0)
    assert [(c.before, c.after, c.cause, c.at_s, c.open_for_s) for c, _ in heard] == [
        (CLOSED, OPEN, ChangeCause.FAILURES_IN_A_ROW, 0.0, 10.0),
        (OPEN, HALF_OPEN, ChangeCause.OPEN_TIME_PASSED, 10.0, 0.0),
        (HALF_OPEN, OPEN, ChangeCause.PROBE_FAILED, 11.0, 20.0),
        (OPEN, HALF_OPEN, ChangeCause.OPEN_TIME_PASSED, 31.0, 0.0),
        (HALF_OPEN, CLOSED, ChangeCause.PROBE_SUCCEEDED, 32.0, 0.0),
    ]
    assert [c.generation for c, _ in heard] == [1, 2, 3, 4, 5]
    assert all(seen is change.after for change, seen in heard)


def test_a_copied_node_shares_its_breaker() -> None:
    node = Node()
    node.breaker = Breaker(failure_threshold=1)
    node.states = TargetStates()
    for twin in (copy.copy(node), copy.deepcopy(node)):
        assert twin is not node
        assert twin.breaker is node.breaker
        assert twin.states is node.states


def test_statistics_are_ready_for_json() -> None:
    row = brought_to(HALF_OPEN)[0].statistics(11.0).as_json()
    assert row["state"] == "half_open"
    assert all(value is None or isinstance(value, int | float | str) for value in row.values())


def test_each_target_has_one_breaker() -> None:
    states = TargetStates(BreakerPolicy(failure_threshold=1))
    breaker = states.breaker(Target("https://API.example/v1/", "m", api_key="k"))
    assert states.breaker(Target("https://api.example/v1", "m")) is breaker
    assert states.breaker(Target("https://api.example/v1", "n")) is not breaker
    assert states.breaker(Target(EMBEDDED, "m")) is not breaker
    admitted(breaker, 0.0).fail(0.0)
    open_ones = [name for name, figures in states.statistics(1.0).items() if figures.retry_after_s]
    assert open_ones == ["m at https://API.example/v1/"]


def test_a_key_does_not_show_the_address() -> None:
    key = target_key("https://user:secret@host.example/v1?token=abc", "m")
    assert key == target_key("HTTPS://Host.Example/v1/?token=abc", "m")
    assert key != target_key("https://host.example/v1", "m")
    assert len(key) == 32
    assert not {"secret", "abc", "host"} & set(key.split("/"))
    assert int(key, 16)
