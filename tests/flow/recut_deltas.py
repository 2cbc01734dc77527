"""The same text in other deltas: a transport that joins neighbouring deltas of an answer, as a proxy may do.

A server of one token per event sends the same deltas each time, so that the seam of a replayed answer would always fall
between two of them. What was held when a body breaks is lost, as it would be in a proxy.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2

__all__ = ["DeltaMerger", "RecutTransport"]


class DeltaMerger:
    """Merges the text of *size* events that follow each other; everything else passes unchanged, in its order."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._rest = b""
        self._held: list[dict[str, Any]] = []

    def feed(self, data: bytes) -> bytes:
        """What may pass."""
        *blocks, self._rest = (self._rest + data).split(b"\n\n")
        return b"".join(self._passed(block + b"\n\n") for block in blocks)

    def finish(self) -> bytes:
        """What is held at the end of a body."""
        return self._joined() + self._rest

    def _passed(self, block: bytes) -> bytes:
        row = _text_event(block)
        if row is None:
            return self._joined() + block
        self._held.append(row)
        return self._joined() if len(self._held) == self._size else b""

    def _joined(self) -> bytes:
        held, self._held = self._held, []
        if not held:
            return b""
        first = held[0]
        choices = [row["choices"][0] for row in held]
        first["choices"][0]["delta"]["content"] = "".join(choice["delta"]["content"] for choice in choices)
        if all(choice.get("logprobs") for choice in choices):
            first["choices"][0]["logprobs"]["content"] = [
                token for choice in choices for token in choice["logprobs"]["content"]
            ]
        return b"data: " + json.dumps(first).encode() + b"\n\n"


def _text_event(block: bytes) -> dict[str, Any] | None:
    """The JSON of an event that brings text and nothing else that matters."""
    try:
        row = json.loads(block.removeprefix(b"data: "))
        choice = row["choices"][0]
        is_text = isinstance(choice["delta"]["content"], str) and choice["finish_reason"] is None
    except (ValueError, TypeError, LookupError):
        return None
    return row if is_text else None


class RecutTransport(httpx2.AsyncBaseTransport):
    """*size* is asked for every answer; 1 leaves it alone."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, size: Callable[[], int]) -> None:
        self._inner = inner
        self._size = size

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        size = self._size()
        if size > 1:
            assert isinstance(response.stream, httpx2.AsyncByteStream)
            response.headers.pop("content-length", None)
            response.stream = _RecutBody(response.stream, DeltaMerger(size))
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _RecutBody(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream, merger: DeltaMerger) -> None:
        self._inner = inner
        self._merger = merger

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in self._inner:
            if passed := self._merger.feed(data):
                yield passed
        if passed := self._merger.finish():
            yield passed

    async def aclose(self) -> None:
        await self._inner.aclose()
