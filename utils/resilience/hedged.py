"""Two requests, one answer: the thin edge over `hedging`.

    first --content before the delay-->  first wins, the second is never sent
    first --delay over, plan agrees-->   both run, whichever opens first wins, the other is cancelled
    first --fails, plan agrees-->        the second is sent at once
    both fail                            the first one's error is raised

When `hedged` returns or raises, no task of it is left, and everything that was opened and did not win is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from utils.clock import Clock
from utils.errors import InternalError
from utils.resilience.hedging import HedgePlan, Winner

__all__ = ["Hedged", "hedged"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Hedged(Generic[T]):
    """The answer that was heard, and what `Hedger.note_winner` wants to know of it."""

    value: T
    winner: Winner
    winner_s: float
    """From the winner's own start, in seconds."""
    overtaken_s: float | None
    """The age of the first request when the second overtook it; None if it won or failed."""
    was_second_sent: bool


async def hedged(
    open_first: Callable[[], Awaitable[T]],
    open_second: Callable[[], Awaitable[T]],
    plan: HedgePlan,
    clock: Clock,
    *,
    close: Callable[[T], Awaitable[None]],
) -> Hedged[T]:
    """The first success of the two; each opener goes on until its first content.

    *close* frees an opened answer that is not wanted. Openers run in tasks of their own, so neither may share a
    `Watchdog` with the other or with the caller. Cancelling `hedged` cancels and closes both, then passes through;
    an error of closing a loser is dropped, as the answer is good without it.
    """
    started_s = clock()
    if plan.delay_s is None:
        value = await open_first()
        took_s = clock() - started_s
        return Hedged(value, "first", took_s, None, was_second_sent=False)
    race = _Race(clock, started_s, asyncio.ensure_future(_run(open_first)))
    try:
        result = await race.run(open_second, plan)
    except BaseException:
        await race.end(None, close)
        raise
    try:
        await race.end(result.winner, close)
    except asyncio.CancelledError:
        await _close_quietly(close, result.value)
        raise
    return result


async def _run(opener: Callable[[], Awaitable[T]]) -> T:
    return await opener()


class _Race(Generic[T]):
    __slots__ = ("_clock", "_first", "_has_first_failed", "_second", "_second_started_s", "_started_s")

    def __init__(self, clock: Clock, started_s: float, first: asyncio.Task[T]) -> None:
        self._clock = clock
        self._started_s = started_s
        self._first = first
        self._has_first_failed = False
        self._second: asyncio.Task[T] | None = None
        self._second_started_s = 0.0

    async def run(self, open_second: Callable[[], Awaitable[T]], plan: HedgePlan) -> Hedged[T]:
        first = self._first
        await asyncio.wait({first}, timeout=plan.delay_s)
        if first.done():
            error = _error_of(first)
            if error is None:
                return self._won("first", first)
            self._has_first_failed = True
            if not plan.fails_over(error):
                raise error
        elif not plan.may_start():
            await asyncio.wait({first})
            return self._won("first", first)
        self._second_started_s = self._clock()
        self._second = second = asyncio.ensure_future(_run(open_second))
        running = {task for task in (first, second) if not task.done()}
        while running:
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            # Of two that opened in the same turn the first one wins: the second could be another model.
            if first in running and first.done():
                if _error_of(first) is None:
                    return self._won("first", first)
                self._has_first_failed = True
            if second.done() and _error_of(second) is None:
                return self._won("second", second)
            running = {task for task in running if not task.done()}
        first_error, second_error = _error_of(first), _error_of(second)
        assert first_error is not None
        raise first_error from second_error

    async def end(self, winner: Winner | None, close: Callable[[T], Awaitable[None]]) -> None:
        """Cancel and await whoever still runs, close what opened and did not win; also if cancelled meanwhile."""
        losers = [
            task
            for name, task in (("first", self._first), ("second", self._second))
            if task is not None and name != winner
        ]
        for task in losers:
            task.cancel()
        cancelled: asyncio.CancelledError | None = None
        running = {task for task in losers if not task.done()}
        while running:
            try:
                await asyncio.wait(running)
            except asyncio.CancelledError as error:
                cancelled = error
            running = {task for task in running if not task.done()}
        for task in losers:
            if not task.cancelled() and task.exception() is None:
                try:
                    await _close_quietly(close, task.result())
                except asyncio.CancelledError as error:
                    cancelled = error
        if cancelled is not None:
            raise cancelled

    def _won(self, winner: Winner, task: asyncio.Task[T]) -> Hedged[T]:
        value = task.result()
        now = self._clock()
        has_second = self._second is not None
        if winner == "first":
            return Hedged(value, winner, now - self._started_s, None, was_second_sent=has_second)
        overtaken_s = None if self._has_first_failed else now - self._started_s
        return Hedged(value, winner, now - self._second_started_s, overtaken_s, was_second_sent=has_second)


def _error_of(task: asyncio.Task[T]) -> Exception | None:
    """Why a finished task has no value; what is no Exception (an exit, an interrupt) is raised."""
    if task.cancelled():
        return InternalError("a request was cancelled, and not by the race it ran in")
    error = task.exception()
    if error is None or isinstance(error, Exception):
        return error
    raise error


async def _close_quietly(close: Callable[[T], Awaitable[None]], value: T) -> None:
    # The loser's connection is gone either way, and the winner's answer is whole.
    with contextlib.suppress(Exception):
        await close(value)
