"""LiteLLM: the content filter of its proxy, through the hook that the proxy calls for a streamed answer."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]))

from benchmarks.peers.driver import KEY_REGEX, KEYWORD, Setting, Show, serve

_HOOKS = "litellm.proxy.guardrails.guardrail_hooks"


class _ContentFilter(Setting):
    def __init__(self, action: str, note: str) -> None:
        filters: Any = importlib.import_module(f"{_HOOKS}.litellm_content_filter.content_filter")
        proxy: Any = importlib.import_module("litellm.proxy._types")
        self._types: Any = importlib.import_module("litellm.types.utils")
        self._blocked: Any = importlib.import_module("fastapi").HTTPException
        self._user = proxy.UserAPIKeyAuth()
        patterns: list[dict[str, str]] = [
            {"pattern_type": "prebuilt", "pattern_name": name, "action": action} for name in ("email", "credit_card")
        ]
        patterns.append({"pattern_type": "regex", "name": "key", "pattern": KEY_REGEX, "action": action})
        self._filter = filters.ContentFilterGuardrail(
            guardrail_name="benchmark",
            patterns=patterns,
            blocked_words=[{"keyword": KEYWORD, "action": action}],
            event_hook="post_call",
        )
        self.label, self.note = f"content filter, {action}", note

    def prepare(self, tokens: Sequence[str]) -> Sequence[Any]:
        return [self._chunk(token, None) for token in tokens] + [self._chunk("", "stop")]

    def _chunk(self, text: str, reason: str | None) -> Any:
        types = self._types
        choice = types.StreamingChoices(index=0, delta=types.Delta(content=text), finish_reason=reason)
        return types.ModelResponseStream(choices=[choice])

    def stream(self, source: Iterator[Any], show: Show) -> bool:
        return asyncio.run(self._read(source, show))

    async def _read(self, source: Iterator[Any], show: Show) -> bool:
        async def chunks() -> AsyncIterator[Any]:
            for chunk in source:
                yield chunk

        hook = self._filter.async_post_call_streaming_iterator_hook
        try:
            async for chunk in hook(self._user, chunks(), {"metadata": {}}):
                text = chunk.choices[0].delta.content
                if text:
                    show(text)
        except self._blocked:
            return False
        return True


def load() -> list[Setting]:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    return [
        _ContentFilter("MASK", "holds the last 50 characters"),
        _ContentFilter("BLOCK", "the same; the answer ends at a match"),
    ]


if __name__ == "__main__":
    serve(load, ("litellm",))
