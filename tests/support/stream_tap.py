"""A tap on the wire: a TCP proxy that notes when each piece of an answer passed, and reads the answer by its own means.

The proxy is a process of its own, with nothing in it but the standard library: it shares no code, no interpreter and
no event loop with the program that it watches. Instants are `time.monotonic()` seconds, the program's clock too, which
counts alike in all processes of one machine.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import subprocess
import sys
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

__all__ = ["Passed", "StreamTap"]

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class Passed:
    """What passed on one connection. *segments*: (instant, bytes as Latin-1) of every read from the server."""

    requested_s: float | None = None
    """When the first byte of the request came."""
    segments: list[tuple[float, str]] = field(default_factory=list)
    closed_s: float | None = None
    """When the server had closed."""

    def events(self) -> Iterator[tuple[float, Any]]:
        """(instant at which it had passed whole, decoded data) of each event of the chunked body, in order."""
        raw = "".join(text for _, text in self.segments)
        ends = list(accumulate(len(text) for _, text in self.segments))
        # The body without the sizes of its chunks, and where in *raw* each of its characters stands.
        body = ""
        origin: list[int] = []
        place = raw.index("\r\n\r\n") + 4
        while (line_end := raw.find("\r\n", place)) >= 0 and (size := int(raw[place:line_end], 16)):
            start = line_end + 2
            body += raw[start : start + size]
            origin += range(start, min(start + size, len(raw)))
            place = start + size + 2
        start = 0
        while (end := body.find("\n\n", start)) >= 0:
            data = [line[6:] for line in body[start:end].split("\n") if line.startswith("data: ")]
            if data:
                passed_s = self.segments[bisect_right(ends, origin[end + 1])][0]
                text = "\n".join(data)
                yield passed_s, text if text == "[DONE]" else json.loads(text.encode("latin-1"))
            start = end + 2


class StreamTap:
    """The proxy in front of the server at *port* of this machine. Leaving it ends its process."""

    def __init__(self, port: int) -> None:
        command = [sys.executable, "-m", "tests.support.stream_tap", str(port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=_ROOT)
        self.port = int(self._answer())

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def take(self) -> list[Passed]:
        """What has passed since the last call, a connection each, in the order of their acceptance."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        return [Passed(row["requested_s"], row["segments"], row["closed_s"]) for row in json.loads(self._answer())]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=10.0)

    def _answer(self) -> bytes:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the tap has ended"
        return line


# -- the process of the proxy ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Way:
    """One direction of a connection."""

    source: socket.socket
    sink: socket.socket
    record: Passed
    is_answer: bool

    def pass_on(self) -> bool:
        """Read once, note it, write it; whether more may come."""
        try:
            data = self.source.recv(65536)
        except OSError:
            data = b""
        # Before it goes on: the program cannot have it earlier.
        now = time.monotonic()
        record = self.record
        if not self.is_answer:
            record.requested_s = record.requested_s or now
        elif data:
            record.segments.append((now, data.decode("latin-1")))
        else:
            record.closed_s = now
        with suppress(OSError):
            if data:
                self.sink.sendall(data)
            else:
                self.sink.shutdown(socket.SHUT_WR)
        return bool(data)


def _main(port: int) -> None:
    """Pass on until standard input ends; a line there asks for what has passed, as JSON."""
    passed: list[Passed] = []
    with socket.create_server(("127.0.0.1", 0)) as listener, selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        print(listener.getsockname()[1], flush=True)
        while True:
            for key, _ in selector.select():
                if isinstance(key.data, _Way):
                    if not key.data.pass_on():
                        selector.unregister(key.data.source)
                elif key.fileobj is listener:
                    client, _address = listener.accept()
                    server = socket.create_connection(("127.0.0.1", port))
                    record = Passed()
                    passed.append(record)
                    for source, sink in ((client, server), (server, client)):
                        source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        way = _Way(source, sink, record, is_answer=source is server)
                        selector.register(source, selectors.EVENT_READ, way)
                elif os.read(sys.stdin.fileno(), 4096):
                    print(json.dumps([asdict(record) for record in passed]), flush=True)
                    passed = []
                else:
                    return


if __name__ == "__main__":
    _main(int(sys.argv[1]))
