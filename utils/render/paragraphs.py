"""A paragraph that grows: rows that can hardly change any more are kept, and only its end is read again.

Markdown is not read from left to right alone: a `*` waits for its other half, and what stands between them changes when
that comes. So text is settled up to a space behind which nothing waits, and in whole rows. A wrong guess would be seen
until the paragraph has ended: what stays on the screen is rendered from the whole text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from rich.console import Console
from rich.containers import Lines
from rich.segment import Segment
from rich.text import Text

from utils.render.reader import MarkdownReader, paragraph_of
from utils.render.screen import Row

__all__ = ["GrowingParagraph"]

_OPEN_ROWS = 2
"""Rows at the end that are rendered again for each frame; with more, some are settled."""

_PLACES = 4
"""Spaces at which it is tried at a time, from the last one on."""

_OTHER_BLOCK = re.compile(r"\n[<=-]")
"""Lines in a paragraph that may be more than text: HTML, and the line under a heading."""


class GrowingParagraph:
    """The rows of one paragraph on *width* columns, asked for again and again while its text grows.

    *row* makes a row of a line, and is told whether it is the first one.
    """

    def __init__(
        self, reader: MarkdownReader, console: Console, width: int, row: Callable[[list[Segment], bool], Row]
    ) -> None:
        self._reader = reader
        self._console = console
        self._width = width
        self._row = row
        self._settled = ""
        self._has_begin = True
        self._rows: list[Row] = []
        self._carry = Text()  # settled as well, but in a row that is not full
        self._try_at = 0

    def is_begin_of(self, text: str) -> bool:
        """Whether *text* may be the same paragraph, grown."""
        return text.startswith(self._settled)

    def rows(self, text: str, newest: int) -> list[Row] | None:
        """The last rows of *text*, at most *newest*; None if it is no paragraph. It has to begin as before."""
        if len(text) - len(self._settled) > 2 * newest * self._width:
            self._begin_before_the_last(newest * self._width, text)
        tail = text[len(self._settled) :]
        added = self._read(tail)
        if added is None:
            return None
        lines = self._wrapped(added)
        rows = [*self._rows, *self._made(lines)][-newest:]
        if len(lines) > _OPEN_ROWS and len(tail) >= self._try_at:
            self._settle(tail)
        return rows

    def _begin_before_the_last(self, chars: int, text: str) -> None:
        """Leave out what stands before the last so many characters of *text*: nobody sees it."""
        start = len(text) - chars
        self._settled = text[: text.find(" ", start) + 1 or start]
        self._has_begin, self._rows, self._carry, self._try_at = False, [], Text(), 0

    def _read(self, tail: str) -> Text | None:
        if _OTHER_BLOCK.search(tail):
            return None
        tokens = self._reader.inline(tail.rstrip())[0] if self._settled else paragraph_of(self._reader.blocks(tail))
        return None if tokens is None else self._reader.styled(tokens)

    def _settle(self, tail: str) -> None:
        """Keep the rows of *tail* but the last, up to a space before which nothing waits for what comes."""
        self._try_at = len(tail) + self._width // 2
        end = len(tail) - self._width
        for _ in range(_PLACES):
            end = tail.rfind(" ", 0, max(0, end)) + 1
            piece = tail[:end]
            if not piece.strip() or "\t" in piece or piece[0].isspace() or tail[end].isspace():
                return
            tokens, is_waiting = self._reader.inline(piece)
            added = self._reader.styled(tokens)
            if added is None:
                return
            if not is_waiting:
                self._keep(piece, added)
                return
            end -= 1

    def _keep(self, piece: str, added: Text) -> None:
        *lines, carry = self._wrapped(added)
        self._rows += self._made(lines)
        if carry.plain and not carry.plain.endswith(" "):
            carry.append(" ")  # a full row has lost it
        self._carry, self._settled, self._try_at = carry, self._settled + piece, 0

    def _wrapped(self, added: Text) -> Lines:
        return (self._carry + added).wrap(self._console, self._width, overflow="fold")

    def _made(self, lines: Iterable[Text]) -> list[Row]:
        is_begin = self._has_begin and not self._rows
        return [
            self._row(list(line.render(self._console)), is_begin and number == 0) for number, line in enumerate(lines)
        ]
