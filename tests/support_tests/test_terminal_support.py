"""Programs run behind pipes and terminals as they would in a shell."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from tests.support.scripted_server import wait_until
from tests.support.terminal import CTRL_C, CTRL_D, Program, ProgramTimeout, run_program

PYTHON = (sys.executable, "-ISc")
TTYS = "import os; print([os.isatty(fd) for fd in (0, 1, 2)])"
WAIT_FOR_SIGNAL = """
import os, signal
def leave(number, frame):
    os.write(1, b"got %d" % number)  # not print: the signal may come while "ready" is being printed
    os._exit(128 + number)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, leave)
print("ready", flush=True)
signal.pause()
"""
ECHO = "import sys; print('ready', flush=True); data = sys.stdin.read(); print(len(data), data[:20])"


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    threads, descriptors = set(threading.enumerate()), os.listdir("/dev/fd")
    yield
    assert set(threading.enumerate()) <= threads
    assert len(os.listdir("/dev/fd")) <= len(descriptors)


def test_output_errors_and_exit_code_come_apart() -> None:
    code = "import sys; sys.stdout.write('out\\n'); sys.stderr.write('err\\n'); sys.exit(7)"
    result = run_program([code], argv_prefix=PYTHON)
    assert (result.stdout, result.stderr, result.exit_code) == (b"out\n", b"err\n", 7)
    assert (result.text, result.errors, result.terminal) == ("out\n", "err\n", b"")
    assert result.started_at < result.stdout_arrivals[0].at <= result.ended_at + 1


def test_a_signal_that_ends_the_program_is_a_negative_exit_code() -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert run_program([code], argv_prefix=PYTHON).exit_code == -signal.SIGKILL


@pytest.mark.parametrize(
    ("stdin", "stdout", "stderr", "expected"),
    [
        ("devnull", "pipe", "pipe", [False, False, False]),
        ("silent-pipe", "pipe", "pipe", [False, False, False]),
        ("tty", "pipe", "pipe", [True, False, False]),
        ("devnull", "tty", "pipe", [False, True, False]),
        ("devnull", "pipe", "tty", [False, False, True]),
        ("tty", "tty", "tty", [True, True, True]),
    ],
)
def test_each_descriptor_is_what_was_asked_for(stdin, stdout, stderr, expected) -> None:  # type: ignore[no-untyped-def]
    result = run_program([TTYS], argv_prefix=PYTHON, stdin=stdin, stdout=stdout, stderr=stderr)
    assert result.text == f"{expected}\n"


def test_a_terminal_turns_line_feeds_into_crlf_and_text_turns_them_back() -> None:
    result = run_program(["print('a'); print('b')"], argv_prefix=PYTHON, stdout="tty")
    assert result.stdout == b"a\r\nb\r\n"
    assert result.text == "a\nb\n"


def test_a_terminal_on_stderr_alone_is_collected_as_stderr() -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr)"
    result = run_program([code], argv_prefix=PYTHON, stderr="tty")
    assert (result.stdout, result.stderr) == (b"out\n", b"err\r\n")


def test_one_terminal_shows_stdout_and_stderr_together() -> None:
    code = "import sys; print('out', flush=True); print('err', file=sys.stderr)"
    result = run_program([code], argv_prefix=PYTHON, stdout="tty", stderr="tty")
    assert (result.stdout, result.stderr) == (b"out\r\nerr\r\n", b"")


def test_the_terminal_has_the_size_asked_for() -> None:
    code = "import os; print(*os.get_terminal_size(1))"
    assert run_program([code], argv_prefix=PYTHON, stdout="tty", size=(132, 43)).text == "132 43\n"


def test_bytes_on_stdin_arrive_whole_and_then_it_ends() -> None:
    result = run_program([ECHO], argv_prefix=PYTHON, stdin=b"x" * 1_000_000)
    assert result.text == f"ready\n1000000 {'x' * 20}\n"


def test_a_program_that_reads_nothing_does_not_hang_the_feeder() -> None:
    assert run_program(["pass"], argv_prefix=PYTHON, stdin=b"x" * 1_000_000).exit_code == 0


def test_a_silent_pipe_stays_open_and_empty_until_it_is_closed() -> None:
    code = "import select, sys; print(select.select([0], [], [], 0.05)[0], flush=True); print(repr(sys.stdin.read()))"
    with Program([code], argv_prefix=PYTHON, stdin="silent-pipe") as program:
        program.wait_for(b"[]\n")
        program.type(b"late")
        program.close_stdin()
        assert program.wait().text == "[]\n'late'\n"


def test_dev_null_ends_at_once() -> None:
    assert run_program([ECHO], argv_prefix=PYTHON).text == "ready\n0 \n"


def test_keys_typed_at_a_terminal_are_read_and_echoed() -> None:
    with Program([ECHO], argv_prefix=PYTHON, stdin="tty") as program:
        program.wait_for(b"ready")
        program.type(b"hello\n")
        program.wait_for(b"hello", stream="terminal")
        program.type(CTRL_D)
        result = program.wait()
    assert result.text == "ready\n6 hello\n\n"
    assert b"hello" in result.terminal


@pytest.mark.parametrize("stdout", ["tty", "pipe"])
def test_ctrl_c_at_the_terminal_is_a_real_sigint(stdout) -> None:  # type: ignore[no-untyped-def]
    with Program([WAIT_FOR_SIGNAL], argv_prefix=PYTHON, stdin="tty", stdout=stdout) as program:
        program.wait_for(b"ready")
        program.type(CTRL_C)
        result = program.wait()
    assert result.exit_code == 128 + signal.SIGINT
    assert "got 2" in result.text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stdin", ["devnull", "tty"])
def test_a_signal_reaches_the_program_itself(stdin, number) -> None:  # type: ignore[no-untyped-def]
    with Program([WAIT_FOR_SIGNAL], argv_prefix=PYTHON, stdin=stdin) as program:
        program.wait_for(b"ready")
        program.send_signal(number)
        assert program.wait().exit_code == 128 + number


def test_the_time_of_each_arrival_on_stdout_is_known() -> None:
    code = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"
    times: list[float] = []
    with Program([code], argv_prefix=PYTHON, stdin="silent-pipe") as program:
        for line in (b"one\n", b"two\n", b"three\n"):
            typed_at = time.monotonic()
            program.type(line)
            times += [typed_at, program.wait_for(line), time.monotonic()]
        program.close_stdin()
        arrivals = program.wait().stdout_arrivals
    assert times == sorted(times)
    assert [(arrival.at, arrival.data) for arrival in arrivals] == [
        (times[1], b"one\n"),
        (times[4], b"two\n"),
        (times[7], b"three\n"),
    ]


def test_waiting_for_text_works_across_arrivals_and_on_stderr() -> None:
    code = (
        "import select, sys\nfor c in 'abc': sys.stderr.write(c); sys.stderr.flush(); select.select([], [], [], 0.01)"
    )
    with Program([code], argv_prefix=PYTHON) as program:
        program.wait_for(b"abc", stream="stderr")
        assert program.output("stderr") == b"abc"
        assert program.output() == b""


def test_waiting_for_text_fails_as_soon_as_the_stream_ends_and_shows_what_came() -> None:
    started = time.monotonic()
    complaint = pytest.raises(ProgramTimeout, match=r"the stream ended without b'ready'.*something else")
    with Program(["print('something else')"], argv_prefix=PYTHON) as program, complaint:
        program.wait_for(b"ready", 60)
    assert time.monotonic() - started < 30


def test_a_program_that_does_not_end_in_time_is_killed_and_its_output_shown() -> None:
    code = "import os, signal; print(os.getpid(), flush=True); signal.pause()"
    with Program([code], argv_prefix=PYTHON) as program:
        program.wait_for(b"\n")
        with pytest.raises(
            ProgramTimeout, match=r"the program still runs; stdout ends with b'\d+\\n'; stderr is empty"
        ):
            program.wait(0.01)
        assert program.is_running
    assert not program.is_running
    with pytest.raises(ProgramTimeout):
        run_program([code], argv_prefix=PYTHON, timeout_s=0.01)


def test_a_process_left_behind_that_holds_the_output_is_a_failure_and_is_killed(tmp_path: Path) -> None:
    code = """
import fcntl, os, signal
lock = open("lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
if os.fork() == 0:
    signal.pause()
print("parent", flush=True)
"""
    with Program([code], argv_prefix=PYTHON, home=tmp_path) as program:
        program.wait_for(b"parent")
        wait_until(lambda: not program.is_running)
        with pytest.raises(ProgramTimeout, match="a process left behind holds its output"):
            program.wait(0.01)
    with (tmp_path / "lock").open() as lock:
        wait_until(lambda: can_lock(lock))


def can_lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def test_closing_stdout_breaks_the_pipe_of_the_program() -> None:
    code = """
import os, sys
print("ready", flush=True)
sys.stdin.read()
try:
    os.write(1, b"more")
except BrokenPipeError:
    os._exit(141)
"""
    with Program([code], argv_prefix=PYTHON, stdin="silent-pipe") as program:
        program.wait_for(b"ready")
        program.close_stdout()
        program.close_stdin()
        result = program.wait()
    assert (result.exit_code, result.stdout) == (141, b"ready\n")


PRINT_ENV = "import json, os; print(json.dumps(dict(os.environ)))"


def test_the_environment_is_made_from_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "KAYGRAPH_MODEL", "HTTP_PROXY", "NO_COLOR"):
        monkeypatch.setenv(name, "leaked")
    monkeypatch.delenv("KAYGRAPH_CACHE_DIR", raising=False)
    env = json.loads(run_program([PRINT_ENV], argv_prefix=PYTHON, env={"KAYGRAPH_SEED": "7"}).text)
    assert "leaked" not in env.values()
    assert env["KAYGRAPH_SEED"] == "7"
    assert env["PATH"] == os.environ["PATH"]
    assert set(env) - {"LC_CTYPE", "__CF_USER_TEXT_ENCODING"} == {
        *("HOME", "PATH", "LANG", "TERM", "TMPDIR", "KAYGRAPH_SEED"),
        *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"),
    }
    assert all(env[name].startswith(env["HOME"]) for name in env if name.startswith("XDG_"))
    assert not Path(env["HOME"]).exists()


def test_only_the_cache_of_the_model_passes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAYGRAPH_CACHE_DIR", "/somewhere/else")
    env = json.loads(run_program([PRINT_ENV], argv_prefix=PYTHON).text)
    assert env["KAYGRAPH_CACHE_DIR"] == "/somewhere/else"
    env = json.loads(run_program([PRINT_ENV], argv_prefix=PYTHON, env={"KAYGRAPH_CACHE_DIR": "/mine"}).text)
    assert env["KAYGRAPH_CACHE_DIR"] == "/mine"


def test_a_home_that_was_given_is_the_working_directory_and_stays(tmp_path: Path) -> None:
    code = "import os, pathlib; pathlib.Path('note').write_text(os.environ['HOME'])"
    assert run_program([code], argv_prefix=PYTHON, home=tmp_path).exit_code == 0
    assert (tmp_path / "note").read_text() == str(tmp_path)


@pytest.mark.parametrize("stdin", ["devnull", b"abc"])
def test_typing_where_nobody_can_type_is_refused(stdin) -> None:  # type: ignore[no-untyped-def]
    with Program(["pass"], argv_prefix=PYTHON, stdin=stdin) as program:
        with pytest.raises(ValueError, match="stdin takes no input"):
            program.type(b"x")
        with pytest.raises(ValueError, match="stdin is not an open pipe"):
            program.close_stdin()


def test_a_program_that_cannot_be_started_leaves_nothing_behind() -> None:
    with pytest.raises(FileNotFoundError):
        Program(argv_prefix=("/nonexistent/program",), stdin="silent-pipe")
