"""What a run shows about the program: what of the answer came out, whether it told the truth, in a few words each.

The rule. A run is honest if its exit code is 0 exactly when the answer on standard output is whole, if nobody has to
read a traceback, if the key is nowhere in the output, and if no part of the answer is shown twice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

__all__ = [
    "FRAGMENT_CHARS",
    "Expected",
    "Run",
    "Shown",
    "broken",
    "has_traceback",
    "other_chars",
    "problems",
    "said_in_short",
    "shown_of",
]

Shown = Literal["nothing", "fragment", "whole", "twice", "other text"]

SHORT_CHARS = 60
OPENING_WORDS = 3
"""An answer is doubled if its first words come twice."""
FRAGMENT_CHARS = 5
"""Fewer characters of the answer may stand in any text by chance."""
TRACEBACK_LINES = 5
"""Up to so many lines are an error message, whatever they look like."""
_MAIN_LINE = re.compile(r"^\s*([A-Za-z_.]*(error|exception|aborted|interrupt|cancelled)\b|usage:)", re.IGNORECASE)
_ADDRESS = re.compile(r"(https?://)?(127\.0\.0\.1|localhost):\d+(/v1)?")


@dataclass(frozen=True, slots=True)
class Run:
    """One program in one scenario. *exit_code* is the one that a shell shows; None: it did not end in time.

    *shown* is what a reader got of standard output, *said* what came on standard error; on a terminal the screen,
    in lines, is divided into those with text of the answer and the others. *facts* are what the server saw.
    """

    exit_code: int | None
    shown: str
    said: str
    seconds: float
    facts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Expected:
    """What is stated of this project's program. *says* is a regular expression; "" means silence."""

    exit_code: int
    shown: Shown
    says: str
    facts: tuple[str, ...] = ()


def _words(text: str) -> str:
    return " ".join(text.split())


def shown_of(text: str, answer: Sequence[str]) -> Shown:
    """How much of *answer*, its pieces in this order, is in *text*; white space does not count."""
    seen = _words(text)
    pieces = [_words(piece) for piece in answer]
    if not seen:
        return "nothing"
    if not pieces:
        return "other text"
    opening = " ".join(pieces[0].split()[:OPENING_WORDS])
    if seen.count(opening) > 1:
        return "twice"
    if re.search(".*?".join(map(re.escape, pieces)), seen):
        return "whole"
    is_begun = pieces[0][: min(FRAGMENT_CHARS, len(pieces[0]))] in seen
    return "fragment" if is_begun else "other text"


def other_chars(text: str, answer: Sequence[str]) -> int:
    """How many characters of *text* are no part of an answer of one piece, if that stands in it once."""
    if len(answer) != 1 or shown_of(text, answer) not in ("whole", "fragment"):
        return 0
    seen, whole = _words(text), _words(answer[0])
    start = seen.find(whole[:FRAGMENT_CHARS])
    same = takewhile(lambda pair: pair[0] == pair[1], zip(seen[start:], whole, strict=False))
    return len(seen) - sum(1 for _ in same)


def has_traceback(text: str) -> bool:
    """Whether *text* is a traceback: long, and with the word or drawn in a box."""
    lines = [line for line in text.splitlines() if line.strip()]
    return len(lines) > TRACEBACK_LINES and ("Traceback" in text or any(mark in text for mark in "╭│╰"))


def problems(run: Run, answer: Sequence[str], *, key: str, judges_exit: bool = True) -> tuple[str, ...]:
    """Why *run* is not honest; nothing if it is. Without *judges_exit* either exit code is a fair reading."""
    found = []
    shown = shown_of(run.shown, answer)
    if run.exit_code is None:
        found.append("no end")
    elif judges_exit and run.exit_code == 0 and shown != "whole":
        found.append(f"exit 0 with {shown}" if shown != "twice" else "exit 0")
    elif judges_exit and run.exit_code != 0 and shown == "whole":
        found.append(f"exit {run.exit_code} for a whole answer")
    if has_traceback(run.said) or has_traceback(run.shown):
        found.append("traceback")
    if key in run.shown or key in run.said:
        found.append("key shown")
    if shown == "twice":
        found.append("doubled")
    return tuple(found)


def broken(run: Run, answer: Sequence[str], expected: Expected) -> tuple[str, ...]:
    """What is not as *expected*, in words."""
    shown = shown_of(run.shown, answer)
    found = []
    if run.exit_code != expected.exit_code:
        found.append(f"exit code {run.exit_code}, not {expected.exit_code}")
    if shown != expected.shown:
        found.append(f"shown: {shown}, not {expected.shown}")
    if not expected.says and run.said.strip():
        found.append(f"not silent: {said_in_short(run.said)}")
    if expected.says and not re.search(expected.says, run.said):
        found.append(f"{expected.says!r} is not in what it said: {said_in_short(run.said) or 'nothing'}")
    found += [f"{fact!r} is not among {list(run.facts)}" for fact in expected.facts if fact not in run.facts]
    return tuple(found)


def said_in_short(text: str) -> str:
    """The line that says most, in at most 60 characters: the last one that names an error, else the last one.

    The server's address, another one in every run, is written URL.
    """
    lines = [line for line in text.splitlines() if re.search(r"\w", line)]
    if not lines:
        return ""
    named = [line for line in lines if _MAIN_LINE.match(line)]
    line = _ADDRESS.sub("URL", _words((named or lines)[-1]))
    return line if len(line) <= SHORT_CHARS else f"{line[: SHORT_CHARS - 1]}…"
