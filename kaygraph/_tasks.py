"""Structured concurrency for batches: no task outlives the call that started it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

__all__ = ["run_tasks"]


async def run_tasks(
    run_one: Callable[[Any], Awaitable[Any]], items: Iterable[Any], *, limit: int | None = None
) -> list[Any]:
    """Run `run_one(item)` for all items as tasks, at most *limit* at a time, and return the results in order.

    The first error (in time), or the cancellation of the caller, cancels all other tasks and waits for them to end
    before it is raised: nothing keeps running behind the caller's back.
    """
    import asyncio

    slots = None if limit is None else asyncio.Semaphore(limit)

    async def run_in_slot(item: Any) -> Any:
        if slots is None:
            return await run_one(item)
        async with slots:
            return await run_one(item)

    items = list(items)  # an error of the iterable must not leave tasks behind
    tasks = [asyncio.ensure_future(run_in_slot(item)) for item in items]
    try:
        return await asyncio.gather(*tasks)
    finally:
        # After success this finds nothing to cancel.
        unfinished = [task for task in tasks if not task.done()]
        for task in unfinished:
            task.cancel()
        if unfinished:
            await asyncio.wait(unfinished)
