"""`-f`, `-t`, `-x` and `--dry-run` in whole runs, against servers on loopback; all but one in this process."""

from __future__ import annotations

import json
import os
import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest

from commands.run import command
from tests.commands.chat_runs import Chats
from tests.support.paced_server import PacedServer
from tests.support.scripted_server import Action, Close, Connection, ScriptedServer, Send
from tests.support.terminal import Program
from tests.support.wire import DONE, chunked, delta, finish, head, sse

CODE = "def f():\n    return 'é'\n"
ANSWER = f"Here it is:\n\n~~~~ python title\n{CODE}~~~~\n\nThat was `f`.\n```\nnot this\n```\n"


def answered(text: str, *, ends: bool = True) -> list[Action]:
    """*text* in pieces; without its end the connection closes as if nothing were missing."""
    events = [sse(delta(text[start : start + 7])) for start in range(0, len(text), 7)]
    return [Send(head() + chunked(*events, *([sse(finish()), sse(DONE)] if ends else []))), Close()]


@dataclass(frozen=True)
class Ask:
    """`run ARGS` against *server*, to its end: exit code, stdout, stderr. *piped* is standard input."""

    monkeypatch: pytest.MonkeyPatch
    capfd: pytest.CaptureFixture[str]

    def __call__(self, server: ScriptedServer, *args: str, piped: bytes = b"") -> tuple[int, str, str]:
        self.capfd.readouterr()
        # No server here speaks TLS, and reading the certificates costs more than a run.
        self.monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: None)
        stdin = os.dup(0)
        try:
            if piped:
                reader, writer = os.pipe()
                os.write(writer, piped)
                os.close(writer)
                os.dup2(reader, 0)
                os.close(reader)
            options = ("--base-url", server.base_url, "-m", "m", "--retries", "0")
            code = command.main([*options, *args], prog_name="run", standalone_mode=False)
        finally:
            os.dup2(stdin, 0)
            os.close(stdin)
        return code, *self.capfd.readouterr()


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Ask:
    monkeypatch.setenv("KAYGRAPH_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return Ask(monkeypatch, capfd)


@pytest.mark.parametrize("guards", [(), ("--enable-guardrails", "--max-tokens-per-second", "1000")], ids=len)
def test_stdout_has_the_code_alone(ask: Ask, guards: tuple[str, ...]) -> None:
    with ScriptedServer(default=answered(ANSWER)) as server:
        assert ask(server, "-x", *guards, "Hi") == (0, CODE, "")


def test_json_has_both(ask: Ask) -> None:
    with ScriptedServer(default=answered(ANSWER)) as server:
        code, out, _ = ask(server, "--extract", "--json", "Hi")
    shown = json.loads(out)
    assert (code, shown["text"], shown["extracted"], shown["outcome"]) == (0, ANSWER, CODE, "complete")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("There is `no` block.\n", (4, "", "error: the answer has no code block\n")),
        ("Look:\n```\nline 1\nli", (0, "line 1\nli", "the code block is not closed: the answer ends in it\n")),
    ],
)
def test_a_whole_answer_without_a_block_or_without_its_end(
    ask: Ask, answer: str, expected: tuple[int, str, str]
) -> None:
    with ScriptedServer(default=answered(answer)) as server:
        assert ask(server, "-x", "Hi") == expected


def test_an_answer_that_breaks_off_in_the_code_keeps_what_came_and_its_exit_code(ask: Ask) -> None:
    with ScriptedServer(default=answered("Look:\n```\nline 1\nli", ends=False)) as server:
        code, out, err = ask(server, "-x", "Hi")
    assert (code, out) == (3, "line 1\nli")
    assert "incomplete: 9 characters of the answer shown" in err


def test_code_comes_while_it_is_written_and_a_reader_may_go_away() -> None:
    lines = [f"line {number}\n" for number in range(3_000)]
    with PacedServer(pieces=["Text\n```", "py\n", *lines, "```\n"], interval_s=0.005) as server:
        with Program(("--base-url", server.base_url, "-m", "m", "-x", "Hi")) as program:
            program.wait_for(b"line 3\n")
            assert program.output().startswith(b"line 0\nline 1\n")
            program.close_stdout()
            result = program.wait()
        assert not server.streams[0].is_whole
    assert (result.exit_code, result.errors) == (141, "")


def test_the_dry_run_shows_the_body_that_a_run_sends(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("alpha\nbeta\n")
    templates = tmp_path / "templates"
    templates.mkdir()
    (templates / "sum.toml").write_text(
        'prompt = "Sum up in $language."\nsystem = "Cost: $$1"\ntemperature = 0.5\nstop = ["END"]\nextract = true\n'
        "[defaults]\nlanguage = 'Welsh'\n"
    )
    (tmp_path / "schema.json").write_text('{"type": "object"}')
    ask.monkeypatch.setenv("KAYGRAPH_TEMPLATES", str(templates))
    ask.monkeypatch.setenv("KAYGRAPH_TEMPERATURE", "2")
    args = ("-t", "sum", "-P", "language=Irish", "-f", "notes.txt", "--seed", "3", "--json-schema", "schema.json")
    with ScriptedServer(default=answered("{}")) as server:
        dry_code, dry_out, dry_err = ask(server, *args, "--dry-run", "--json", piped=b"piped\n")
        wet = ask(server, *args, piped=b"piped\n")
        (sent,) = server.requests
    shown = json.loads(dry_out)
    assert shown["request"] == sent.json
    assert shown["request"]["temperature"] == 0.5
    assert shown["request"]["messages"][0]["content"] == "Cost: $1"
    prompt = shown["request"]["messages"][1]["content"]
    assert prompt.index("alpha") < prompt.index("piped") < prompt.index("Sum up in Irish.")
    assert shown["url"] == f"{server.base_url}/chat/completions"
    assert (dry_code, dry_err) == (0, "")
    # What the template says of code holds for the run: `{}` has none.
    assert wet == (4, "", "error: the answer has no code block\n")


def test_files_go_with_the_next_prompt_of_a_chat(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("alpha bob@example.com\n")
    (tmp_path / "b.txt").write_text("beta\n")
    attached = ["/file a.txt", "/file nowhere.txt", "/file b.txt", "First", "Second"]
    dropped = ["/file a.txt", "/file -", "/file", "Third", "/undo", "/retry"]

    def answer(connection: Connection) -> list[Action]:
        return answered(f"Answer {connection.number}.")

    with ScriptedServer(default=answer) as server:
        chat = Chats(ask.monkeypatch, ask.capfd)
        said = chat("--base-url", server.base_url, "-m", "m", lines=[*attached, *dropped]).err.splitlines()
        first, second, third, again = [request.json["messages"][-1]["content"] for request in server.requests]
    assert first.index("alpha") < first.index('"b.txt"') < first.index("beta") < first.index("First")
    assert (second, third, again) == ("Second", "Third", "Second")
    assert "with the next prompt: 'a.txt' (22 characters), 'b.txt' (5 characters)" in said
    assert "error: the file 'nowhere.txt' does not exist" in said
    assert said.count("no file is attached") == 2
    assert 'note: the prompt matches pii.email (in "a.txt", line 1): e-mail address' in said
