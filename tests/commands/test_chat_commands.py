"""The pieces of a chat: its commands as they are typed, its files, its figures."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import main
from commands import chat_files
from commands.chat_commands import COMMANDS, Typed, help_lines, parse
from commands.chat_figures import ChatFigures
from commands.chat_files import read_conversation, write_conversation
from utils.conversation import Conversation, Exchange
from utils.errors import UsageProblem

# -- what is typed ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("hello", "hello"),
        ("", ""),
        ("/", "/"),
        ("/ help", "/ help"),
        ("/etc/hosts, what is it?", "/etc/hosts, what is it?"),
        ("/usr/bin", "/usr/bin"),
        ("/2", "/2"),
        (" /help", " /help"),
        ("what is /help?", "what is /help?"),
        ("//help", "/help"),
        ("//", "/"),
        ("///", "//"),
        ("two\n/help", "two\n/help"),
        ("/help", Typed("help")),
        ("/HELP  ", Typed("help")),
        ("/?", Typed("help")),
        ("/exit", Typed("quit")),
        ("/q", Typed("quit")),
        ("/bye", Typed("quit")),
        ("/model", Typed("model")),
        ("/model  gpt-4@http://h/v1 ", Typed("model", "gpt-4@http://h/v1")),
        ("/system Be brief.\nAnd kind.", Typed("system", "Be brief.\nAnd kind.")),
        ("/system -", Typed("system", "-")),
        ("/guard pii, secrets", Typed("guard", "pii, secrets")),
        ("/save a b.json", Typed("save", "a b.json")),
        ("/Load\t~/talk.json", Typed("load", "~/talk.json")),
    ],
)
def test_a_line_is_a_command_or_a_prompt(line: str, expected: Typed | str) -> None:
    assert parse(line) == expected


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("/modle x", "/modle is no command", "did you mean /model?"),
        ("/Sav x", "/sav is no command", "did you mean /save?"),
        ("/tmp", "/tmp is no command", "/help lists them."),
        ("/xyzzy now", "/xyzzy is no command", "typed with two"),
        ("/save", "/save needs the name of a file", "/save talk.json"),
        ("/load  ", "/load needs the name of a file", "/load talk.json"),
        ("/undo all", "/undo takes nothing behind it", "/undo"),
        ("/quit now", "/quit takes nothing behind it", "/quit"),
    ],
)
def test_a_command_that_cannot_be_obeyed_is_an_error_with_the_way_out(line: str, message: str, hint: str) -> None:
    with pytest.raises(UsageProblem) as refused:
        parse(line)
    assert refused.value.message == message
    assert hint in refused.value.hint


def test_every_command_can_be_typed_and_stands_in_the_help() -> None:
    page = "\n".join(help_lines())
    for name, (argument, what) in COMMANDS.items():
        typed = parse(f"/{name} x" if argument else f"/{name}")
        assert isinstance(typed, Typed)
        assert typed.name == name
        assert re.search(rf"^  {re.escape(f'/{name} {argument}'.rstrip())} +{re.escape(what)}$", page, re.M)
    assert all(len(line) <= 100 for line in page.splitlines())


# -- files -----------------------------------------------------------------------------------------------------------

TALK = Conversation([Exchange("é中", "a\r\nb", is_whole=False), Exchange("p", "A")], "sys")


def test_a_saved_conversation_is_the_owners_alone_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    before = os.umask(0)
    try:
        assert write_conversation(path, TALK, model="m") == path
    finally:
        os.umask(before)
    back = read_conversation(path)
    assert (back.exchanges, back.system) == (TALK.exchanges, "sys")
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["talk.json"]


def test_the_home_directory_may_be_written_as_a_tilde(tmp_path: Path) -> None:
    assert write_conversation(Path("~/t.json"), TALK, model="m") == tmp_path / "t.json"
    assert read_conversation(Path("~/t.json")).exchanges == TALK.exchanges


def test_an_earlier_conversation_is_replaced_in_one_step_and_nothing_else_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "talk.json"
    write_conversation(path, Conversation([Exchange("old", "OLD")]), model="m")
    path.chmod(0o644)
    seen: list[str] = []
    replace = os.replace

    def watched(source: str, target: Path) -> None:
        seen.extend(read_conversation(Path(name)).exchanges[0].answer for name in (source, target))
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", watched)
        write_conversation(path, TALK, model="m")
    assert seen == ["a\r\nb", "OLD"]
    assert path.stat().st_mode & 0o777 == 0o600

    kept = tmp_path / "notes.txt"
    kept.write_text("my notes")
    with pytest.raises(UsageProblem, match=r"notes.txt' is there and holds no conversation"):
        write_conversation(kept, TALK, model="m")
    assert kept.read_text() == "my notes"
    (tmp_path / "empty").touch()
    write_conversation(tmp_path / "empty", TALK, model="m")
    assert sorted(os.listdir(tmp_path)) == ["empty", "notes.txt", "talk.json"]


def test_a_failure_leaves_the_earlier_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "talk.json"
    write_conversation(path, TALK, model="m")
    before = path.read_bytes()
    with pytest.raises(UsageProblem, match="cannot be written: the text holds half a character"):
        write_conversation(path, Conversation([Exchange("\ud800", "x" * 100_000)]), model="m")

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UsageProblem, match="cannot be written: No space left on device"):
        write_conversation(path, TALK, model="m")
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["talk.json"]


@pytest.fixture
def places(tmp_path: Path) -> Path:
    (tmp_path / "dir").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "latin").write_bytes(b"\xff\xfe")
    (tmp_path / "text").write_text("hello")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "write", "read"),
    [
        ("dir", "cannot be written: Is a directory", "cannot be read: Is a directory"),
        ("pipe", "is there and holds no conversation", "is no regular file"),
        ("/dev/null", "is there and holds no conversation", "is no regular file"),
        ("none/x", "cannot be written: No such file or directory", "cannot be read: No such file or directory"),
        ("text/x", "cannot be written: Not a directory", "cannot be read: Not a directory"),
        ("x" * 300, "cannot be written: File name too long", "cannot be read: File name too long"),
        ("a\0b", "cannot be written: that is no name of a file", "cannot be read: that is no name of a file"),
        ("~nobody-of-that-name/x", "is in the home directory of nobody", "is in the home directory of nobody"),
        ("latin", "is there and holds no conversation", "is no saved conversation: it is not UTF-8"),
        ("text", "is there and holds no conversation", "is no saved conversation: it is not JSON"),
    ],
)
def test_what_cannot_be_written_or_read_is_told_with_its_name(places: Path, name: str, write: str, read: str) -> None:
    path = Path(name) if name[0] in "~/" else places / name
    with pytest.raises(UsageProblem, match=re.escape(write)) as refused:
        write_conversation(path, TALK, model="m")
    assert repr(str(path)) in refused.value.message
    with pytest.raises(UsageProblem, match=re.escape(read)) as refused:
        read_conversation(path)
    assert repr(str(path)) in refused.value.message
    assert sorted(os.listdir(places)) == ["dir", "latin", "pipe", "text"]


def test_a_file_without_an_end_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_files, "_MAX_BYTES", 1_000)
    (tmp_path / "large").write_bytes(b" " * 1_001)
    with pytest.raises(UsageProblem, match="has over 1,000 bytes"):
        read_conversation(tmp_path / "large")


# -- figures ---------------------------------------------------------------------------------------------------------


def answer(outcome: str, **metrics: Any) -> Any:
    usual = {"tokens": 10, "token_source": "usage", "prompt_tokens": 100, "ttft_s": 0.5, "tokens_per_s": 20.0}
    counts = dict.fromkeys(("retries", "resumes", "fallbacks", "redactions"), 0)
    return SimpleNamespace(outcome=outcome, metrics={**usual, **counts, **metrics})


def opener(name: str, state: str, limits: tuple[int, int] | None = None) -> Any:
    def statistics(**fields: object) -> Any:
        return SimpleNamespace(statistics=lambda: SimpleNamespace(**fields))

    limiter = statistics(granted=limits[0], waited=limits[1]) if limits else None
    breaker = statistics(state=SimpleNamespace(value=state))
    upstream = SimpleNamespace(target=SimpleNamespace(name=name), breaker=breaker, limiter=limiter)
    return SimpleNamespace(upstreams=(upstream,))


def test_the_figures_of_all_answers_are_added_up() -> None:
    figures = ChatFigures()
    assert figures.lines([opener("m", "closed")]) == ["no answer yet"]
    figures.add(answer("complete"))
    figures.add(answer("complete", tokens=1_500, token_source="chunks", ttft_s=1.5, tokens_per_s=30.0, retries=1))
    figures.add(answer("incomplete", ttft_s=0.7, tokens_per_s=None, resumes=2, redactions=3, prompt_tokens=None))
    figures.add(answer("rejected", tokens=0, token_source="chunks", ttft_s=None, tokens_per_s=None, prompt_tokens=None))
    assert figures.lines([opener("m at u", "open", (4, 1)), opener("n", "closed")]) == [
        "answers      4: 2 complete, 1 incomplete, 1 rejected",
        "tokens       1,520 in answers (20 by usage, 1,500 by chunks); 200 in prompts",
        "first token  median 700 ms, longest 1.50 s (n 3)",
        "tokens/s     median 25.0 (n 2)",
        "recovery     1 retry, 2 resumes",
        "guard        3 hidden",
        "target       m at u: breaker open; 4 requests granted, 1 waited",
        "target       n: breaker closed",
    ]


def test_answers_of_which_nothing_came_have_few_figures() -> None:
    figures = ChatFigures()
    figures.add(answer("unavailable", tokens=0, ttft_s=None, tokens_per_s=None, prompt_tokens=None))
    assert figures.lines([]) == ["answers      1: 1 unavailable", "tokens       0 in answers (none); 0 in prompts"]


@pytest.mark.parametrize(
    ("words", "told"), [(["Hello"], "'Hello'."), (["Tell", "me", "--no-log"], "'Tell' and 1 more.")]
)
def test_a_prompt_on_the_command_line_is_told_where_it_belongs(
    words: list[str], told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["chat", *words]) == 2
    err = capfd.readouterr().err
    assert f"Error: chat takes no prompt, and got {told}" in err
    assert "`python main.py run PROMPT` answers one" in err
