"""The watchdog ends waits at deadlines and on a stop, and nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from utils.errors import Cancelled, IdleTimeout, TotalTimeout
from utils.run_context import RunContext
from utils.watchdog import Watchdog


def run(scenario: Callable[[RunContext, Watchdog], Coroutine[Any, Any, None]], total_s: float | None = None) -> None:
    async def main() -> None:
        now = time.monotonic()
        context = RunContext(clock=time.monotonic, started_s=now, deadline_s=None if total_s is None else now + total_s)
        watchdog = Watchdog(context)
        try:
            await scenario(context, watchdog)
        finally:
            watchdog.close()

    asyncio.run(asyncio.wait_for(main(), 5.0))


def idle() -> IdleTimeout:
    return IdleTimeout("idle")


async def never() -> None:
    await asyncio.get_running_loop().create_future()


def test_a_result_passes_through() -> None:
    async def scenario(context: RunContext, watchdog: Watchdog) -> None:
        assert await watchdog.wait(asyncio.sleep(0, "x"), watchdog.now() + 5.0, idle) == "x"

    run(scenario)


def test_the_deadline_raises_its_error_and_the_task_goes_on() -> None:
    async def scenario(context: RunContext, watchdog: Watchdog) -> None:
        with pytest.raises(IdleTimeout):
            await watchdog.wait(never(), watchdog.now() + 0.02, idle)
        assert await watchdog.wait(asyncio.sleep(0, "x"), None, idle) == "x"

    run(scenario)


def test_the_total_deadline_wins_if_it_comes_first() -> None:
    async def scenario(context: RunContext, watchdog: Watchdog) -> None:
        with pytest.raises(TotalTimeout, match="longer than 0.02 s"):
            await watchdog.wait(never(), watchdog.now() + 5.0, idle)

    run(scenario, total_s=0.02)


def test_the_timer_is_moved_later_and_earlier() -> None:
    async def scenario(context: RunContext, watchdog: Watchdog) -> None:
        for limit_s in (0.03, 5.0, 0.02):
            started_s = watchdog.now()
            if limit_s > 1:
                await watchdog.wait(asyncio.sleep(0.05), started_s + limit_s, idle)
            else:
                with pytest.raises(IdleTimeout):
                    await watchdog.wait(never(), started_s + limit_s, idle)
                assert watchdog.now() - started_s < 1.0

    run(scenario)


def test_time_between_waits_is_the_consumers_and_counts_for_nothing() -> None:
    async def scenario(context: RunContext, watchdog: Watchdog) -> None:
        await watchdog.wait(asyncio.sleep(0), watchdog.now() + 0.02, idle)
        await asyncio.sleep(0.06)
        await watchdog.wait(asyncio.sleep(0), watchdog.now() + 0.02, idle)

    run(scenario)


def test_a_stop_wakes_a_wait_and_refuses_the_next_one() -> None:
    async def scenario(context: RunContext, watchdog: Watchdog) -> None:
        asyncio.get_running_loop().call_later(0.01, context.stop, Cancelled("cancelled"))
        with pytest.raises(Cancelled):
            await watchdog.wait(never(), None, idle)
        with pytest.raises(Cancelled):
            await watchdog.wait(never(), None, idle)

    run(scenario)


def test_a_cancellation_from_elsewhere_passes() -> None:
    async def scenario(context: RunContext, watchdog: Watchdog) -> None:
        task = asyncio.create_task(watchdog.wait(never(), watchdog.now() + 5.0, idle))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(scenario)


def test_a_cancellation_at_the_same_time_as_the_deadline_is_not_swallowed() -> None:
    async def scenario(context: RunContext, watchdog: Watchdog) -> None:
        async def inner() -> None:
            await watchdog.wait(never(), watchdog.now() + 0.02, idle)

        task = asyncio.create_task(inner())
        await asyncio.sleep(0)
        # Both in one turn of the loop: the timer fires, and somebody cancels.
        asyncio.get_running_loop().call_later(0.02, watchdog._interrupt)
        asyncio.get_running_loop().call_later(0.02, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    run(scenario)
