"""Real processes and SIGKILL: the embedded model dies, the program dies, the program is told to end."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.cli.command_line import CommandLine, embedded_child, is_gone, last_json, lines, rows
from tests.support import wire
from tests.support.exhaustive import exhaustive
from tests.support.paced_server import PacedServer
from tests.support.scripted_server import ScriptedServer, Send, wait_until
from tests.support.terminal import Program
from utils.resilience.breaker_store import BreakerStore
from utils.state_store import StateStore

STORY = ("--temperature", "0", "-s", "Tell.", "Write a very long story about a lighthouse keeper.")
TOLD = ("--max-tokens", "50", *STORY)
ENDLESS = ("--max-tokens", "2000", *STORY)
LONG_PROMPT = "Say which word comes most often: " + "sea sky sea land " * 24
"""Read for so long that a model which has just been asked has written nothing yet."""
AT_ONCE_S = 2.0
WHILE_LOADING_S = 5.0
"""A model that is being loaded gets a second to end by itself, and then its end."""
PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def cli(warm: CommandLine) -> CommandLine:
    """What is tested begins long after the imports."""
    return warm


@pytest.fixture(scope="module")
def whole(cli: CommandLine) -> bytes:
    """What the uninterrupted run writes to a pipe."""
    result = cli.run(*TOLD)
    assert result.exit_code == 0
    assert len(result.stdout) > 100
    return result.stdout


def kill_child(program: Program, *, when: Callable[[int], object]) -> int:
    """SIGKILL the embedded model as soon as *when*(its process id) holds, and wait for its end; returns the id."""
    child = embedded_child(program)
    wait_until(lambda: when(child), PATIENCE_S)
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: is_gone(child))
    return child


def is_asked(child: int) -> bool:
    """Whether *child* has accepted a connection: it is ready, and has a request to answer."""
    sockets = set()
    with suppress(OSError):
        for descriptor in os.scandir(f"/proc/{child}/fd"):
            with suppress(OSError):
                sockets.add(os.readlink(descriptor.path))
    connections = (row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return any(row[3] == "01" and f"socket:[{row[9]}]" in sockets for row in connections)


# -- the embedded model dies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.5, *exhaustive([0.0])])
def test_a_model_killed_in_the_middle_of_an_answer_comes_back_and_the_text_is_whole(
    cli: CommandLine, whole: bytes, share: float
) -> None:
    with cli.start(*TOLD) as program:
        kill_child(program, when=lambda _: len(program.output()) > share * len(whole))
        shown = program.output()
        result = program.wait(PATIENCE_S)

    assert result.exit_code == 0
    assert 0 < len(shown) < len(whole)
    assert result.stdout == whole
    interrupted, retrying, resumed, *_ = lines(result.errors)
    chars = re.fullmatch(r"interrupted after ([\d,]+) characters: the embedded model's .* SIGKILL", interrupted)
    assert chars is not None
    assert retrying.startswith("retrying (attempt 2) in ")
    assert re.fullmatch(rf"resumed by replaying .*, {chars[1]} characters received again and left out", resumed)


def test_the_events_of_a_run_whose_model_was_killed_tell_it_and_have_the_whole_text(
    cli: CommandLine, whole: bytes
) -> None:
    with cli.start("--events", *TOLD) as program:
        kill_child(program, when=lambda _: b'"text_delta"' in program.output())
        result = program.wait(PATIENCE_S)
    *events, report = rows(result)
    text = whole.decode().rstrip("\n")
    told = [event for event in events if event["type"] in ("interrupted", "retrying", "resumed")]

    assert result.exit_code == 0
    assert [event["type"] for event in told] == ["interrupted", "retrying", "resumed"]
    assert told[0]["cause"]["code"] == "embedded_model_died"
    assert (told[2]["strategy"], told[2]["overlap_chars"]) == ("replay", told[0]["chars"])
    assert "".join(event["text"] for event in events if event["type"] == "text_delta") == text
    assert report["outcome"] == "complete"


def test_a_model_killed_before_the_first_text_comes_back(cli: CommandLine) -> None:
    args = ("--max-tokens", "8", "--temperature", "0", LONG_PROMPT)
    undisturbed = cli.run(*args)
    with cli.start(*args) as program:
        kill_child(program, when=is_asked)
        shown = program.output()
        result = program.wait(PATIENCE_S)

    assert shown == b""
    assert result.exit_code == undisturbed.exit_code == 0
    assert result.stdout == undisturbed.stdout != b""
    assert re.match(r"retrying \(attempt 2\) in .*: the embedded model's process was ended by SIGKILL\n", result.errors)


@pytest.mark.parametrize("second", ["while it repeats the text", *exhaustive(["while it starts", "after new text"])])
def test_a_model_killed_twice_comes_back_twice(cli: CommandLine, whole: bytes, second: str) -> None:
    with cli.start(*TOLD) as program:
        kill_child(program, when=lambda _: program.output())
        shown = len(program.output())
        is_time = {
            "while it starts": lambda _: True,
            "while it repeats the text": is_asked,
            "after new text": lambda _: len(program.output()) > shown,
        }[second]
        kill_child(program, when=is_time)
        result = program.wait(PATIENCE_S)

    assert result.exit_code == 0
    assert result.stdout == whole
    assert result.errors.count("SIGKILL") + result.errors.count("the same failure again") == 2
    assert result.errors.count("retrying (attempt ") == 2
    assert result.errors.count("resumed by replaying") == (2 if second == "after new text" else 1)


@pytest.mark.parametrize("retries", [1, *exhaustive([0])])
def test_a_model_killed_more_often_than_is_retried_leaves_the_text_and_a_clear_error(
    cli: CommandLine, whole: bytes, retries: int
) -> None:
    with cli.start("--retries", str(retries), *TOLD) as program:
        for number in range(retries + 1):
            kill_child(program, when=is_asked if number else lambda _: program.output())
        killed_at = time.monotonic()
        result = program.wait(PATIENCE_S)

    assert result.exit_code == 3
    assert result.ended_at - killed_at < AT_ONCE_S
    assert len(result.stdout) > 1
    assert whole.startswith(result.stdout.removesuffix(b"\n"))
    *_, error, hint = lines(result.errors)
    assert re.fullmatch(r"error: .* SIGKILL \(incomplete: [\d,]+ characters? of the answer shown\)", error)
    assert hint.startswith("hint: ")
    assert "Traceback" not in result.errors


def test_a_model_killed_before_any_text_more_often_than_is_retried_is_unavailable(cli: CommandLine) -> None:
    with cli.start("--json", "--retries", "0", "--max-tokens", "8", LONG_PROMPT) as program:
        kill_child(program, when=is_asked)
        result = program.wait(PATIENCE_S)
    report = last_json(result)

    assert result.exit_code == 69
    assert (report["outcome"], report["exit_code"], report["text"]) == ("unavailable", 69, "")
    assert report["error"]["code"] == "embedded_model_died"
    assert "SIGKILL" in report["error"]["message"]
    assert [line.partition(":")[0] for line in lines(result.errors)] == ["error", "hint"]


# -- the program dies ------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


def state_file(home: Path) -> Path:
    return home / "state" / "kaygraph-streaming-llm" / "state.sqlite3"


def assert_sound(path: Path) -> None:
    """Another process can read the state file at once, and write to it."""
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT OR REPLACE INTO probes VALUES ('t', 'of a test', 0)")
        connection.execute("COMMIT")
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with StateStore(path) as store:
        shared: BreakerStore = store
        shared.add_failure("of a test", generation=0, remembered_s=60.0)
        assert shared.load("of a test") is not None
        assert store.take_warning() is None


def kill_program(program: Program) -> None:
    os.kill(program.pid, signal.SIGKILL)
    assert program.wait().exit_code == -signal.SIGKILL


@pytest.mark.parametrize("has_run_before", [True, *exhaustive([False])])
def test_a_program_killed_in_the_middle_of_an_answer_leaves_no_child_and_a_sound_state_file(
    cli: CommandLine, home: Path, has_run_before: bool
) -> None:
    if has_run_before:
        assert cli.run("--max-tokens", "2", "Hi.", home=home).exit_code == 0
        assert state_file(home).exists()
    with cli.start(*ENDLESS, home=home) as program:
        child = embedded_child(program)
        program.wait_for(b" ")
        kill_program(program)
        wait_until(lambda: is_gone(child), AT_ONCE_S)

    if has_run_before:
        assert_sound(state_file(home))
    after = cli.run("--max-tokens", "2", "Hi.", home=home)
    assert after.exit_code == 0
    assert "state file" not in after.errors
    assert_sound(state_file(home))


def test_a_program_killed_while_its_model_starts_leaves_no_child(cli: CommandLine) -> None:
    with cli.start(*ENDLESS) as program:
        child = embedded_child(program)
        kill_program(program)
        # It looks at its standard input when the model is loaded.
        wait_until(lambda: is_gone(child), PATIENCE_S)


def test_a_program_killed_while_its_model_comes_back_leaves_no_child(cli: CommandLine) -> None:
    with cli.start(*ENDLESS) as program:
        kill_child(program, when=lambda _: program.output())
        child = embedded_child(program)
        kill_program(program)
        wait_until(lambda: is_gone(child), PATIENCE_S)


def sizes(directory: Path) -> dict[str, int]:
    found = {}
    with suppress(OSError):
        for entry in os.scandir(directory):
            with suppress(OSError):
                found[entry.name] = entry.stat().st_size
    return found


def failing(request: object) -> Iterator[Send]:
    yield Send(wire.error_response(503, "no"))


def test_a_program_killed_while_it_writes_the_state_file_leaves_it_sound(cli: CommandLine, home: Path) -> None:
    directory = state_file(home).parent
    for _ in range(4):
        # A new server is a new target, whose breaker is closed.
        with (
            ScriptedServer(default=failing) as server,
            cli.start("--base-url", server.base_url, "-m", "m", "--retries", "4", "x", home=home) as program,
        ):
            wait_until(lambda: server.requests, PATIENCE_S)
            before = sizes(directory)
            deadline_s = time.monotonic() + PATIENCE_S
            # Without a pause: a write takes well below a millisecond.
            while sizes(directory) == before:
                assert time.monotonic() < deadline_s, "nothing was written"
            kill_program(program)
        if state_file(home).exists():
            assert_sound(state_file(home))

    with PacedServer(3) as healthy:
        after = cli.run("--base-url", healthy.base_url, "-m", "m", "x", home=home)
    assert after.exit_code == 0
    assert after.errors == ""
    assert_sound(state_file(home))


# -- the program is told to end --------------------------------------------------------------------------------------


def test_sigterm_keeps_the_partial_answer_in_a_pipe(cli: CommandLine, whole: bytes) -> None:
    with cli.start(*ENDLESS) as program:
        child = embedded_child(program)
        wait_until(lambda: len(program.output()) > len(whole) / 2, PATIENCE_S)
        shown = program.output()
        program.send_signal(signal.SIGTERM)
        result = program.wait(PATIENCE_S)

    assert result.exit_code == 143
    assert result.stdout.startswith(shown)
    length = min(len(whole), len(result.stdout)) - 1
    assert result.stdout[:length] == whole[:length]
    assert [line.partition(":")[0] for line in lines(result.errors)] == ["terminated"]
    wait_until(lambda: is_gone(child))


def test_sigterm_keeps_the_partial_answer_in_the_report(cli: CommandLine) -> None:
    with (
        PacedServer(1000, 0.02) as server,
        cli.start("--base-url", server.base_url, "-m", "m", "--json", "x") as program,
    ):
        wait_until(lambda: server.streams and len(server.streams[0].sent_at) >= 5, PATIENCE_S)
        program.send_signal(signal.SIGTERM)
        result = program.wait(PATIENCE_S)
    report = last_json(result)

    assert result.exit_code == 143
    assert (report["outcome"], report["exit_code"], report["error"]["code"]) == ("cancelled", 143, "terminated")
    assert report["text"].startswith("word1 word2 ")
    assert server.text.startswith(report["text"])
    assert result.stdout.count(b"\n") == 1


def test_sigterm_while_the_model_comes_back_keeps_the_partial_answer_and_leaves_no_child(
    cli: CommandLine, whole: bytes
) -> None:
    with cli.start(*ENDLESS) as program:
        kill_child(program, when=lambda _: program.output())
        shown = program.output()
        child = embedded_child(program)
        program.send_signal(signal.SIGTERM)
        stopped_at = time.monotonic()
        result = program.wait(PATIENCE_S)

    assert result.exit_code == 143
    assert result.ended_at - stopped_at < WHILE_LOADING_S
    # What had arrived before the model died may have been shown after it.
    partial = result.stdout.removesuffix(b"\n")
    assert partial.startswith(shown)
    assert whole.startswith(partial)
    assert lines(result.errors)[-1].startswith("terminated: ")
    wait_until(lambda: is_gone(child), AT_ONCE_S)
