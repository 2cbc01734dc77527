"""What the text of an answer shows about its quality: does it end in a loop, does it stop inside a code block.

Together with the end of the stream (completeness) and the model's own certainty (`confidence`) these are separate
judgements, each on one thing it can know; they are never blended into one number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = [
    "MAX_PERIOD_CHARS",
    "MIN_COVERED_CHARS",
    "MIN_REPEATS",
    "MIN_SYMBOLS_COVERED_CHARS",
    "REPETITION_WINDOW_CHARS",
    "Repetition",
    "find_repetition",
    "has_open_fence",
]

MAX_PERIOD_CHARS = 400
MIN_REPEATS = 3
MIN_COVERED_CHARS = 60
MIN_SYMBOLS_COVERED_CHARS = 200
"""A repeated unit without a letter or digit must cover this much. Rulers (`-----`, `#####`) and the separator rows
of tables are 60 to 120 characters long and were most false alarms on ordinary source files."""
REPETITION_WINDOW_CHARS = 2_000

# The least number of characters that recur one period earlier: max(3 p, 60) - p is smallest at p = 20.
_NEEDLE_CHARS = MIN_COVERED_CHARS - MIN_COVERED_CHARS // MIN_REPEATS
_LETTER_OR_DIGIT = re.compile(r"[^\W_]")
# Any indentation, quote marks or one list marker may precede a fence: models indent fences inside lists deeper
# than the three columns that CommonMark allows outside them.
_FENCE = re.compile(r"^[ \t>]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)?(`{3,}|~{3,})([^\n]*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Repetition:
    """The text ends with a unit of *period_chars* characters repeated over its last *covered_chars* characters."""

    period_chars: int
    covered_chars: int

    @property
    def repeats(self) -> float:
        """How many times the unit stands there; the last or first one may be a part of it."""
        return self.covered_chars / self.period_chars


def find_repetition(text: str) -> Repetition | None:
    """The shortest period with which *text* ends, if it is repeated often enough to be a loop.

    A period p (1..400) counts if the last max(3 p, 60) characters (200 if they hold neither letter nor digit) repeat
    with it: each equals the one p before it. *text* should be the last 2,000 characters; `covered_chars` is how far
    back the period reaches in it.
    Cost: a period p makes the last 40 characters recur p characters earlier, so one substring search over 440
    characters rules out ordinary text (about 0.5 us). Candidates are compared as slices; at most 400 of them, each at
    most 1,200 characters long, so a check has a constant bound whatever the length of the answer.
    """
    length = len(text)
    if length < MIN_COVERED_CHARS:
        return None
    needle = text[-_NEEDLE_CHARS:]
    needle_start = length - _NEEDLE_CHARS
    earliest = max(0, needle_start - MAX_PERIOD_CHARS)
    start = text.rfind(needle, earliest, length - 1)
    while start >= 0:
        period = needle_start - start
        covered = max(MIN_REPEATS * period, MIN_COVERED_CHARS)
        if covered > length:
            return None
        if _repeats(text, period, covered):
            unit_has_word = _LETTER_OR_DIGIT.search(text, length - period) is not None
            if unit_has_word or (
                length >= MIN_SYMBOLS_COVERED_CHARS and _repeats(text, period, MIN_SYMBOLS_COVERED_CHARS)
            ):
                return Repetition(period, _covered(text, period, covered))
        start = text.rfind(needle, earliest, start + _NEEDLE_CHARS - 1)
    return None


def _repeats(text: str, period: int, covered: int) -> bool:
    """Whether each of the last *covered* characters but the first *period* equals the one *period* before it."""
    return text.endswith(text[len(text) - covered : len(text) - period])


def _covered(text: str, period: int, at_least: int) -> int:
    """How many characters at the end of *text* repeat with *period*: bisection, as shorter ends repeat too."""
    low, high = at_least, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if _repeats(text, period, middle):
            low = middle
        else:
            high = middle - 1
    return low


def has_open_fence(text: str) -> bool:
    """Whether *text* ends inside a fenced code block of Markdown.

    A fence of three or more backticks or tildes is closed by at least as many of the same, alone on their line.
    Cost: linear in *text*.   Source: CommonMark 0.31.2, section 4.5, but for the indentation.
    """
    opener = ""
    for match in _FENCE.finditer(text):
        marks, rest = match[1], match[2]
        if opener:
            if marks[0] == opener[0] and len(marks) >= len(opener) and not rest.strip():
                opener = ""
        elif marks[0] == "~" or "`" not in rest:
            opener = marks
    return bool(opener)
