"""What the tests of this directory share: a clock that is told, cuttings of a text, reports, pipes and terminals."""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from typing import Any

from utils.events import TextDelta
from utils.metrics.snapshot import Snapshot
from utils.run_report import RunReport


class FakeClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def cut(text: str, positions: list[int]) -> list[str]:
    edges = [0, *sorted(set(positions)), len(text)]
    return [piece for start, end in pairwise(edges) if (piece := text[start:end])]


def deltas(pieces: list[str]) -> list[TextDelta]:
    return [TextDelta(piece) for piece in pieces]


def report(**fields: Any) -> RunReport:
    values: dict[str, Any] = {
        "text": "hello",
        "outcome": "complete",
        "exit_code": 0,
        "finish_reason": "stop",
        "model_requested": "m",
        "model_used": "m",
        "target": "m at http://127.0.0.1/v1",
        "error": None,
    }
    return RunReport(**{**values, **fields})


def snapshot(**fields: Any) -> Snapshot:
    values: dict[str, Any] = {
        "state": "streaming",
        "elapsed_s": 12.34,
        "target": "m (embedded)",
        "model": "m",
        "ttfc_s": 0.3,
        "ttft_s": 0.412,
        "chunks": 20,
        "chars": 100,
        "tokens": 1024,
        "token_source": "logprobs",
        "tokens_per_s": 80.13,
        "tokens_per_s_now": 87.2,
        "latencies_s": (0.01, 0.02, 0.3),
        "longest_stall_s": 0.3,
        "confidence": (0.5, 1.0),
        "retries": 1,
        "resumes": 2,
        "fallbacks": 0,
        "redactions": 3,
        "flags": 4,
    }
    return Snapshot(**{**values, **fields})


async def until(condition: Callable[[], bool]) -> None:
    """Wait for timers of the running loop to make *condition* true."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


class Reader:
    """Collects what comes out of a descriptor, in a thread."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._data = bytearray()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with suppress(OSError):
            while data := os.read(self._fd, 65536):
                self._data += data

    def text(self) -> str:
        """Everything, once the other side is closed."""
        self._thread.join(10)
        assert not self._thread.is_alive()
        return self._data.decode().replace("\r\n", "\n")


@contextmanager
def opened_pipe() -> Iterator[tuple[int, Reader]]:
    """The writing end, and a reader of the other one. Close the writing end before `text()`."""
    read_end, write_end = os.pipe()
    try:
        yield write_end, Reader(read_end)
    finally:
        with suppress(OSError):
            os.close(write_end)
        os.close(read_end)


@contextmanager
def opened_terminal(columns: int = 80, rows: int = 24) -> Iterator[tuple[int, Reader]]:
    """The program's side of a pseudo-terminal, and a reader of what it shows."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    try:
        yield slave, Reader(master)
    finally:
        with suppress(OSError):
            os.close(slave)
        os.close(master)
