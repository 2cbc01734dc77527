"""One timer for one run: every wait for the outside ends by itself, at a deadline, or when the run is stopped.

Why not `asyncio.timeout` or `wait_for` per read: they cost 4 to 10 microseconds each, and a timeout context around a
`yield` cancels the consumer instead of the reader. Here one loop timer is armed lazily (it is moved only when it
fires too early), it interrupts the task only while that task is inside `wait`, and a consumer that is slow to come
back is therefore never mistaken for a server that is slow to answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from utils.errors import AppError, TotalTimeout
from utils.run_context import RunContext

__all__ = ["Watchdog"]

T = TypeVar("T")


class Watchdog:
    """Bounds the waits of one task at a time. The context's clock must be the loop's (both are monotonic)."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._deadline_s: float | None = None
        self._task: asyncio.Task[object] | None = None
        """The task that is inside `wait` right now."""
        self._has_fired = False
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for_s = 0.0
        """The instant of the timer, if there is one."""
        self._remove_stop = context.on_stop(self._interrupt)

    def now(self) -> float:
        """The instant of the run's clock, in seconds: what deadlines are counted from."""
        return self._context.clock()

    def close(self) -> None:
        """Take the timer and the stop callback back; idempotent."""
        self._remove_stop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def wait(self, awaitable: Awaitable[T], deadline_s: float | None, on_timeout: Callable[[], AppError]) -> T:
        """The awaitable's result.

        Raises `on_timeout()` at the instant *deadline_s*, TotalTimeout at the run's own deadline if that comes
        first, and the cause of the stop if the run is stopped. The awaitable is cancelled in each of these cases.
        A cancellation from elsewhere passes through.
        """
        context = self._context
        if context.stopped is not None:
            _discard(awaitable)
            raise context.stopped
        total_s = context.deadline_s
        is_total = total_s is not None and (deadline_s is None or total_s <= deadline_s)
        self._deadline_s = total_s if is_total else deadline_s
        self._task = task = asyncio.current_task()
        assert task is not None
        self._has_fired = False
        cancels_before = task.cancelling()
        # The timer that is there, if it fires early enough, looks what the deadline has become.
        if self._deadline_s is not None and (self._timer is None or self._armed_for_s > self._deadline_s):
            self._arm(self._deadline_s)
        try:
            return await awaitable
        except asyncio.CancelledError:
            if not self._has_fired or task.uncancel() > cancels_before:
                raise
            if context.stopped is not None:
                raise context.stopped from None
            raise (_total_timeout(context) if is_total else on_timeout()) from None
        finally:
            self._task = None

    async def sleep(self, delay_s: float) -> None:
        """Wait *delay_s* seconds; ends early as `wait` does."""
        await self.wait(asyncio.sleep(delay_s), None, _unreachable)

    def _arm(self, deadline_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._armed_for_s = deadline_s
        self._timer = loop.call_at(loop.time() + (deadline_s - self._context.clock()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._task is None or self._deadline_s is None:
            return
        if self._context.clock() < self._deadline_s:
            self._arm(self._deadline_s)
        else:
            self._interrupt()

    def _interrupt(self) -> None:
        if self._task is not None and not self._has_fired:
            self._has_fired = True
            self._task.cancel()


def _unreachable() -> AppError:
    raise AssertionError("a wait without a deadline of its own timed out")


def _total_timeout(context: RunContext) -> TotalTimeout:
    assert context.deadline_s is not None
    limit_s = context.deadline_s - context.started_s
    return TotalTimeout(f"the run took longer than {limit_s:g} s", hint="raise --timeout, or lower --max-tokens")


def _discard(awaitable: object) -> None:
    """Close a coroutine that will never run, so that Python does not warn about it."""
    close = getattr(awaitable, "close", None)
    if close is not None:
        close()
