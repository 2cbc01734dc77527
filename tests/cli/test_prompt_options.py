"""`-f`, `-t`, `-x` and `--dry-run` as they are typed, against servers on loopback."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.support.paced_server import PacedServer
from tests.support.scripted_server import Action, Close, Connection, ScriptedServer, Send
from tests.support.terminal import Program, ProgramResult, run_program
from tests.support.wire import DONE, chunked, delta, finish, head, sse

CODE = "def f():\n    return 'é'\n"
ANSWER = f"Here it is:\n\n~~~~ python title\n{CODE}~~~~\n\nThat was `f`.\n```\nnot this\n```\n"


def pieces(text: str, size: int = 7) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def answered(text: str, *, ends: bool = True) -> list[Action]:
    """*text* in pieces; without its end the connection closes as if nothing were missing."""
    events = [sse(delta(piece)) for piece in pieces(text)] + ([sse(finish()), sse(DONE)] if ends else [])
    return [Send(head() + chunked(*events)), Close()]


def ask(server: ScriptedServer | PacedServer, *args: str, **how: Any) -> ProgramResult:
    return run_program(("--base-url", server.base_url, "-m", "m", "--retries", "0", *args), **how)


def test_stdout_has_the_code_alone_also_behind_guardrails() -> None:
    with ScriptedServer(default=answered(ANSWER)) as server:
        run = ask(server, "-x", "--enable-guardrails", "--max-tokens-per-second", "1000", "Hi")
    assert (run.exit_code, run.stdout, run.errors) == (0, CODE.encode(), "")


def test_an_answer_that_breaks_off_in_the_code_keeps_what_came_and_its_exit_code() -> None:
    with ScriptedServer(default=answered("Look:\n```\nline 1\nli", ends=False)) as server:
        run = ask(server, "-x", "Hi")
    assert (run.exit_code, run.stdout) == (3, b"line 1\nli")
    assert "incomplete: 9 characters of the answer shown" in run.errors


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


def test_the_dry_run_shows_the_body_that_a_run_sends(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("alpha\nbeta\n")
    templates = tmp_path / "templates"
    templates.mkdir()
    (templates / "sum.toml").write_text(
        'prompt = "Sum up in $language."\nsystem = "Cost: $$1"\ntemperature = 0.5\nstop = ["END"]\nextract = true\n'
        "[defaults]\nlanguage = 'Welsh'\n"
    )
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object"}')
    args = ("-t", "sum", "-P", "language=Irish", "-f", "notes.txt", "--seed", "3", "--json-schema", str(schema))
    with ScriptedServer(default=answered("{}")) as server:
        how: dict[str, Any] = {
            "stdin": b"piped\n",
            "home": tmp_path,
            "env": {"KAYGRAPH_TEMPLATES": str(templates), "KAYGRAPH_TEMPERATURE": "2"},
        }
        with ThreadPoolExecutor(2) as pool:
            dry = pool.submit(ask, server, *args, "--dry-run", "--json", **how)
            wet = pool.submit(ask, server, *args, **how)
        (sent,) = server.requests
    shown = json.loads(dry.result().stdout)
    assert shown["request"] == sent.json
    assert shown["request"]["temperature"] == 0.5
    assert shown["request"]["messages"][0]["content"] == "Cost: $1"
    prompt = shown["request"]["messages"][1]["content"]
    assert prompt.index("alpha") < prompt.index("piped") < prompt.index("Sum up in Irish.")
    assert shown["url"] == f"{server.base_url}/chat/completions"
    assert (dry.result().exit_code, dry.result().errors) == (0, "")
    # What the template says of code holds for the run: `{}` has none.
    assert (wet.result().exit_code, wet.result().stdout) == (4, b"")
    assert wet.result().errors == "error: the answer has no code block\n"


def test_files_go_with_the_next_prompt_of_a_chat(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("alpha bob@example.com\n")
    (tmp_path / "b.txt").write_text("beta\n")
    typed = (
        b"/file a.txt\n/file nowhere.txt\n/file b.txt\nFirst\nSecond\n"
        b"/file a.txt\n/file -\n/file\nThird\n/undo\n/retry\n"
    )

    def answer(connection: Connection) -> list[Action]:
        return answered(f"Answer {connection.number}.")

    with ScriptedServer(default=answer) as server:
        args = ("chat", "--base-url", server.base_url, "-m", "m")
        result = run_program(args, stdin=typed, home=tmp_path)
        asked = [request.json["messages"][-1]["content"] for request in server.requests]
    first, second, third, again = asked
    assert first.index("alpha") < first.index('"b.txt">') < first.index("beta") < first.index("First")
    assert (second, third, again) == ("Second", "Third", "Second")
    said = result.errors.splitlines()
    assert "with the next prompt: 'a.txt' (22 characters), 'b.txt' (5 characters)" in said
    assert "error: the file 'nowhere.txt' does not exist" in said
    assert said.count("no file is attached") == 2
    assert 'note: the prompt matches pii.email (in "a.txt", line 1): e-mail address' in said
