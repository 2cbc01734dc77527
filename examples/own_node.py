"""A node of your own in the stream: it ends the answer after a number of sentences and counts what it saw.

    python examples/own_node.py [SENTENCES]

It stands behind the guards, so it sees what the reader sees. Whatever it does, the connection is closed and the report
written.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncGenerator
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if find_spec("openai") is None:
    sys.exit("error: this Python has no packages\nhint: use .venv/bin/python, which `make run` makes")

from flow import StreamingFlow
from nodes import StreamStage
from utils.events import Event, Finished, TextDelta
from utils.run_context import EventStream

PROMPT = "Tell me about the sea."


class Sentences(StreamStage):
    """Passes on the first *limit* sentences and finishes the answer behind them."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    async def transform(self, stream: EventStream) -> AsyncGenerator[Event, None]:
        """Cut the text at the end of the last sentence that is wanted."""
        ended = 0
        async for event in stream:
            if not isinstance(event, TextDelta):
                yield event
                continue
            for end in re.finditer(r"[.!?](?=\s|$)", event.text):
                ended += 1
                if ended == self._limit:
                    yield TextDelta(event.text[: end.end()], event.tokens)
                    yield Finished("sentences")
                    return
            yield event


async def main() -> int:
    """Ask once; the exit code of the answer."""
    limit = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    async with StreamingFlow(guardrails=True, max_tokens=120, after_guards=[Sentences(limit)]) as flow:
        report = await flow.run(PROMPT, on_text=lambda text: print(text, end="", flush=True))
    print()
    print(f"finish_reason {report.finish_reason}, {report.metrics['chars']} characters", file=sys.stderr)
    return report.exit_code


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
