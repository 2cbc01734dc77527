"""Many callers of one breaker at once, in threads and in tasks: at half-open no more pass than are permitted."""

from __future__ import annotations

import asyncio
import gc
import select
import threading
from collections.abc import Awaitable, Callable

import pytest

from utils.resilience.breaker import Breaker, BreakerState, Permit, Refused
from utils.resilience.breaker_store import ProbePlace, SharedState

CALLERS = 20


def let_others_run(times: int = 1) -> None:
    """Give the interpreter to the threads that want it."""
    for _ in range(times):
        select.select([], [], [], 0)


class SlowStore:
    """Knows nothing and grants every place, but gives the interpreter away each time, so any race is lost."""

    def load(self, key: str) -> SharedState | None:
        self.let_others_run()
        return None

    def publish(self, key: str, state: SharedState, *, expected: int, ends_row: bool = False) -> SharedState | None:
        self.let_others_run()
        return None

    def add_failure(self, key: str, *, generation: int, remembered_s: float) -> SharedState | None:
        self.let_others_run()
        return None

    def acquire_probe(self, key: str, *, generation: int, limit: int, ttl_s: float) -> ProbePlace:
        self.let_others_run()
        return ProbePlace("place")

    def release_probe(self, key: str, token: str) -> None:
        self.let_others_run()

    def let_others_run(self) -> None:
        let_others_run(100)


def half_open(permits: int) -> Breaker:
    """A breaker whose open time ends at 1.0."""
    breaker = Breaker(store=SlowStore(), failure_threshold=1, open_s=1.0, half_open_permits=permits, permit_s=5.0)
    permit = breaker.admit(0.0)
    assert isinstance(permit, Permit)
    permit.fail(0.0)
    return breaker


def in_threads(count: int, call: Callable[[], None]) -> None:
    """Let that many threads call at once, and wait for them."""
    gate = threading.Barrier(count)
    awake: list[None] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            gate.wait(5.0)
            awake.append(None)
            while len(awake) < count:  # a barrier wakes them one after the other
                let_others_run()
            call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10.0)
    assert errors == []


@pytest.mark.parametrize("permits", [1, 3])
def test_of_twenty_threads_at_half_open_only_the_permitted_number_pass(permits: int) -> None:
    breaker = half_open(permits)
    answers: list[Permit | Refused] = []
    in_threads(CALLERS, lambda: answers.append(breaker.admit(2.0)))
    assert len(answers) == CALLERS
    assert sum(isinstance(answer, Permit) for answer in answers) == permits
    assert breaker.statistics().probes == permits
    assert [change.after.value for change in breaker.changes_since(1)] == ["half_open"]


@pytest.mark.parametrize("permits", [1, 3])
def test_threads_that_give_their_places_back_never_hold_more_than_are_permitted(permits: int) -> None:
    breaker = half_open(permits)
    guard, out, most, passed = threading.Lock(), 0, 0, 0

    def call() -> None:
        nonlocal out, most, passed
        while isinstance(permit := breaker.admit(2.0), Refused):
            let_others_run()
        with guard:
            out, passed = out + 1, passed + 1
            most = max(most, out)
        let_others_run(100)
        with guard:
            out -= 1
        permit.release(2.0)

    in_threads(CALLERS, call)
    figures = breaker.statistics()
    assert (passed, figures.released, figures.probes) == (CALLERS, CALLERS, 0)
    assert most <= permits
    assert figures.state is BreakerState.HALF_OPEN


def test_of_probes_that_fail_at_once_only_one_opens_the_breaker() -> None:
    breaker = half_open(CALLERS)
    permits = [breaker.admit(2.0) for _ in range(CALLERS)]
    assert all(isinstance(permit, Permit) for permit in permits)

    def fail() -> None:
        permit = permits.pop()
        assert isinstance(permit, Permit)
        permit.fail(2.0)

    in_threads(CALLERS, fail)
    figures = breaker.statistics(2.0)
    assert (figures.state, figures.opened, figures.consecutive_opens) == (BreakerState.OPEN, 2, 2)
    assert figures.ignored == CALLERS - 1
    assert figures.retry_after_s == 2.0


def test_of_threads_that_report_on_one_permit_one_is_heard() -> None:
    breaker = Breaker(store=SlowStore(), failure_threshold=CALLERS + 1)
    permit = breaker.admit(0.0)
    assert isinstance(permit, Permit)
    in_threads(CALLERS, lambda: permit.fail(0.0))
    assert (breaker.statistics().failed, breaker.statistics().failures_in_a_row) == (1, 1)


def test_no_count_is_lost_among_threads() -> None:
    breaker = Breaker(failure_threshold=10**6, failure_rate=1.0)

    def calls() -> None:
        for outcome in ("succeed", "fail", "release", "succeed") * 125:
            permit = breaker.admit(1.0)
            assert isinstance(permit, Permit)
            permit.first_content(1.0)
            getattr(permit, outcome)(1.0)

    in_threads(4, calls)
    figures = breaker.statistics()
    assert (figures.admitted, figures.succeeded, figures.failed, figures.released) == (2000, 1000, 500, 500)
    assert figures.window_calls <= 50


async def herd(call: Callable[[], Awaitable[bool]]) -> int:
    """How many of the tasks passed."""
    async with asyncio.timeout(10.0):
        return sum(await asyncio.gather(*(call() for _ in range(CALLERS))))


@pytest.mark.parametrize("permits", [1, 3])
@pytest.mark.parametrize("outcome", ["succeed", "fail", "release", "leaked"])
def test_of_twenty_tasks_at_half_open_only_the_permitted_number_pass(permits: int, outcome: str) -> None:
    breaker = half_open(permits)
    asked = 0

    async def main() -> int:
        all_have_asked = asyncio.Event()

        async def call() -> bool:
            nonlocal asked
            await asyncio.sleep(0)
            answer = breaker.admit(2.0)
            asked += 1
            if asked == CALLERS:
                all_have_asked.set()
            if isinstance(answer, Refused):
                return False
            await all_have_asked.wait()  # what a probe waits for, the others meanwhile do not get
            if outcome != "leaked":
                getattr(answer, outcome)(3.0)
            return True

        return await herd(call)

    assert asyncio.run(main()) == permits
    state = {"succeed": BreakerState.CLOSED, "fail": BreakerState.OPEN}.get(outcome, BreakerState.HALF_OPEN)
    assert breaker.statistics().state is state


@pytest.mark.parametrize("permits", [1, 3])
def test_leaked_permits_expire_and_as_many_others_pass(permits: int) -> None:
    breaker = half_open(permits)
    for _ in range(permits):
        breaker.admit(2.0)  # and forget it
    gc.collect()
    refusal = breaker.admit(6.5)
    assert isinstance(refusal, Refused)
    assert refusal.retry_after_s == pytest.approx(0.5)
    answers: list[Permit | Refused] = []
    in_threads(CALLERS, lambda: answers.append(breaker.admit(7.0)))
    assert sum(isinstance(answer, Permit) for answer in answers) == permits
    figures = breaker.statistics(7.0)
    assert (figures.released, figures.failed, figures.ignored) == (0, 1, 0)
