"""Where the prompts of a chat come from: plain lines however they arrive, and what is remembered of them."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import stat
import tempfile
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.render.rendering import cut
from utils.errors import UsageProblem
from utils.guardrails.policy import compile_rules
from utils.guardrails.redactor import cleaned
from utils.render import chat_input
from utils.render.chat_input import PlainReader, open_reader

LIMIT = 20


async def all_of(reader: PlainReader) -> list[str]:
    """Every prompt until the end; what is refused as its message."""
    prompts: list[str] = []
    while True:
        try:
            prompts.append(await reader.read())
        except EOFError:
            return prompts
        except UsageProblem as refused:
            prompts.append(f"refused: {refused.message}")


def read_pipe(pieces: list[bytes], *, limit: int = 1_000) -> list[str]:
    """What a reader makes of a pipe into which *pieces* are written, each only when the one before was taken."""

    async def main() -> list[str]:
        reader_end, writer_end = os.pipe()
        try:
            reader = PlainReader(reader_end, is_interactive=False, limit_chars=limit)
            rest = iter(pieces)
            wait = reader._wait

            async def write_and_wait() -> None:
                nonlocal writer_end
                piece = next(rest, None)
                if piece is not None:
                    os.write(writer_end, piece)
                elif writer_end >= 0:
                    os.close(writer_end)
                    writer_end = -1
                await wait()

            reader._wait = write_and_wait  # type: ignore[method-assign]
            return await all_of(reader)
        finally:
            os.close(reader_end)
            if writer_end >= 0:
                os.close(writer_end)

    return asyncio.run(main())


def read_file(data: bytes, *, limit: int = 1_000) -> list[str]:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        return asyncio.run(all_of(PlainReader(file.fileno(), is_interactive=False, limit_chars=limit)))


TABLE = {
    b"": [],
    b"\n": [""],
    b"one": ["one"],
    b"one\n": ["one"],
    b"one\ntwo": ["one", "two"],
    b"one\n\ntwo\n": ["one", "", "two"],
    b"one\r\ntwo\r\n": ["one", "two"],
    b"a\\\nb\n": ["a\nb"],
    b"a\\\r\nb\r\n": ["a\nb"],
    b"a\\\n\\\n\nb": ["a\n\n", "b"],
    b"a\\": ["a"],
    b"a\\\n": ["a"],
    b"\\\n": [""],
    b"a\\b\\\\\nc": ["a\\b\\\nc"],
    "é中\U0001f600\n".encode(): ["é中\U0001f600"],
    b"ok\n\xff\xfe\nstill ok\n": [
        "ok",
        "refused: standard input is not UTF-8 text (byte 0xff at offset 0 of a prompt)",
        "still ok",
    ],
    b"a\\\nb\xc3\nc": ["refused: standard input is not UTF-8 text (byte 0xc3 at offset 3 of a prompt)", "c"],
}


@pytest.mark.parametrize("data", TABLE, ids=repr)
def test_lines_of_a_file_and_of_a_pipe_are_prompts(data: bytes) -> None:
    assert read_file(data) == TABLE[data]
    assert read_pipe([data] if data else []) == TABLE[data]
    assert read_pipe([data[n : n + 1] for n in range(len(data))]) == TABLE[data]


@settings(max_examples=50)
@given(st.text("a\\\r\né\U0001f600", max_size=40), st.lists(st.integers(0, 60), max_size=5))
@example("\\\r\n", [1, 2])
def test_where_a_pipe_is_cut_changes_nothing(text: str, positions: list[int]) -> None:
    data = text.encode()
    pieces = [piece.encode("latin-1") for piece in cut(data.decode("latin-1"), positions)]
    assert read_pipe([piece for piece in pieces if piece]) == read_file(data)


TOO_LONG = "refused: a line of standard input is over the limit of a prompt"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"x" * 4 * LIMIT + b"\nnext\n", ["x" * 4 * LIMIT, "next"]),
        (b"x" * (4 * LIMIT + 1) + b"\nnext\n", [TOO_LONG, "next"]),
        (b"x" * 999 + b"\nnext\n", [TOO_LONG, "next"]),
        (b"x" * 999, [TOO_LONG]),
        (b"x" * 999 + b"\\\nits rest\nnext", [TOO_LONG, "next"]),
        (b"x" * 999 + b"\\\r\nits rest\r\nnext", [TOO_LONG, "next"]),
        (b"x\\\n" * 999 + b"end\nnext", [TOO_LONG, "next"]),
        (b"\\\n" * 999 + b"end\nnext", [TOO_LONG, "next"]),
    ],
)
def test_what_is_over_the_limit_is_refused_whole_and_the_next_prompt_is_read(data: bytes, expected: list[str]) -> None:
    assert read_file(data, limit=LIMIT) == expected
    assert read_pipe([data[n : n + 7] for n in range(0, len(data), 7)], limit=LIMIT) == expected


def test_an_endless_line_takes_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_input, "_READ_BYTES", 64)
    longest = 0

    async def main() -> None:
        nonlocal longest
        with tempfile.TemporaryFile() as file:
            file.truncate(100_000)
            reader = PlainReader(file.fileno(), is_interactive=False, limit_chars=LIMIT)
            fill = reader._fill

            async def watched() -> None:
                nonlocal longest
                await fill()
                longest = max(longest, len(reader._buffer))

            reader._fill = watched  # type: ignore[method-assign]
            assert await all_of(reader) == [TOO_LONG]

    asyncio.run(main())
    assert 4 * LIMIT < longest < 4 * LIMIT + 2 * 64 + 10


def test_dev_null_and_a_closed_input_are_an_end() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    assert asyncio.run(all_of(PlainReader(null, is_interactive=False, limit_chars=LIMIT))) == []
    os.close(null)
    directory = os.open("/", os.O_RDONLY)
    assert asyncio.run(all_of(PlainReader(directory, is_interactive=False, limit_chars=LIMIT))) == [
        "refused: standard input cannot be read: Is a directory"
    ]
    os.close(directory)


def test_a_pipe_that_does_not_block_is_waited_for() -> None:
    reader_end, writer_end = os.pipe()
    os.set_blocking(reader_end, False)

    async def main() -> list[str]:
        reader = PlainReader(reader_end, is_interactive=False, limit_chars=LIMIT)

        async def nothing_yet() -> None:
            os.write(writer_end, b"late\n")
            os.close(writer_end)
            del reader._wait  # type: ignore[method-assign]

        reader._wait = nothing_yet  # type: ignore[method-assign]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "read", lambda fd, size, read=os.read: patch.undo() or _raise(BlockingIOError()))
            return await all_of(reader)

    assert asyncio.run(main()) == ["late"]
    os.close(reader_end)


def _raise(error: BaseException) -> bytes:
    raise error


# -- a terminal without an editor ------------------------------------------------------------------------------------


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    person, program = pty.openpty()
    tty.setcbreak(program)
    yield person, program
    os.close(person)
    os.close(program)


def test_a_person_sees_where_to_type_and_ctrl_c_gives_a_line_up(
    terminal: tuple[int, int], capfd: pytest.CaptureFixture[str]
) -> None:
    person, program = terminal
    before = signal.getsignal(signal.SIGINT)

    async def main() -> list[str]:
        reader = PlainReader(program, is_interactive=True, limit_chars=100)
        read: list[str] = []
        os.write(person, b"one\\\n")
        asyncio.get_running_loop().call_later(0, os.write, person, b"more\nhal")
        read.append(await reader.read())
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            await reader.read()
        os.write(person, b"two\n")
        read.append(await reader.read())
        return read

    assert asyncio.run(main()) == ["one\nmore", "two"]
    assert capfd.readouterr().err == "> . > \n> "
    assert signal.getsignal(signal.SIGINT) is before


def test_a_terminal_that_goes_away_is_an_end(capfd: pytest.CaptureFixture[str]) -> None:
    person, program = pty.openpty()
    os.close(person)
    assert asyncio.run(all_of(PlainReader(program, is_interactive=True, limit_chars=LIMIT))) == []
    os.close(program)
    assert capfd.readouterr().err == "> \n"


@pytest.mark.parametrize(
    ("environ", "terminals", "is_editor", "is_interactive"),
    [
        ({"TERM": "xterm"}, (0, 2), True, True),
        ({"TERM": "xterm"}, (0,), False, True),
        ({"TERM": "xterm"}, (2,), False, False),
        ({"TERM": "dumb"}, (0, 2), False, True),
        ({"TERM": ""}, (0, 2), False, True),
        ({}, (0, 2), False, True),
        ({"TERM": "xterm", "CI": "1"}, (0, 2), False, True),
    ],
)
def test_an_editor_needs_a_terminal_that_moves_its_cursor(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], terminals: tuple[int, ...], is_editor: bool,
    is_interactive: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr(os, "isatty", lambda fd: fd in terminals)
    made: list[object] = []
    monkeypatch.setattr(chat_input, "_Editor", lambda *args, **how: made.append(how) or _Fake())
    reader = open_reader(["/help"], limit_chars=LIMIT, environ=environ)
    assert bool(made) == is_editor
    assert reader.is_interactive == is_interactive


class _Fake:
    is_interactive = True


# -- what is remembered ----------------------------------------------------------------------------------------------

KEY = "ghp_" + "aB3dE6gH9j" * 3 + "kL2nO5"


def clean(text: str) -> str:
    return cleaned(text, compile_rules(("pii", "secrets"), own_keys=("my-own-key-0123",)))


def test_what_was_typed_comes_back_newest_first_without_keys_and_personal_data(tmp_path: Path) -> None:
    path = tmp_path / "state" / "chat_input"
    history, _ = chat_input._history(path, clean)
    history.append_string("first")
    history.append_string(f"my key is {KEY}, or my-own-key-0123; mail bob@example.com\nsecond line")
    history.append_string("half a character: \udc80")
    # In this chat a line can be recalled as it was typed.
    assert KEY in history.get_strings()[1]

    data = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    for secret in (KEY, "my-own-key-0123", "bob@example.com"):
        assert secret.encode() not in data
    again, notice = chat_input._history(path, clean)
    assert notice is None
    newest, middle, oldest = again.load_history_strings()
    assert (newest, oldest) == ("half a character: ?", "first")
    assert middle.startswith("my key is ")
    assert middle.endswith("\nsecond line")


def test_of_many_the_newest_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_input, "_KEPT_INPUTS", 2)
    history, _ = chat_input._history(tmp_path / "chat_input", str)
    for text in "abc":
        history.append_string(text)
    assert list(chat_input._history(tmp_path / "chat_input", str)[0].load_history_strings()) == ["c", "b"]


def test_a_file_that_has_grown_is_cut_to_the_newest_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "chat_input"
    history, _ = chat_input._history(path, str)
    for text in ("oldest", "two\nlines", "newest"):
        history.append_string(text)
    monkeypatch.setattr(chat_input, "_KEPT_INPUTS", 2)
    assert chat_input._history(path, str)[1] is None
    assert b"oldest" in path.read_bytes()
    monkeypatch.setattr(chat_input, "_KEPT_BYTES", 10)
    again, notice = chat_input._history(path, str)
    assert notice is None
    assert list(again.load_history_strings()) == ["newest", "two\nlines"]
    assert b"oldest" not in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["chat_input"]


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "chat_input"
    path.write_text("\n# then\n+before\n")
    path.chmod(0o644)
    assert list(chat_input._history(path, str)[0].load_history_strings()) == ["before"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ["symlink", "pipe", "directory", "no directory", "nowhere"])
def test_a_place_that_is_not_ours_is_left_alone_and_nothing_fails(tmp_path: Path, kind: str) -> None:
    path: Path | None = tmp_path / "chat_input"
    assert path is not None
    other = tmp_path / "other"
    other.write_text("somebody else's")
    if kind == "symlink":
        path.symlink_to(other)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "no directory":
        path = other / "chat_input"
    else:
        path = None
    history, notice = chat_input._history(path, str)
    if kind == "nowhere":
        assert notice is None
    else:
        assert notice is not None
        assert notice.startswith(f"what is typed is not kept in {str(path)!r}: ")
        assert (notice.endswith("it is a symbolic link")) == (kind == "symlink")
    history.append_string("typed")
    assert list(history.load_history_strings()) == ["typed"]
    assert other.read_text() == "somebody else's"


def test_a_disk_that_fails_later_costs_the_memory_and_not_the_chat(tmp_path: Path) -> None:
    path = tmp_path / "chat_input"
    history, _ = chat_input._history(path, str)
    path.unlink()
    path.mkdir()
    history.append_string("typed")
    assert history.get_strings() == ["typed"]
    assert list(history.load_history_strings()) == []
