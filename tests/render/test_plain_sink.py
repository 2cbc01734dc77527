import asyncio
import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.render.rendering import cut, deltas, opened_pipe, opened_terminal, report
from utils.errors import Cancelled
from utils.events import Aborted, Blocked, Finished, Redacted, TextDelta
from utils.render.output import Batch, FdWriter, silence_stdout
from utils.render.plain import PlainSink, PlainTerminalSink
from utils.run_report import RunReport

ROOT = Path(__file__).resolve().parents[2]


class Recorded(FdWriter):
    def __init__(self) -> None:
        super().__init__(-1)
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(bytes(data))


def ended(text: str) -> str:
    return text + "\n" if text and not text.endswith("\n") else text


@given(st.text(st.characters()), st.lists(st.integers(0, 100)), st.booleans())
def test_the_bytes_are_the_text_for_any_cutting(text: str, positions: list[int], in_loop: bool) -> None:
    writer = Recorded()
    sink = PlainSink(writer)
    pieces = cut(text, [p % (len(text) + 1) for p in positions])

    async def feed() -> None:
        for index, event in enumerate(deltas(pieces)):
            sink.handle(event, 0.0)
            if index % 3 == 0:
                await asyncio.sleep(0)
        sink.finish(report())
        sink.close()

    if in_loop:
        asyncio.run(feed())
    else:
        for event in deltas(pieces):
            sink.handle(event, 0.0)
        sink.finish(report())
    expected = ended(text)
    assert b"".join(writer.writes) == "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in expected).encode()


@pytest.mark.parametrize(
    ("text", "expected"), [("", b""), ("a", b"a\n"), ("a\n", b"a\n"), ("a\n\n", b"a\n\n"), ("\n", b"\n")]
)
@pytest.mark.parametrize("ending", ["finish", "close", "both"])
def test_one_newline_is_added_if_it_is_missing(text: str, expected: bytes, ending: str) -> None:
    writer = Recorded()
    sink = PlainSink(writer)
    if text:
        sink.handle(TextDelta(text), 0.0)
    sink.handle(Aborted(Cancelled("stopped")), 0.0)
    if ending != "close":
        sink.finish(report(text=text, outcome="cancelled", error=Cancelled("stopped")))
    if ending != "finish":
        sink.close()
        sink.close()
    assert b"".join(writer.writes) == expected


def test_a_replacement_is_part_of_the_answer_and_other_events_are_not() -> None:
    writer = Recorded()
    sink = PlainSink(writer)
    for event in (TextDelta("mail "), Redacted("email", "[EMAIL]", 5), Redacted("x", "", 9), TextDelta(" me")):
        sink.handle(event, 0.0)
    for last in (Blocked("r"), Finished("stop")):
        sink.handle(last, 0.0)
    sink.finish(report())
    assert b"".join(writer.writes) == b"mail [EMAIL] me\n"


def test_everything_of_one_turn_is_written_at_once_and_before_the_loop_waits() -> None:
    writer = Recorded()
    sink = PlainSink(writer)

    async def run() -> None:
        for _ in range(5):
            sink.handle(TextDelta("ab"), 0.0)
        assert writer.writes == []
        await asyncio.sleep(0)
        assert writer.writes == [b"ababababab"]
        sink.handle(TextDelta("c"), 0.0)
        await asyncio.sleep(0)
        assert writer.writes[1:] == [b"c"]

    asyncio.run(run())


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 90)), max_size=5))
def test_whatever_a_turn_brings_is_written_in_order_before_the_loop_waits(runs: list[tuple[int, int]]) -> None:
    seen: list[str] = []
    batch, added = Batch(seen.append), ""

    async def run() -> None:
        nonlocal added
        for size, turns in runs:
            for _ in range(turns):
                for _ in range(size):
                    added += chr(ord("a") + len(added) % 26)
                    batch.add(added[-1])
                await asyncio.sleep(0)
                assert "".join(seen) == added

    asyncio.run(run())


def test_strings_that_come_alone_are_not_queued_until_several_come_again() -> None:
    seen: list[str] = []
    batch = Batch(seen.append)

    async def turn(count: int) -> tuple[int, int]:
        """How many were written at once, and how many writes there were in all."""
        before = len(seen)
        for _ in range(count):
            batch.add("x")
        at_once = len(seen) - before
        await asyncio.sleep(0)
        return at_once, len(seen) - before

    async def run() -> None:
        alone = [await turn(1) for _ in range(200)]
        assert alone[:8] == [(0, 1)] * 8
        assert alone[8:].count((1, 1)) > 180
        several = [await turn(3) for _ in range(60)]
        assert several[-30:] == [(0, 1)] * 30

    asyncio.run(run())


def test_without_a_loop_nothing_is_held_back() -> None:
    seen: list[str] = []
    batch = Batch(seen.append)
    batch.add("a")
    batch.add("b")
    assert seen == ["a", "b"]


@pytest.mark.parametrize("is_blocking", [True, False])
def test_a_slow_reader_gets_every_byte(is_blocking: bool) -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, is_blocking)
    text = "0123456789" * 30_000
    received = bytearray()
    more = threading.Event()

    def read() -> None:
        more.wait(10)  # the pipe is full by now
        while data := os.read(read_end, 4099):
            received.extend(data)

    thread = threading.Thread(target=read)
    thread.start()
    sink = PlainSink(FdWriter(write_end))
    threading.Timer(0.05, more.set).start()
    sink.handle(TextDelta(text), 0.0)
    sink.finish(report())
    os.close(write_end)
    thread.join(10)
    os.close(read_end)
    assert received.decode() == text + "\n"


def test_a_partial_write_is_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    written = bytearray()

    def write(fd: int, data: memoryview) -> int:
        written.extend(data[:3])
        return min(3, len(data))

    monkeypatch.setattr(os, "write", write)
    FdWriter(1).write(b"abcdefgh")
    assert written == b"abcdefgh"


def test_a_broken_pipe_is_told_once_and_never_raised() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    errors: list[OSError] = []
    sink = PlainSink(FdWriter(write_end, errors.append))

    async def run() -> None:
        failures: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context))
        for _ in range(3):
            sink.handle(TextDelta("x" * 10), 0.0)
            await asyncio.sleep(0)
        sink.finish(report())
        sink.close()
        assert failures == []

    asyncio.run(run())
    os.close(write_end)
    assert [error.errno for error in errors] == [errno.EPIPE]


def test_a_program_whose_reader_left_ends_without_a_word() -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from utils.events import TextDelta\n"
        "from utils.render.factory import create_sinks\n"
        "from utils.render.output import silence_stdout\n"
        "from utils.render.sink import RenderOptions\n"
        "gone = []\n"
        "sinks = create_sinks(RenderOptions(), clock=lambda: 0.0, started_s=0.0, snapshot=None,\n"
        "                     on_broken_pipe=lambda: gone.append(1))\n"
        "print('buffered by the interpreter', end='')\n"
        "while not gone:\n"
        "    for sink in sinks: sink.handle(TextDelta('x' * 1000), 0.0)\n"
        "silence_stdout()\n"
        "sys.exit(141)\n"
    )
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        [sys.executable, "-c", program, str(ROOT)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(5) == b"xxxxx"
        process.stdout.close()
        assert (process.stderr.read(), process.wait(20)) == (b"", 141)


def test_silence_stdout_points_the_descriptor_at_the_null_device() -> None:
    read_end, write_end = os.pipe()
    silence_stdout(write_end)
    os.write(write_end, b"nobody sees this")
    os.close(write_end)
    assert os.read(read_end, 10) == b""
    os.close(read_end)


class TestPlainTerminalSink:
    def show(self, *steps: str | None, encoding: str = "utf-8") -> str:
        """Feed texts; None stands for a line on stderr that wants the cursor at the left."""
        with opened_terminal() as (terminal, reader):
            sink = PlainTerminalSink(FdWriter(terminal), encoding)
            for step in steps:
                if step is None:
                    sink.settle()
                    os.write(terminal, b"notice\n")
                else:
                    sink.handle(TextDelta(step), 0.0)
            sink.finish(self.report())
            sink.close()
            os.close(terminal)
            return reader.text()

    def report(self) -> RunReport:
        return report()

    def test_control_sequences_are_made_harmless(self) -> None:
        assert self.show("a\x1b[2J", "b\r\n\x07") == "a\\x1b[2Jb \n\\x07\n"

    def test_a_notice_starts_a_line_of_its_own_and_the_answer_goes_on(self) -> None:
        assert self.show("half", None, " rest\n", None, "x") == "half\nnotice\n rest\nnotice\nx\n"

    def test_no_empty_line_is_added_after_a_notice(self) -> None:
        assert self.show("half", None) == "half\nnotice\n"
        assert self.show(None) == "notice\n"

    def test_what_the_terminal_lacks_becomes_an_escape(self) -> None:
        assert self.show("né ▁ \ud800", encoding="ascii") == "n\\xe9 \\u2581 \\ud800\n"


def test_into_a_pipe_control_sequences_stay_exact() -> None:
    with opened_pipe() as (pipe, reader):
        sink = PlainSink(FdWriter(pipe))
        sink.handle(TextDelta("a\x1b[31m\r\n\u202e"), 0.0)
        sink.settle()
        sink.close()
        os.close(pipe)
        assert reader.text().encode() == "a\x1b[31m\n\u202e\n".encode()
