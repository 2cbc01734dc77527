"""Text from descriptors: read to its end, within a size and a time, and checked to be text."""

from __future__ import annotations

import os
import select

from utils.clock import Clock
from utils.errors import TotalTimeout, UsageProblem

__all__ = ["decoded", "read_all"]

_MAX_BYTES_PER_CHAR = 4
_READ_BYTES = 1 << 16


def read_all(
    fd: int, what: str, *, limit_chars: int, deadline_s: float | None, clock: Clock, way_out: str = "name another file"
) -> bytes:
    """The bytes of *fd*, at most about as many as *limit_chars* characters may have (`decoded` refuses more).

    Blocks while there may be more to come, until the instant *deadline_s* of *clock*. *what* names it in errors,
    *way_out* says what to do if it cannot be read.
    Raises UsageProblem if it cannot be read, TotalTimeout.
    """
    limit_bytes = limit_chars * _MAX_BYTES_PER_CHAR
    parts: list[bytes] = []
    size = 0
    try:
        while size <= limit_bytes:
            left_s = None if deadline_s is None else max(0.0, deadline_s - clock())
            if not select.select([fd], [], [], left_s)[0]:
                raise TotalTimeout(
                    f"{what} did not end within the time of the run",
                    hint="raise --timeout, or end what writes into the pipe",
                )
            part = os.read(fd, _READ_BYTES)
            if not part:
                break
            parts.append(part)
            size += len(part)
    except OSError as error:
        raise UsageProblem(f"{what} cannot be read: {error.strerror}", hint=way_out) from error
    return b"".join(parts)


def decoded(data: bytes, what: str, *, limit_chars: int, verb: str = "give") -> str:
    """*data* as text, without a byte order mark. Raises UsageProblem if it is binary, too long, or not UTF-8."""
    if (place := data.find(b"\0")) >= 0:
        raise UsageProblem(f"{what} is binary, not text (a zero byte at offset {place})", hint=f"{verb} UTF-8 text")
    if len(data) <= limit_chars * _MAX_BYTES_PER_CHAR:
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UsageProblem(
                f"{what} is not UTF-8 text (byte 0x{data[error.start]:02x} at offset {error.start})",
                hint="convert it to UTF-8, for example with iconv",
            ) from None
    raise UsageProblem(
        f"{what} is over the limit of {limit_chars} characters",
        hint="shorten it, or raise KAYGRAPH_PROMPT_LIMIT_CHARS",
    )
