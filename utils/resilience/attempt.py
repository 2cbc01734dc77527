"""One request to one target, from its turn at the limiter to the outcome that is reported of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from operator import sub
from typing import TYPE_CHECKING

from utils.errors import BreakerOpen, FirstTokenTimeout, IdleTimeout, ProviderError, RateLimited, Unreachable
from utils.events import BreakerChanged, Event, Finished, ReasoningDelta, TextDelta, Usage
from utils.resilience.breaker import ChangeCause, Permit, Refused, StateChange
from utils.resilience.upstream import ChatSource, Upstream
from utils.run_context import Request
from utils.watchdog import Watchdog

if TYPE_CHECKING:
    from utils.resilience.limiter import Reservation

__all__ = ["Attempt", "left_alone", "prompt_chars"]

_MAX_GAPS = 128
"""Gaps that one attempt adds to what is known of its target, spread evenly over its answer."""

_PATIENCE_S = 10.0
"""A target that is silent for less has not failed."""

_REASONS = {
    ChangeCause.FAILURES_IN_A_ROW: "too many failures in a row",
    ChangeCause.FAILURE_RATE: "too many of its answers failed",
    ChangeCause.SLOW_RATE: "too many of its answers began late",
    ChangeCause.OPEN_TIME_PASSED: "its time has passed, one request may try",
    ChangeCause.PROBE_SUCCEEDED: "it answers again",
    ChangeCause.PROBE_FAILED: "the request that tried has failed",
    ChangeCause.PROBE_SLOW: "the request that tried was answered late",
    ChangeCause.OTHER_PROCESS: "another process has found out",
}


def prompt_chars(request: Request) -> int:
    """The length of everything that the model has to read, in characters."""
    return sum(len(message["content"]) for message in request.messages())


class Attempt:
    """Open it, read with `next_batch`, tell it of every batch, report one outcome, close it.

    Batches are told with `note` until there is content, and then by adding the instant of their arrival to `arrivals`.

    The outcomes are `succeed`, `fail` and `release`; the first counts, and closing without one releases. Changes of
    the breaker that its calls bring about are emitted as they happen.
    *owns_watchdog*: closing it closes the watchdog, too.
    *observes_first*: whether the time to the first content is to be added to the target's figures here.
    """

    def __init__(
        self,
        upstream: Upstream,
        request: Request,
        number: int,
        watchdog: Watchdog,
        *,
        owns_watchdog: bool = False,
        observes_first: bool = True,
    ) -> None:
        self.upstream = upstream
        self.request = request
        self.number = number
        self._source: ChatSource | None = None
        self.read_ahead: deque[list[Event]] = deque()
        """Batches that were read before anybody asked for them: see `open_to_content`."""
        self.arrivals: list[float] = []
        """When the first content came, and each batch after it; empty before."""
        self._watchdog = watchdog
        self._owns_watchdog = owns_watchdog
        self._observes_first = observes_first
        self._breaker_generation = upstream.breaker.generation
        self._permit: Permit | None = None
        self._reservation: Reservation | None = None
        self._started_s = 0.0
        self._usage: Usage | None = None

    @property
    def is_open(self) -> bool:
        """Whether the connection was made and is not closed."""
        return self._source is not None

    @property
    def next_batch(self) -> Callable[[], Awaitable[list[Event]]]:
        """How to read on: that of the connection itself, as it is called for every chunk."""
        assert self._source is not None
        return self._source.next_batch

    async def open(self) -> None:
        """Wait for the limiter, ask the breaker, connect. Raises AppError; the outcome is reported then."""
        upstream, request = self.upstream, self.request
        try:
            if upstream.limiter is not None:
                from utils.resilience.limiter import reservation_tokens

                text = "\n".join(message["content"] for message in request.messages())
                tokens = reservation_tokens(text, request.parameters.max_tokens)
                self._reservation = await upstream.limiter.acquire(request.context, tokens, watchdog=self._watchdog)
            now = self._started_s = request.context.clock()
            permit = upstream.breaker.admit(now)
            self._tell_changes()
            if isinstance(permit, Refused):
                raise _refused(upstream.target.name, permit)
            self._permit = permit
            limit_s = request.deadlines.first_token_s
            self._source = await upstream.backend.open_chat(
                request,
                upstream.target,
                attempt=self.number,
                watchdog=self._watchdog,
                first_token_deadline_s=None if limit_s is None else now + limit_s,
            )
        except ProviderError as error:
            self.fail(error)
            raise
        if upstream.limiter is not None:
            for adapted in upstream.limiter.synchronise(
                request.context.clock(), self._source.rate_headers, self._reservation
            ):
                request.context.emit(adapted)

    async def open_to_content(self) -> Attempt:
        """Open, and read on until the first content; for races, which are won by who speaks first."""
        try:
            await self.open()
            while not self.arrivals:
                batch = await self.next_batch()
                self.note(batch, self.request.context.clock())
                self.read_ahead.append(batch)
                if isinstance(batch[-1], Finished):
                    break  # an answer without any text is an answer, too
        except ProviderError as error:
            self.fail(error)
            await self.aclose()
            raise
        except BaseException:
            await self.aclose()
            raise
        return self

    def note(self, batch: list[Event], now: float) -> None:
        """A *batch* arrived at the instant *now*, and none before it had any content.

        The permit is not kept alive after this: the first content has ended its time as a probe (see `Breaker`).
        """
        permit = self._permit
        assert permit is not None
        if any(isinstance(event, TextDelta | ReasoningDelta) for event in batch):
            self.arrivals.append(now)
            permit.first_content(now)
            self._tell_changes()
            observed = self.upstream.observed
            observed.prompt_chars.observe(prompt_chars(self.request))
            if self._observes_first:
                observed.first_content_s.observe(now - self._started_s)

    def note_usage(self, usage: Usage) -> None:
        """The server counted its tokens."""
        self._usage = usage

    def succeed(self) -> None:
        """The answer is whole."""
        permit, self._permit = self._permit, None
        if permit is not None:
            permit.succeed(self.request.context.clock())
            self._tell_changes()
        usage, arrivals = self._usage, self.arrivals
        if usage is not None and usage.completion_tokens > 1 and arrivals:
            seconds = max(arrivals[-1] - arrivals[0], 1e-6)
            self.upstream.observed.tokens_per_s.observe((usage.completion_tokens - 1) / seconds)
        self._settle()

    def fail(self, error: ProviderError) -> None:
        """The attempt failed with *error*, which says whether that was the target's fault."""
        now = self.request.context.clock()
        permit, self._permit = self._permit, None
        limiter = self.upstream.limiter
        was_sent = permit is not None and not isinstance(error, Unreachable)
        if permit is not None:
            if isinstance(error, RateLimited):
                permit.cool_down(now, error.retry_after_s)
                if limiter is not None:
                    limiter.pause(now, error.retry_after_s or 0.0)
            elif error.is_target_failure and not _is_impatience(error, self.request):
                permit.fail(now, retry_after_s=error.retry_after_s)
            else:
                permit.release(now)
            self._tell_changes()
        if limiter is not None and self._reservation is not None and not was_sent:
            limiter.cancel(now, self._reservation)
            self._reservation = None
        self._settle()

    def release(self) -> None:
        """The attempt ends without a verdict: nobody wants the rest of it."""
        permit, self._permit = self._permit, None
        if permit is not None:
            permit.release(self.request.context.clock())
            self._tell_changes()
        self._settle()

    async def aclose(self) -> None:
        """Close the connection; idempotent."""
        self.release()
        source, self._source = self._source, None
        try:
            if source is not None:
                await source.aclose()
        finally:
            if self._owns_watchdog:
                self._watchdog.close()

    def _settle(self) -> None:
        """Give back what was reserved and not used. Without usage nobody knows: all of it counts as used."""
        arrivals, self.arrivals = self.arrivals, []
        if len(arrivals) > 1:
            step = 1 + (len(arrivals) - 2) // _MAX_GAPS
            self.upstream.observed.observe_gaps(map(sub, arrivals[1::step], arrivals[::step]))
        reservation, self._reservation = self._reservation, None
        if reservation is not None and self.upstream.limiter is not None:
            used = reservation.tokens if self._usage is None else self._usage.total_tokens
            self.upstream.limiter.settle(self.request.context.clock(), reservation, used)

    def _tell_changes(self) -> None:
        breaker = self.upstream.breaker
        if breaker.generation == self._breaker_generation:
            return
        for change in breaker.changes_since(self._breaker_generation):
            self._breaker_generation = change.generation
            self.request.context.emit(_told(self.upstream.target.name, change))


def _is_impatience(error: ProviderError, request: Request) -> bool:
    """Whether only this run's short deadlines say that the target failed; others may be content to wait."""
    deadlines = request.deadlines
    limit_s = {FirstTokenTimeout: deadlines.first_token_s, IdleTimeout: deadlines.idle_s}.get(type(error))
    return limit_s is not None and limit_s < _PATIENCE_S


def _told(target: str, change: StateChange) -> BreakerChanged:
    open_for_s = round(change.open_for_s, 3)
    return BreakerChanged(target, change.before.value, change.after.value, _REASONS[change.cause], open_for_s)


def left_alone(target: str, wait_s: float) -> BreakerOpen:
    """The error for *target* whose breaker refuses requests for *wait_s* seconds more."""
    return BreakerOpen(
        f"{target} has failed too often and is left alone for {_short(wait_s)} more",
        hint="run again then, or name another target with --fallback",
        retry_after_s=wait_s,
    )


def _refused(target: str, refused: Refused) -> ProviderError:
    if not refused.is_cooldown:
        return left_alone(target, refused.retry_after_s)
    return RateLimited(
        f"{target} asked to be left alone for {_short(refused.retry_after_s)} more",
        hint="run again then, or name another target with --fallback",
        retry_after_s=refused.retry_after_s,
    )


def _short(wait_s: float) -> str:
    return f"{wait_s:.0f} s" if wait_s >= 0.95 else f"{wait_s * 1e3:.0f} ms"
