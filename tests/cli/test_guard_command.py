"""`python main.py guard` between real pipes: at once, byte for byte, and honest about every way to end."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.cli.command_line import CommandLine
from tests.support.scripted_server import wait_until
from tests.support.terminal import CTRL_C, CTRL_D, MAIN, ROOT, Program, clean_environment

KEY = "my-own-key-0123456789"
OTHER_KEY = "another/key/0123456789"
HEAVY = ("asyncio", "httpx2", "openai", "pydantic", "rich", "sqlite3", "xllamacpp")


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    """The command line without a model: the filter needs none."""
    return CommandLine(tmp_path / "cache")


def patched(code: str) -> tuple[str, ...]:
    """The program, with *code* run before its command line is read."""
    start = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import main\n{code}\nsys.exit(main.main(sys.argv[1:]))"
    return (sys.executable, "-c", start)


BLOCKS = """
from utils.events import Blocked
from utils.guardrails import redactor
class Blocking(redactor.Redactor):
    def feed(self, text):
        head, found, _ = text.partition("forbidden")
        return [*super().feed(head), Blocked("no-go")] if found else super().feed(text)
redactor.Redactor = Blocking
"""

TOO_LATE = """
import os
read, attempts = os.read, []
def read_second(fd, size):
    if fd == 0 and not attempts:
        attempts.append(fd)
        raise BlockingIOError
    return read(fd, size)
os.read = read_second
"""

FAILS = """
from utils.guardrails import redactor
class Failing(redactor.Redactor):
    def feed(self, text):
        raise ValueError(text)
redactor.Redactor = Failing
"""


# -- at once -----------------------------------------------------------------------------------------------------------


def test_each_line_arrives_before_the_next_one_is_sent(cli: CommandLine) -> None:
    with cli.start("guard", stdin="silent-pipe") as program:
        for n in range(60):
            program.type(b"%d: mail bob@example.com now\n" % n)
            program.wait_for(b"%d: mail [EMAIL] now\n" % n, 5)
        program.close_stdin()
        result = program.wait()
    assert result.exit_code == 0
    assert result.errors == "note: hidden: pii.email 60\n"


def test_safe_text_of_an_unfinished_line_does_not_wait_for_its_end(cli: CommandLine) -> None:
    with cli.start("guard", stdin="silent-pipe") as program:
        program.type(b"progress 10 % ")
        program.wait_for(b"progress 10 % ", 5)
        program.type(b"\xe6\x97\xa5\xe6\x9c")
        program.wait_for(b"\xe6\x97\xa5", 5)
        program.type(b"\xac \xff ")
        program.wait_for(b"\xe6\x9c\xac \xff ", 5)


def test_the_tail_is_decided_at_the_end_of_the_input(cli: CommandLine) -> None:
    result = cli.run("guard", stdin=b"\xff sk-abc\xe2")
    assert (result.exit_code, result.stdout, result.stderr) == (0, b"\xff sk-abc\xe2", b"")
    result = cli.run("guard", "-q", stdin=b"4111 1111 1111 1111")
    assert (result.exit_code, result.stdout, result.stderr) == (0, b"[CARD]", b"")


@pytest.mark.parametrize("stdin", [b"", "devnull"])
def test_an_empty_input_gives_an_empty_output(cli: CommandLine, stdin: bytes | str) -> None:
    result = cli.run("guard", stdin=stdin)
    assert (result.exit_code, result.stdout, result.stderr) == (0, b"", b"")


def test_it_works_at_a_terminal(cli: CommandLine) -> None:
    with cli.start("guard", stdin="tty", stdout="tty", stderr="tty") as program:
        program.wait_for(b"Ctrl-D", 5)
        program.type(b"mail bob@example.com\n")
        program.wait_for(b"mail [EMAIL]", 5)
        program.type(CTRL_D)
        assert program.wait().exit_code == 0


# -- byte for byte -----------------------------------------------------------------------------------------------------


def test_large_binary_input_passes_unharmed(cli: CommandLine) -> None:
    data = bytes(range(256)) * 2000 + "日本é\n".encode() * 20_000
    result = cli.run("guard", stdin=data)
    assert result.exit_code == 0
    assert result.stdout == data
    assert result.stderr == b""


def test_matches_are_found_wherever_the_blocks_of_the_input_end(cli: CommandLine) -> None:
    line = b"mail bob@example.com, pay 4111 1111 1111 1111\xff\n"
    result = cli.run("guard", "-q", stdin=line * 8000)
    assert result.stdout == b"mail [EMAIL], pay [CARD]\xff\n" * 8000


@pytest.mark.parametrize(
    ("env", "shown"),
    [
        ({}, f"{KEY} {OTHER_KEY} short-key"),
        ({"OPENAI_API_KEY": KEY}, f"[KEY] {OTHER_KEY} short-key"),
        ({"KAYGRAPH_API_KEY": f" {OTHER_KEY}\n"}, f"{KEY} [KEY] short-key"),
        ({"KAYGRAPH_API_KEY": KEY, "OPENAI_API_KEY": OTHER_KEY}, "[KEY] [KEY] short-key"),
        ({"KAYGRAPH_API_KEY": KEY, "OPENAI_API_KEY": KEY}, f"[KEY] {OTHER_KEY} short-key"),
        ({"KAYGRAPH_API_KEY": "short-key", "OPENAI_API_KEY": OTHER_KEY}, f"{KEY} [KEY] short-key"),
    ],
)
def test_the_keys_of_the_environment_are_secrets_verbatim(cli: CommandLine, env: dict[str, str], shown: str) -> None:
    result = cli.run("guard", "-q", stdin=f"{KEY} {OTHER_KEY} short-key".encode(), env=env)
    assert result.text == shown


# -- ends --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("options", [[], ["-q"], ["--stats"]])
def test_a_signal_drops_what_is_held(cli: CommandLine, number: signal.Signals, code: int, options: list[str]) -> None:
    with cli.start("guard", *options, stdin="silent-pipe") as program:
        program.type(b"key sk-abc")
        program.wait_for(b"key ", 5)
        program.send_signal(number)
        result = program.wait(5)
    assert (result.exit_code, result.stdout) == (code, b"key ")
    if options == ["--stats"]:
        figures = json.loads(result.errors)
        assert not figures["is_complete"]
        assert figures["guard"]["dropped_chars"] == 6
    else:
        note = "note: 6 held characters dropped, because the input did not end\n"
        assert result.errors == ("" if options else note)


def test_ctrl_c_at_the_terminal_ends_it(cli: CommandLine) -> None:
    with cli.start("guard", "-q", stdin="tty") as program:
        program.type(b"hello\n")
        program.wait_for(b"hello", 5)
        program.type(CTRL_C)
        result = program.wait(5)
    assert (result.exit_code, result.stdout, result.stderr) == (130, b"hello\n", b"")


def test_a_reader_that_goes_away_ends_it_silently_even_while_nothing_comes(cli: CommandLine) -> None:
    with cli.start("guard", stdin="silent-pipe") as program:
        program.type(b"first\n")
        program.wait_for(b"first\n", 5)
        program.close_stdout()
        result = program.wait(5)
    assert (result.exit_code, result.stderr) == (141, b"")


def test_a_reader_that_goes_away_in_the_middle_ends_it_silently(cli: CommandLine) -> None:
    with cli.start("guard", stdin=b"line\n" * 400_000) as program:
        program.wait_for(b"line\n", 5)
        program.close_stdout()
        result = program.wait(5)
    assert (result.exit_code, result.stderr) == (141, b"")


def test_a_slow_reader_gets_everything(tmp_path: Path) -> None:
    source, data = tmp_path / "source", b"0123 lines that nobody reads yet\n" * 10_000
    source.write_bytes(data)
    env = clean_environment(tmp_path)
    with (
        source.open("rb") as stdin,
        subprocess.Popen([*MAIN, "guard"], stdin=stdin, stdout=subprocess.PIPE, env=env) as process,
    ):
        assert process.stdout is not None
        reader = process.stdout.fileno()
        wait_until(lambda: waiting_bytes(reader) >= 1 << 15, 10)
        assert process.poll() is None
        assert process.stdout.read() == data
        assert process.wait(5) == 0


def test_an_output_pipe_that_was_made_non_blocking_is_waited_for(tmp_path: Path) -> None:
    source, data = tmp_path / "source", b"line\n" * 100_000
    source.write_bytes(data)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    full = select.poll()
    full.register(writer, select.POLLOUT)
    with (
        source.open("rb") as stdin,
        open(reader, "rb") as shown,
        subprocess.Popen([*MAIN, "guard"], stdin=stdin, stdout=writer, env=clean_environment(tmp_path)) as process,
    ):
        wait_until(lambda: not full.poll(0) and is_asleep(process.pid), 10)
        os.close(writer)
        assert shown.read() == data
        assert process.wait(5) == 0


def is_asleep(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def test_an_input_that_another_process_emptied_first_is_waited_for(cli: CommandLine) -> None:
    with cli.start("guard", stdin="silent-pipe", argv_prefix=patched(TOO_LATE)) as program:
        program.type(b"hello\n")
        program.wait_for(b"hello\n", 5)
        program.close_stdin()
        assert program.wait(5).exit_code == 0


def waiting_bytes(fd: int) -> int:
    size: int = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4))[0]
    return size


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        done = subprocess.run(
            [*MAIN, "guard"], input=b"x\n", stdout=full, stderr=subprocess.PIPE, env=clean_environment(tmp_path)
        )
    assert done.returncode == 141
    assert done.stderr == b"error: cannot write to standard output: No space left on device\n"


def test_an_input_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    with open(tmp_path / "written", "wb") as only_for_writing:
        done = subprocess.run(
            [*MAIN, "guard"], stdin=only_for_writing, capture_output=True, env=clean_environment(tmp_path)
        )
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"error: standard input cannot be read: ")


def test_a_block_ends_with_4_and_stops_the_writer(cli: CommandLine) -> None:
    with cli.start("guard", "--stats", stdin="silent-pipe", argv_prefix=patched(BLOCKS)) as program:
        program.type(b"safe ")
        program.wait_for(b"safe ", 5)
        program.type(b"still forbidden secret words")
        result = program.wait(5)
        with pytest.raises(BrokenPipeError):
            program.type(b"more")
    assert (result.exit_code, result.stdout) == (4, b"safe still ")
    figures, *told = result.errors.splitlines()
    assert json.loads(figures)["blocked_by"] == "no-go"
    assert told == ["error: the rule 'no-go' blocked the stream", "hint: what came before the match was shown"]


def test_a_rule_that_fails_shows_nothing_more(cli: CommandLine) -> None:
    result = cli.run("guard", stdin=b"bob@example.com", argv_prefix=patched(FAILS))
    assert (result.exit_code, result.stdout) == (4, b"")
    assert result.errors.splitlines()[0] == (
        "error: a guard rule failed (ValueError), so the rest of the stream is not shown"
    )
    assert "bob" not in result.errors


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [["--stats"], ["--stats", "json"], ["--stats", "-q"], ["-q", "--stats=json"]])
def test_the_figures_are_one_line_of_json_without_any_text(cli: CommandLine, options: list[str]) -> None:
    result = cli.run("guard", *options, stdin=b"\xff mail bob@example.com")
    figures = json.loads(result.errors)
    assert result.stdout == b"\xff mail [EMAIL]"
    assert result.errors.count("\n") == 1
    assert figures["is_complete"] is True
    assert figures["blocked_by"] is None
    assert (figures["read_bytes"], figures["shown_bytes"], figures["invalid_bytes"]) == (22, 14, 1)
    assert [(f["rule"], f["count"]) for f in figures["guard"]["findings"]] == [("pii.email", 1)]
    assert "bob" not in result.errors


def test_the_figures_as_text(cli: CommandLine) -> None:
    result = cli.run("guard", "--stats", "text", stdin=b"\xff mail bob@example.com\n")
    assert result.errors.splitlines()[:2] == [
        "bytes   23 bytes read, 15 shown, 1 of them not UTF-8",
        "hidden  pii.email 1",
    ]
    assert "bob" not in result.errors


@pytest.mark.parametrize("arguments", [["--stats", "xml"], ["--stat", "x"], ["file.txt"]])
def test_usage_errors_end_with_2_before_anything_is_read(cli: CommandLine, arguments: list[str]) -> None:
    with cli.start("guard", *arguments, stdin="silent-pipe") as program:
        result = program.wait(5)
    assert (result.exit_code, result.stdout) == (2, b"")
    assert b"Error: " in result.stderr


def test_the_help_page_has_examples(cli: CommandLine) -> None:
    result = cli.run("guard", "--help")
    assert result.exit_code == 0
    assert "tail -f app.log | python main.py guard" in result.text
    assert "--stats [json|text]" in result.text


def test_it_imports_nothing_heavy(cli: CommandLine) -> None:
    code = f"import atexit; atexit.register(lambda: print([n for n in {HEAVY!r} if n in sys.modules], file=sys.stderr))"
    with Program(["guard", "-q"], stdin=b"bob@example.com", argv_prefix=patched(code)) as program:
        result = program.wait()
    assert (result.stdout, result.errors) == (b"[EMAIL]", "[]\n")


# -- own rules ---------------------------------------------------------------------------------------------------------

PACK = """
name = "mine"
[[rule]]
id = "ticket"
pattern = 'TICKET-[0-9]{6}'
[[rule]]
id = "project"
keywords = ["project nightfall"]
action = "block"
"""


@pytest.fixture
def pack(tmp_path: Path) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(PACK, encoding="utf-8")
    return str(path)


def test_the_default_packs_hide_personal_data_and_secrets_and_leave_words_alone(cli: CommandLine) -> None:
    text = b"damn: DB_PASSWORD=hunter2 from 81.2.69.142\n"
    assert cli.run("guard", "-q", stdin=text).stdout == b"damn: DB_[PASSWORD] from [IP]\n"


def test_chosen_packs_take_the_place_of_the_default_ones(cli: CommandLine, pack: str) -> None:
    text = b"TICKET-123456 bob@example.com damn\n"
    assert cli.run("guard", "-q", "--guard", pack, stdin=text).stdout == b"[TICKET] bob@example.com damn\n"
    both = cli.run("guard", "-q", "--guard", pack, "--guard", "profanity", stdin=text)
    assert both.stdout == b"[TICKET] bob@example.com ****\n"
    masked = cli.run("guard", "-q", "--guard", "pii", "--guard-action", "mask", stdin=text)
    assert masked.stdout == b"TICKET-123456 *************** damn\n"
    flagged = cli.run("guard", "--guard", "pii", "--guard-action", "flag", stdin=text)
    assert (flagged.stdout, flagged.errors) == (text, "note: flagged: pii.email 1\n")


def test_a_block_rule_of_a_file_ends_the_stream_and_nothing_of_the_text_is_told(cli: CommandLine, pack: str) -> None:
    result = cli.run("guard", "--guard", pack, stdin=b"About TICKET-123456 and Project Nightfall: launch in May\n")
    assert result.exit_code == 4
    assert result.stdout == b"About [TICKET] and "
    assert "mine.project" in result.errors
    assert not any(word in result.errors.lower() for word in ("nightfall", "123456", "launch"))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--guard", "pi"), "error: guard pack 'pi' is neither a built-in pack nor a file"),
        (("--guard", "."), "error: guard pack '.' is a directory"),
        (("--guard", sys.executable), f"error: guard pack {sys.executable!r} is "),
    ],
)
def test_a_pack_that_cannot_be_used_ends_it_before_anything_is_read(
    cli: CommandLine, args: tuple[str, ...], message: str
) -> None:
    result = cli.run("guard", *args, stdin=b"bob@example.com\n")
    assert (result.exit_code, result.stdout) == (78, b"")
    assert result.errors.startswith(message)
    assert len(result.errors.splitlines()) == 2
