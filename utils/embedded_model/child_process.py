"""A child process that answers with one line on its standard output and lives until its standard input closes."""

from __future__ import annotations

import os
import subprocess
import threading
from contextlib import suppress
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

__all__ = ["ChildProcess", "environment_without_keys"]

_STDERR_TAIL_BYTES = 64 * 1024


def environment_without_keys() -> dict[str, str]:
    """The environment for a child process: it has no need of the user's API keys."""
    return {name: value for name, value in os.environ.items() if not name.upper().endswith(("_API_KEY", "_ADMIN_KEY"))}


class ChildProcess:
    """Spawned by the constructor, which writes *line* to its standard input and does not wait for anything.

    The child is in a session of its own: the terminal's Ctrl-C does not reach it. Its standard error goes to a file
    without a name, of which only the end is ever read.
    Raises: OSError if there can be no such process.
    """

    def __init__(self, command: list[str], line: bytes) -> None:
        self._lock = threading.Lock()
        self._answer: bytes | None = None
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._is_stopped = False
        self._stderr = _scratch_file()
        try:
            self.process = subprocess.Popen(  # noqa: S603 - the caller's own script, no shell
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=environment_without_keys(),
                start_new_session=True,
            )
        except OSError:
            self._stderr.close()
            raise
        # A child that is gone before it reads is found by whoever waits for its answer.
        with suppress(BrokenPipeError):
            stdin = _piped(self.process.stdin)
            stdin.write(line)
            stdin.flush()
        # A thread and not the loop's reader: it starts before there is a loop, and works with every kind of loop.
        self._reader = threading.Thread(target=self._read_answer, daemon=True)
        self._reader.start()

    async def answer(self) -> bytes:
        """The line that the child wrote; empty if it closed its output without one. Any number of tasks may wait."""
        import asyncio

        with self._lock:
            if self._answer is not None:
                return self._answer
            arrived = asyncio.Event()
            self._waiting.append((asyncio.get_running_loop(), arrived))
        await arrived.wait()
        return self._answer or b""

    def wait_for_end(self, timeout_s: float) -> int | None:
        """The exit status (negative: a signal), or None if the child still runs after *timeout_s* seconds. Blocks."""
        with suppress(subprocess.TimeoutExpired):
            return self.process.wait(timeout_s)
        return None

    def stop(self, grace_s: float) -> None:
        """Close the child's standard input; kill it if it has not ended *grace_s* seconds later. Idempotent."""
        if self._is_stopped:
            return
        self._is_stopped = True
        with suppress(BrokenPipeError):
            _piped(self.process.stdin).close()
        if self.wait_for_end(grace_s) is None:
            self.process.kill()
            self.process.wait()
        self._reader.join()
        _piped(self.process.stdout).close()
        self._stderr.close()

    def stderr_tail(self) -> str:
        """The last 64 KiB that the child wrote to standard error; only once it has ended, empty after `stop`."""
        if self._stderr.closed:
            return ""
        self._stderr.seek(max(0, os.fstat(self._stderr.fileno()).st_size - _STDERR_TAIL_BYTES))
        return self._stderr.read().decode("utf-8", "replace")

    def _read_answer(self) -> None:
        line = _piped(self.process.stdout).readline()
        with self._lock:
            self._answer = line
            waiting, self._waiting = self._waiting, []
        for loop, arrived in waiting:
            # The loop of a wait that was given up may be closed.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(arrived.set)


def _piped(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise TypeError("not a pipe")
    return stream


def _scratch_file() -> IO[bytes]:
    """A file without a name; in memory where that exists: no need of a writable disk, nor of importing tempfile."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("embedded-model-stderr"), "w+b")
    import tempfile

    return tempfile.TemporaryFile()
