"""The text shown, joined in blocks, and the periodic look for loops at its end."""

from __future__ import annotations

from itertools import chain
from typing import Any

from utils.metrics.quality import REPETITION_WINDOW_CHARS, Repetition, find_repetition

__all__ = ["CHECK_EVERY_CHUNKS", "Transcript"]

CHECK_EVERY_CHUNKS = 50


class Transcript:
    """What was shown, in order. `append` is cheap; every 50th joins a block and looks for a loop at its end.

    Reading changes nothing, so what the checks find does not depend on who looks when.
    """

    def __init__(self) -> None:
        self.chars = 0
        """Code points so far."""
        self.loop: Repetition | None = None
        """The loop in which the text ended at the newest check, if it did."""
        self._blocks: list[str] = []
        self._pending: list[str] = []
        self._window = ""
        self._extra_bytes = 0
        self._newest_loop: Repetition | None = None
        self._first_loop_at_char: int | None = None

    def append(self, text: str) -> None:
        """Add a chunk of *text*."""
        self.chars += len(text)
        pending = self._pending
        pending.append(text)
        if len(pending) >= CHECK_EVERY_CHUNKS:
            self.check()

    def check(self) -> None:
        """Join what is pending and look for a loop at the end of the text."""
        if not self._pending:
            return
        block = "".join(self._pending)
        self._pending.clear()
        self._blocks.append(block)
        self._extra_bytes += _extra_bytes(block)
        self._window = (self._window + block)[-REPETITION_WINDOW_CHARS:]
        self.loop = find_repetition(self._window)
        if self.loop is not None:
            self._newest_loop = self.loop
            if self._first_loop_at_char is None:
                self._first_loop_at_char = self.chars

    @property
    def text(self) -> str:
        """The whole text; linear in its length."""
        return "".join((*self._blocks, *self._pending))

    def since(self, start: int) -> str:
        """The text from the character *start* on; linear in what it returns."""
        pieces: list[str] = []
        begin = self.chars
        for piece in chain(reversed(self._pending), reversed(self._blocks)):
            if begin <= start:
                break
            pieces.append(piece)
            begin -= len(piece)
        return "".join(reversed(pieces))[max(0, start - begin) :]

    @property
    def extra_bytes(self) -> int:
        """Bytes of the text in UTF-8 beyond one per character."""
        return self._extra_bytes + _extra_bytes("".join(self._pending))

    def repetition_as_json(self) -> dict[str, Any]:
        """The `repetition` part of the quality report, the end of the text looked at once more."""
        at_end = find_repetition((self._window + "".join(self._pending))[-REPETITION_WINDOW_CHARS:])
        newest = at_end or self._newest_loop
        first_seen = self._first_loop_at_char
        return {
            "detected": newest is not None,
            "at_end": at_end is not None,
            "first_seen_at_char": self.chars if first_seen is None and at_end else first_seen,
            "period_chars": newest.period_chars if newest else None,
            "covered_chars": newest.covered_chars if newest else None,
            "repeats": newest.repeats if newest else None,
        }


def _extra_bytes(text: str) -> int:
    # A model may write half of a surrogate pair; it must not stop the measuring.
    return 0 if text.isascii() else len(text.encode("utf-8", "surrogatepass")) - len(text)
