"""Incremental recognisers: each reads a text piece by piece and says what matched and what may still match.

Theory of operation. A scanner is told every character once, in order, in pieces of any size. It answers two questions:

- *found*: which matches became known with this piece. Only the union of a rule's matches and the one that ends first
  matter to a redactor, so a scanner reports families of matches with one start, and leaves out what lies inside others.
- *live*: the smallest position at which a match may start that ends after the text so far, or whose end is not decided
  yet because it needs to see one character more (a trailing boundary). `NOT_LIVE` if there is none.

Positions count characters of the folded text (see fold.py). What is reported depends on the text alone, never on how it
was cut. Every scanner keeps a bounded state and does a bounded amount of work per character (amortised).
"""

from __future__ import annotations

import re
import sys
from typing import Generic, NamedTuple, Protocol, TypeVar

__all__ = ["NOT_LIVE", "Match", "Pattern", "Pieces", "Scanner", "run_end"]

State = TypeVar("State")

_PIECE_CHARS_MAX = 32
_PIECES_MAX = 8_192

NOT_LIVE = sys.maxsize
"""No position is live: larger than every position."""


class Match(NamedTuple):
    """All matches that start at *start* and end in [first_end, end] and are known now.

    *rule*: the number of the rule among those that the scanner reads for. *is_late*: known only by the character after
    the match, or the end of the text (a trailing boundary).
    """

    start: int
    first_end: int
    end: int
    rule: int = 0
    is_late: bool = False


class Scanner(Protocol):
    """The state of one rule, or of several rules that are compiled together, in one stream."""

    def scan(self, text: str, base: int, found: list[Match]) -> int:
        """Read *text*, whose first character has position *base*; append to *found*; return the live position."""
        ...

    def finish(self, length: int, found: list[Match]) -> None:
        """The text ends at *length*: decide what waited for a trailing boundary."""
        ...


class Pattern(Protocol):
    """What a rule looks for: immutable, shared by all streams."""

    def scanner(self) -> Scanner:
        """A scanner at the start of a stream."""
        ...


class Pieces(Generic[State]):
    """What whole pieces of text do to a matcher: models write in tokens, and most of them come again and again.

    Only what is uneventful for the matcher is kept: in such a piece it finds nothing, and nothing begins that it could
    still find. They are pieces of answers, in memory only, as the answers themselves. Each state has a table of its
    own; all tables together are bounded (some 2 MB for each matcher), and emptied when they are full. Shared by streams
    and threads: what is lost in a race is only a short cut.
    """

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: list[tuple[dict[str, State], str]] = []

    def keep(self, table: dict[str, State], text: str, after: State) -> None:
        """Note in *table* that the piece *text* leads to the state *after*."""
        if not 1 < len(text) <= _PIECE_CHARS_MAX:
            return
        if len(self._kept) >= _PIECES_MAX:
            kept, self._kept = self._kept, []
            for known, piece in kept:
                known.pop(piece, None)
        self._kept.append((table, text))
        table[text] = after


def run_end(characters: re.Pattern[str], text: str, start: int, stop: int) -> int:
    """Where the run of *characters* (a pattern like `[0-9]*`) that starts at *start* ends, at most *stop*."""
    run = characters.match(text, start, stop)
    return run.end() if run else start
