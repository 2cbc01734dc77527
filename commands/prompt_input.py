"""Where the prompt comes from: the arguments, standard input, files, a template, or the built-in demo."""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from commands.byte_input import decoded, read_all
from commands.prompt_files import STANDARD_INPUT, is_standard_input, read_files
from utils.attachments import Attachment, Part, assembled
from utils.clock import Clock, monotonic
from utils.errors import UsageProblem

if TYPE_CHECKING:
    from utils.templates import FilledPrompt

__all__ = ["DEMO_PROMPT", "GUARDED_DEMO_PROMPT", "PromptText", "read_prompt"]

DEMO_PROMPT = "Explain in two sentences why the sky is blue."
GUARDED_DEMO_PROMPT = (
    "Correct the spelling of this note: Plese write to anna.berg@example.com or call +1 212 555 0147. "
    "I payed with the card 5500 0055 5555 5559."
)
"""Asked instead when the answer is guarded: even a small model repeats the address, whatever the seed."""
_FIRST_BYTE_S = 3.0
"""How long a pipe may be silent before it counts as not meant for us (programs inherit pipes nobody writes to)."""


@dataclass(frozen=True, slots=True)
class PromptText:
    """The prompt, what the user should know about where it came from ("" for nothing), and the files in it."""

    text: str
    notice: str = ""
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class _Piped:
    """What came through standard input (None: nothing), and why it is not used."""

    text: str | None = None
    notice: str = ""


def read_prompt(
    argument: str | None,
    option: str | None,
    *,
    limit_chars: int,
    demo: str = DEMO_PROMPT,
    files: Sequence[str] = (),
    template: FilledPrompt | None = None,
    deadline_s: float | None = None,
    clock: Clock = monotonic,
    stdin_fd: int = 0,
    first_byte_s: float = _FIRST_BYTE_S,
) -> PromptText:
    """The prompt of this run; *demo* if there is none.

    Its order: *files*, piped text, the argument. `-` waits for standard input and uses nothing else; as one of the
    files, it is that file. Where there are files, they and piped text that an argument follows are marked apart from
    the instruction. A *template* with `$input` takes piped text and argument in; else its text stands before the
    argument. Files do not ask for anything: without an instruction they are an error, for a guess (the demo, or their
    own text as the instruction) would send what nobody meant to send.
    Blocks while a pipe is read to its end, but for its first byte at most *first_byte_s* seconds (without `-`), and
    never beyond the instant *deadline_s* of *clock*, the end of the run's own time.
    Raises TotalTimeout, or UsageProblem: two prompts, an empty standard input, an unusable file, bytes that are not
    UTF-8, more than *limit_chars*, no instruction.
    """
    if argument is not None and option is not None:
        raise UsageProblem("PROMPT and --prompt were both given", hint="give one of them")
    typed = argument if argument is not None else option
    takes_files_from_stdin = any(map(is_standard_input, files))
    if argument == "-" and takes_files_from_stdin:
        raise UsageProblem("standard input cannot be both the prompt and a file", hint="give `-` once")
    attached = read_files(files, limit_chars=limit_chars, deadline_s=deadline_s, clock=clock, stdin_fd=stdin_fd)
    notices = [f"the file {each.source!r} is empty" for each in attached if not each.text.strip()]

    def read() -> str:
        way_out = "give a PROMPT instead"
        data = read_all(
            stdin_fd, STANDARD_INPUT, limit_chars=limit_chars, deadline_s=deadline_s, clock=clock, way_out=way_out
        )
        return decoded(data, STANDARD_INPUT, limit_chars=limit_chars, verb="pipe")

    if argument == "-":
        typed, piped = None, _Piped(read())
        if not (piped.text or "").strip():
            raise UsageProblem("standard input was empty", hint="pipe some text into `-`, or give a PROMPT")
    elif takes_files_from_stdin:
        piped = _Piped()
    else:
        has_more = typed is not None or (template is not None and (not template.needs_input or bool(files)))
        piped = _read_piped(stdin_fd, read, first_byte_s, has_more=has_more, is_typed=typed is not None)
    notices += filter(None, [piped.notice])
    if template is not None:
        return _with_template(template, attached, piped.text, typed, notices)
    if attached:
        if not ((piped.text if typed is None else typed) or "").strip():
            raise UsageProblem(
                "files were given, and no PROMPT that says what to do with them",
                hint='for example -f notes.txt "Summarise this"; `- < FILE` makes the text of a file the prompt',
            )
        return _joined(attached, piped.text, typed, notices)
    if typed is None and piped.text is None:
        why = f"{piped.notice}: answering the demo prompt; `-` would wait for it" if piped.notice else ""
        return PromptText(demo, why or f'no prompt was given, asking: "{demo}"')
    return _joined((), piped.text, typed, notices)


def _joined(
    attached: Sequence[Attachment], piped: str | None, instruction: str | None, notices: Sequence[str]
) -> PromptText:
    """Files, piped text, instruction; piped text alone is the instruction."""
    if piped is not None and instruction is not None:
        if attached:
            attached, piped = (*attached, Attachment(STANDARD_INPUT, piped)), None
        else:
            instruction, piped = f"{piped.rstrip()}\n\n{instruction}", None
    prompt = assembled(attached, (instruction if instruction is not None else piped) or "")
    return PromptText(prompt.text, "; ".join(notices), prompt.parts)


def _with_template(
    template: FilledPrompt,
    attached: Sequence[Attachment],
    piped: str | None,
    typed: str | None,
    notices: Sequence[str],
) -> PromptText:
    if not template.takes_input:
        return _joined(attached, piped, "\n\n".join(filter(None, [template.text(""), typed])), notices)
    given = "\n\n".join(filter(None, [(piped or "").rstrip() if typed else piped, typed]))
    if not given.strip() and template.needs_input and not attached:
        raise UsageProblem(
            f"the template {template.name!r} needs text for $input", hint="give a PROMPT, or pipe text into it"
        )
    return _joined(attached, None, template.text(given), notices)


def _read_piped(fd: int, read: Callable[[], str], first_byte_s: float, *, has_more: bool, is_typed: bool) -> _Piped:
    """What standard input holds, if anything is there; *has_more*: there is something to ask without it."""
    kind = _kind(fd)
    if kind == "none":
        return _Piped()
    if kind == "pipe" and not select.select([fd], [], [], first_byte_s)[0]:
        silence = f"standard input stayed silent for {first_byte_s:g} s and is ignored"
        return _Piped(None, f"{silence}; `< /dev/null` avoids the wait" if has_more else silence)
    piped = read()
    if piped.strip():
        return _Piped(piped)
    if not has_more:
        raise UsageProblem("standard input was empty", hint="give a PROMPT, or pipe some text")
    return _Piped(None, "standard input was empty" + (": only PROMPT is asked" if is_typed else ""))


def _kind(fd: int) -> str:
    """`none` for a terminal, /dev/null or a closed descriptor; `pipe` for what may stay silent; else `file`."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return "none"
    if stat.S_ISCHR(mode):
        return "none"
    return "pipe" if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else "file"
