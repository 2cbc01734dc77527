"""A program with a warm start is the program with a cold one, as far as a test can see it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support import warm_start
from tests.support.paced_server import PacedServer
from tests.support.scripted_server import wait_until
from tests.support.terminal import CTRL_C, Program, ProgramResult, run_program
from tests.support.warm_start import can_start_warm

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="everything starts cold there")
LATIN_1 = "caf\udce9"


@pytest.fixture(autouse=True)
def _not_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAYGRAPH_TESTS", raising=False)


def _both(tmp_path: Path, *args: str, **how: object) -> tuple[ProgramResult, ProgramResult]:
    cold, warm = (run_program(args, home=tmp_path, is_warm=is_warm, **how) for is_warm in (False, True))  # type: ignore[arg-type]
    return cold, warm


@pytest.mark.parametrize(
    ("args", "how"),
    [
        (["--help"], {}),
        (["--temperature", "9", "Hi."], {}),
        (["-p", LATIN_1], {}),
        (["config", "show", "--json"], {"env": {"KAYGRAPH_TEMPERATURE": "0.25"}}),
        (["-", "--dry-run"], {"stdin": "A café.".encode()}),
        (["guard"], {"stdin": b"Mail anna.berg@example.com, caf\xe9"}),
        (["rules", "list"], {"stdout": "tty"}),
        (["-"], {"stdin": b"caf\xe9"}),
    ],
    ids=lambda value: " ".join(value).encode("ascii", "replace").decode() if isinstance(value, list) else "",
)
def test_it_writes_and_ends_as_with_a_cold_start(tmp_path: Path, args: list[str], how: dict[str, object]) -> None:
    cold, warm = _both(tmp_path, *args, **how)
    assert cold.stdout + cold.stderr != b""
    assert (warm.stdout, warm.stderr, warm.exit_code) == (cold.stdout, cold.stderr, cold.exit_code)


def test_a_signal_that_ends_it_is_a_negative_exit_code() -> None:
    with Program(["-"], stdin="silent-pipe", is_warm=True) as program:
        program.send_signal(signal.SIGKILL)
        assert program.wait().exit_code == -signal.SIGKILL


def test_it_is_a_session_of_its_own_with_nothing_open_but_the_standard_streams() -> None:
    with Program(["-"], stdin="silent-pipe", is_warm=True) as program:
        wait_until(lambda: os.getsid(program.pid) == program.pid)
        # A request waits until the process has begun to be the program.
        wait_until(lambda: sorted(os.listdir(f"/proc/{program.pid}/fd")) == ["0", "1", "2"])
        wait_until(lambda: os.readlink(f"/proc/{program.pid}/cwd") != os.getcwd())
        program.type(b" ")
        program.close_stdin()
        assert program.wait().exit_code == 2


def test_a_terminals_ctrl_c_reaches_it() -> None:
    with (
        PacedServer(1000, 0.02) as server,
        Program(["--base-url", server.base_url, "-m", "m", "x"], stdin="tty", stdout="tty", is_warm=True) as program,
    ):
        program.wait_for(b"word")
        program.type(CTRL_C)
        assert program.wait().exit_code == 130


def test_what_works_only_where_python_starts_needs_a_cold_start(monkeypatch: pytest.MonkeyPatch) -> None:
    assert can_start_warm({"LANG": "C.UTF-8", "HOME": "/"})
    for name, value in (("LANG", "C"), ("LC_ALL", "C"), ("PYTHONUTF8", "0"), ("LD_PRELOAD", "x")):
        assert not can_start_warm({"LANG": "C.UTF-8", name: value})
    monkeypatch.setenv("KAYGRAPH_TESTS", "all")
    assert not can_start_warm({})


def test_only_warm_starts_ask_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(warm_start, "_server", lambda: asked.append(None) or pytest.fail("asked"))
    assert run_program(["--version"]).exit_code == 0
    assert asked == []
    with pytest.raises(pytest.fail.Exception):
        run_program(["--version"], is_warm=True)
