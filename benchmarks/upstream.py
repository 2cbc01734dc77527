"""A loopback server for benchmarks, in a process of its own and cheaper than any client.

Everything that it sends is rendered once. One thread waits for all sockets and writes to them directly; no library is
between it and the kernel. The path says how to answer:

    /burst/CHUNKS/v1/chat/completions             the whole answer at once
    /paced/MICROSECONDS/CHUNKS/v1/...             a chunk every so often, each connection in its own rhythm

An answer is a role chunk, CHUNKS chunks of text (a word of ordinary prose each), a finish_reason, usage, `[DONE]`;
about 330 bytes each, every event an HTTP chunk of its own. Connections are kept alive. Prints its port, ends with its
stdin.
"""

from __future__ import annotations

import heapq
import json
import re
import selectors
import socket
import subprocess
import sys
import time
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["Upstream", "events_of", "text_of"]

_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n"
    b"Cache-Control: no-cache\r\n\r\n"
)
_MODELS = b'{"object":"list","data":[{"id":"bench-model","object":"model","owned_by":"bench"}]}'
_LENGTH = re.compile(rb"(?i)content-length: *(\d+)")
_PATH = re.compile(rb"POST /(burst|paced/(\d+))/(\d+)/")


_PROSE_TEXT = (
    "The keeper of the lighthouse climbed the stairs before sunrise, as he had done for thirty years, and looked at "
    "the sea. It was calm that day; a few boats were on their way home, low in the water, and gulls followed them. He "
    "wrote down the wind and the weather, cleaned the lamp, and thought of the letter that had come the week before. "
)
_PROSE = tuple(_PROSE_TEXT.split())


def text_of(chunks: int) -> str:
    """The text of an answer of so many chunks."""
    return "".join(_words(chunks))


def _words(chunks: int) -> list[str]:
    return [f"{_PROSE[number % len(_PROSE)]} " for number in range(chunks)]


def _event(delta: dict[str, str], finish_reason: str | None = None, usage: dict[str, int] | None = None) -> bytes:
    """One server-sent event."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    row = {
        "id": "chatcmpl-CbT2mXcN5pYqLr8sVw3dKf7hJg1zA",
        "object": "chat.completion.chunk",
        "created": 1793000000,
        "model": "bench-model-2026-10-01",
        "service_tier": "default",
        "system_fingerprint": "fp_0123456789",
        "choices": [] if usage else [choice],
        "usage": usage,
        "obfuscation": "aB3dE5gH7jK9",
    }
    return b"data: " + json.dumps(row, separators=(",", ":")).encode() + b"\n\n"


def events_of(chunks: int) -> list[bytes]:
    """The events of an answer of so many chunks, without HTTP."""
    usage = {"prompt_tokens": 9, "completion_tokens": chunks, "total_tokens": 9 + chunks}
    return [
        _event({"role": "assistant", "content": ""}),
        *(_event({"content": word}) for word in _words(chunks)),
        _event({}, "stop"),
        _event({}, usage=usage),
        b"data: [DONE]\n\n",
    ]


@lru_cache(maxsize=32)
def _rendered(chunks: int) -> tuple[bytes, ...]:
    *events, done = (f"{len(event):x}\r\n".encode() + event + b"\r\n" for event in events_of(chunks))
    return (*events, done + b"0\r\n\r\n")


class _Connection:
    """What is known of one client."""

    __slots__ = ("answer", "every_s", "out", "position", "received", "socket")

    def __init__(self, client: socket.socket) -> None:
        self.socket = client
        self.received = b""
        self.out = memoryview(b"")
        self.answer: tuple[bytes, ...] = ()
        self.position = 0
        self.every_s = 0.0


class _Server:
    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=8192)
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(sys.stdin, selectors.EVENT_READ)
        self._due: list[tuple[float, int, _Connection]] = []
        self._number = 0

    def run(self) -> None:
        sys.stdout.write(f"{self._listener.getsockname()[1]}\n")
        sys.stdout.flush()
        while True:
            wait_s = max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
            for key, events in self._selector.select(wait_s):
                if key.fileobj is sys.stdin:
                    return
                if key.fileobj is self._listener:
                    self._accept()
                elif events & selectors.EVENT_WRITE:
                    self._flush(key.data)
                else:
                    self._read(key.data)
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                at, _, connection = heapq.heappop(self._due)
                self._next(connection, at)

    def _accept(self) -> None:
        try:
            while True:
                client, _ = self._listener.accept()
                client.setblocking(False)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._selector.register(client, selectors.EVENT_READ, _Connection(client))
        except BlockingIOError:
            return

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.socket.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
            return
        connection.received += data
        head, separator, body = connection.received.partition(b"\r\n\r\n")
        if not separator:
            return
        length = _LENGTH.search(head)
        if len(body) < (int(length[1]) if length else 0):
            return
        connection.received = b""
        self._answer(connection, head)

    def _answer(self, connection: _Connection, head: bytes) -> None:
        found = _PATH.match(head)
        if found is None:
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            self._send(connection, head % len(_MODELS) + _MODELS)
            return
        answer = _rendered(int(found[3]))
        if found[2] is None:
            self._send(connection, _HEAD + b"".join(answer))
            return
        connection.answer, connection.position = answer, 0
        connection.every_s = int(found[2]) / 1e6
        self._send(connection, _HEAD)
        self._next(connection, time.monotonic())

    def _next(self, connection: _Connection, at: float) -> None:
        answer, position = connection.answer, connection.position
        if position >= len(answer):
            return
        if position == len(answer) - 3:  # what ends an answer comes together
            self._send(connection, b"".join(answer[position:]))
            connection.answer = ()
            return
        self._send(connection, answer[position])
        connection.position = position + 1
        if connection.answer:
            self._number += 1
            heapq.heappush(self._due, (at + connection.every_s, self._number, connection))

    def _send(self, connection: _Connection, data: bytes) -> None:
        if connection.out:
            connection.out = memoryview(bytes(connection.out) + data)
            return
        connection.out = memoryview(data)
        self._flush(connection)

    def _flush(self, connection: _Connection) -> None:
        was_full = bool(connection.out)
        try:
            while connection.out:
                connection.out = connection.out[connection.socket.send(connection.out) :]
        except BlockingIOError:
            self._selector.modify(connection.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, connection)
            return
        except OSError:
            self._drop(connection)
            return
        if was_full and self._selector.get_key(connection.socket).events & selectors.EVENT_WRITE:
            self._selector.modify(connection.socket, selectors.EVENT_READ, connection)

    def _drop(self, connection: _Connection) -> None:
        connection.answer = ()
        connection.out = memoryview(b"")
        try:
            self._selector.unregister(connection.socket)
        except KeyError:
            return
        connection.socket.close()


class Upstream:
    """The server as a context manager: a process that ends with the block, or with us."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve())], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=10)

    @property
    def pid(self) -> int:
        """The process, whose CPU time shows whether it is the bottleneck."""
        return self._process.pid

    def burst(self, chunks: int) -> str:
        """The base URL of answers that come at once."""
        return f"http://127.0.0.1:{self.port}/burst/{chunks}/v1"

    def paced(self, every_s: float, chunks: int) -> str:
        """The base URL of answers with a chunk every so many seconds."""
        return f"http://127.0.0.1:{self.port}/paced/{round(every_s * 1e6)}/{chunks}/v1"

    def cpu_s(self) -> float:
        """CPU seconds that the server has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / 100


if __name__ == "__main__":
    _Server().run()
