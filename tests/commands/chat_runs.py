"""Runs `chat` in this process: typed lines instead of an editor, servers that answer by script."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from commands import chat_loop
from commands.chat import command

__all__ = ["Chats", "Typing"]

Line = str | Exception | type[BaseException] | Callable[[], object]


@dataclass(frozen=True)
class Chat:
    code: int
    out: str
    err: str
    reads_from: dict[str, Any]
    """How the reader of its lines was asked for."""


class Typing:
    """A reader that gives *lines*; an exception is raised, a function is called on the way to the next line."""

    def __init__(self, lines: Iterable[Line], *, is_interactive: bool, notice: str | None = None) -> None:
        self.notice = notice
        self._lines = iter(lines)
        self.is_interactive = is_interactive

    async def read(self) -> str:
        for line in self._lines:
            await asyncio.sleep(0)  # as every reader waits
            if isinstance(line, str):
                return line
            if isinstance(line, Exception | type):
                raise line
            line()
        raise EOFError


@dataclass(frozen=True)
class Chats:
    monkeypatch: pytest.MonkeyPatch
    capfd: pytest.CaptureFixture[str]

    def __call__(self, *args: str, lines: Iterable[Line], at_terminal: bool = False, notice: str | None = None) -> Chat:
        """`chat ARGS` to its end. Raises what main.py would make an exit code of."""
        self.capfd.readouterr()
        # No server here speaks TLS, and reading the certificates costs more than a turn.
        self.monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: None)
        reader = Typing(lines, is_interactive=at_terminal, notice=notice)
        asked: dict[str, Any] = {}
        self.monkeypatch.setattr(chat_loop, "open_reader", lambda _, **how: asked.update(how) or reader)
        code = command.main(list(args), prog_name="chat", standalone_mode=False)
        return Chat(code, *self.capfd.readouterr(), asked)
