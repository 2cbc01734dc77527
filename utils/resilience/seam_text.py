"""What kind of text an interrupted answer ends in, and what else is asked about it to find a seam. Pure."""

from __future__ import annotations

import re
from typing import Literal

from utils.resilience.seam_words import COMMON

__all__ = ["POINTS", "DeliveredText", "SeamKind", "last_words", "open_fence", "seam_kind", "spaced", "weight"]

SeamKind = Literal["prose", "verse", "list", "table", "code"]

_SPACE = re.compile(r"\s+")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})[ \t]*([^`\n]*)$", re.MULTILINE)
_LIST_ITEM = re.compile(r"\s*(?:[-*+•]|\d{1,3}[.)])(?:\s|$)")
POINTS = ",.;:!?"
_LAST_WORD = re.compile(rf"(?P<word>[^\W\d_]+)[{POINTS}]?\Z")
_WORD = re.compile(r"[^\W\d_]+")
_KNOWN_WORDS_CHARS = 20_000
_REPEATED_WEIGHT = 48
"""How much is asked for once more: twice what the strictest kind of text needs to be recognised."""
_CODE_LINE = re.compile(
    r"^(?: {4}|\t)|[{};]\s*$|[)\]]\s*[:,]?\s*$|^\s*(?:def|class|import|from|return|if|for|while)\b.*[:)\w]$"
)


class DeliveredText:
    """The text before the seam, with what the rules ask about it, worked out once."""

    def __init__(self, text: str) -> None:
        self.text = text
        body = text.rstrip()
        self.trailing = text[len(body) :]
        self.spaced = spaced(text.lstrip())
        self.kind = seam_kind(text)
        line = text[text.rfind("\n") + 1 :]
        # A fence whose own line is cut is not open yet: its language may still come.
        self.fence = open_fence(text[: len(text) - len(line)])
        self.begun_line_chars = len(spaced(line.lstrip()))
        """Length of the line that the seam cuts, counted in `spaced`; 0 at the start of a line."""
        self.indent = line[: len(line) - len(line.lstrip(" \t"))]
        """The white space at the beginning of this line."""
        self.asked = spaced(last_words(body)).lstrip()
        """What a server that is asked in words is asked to begin with."""
        last = _LAST_WORD.search(body)
        self.last_word = last["word"] if last else ""
        head = body[: last.start()] if last else body
        self.words = {word.lower() for word in _WORD.findall(head[-_KNOWN_WORDS_CHARS:])}

    def knows(self, word: str) -> bool:
        """Whether *word* is certainly a whole word: it stands in the text before, or everybody knows it."""
        folded = word.lower()
        return folded in self.words or folded in COMMON


def spaced(text: str) -> str:
    """*text* with every run of white space as one space."""
    return _SPACE.sub(" ", text)


def weight(text: str) -> int:
    """How much *text* says, in Latin characters: an ideograph or syllable counts as two."""
    return len(text) + sum(char >= "\u2e80" for char in text)


def last_words(text: str) -> str:
    """The end of *text* from the beginning of a word, long enough to be recognised."""
    start = len(text)
    found = 0
    while start and (found < _REPEATED_WEIGHT or (text[start - 1].isalnum() and text[start].isalnum())):
        start -= 1
        found = weight(spaced(text[start:])) if found < _REPEATED_WEIGHT else found + 1
        if found > 2 * _REPEATED_WEIGHT:
            break
    return text[start:]


def open_fence(text: str) -> str | None:
    """The info string ("" if it has none) of the Markdown code fence that is open at the end; None: no fence is."""
    opened: tuple[str, str] | None = None
    for match in _FENCE.finditer(text):
        marks, info = match[1], match[2].strip()
        if opened is None:
            opened = marks, info
        elif not info and marks.startswith(opened[0]):
            opened = None
    return opened[1] if opened else None


def seam_kind(text: str) -> SeamKind:
    """What kind of text *text* ends in, by its last lines."""
    if open_fence(text) is not None:
        return "code"
    lines = [line for line in text[-1500:].splitlines() if line.strip()][-8:]
    if not lines:
        return "prose"
    if lines[-1].lstrip().startswith("|") or lines[-1].count("|") >= 2 or set(lines[-1].strip()) <= set("-=_*#~+ "):
        return "table"
    if sum(_CODE_LINE.search(line) is not None for line in lines) * 2 >= len(lines) and len(lines) > 1:
        return "code"
    if any(_LIST_ITEM.match(line) for line in lines[-3:]):
        return "list"
    if len(lines) >= 4 and all(len(line) <= 60 for line in lines):
        return "verse"
    return "prose"
