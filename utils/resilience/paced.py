"""The pace as a stage of the stream: the thin edge over `pacing.Pacer`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from utils.errors import AppError
from utils.events import Aborted, Event, Redacted, TextDelta
from utils.resilience.pacing import Pacer, tokens_in
from utils.run_context import EventStream, RunContext
from utils.watchdog import Watchdog

__all__ = ["paced"]


async def paced(stream: EventStream, pacer: Pacer, *, context: RunContext) -> AsyncGenerator[Event, None]:
    """Pass *stream* on, the answer's text and its replacements no faster than *pacer* allows.

    Everything else passes at once, and nothing overtakes: an error of the stream is passed on the moment it is read.
    If the run is stopped, or its time is up, while a piece waits, the rest is dropped and the stream ends with
    `Aborted`: what was not shown then is not waited for. *stream* is closed before that, and at every other end
    of a generator that was started. *context*'s clock must be the loop's. Put it behind the stages that measure.
    """
    watchdog = Watchdog(context)
    try:
        async with aclosing(stream):
            try:
                async for event in stream:
                    if isinstance(event, TextDelta):
                        for piece in pacer.pieces(event):
                            await _wait(watchdog, pacer, tokens_in(piece))
                            yield piece
                    else:
                        if isinstance(event, Redacted):
                            await _wait(watchdog, pacer, tokens_in(TextDelta(event.replacement)))
                        yield event
                return
            except AppError as error:
                end = Aborted(error)
        yield end
    finally:
        watchdog.close()


async def _wait(watchdog: Watchdog, pacer: Pacer, tokens: float) -> None:
    now = watchdog.now()
    due_s = pacer.due_s(now, tokens)
    if due_s > now:
        await watchdog.sleep(due_s - now)
