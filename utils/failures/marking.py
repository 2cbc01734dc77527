"""Whose fault an error was: the one place that says `simulated` of an error, and the backend that asks."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from utils.errors import AppError, ProviderError, TotalTimeout
from utils.failures.plan import Injection

if TYPE_CHECKING:
    from utils.events import Event
    from utils.resilience.continuation import Detected
    from utils.resilience.rate_headers import RateHeaders
    from utils.resilience.upstream import Backend, ChatSource
    from utils.run_context import Request, Target
    from utils.watchdog import Watchdog

__all__ = ["MarkingBackend", "mark_simulated", "witness"]

_HINT = "the failure was asked for; --retries says how many are survived"
_HINT_FINAL = "the failure was asked for; it is of a kind that is not tried again"

_attempt: ContextVar[list[Injection] | None] = ContextVar("simulated_failures_of_this_attempt", default=None)


def mark_simulated(error: AppError) -> None:
    """Say of *error* that it was asked for; idempotent."""
    error.simulated = True
    if isinstance(error, ProviderError):
        error.hint = _HINT if error.is_retryable else _HINT_FINAL


def witness(injection: Injection) -> None:
    """Tell the attempt that is being made which fault it meets; nobody may be asking."""
    seen = _attempt.get()
    if seen is not None:
        seen.append(injection)


class MarkingBackend:
    """A backend whose errors know whether they were simulated; wrap the one whose transport has the plan.

    Most faults raise nothing: a cut, a web page or a stall becomes an error far above the transport, in the reader or
    by a deadline. Here every error of an attempt passes, and the attempt knows which fault it met and whether that is
    to blame. A real failure of the same attempt is not marked.
    """

    def __init__(self, inner: Backend) -> None:
        self._inner = inner

    async def open_chat(
        self,
        request: Request,
        target: Target,
        *,
        attempt: int,
        watchdog: Watchdog,
        first_token_deadline_s: float | None,
    ) -> ChatSource:
        """See `Backend`. Raises AppError."""
        seen: list[Injection] = []
        token = _attempt.set(seen)
        try:
            source = await self._inner.open_chat(
                request, target, attempt=attempt, watchdog=watchdog, first_token_deadline_s=first_token_deadline_s
            )
        except AppError as error:
            _mark(error, seen)
            raise
        finally:
            _attempt.reset(token)
        # Nothing was planned for this attempt: nothing needs to be asked of it.
        return _MarkingSource(source, seen) if seen else source

    async def detect(self, target: Target, watchdog: Watchdog) -> Detected:
        """See `Backend`."""
        return await self._inner.detect(target, watchdog)


class _MarkingSource:
    def __init__(self, source: ChatSource, seen: list[Injection]) -> None:
        self._source = source
        self._seen = seen

    async def next_batch(self) -> list[Event]:
        try:
            return await self._source.next_batch()
        except AppError as error:
            _mark(error, self._seen)
            raise

    @property
    def rate_headers(self) -> RateHeaders:
        return self._source.rate_headers

    async def aclose(self) -> None:
        await self._source.aclose()


def _mark(error: AppError, seen: list[Injection]) -> None:
    # A stop (Ctrl-C) during a stall is the user's.
    if isinstance(error, ProviderError | TotalTimeout) and any(injection.is_to_blame for injection in seen):
        mark_simulated(error)
