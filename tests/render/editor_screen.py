"""The small terminal with what a line editor sends besides: moving in the line, erasing it, modes."""

from __future__ import annotations

from tests.render.screen_emulator import ScreenEmulator

_MODES = {"?1": "application keys", "?12": "blinking cursor", "?25": "cursor shown", "?2004": "bracketed paste"}


class EditorScreen(ScreenEmulator):
    """*modes*: those that are on."""

    def __init__(self, width: int = 80, height: int = 24) -> None:
        super().__init__(width, height)
        self.modes = {"cursor shown"}

    def write(self, text: str) -> None:
        start = 0
        for position, char in enumerate(text):
            if char in "\b\a":
                super().write(text[start:position])
                start = position + 1
            if char == "\b":
                self.column = max(0, min(self.column, self.width - 1) - 1)
        super().write(text[start:])

    def _control(self, parameters: str, final: str) -> None:
        row = self.rows[self.row]
        count = int(parameters) if parameters.isdecimal() else 1
        if final in "hl" and parameters in _MODES:
            (self.modes.add if final == "h" else self.modes.discard)(_MODES[parameters])
        elif final == "B":
            for _ in range(count):
                self.row = min(self.row + 1, len(self.rows) - 1)
        elif final == "C":
            self.column = min(self.column + count, self.width - 1)
        elif final == "D":
            self.column = max(self.column - count, 0)
        elif final == "K" and parameters in ("", "0"):
            del row[self.column :]
        elif final == "K" and parameters == "2":
            row.clear()
        else:
            super()._control(parameters, final)
