"""One answer out of as many attempts as it takes, at as many targets: the thin I/O driver over the resilience cores.

    for each attempt    limiter, breaker permit, connect, first content (a second request, if that is late), the rest
    after a failure     `decide` says retry, resume, fall back or give up

Before the first delivered character a failed attempt is simply repeated; after it only a way to go on may follow, and
what comes back passes a joiner, so no character is delivered twice. All decisions are made in the pure cores; here one
only waits and closes.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from utils.errors import AppError, ProviderError, RequestRefused
from utils.events import (
    Aborted,
    Event,
    FellBack,
    Finished,
    Flagged,
    ReasoningDelta,
    Retrying,
    TerminalEvent,
    TextDelta,
    Usage,
)
from utils.resilience.attempt import Attempt
from utils.resilience.course import Course
from utils.resilience.resume import Replay
from utils.resilience.retry_policy import RetryPolicy
from utils.resilience.upstream import Upstream
from utils.run_context import Request, Target
from utils.watchdog import Watchdog

if TYPE_CHECKING:
    from utils.resilience.adapting import Adaptation
    from utils.resilience.hedging import HedgePlan

__all__ = ["Opener", "ResilientStream"]


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens resilient streams to a chain of targets. Shared by all runs: what the upstreams know outlives a run.

    *adaptation*: None keeps everything as it was set.
    """

    upstreams: Sequence[Upstream]
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    rng: random.Random = field(default_factory=random.Random)
    adaptation: Adaptation | None = None

    @property
    def target(self) -> Target:
        """The first target of the chain."""
        return self.upstreams[0].target

    def upstream(self, name: str | None) -> Upstream:
        """The upstream whose target has this *name*; the first one if none has."""
        return next((one for one in self.upstreams if one.target.name == name), self.upstreams[0])

    async def open(self, request: Request) -> ResilientStream:
        """Connect, retry as the policy says, and return at the first content or at the end of all attempts.

        What happens until then (retries, the opened connection) is emitted at once; the returned stream begins
        with the first content, or consists of one `Aborted`: see `opening_error`.
        """
        stream = ResilientStream(self, request)
        try:
            await stream.prime()
        except BaseException:
            await stream.aclose()
            raise
        return stream


class ResilientStream:
    """The EventStream of one request. Drain it or close it; it holds a connection."""

    def __init__(self, opener: Opener, request: Request) -> None:
        self._adaptation = opener.adaptation
        self._rng = opener.rng
        self._context = request.context
        self._course = Course(request, opener.upstreams, opener.policy, opener.rng)
        self._watchdog = Watchdog(request.context)
        self._attempt: Attempt | None = None
        self._first: Event | None = None
        self._events = self._run()
        self._next: Callable[[], Awaitable[Event]] = self._events.__anext__

    @property
    def opening_error(self) -> AppError | None:
        """Why no answer has begun; None if one has."""
        return self._first.error if isinstance(self._first, Aborted) else None

    async def prime(self) -> None:
        """Go on until the first content or the end."""
        async for event in self._events:
            if isinstance(event, TextDelta | ReasoningDelta | TerminalEvent):
                self._first, self._next = event, self._take_first
                return
            self._context.emit(event)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    def __anext__(self) -> Awaitable[Event]:
        # Not a coroutine of its own: that would cost as much as half of what is done per chunk here.
        return self._next()

    async def _take_first(self) -> Event:
        first, self._first, self._next = self._first, None, self._events.__anext__
        assert first is not None
        return first

    async def aclose(self) -> None:
        """Close the connection, give the permit back without an outcome if none was reported; idempotent."""
        await self._events.aclose()
        await self._close_attempt()
        self._watchdog.close()

    async def _run(self) -> AsyncGenerator[Event, None]:
        course, clock = self._course, self._context.clock
        add_text = course.answer.add
        try:
            if self._adaptation is not None:
                course.upstreams = self._adaptation.ordered(course.upstreams, course.request, self._rng)
            while True:
                loop = None
                try:
                    if course.is_at_limit():
                        yield Finished("length")
                        return
                    attempt = await self._opened()
                    joiner = course.joiner()
                    next_batch, read_ahead, arrivals = attempt.next_batch, attempt.read_ahead, attempt.arrivals
                    arrived = arrivals.append
                    while loop is None:
                        if read_ahead:
                            batch = read_ahead.popleft()
                        else:
                            batch = await next_batch()
                            if arrivals:
                                arrived(clock())
                            else:
                                attempt.note(batch, clock())
                        if joiner is not None:
                            batch = course.joined(joiner, batch, clock())
                            if course.is_joined and isinstance(joiner, Replay):
                                joiner = None  # all that follows is new
                        for event in batch:
                            if type(event) is TextDelta:
                                loop = add_text(event)
                                yield event
                                if loop is not None:
                                    yield Flagged("repetition", loop.starts_at, course.answer.chars)
                                    if self._may_cut() and not isinstance(batch[-1], Finished):
                                        break
                                    loop = None
                            elif isinstance(event, Finished):
                                attempt.succeed()
                                await self._close_attempt()
                                yield event
                                return
                            else:
                                if isinstance(event, Usage):
                                    attempt.note_usage(event)
                                elif isinstance(event, ReasoningDelta):
                                    course.answer.has_reasoned = True
                                yield event
                except ProviderError as error:
                    cause = error
                else:
                    await self._close_attempt()
                    seam, adapted = course.cut(loop, clock())
                    for delta in seam:
                        yield delta
                    yield adapted
                    course.learn(await course.upstream.detected(self._watchdog))
                    continue
                for told in await self._failed(cause):
                    yield told
                if course.wants_to_know(cause):
                    course.learn(await course.upstream.detected(self._watchdog))
                what_follows = course.after(cause, clock())
                yield what_follows
                if isinstance(what_follows, Aborted):
                    return
                if isinstance(what_follows, Retrying):
                    await self._watchdog.sleep(what_follows.delay_s)
                elif isinstance(what_follows, FellBack) and course.answer:
                    course.learn(await course.upstream.detected(self._watchdog))
        except AppError as error:  # TotalTimeout, a stop, a guard of the server: nothing may follow these
            await self._close_attempt()
            yield Aborted(error)

    async def _opened(self) -> Attempt:
        """The next attempt, connected."""
        course, adaptation = self._course, self._adaptation
        upstream, request = course.upstream, course.next_request()
        if course.tries == 1:
            upstream.budget.note_request(self._context.clock())
        plan = None
        if adaptation is not None:
            if not course.is_last_chance:
                request = adaptation.timed(request, upstream)
            if course.way == "restart":
                plan = adaptation.hedge(request, upstream)
        try:
            if plan is not None:
                self._attempt = attempt = await self._raced(request, plan)
            else:
                self._attempt = attempt = Attempt(upstream, request, course.number, self._watchdog)
                await attempt.open()
        except RequestRefused as error:
            raise course.refusal(error) from error
        return attempt

    async def _raced(self, request: Request, plan: HedgePlan) -> Attempt:
        """The first of two attempts that speaks; each has a watchdog of its own, as they run in tasks of their own."""
        from utils.resilience.hedged import hedged

        course, upstream = self._course, self._course.upstream

        def attempt() -> Attempt:
            return Attempt(
                upstream, request, course.number, Watchdog(self._context), owns_watchdog=True, observes_first=False
            )

        async def first() -> Attempt:
            return await attempt().open_to_content()

        async def second() -> Attempt:
            course.number += 1
            return await attempt().open_to_content()

        race = await hedged(first, second, plan, self._context.clock, close=Attempt.aclose)
        assert upstream.hedger is not None
        upstream.hedger.note_winner(race.winner, race.winner_s, race.overtaken_s)
        return race.value

    async def _failed(self, cause: ProviderError) -> list[Event]:
        """Report and close the failed attempt; the event that tells of it, if text had been delivered."""
        attempt, now = self._attempt, self._context.clock()
        was_open = attempt is not None and attempt.is_open
        if attempt is not None:
            attempt.fail(cause)
        await self._close_attempt()
        # The reader has waited since then, closing included.
        return self._course.note_failure(cause, now, was_open=was_open)

    def _may_cut(self) -> bool:
        adaptation = self._adaptation
        return adaptation is not None and self._course.loops < adaptation.max_loops and self._course.may_cut()

    async def _close_attempt(self) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            await attempt.aclose()
