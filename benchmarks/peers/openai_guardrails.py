"""openai-guardrails: keyword filter and secret keys on a streamed answer. Everything is shown, then checked."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]))

from benchmarks.peers.driver import EMAIL_REGEX, KEY_REGEX, KEYWORD, Setting, Show, serve


class _Client(Setting):
    label = "default"
    note = "checks all text each 100 chunks, after it was shown; no rule for cards without a downloaded model"

    def __init__(self) -> None:
        guardrails: Any = importlib.import_module("guardrails")
        self._chunk_type: Any = importlib.import_module("openai.types.chat").ChatCompletionChunk
        self._tripped: Any = guardrails.GuardrailTripwireTriggered
        checks = [
            {"name": "Keyword Filter", "config": {"keywords": [KEYWORD]}},
            {"name": "Secret Keys", "config": {"custom_regex": [KEY_REGEX, EMAIL_REGEX]}},
        ]
        config = {"version": 1, "output": {"version": 1, "guardrails": checks}}
        self._client = guardrails.GuardrailsAsyncOpenAI(config=config, api_key="unused")

    def prepare(self, tokens: Sequence[str]) -> Sequence[Any]:
        head = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        choices = [[{"index": 0, "delta": {"content": token}, "finish_reason": None}] for token in tokens]
        return [self._chunk_type.model_validate({**head, "choices": choice}) for choice in choices]

    def stream(self, source: Iterator[Any], show: Show) -> bool:
        return asyncio.run(self._read(source, show))

    async def _read(self, source: Iterator[Any], show: Show) -> bool:
        async def chunks() -> AsyncIterator[Any]:
            for chunk in source:
                yield chunk

        # What `chat.completions.create(stream=True)` calls once it has the model's stream.
        guarded = self._client._stream_with_guardrails(chunks(), [], [])
        try:
            async for response in guarded:
                show(response.choices[0].delta.content)
        except self._tripped:
            return False
        return True


if __name__ == "__main__":
    serve(lambda: [_Client()], ("openai-guardrails",))
