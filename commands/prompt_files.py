"""The files that go with a prompt, from their paths."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from commands.byte_input import decoded, read_all
from utils.attachments import Attachment
from utils.clock import Clock, monotonic
from utils.errors import UsageProblem

__all__ = ["STANDARD_INPUT", "is_standard_input", "read_file", "read_files"]

STANDARD_INPUT = "standard input"
_STANDARD_INPUTS = frozenset({"-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"})


def is_standard_input(name: str) -> bool:
    """Whether *name*, in the place of a file, is standard input."""
    return name in _STANDARD_INPUTS


def read_files(
    names: Sequence[str],
    *,
    limit_chars: int,
    deadline_s: float | None = None,
    clock: Clock = monotonic,
    stdin_fd: int = 0,
) -> tuple[Attachment, ...]:
    """The files *names* in their order; `-` is standard input, which can be only one of them. See `read_file`.

    Standard input is read last: what is wrong with a file is said before anybody types.
    """
    if sum(map(is_standard_input, names)) > 1:
        raise UsageProblem("standard input was named twice", hint="give `-` once")
    found: dict[int, Attachment] = {}
    left = limit_chars
    for index in sorted(range(len(names)), key=lambda i: is_standard_input(names[i])):
        name = names[index]
        if is_standard_input(name):
            data = read_all(stdin_fd, STANDARD_INPUT, limit_chars=limit_chars, deadline_s=deadline_s, clock=clock)
            found[index] = Attachment(
                STANDARD_INPUT, decoded(data, STANDARD_INPUT, limit_chars=limit_chars, verb="pipe")
            )
        else:
            found[index] = read_file(name, limit_chars=limit_chars, deadline_s=deadline_s, clock=clock)
        left -= len(found[index].text)
        if left < 0:
            raise UsageProblem(
                f"the files have over {limit_chars:,} characters together",
                hint="leave some out, or raise KAYGRAPH_PROMPT_LIMIT_CHARS",
            )
    return tuple(found[index] for index in range(len(names)))


def read_file(name: str, *, limit_chars: int, deadline_s: float | None = None, clock: Clock = monotonic) -> Attachment:
    """The text of the file *name*. A pipe is read to its end, until the instant *deadline_s* of *clock*.

    Raises UsageProblem if it is missing, a directory, not readable, binary, not UTF-8, or has over *limit_chars*
    characters; TotalTimeout for a pipe that does not end.
    """
    path = os.path.expanduser(name)
    what = f"the file {name!r}"
    try:
        # Without O_NONBLOCK a pipe that nobody writes to would be waited for, whatever the deadline.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise UsageProblem(f"{what} {_reason(error)}", hint=_hint(error, name)) from None
    try:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise UsageProblem(f"{what} is a directory", hint="name a file in it")
        data = read_all(fd, what, limit_chars=limit_chars, deadline_s=deadline_s, clock=clock)
    finally:
        os.close(fd)
    text = decoded(data, what, limit_chars=limit_chars)
    if len(text) > limit_chars:
        raise UsageProblem(
            f"{what} has {len(text):,} characters; the limit of a prompt is {limit_chars:,}",
            hint="shorten it, or raise KAYGRAPH_PROMPT_LIMIT_CHARS",
        )
    return Attachment("pipe" if path.startswith(("/dev/fd/", "/proc/self/fd/")) else path, text)


def _reason(error: OSError | ValueError) -> str:
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return "does not exist"
        case PermissionError():
            return "cannot be read: permission denied"
        case OSError():
            return f"cannot be read: {error.strerror}"
        case _:  # a NUL in the name
            return "cannot be read: not a usable path"


def _hint(error: OSError | ValueError, name: str) -> str:
    if isinstance(error, FileNotFoundError):
        directory = os.path.dirname(os.path.expanduser(name)) or os.curdir
        try:
            from utils.wording import nearest

            near = nearest(os.path.basename(name), os.listdir(directory))
        except OSError:
            near = None
        return f"did you mean {os.path.join(os.path.dirname(name), near)!r}?" if near else "check its name"
    return "check ls -l" if isinstance(error, PermissionError) else "name another file"
