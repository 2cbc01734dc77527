"""Many callers of one breaker at once, in threads and in tasks: at half-open no more pass than are permitted."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable

import pytest

from utils.resilience.breaker import Breaker, BreakerState, Permit, Refused
from utils.resilience.breaker_store import ProbePlace, SharedState

CALLERS = 20


class Crowd:
    """Threads that call one breaker, and a store that lets all of them catch up whenever something is to be decided.

    So any race is lost for certain: a thread goes on only when every other one is about to decide, too, waits for the
    lock of the breaker, or has ended. The store knows nothing and grants every place.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._lock = threading.Lock()
        self._size = self._halted = 0

    def call_at_once(self, count: int, call: Callable[[], None]) -> None:
        """Let that many threads call, and wait for them."""
        errors: list[BaseException] = []

        def run() -> None:
            try:
                call()
            except BaseException as error:
                errors.append(error)
            self._halt(1)

        self._size, self._halted = count, 0
        threads = [threading.Thread(target=run) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20.0)
        self._size = 0
        assert errors == []
        assert self._halted == count

    def _halt(self, change: int) -> None:
        with self._condition:
            self._halted += change
            self._condition.notify_all()

    def _let_others_catch_up(self) -> None:
        self._halt(1)
        with self._condition:
            assert self._condition.wait_for(lambda: self._halted >= self._size, timeout=10.0)
            self._halted -= 1

    # In place of the lock of a breaker.

    def __enter__(self) -> None:
        self._halt(1)
        self._lock.acquire()
        self._halt(-1)

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    # In place of the store of a breaker.

    def load(self, key: str) -> SharedState | None:
        return None

    def publish(self, key: str, state: SharedState, *, expected: int, ends_row: bool = False) -> SharedState | None:
        self._let_others_catch_up()
        return None

    def add_failure(self, key: str, *, generation: int, remembered_s: float) -> SharedState | None:
        self._let_others_catch_up()
        return None

    def acquire_probe(self, key: str, *, generation: int, limit: int, ttl_s: float) -> ProbePlace:
        self._let_others_catch_up()
        return ProbePlace("place")

    def release_probe(self, key: str, token: str) -> None:
        self._let_others_catch_up()


def half_open(permits: int) -> tuple[Breaker, Crowd]:
    """A breaker whose open time ends at 1.0."""
    crowd = Crowd()
    breaker = Breaker(store=crowd, failure_threshold=1, open_s=1.0, half_open_permits=permits, permit_s=5.0)
    breaker._lock = crowd  # type: ignore[assignment]  # the same, but it knows who waits for it
    permit = breaker.admit(0.0)
    assert isinstance(permit, Permit)
    permit.fail(0.0)
    return breaker, crowd


@pytest.mark.parametrize("permits", [1, 3])
def test_of_twenty_threads_at_half_open_only_the_permitted_number_pass(permits: int) -> None:
    breaker, crowd = half_open(permits)
    answers: list[Permit | Refused] = []
    crowd.call_at_once(CALLERS, lambda: answers.append(breaker.admit(2.0)))
    assert len(answers) == CALLERS
    assert sum(isinstance(answer, Permit) for answer in answers) == permits
    assert breaker.statistics().probes == permits
    assert [change.after.value for change in breaker.changes_since(1)] == ["half_open"]


@pytest.mark.parametrize("permits", [1, 3])
def test_places_that_are_given_back_go_to_as_many_others(permits: int) -> None:
    breaker, crowd = half_open(permits)
    out: list[Permit] = []

    def call() -> None:
        answer = breaker.admit(2.0)
        if isinstance(answer, Permit):
            out.append(answer)

    for i in range(5):
        crowd.call_at_once(CALLERS, call)
        assert len(out) == permits
        crowd.call_at_once(permits, lambda: out.pop().release(2.0))
        assert breaker.statistics().released == permits * (i + 1)
    assert breaker.statistics().state is BreakerState.HALF_OPEN


def test_of_probes_that_fail_at_once_only_one_opens_the_breaker() -> None:
    breaker, crowd = half_open(CALLERS)
    permits = [breaker.admit(2.0) for _ in range(CALLERS)]
    assert all(isinstance(permit, Permit) for permit in permits)

    def fail() -> None:
        permit = permits.pop()
        assert isinstance(permit, Permit)
        permit.fail(2.0)

    crowd.call_at_once(CALLERS, fail)
    figures = breaker.statistics(2.0)
    assert (figures.state, figures.opened, figures.consecutive_opens) == (BreakerState.OPEN, 2, 2)
    assert figures.ignored == CALLERS - 1
    assert figures.retry_after_s == 2.0


def test_of_threads_that_report_on_one_permit_one_is_heard() -> None:
    crowd = Crowd()
    breaker = Breaker(store=crowd, failure_threshold=CALLERS + 1)
    breaker._lock = crowd  # type: ignore[assignment]
    permit = breaker.admit(0.0)
    assert isinstance(permit, Permit)
    crowd.call_at_once(CALLERS, lambda: permit.fail(0.0))
    assert (breaker.statistics().failed, breaker.statistics().failures_in_a_row) == (1, 1)


def test_no_count_is_lost_among_threads() -> None:
    breaker = Breaker(failure_threshold=10**6, failure_rate=1.0)

    def calls() -> None:
        for outcome in ("succeed", "fail", "release", "succeed") * 125:
            permit = breaker.admit(1.0)
            assert isinstance(permit, Permit)
            permit.first_content(1.0)
            getattr(permit, outcome)(1.0)

    threads = [threading.Thread(target=calls) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20.0)
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
    breaker, _ = half_open(permits)
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
    breaker, crowd = half_open(permits)
    for _ in range(permits):
        breaker.admit(2.0)  # and forget it
    gc.collect()
    refusal = breaker.admit(6.5)
    assert isinstance(refusal, Refused)
    assert refusal.retry_after_s == pytest.approx(0.5)
    answers: list[Permit | Refused] = []
    crowd.call_at_once(CALLERS, lambda: answers.append(breaker.admit(7.0)))
    assert sum(isinstance(answer, Permit) for answer in answers) == permits
    figures = breaker.statistics(7.0)
    assert (figures.released, figures.failed, figures.ignored) == (0, 1, 0)
