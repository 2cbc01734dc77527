"""Cuts a stream of text into the windows that a classifier judges: sentences, or less where one does not end.

A window ends, whatever comes first,

- after a line end, or an ideographic full stop, exclamation or question mark: at once;
- after the white space behind `. ! ? …`, with up to three closing quotes or brackets between (so `3.14` and `a.b` are
  not cut; `Mr. Smith` is: the first window then says little, which harms nothing);
- when it is `WINDOW_CHARS_MAX` long: after its last character that is not part of a word, so that no word is cut; a
  single word of that length is.

The cuts depend on the text alone, not on how it was fed. A character is looked at a bounded number of times.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from utils.guardrails.redactor import GuardStateError

__all__ = ["WINDOW_CHARS_MAX", "SentenceWindows", "Window"]

WINDOW_CHARS_MAX = 1000
"""Longest window, in characters: five long sentences. The bound of what is kept, and in `hold` of what is held."""

_CLOSERS_MAX = 3
_END = re.compile(
    r"[\n\r\u2028\u2029\u3002\uff01\uff1f]"
    rf"|[.!?\u2026][\"'\u201d\u2019\u00bb)\]*_]{{0,{_CLOSERS_MAX}}}\s"
)
_LOOK_BACK_CHARS = 1 + _CLOSERS_MAX
"""An end that was not complete before the newest character begins at most this far in front of it."""

_NOT_OF_A_WORD = re.compile(r"\W")


class Window(NamedTuple):
    """The characters [start, end) of the stream, to be judged now; `decided_at` characters had to be seen for it.

    `decided_at` is `end`, or more for a window that was cut because it reached its greatest length (`is_cut`).
    """

    text: str
    start: int
    end: int
    decided_at: int
    is_cut: bool


class SentenceWindows:
    """The cutter of one stream. Invariant: the windows, in order, are the text up to the open window."""

    def __init__(self) -> None:
        self._open = ""
        self._start = 0
        self._searched = 0  # characters of the open window in which no end is complete
        self._is_finished = False

    def feed(self, text: str) -> list[Window]:
        """Read *text*; the windows that ended. Raises: GuardStateError after `finish`."""
        if self._is_finished:
            raise GuardStateError("feed() after the end of the stream")
        windows: list[Window] = []
        place = 0
        while place < len(text):
            room = WINDOW_CHARS_MAX - len(self._open)
            self._open += text[place : place + room]
            place += room
            self._cut(windows)
        return windows

    def finish(self) -> list[Window]:
        """The text is whole: the open window, if there is one. Raises: GuardStateError if it was finished already."""
        if self._is_finished:
            raise GuardStateError("finish() after the end of the stream")
        self._is_finished = True
        windows: list[Window] = []
        if self._open:
            self._close(len(self._open), windows)
        return windows

    def _cut(self, windows: list[Window]) -> None:
        while True:
            found = _END.search(self._open, max(0, self._searched - _LOOK_BACK_CHARS))
            if found is not None:
                self._close(found.end(), windows)
                continue
            self._searched = len(self._open)
            if len(self._open) < WINDOW_CHARS_MAX:
                return
            size = next((n for n in range(len(self._open), 0, -1) if _NOT_OF_A_WORD.match(self._open, n - 1)), 0)
            self._close(size or len(self._open), windows, cut_at=self._start + len(self._open))

    def _close(self, size: int, windows: list[Window], cut_at: int | None = None) -> None:
        end = self._start + size
        is_cut = cut_at is not None
        windows.append(Window(self._open[:size], self._start, end, end if cut_at is None else cut_at, is_cut))
        self._open = self._open[size:]
        self._start = end
        self._searched = 0
