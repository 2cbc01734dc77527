"""Conversations as files: `/save` and `/load`."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from utils.conversation import Conversation
from utils.errors import UsageProblem

__all__ = ["read_conversation", "write_conversation"]

_MAX_BYTES = 50_000_000
_MARK, _MARK_WITHIN = b'"kaygraph_conversation"', 200
"""What a saved conversation has among its first bytes."""
_ANOTHER = "name another file"


def write_conversation(path: Path, talk: Conversation, *, model: str) -> Path:
    """Write *talk* into the file, which only its owner may read; an earlier conversation is replaced in one step.

    Returns the path with the home directory filled in. Raises UsageProblem if it cannot be written, or is another file.
    """
    path = _expanded(path)
    temporary = ""
    try:
        if _is_foreign(path):
            raise UsageProblem(f"{str(path)!r} is there and holds no conversation", hint=_ANOTHER)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(talk.to_json(model=model))
        os.replace(temporary, path)
    except (OSError, ValueError) as error:
        raise UsageProblem(f"{str(path)!r} cannot be written: {_why(error)}", hint=_ANOTHER) from None
    finally:
        with suppress(OSError):
            os.unlink(temporary)
    return path


def read_conversation(path: Path) -> Conversation:
    """The conversation in the file. Raises UsageProblem if there is none."""
    path = _expanded(path)
    try:
        data = _read(path, _MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise UsageProblem(f"{str(path)!r} cannot be read: {_why(error)}", hint=_ANOTHER) from None
    if data is None:
        raise UsageProblem(f"{str(path)!r} is no regular file", hint=_ANOTHER)
    if len(data) > _MAX_BYTES:
        raise UsageProblem(f"{str(path)!r} has over {_MAX_BYTES:,} bytes", hint=_ANOTHER)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise UsageProblem(
            f"{str(path)!r} is no saved conversation: it is not UTF-8", hint="/save writes one"
        ) from None
    return Conversation.from_json(text, name=str(path))


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        raise UsageProblem(f"{str(path)!r} is in the home directory of nobody", hint=_ANOTHER) from None


def _is_foreign(path: Path) -> bool:
    """Whether something is there that `/save` must not replace: a mistyped name would cost a file."""
    try:
        data = _read(path, _MARK_WITHIN)
    except FileNotFoundError:
        return False
    return data is None or (data != b"" and _MARK not in data)


def _read(path: Path, size: int) -> bytes | None:
    """The first *size* bytes; None for what is no regular file. A named pipe that nobody writes to does not block."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        return file.read(size) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else None


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return "the text holds half a character" if isinstance(error, UnicodeEncodeError) else "that is no name of a file"
