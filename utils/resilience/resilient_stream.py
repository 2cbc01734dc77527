"""One answer out of as many attempts as it takes: the thin I/O driver over breaker, policy and resume.

The order of things in an attempt: breaker permit, connect, first content, the rest; any failure goes to `decide`.
Before the first delivered character a failed attempt is simply repeated; after it only a resume may follow, so no
character is delivered twice. All decisions are made in the pure cores; here one only waits and closes.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol

from utils.errors import AppError, BreakerOpen, ProviderError, ResumeDiverged
from utils.events import (
    Aborted,
    Event,
    Finished,
    Interrupted,
    ReasoningDelta,
    Resumed,
    Retrying,
    TerminalEvent,
    TextDelta,
)
from utils.resilience.breaker import Breaker, Permit, Refused
from utils.resilience.policy import Decision, GiveUp, Resume, RetryPolicy, decide
from utils.resilience.resume import Replay
from utils.run_context import Request, Target
from utils.watchdog import Watchdog

__all__ = ["Backend", "ChatSource", "Opener", "ResilientStream"]


class ChatSource(Protocol):
    """One open answer (see `chat_reader.ChatReader`)."""

    async def next_batch(self) -> list[Event]:
        """The next events; the last batch ends with `Finished`. Raises AppError."""
        ...

    async def aclose(self) -> None:
        """Close the connection."""
        ...


class Backend(Protocol):
    """Whatever can open an answer for a target (see `openai_stream.OpenAIBackend`)."""

    async def open_chat(
        self,
        request: Request,
        target: Target,
        *,
        attempt: int,
        watchdog: Watchdog,
        first_token_deadline_s: float | None,
    ) -> ChatSource:
        """Connect and send. Raises AppError."""
        ...


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens resilient streams to one target. Shared by all runs: the breaker and the backend outlive a run."""

    target: Target
    backend: Backend
    breaker: Breaker
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    rng: random.Random = field(default_factory=random.Random)

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
        self._opener = opener
        self._request = request
        self._watchdog = Watchdog(request.context)
        self._source: ChatSource | None = None
        self._permit: Permit | None = None
        self._first: Event | None = None
        self._delivered: list[str] = []
        """The raw text handed on, in memory only, for a resume to check against."""
        self._events = self._run()

    @property
    def opening_error(self) -> AppError | None:
        """Why no answer has begun; None if one has."""
        return self._first.error if isinstance(self._first, Aborted) else None

    async def prime(self) -> None:
        """Go on until the first content or the end."""
        async for event in self._events:
            if isinstance(event, TextDelta | ReasoningDelta | TerminalEvent):
                self._first = event
                return
            self._request.context.emit(event)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        first = self._first
        if first is not None:
            self._first = None
            return first
        return await anext(self._events)

    async def aclose(self) -> None:
        """Close the connection, give the permit back without an outcome if none was reported; idempotent."""
        await self._events.aclose()
        await self._close_source()
        self._end_permit(None)
        self._watchdog.close()

    async def _run(self) -> AsyncGenerator[Event, None]:
        attempt = 1
        replay: Replay | None = None
        failed_at_s = 0.0
        try:
            while True:
                cause: ProviderError
                try:
                    source = await self._opened(attempt)
                    while True:
                        batch = await source.next_batch()
                        if replay is not None:
                            batch = replay.feed(batch)
                        for event in batch:
                            match event:
                                case TextDelta(text=text):
                                    if replay is not None:
                                        yield self._resumed(replay, attempt, failed_at_s)
                                        replay = None
                                    self._delivered.append(text)
                                case Finished():
                                    if replay is not None:
                                        self._check_not_shorter(replay)
                                        yield self._resumed(replay, attempt, failed_at_s)
                                    await self._close_source()
                                    self._end_permit(True)
                                    yield event
                                    return
                                case _:
                                    pass
                            yield event
                        if self._permit is not None:
                            self._permit.keep_alive(self._now())
                except ProviderError as error:
                    cause = error
                self._end_permit(False if cause.is_target_failure else None)
                await self._close_source()
                delivered_chars = sum(map(len, self._delivered))
                if delivered_chars:
                    yield Interrupted(cause, delivered_chars)
                decision = self._decided(cause, attempt, delivered_chars)
                if isinstance(decision, GiveUp):
                    yield Aborted(decision.error)
                    return
                if replay is None:
                    failed_at_s = self._now()
                attempt += 1
                replay = Replay("".join(self._delivered)) if isinstance(decision, Resume) else None
                yield Retrying(attempt, decision.delay_s, cause)
                await self._watchdog.sleep(decision.delay_s)
        except AppError as error:  # TotalTimeout, a stop, a guard of the server: nothing may follow these
            self._end_permit(None)
            await self._close_source()
            yield Aborted(error)

    async def _opened(self, attempt: int) -> ChatSource:
        opener, request = self._opener, self._request
        now = self._now()
        permit = opener.breaker.admit(now)
        if isinstance(permit, Refused):
            raise BreakerOpen(
                f"{opener.target.name} has failed too often and is left alone for {permit.retry_after_s:.0f} s more",
                hint="run again then, or use another --base-url",
                retry_after_s=permit.retry_after_s,
            )
        self._permit = permit
        limit_s = request.deadlines.first_token_s
        self._source = await opener.backend.open_chat(
            request,
            opener.target,
            attempt=attempt,
            watchdog=self._watchdog,
            first_token_deadline_s=None if limit_s is None else now + limit_s,
        )
        return self._source

    def _decided(self, cause: ProviderError, attempt: int, delivered_chars: int) -> Decision:
        deadline_s = self._request.context.deadline_s
        return decide(
            cause,
            attempt=attempt,
            delivered_chars=delivered_chars,
            can_replay=self._opener.target.is_deterministic,
            remaining_s=None if deadline_s is None else deadline_s - self._now(),
            policy=self._opener.policy,
            rng=self._opener.rng,
        )

    def _resumed(self, replay: Replay, attempt: int, failed_at_s: float) -> Resumed:
        return Resumed("replay", attempt, round(self._now() - failed_at_s, 6), replay.overlap_chars)

    def _check_not_shorter(self, replay: Replay) -> None:
        if not replay.is_caught_up:
            raise ResumeDiverged(
                f"the repeated answer ended after {replay.overlap_chars} characters, before the first one did",
                hint="the answer is not whole; run again",
            )

    async def _close_source(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            await source.aclose()

    def _end_permit(self, outcome: bool | None) -> None:
        """Report the attempt's outcome: True delivered, False failed, None no verdict."""
        permit, self._permit = self._permit, None
        if permit is None:
            return
        report = {True: permit.succeed, False: permit.fail, None: permit.release}[outcome]
        report(self._now())

    def _now(self) -> float:
        return self._request.context.clock()
