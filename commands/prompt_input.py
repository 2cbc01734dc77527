"""Where the prompt comes from: the arguments, standard input, or the built-in demo."""

from __future__ import annotations

import os
import select
import stat
from dataclasses import dataclass

from utils.clock import Clock, monotonic
from utils.errors import TotalTimeout, UsageProblem

__all__ = ["DEMO_PROMPT", "GUARDED_DEMO_PROMPT", "PromptText", "read_prompt"]

DEMO_PROMPT = "Explain in two sentences why the sky is blue."
GUARDED_DEMO_PROMPT = (
    "Correct the spelling of this note: Plese write to anna.berg@example.com or call +1 212 555 0147. "
    "I payed with the card 5500 0055 5555 5559."
)
"""Asked instead when the answer is guarded: even a small model repeats the address, whatever the seed."""
_FIRST_BYTE_S = 3.0
"""How long a pipe may be silent before it counts as not meant for us (programs inherit pipes nobody writes to)."""
_MAX_BYTES_PER_CHAR = 4
_READ_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class PromptText:
    """The prompt and what the user should know about where it came from ("" for nothing)."""

    text: str
    notice: str = ""


def read_prompt(
    argument: str | None,
    option: str | None,
    *,
    limit_chars: int,
    demo: str = DEMO_PROMPT,
    deadline_s: float | None = None,
    clock: Clock = monotonic,
    stdin_fd: int = 0,
    first_byte_s: float = _FIRST_BYTE_S,
) -> PromptText:
    """The prompt of this run; *demo* if there is none.

    Piped text stands before the argument. `-` waits for standard input and uses nothing else. Blocks while a pipe is
    read to its end, but for its first byte at most *first_byte_s* seconds (without `-`), and never beyond the instant
    *deadline_s* of *clock*, the end of the run's own time.
    Raises TotalTimeout, or UsageProblem: two prompts, an empty standard input, bytes that are not UTF-8, more than
    *limit_chars*.
    """
    if argument is not None and option is not None:
        raise UsageProblem("PROMPT and --prompt were both given", hint="give one of them")
    typed = argument if argument is not None else option

    def read() -> str:
        return _decoded(_read_all(stdin_fd, limit_chars, deadline_s, clock), limit_chars)

    if argument == "-":
        text = read()
        if not text.strip():
            raise UsageProblem("standard input was empty", hint="pipe some text into `-`, or give a PROMPT")
        return PromptText(text)
    kind = _kind(stdin_fd)
    if kind == "none":
        return PromptText(typed) if typed is not None else PromptText(demo, f'no prompt was given, asking: "{demo}"')
    if kind == "pipe" and not select.select([stdin_fd], [], [], first_byte_s)[0]:
        silence = f"standard input stayed silent for {first_byte_s:g} s and is ignored"
        if typed is not None:
            return PromptText(typed, f"{silence}; `< /dev/null` avoids the wait")
        return PromptText(demo, f"{silence}: answering the demo prompt; `-` would wait for it")
    piped = read()
    if typed is None:
        if not piped.strip():
            raise UsageProblem("standard input was empty", hint="give a PROMPT, or pipe some text")
        return PromptText(piped)
    if not piped.strip():
        return PromptText(typed, "standard input was empty: only PROMPT is asked")
    return PromptText(f"{piped.rstrip()}\n\n{typed}")


def _kind(fd: int) -> str:
    """`none` for a terminal, /dev/null or a closed descriptor; `pipe` for what may stay silent; else `file`."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return "none"
    if stat.S_ISCHR(mode):
        return "none"
    return "pipe" if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else "file"


def _read_all(fd: int, limit_chars: int, deadline_s: float | None, clock: Clock) -> bytes:
    limit_bytes = limit_chars * _MAX_BYTES_PER_CHAR
    parts: list[bytes] = []
    size = 0
    try:
        while size <= limit_bytes:
            left_s = None if deadline_s is None else max(0.0, deadline_s - clock())
            if not select.select([fd], [], [], left_s)[0]:
                raise TotalTimeout(
                    "standard input did not end within the time of the run",
                    hint="raise --timeout, or end what writes into the pipe",
                )
            part = os.read(fd, _READ_BYTES)
            if not part:
                break
            parts.append(part)
            size += len(part)
    except OSError as error:
        raise UsageProblem(f"standard input cannot be read: {error.strerror}", hint="give a PROMPT instead") from error
    return b"".join(parts)


def _decoded(data: bytes, limit_chars: int) -> str:
    if b"\0" in data[:_READ_BYTES]:
        place = data.index(b"\0")
        raise UsageProblem(
            f"standard input is binary, not text (a zero byte at offset {place})", hint="pipe UTF-8 text"
        )
    if len(data) > limit_chars * _MAX_BYTES_PER_CHAR:
        raise UsageProblem(
            f"standard input is over the limit of {limit_chars} characters",
            hint="shorten it, or raise KAYGRAPH_PROMPT_LIMIT_CHARS",
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageProblem(
            f"standard input is not UTF-8 text (byte 0x{data[error.start]:02x} at offset {error.start})",
            hint="convert it to UTF-8, for example with iconv",
        ) from None
