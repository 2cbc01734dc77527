"""The demand for a code block as a stage of the stream: an answer without one is not what was asked for."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from utils.code_block import CodeBlock
from utils.errors import ValidationFailed
from utils.events import Aborted, Event, Finished, Redacted, TextDelta
from utils.run_context import EventStream

__all__ = ["requiring_code_block"]


async def requiring_code_block(stream: EventStream) -> AsyncGenerator[Event, None]:
    """Pass *stream* on as it is. If it finishes without a fenced code block, `Aborted(ValidationFailed)` stands in the
    place of `Finished`; every other end stays. Put it behind the guards: a replacement is part of what is shown.
    """
    block = CodeBlock()
    async with aclosing(stream):
        async for event in stream:
            match event:
                case TextDelta(text=text) | Redacted(replacement=text):
                    block.feed(text)
                case Finished(finish_reason=reason):
                    block.finish()
                    if not block.is_found:
                        event = _refused(reason)
                case _:
                    pass
            yield event


def _refused(finish_reason: str) -> Aborted:
    # One line for whoever called: no hint.
    cut = "; it ends at the token limit, which --max-tokens raises" if finish_reason == "length" else ""
    return Aborted(ValidationFailed(f"the answer has no code block{cut}"))
