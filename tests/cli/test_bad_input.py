"""Input that cannot be used: one clear error each, the right exit code, and nothing left half-written."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.cli.command_line import CommandLine, last_json, lines
from tests.support.scripted_server import ScriptedServer, WaitForClientClose
from tests.support.terminal import MAIN, ProgramResult, Stdin
from utils.embedded_model.server import EmbeddedServer
from utils.history import History, RunFilter

USAGE, REFUSED, UNAVAILABLE, CONFIG = 2, 65, 69, 78
TEN_MB = b"A sentence of text. " * (10 * 1024 * 1024 // 20)
LATIN_1 = "caf\udce9"
"""What Python makes of an argument that is not UTF-8: the byte 0xe9 after `caf`."""
OFFLINE = {"PIP_NO_INDEX": "1"}
LOCK = "empty/.fetch.lock"
HISTORY = "state/kaygraph-streaming-llm/history.sqlite3"
"""A run that refused its prompt is a run, and has its row."""


@dataclass(frozen=True)
class Bad:
    """A command line that ends with *exit_code* and with *says* on stderr. `{home}` is the home directory."""

    exit_code: int
    says: tuple[str, ...]
    args: tuple[str, ...] = ()
    stdin: Stdin = "devnull"
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)


def _option(*args: str, says: tuple[str, ...], exit_code: int = USAGE) -> Bad:
    return Bad(exit_code, says, (*args, "Hi."))


def _config(content: bytes, *says: str) -> Bad:
    return Bad(CONFIG, ("{home}/my.toml", *says), ("--config", "{home}/my.toml", "Hi."), files={"my.toml": content})


PROMPTS = {
    "ten megabytes in a pipe": Bad(USAGE, ("over the limit of 1000000 characters",), stdin=TEN_MB),
    "over the limit, but not in bytes of the longest characters": Bad(
        USAGE, ("1,500,000 characters", "1,000,000"), stdin="é".encode() * 1_500_000
    ),
    "binary": Bad(USAGE, ("binary", "zero byte at offset 4"), ("-",), b"\x7fELF\0\x01\x02"),
    "binary before a prompt": Bad(USAGE, ("binary",), ("Explain this.",), b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
    "not UTF-8": Bad(USAGE, ("not UTF-8", "0xe9 at offset 3", "iconv"), ("-",), b"caf\xe9 au lait"),
    "not UTF-8 in the argument": Bad(USAGE, ("not valid UTF-8", "offset 3"), (LATIN_1,)),
    "not UTF-8 in --prompt": Bad(USAGE, ("not valid UTF-8", "offset 3"), ("-p", LATIN_1)),
    "not UTF-8 in the system prompt": Bad(USAGE, ("system prompt", "not valid UTF-8"), ("-s", LATIN_1, "Hi.")),
    "empty dash": Bad(USAGE, ("standard input was empty",), ("-",), b""),
    "dash and no input at all": Bad(USAGE, ("standard input was empty",), ("-",)),
    "empty pipe": Bad(USAGE, ("standard input was empty",), (), b""),
    "empty prompt": Bad(USAGE, ("prompt is empty",), ("",)),
    "two prompts": Bad(USAGE, ("PROMPT and --prompt",), ("Hi.", "-p", "Ho.")),
    "an escape sequence": Bad(4, ("ANSI escape",), ("\x1b[2JHi.",)),
}

COMMANDS = {
    "an option that does not exist": Bad(USAGE, ("--temprature", "--temperature"), ("--temprature", "1", "Hi.")),
    "a command that does not exist": Bad(USAGE, ("'modle'", "'model'"), ("modle", "fetch")),
    "a part of a command that does not exist": Bad(USAGE, ("fecth",), ("model", "fecth")),
    "an option without its value": Bad(USAGE, ("--model",), ("--model",)),
}

VALUES = {
    "temperature 9": _option("--temperature", "9", says=("--temperature must be a number from 0 to 2, not 9",)),
    "temperature warm": _option("--temperature", "warm", says=("--temperature", "warm")),
    "negative max tokens": _option("--max-tokens", "-5", says=("--max-tokens must be", "not -5")),
    "color": _option("--color", "maybe", says=("--color", "maybe")),
    "URL without a scheme": _option("--base-url", "localhost:8080/v1", says=("http://localhost:8080/v1",)),
    "URL of another kind": _option("--base-url", "ftp://files/v1", says=("http:// or https://", "ftp")),
    "URL that is no text": _option("--base-url", f"http://{LATIN_1}/v1", says=("--base-url",)),
    "URL with a password": _option("--base-url", "http://me:secret-123@host/v1", says=("user name or password",)),
    "model that is no text": _option("--base-url", "http://127.0.0.1:9", "-m", LATIN_1, says=("--model",)),
    "stop that is no text": _option("--stop", LATIN_1, says=("--stop",)),
    "plan of failures": _option(
        "--failure-plan", "ok, kut@40%", says=("--failure-plan, character 5", "'kut'", "did you mean 'cut'?")
    ),
    "plan of failures of the environment": Bad(
        CONFIG, ("KAYGRAPH_FAILURE_PLAN, character 1", "'kut'"), ("Hi.",), env={"KAYGRAPH_FAILURE_PLAN": "kut"}
    ),
    "seed of no failures": _option("--failure-seed", "7", says=("--failure-seed 7", "--simulate-failures")),
    "fallback that is forbidden": _option(
        "--fallback", "m", "--no-fallback", says=("--no-fallback forbids what --fallback asks for",)
    ),
    "no requests at all": _option("--rpm", "0", says=("--rpm must be a whole number from 1", "not 0")),
    "GGUF that is not there": _option("--gguf", "nowhere.gguf", says=("nowhere.gguf", "does not exist")),
    "temperature of the environment": Bad(
        CONFIG, ("KAYGRAPH_TEMPERATURE", "must be a number from 0 to 2"), ("Hi.",), env={"KAYGRAPH_TEMPERATURE": "9"}
    ),
    "key that is no key": Bad(CONFIG, ("OPENAI_API_KEY",), ("Hi.",), env={"OPENAI_API_KEY": "sk-two words"}),
}

FILES = {
    "a setting that does not exist": _config(b"temprature = 1\n", "temprature", "did you mean temperature?"),
    "a value out of range": _config(b"temperature = 9\n", "temperature", "0 to 2"),
    "no TOML": _config(b"temperature: 1\n", "line 1"),
    "a binary file": _config(b"\0\x01\x02", "binary"),
    "no such file": Bad(CONFIG, ("{home}/my.toml", "no such file"), ("--config", "{home}/my.toml", "Hi.")),
    "a directory": Bad(CONFIG, ("is a directory",), ("--config", "{home}", "Hi.")),
    "a file without an end": Bad(CONFIG, ("/dev/zero", "1 MiB"), ("--config", "/dev/zero", "Hi.")),
    "a name that is no text": Bad(CONFIG, ("no such file",), ("--config", f"{LATIN_1}.toml", "Hi.")),
}

MODEL_FILES = {
    "text": Bad(
        CONFIG, ("{home}/my.gguf", "not a GGUF"), ("--gguf", "{home}/my.gguf", "Hi."), files={"my.gguf": b"Hello!\n"}
    ),
    "empty": Bad(CONFIG, ("{home}/my.gguf", "not a GGUF"), ("--gguf", "{home}/my.gguf", "Hi."), files={"my.gguf": b""}),
    "cut": Bad(
        CONFIG,
        ("{home}/my.gguf", "llama.cpp"),
        ("--gguf", "{home}/my.gguf", "Hi."),
        files={"my.gguf": b"GGUF\x03\0\0\0" + b"\x01" * 64},
    ),
    # No permission stops root; a path below a file cannot be made by anybody.
    "cache that cannot be made": Bad(
        CONFIG,
        ("{home}/file/cache", "KAYGRAPH_CACHE_DIR"),
        ("Hi.",),
        env={"KAYGRAPH_CACHE_DIR": "{home}/file/cache", **OFFLINE},
        files={"file": b"A regular file."},
    ),
    "cache that cannot be made for fetch": Bad(
        CONFIG,
        ("{home}/file/cache", "KAYGRAPH_CACHE_DIR"),
        ("model", "fetch"),
        env={"KAYGRAPH_CACHE_DIR": "{home}/file/cache", **OFFLINE},
        files={"file": b"A regular file."},
    ),
    "offline fetch": Bad(
        UNAVAILABLE,
        ("cannot fetch the model", "--gguf", "--base-url"),
        ("model", "fetch"),
        env={"KAYGRAPH_CACHE_DIR": "{home}/empty", **OFFLINE},
    ),
    "offline run": Bad(
        UNAVAILABLE,
        ("cannot fetch the model", "--gguf", "--base-url"),
        ("Hi.",),
        env={"KAYGRAPH_CACHE_DIR": "{home}/empty", **OFFLINE},
    ),
}

ALL = {
    f"{table}: {name}": bad
    for table, part in {
        "prompt": PROMPTS,
        "command": COMMANDS,
        "value": VALUES,
        "file": FILES,
        "model": MODEL_FILES,
    }.items()
    for name, bad in part.items()
}
FOR_SCRIPTS = (
    "value: temperature 9",
    "value: temperature of the environment",
    "file: a setting that does not exist",
    "file: no such file",
    "prompt: not UTF-8",
    "prompt: not UTF-8 in the argument",
    "model: offline run",
)


COLD = (*FOR_SCRIPTS, "command: an option that does not exist")
"""One of each kind, in a process that also starts Python and imports the program."""


def _run(cli: CommandLine, bad: Bad, home: Path, *more: str) -> ProgramResult:
    """Run it, and see that it left nothing behind but what was there, and whole rows in the history."""
    for name, content in bad.files.items():
        (home / name).write_bytes(content)
    args = [arg.replace("{home}", str(home)) for arg in bad.args]
    env = {name: value.replace("{home}", str(home)) for name, value in bad.env.items()}
    result = cli.run(*args, *more, stdin=bad.stdin, env=env, home=home)
    left = {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}
    # The lock, and what pip's own helpers keep in hidden directories of the home.
    known = (*bad.files, LOCK, HISTORY)
    strange = [name for name in left if name not in known and not name.startswith(".")]
    assert not strange
    if HISTORY in left:
        with History(home / HISTORY) as history:
            kept = history.rows(RunFilter(limit=1))
            assert history.take_warning() is None
        assert [row.exit_code for row in kept] == [result.exit_code]
    assert all(left[name] == content for name, content in bad.files.items())
    return result


@pytest.mark.parametrize("name", ALL)
def test_bad_input_is_one_clear_error(cli: CommandLine, warm: CommandLine, tmp_path: Path, name: str) -> None:
    bad = ALL[name]
    result = _run(cli if name in COLD else warm, bad, tmp_path)

    assert result.exit_code == bad.exit_code, result.errors
    assert result.stdout == b""
    assert 1 <= len(lines(result.errors)) <= 3, result.errors
    assert "Traceback" not in result.errors
    for phrase in bad.says:
        assert phrase.replace("{home}", str(tmp_path)) in result.errors
    assert "secret-123" not in result.errors
    assert "two words" not in result.errors


@pytest.mark.parametrize("name", FOR_SCRIPTS)
def test_bad_input_gives_scripts_their_object_too(warm: CommandLine, tmp_path: Path, name: str) -> None:
    bad = ALL[name]
    result = _run(warm, bad, tmp_path, "--json")
    report = last_json(result)

    assert result.exit_code == bad.exit_code
    assert report["exit_code"] == bad.exit_code
    assert report["outcome"] in ("failed", "unavailable")
    assert report["error"]["message"]
    assert len(lines(result.errors)) <= 3


def test_ten_megabytes_in_a_file_are_refused(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_bytes(TEN_MB)
    shell = ("bash", "-c", f'exec {shlex.join(MAIN)} "$@" < "$HOME/prompt.txt"', "bash")
    for args in (["-"], ["Summarise this."]):
        result = cli.run(*args, argv_prefix=shell, home=tmp_path)

        assert result.exit_code == USAGE
        assert "over the limit of 1000000 characters" in result.errors
        assert len(lines(result.errors)) <= 3


def test_a_prompt_that_a_server_cannot_take_is_a_refused_request(warm: CommandLine, foreign: EmbeddedServer) -> None:
    result = warm.run("--base-url", foreign.base_url or "", "-", stdin=b"A sentence of text. " * 10_000)

    assert result.exit_code == REFUSED
    assert result.stdout == b""
    assert "context" in result.errors
    assert len(lines(result.errors)) <= 3


def test_a_prompt_that_cannot_fit_the_embedded_model_is_not_sent(warm: CommandLine) -> None:
    result = warm.run("-", stdin=b"A sentence of text. " * 10_000)

    assert result.exit_code == USAGE
    assert result.stdout == b""
    assert "the prompt has at least 50,000 tokens; the model's context holds 4,096" in result.errors
    assert len(lines(result.errors)) == 2


def test_bad_input_reaches_no_server(warm: CommandLine, tmp_path: Path) -> None:
    with ScriptedServer([[WaitForClientClose()]]) as server:
        for name in ("not UTF-8 in the argument", "an escape sequence", "binary"):
            bad, home = PROMPTS[name], tmp_path / name
            home.mkdir()
            result = _run(warm, bad, home, "--base-url", server.base_url)
            assert result.exit_code == bad.exit_code
        assert server.connections == []
