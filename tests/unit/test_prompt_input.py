"""What becomes of files, piped text, PROMPT and a template; and of files that are none."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from commands.prompt_files import read_file
from commands.prompt_input import PromptText, read_prompt
from utils.clock import monotonic
from utils.errors import TotalTimeout, UsageProblem
from utils.templates import FilledPrompt

LIMIT = 1_000
NO_INPUT = FilledPrompt("t", ("Sum up.",))
INPUT = FilledPrompt("t", ("Translate: ", "!"))
DEFAULT = FilledPrompt("t", ("Translate: ", "!"), "nothing")


def prompt_of(
    argument: str | None = None,
    *,
    piped: bytes | None = None,
    files: Sequence[str] = (),
    template: FilledPrompt | None = None,
    **more: Any,
) -> PromptText:
    """`read_prompt` with a pipe that holds *piped*, or with /dev/null."""
    if piped is None:
        reader = os.open(os.devnull, os.O_RDONLY)
    else:
        reader, writer = os.pipe()
        os.write(writer, piped)
        os.close(writer)
    try:
        return read_prompt(argument, None, limit_chars=LIMIT, files=files, template=template, stdin_fd=reader, **more)
    finally:
        os.close(reader)


@pytest.fixture
def notes(tmp_path: Path) -> str:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"\xef\xbb\xbfalpha\r\nbeta\n")
    return str(path)


def in_order(prompt: PromptText, *texts: str) -> bool:
    """Whether *texts* stand in the prompt in this order, the last one at its end."""
    at = 0
    for text in texts:
        at = prompt.text.find(text, at)
        if at < 0:
            return False
        at += len(text)
    return at == len(prompt.text)


@pytest.mark.parametrize(
    ("argument", "piped", "template", "text"),
    [
        ("ask", None, None, "ask"),
        ("ask", b"text\n", None, "text\n\nask"),
        (None, b"text\n", None, "text\n"),
        ("-", b"text\n", None, "text\n"),
        (None, None, NO_INPUT, "Sum up."),
        ("Be brief.", None, NO_INPUT, "Sum up.\n\nBe brief."),
        (None, b"text\n", NO_INPUT, "text\n\nSum up."),
        ("Be brief.", b"text\n", NO_INPUT, "text\n\nSum up.\n\nBe brief."),
        ("Hi", None, INPUT, "Translate: Hi!"),
        (None, b"Hi\n", INPUT, "Translate: Hi\n!"),
        ("Now", b"Hi\n", INPUT, "Translate: Hi\n\nNow!"),
        ("-", b"Hi", INPUT, "Translate: Hi!"),
        (None, None, DEFAULT, "Translate: nothing!"),
    ],
)
def test_without_files_the_prompt_is_these(
    argument: str | None, piped: bytes | None, template: FilledPrompt | None, text: str
) -> None:
    assert prompt_of(argument, piped=piped, template=template).text == text


def test_files_stand_first_then_piped_text_then_the_prompt(notes: str, tmp_path: Path) -> None:
    other = tmp_path / "b.txt"
    other.write_text("gamma")
    prompt = prompt_of("ask", piped=b"delta\n", files=[notes, str(other)])
    assert in_order(prompt, '"notes.txt"', "alpha\r\nbeta\n", '"b.txt"', "gamma", '"standard input"', "delta\n", "ask")
    assert [part.name for part in prompt.parts] == ["notes.txt", "b.txt", "standard input"]
    assert prompt.notice == ""
    # Piped text that nothing follows is what is asked.
    alone = prompt_of(piped=b"What is it?\n", files=[notes])
    assert in_order(alone, "beta\n", "What is it?\n")
    assert len(alone.parts) == 1


def test_standard_input_can_be_one_of_the_files(notes: str) -> None:
    prompt = prompt_of("ask", piped=b"piped\n", files=["-", notes])
    assert in_order(prompt, '"standard input"', "piped\n", '"notes.txt"', "ask")
    assert prompt_of("ask", piped=b"piped\n", files=["/dev/stdin"]).parts[0].name == "standard input"


@pytest.mark.parametrize(
    ("argument", "piped", "template", "end"),
    [
        (None, None, NO_INPUT, "Sum up."),
        (None, None, INPUT, "Translate: !"),
        ("Hi", None, INPUT, "Translate: Hi!"),
        ("-", b"ask", None, "ask"),
    ],
)
def test_a_template_asks_about_files(
    notes: str, argument: str | None, piped: bytes | None, template: FilledPrompt | None, end: str
) -> None:
    assert in_order(prompt_of(argument, piped=piped, files=[notes], template=template), "beta", end)


@pytest.mark.parametrize(
    ("files", "argument", "piped", "template", "says"),
    [
        (1, None, None, None, "no PROMPT that says what to do"),
        (1, "", None, None, "no PROMPT that says what to do"),
        (1, " ", b"text", None, "no PROMPT that says what to do"),
        (1, None, b" \n", None, "standard input was empty"),
        (0, None, None, INPUT, "needs text for \\$input"),
        (0, " ", None, INPUT, "needs text for \\$input"),
        (0, "-", b"", INPUT, "standard input was empty"),
    ],
)
def test_nothing_is_guessed_where_nothing_was_asked(
    notes: str, files: int, argument: str | None, piped: bytes | None, template: FilledPrompt | None, says: str
) -> None:
    with pytest.raises(UsageProblem, match=says):
        prompt_of(argument, piped=piped, files=[notes][:files], template=template)


def test_standard_input_is_read_once() -> None:
    with pytest.raises(UsageProblem, match="named twice"):
        prompt_of("ask", piped=b"x", files=["-", "/dev/stdin"])
    with pytest.raises(UsageProblem, match="both the prompt and a file"):
        prompt_of("-", piped=b"x", files=["-"])


def test_a_silent_pipe_is_ignored_where_there_is_something_to_ask(notes: str) -> None:
    reader, writer = os.pipe()
    try:
        for argument, template in (("ask", None), (None, NO_INPUT)):
            prompt = read_prompt(
                argument, None, limit_chars=LIMIT, files=[notes], template=template, stdin_fd=reader, first_byte_s=0.0
            )
            assert "stayed silent" in prompt.notice
            assert len(prompt.parts) == 1
        with pytest.raises(UsageProblem, match="no PROMPT"):
            read_prompt(None, None, limit_chars=LIMIT, files=[notes], stdin_fd=reader, first_byte_s=0.0)
    finally:
        os.close(reader)
        os.close(writer)


def test_an_empty_file_goes_along_and_is_told(tmp_path: Path) -> None:
    path = tmp_path / "empty.txt"
    path.write_text("")
    prompt = prompt_of("ask", files=[str(path)])
    assert "empty.txt" in prompt.text
    assert "is empty" in prompt.notice


def make(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize(
    ("name_of", "says", "hint"),
    [
        (lambda d: str(d / "notez.txt"), "notez.txt' does not exist", "did you mean"),
        (lambda d: str(d / "notes.txt" / "x"), "does not exist", "name"),
        (lambda d: "", "'' does not exist", "name"),
        (lambda d: "a\0b", "not a usable path", "another"),
        (lambda d: str(d), "is a directory", "file in it"),
        (lambda d: make(d / "b", b"x" * 900 + b"\0"), "binary", "UTF-8"),
        (lambda d: make(d / "l", b"caf\xe9"), "not UTF-8 text (byte 0xe9 at offset 3)", "iconv"),
        (lambda d: make(d / "long", b"x" * 1_001), "has 1,001 characters; the limit of a prompt is 1,000", "LIMIT"),
        (lambda d: make(d / "huge", b"x" * 9_000), "over the limit of 1000 characters", "LIMIT"),
        (lambda d: "/dev/zero", "binary", "UTF-8"),
    ],
)
def test_a_file_that_cannot_be_used(
    notes: str, tmp_path: Path, name_of: Callable[[Path], str], says: str, hint: str
) -> None:
    with pytest.raises(UsageProblem) as caught:
        prompt_of("ask", files=[name_of(tmp_path)])
    assert says in caught.value.message
    assert hint in caught.value.hint


def test_a_file_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UsageProblem, match="permission denied"):
        read_file("secret.txt", limit_chars=LIMIT)


def test_the_limit_is_that_of_all_files_together(tmp_path: Path) -> None:
    names = [make(tmp_path / f"{n}.txt", b"x" * 600) for n in range(2)]
    with pytest.raises(UsageProblem, match="over 1,000 characters together"):
        prompt_of("ask", files=names)


def test_pipes_are_read_to_their_end_and_no_longer_than_the_run_may_take(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)

    def write() -> None:
        with open(path, "wb") as file:
            for _ in range(3):
                file.write(b"piece\n")
                file.flush()

    thread = threading.Thread(target=write)
    thread.start()
    assert read_file(str(path), limit_chars=LIMIT).text == "piece\n" * 3
    thread.join(10)
    with pytest.raises(TotalTimeout, match="did not end"):
        read_file(str(path), limit_chars=LIMIT, deadline_s=monotonic())
    reader, writer = os.pipe()
    os.write(writer, b"substituted")
    os.close(writer)
    found = read_file(f"/dev/fd/{reader}", limit_chars=LIMIT)
    os.close(reader)
    assert (found.source, found.text) == ("pipe", "substituted")
