"""Ctrl-C, SIGTERM, a reader that goes away: the partial answer stays, and nothing is left running."""

from __future__ import annotations

import fcntl
import os
import shlex
import signal
import struct
import subprocess
import tempfile
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.command_line import CommandLine, embedded_child, is_gone, is_slot_free, last_json, lines, rows
from tests.support.paced_server import PacedServer
from tests.support.scripted_server import ScriptedServer, WaitForClientClose, wait_until
from tests.support.terminal import CTRL_C, MAIN, Program, clean_environment
from utils.embedded_model.server import EmbeddedServer
from utils.embedded_model.spec import PINNED

LONG = ("--max-tokens", "500", "--temperature", "0", "Write a very long story about a lighthouse keeper.")
AT_ONCE_S = 2.0

Stop = Callable[[Program], None]
STOPS: dict[str, tuple[int, str, Stop]] = {
    "key": (130, "cancelled", lambda program: program.type(CTRL_C)),
    "sigint": (130, "cancelled", lambda program: program.send_signal(signal.SIGINT)),
    "sigterm": (143, "terminated", lambda program: program.send_signal(signal.SIGTERM)),
}


# -- after some tokens -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", STOPS)
def test_a_stop_after_some_tokens_keeps_the_text_and_ends_the_embedded_model(warm: CommandLine, how: str) -> None:
    exit_code, word, stop = STOPS[how]
    with warm.start(*LONG, stdin="tty") as program:
        child = embedded_child(program)
        program.wait_for(b" ")
        before = program.output()
        stop(program)
        stopped_at = time.monotonic()
        result = program.wait()

    assert result.exit_code == exit_code
    assert result.ended_at - stopped_at < AT_ONCE_S
    assert result.stdout.startswith(before)
    assert len(lines(result.errors)) == 1
    assert result.errors.startswith(f"{word}: ")
    wait_until(lambda: is_gone(child))


def test_ctrl_c_frees_the_slot_of_a_foreign_server_and_the_events_end_with_the_report(
    warm: CommandLine, foreign: EmbeddedServer
) -> None:
    with warm.start("--base-url", foreign.base_url or "", "--events", *LONG, stdin="tty") as program:
        program.wait_for(b'"text_delta"')
        assert not is_slot_free(foreign.base_url)
        program.type(CTRL_C)
        result = program.wait()
    wait_until(lambda: is_slot_free(foreign.base_url), 1.0)
    *_, terminal, report = rows(result)

    assert result.exit_code == 130
    assert terminal["type"] == "aborted"
    assert report["type"] == "report"
    assert report["outcome"] == "cancelled"
    assert report["exit_code"] == 130
    assert report["metrics"]["chunks"] > 0


def test_ctrl_c_leaves_the_json_object_with_the_partial_text(warm: CommandLine) -> None:
    with (
        PacedServer(1000, 0.02) as server,
        warm.start("--base-url", server.base_url, "--model", "m", "--json", "x", stdin="tty") as program,
    ):
        wait_until(lambda: server.streams and len(server.streams[0].sent_at) >= 5, 10.0)
        program.type(CTRL_C)
        result = program.wait()
        wait_until(lambda: server.streams[0].disconnected_after is not None)
    report = last_json(result)

    assert result.exit_code == 130
    assert (report["outcome"], report["exit_code"], report["error"]["code"]) == ("cancelled", 130, "cancelled")
    assert report["text"].startswith("word1 word2 ")
    assert server.text.startswith(report["text"])
    assert len(lines(result.errors)) == 1


# -- before the first token ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "mode"), [("key", "text"), ("key", "json"), ("sigint", "events"), ("sigterm", "text"), ("sigterm", "json")]
)
def test_a_stop_before_the_first_token_ends_the_wait_for_a_silent_server(
    warm: CommandLine, how: str, mode: str
) -> None:
    exit_code, word, stop = STOPS[how]
    args = () if mode == "text" else (f"--{mode}",)
    with (
        ScriptedServer([[WaitForClientClose()]]) as server,
        warm.start(*args, "--base-url", server.base_url, "--model", "m", "x", stdin="tty") as program,
    ):
        wait_until(lambda: server.requests, 10.0)
        stop(program)
        stopped_at = time.monotonic()
        result = program.wait()
        wait_until(lambda: server.open_connections() == 0)

    assert result.exit_code == exit_code
    assert result.ended_at - stopped_at < AT_ONCE_S
    assert len(lines(result.errors)) == 1
    assert result.errors.startswith(f"{word}: ")
    if mode == "text":
        assert result.stdout == b""
    else:
        report = last_json(result)
        assert (report["outcome"], report["exit_code"]) == ("cancelled", exit_code)


def own_file(cli: CommandLine) -> tuple[str, str]:
    """Options under which the model's process is started after the settings are read and right before the prompt is,
    instead of before everything.
    """
    return "--gguf", str(cli.cache / PINNED.file_name)


@pytest.mark.parametrize("mode", ["text", "json"])
@pytest.mark.parametrize("is_early", [True, False])
def test_ctrl_c_while_the_embedded_model_starts_leaves_nothing_behind(
    cli: CommandLine, mode: str, is_early: bool
) -> None:
    args = () if mode == "text" else (f"--{mode}",)
    with cli.start(*args, *(() if is_early else own_file(cli)), *LONG, stdin="tty") as program:
        child = embedded_child(program)
        program.type(CTRL_C)
        result = program.wait()

    assert result.exit_code == 130
    assert len(lines(result.errors)) == 1
    assert result.errors.strip().startswith("cancelled")
    wait_until(lambda: is_gone(child))
    if mode == "text":
        assert result.stdout == b""
    else:
        report = last_json(result)
        assert (report["outcome"], report["exit_code"], report["text"]) == ("cancelled", 130, "")


@pytest.mark.parametrize(("number", "exit_codes"), [(signal.SIGINT, (130,)), (signal.SIGTERM, (143, -signal.SIGTERM))])
def test_a_stop_while_standard_input_is_awaited_leaves_nothing_behind(
    cli: CommandLine, number: signal.Signals, exit_codes: tuple[int, ...]
) -> None:
    with cli.start("-", *own_file(cli), stdin="silent-pipe") as program:
        child = embedded_child(program)
        program.send_signal(number)
        result = program.wait()

    # A shell shows 143 in both cases.
    assert result.exit_code in exit_codes
    assert result.stdout == b""
    assert len(lines(result.errors)) <= 1
    wait_until(lambda: is_gone(child))


INTERRUPT_AT_IMPORT = """
import os, runpy, signal, sys

class Finder:
    def find_spec(self, name, *rest):
        if name == "click":
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))  # as for a file that is typed
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_ctrl_c_in_the_first_moments_shows_no_traceback(cli: CommandLine) -> None:
    python, main = MAIN
    result = cli.run("Hi.", argv_prefix=(python, "-c", INTERRUPT_AT_IMPORT, main))

    # A shell shows 130 in both cases.
    assert result.exit_code in (130, -signal.SIGINT)
    assert "Traceback" not in result.errors
    assert len(lines(result.errors)) <= 1


# -- the second Ctrl-C -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["text", "events"])
def test_a_second_ctrl_c_leaves_at_once_though_a_full_pipe_blocks_the_output(
    cli: CommandLine, tmp_path: Path, mode: str
) -> None:
    args = () if mode == "text" else (f"--{mode}",)
    errors = tmp_path / "stderr"
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    with PacedServer(pieces=["x" * 4096 + " "] * 16) as server, errors.open("wb") as errors_fd:
        process = subprocess.Popen(
            [*MAIN, *args, "--base-url", server.base_url, "--model", "m", "x"],
            env=clean_environment(tmp_path),
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=errors_fd,
            start_new_session=True,
        )
        try:
            os.close(writer)
            wait_until(lambda: server.streams and server.streams[0].is_whole and _waiting_bytes(reader), 10.0)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.3)
            process.send_signal(signal.SIGINT)
            # Nobody reads, so the first one cannot be obeyed to the end; the second one must not wait for that.
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.3)
            process.send_signal(signal.SIGINT)
            assert process.wait(AT_ONCE_S) == 130
            assert len(errors.read_text().splitlines()) <= 1
        finally:
            process.kill()
            process.wait()
            os.close(reader)


def _waiting_bytes(pipe: int) -> int:
    count: int = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))[0]
    return count


# -- the reader goes away --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["", "--events", "--enable-guardrails"])
def test_head_takes_its_bytes_and_the_program_ends_silently_and_closes_the_upstream(
    cli: CommandLine, mode: str
) -> None:
    with PacedServer(1000, 0.01) as server:
        command = shlex.join([*MAIN, *filter(None, [mode]), "--base-url", server.base_url, "--model", "m", "x"])
        pipeline = f'{command} | head -c 20; echo "${{PIPESTATUS[0]}}" > status'
        result, status = _in_bash(cli, pipeline)
        wait_until(lambda: server.streams[0].disconnected_after is not None)
        wait_until(lambda: server.open_connections() == 0)

    assert status == 141
    assert len(result.stdout) == 20
    assert result.stderr == b""


def test_head_ends_the_embedded_model_too(cli: CommandLine) -> None:
    command = shlex.join([*MAIN, *LONG])
    result, status = _in_bash(cli, f'{command} | head -c 20; echo "${{PIPESTATUS[0]}}" > status')

    assert status == 141
    assert len(result.stdout) == 20
    assert result.stderr == b""


@pytest.mark.parametrize("args", [["--help"], ["model", "show"], ["doctor"]], ids=" ".join)
def test_every_command_ends_silently_when_its_reader_has_gone(cli: CommandLine, args: list[str]) -> None:
    result, status = _in_bash(cli, f'{shlex.join([*MAIN, *args])} | true; echo "${{PIPESTATUS[0]}}" > status')

    assert status == 141
    assert result.stderr == b""


@pytest.mark.parametrize("redirection", [">&-", "> /dev/full"])
def test_an_answer_that_cannot_be_written_is_no_bug_of_the_program(cli: CommandLine, redirection: str) -> None:
    with PacedServer(10) as server:
        command = shlex.join([*MAIN, "--base-url", server.base_url, "--model", "m", "x"])
        result, status = _in_bash(cli, f"{command} {redirection}; echo $? > status")

    assert status not in (0, 1)
    assert b"bug" not in result.stderr
    assert len(result.stderr.splitlines()) <= 2


def test_a_closed_stderr_takes_nothing_from_the_answer(cli: CommandLine) -> None:
    result, status = _in_bash(cli, f"{shlex.join([*MAIN, '--max-tokens', '8', 'Hi.'])} 2>&-; echo $? > status")

    assert status == 0
    assert result.stdout


def _in_bash(cli: CommandLine, command: str) -> tuple[subprocess.CompletedProcess[bytes], int]:
    """Run *command* in a home of its own; it ends only when all of its processes have let go of its output."""
    with tempfile.TemporaryDirectory(prefix="pipeline-") as home:
        result = subprocess.run(
            ["bash", "-c", command],
            env=clean_environment(Path(home), {"KAYGRAPH_CACHE_DIR": str(cli.cache)}),
            cwd=home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
            check=True,
        )
        return result, int(Path(home, "status").read_text())


# -- the embedded model dies before it was ever ready (test_kills has the rest) ----------------------------------------


def test_a_model_killed_while_it_starts_is_a_clear_error(cli: CommandLine) -> None:
    with cli.start("--json", *LONG) as program:
        os.kill(embedded_child(program), signal.SIGKILL)
        result = program.wait()
    report = last_json(result)

    assert result.exit_code == 69
    assert (report["outcome"], report["exit_code"], report["text"]) == ("unavailable", 69, "")
    assert report["error"]["code"] == "embedded_model_error"
    assert len(lines(result.errors)) <= 3
    assert "SIGKILL" in result.errors
