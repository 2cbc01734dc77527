"""Where a file of ours may be put: a mistyped name must not cost another file, and nothing is waited for.

Asked before a run, so that the answer is not paid for in vain, and once more when the file is written.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["why_not"]


def why_not(path: Path, mark: bytes, kind: str) -> str | None:
    """Why no *kind* (such as "report") may be put at *path*, as the end of a sentence; None if it may.

    A file that is there may be replaced if it is empty or begins with *mark*. A link counts as what it leads to.
    """
    directory = os.path.dirname(os.path.realpath(path))
    try:
        if not os.path.isdir(directory):
            return f"there is no directory {directory!r}"
        begins = _beginning(path, len(mark))
    except FileNotFoundError:
        return None if os.access(directory, os.W_OK | os.X_OK) else "permission denied"
    except (OSError, ValueError) as error:
        return (error.strerror if isinstance(error, OSError) else "") or "that is no name of a file"
    if isinstance(begins, str):
        return begins
    if begins not in (b"", mark):
        return f"it is there and is no {kind}"
    return None if os.access(directory, os.W_OK | os.X_OK) else "permission denied"


def _beginning(path: Path, size: int) -> bytes | str:
    """The first *size* bytes of the file; for what is no regular file, what it is. Raises OSError."""
    # Looked at before it is opened, for to open a device may do something; and after, for it may have been replaced.
    # Without O_NONBLOCK a pipe would be waited for.
    status = os.stat(path)
    if (wrong := _wrong_kind(status)) is not None:
        return wrong
    if _is_stdout(status):
        return "standard output goes there"
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        return _wrong_kind(os.fstat(file.fileno())) or file.read(size)


def _is_stdout(status: os.stat_result) -> bool:
    """Whether the shell has emptied the file for the answer, which would be lost with it."""
    try:
        return os.path.samestat(status, os.fstat(1))
    except OSError:
        return False


def _wrong_kind(status: os.stat_result) -> str | None:
    if stat.S_ISDIR(status.st_mode):
        return "it is a directory"
    return None if stat.S_ISREG(status.st_mode) else "it is not a regular file"
