"""The contract of an event stream, enforced once: whatever goes wrong below, consumers see a well-formed stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from utils.errors import InternalError
from utils.events import Aborted, Event, TerminalEvent, TextDelta
from utils.run_context import EventStream

__all__ = ["well_formed"]


async def well_formed(stream: EventStream) -> AsyncGenerator[Event, None]:
    """The same events: no empty text, exactly one terminal event, nothing after it, the stream closed behind it.

    A stream that ends without a terminal event is a bug of ours, and is reported as one instead of as success.
    """
    async with aclosing(stream):
        async for event in stream:
            if isinstance(event, TextDelta) and not event.text:
                continue
            yield event
            if isinstance(event, TerminalEvent):
                return
        yield Aborted(InternalError("the stream ended without saying how", hint="please report this"))
