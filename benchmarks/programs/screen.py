"""What a person would see of bytes that any program may have written to a terminal."""

from __future__ import annotations

import re

__all__ = ["screen_text"]

_PIECE = re.compile(
    r"\x1b\[(?P<numbers>[0-9;:?<=>]*)[ -/]*(?P<final>[@-~])"  # CSI
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC, DCS, SOS, PM, APC: nothing of them is text
    r"|\x1b[ -/]*[0-~]?|(?P<character>[^\x1b])",
    re.DOTALL,
)


def screen_text(data: bytes, columns: int = 80) -> str:
    """The rows of a terminal of *columns* after *data*, scrollback included, without trailing blanks.

    Knows printing with wrapping, CR, LF, backspace, and the sequences that move the cursor or erase; every other
    sequence is obeyed by doing nothing. Each character takes one column.
    """
    rows: list[list[str]] = [[]]
    row = column = 0
    for piece in _PIECE.finditer(data.decode(errors="replace")):
        character, final = piece["character"], piece["final"]
        if character == "\n":
            row, column = row + 1, 0
        elif character == "\r":
            column = 0
        elif character == "\b":
            column = max(0, column - 1)
        elif character is not None and character.isprintable():
            if column >= columns:
                row, column = row + 1, 0
            rows.extend([] for _ in range(row + 1 - len(rows)))
            rows[row].extend(" " * (column + 1 - len(rows[row])))
            rows[row][column] = character
            column += 1
        elif final is not None:
            first = piece["numbers"].partition(";")[0]
            count = int(first) if first.isdecimal() else 0
            if final in "ABEF":
                step = max(1, count)
                row = max(0, row - step) if final in "AF" else row + step
                column = 0 if final in "EF" else column
            elif final in "CD":
                step = max(1, count)
                column = min(columns - 1, column + step) if final == "C" else max(0, column - step)
            elif final == "G":
                column = max(0, count - 1)
            elif final in "JK":
                rows.extend([] for _ in range(row + 1 - len(rows)))
                _erase(rows, row, column, count, is_screen=final == "J")
        rows.extend([] for _ in range(row + 1 - len(rows)))
    return "\n".join("".join(each).rstrip() for each in rows).rstrip("\n")


def _erase(rows: list[list[str]], row: int, column: int, mode: int, *, is_screen: bool) -> None:
    """Erase after the cursor (*mode* 0), before it (1), or all (2 and 3): of its row, or of all rows."""
    if mode != 1:
        del rows[row][0 if mode >= 2 else column :]
    else:
        rows[row][: column + 1] = " " * min(len(rows[row]), column + 1)
    if is_screen:
        for other in range(len(rows)):
            if mode >= 2 or (other > row if mode == 0 else other < row):
                rows[other].clear()
