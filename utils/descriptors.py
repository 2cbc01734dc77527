"""File descriptors: whether there are enough of them for so many streams, asked before the first request."""

from __future__ import annotations

import os
from contextlib import suppress

from utils.errors import ConfigError

__all__ = ["check_descriptors"]

_SPARE = 32
"""For files, pipes, name look-ups and the event loop."""


def check_descriptors(streams: int) -> None:
    """Raise ConfigError unless *streams* connections can be open at once; raises the soft limit where that is allowed.

    Does nothing where the system has no such limit.
    """
    try:
        import resource
    except ImportError:  # not a POSIX system
        return
    needed = _open_now() + streams + _SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard == resource.RLIM_INFINITY or hard >= needed:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
            return
    raise ConfigError(
        f"{streams:,} streams need {needed:,} file descriptors; this process may have {soft:,}",
        hint=f"ulimit -n {needed}, or fewer streams at once",
    )


def _open_now() -> int:
    for directory in ("/proc/self/fd", "/dev/fd"):
        with suppress(OSError):
            return len(os.listdir(directory))
    return _SPARE
