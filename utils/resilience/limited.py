"""Waiting for the limiter: the thin edge over `limiter.Limiter`, in the run's own time.

Waiters sleep one timer at a time: only the head of the queue has one, the others are woken when their turn comes.
Whatever changes a level (a settlement, a header) wakes the head, which looks again.
"""

from __future__ import annotations

import asyncio

from utils.errors import AppError, RateLimited, UsageProblem
from utils.events import Adapted
from utils.resilience.limiter import Granted, Impossible, Limiter, LimiterStatistics, Reservation, Ticket, Wait
from utils.resilience.rate_headers import RateHeaders
from utils.run_context import RunContext
from utils.watchdog import Watchdog

__all__ = ["SharedLimiter"]

_TOLD_FROM_S = 1.0
"""A shorter wait is not worth a line on anybody's screen."""


class SharedLimiter:
    """One limiter shared by all runs against a target, within one event loop."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._waiting: dict[Ticket, asyncio.Future[None]] = {}

    async def acquire(self, context: RunContext, tokens: int, *, watchdog: Watchdog | None = None) -> Reservation:
        """The right to send one request of *tokens*; settle or cancel it, whatever happens to the request.

        Waits its turn. A wait of a second or more is told by an `Adapted` event. Raises UsageProblem if the request
        never fits, RateLimited at once if its turn would come after the run's deadline, TotalTimeout and the cause of
        a stop as every wait does; after a raise nothing is reserved and the place in the queue is given up.
        *watchdog* is that of the calling task, if it has one.
        """
        answer = self._limiter.reserve(context.clock(), tokens)
        if isinstance(answer, Granted):
            return answer.reservation
        if isinstance(answer, Impossible):
            raise _impossible(answer)
        if answer.seconds >= _TOLD_FROM_S:
            context.emit(Adapted("start of the request", "now", f"in {answer.seconds:.1f} s", answer.limit))
        own = Watchdog(context) if watchdog is None else None
        try:
            return await self._wait_turn(context, answer, watchdog or own or Watchdog(context))
        finally:
            if own is not None:
                own.close()
            self._waiting.pop(answer.ticket, None)
            self._limiter.withdraw(answer.ticket)
            self._wake_head()

    def settle(self, now: float, reservation: Reservation, actual_tokens: int) -> None:
        """See `Limiter.settle`."""
        self._limiter.settle(now, reservation, actual_tokens)
        self._wake_head()

    def cancel(self, now: float, reservation: Reservation) -> None:
        """See `Limiter.cancel`."""
        self._limiter.cancel(now, reservation)
        self._wake_head()

    def synchronise(
        self, now: float, headers: RateHeaders, reservation: Reservation | None = None
    ) -> tuple[Adapted, ...]:
        """See `Limiter.synchronise`; the caller emits what is returned."""
        adapted = self._limiter.synchronise(now, headers, reservation)
        self._wake_head()
        return adapted

    def pause(self, now: float, seconds: float) -> None:
        """See `Limiter.pause`."""
        self._limiter.pause(now, seconds)
        self._wake_head()

    def statistics(self) -> LimiterStatistics:
        """See `Limiter.statistics`."""
        return self._limiter.statistics()

    async def _wait_turn(self, context: RunContext, answer: Wait, watchdog: Watchdog) -> Reservation:
        ticket = answer.ticket
        loop = asyncio.get_running_loop()
        while True:
            deadline_s = context.deadline_s
            if deadline_s is not None and context.clock() + answer.seconds >= deadline_s:
                raise _too_late(answer)
            turn: asyncio.Future[None] = loop.create_future()
            self._waiting[ticket] = turn
            is_head = self._limiter.head is ticket
            timer = loop.call_later(answer.seconds, _resolve, turn) if is_head else None
            try:
                await watchdog.wait(turn, None, _unreachable)
            finally:
                if timer is not None:
                    timer.cancel()
            again = self._limiter.reserve(context.clock(), ticket.tokens, ticket)
            if isinstance(again, Granted):
                return again.reservation
            if isinstance(again, Impossible):
                raise _impossible(again)
            answer = again

    def _wake_head(self) -> None:
        head = self._limiter.head
        if head is not None and (turn := self._waiting.get(head)) is not None:
            _resolve(turn)


def _resolve(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


def _impossible(answer: Impossible) -> UsageProblem:
    return UsageProblem(answer.reason, hint="shorten the prompt, lower --max-tokens, or raise --tpm")


def _too_late(answer: Wait) -> RateLimited:
    error = RateLimited(
        f"{answer.limit} leave no place for this request before the run must end (in {answer.seconds:.1f} s)",
        hint="raise --timeout, --rpm or --tpm",
        retry_after_s=answer.seconds,
    )
    error.is_retryable = False
    return error


def _unreachable() -> AppError:
    raise AssertionError("waiting for a turn has no deadline of its own")
