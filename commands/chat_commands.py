"""What begins with a slash in a chat: its table, and telling commands from prompts. Pure."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from utils.errors import UsageProblem

__all__ = ["COMMANDS", "Typed", "help_lines", "parse"]

COMMANDS: dict[str, tuple[str, str]] = {
    "help": ("", "this list"),
    "model": ("[NAME]", "ask TARGET, MODEL, MODEL@URL or embedded instead; alone: who answers"),
    "system": ("[TEXT]", "set the system prompt; `/system -` removes it; alone: show it"),
    "file": ("[FILE]", "attach a text file to the next prompt; `/file -` drops it; alone: list"),
    "guard": ("[on|off|PACK,...]", "guard the answers; alone: what guards them"),
    "retry": ("", "ask the last prompt again, instead of its answer"),
    "undo": ("", "forget the last prompt and its answer"),
    "stats": ("", "figures of this chat, breaker and limits"),
    "save": ("FILE", "write the conversation into FILE"),
    "load": ("FILE", "go on with a conversation from FILE"),
    "quit": ("", "leave, as Ctrl-D does"),
}
"""Each command's argument and what it does."""

_WITH_ARGUMENT = {"save", "load"}
_WITHOUT_ARGUMENT = {name for name, (argument, _) in COMMANDS.items() if not argument}
_COMMAND = re.compile(r"/([A-Za-z?]+)(?:\s+(.*))?\s*", re.DOTALL)
_ALIASES = {"?": "help", "exit": "quit", "bye": "quit", "q": "quit"}


@dataclass(frozen=True, slots=True)
class Typed:
    """A command as it was typed; *argument* is "" for none."""

    name: str
    argument: str = ""


def parse(line: str) -> Typed | str:
    """The command in *line*, or the prompt that it is; `//` begins a prompt with a slash.

    `/etc/hosts, what is it?` is a prompt: a command is one word. Raises UsageProblem for a command that is none, or
    lacks its argument.
    """
    if line.startswith("//"):
        return line[1:]
    match = _COMMAND.fullmatch(line)
    if match is None:
        return line
    name, argument = match[1].lower(), (match[2] or "").strip()
    name = _ALIASES.get(name, name)
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean /{near[0]}? " if near else "/help lists them. "
        raise UsageProblem(f"/{name} is no command", hint=f"{hint}A prompt that begins with a slash is typed with two")
    if name in _WITH_ARGUMENT and not argument:
        raise UsageProblem(f"/{name} needs the name of a file", hint=f"/{name} talk.json")
    if name in _WITHOUT_ARGUMENT and argument:
        raise UsageProblem(f"/{name} takes nothing behind it", hint=f"/{name}")
    return Typed(name, argument)


def help_lines() -> list[str]:
    """The table for people."""
    rows = [(f"/{name} {argument}".rstrip(), what) for name, (argument, what) in COMMANDS.items()]
    width = max(len(left) for left, _ in rows)
    keys = [
        ("Enter", "send; Alt-Enter, or Enter behind a backslash: a new line"),
        ("Ctrl-C", "stop the answer, which stays as far as it came; twice: leave"),
        ("Ctrl-D", "leave"),
    ]
    return [f"  {left.ljust(width)}  {what}" for left, what in [*rows, *keys]]
