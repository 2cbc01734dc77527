"""Judges an answer's sentences at an endpoint while it streams: the tasks around utils/guardrails/moderation.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from utils.errors import InternalError
from utils.events import Aborted, Event
from utils.guardrails.moderation import (
    Moderation,
    ModerationPolicy,
    ModerationStatistics,
    RemoteClassifier,
    Sentence,
)
from utils.guardrails.toxicity import ToxicityClassifier
from utils.run_context import EventStream, RunContext

__all__ = ["moderated"]


async def moderated(
    stream: EventStream,
    classifier: RemoteClassifier,
    policy: ModerationPolicy,
    *,
    local: ToxicityClassifier,
    context: RunContext,
    on_statistics: Callable[[ModerationStatistics], None] | None = None,
) -> AsyncGenerator[Event, None]:
    """Pass *stream*, the raw one, on with its answer judged by *classifier*, or by *local* where that fails.

    What is passed on, and when, says utils/guardrails/moderation.py. A call ends after `policy.call_timeout_s`, and
    when the time of the run is up; a run that is stopped ends at once. *context*'s clock must be the loop's.
    *stream* is closed and no task is left before the terminal event is passed on, and at every other end of a generator
    that was started; *on_statistics* is called once, at the very end.
    """
    core = Moderation(policy, local, name=classifier.name)
    work = _Work(stream, classifier, core, context, policy)
    try:
        async with aclosing(stream):
            try:
                while True:
                    work.start()
                    for event in core.released():
                        yield event
                    if core.end is not None:
                        break
                    await work.wait()
            finally:
                await work.close()
        yield core.end
    finally:
        if on_statistics is not None:
            on_statistics(core.statistics())


class _Work:
    """At most one task that reads the stream, and a few that wait for judgements."""

    def __init__(
        self,
        stream: EventStream,
        classifier: RemoteClassifier,
        core: Moderation,
        context: RunContext,
        policy: ModerationPolicy,
    ) -> None:
        self._stream = stream
        self._classifier = classifier
        self._core = core
        self._context = context
        self._policy = policy
        self._wake = asyncio.Event()
        self._pull: asyncio.Task[Event] | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self._bug: BaseException | None = None
        self._remove_stop = context.on_stop(self._wake.set)

    def start(self) -> None:
        """Start what can be started."""
        core, context = self._core, self._context
        while len(self._calls) < self._policy.in_flight_max and (batch := core.next_batch(context.clock())):
            call = asyncio.create_task(self._call(batch))
            self._calls.add(call)
            call.add_done_callback(self._called)
        if self._pull is None and core.wants_more:
            self._pull = asyncio.create_task(self._next())
            self._pull.add_done_callback(lambda _: self._wake.set())

    async def wait(self) -> None:
        """Wait for something to happen, and take it in. Raises: what the stream raises."""
        core, context = self._core, self._context
        await self._wake.wait()
        self._wake.clear()
        if self._bug is not None:
            raise self._bug
        if context.stopped is not None:
            core.stop(Aborted(context.stopped))
        elif self._pull is not None and self._pull.done():
            pull, self._pull = self._pull, None
            core.take(pull.result(), context.clock())

    async def close(self) -> None:
        """Cancel what runs and wait for its end; nothing reads the stream afterwards."""
        self._remove_stop()
        tasks = [*self._calls, *([self._pull] if self._pull is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _next(self) -> Event:
        async for event in self._stream:
            return event
        return Aborted(InternalError("the stream ended without a terminal event"))

    async def _call(self, batch: tuple[Sentence, ...]) -> None:
        context, limit_s = self._context, self._policy.call_timeout_s
        if context.deadline_s is not None:
            limit_s = min(limit_s, context.deadline_s - context.clock())
        try:
            if limit_s <= 0:
                raise TimeoutError
            # Around one call, never around a yield: utils/watchdog.py says why.
            async with asyncio.timeout(limit_s):
                judgements = await self._classifier.judge([sentence.text for sentence in batch])
        except Exception as error:
            self._core.failed(batch, error, context.clock())
        else:
            self._core.judged(batch, judgements, context.clock())

    def _called(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        if not call.cancelled():
            self._bug = self._bug or call.exception()
        self._wake.set()
