"""Bodies of HTTP responses, bounded: what a server sends must not fill the memory or keep the event loop busy."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterator

import httpx2

from utils.errors import ConnectionLost, NotAStream

__all__ = ["Inflater", "bound_other_bodies"]

_PIECE_BYTES = 65_536
_MAX_ERROR_BYTES = 65_536
"""Of an error's body: enough for any message."""
_MAX_BODY_BYTES = 4 << 20
"""Of another body that is no stream: the longest list of models that we know has 0.5 MB."""
_MAX_COMPRESSED_BYTES = 16_384
"""Of a compressed body that is no stream: deflate grows at most 1,032 times, so 17 MB come out."""
_WBITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class Inflater:
    """Decompresses a stream in bounded pieces. We ask for identity encoding; some proxies compress all the same.

    *shown_as* is the encoding's name for people. Sans I/O: `feed(bytes)` is an iterator of pieces of at most 64 KiB, so
    that the caller can look at its clock between them (a few hundred kilobytes may hold gigabytes). `finish()` raises
    ConnectionLost if the end is missing.
    """

    def __init__(self, encoding: str, *, shown_as: str) -> None:
        if encoding not in _WBITS:
            raise NotAStream(
                f"the server compresses the stream ({shown_as!r}), though it was asked not to",
                hint="switch compression of event streams off at the server or the proxy before it",
            )
        self._wbits = _WBITS[encoding]
        self._inflate = zlib.decompressobj(self._wbits)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The decompressed pieces. Raises ConnectionLost if the data is broken."""
        try:
            while data:
                if self._inflate.eof:  # a body may have several members (RFC 1952, 2.2)
                    self._inflate = zlib.decompressobj(self._wbits)
                yield self._inflate.decompress(data, _PIECE_BYTES)
                data = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
        except zlib.error as error:
            raise ConnectionLost("the server sent a body whose compression is broken", hint="run again") from error

    def finish(self) -> None:
        """Check that the compressed data came to its end."""
        if not self._inflate.eof:
            raise ConnectionLost("the server's compressed body ended too early", hint="run again")


async def bound_other_bodies(response: httpx2.Response) -> None:
    """An event hook of the client: bound the body of every response that is not a successful event stream.

    The SDK reads such bodies whole before it makes an error of them.
    """
    is_stream = response.headers.get("content-type", "").lower().startswith("text/event-stream")
    if response.status_code < 300 and is_stream:
        return
    limit = _MAX_BODY_BYTES if response.status_code < 300 else _MAX_ERROR_BYTES
    if response.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        limit = min(limit, _MAX_COMPRESSED_BYTES)
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    response.stream = _Bounded(response.stream, limit)


class _Bounded(httpx2.AsyncByteStream):
    """The first *limit* bytes of a body; the rest is never read."""

    def __init__(self, inner: httpx2.AsyncByteStream, limit: int) -> None:
        self._inner = inner
        self._limit = limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._limit
        async for data in self._inner:
            yield data[:left]
            left -= len(data)
            if left <= 0:
                return

    async def aclose(self) -> None:
        await self._inner.aclose()
