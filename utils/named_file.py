"""The bytes of a small file that somebody named, whatever is in its place: a pipe that nobody writes to, a device."""

from __future__ import annotations

import os
import select
import stat
from pathlib import Path

__all__ = ["PIPE_S", "EmptyPipe", "read_named"]

PIPE_S = 3.0
"""How long a pipe may take for each piece of its content, in seconds."""


class EmptyPipe(OSError):
    """Nobody wrote anything into the pipe."""


def read_named(path: Path, limit_bytes: int) -> tuple[bytes, int]:
    """What *path* holds, more than *limit_bytes* of it only as a sign that there is more; and its permissions.

    Raises OSError (`EmptyPipe` for a pipe without content), ValueError for what is no path.
    """
    # Mode and content of one open file: between a check by name and the reading the file could be replaced.
    # Without O_NONBLOCK a named pipe that nobody writes to would be waited for.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        mode = os.fstat(file.fileno()).st_mode
        is_pipe = stat.S_ISFIFO(mode)
        # A terminal that has nothing to read gives None.
        data = _read_pipe(file.fileno(), limit_bytes) if is_pipe else file.read(limit_bytes + 1) or b""
    if is_pipe and not data:
        raise EmptyPipe
    return data, stat.S_IMODE(mode)


def _read_pipe(fd: int, limit_bytes: int) -> bytes:
    """What a shell's `<(...)` holds."""
    data = b""
    while len(data) <= limit_bytes and select.select([fd], [], [], PIPE_S)[0]:
        piece = os.read(fd, limit_bytes)
        if not piece:
            break
        data += piece
    return data
