"""How fast an answer may appear (`--max-tokens-per-second`). Pure: it says when, somebody else waits.

A token bucket read backwards: each piece is given the earliest instant at which it may be shown. Pieces are no larger
than the budget, so in any w seconds at most *budget + rate w* tokens appear, and a text that arrived at once still
flows. Instants never decrease, so nothing is ever reordered. Nothing is queued here: the reader is simply not asked
for more, and whatever ends the stream is passed on as soon as it is read.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from utils.events import TextDelta

__all__ = ["Pacer", "PacerStatistics", "tokens_in"]

_CHARS_PER_TOKEN = 4.0
_BUDGET_S = 0.25
"""What may appear at once, in seconds of the rate: a quarter of a second reads as smooth and survives a late timer."""


def tokens_in(delta: TextDelta) -> float:
    """The tokens of *delta*: those the server named, else one per 4 characters and at least 1."""
    return float(len(delta.tokens)) if delta.tokens else max(1.0, len(delta.text) / _CHARS_PER_TOKEN)


@dataclass(frozen=True, slots=True)
class PacerStatistics:
    """Counts since the start; *delayed_s* is how much later than possible pieces were shown, in total."""

    tokens_per_second: float
    pieces: int
    tokens: float
    delayed_pieces: int
    delayed_s: float

    def as_json(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {name: getattr(self, name) for name in self.__slots__}


class Pacer:
    """The pace of one answer. *tokens_per_second* and *budget_tokens* are above 0; the budget is at least 1 token."""

    def __init__(self, tokens_per_second: float, *, budget_tokens: float | None = None) -> None:
        if not (math.isfinite(tokens_per_second) and tokens_per_second > 0.0):
            raise ValueError(f"tokens per second must be above 0, got {tokens_per_second!r}")
        self._rate = tokens_per_second
        self.budget_tokens = max(1.0, tokens_per_second * _BUDGET_S if budget_tokens is None else budget_tokens)
        """The most tokens that one piece may have."""
        self._budget_s = self.budget_tokens / tokens_per_second
        self._full_at_s = -math.inf
        """When the budget will be whole again."""
        self._pieces = self._delayed_pieces = 0
        self._tokens = self._delayed_s = 0.0

    def due_s(self, now: float, tokens: float) -> float:
        """The instant, *now* or later, at which a piece of *tokens* may be shown; the piece is then spent.

        Ask for one piece after the other. More than the budget is charged in full but waits only for a full budget.
        """
        full_at_s = max(self._full_at_s, now)
        due_s = max(now, full_at_s + min(tokens, self.budget_tokens) / self._rate - self._budget_s)
        self._full_at_s = full_at_s + tokens / self._rate
        self._pieces += 1
        self._tokens += tokens
        if due_s > now:
            self._delayed_pieces += 1
            self._delayed_s += due_s - now
        return due_s

    def pieces(self, delta: TextDelta) -> Iterator[TextDelta]:
        """*delta* in pieces of at most the budget; joined they are *delta*, tokens included.

        It is cut between the tokens that the server named if they spell the text; otherwise behind white space, and
        inside a word only where it must be, never before a combining mark or between joined emoji.
        """
        if tokens_in(delta) <= self.budget_tokens:
            yield delta
            return
        if delta.tokens and "".join(token.text for token in delta.tokens) == delta.text:
            size = int(self.budget_tokens)
            for start in range(0, len(delta.tokens), size):
                some = delta.tokens[start : start + size]
                # A token may be empty or part of a character; deltas never are.
                if text := "".join(token.text for token in some):
                    yield TextDelta(text, some)
            return
        text, size, start = delta.text, max(1, int(self.budget_tokens * _CHARS_PER_TOKEN)), 0
        ends = list(_ends(text, size))
        for end in ends:
            # Tokens that do not spell the text belong to no part of it: they stay together, with the last piece.
            yield TextDelta(text[start:end], delta.tokens if end == ends[-1] else ())
            start = end

    def statistics(self) -> PacerStatistics:
        """Counts since the start."""
        return PacerStatistics(self._rate, self._pieces, self._tokens, self._delayed_pieces, self._delayed_s)


def _ends(text: str, size: int) -> Iterator[int]:
    start = 0
    while len(text) - start > size:
        end = start + size
        space = next((i for i in range(end, start, -1) if text[i - 1].isspace()), 0)
        if space:
            end = space
        else:
            while end < len(text) and _joins(text[end - 1], text[end]):
                end += 1
        if end >= len(text):
            break
        yield end
        start = end
    yield len(text)


def _joins(before: str, after: str) -> bool:
    """Whether a reader sees the two characters as one: a coarse, safe reading of Unicode's grapheme clusters."""
    return (
        unicodedata.category(after).startswith("M")
        or after in "\u200d\ufe0f"
        or before == "\u200d"
        or "\U0001f3fb" <= after <= "\U0001f3ff"
    )
