"""Conversations as files: `/save` and `/load`."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from utils.conversation import Conversation
from utils.errors import UsageProblem

__all__ = ["read_conversation", "write_conversation"]

_MAX_BYTES = 50_000_000


def write_conversation(path: Path, talk: Conversation, *, model: str) -> Path:
    """Write *talk* into the file, which only its owner may read; a file that is there is replaced in one step.

    Returns the path with the home directory filled in. Raises UsageProblem if it cannot be written.
    """
    path = path.expanduser()
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(talk.to_json(model=model))
        os.replace(temporary, path)
    except (OSError, UnicodeEncodeError) as error:
        with suppress(OSError):
            os.unlink(temporary)
        why = error.strerror if isinstance(error, OSError) else "the text holds half a character"
        raise UsageProblem(f"{str(path)!r} cannot be written: {why}", hint="name another file") from None
    return path


def read_conversation(path: Path) -> Conversation:
    """The conversation in the file. Raises UsageProblem if there is none."""
    path = path.expanduser()
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise UsageProblem(f"{str(path)!r} cannot be read: {error.strerror}", hint="name another file") from None
    if len(data) > _MAX_BYTES:
        raise UsageProblem(f"{str(path)!r} has over {_MAX_BYTES:,} bytes", hint="name another file")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise UsageProblem(
            f"{str(path)!r} is no saved conversation: it is not UTF-8", hint="/save writes one"
        ) from None
    return Conversation.from_json(text, name=str(path))
