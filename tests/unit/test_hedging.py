"""Hedging: when, how often, who wins, and that nothing is left behind. In virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.virtual_time import virtually
from utils.errors import AuthFailed, InternalError, RateLimited, ServerFailure
from utils.metrics.percentiles import percentile
from utils.resilience.hedged import Hedged, hedged
from utils.resilience.hedging import HedgePlan, HedgePolicy, Hedger, hedge_delay_s
from utils.resilience.latency_window import LatencyWindow

# The core.


def window(*values: float) -> LatencyWindow:
    made = LatencyWindow()
    for value in values:
        made.observe(value)
    return made


@given(st.lists(st.floats(0.0, 100.0), max_size=80), st.integers(1, 20), st.floats(0.0, 1.0))
def test_a_window_knows_the_quantiles_of_its_newest_values(values: list[float], size: int, q: float) -> None:
    made = LatencyWindow(size)
    for value in values:
        made.observe(value)
    newest = sorted(values[-size:])
    assert made.count == len(newest)
    assert made.quantile(q) == (percentile(newest, q) if newest else None)


@pytest.mark.parametrize(
    ("values", "delay_s"),
    [([0.5] * 19, None), ([0.5] * 20, 0.5), ([0.001] * 20, 0.05), ([100.0] * 20, 30.0), ([], None)],
)
def test_the_delay_needs_samples_and_keeps_its_bounds(values: list[float], delay_s: float | None) -> None:
    assert hedge_delay_s(window(*values), HedgePolicy()) == delay_s


@pytest.mark.parametrize(
    "options",
    [{"quantile": 1.0}, {"min_samples": 0}, {"min_delay_s": 40.0}, {"budget_ratio": 2.0}, {"budget_burst": 0.5}],
)
def test_a_policy_that_makes_no_sense_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="a hedge"):
        HedgePolicy(**options)  # type: ignore[arg-type]


def test_the_budget_is_earned_by_requests_and_saved_up_to_its_burst() -> None:
    hedger = Hedger(HedgePolicy(budget_ratio=0.25, budget_burst=2.0))
    assert [hedger.plan().may_start() for _ in range(8)] == [False, False, False, True] * 2
    for _ in range(100):
        plan = hedger.plan()
    assert [plan.may_start() for _ in range(4)] == [True, True, False, False]
    assert hedger.statistics().refused_budget == 8


def test_no_hedge_goes_to_a_target_that_is_not_ready_and_none_is_charged() -> None:
    hedger = Hedger(HedgePolicy(budget_ratio=1.0))
    assert not hedger.plan(lambda: False).may_start()
    assert (hedger.statistics().refused_target, hedger.statistics().hedges, hedger.statistics().budget) == (1, 0, 1.0)


@pytest.mark.parametrize(
    ("error", "goes"),
    [
        (ServerFailure("503"), True),
        (ServerFailure("503", retry_after_s=2.0), False),
        (RateLimited("429", retry_after_s=2.0), False),
        (AuthFailed("401"), False),
        (ValueError("bug"), False),
    ],
    ids=str,
)
def test_what_the_second_request_may_stand_in_for(error: Exception, goes: bool) -> None:
    assert Hedger().plan().fails_over(error) is goes
    assert not Hedger().plan(lambda: False).fails_over(error)


def test_a_loser_is_remembered_by_its_age_and_another_target_is_not() -> None:
    latencies = LatencyWindow()
    hedger = Hedger(latencies=latencies)
    hedger.note_winner("first", 0.3, None)
    hedger.note_winner("second", 0.1, 0.9)
    hedger.note_winner("second", 7.0, 1.1, is_same_target=False)
    assert (latencies.count, latencies.quantile(0.0), latencies.quantile(1.0)) == (4, 0.1, 1.1)


# The driver.


@dataclass
class Opening:
    """What one opener does, and what became of what it opened."""

    after_s: float = 0.0
    error: BaseException | None = None
    unwinds_s: float = 0.0
    ignores_cancel: bool = False
    started_s: list[float] = field(default_factory=list)
    cancelled: int = 0
    closed: int = 0

    async def __call__(self) -> Opening:
        loop = asyncio.get_running_loop()
        self.started_s.append(loop.time())
        try:
            await asyncio.sleep(self.after_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            await asyncio.sleep(self.unwinds_s)
            if not self.ignores_cancel:
                raise
        if self.error is not None:
            raise self.error
        return self

    async def close(self) -> None:
        self.closed += 1


def plan(delay_s: float | None = 1.0, *, may_start: bool = True, fails_over: bool = True) -> HedgePlan:
    return HedgePlan(delay_s, lambda: may_start, lambda _: fails_over)


async def close(opening: Opening) -> None:
    await opening.close()


def race(first: Opening, second: Opening, made: HedgePlan | None = None) -> Hedged[Opening]:
    async def main() -> Hedged[Opening]:
        return await hedged(first, second, made or plan(), asyncio.get_running_loop().time, close=close)

    return virtually(main)


def test_a_first_request_in_time_is_alone() -> None:
    first, second = Opening(0.9), Opening()
    assert race(first, second) == Hedged(first, "first", 0.9, None, was_second_sent=False)
    assert (second.started_s, first.closed) == ([], 0)


def test_a_late_first_request_is_overtaken_and_cancelled() -> None:
    first, second = Opening(9.0), Opening(0.5)
    assert race(first, second) == Hedged(second, "second", 0.5, 1.5, was_second_sent=True)
    assert (second.started_s, first.cancelled, second.closed) == ([1.0], 1, 0)


def test_a_late_first_request_may_still_win() -> None:
    first, second = Opening(1.2), Opening(0.5)
    assert race(first, second) == Hedged(first, "first", 1.2, None, was_second_sent=True)
    assert (second.cancelled, first.closed) == (1, 0)


def test_of_two_at_the_same_instant_the_first_wins_and_the_second_is_closed() -> None:
    first, second = Opening(1.5), Opening(0.5)
    assert race(first, second).winner == "first"
    assert (first.closed, second.closed + second.cancelled) == (0, 1)


def test_without_a_delay_or_leave_there_is_no_second() -> None:
    for made in (plan(None), plan(may_start=False)):
        first, second = Opening(9.0), Opening()
        assert race(first, second, made).winner == "first"
        assert second.started_s == []


def test_a_first_failure_starts_the_second_at_once() -> None:
    first, second = Opening(0.25, ServerFailure("503")), Opening(0.5)
    assert race(first, second) == Hedged(second, "second", 0.5, None, was_second_sent=True)
    assert second.started_s == [0.25]


def test_a_final_failure_is_raised_and_starts_nothing() -> None:
    refused = AuthFailed("401")
    second = Opening()
    with pytest.raises(AuthFailed):
        race(Opening(0.2, refused), second, plan(fails_over=False))
    assert second.started_s == []


def test_a_failure_of_either_leaves_the_other_in_the_race() -> None:
    assert race(Opening(1.1, ServerFailure("503")), Opening(5.0)).winner == "second"
    assert race(Opening(5.0), Opening(0.1, ServerFailure("503"))).winner == "first"


def test_two_failures_raise_the_first_ones_error_and_keep_the_others() -> None:
    one, other = ServerFailure("one"), ServerFailure("other")
    with pytest.raises(ServerFailure, match="one") as caught:
        race(Opening(1.5, one), Opening(0.1, other))
    assert caught.value.__cause__ is other
    with pytest.raises(ServerFailure, match="one"):
        race(Opening(0.1, one), Opening(0.1, other))


def test_a_loser_that_opens_although_it_was_cancelled_is_closed_before_the_answer_is_given() -> None:
    first, second = Opening(9.0, unwinds_s=0.2, ignores_cancel=True), Opening(0.5)
    assert race(first, second).winner == "second"
    assert first.closed == 1


def test_an_error_of_closing_a_loser_does_not_spoil_the_answer() -> None:
    class Stubborn(Opening):
        async def close(self) -> None:
            raise OSError("already gone")

    assert race(Stubborn(9.0, ignores_cancel=True), Opening(0.5)).winner == "second"


def test_a_cancellation_from_below_is_an_error_and_not_ours() -> None:
    with pytest.raises(InternalError):
        race(Opening(0.1, asyncio.CancelledError()), Opening(), plan(fails_over=False))


@pytest.mark.parametrize("at_s", [0.5, 1.2, 1.6])
@pytest.mark.parametrize("delay_s", [None, 1.0])
def test_a_cancellation_at_any_time_cancels_both_and_closes_what_was_opened(at_s: float, delay_s: float | None) -> None:
    first, second = Opening(9.0, unwinds_s=0.3), Opening(0.5)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(hedged(first, second, plan(delay_s), loop.time, close=close))
        # At 1.6 s the second has won, and the first still unwinds.
        loop.call_at(at_s, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    virtually(main)
    assert first.cancelled == 1
    assert second.cancelled + second.closed == len(second.started_s)


@given(
    first=st.tuples(st.integers(0, 6), st.booleans()),
    second=st.tuples(st.integers(0, 6), st.booleans()),
    cancel_at=st.none() | st.integers(0, 8),
    unwinds=st.integers(0, 2),
    stubborn=st.booleans(),
)
def test_whatever_happens_exactly_the_winner_stays_open(
    first: tuple[int, bool], second: tuple[int, bool], cancel_at: int | None, unwinds: int, stubborn: bool
) -> None:
    openings = [
        Opening(after, ServerFailure("x") if fails else None, unwinds, stubborn) for after, fails in (first, second)
    ]

    async def main() -> Opening | None:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(hedged(*openings, plan(2.0), loop.time, close=close))
        if cancel_at is not None:
            loop.call_at(cancel_at, task.cancel)
        try:
            return (await task).value
        except (ServerFailure, asyncio.CancelledError):
            return None

    winner = virtually(main)
    for opening in openings:
        opened = bool(opening.started_s) and opening.error is None and (opening.ignores_cancel or not opening.cancelled)
        if opening is winner:
            assert opening.closed == 0
        elif opened:
            # One that was cancelled before its first step never opened anything.
            assert opening.closed == 1


# What it is good for.


def stragglers(rng: random.Random) -> Callable[[], float]:
    """First-content times: median 0.5 s, and 3 in 100 take 8 times as long."""
    return lambda: rng.lognormvariate(-0.6931, 0.35) * (8.0 if rng.random() < 0.03 else 1.0)


def test_with_three_stragglers_in_a_hundred_p99_is_halved_for_at_most_six_percent_more_requests() -> None:
    count = 8_000
    draw = stragglers(random.Random(5))
    plain = sorted(draw() for _ in range(count))
    sent = 0

    async def opener() -> float:
        nonlocal sent
        sent += 1
        took_s = draw()
        await asyncio.sleep(took_s)
        return took_s

    async def nothing(_: float) -> None:
        pass

    async def main() -> list[float]:
        loop, hedger, times = asyncio.get_running_loop(), Hedger(), []
        for _ in range(count):
            started_s = loop.time()
            result = await hedged(opener, opener, hedger.plan(), loop.time, close=nothing)
            hedger.note_winner(result.winner, result.winner_s, result.overtaken_s)
            times.append(loop.time() - started_s)
        assert hedger.statistics().hedges == sent - count
        return sorted(times)

    times = virtually(main)
    before_s, after_s = percentile(plain, 0.99), percentile(times, 0.99)
    assert before_s / after_s >= 2.0, (before_s, after_s)
    assert sent / count <= 1.06
    assert percentile(times, 0.5) == pytest.approx(percentile(plain, 0.5), rel=0.05)


def test_when_everything_is_slow_the_budget_keeps_the_load() -> None:
    async def main() -> int:
        hedger, sent = Hedger(), 0

        def slow(seconds: float) -> Callable[[], Awaitable[None]]:
            async def opener() -> None:
                nonlocal sent
                sent += 1
                await asyncio.sleep(seconds)

            return opener

        async def nothing(_: None) -> None:
            pass

        loop = asyncio.get_running_loop()
        for seconds in [0.5] * 100 + [4.0] * 300:
            result = await hedged(slow(seconds), slow(seconds), hedger.plan(), loop.time, close=nothing)
            hedger.note_winner(result.winner, result.winner_s, result.overtaken_s)
        return sent

    assert virtually(main) <= 400 * 1.05
