"""A small terminal: what would be on the screen after these characters, scrollback included.

Knows what the renderer sends (printing with wrapping, CR, LF, cursor up, erase, autowrap, SGR); any other escape
sequence is an error, so that a test notices when something new is sent.
"""

from __future__ import annotations

import re
from unicodedata import category, combining, east_asian_width

_SEQUENCE = re.compile(r"\x1b\[(\??[\d;]*)([A-Za-z])")


class ScreenEmulator:
    def __init__(self, width: int = 80, height: int = 24, *, reflows: bool = True) -> None:
        self.width, self.height, self.reflows = width, height, reflows
        self.rows: list[list[str]] = [[]]
        self.row = 0
        self.column = 0
        self.wraps = True
        self.sgr_open = False
        self.writes = 0

    def size(self) -> tuple[int, int]:
        return self.width, self.height

    def write(self, text: str) -> None:
        self.writes += 1
        position = 0
        while position < len(text):
            char = text[position]
            if char == "\x1b":
                match = _SEQUENCE.match(text, position)
                assert match, f"unknown sequence {text[position : position + 12]!r}"
                self._control(match[1], match[2])
                position = match.end()
                continue
            assert char in "\n\r\t" or category(char) != "Cc", f"control {char!r} reached the terminal"
            self._char(char)
            position += 1

    def lines(self) -> list[str]:
        """All rows, without trailing blanks, up to the last one that was reached."""
        return ["".join(row).rstrip() for row in self.rows]

    def text(self) -> str:
        return "\n".join(self.lines())

    def resize(self, width: int) -> None:
        if self.reflows and width < self.width:
            rows: list[list[str]] = []
            for index, row in enumerate(self.rows):
                pieces = [row[at : at + width] for at in range(0, len(row), width)] or [[]]
                rows.extend(pieces)
                if index == self.row:
                    piece = min(self.column // width, len(pieces) - 1)
                    cursor = len(rows) - len(pieces) + piece, min(self.column - piece * width, width)
            self.rows, (self.row, self.column) = rows, cursor
        elif width < self.width:
            self.rows = [row[:width] for row in self.rows]
            self.column = min(self.column, width)
        self.width = width

    @property
    def _top(self) -> int:
        return max(0, len(self.rows) - self.height)

    def _char(self, char: str) -> None:
        if char == "\r":
            self.column = 0
        elif char == "\n":  # the terminal driver turns LF into CR LF
            self.column = 0
            self._down()
        elif char == "\t":
            for _ in range(8 - self.column % 8):
                self._put(" ")
        elif combining(char) or char == "\u200d":
            return  # takes no column
        else:
            wide = east_asian_width(char) in "WF"
            if wide and self.column == self.width - 1 and self.wraps:
                self._put(" ")
            self._put(char)
            if wide:
                self._put("")

    def _put(self, char: str) -> None:
        if self.column >= self.width:
            if not self.wraps:
                self.column = self.width - 1
            else:
                self.column = 0
                self._down()
        row = self.rows[self.row]
        row.extend(" " * (self.column + 1 - len(row)))
        row[self.column] = char
        self.column += 1

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.rows):
            self.rows.append([])

    def _control(self, parameters: str, final: str) -> None:
        if final == "m":
            self.sgr_open = parameters not in ("", "0")
        elif final == "A":
            self.row = max(self._top, self.row - int(parameters or 1))
        elif final == "J" and parameters in ("", "0"):
            del self.rows[self.row][self.column :]
            del self.rows[self.row + 1 :]
        elif final in "hl" and parameters == "?7":
            self.wraps = final == "h"
        else:
            raise AssertionError(f"unexpected control sequence CSI {parameters} {final}")
