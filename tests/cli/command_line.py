"""What the command-line tests share: starting the program, reading its output, looking at the processes around it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.support.scripted_server import wait_until
from tests.support.terminal import Program, ProgramResult

__all__ = ["CommandLine", "embedded_child", "is_gone", "is_slot_free", "last_json", "lines", "rows"]


@dataclass(frozen=True, slots=True)
class CommandLine:
    """Starts the program with *cache* as its model cache, and otherwise with an empty environment and home.

    *is_warm*: without the half second of Python's start and the imports, see `tests.support.warm_start`.
    """

    cache: Path
    is_warm: bool = False

    def start(self, *args: str, env: Mapping[str, str] | None = None, **how: Any) -> Program:
        """A running `python main.py ARGS`; *how* goes to `Program`."""
        return Program(
            args, env={"KAYGRAPH_CACHE_DIR": str(self.cache), **(env or {})}, **{"is_warm": self.is_warm, **how}
        )

    def run(
        self, *args: str, env: Mapping[str, str] | None = None, timeout_s: float = 30.0, **how: Any
    ) -> ProgramResult:
        """`python main.py ARGS` run to its end."""
        with self.start(*args, env=env, **how) as program:
            return program.wait(timeout_s)


# -- output ----------------------------------------------------------------------------------------------------------


def lines(output: str) -> list[str]:
    """The lines that hold anything."""
    return [line for line in output.splitlines() if line.strip()]


def rows(result: ProgramResult) -> list[dict[str, Any]]:
    """The JSON lines on stdout."""
    return [json.loads(line) for line in result.stdout.splitlines()]


def last_json(result: ProgramResult) -> dict[str, Any]:
    """The report of `--json` (the only line) or `--events` (the last one)."""
    report: dict[str, Any] = rows(result)[-1]
    return report


# -- processes -------------------------------------------------------------------------------------------------------


def embedded_child(program: Program, timeout_s: float = 10.0) -> int:
    """The process id of the program's embedded model, as soon as there is one."""
    found: list[int] = []

    def look() -> bool:
        found.extend(pid for pid in _children(program.pid) if b"child.py" in _command(pid))
        return bool(found)

    wait_until(look, timeout_s)
    return found[0]


def is_gone(pid: int) -> bool:
    """Whether process *pid* has ended (it may still wait to be reaped)."""
    return _status(pid)[:1] in ("", "Z")


def _children(parent: int) -> list[int]:
    pids = (int(name) for name in os.listdir("/proc") if name.isdecimal())
    return [pid for pid in pids if _status(pid).split()[1:2] == [str(parent)]]


def _status(pid: int) -> str:
    """State and parent of *pid*, and more; empty if there is no such process."""
    with suppress(OSError):
        # The name in parentheses may hold anything.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].strip()
    return ""


def _command(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


# -- the foreign server ----------------------------------------------------------------------------------------------


def is_slot_free(base_url: str | None) -> bool:
    """Whether no slot of the llama.cpp server at *base_url* is busy."""
    connection = HTTPConnection(urlsplit(base_url or "").netloc, timeout=5)
    try:
        connection.request("GET", "/slots", headers={"Connection": "close"})
        return not any(slot["is_processing"] for slot in json.loads(connection.getresponse().read()))
    finally:
        connection.close()
