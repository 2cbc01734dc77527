"""NeMo Guardrails: its regex rail on a stream handed to `stream_async(generator=...)`."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]))

from benchmarks.peers.driver import CARD_REGEX, EMAIL_REGEX, KEY_REGEX, KEYWORD, Setting, Show, serve


class _RegexRail(Setting):
    def __init__(self, label: str, note: str, streaming: dict[str, object]) -> None:
        nemo: Any = importlib.import_module("nemoguardrails")
        patterns = [rf"\b{KEYWORD}\b", CARD_REGEX, EMAIL_REGEX, KEY_REGEX]
        output = {"flows": ["regex check output"], "streaming": {"enabled": True, **streaming}}
        rails = {"config": {"regex_detection": {"output": {"patterns": patterns}}}, "output": output}
        config = nemo.RailsConfig.from_content(config={"models": [], "rails": rails})
        self._rails = nemo.LLMRails(config)
        self.label, self.note = label, note

    def stream(self, source: Iterator[Any], show: Show) -> bool:
        return asyncio.run(self._read(source, show))

    async def _read(self, source: Iterator[Any], show: Show) -> bool:
        async def tokens() -> AsyncIterator[str]:
            for token in source:
                yield token

        async for text in self._rails.stream_async(generator=tokens()):
            if text.startswith('{"error":'):
                return False
            show(text)
        return True


def load() -> list[Setting]:
    return [
        _RegexRail("default", "batches of 200 tokens, context 50; each is shown, then checked (stream_first)", {}),
        _RegexRail("stream_first: false", "batches of 200 tokens, context 50", {"stream_first": False}),
        _RegexRail(
            "stream_first: false, 20/10",
            "batches of 20 tokens, context 10, for a shorter delay",
            {"stream_first": False, "chunk_size": 20, "context_size": 10},
        ),
    ]


if __name__ == "__main__":
    serve(load, ("nemoguardrails",))
