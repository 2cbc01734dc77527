"""Whoever stops reading an answer tells nothing about its target: a break, a cancel or Ctrl-C is no failure."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from contextlib import aclosing

import pytest

from utils.resilience.breaker import Breaker, BreakerState, Permit
from utils.resilience.breaker_policy import BreakerPolicy

CLOSED, HALF_OPEN = BreakerState.CLOSED, BreakerState.HALF_OPEN
POLICY = BreakerPolicy(failure_threshold=2, open_s=10.0, permit_s=5.0)
NOW = 20.0


@pytest.fixture(autouse=True)
def _ctrl_c_is_heard() -> Iterator[None]:
    """Where the suite runs in the background of a shell, SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def admitted(breaker: Breaker, now: float = NOW) -> Permit:
    permit = breaker.admit(now)
    assert isinstance(permit, Permit)
    return permit


async def answer(breaker: Breaker, *, fails: bool = False) -> AsyncGenerator[str, None]:
    """An endless answer, drained as every driver should: whatever ends it without a verdict releases the permit."""
    permit = admitted(breaker)
    try:
        yield "no content yet"
        while not fails:
            permit.keep_alive(NOW)
            yield "more"
        raise ConnectionError
    except ConnectionError:
        permit.fail(NOW)
        raise
    finally:
        permit.release(NOW)


def lines(breaker: Breaker) -> Generator[str, None, None]:
    """The same without a loop."""
    permit = admitted(breaker)
    try:
        while True:
            yield "more"
    finally:
        permit.release(NOW)


async def breaks(breaker: Breaker) -> None:
    async with aclosing(answer(breaker)) as stream:
        async for _ in stream:
            break


async def raises(breaker: Breaker) -> None:
    with pytest.raises(ZeroDivisionError):
        async with aclosing(answer(breaker)) as stream:
            async for _ in stream:
                raise ZeroDivisionError


async def reads_for_ever(breaker: Breaker, has_begun: Callable[[], None]) -> None:
    async with aclosing(answer(breaker)) as stream:
        async for text in stream:
            if text == "more":
                has_begun()
            await asyncio.sleep(0)


async def is_cancelled(breaker: Breaker) -> None:
    begun = asyncio.Event()
    task = asyncio.create_task(reads_for_ever(breaker, begun.set))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def runs_out_of_time(breaker: Breaker) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as limit:
            await reads_for_ever(breaker, lambda: limit.reschedule(0.0))


WAYS: dict[str, Callable[[Breaker], Awaitable[None]]] = {
    "breaks out of its loop": breaks,
    "raises an error of its own": raises,
    "is cancelled": is_cancelled,
    "runs out of time": runs_out_of_time,
}


def with_ctrl_c(breaker: Breaker) -> None:
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(reads_for_ever(breaker, lambda: signal.raise_signal(signal.SIGINT)))


def with_ctrl_c_in_a_loop(breaker: Breaker) -> None:
    with pytest.raises(KeyboardInterrupt):
        for _ in lines(breaker):
            signal.raise_signal(signal.SIGINT)


def with_a_break(breaker: Breaker) -> None:
    for _ in lines(breaker):
        break


def in_a_loop(way: Callable[[Breaker], Awaitable[None]]) -> Callable[[Breaker], None]:
    async def main(breaker: Breaker) -> None:
        await way(breaker)

    return lambda breaker: asyncio.run(main(breaker))


LEAVES: dict[str, Callable[[Breaker], None]] = {
    **{name: in_a_loop(way) for name, way in WAYS.items()},
    "is interrupted by ctrl-c": with_ctrl_c,
    "is interrupted by ctrl-c without an event loop": with_ctrl_c_in_a_loop,
    "breaks out of a plain loop": with_a_break,
}


def brought_to(state: BreakerState) -> Breaker:
    breaker = Breaker(POLICY)
    for _ in range(2 if state is HALF_OPEN else 0):
        admitted(breaker, 0.0).fail(0.0)
    if state is HALF_OPEN:
        admitted(breaker).release(NOW)
    else:
        admitted(breaker).fail(NOW)
    assert breaker.statistics().state is state
    return breaker


@pytest.mark.parametrize("state", [CLOSED, HALF_OPEN])
@pytest.mark.parametrize("name", LEAVES)
def test_a_consumer_who_leaves_is_no_failure(name: str, state: BreakerState) -> None:
    breaker = brought_to(state)
    before = breaker.statistics(NOW)
    for i in range(1, 11):
        LEAVES[name](breaker)
        assert breaker.statistics(NOW).released == before.released + i
    after = breaker.statistics(NOW)
    same = ("state", "generation", "failed", "failures_in_a_row", "window_calls", "consecutive_opens", "probes")
    assert [getattr(after, field) for field in same] == [getattr(before, field) for field in same]
    admitted(breaker)  # half-open, the place is free again


@pytest.mark.parametrize("state", [CLOSED, HALF_OPEN])
def test_a_failure_that_the_same_driver_reports_counts_once(state: BreakerState) -> None:
    breaker = brought_to(state)
    before = breaker.statistics()

    async def main() -> None:
        async for _ in answer(breaker, fails=True):
            pass

    with pytest.raises(ConnectionError):
        asyncio.run(main())
    after = breaker.statistics()
    assert (after.failed, after.released) == (before.failed + 1, before.released)
    assert after.state is BreakerState.OPEN
