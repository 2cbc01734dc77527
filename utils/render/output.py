"""Bytes to a file descriptor: complete, in batches, and quiet once nobody reads any more."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

__all__ = ["Batch", "FdWriter", "running_loop", "silence_stdout"]


class FdWriter:
    """Writes whole buffers to *fd*; the first failure is reported to *on_gone* and ends all output.

    Blocks while the reader is slow, also on a non-blocking descriptor: a reader that lags slows the stream down
    instead of filling memory. Never raises. The descriptor is not owned and never closed.
    """

    def __init__(self, fd: int, on_gone: Callable[[OSError], None] = lambda error: None) -> None:
        self._fd = fd
        self._on_gone = on_gone
        self.is_gone = False

    def write(self, data: bytes) -> None:
        """Write all of *data*, or as much as is accepted before the reader goes away."""
        rest: bytes | memoryview = data
        while rest and not self.is_gone:
            try:
                written = os.write(self._fd, rest)
            except BlockingIOError:
                self._wait()
            except OSError as error:
                self.is_gone = True
                self._on_gone(error)
            else:
                if written == len(rest):
                    return
                rest = memoryview(rest)[written:]

    def _wait(self) -> None:
        # os.write and select restart by themselves after a signal (PEP 475).
        select.select([], [self._fd], [])


_LONE_TURNS = 8
_UNQUEUED = 64
"""After so many turns with one string each, so many strings are handed on at once before the next look."""


class Batch:
    """Collects strings and hands them on together when the running event-loop turn is over.

    So what came with one read from the network is written at once, and always before the program waits for the network
    again. Where every turn brings one string, nothing is gained by waiting for its end, which costs more than a write:
    then strings are not queued, except one now and then to see whether that is still so. Without a running loop nothing
    is held back.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._parts: list[str] = []
        self._lone_turns = 0
        self._unqueued = 0

    def add(self, text: str) -> None:
        """Hand on *text*, which is not empty, now or at the end of the turn."""
        if self._unqueued:
            self._unqueued -= 1
            self._write(text)
            return
        self._parts.append(text)
        if len(self._parts) == 1:
            loop = running_loop()
            if loop is None:
                self.flush()
            else:
                loop.call_soon(self.flush)

    def flush(self) -> None:
        """Hand on what is queued, now."""
        if not self._parts:
            return
        self._lone_turns = self._lone_turns + 1 if len(self._parts) == 1 else 0
        if self._lone_turns >= _LONE_TURNS:
            self._unqueued = _UNQUEUED
        text = "".join(self._parts)
        self._parts.clear()
        self._write(text)


def running_loop() -> AbstractEventLoop | None:
    """The running event loop, or None; does not import asyncio, which nobody runs if nobody imported it."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return None
    try:
        loop: AbstractEventLoop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    return loop


def silence_stdout(fd: int = 1) -> None:
    """Point *fd* at the null device, so that the interpreter's last flush cannot complain about a broken pipe."""
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, fd)
    finally:
        if null != fd:
            os.close(null)
