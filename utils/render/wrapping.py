"""Lines of ours on a terminal: how wide they are, and where they may be cut."""

from __future__ import annotations

import os
import re
from unicodedata import combining, east_asian_width

__all__ = ["DEFAULT_SIZE", "HANGING", "printed_width", "terminal_size", "wrapped"]

DEFAULT_SIZE = (80, 24)
"""Columns and rows of a terminal that does not say how large it is."""

HANGING = "  "
"""What the second and later rows of a wrapped line begin with."""

_BREAK = re.compile(r" (?!m?s\b)")  # a number and its unit stay together
_CONTROL = re.compile(r"\x1b\[[\d;?]*[A-Za-z]|\r")


def printed_width(text: str) -> int:
    """Columns that *text* (one line, with escape sequences of ours) takes on a terminal."""
    plain = _CONTROL.sub("", text) if "\x1b" in text or "\r" in text else text
    if plain.isascii():
        return len(plain)
    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in plain)


def wrapped(text: str, width: int | None, *, hanging: str = HANGING) -> list[str]:
    """*text* (one line, words parted by single spaces) as rows of at most *width* columns, cut between words.

    None as *width*: one row, however long. A word wider than the terminal stays whole, so that a path or an address
    can be copied: the terminal folds it. No cut between a number and `ms` or `s`. Later rows begin with *hanging*;
    without it and joined by spaces, the rows are *text* again.
    """
    if width is None or printed_width(text) <= width:
        return [text]
    rows: list[str] = []
    row, used = "", 0
    for word in _BREAK.split(text):
        cells = printed_width(word)
        if row and used + 1 + cells > width:
            rows.append(row)
            row, used = hanging + word, printed_width(hanging) + cells
        elif row:
            row, used = f"{row} {word}", used + 1 + cells
        else:
            row, used = word, cells
        if used > width:  # the terminal has folded it
            used = used % width or width
    return [*rows, row]


def terminal_size(fd: int) -> tuple[int, int]:
    """(columns, rows) of the terminal behind *fd*, or the default."""
    try:
        columns, rows = os.get_terminal_size(fd)
    except (OSError, ValueError):
        columns, rows = 0, 0
    return columns or DEFAULT_SIZE[0], rows or DEFAULT_SIZE[1]
