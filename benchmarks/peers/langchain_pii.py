"""LangChain: `PIIMiddleware` on an agent whose model is scripted.

The text is what the agent streams. The cost is that of the middleware's own stream transformers on the events of that
stream, without the agent around them, which costs several times more.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import sys
from abc import abstractmethod
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]))

from benchmarks.peers.driver import KEY_REGEX, KEYWORD, Setting, Show, serve

_INPUT = {"messages": [{"role": "user", "content": "Tell me about the harbour."}]}
_SETTLE_TURNS = 8  # of the event loop, so that what a token releases is shown before the next one; 5 were enough


def _scripted_model(current: dict[str, Iterator[str]]) -> Any:
    chat: Any = importlib.import_module("langchain_core.language_models.chat_models")
    messages: Any = importlib.import_module("langchain_core.messages")
    outputs: Any = importlib.import_module("langchain_core.outputs")

    def generate(self: object, *_: object, **__: object) -> Any:
        raise AssertionError("the agent is streamed, so its model is, too")

    async def stream(self: object, *_: object, **__: object) -> AsyncIterator[Any]:
        for token in current["source"]:
            yield outputs.ChatGenerationChunk(message=messages.AIMessageChunk(content=token))
            for _turn in range(_SETTLE_TURNS):
                await asyncio.sleep(0)

    members = {"_llm_type": property(lambda self: "scripted"), "_generate": generate, "_astream": stream}
    return type("ScriptedModel", (chat.BaseChatModel,), {"__module__": __name__, **members})()


def _middleware(merged: bool) -> list[Any]:
    own: Any = importlib.import_module("langchain.agents.middleware.pii")
    flags = {"strategy": "redact", "apply_to_input": False, "apply_to_output": True}
    if not merged:
        kinds = {"email": None, "credit_card": None, "keyword": KEYWORD, "api_key": KEY_REGEX}
        return [own.PIIMiddleware(name, detector=detector, **flags) for name, detector in kinds.items()]
    other = re.compile(f"{KEYWORD}|{KEY_REGEX}")

    def detect(text: str) -> list[Any]:
        found = [own.PIIMatch(type="secret", value=m[0], start=m.start(), end=m.end()) for m in other.finditer(text)]
        return [*found, *own.detect_email(text), *own.detect_credit_card(text)]

    return [own.PIIMiddleware("secret", detector=detect, **flags)]


class _Agent(Setting):
    merged = False

    def __init__(self) -> None:
        agents: Any = importlib.import_module("langchain.agents")
        self._current: dict[str, Iterator[str]] = {}
        self._middleware = _middleware(self.merged)
        self._agent = agents.create_agent(_scripted_model(self._current), middleware=self._middleware)

    def stream(self, source: Iterator[Any], show: Show) -> bool:
        self._current["source"] = source
        asyncio.run(self._read(show))
        return True

    @abstractmethod
    async def _read(self, show: Show) -> None: ...


class _Messages(_Agent):
    label = "stream_mode: messages (default)"
    note = "the middleware redacts the state, not this stream: no cost to tell"
    is_timed = False

    async def _read(self, show: Show) -> None:
        async for message, _ in self._agent.astream(_INPUT, stream_mode="messages"):
            if type(message).__name__ == "AIMessageChunk" and message.content:
                show(message.content)


class _Events(_Agent):
    label = "v3 events"
    note = "a middleware for each of the four rules, as documented; each holds its last 128 characters"

    async def _read(self, show: Show) -> None:
        run = await self._agent.astream_events(_INPUT, version="v3")
        async for message in run.messages:
            async for text in message.text:
                show(text)

    def prepare_timed(self, tokens: Sequence[str]) -> Sequence[Any]:
        payloads = [
            {"event": "content-block-delta", "index": 0, "delta": {"type": "text-delta", "text": token}}
            for token in tokens
        ]
        content = {"type": "text", "text": "".join(tokens)}
        payloads.append({"event": "content-block-finish", "index": 0, "content": content})
        run = {"run_id": "1"}
        return [{"type": "event", "method": "messages", "params": {"data": (payload, run)}} for payload in payloads]

    def time_stream(self, source: Iterator[Any], show: Show) -> bool:
        transformers = [factory() for middleware in self._middleware for factory in middleware.transformers]
        shown = 0
        for event in source:
            for transformer in transformers:
                transformer.process(event)
            payload = event["params"]["data"][0]
            if payload["event"] == "content-block-delta":
                text = payload["delta"]["text"]
            else:
                text = payload["content"]["text"][shown:]
            shown += len(text)
            show(text)
        return True


class _MergedEvents(_Events):
    label = "v3 events, one detector"
    note = "one middleware with one detector for all four, which calls the built-in ones: one look-back of 128"
    merged = True


def load() -> list[Setting]:
    os.environ["LANGSMITH_TRACING"] = "false"
    return [_Messages(), _Events(), _MergedEvents()]


if __name__ == "__main__":
    serve(load, ("langchain", "langchain-core", "langgraph"))
