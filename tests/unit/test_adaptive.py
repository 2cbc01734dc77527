"""What is adjusted, when, and that each change is told."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.events import Adapted
from utils.metrics.sketch import Sketch
from utils.resilience.adaptive import (
    Aimd,
    DeadlinePolicy,
    OrderPolicy,
    Outcome,
    TargetFigures,
    adapted_deadlines,
    adapted_hedge_delay,
    ordered_targets,
)
from utils.resilience.hedging import HedgePolicy
from utils.resilience.latency_window import LatencyWindow, WeighedValues
from utils.run_context import Deadlines

SET = Deadlines(first_token_s=60.0, idle_s=30.0)
NEVER, ALWAYS = OrderPolicy(explore=0.0), OrderPolicy(explore=1.0)


def window(value: float, count: int = 20) -> LatencyWindow:
    made = LatencyWindow(1_000)
    for _ in range(count):
        made.observe(value)
    return made


@pytest.mark.parametrize(
    ("usual_s", "count", "first_token_s"),
    [
        (2.0, 20, 6.0),
        (2.0, 19, 60.0),
        (0.1, 20, 2.0),
        (30.0, 20, 60.0),
        (16.0, 20, 60.0),  # 48 s is less than a quarter away
        (14.0, 20, 42.0),
    ],
)
def test_the_first_token_deadline_follows_what_is_usual_within_its_bounds(
    usual_s: float, count: int, first_token_s: float
) -> None:
    deadlines, changes = adapted_deadlines(SET, SET, window(usual_s, count), LatencyWindow())
    assert deadlines.first_token_s == pytest.approx(first_token_s)
    assert bool(changes) is (first_token_s != 60.0)
    assert deadlines.idle_s == 30.0


def test_each_change_is_told_with_its_reason_and_a_second_look_changes_nothing() -> None:
    deadlines, changes = adapted_deadlines(SET, SET, window(2.0), window(3.0, 200))
    assert changes == (
        Adapted("first-token deadline", "60 s", "6 s", "3 x p95 of 20 observations, 2 s"),
        Adapted("idle deadline", "30 s", "9 s", "3 x p99 of 200 observations, 3 s"),
    )
    assert adapted_deadlines(SET, deadlines, window(2.0), window(3.0, 200)) == (deadlines, ())


def test_a_deadline_widens_again_up_to_what_was_set_and_for_a_long_prompt() -> None:
    tight = Deadlines(first_token_s=6.0, idle_s=30.0)
    assert adapted_deadlines(SET, tight, window(50.0), LatencyWindow())[0].first_token_s == 60.0
    assert adapted_deadlines(SET, tight, window(2.0), LatencyWindow(), scale=3.0)[0].first_token_s == pytest.approx(
        18.0
    )
    assert adapted_deadlines(SET, tight, window(2.0), LatencyWindow(), scale=0.1) == (tight, ())


def test_a_deadline_that_is_off_stays_off() -> None:
    off = Deadlines(first_token_s=None, idle_s=None)
    assert adapted_deadlines(off, off, window(2.0), window(3.0, 999)) == (off, ())


@given(st.floats(0.0, 1e6), st.integers(0, 60), st.floats(0.1, 600.0), st.floats(0.1, 600.0))
def test_no_deadline_leaves_its_bounds(usual_s: float, count: int, limit_s: float, current_s: float) -> None:
    current_s = min(current_s, limit_s)
    limits, current = Deadlines(first_token_s=limit_s), Deadlines(first_token_s=current_s)
    after, _ = adapted_deadlines(limits, current, window(usual_s, count), LatencyWindow())
    assert after.first_token_s is not None
    floor_s = min(DeadlinePolicy().first_token_floor_s, limit_s, current_s)
    assert floor_s <= after.first_token_s <= limit_s


def test_the_hedge_delay_is_told_when_it_begins_and_when_it_moves_by_a_quarter() -> None:
    policy = HedgePolicy()
    assert adapted_hedge_delay(None, window(1.0, 19), policy) == (None, None)
    begun = Adapted("hedge delay", "off", "1 s", "p95 of 20 first-content times")
    assert adapted_hedge_delay(None, window(1.0), policy) == (1.0, begun)
    assert adapted_hedge_delay(1.0, window(1.2), policy) == (1.0, None)
    assert adapted_hedge_delay(1.0, window(1.3), policy)[0] == 1.3


def target(name: str, first_s: float, tokens_per_s: float, count: int = 20) -> TargetFigures:
    return TargetFigures(name, window(first_s, count), window(tokens_per_s, count))


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        ([target("a", 5.0, 30.0), target("b", 0.5, 100.0)], ("b", "a")),
        ([target("a", 0.5, 100.0), target("b", 5.0, 30.0)], ("a", "b")),
        ([target("a", 0.5, 100.0), target("b", 0.1, 110.0)], ("a", "b")),  # 3.5 s and 2.8 s: 19 %, within the margin
        ([target("a", 0.1, 10.0), target("b", 5.0, 100.0)], ("b", "a")),  # late, but soon done
        ([target("a", 5.0, 30.0, 9), target("b", 0.5, 100.0)], ("a", "b")),  # nothing is known against a
        ([target("a", 9.0, 9.0), target("b", 1.0, 1.0, 0), target("c", 0.5, 100.0)], ("c", "b", "a")),
        ([target("a", 9.0, 0.0)], ("a",)),
        ([target("a", 9.0, 0.0), target("b", 0.5, 100.0)], ("a", "b")),
        ([], ()),
    ],
)
def test_targets_are_ordered_by_the_expected_time_of_an_answer(
    targets: list[TargetFigures], names: tuple[str, ...]
) -> None:
    order = ordered_targets(targets, rng=random.Random(1), policy=NEVER)
    assert order.names == names
    assert (order.adapted is None) is (names == tuple(t.name for t in targets))


def test_a_new_order_says_why() -> None:
    order = ordered_targets([target("a", 5.0, 30.0), target("b", 0.5, 100.0)], rng=random.Random(1), policy=NEVER)
    reason = "expected time of an answer of 300 tokens: a 15 s, b 3.5 s"
    assert order.adapted == Adapted("order of targets", "a, b", "b, a", reason)


def test_one_request_in_twenty_explores() -> None:
    rng, targets = random.Random(3), [target("a", 0.5, 100.0), target("b", 5.0, 30.0), target("c", 5.0, 30.0)]
    orders = [ordered_targets(targets, rng=rng) for _ in range(4_000)]
    explored = [order for order in orders if order.is_exploration]
    assert 0.04 < len(explored) / len(orders) < 0.06
    assert {order.names[0] for order in explored} == {"b", "c"}
    assert all(order.adapted is not None and "exploration" in order.adapted.reason for order in explored)


@given(st.lists(st.tuples(st.floats(0.01, 20.0), st.floats(0.1, 500.0), st.integers(0, 20)), max_size=5), st.integers())
def test_every_order_holds_every_target_once(figures: list[tuple[float, float, int]], seed: int) -> None:
    targets = [target(str(i), *figure) for i, figure in enumerate(figures)]
    for policy in (NEVER, ALWAYS):
        order = ordered_targets(targets, rng=random.Random(seed), policy=policy)
        assert sorted(order.names) == [t.name for t in targets]


# Concurrency.


def rounds(aimd: Aimd, count: int, now: float = 0.0) -> list[Adapted]:
    changes = (
        aimd.note("delivered", now=now, started_s=now, in_flight=aimd.limit)
        for _ in range(count)
        for _ in range(aimd.limit)
    )
    return [change for change in changes if change is not None]


def test_one_more_for_each_full_round_and_half_after_an_overload() -> None:
    aimd = Aimd(initial=2, maximum=8)
    assert rounds(aimd, 3)[0] == Adapted("concurrency", "2", "3", "2 at once were all answered")
    assert aimd.limit == 5
    change = aimd.note("overloaded", now=1.0, started_s=0.5, in_flight=5, cause="429")
    assert change == Adapted("concurrency", "5", "2", "429")
    rounds(aimd, 50)
    assert aimd.limit == 8


def test_an_overload_counts_once_for_all_that_ran_into_it() -> None:
    aimd = Aimd(initial=16)
    for started_s in (0.1, 0.2, 0.3):
        aimd.note("overloaded", now=1.0, started_s=started_s, in_flight=16)
    assert aimd.limit == 8
    aimd.note("overloaded", now=2.0, started_s=1.0, in_flight=8)
    assert aimd.limit == 4


def test_what_proves_nothing_changes_nothing() -> None:
    aimd = Aimd(initial=4)
    for _ in range(50):
        assert aimd.note("delivered", now=0.0, started_s=0.0, in_flight=3) is None
        assert aimd.note("other", now=0.0, started_s=0.0, in_flight=4) is None
    assert aimd.statistics().limit == 4


def test_a_stable_server_of_ten_is_used_well_and_seldom_overrun() -> None:
    aimd, overloads, used = Aimd(initial=1), 0, 0
    for round_number in range(300):
        now, limit = float(round_number), aimd.limit
        used += min(limit, 10)
        for place in range(limit):
            outcome: Outcome = "delivered" if place < 10 else "overloaded"
            overloads += outcome == "overloaded"
            aimd.note(outcome, now=now + 0.5, started_s=now, in_flight=limit)
    assert used / 300 > 7.0
    assert overloads / used < 0.03


@given(st.lists(st.tuples(st.sampled_from(["delivered", "overloaded", "other"]), st.integers(1, 40)), max_size=200))
def test_the_limit_never_leaves_its_bounds_and_every_change_is_told(steps: list[tuple[Outcome, int]]) -> None:
    aimd = Aimd(initial=3, minimum=2, maximum=6)
    for now, (outcome, in_flight) in enumerate(steps):
        before = aimd.limit
        change = aimd.note(outcome, now=float(now), started_s=float(now), in_flight=in_flight)
        assert 2 <= aimd.limit <= 6
        assert (change is not None) is (aimd.limit != before)


def test_bounds_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="AIMD needs"):
        Aimd(initial=0)


def test_faded_figures_decide_nothing_any_more() -> None:
    sketch = Sketch()
    for _ in range(25):
        sketch.add(2.0)
    adapted, _ = adapted_deadlines(SET, SET, WeighedValues(sketch), LatencyWindow())
    assert adapted.first_token_s == pytest.approx(6.0, rel=0.1)
    sketch.fade(0.5)
    assert adapted_deadlines(SET, SET, WeighedValues(sketch), LatencyWindow()) == (SET, ())
