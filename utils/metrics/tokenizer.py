"""Counting the tokens of a text that is still being written. Pure: the vocabulary comes from elsewhere.

Counting each chunk for itself and adding up counts far too many: a chunk may begin in the middle of a word. Counting
the whole text again with each chunk is quadratic. But vocabularies of the usual kind (byte pair encoding behind a
splitting pattern) never join what stands on both sides of "a character that is no space, then one space and an ASCII
letter": the pattern begins a new piece at that space. So all before the newest such place is counted once and
forgotten, and only the tail behind it is counted anew.
"""

from __future__ import annotations

import re
from typing import Protocol

__all__ = ["MAX_TAIL_CHARS", "TAIL_CHARS", "IncrementalCounter", "Tokenizer", "Vocabulary", "vocabulary_of"]

TAIL_CHARS = 256
"""A shorter tail is not looked at: counting it is cheaper than cutting it."""
MAX_TAIL_CHARS = 4_096
"""Text without a boundary (Chinese, Base64) is counted in pieces of this length, which may split a token in two."""

_BOUNDARY = re.compile(r"(?<=\S) (?=[A-Za-z])")
_BOUNDARY_CHARS = 3

Vocabulary = str
"""The name of a vocabulary, such as `o200k_base`."""

_VOCABULARIES: tuple[tuple[re.Pattern[str], Vocabulary], ...] = (
    (re.compile(r"(chatgpt-4o|gpt-(4o|4\.1|4\.5|5)|o[1-9])(?![a-z0-9])"), "o200k_base"),
    (re.compile(r"gpt-(4|3\.5|35)(?![a-z0-9.])"), "cl100k_base"),
)


class Tokenizer(Protocol):
    """Whatever can count the tokens of a text."""

    def count(self, text: str) -> int:
        """The number of tokens of *text*; 0 for the empty one."""
        ...


def vocabulary_of(model: str) -> Vocabulary | None:
    """The vocabulary of OpenAI's *model*, as servers name it (`gpt-4o-2024-08-06`); None for every other model."""
    # Gateways put a vendor before the name, and fine-tuned models a `ft:`.
    name = model.casefold().removeprefix("openai/").removeprefix("ft:")
    return next((vocabulary for pattern, vocabulary in _VOCABULARIES if pattern.match(name)), None)


class IncrementalCounter:
    """The tokens of a text that comes in pieces: as many as the whole text has, however it is cut.

    `feed` only remembers; the work is done when somebody asks for the `count`, and each character is counted about
    twice. Invariant: while `is_exact`, `count` is `tokenizer.count` of all that was fed. When and how often it is asked
    for changes nothing. Memory: the text since the last question, then at most the tail.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._pending: list[str] = []
        self._committed = 0
        self._tail = ""
        self._searched = 0
        """No boundary begins before this place of the tail."""
        self._tail_count: int | None = 0
        self._is_exact = True

    def feed(self, text: str) -> None:
        """Add *text*."""
        self._pending.append(text)

    @property
    def count(self) -> int:
        """Tokens so far."""
        self._take_in()
        if self._tail_count is None:
            self._tail_count = self._tokenizer.count(self._tail)
        return self._committed + self._tail_count

    @property
    def is_exact(self) -> bool:
        """False once a text without boundaries was counted in pieces."""
        self._take_in()
        return self._is_exact

    def _take_in(self) -> None:
        for text in self._pending:
            self._tail += text
            if len(self._tail) > TAIL_CHARS:
                self._shorten()
            self._tail_count = None
        self._pending.clear()

    def _shorten(self) -> None:
        boundary = -1
        for found in _BOUNDARY.finditer(self._tail, self._searched):
            boundary = found.start()
        # The tail begins with a boundary, or with the text.
        if boundary > 0:
            self._commit(boundary)
        elif len(self._tail) > MAX_TAIL_CHARS:
            self._commit(len(self._tail))
            self._is_exact = False
        self._searched = max(0, len(self._tail) - _BOUNDARY_CHARS + 1)

    def _commit(self, end: int) -> None:
        self._committed += self._tokenizer.count(self._tail[:end])
        self._tail = self._tail[end:]
