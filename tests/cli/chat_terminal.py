"""A chat at a terminal: keys go in, and what a person would see comes out."""

from __future__ import annotations

import codecs
import fcntl
import os
import re
import struct
import termios
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.render.editor_screen import EditorScreen
from tests.support.scripted_server import wait_until
from tests.support.terminal import MAIN, Program, ProgramResult

__all__ = ["ChatTerminal"]

PATIENCE_S = 60.0


class ChatTerminal:
    """`python main.py chat ARGS`, with a warm start, at a terminal of its own.

    As a context manager it ends what still runs.
    """

    def __init__(
        self,
        *args: str,
        home: Path | None = None,
        env: Mapping[str, str] | None = None,
        size: tuple[int, int] = (80, 24),
        argv_prefix: Sequence[str] = MAIN,
        **how: object,
    ) -> None:
        self.screen = EditorScreen(*size)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._taken = 0
        self.program = Program(
            ["chat", *args],
            stdin="tty",
            **{"stdout": "tty", "stderr": "tty", **how},  # type: ignore[arg-type]
            env=env,
            home=home,
            size=size,
            argv_prefix=argv_prefix,
            is_warm=True,
        )
        self._stream = "stdout" if how.get("stdout", "tty") == "tty" else "stderr"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.program.__exit__(kind, error, trace)

    def text(self) -> str:
        """The screen and what has been scrolled off it."""
        output = self.program.output(self._stream)  # type: ignore[arg-type]
        self.screen.write(self._decoder.decode(output[self._taken :]))
        self._taken = len(output)
        return self.screen.text().rstrip("\n")

    def wait_for(self, what: str | re.Pattern[str] | Callable[[str], object], timeout_s: float = PATIENCE_S) -> str:
        """The screen as soon as *what* is on it (a function: as soon as it holds of it)."""
        if isinstance(what, str):
            what = re.compile(re.escape(what))
        holds = what if callable(what) else what.search
        try:
            wait_until(lambda: holds(self.text()), timeout_s)
        except AssertionError:
            raise AssertionError(f"{what} did not come; the screen is\n{self.text()}") from None
        return self.text()

    def wait_for_prompt(self, line: str = "") -> str:
        """The screen as soon as its last row is the prompt with *line* on it, and the editor takes keys."""

        def is_there(text: str) -> bool:
            return self.row() == f"> {line}".rstrip() and "bracketed paste" in self.screen.modes

        return self.wait_for(is_there)

    def row(self) -> str:
        """The last row."""
        return self.text().rpartition("\n")[2]

    def type(self, keys: bytes | str) -> None:
        """Press *keys*; more than the terminal holds are pressed as the program takes them."""
        self.program.type(keys.encode() if isinstance(keys, str) else keys)

    def resize(self, width: int, height: int = 24) -> None:
        """Make the terminal that wide, and tell the program."""
        self.text()
        terminal = self.program.terminal
        self.screen.resize(width)
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def is_cooked(self) -> bool:
        """Whether the terminal edits lines itself and shows what is typed, as a shell leaves it to programs."""
        flags = termios.tcgetattr(self.program.terminal)[3]
        return all(flags & mode for mode in (termios.ICANON, termios.ECHO, termios.ISIG))

    def wait(self) -> ProgramResult:
        """The result, once the program has ended."""
        return self.program.wait(PATIENCE_S)

    def seen(self) -> str:
        """Everything that was sent to the terminal."""
        return os.fsdecode(self.program.output(self._stream))  # type: ignore[arg-type]
