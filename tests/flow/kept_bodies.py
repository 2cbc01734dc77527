"""What a server really sent, kept answer by answer; one of the answers may be made another one on its way."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx2

__all__ = ["Bodies", "text_of"]


class Bodies:
    """Keeps what the server sent, answer by answer; the text of answer number *corrupts* (from 1) becomes another."""

    def __init__(self, corrupts: int = 0) -> None:
        self.kept: list[bytearray] = []
        self._corrupts = corrupts

    def keep(self, inner: httpx2.AsyncBaseTransport) -> httpx2.AsyncBaseTransport:
        """A transport that does so."""
        return _KeepingTransport(inner, self)

    def begin(self) -> int:
        """Another answer begins; returns its number."""
        self.kept.append(bytearray())
        return len(self.kept)

    def passed(self, number: int, data: bytes) -> bytes:
        """What becomes of *data*, which belongs to answer *number*."""
        self.kept[number - 1] += data
        # No text of the model begins with this.
        return data.replace(b'"content":"', b'"content":"\\u2260') if number == self._corrupts else data


class _KeepingTransport(httpx2.AsyncBaseTransport):
    def __init__(self, inner: httpx2.AsyncBaseTransport, bodies: Bodies) -> None:
        self._inner = inner
        self._bodies = bodies

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.headers.pop("content-length", None)
        response.stream = _KeptBody(response.stream, self._bodies)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _KeptBody(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream, bodies: Bodies) -> None:
        self._inner = inner
        self._bodies = bodies
        self._number = bodies.begin()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in self._inner:
            yield self._bodies.passed(self._number, data)

    async def aclose(self) -> None:
        await self._inner.aclose()


def text_of(body: bytes | bytearray) -> str:
    """The text in the deltas of an answer."""
    rows = [json.loads(line[6:]) for line in bytes(body).splitlines() if line.startswith(b"data: {")]
    return "".join(choice["delta"].get("content") or "" for row in rows for choice in row["choices"])
