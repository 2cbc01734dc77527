"""What showing an answer costs: `python benchmarks/bench_render.py [--rounds N]`.

Into a pipe or file: microseconds of CPU time per token of the plain sink, beside `sys.stdout.write` and `flush`. One
turn of an event loop for each read of one or four tokens; the turn itself is left out.

On a terminal: the answer comes at 100 tokens per second of a virtual clock, so twelve frames are drawn in each of its
seconds, by the sinks of a real run on a pseudo-terminal. Printed are microseconds per token at two lengths, the loop
left out, and the longest turn, during which nothing else of the program runs; then `rich.live.Live` over the whole
answer, and the share of one core that the panel of `--monitor-performance` takes.

What arrives is compared: the bytes of the pipe with the answer, and the words on the screen of an emulated terminal
with those of the Markdown, in order, each once. Medians (quartiles) of interleaved rounds. Exit code 1 if something
was shown wrong, never because of a time.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import itertools
import os
import platform
import random
import re
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402
from rich.live import Live  # noqa: E402
from rich.markdown import Markdown  # noqa: E402

from benchmarks.bench_guard import prose, tokens  # noqa: E402
from benchmarks.markdown_answers import SHAPES, answer  # noqa: E402
from tests.render.screen_emulator import ScreenEmulator  # noqa: E402
from tests.support.virtual_time import VirtualLoop  # noqa: E402
from utils.answer_guard import GuardFigures  # noqa: E402
from utils.events import Event, Opened, TextDelta, TokenLogprob  # noqa: E402
from utils.guardrails.hold_log import HoldLog  # noqa: E402
from utils.metrics.recorder import Recorder  # noqa: E402
from utils.render.factory import create_sinks  # noqa: E402
from utils.render.output import FdWriter  # noqa: E402
from utils.render.plain import PlainSink  # noqa: E402
from utils.render.screen import FRAME_S  # noqa: E402
from utils.render.sink import RenderOptions, Sink  # noqa: E402
from utils.resilience.breaker import Breaker  # noqa: E402
from utils.resilience.limiter import Limiter, Limits  # noqa: E402
from utils.resilience.upstream import Upstream  # noqa: E402
from utils.run_context import RunContext, Target  # noqa: E402
from utils.run_report import RunReport  # noqa: E402
from utils.stage_states import stage_states  # noqa: E402

PLAIN_BUDGET_US = 1.2
MARKDOWN_BUDGET_US = 170.0
GROWTH_BUDGET = 1.3
PANEL_BUDGET = 0.02
SHORT, LONG = 1_000, 8_000
TOKEN_S = 0.01
READS_PER_TURN = 50
SIZES = ((80, 24), (200, 60))

Listeners = Sequence[Callable[[Event, float], None]]


class Loop(VirtualLoop):
    """Virtual time from 0, and the CPU time of the longest turn. A new one for each run: rounding decides when frames
    come that are due together with a token.
    """

    longest_s = 0.0

    def _run_once(self) -> None:
        started_s = time.process_time()
        super()._run_once()
        self.longest_s = max(self.longest_s, time.process_time() - started_s)


class Check(Exception):
    """Something was shown wrong."""


@contextmanager
def reader_of(read_end: int, write_end: int) -> Iterator[tuple[int, Callable[[], bytes]]]:
    """The writing end, and what was written to it, which ends the writing.

    Another process reads, so that what a pipe's reader or a terminal does is not counted as ours.
    """
    with tempfile.TemporaryFile() as file, ExitStack() as writing:
        # A terminal that hangs up is an error for who reads it.
        reader = subprocess.Popen(["cat"], stdin=read_end, stdout=file, stderr=subprocess.DEVNULL)
        os.close(read_end)
        writing.callback(reader.wait)
        writing.callback(os.close, write_end)

        def contents() -> bytes:
            writing.close()
            file.seek(0)
            return file.read()

        yield write_end, contents


@contextmanager
def terminal(columns: int, rows: int) -> Iterator[tuple[int, Callable[[], bytes]]]:
    """The program's side of a pseudo-terminal, and what it was sent."""
    master, slave = os.openpty()
    tty.setraw(slave)
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    with reader_of(master, slave) as opened:
        yield opened


def deltas(pieces: Sequence[str]) -> list[TextDelta]:
    rng = random.Random(1)
    return [TextDelta(piece, (TokenLogprob(piece, -rng.random()),)) for piece in pieces]


def report(text: str) -> RunReport:
    return RunReport(text, "complete", 0, "stop", "bench", "bench", "bench", None)


@contextmanager
def opened_loop() -> Iterator[Loop]:
    loop = Loop()
    try:
        yield loop
    finally:
        loop.close()


def streamed(loop: Loop, context: RunContext, events: Sequence[Event], end: Callable[[], None]) -> float:
    """CPU seconds of a run in which an event comes every 10 ms, *end* included."""
    coming = iter(events)
    first_s = loop.time()

    def step(number: int) -> None:
        event = next(coming, None)
        if event is None:
            loop.stop()
        else:
            context.emit(event)
            loop.call_at(first_s + TOKEN_S * (number + 1), step, number + 1)

    async def ended() -> None:  # the sinks look for a running loop
        end()

    started_s = time.process_time()
    loop.call_soon(step, 0)
    loop.run_forever()
    loop.run_until_complete(ended())
    return time.process_time() - started_s


@dataclass
class Drawn:
    """One answer on a terminal of a size: what it costs, round by round, and a look at what was shown.

    *monitor*: with the panel. *listeners* cost too, so they are also in what is subtracted.
    """

    shape: str
    count: int
    size: tuple[int, int] = (80, 24)
    monitor: bool = False
    us: list[float] = field(default_factory=list)
    longest_ms: list[float] = field(default_factory=list)
    _sent: bytes = b""

    def __post_init__(self) -> None:
        self.pieces = answer(self.shape, self.count)
        self.events: list[Event] = [Opened("bench", "bench", 1), *deltas(self.pieces)]

    def run(self) -> None:
        with opened_loop() as loop:
            bare_s = streamed(loop, self._context(loop)[0], self.events, lambda: None)
        with opened_loop() as loop, terminal(*self.size) as (fd, sent):
            drawn_s = self._drawn(loop, fd)
            self._look(sent())
        self.us.append((drawn_s - bare_s) / self.count * 1e6)
        self.longest_ms.append(loop.longest_s * 1e3)

    def _context(self, loop: Loop) -> tuple[RunContext, Recorder]:
        recorder = Recorder(loop.time())
        return RunContext(clock=loop.time, started_s=loop.time(), listeners=(recorder.handle,)), recorder

    def _drawn(self, loop: Loop, fd: int) -> float:
        context, recorder = self._context(loop)
        upstream = Upstream(Target("http://bench.invalid/v1", "bench"), None, Breaker(), Limiter(Limits(500, 200_000)))
        figures = GuardFigures()
        figures.take_hold(HoldLog())
        sinks: list[Sink] = create_sinks(
            RenderOptions(monitor=self.monitor),
            clock=loop.time,
            started_s=loop.time(),
            snapshot=recorder.snapshot,
            on_broken_pipe=lambda: None,
            stages=lambda: stage_states(upstream, figures),
            stdout_fd=fd,
            stderr_fd=fd,
            environ={"TERM": "xterm-256color"},
            encoding="utf-8",
        )
        for sink in sinks:
            context.add_listener(sink.handle)
        last = report("".join(self.pieces))

        def end() -> None:
            for sink in sinks:
                sink.finish(last)
            for sink in sinks:
                sink.close()

        return streamed(loop, context, self.events, end)

    def _look(self, sent: bytes) -> None:
        """The words on the screen are those of the answer; after the first time the same bytes must come."""
        if self._sent:
            if sent != self._sent:
                raise Check(f"{self.shape}: not the same bytes as before")
            return
        self._sent = sent
        emulator = ScreenEmulator(*self.size)
        emulator.write(sent.decode())
        expected = re.findall(r"\w+", "".join(self.pieces))
        shown = re.findall(r"\w+", emulator.text())
        figures = shown[len(expected) :]
        if shown[: len(expected)] != expected or bool(figures) != self.monitor:
            place = next((n for n, (a, b) in enumerate(zip(shown, expected, strict=False)) if a != b), len(expected))
            raise Check(f"{self.shape}: {shown[place : place + 9]} instead of {expected[place : place + 9]}")


def live(pieces: Sequence[str], size: tuple[int, int]) -> float:
    """Microseconds per token of rich's own way: all of the answer, as often as we draw."""
    with open(os.devnull, "w", encoding="utf-8") as null:
        console = Console(file=null, force_terminal=True, width=size[0], height=size[1], legacy_windows=False)
        started_s = time.process_time()
        text, due_s, frames = "", 0.0, 0
        with Live(Markdown(text), console=console, auto_refresh=False) as shown:
            for number, piece in enumerate(pieces):
                text += piece
                if number * TOKEN_S >= due_s:
                    shown.update(Markdown(text), refresh=True)
                    due_s = number * TOKEN_S + FRAME_S
                    frames += 1
            shown.update(Markdown(text), refresh=True)
        elapsed_s = time.process_time() - started_s
    assert frames > len(pieces) * TOKEN_S / FRAME_S * 0.8
    return elapsed_s / len(pieces) * 1e6


class Plain:
    """The cost of the plain sink and of a bare write with a flush, per token and without the loop."""

    def __init__(self, name: str, per_read: int) -> None:
        self.name, self.per_read = name, per_read
        pieces = tokens(prose())[:LONG]
        text = "".join(pieces)
        self._end = "" if text.endswith("\n") else "\n"
        self._expected = (text + self._end).encode()
        events = deltas(pieces)
        self._batches = [events[at : at + per_read] for at in range(0, len(events), per_read)]
        self.rows: list[tuple[float, float]] = []

    def run(self) -> None:
        with ExitStack() as stack:
            (sink_fd, by_sink), (bare_fd, by_bare) = (stack.enter_context(self._target()) for _ in range(2))
            sink = PlainSink(FdWriter(sink_fd))
            out = os.fdopen(bare_fd, "w", encoding="utf-8", newline="", closefd=False)

            def write(event: Event, now: float) -> None:
                assert isinstance(event, TextDelta)
                out.write(event.text)
                out.flush()

            idle_s, sink_s, bare_s = asyncio.run(self._timed(lambda event, now: None, sink.handle, write))
            sink.close()
            out.write(self._end)
            out.close()
            if not {by_sink(), by_bare()} <= {None, self._expected}:
                raise Check(f"{self.name}: other bytes than the answer")
        self.rows.append(((sink_s - idle_s) / LONG * 1e6, (bare_s - idle_s) / LONG * 1e6))

    @contextmanager
    def _target(self) -> Iterator[tuple[int, Callable[[], bytes | None]]]:
        if self.name == "pipe":
            with reader_of(*os.pipe()) as opened:
                yield opened
        else:
            with open(os.devnull, "wb") as null:
                yield null.fileno(), lambda: None

    async def _timed(self, *handlers: Callable[[Event, float], None]) -> list[float]:
        """CPU seconds of each of *handlers* with the same events, in turns of some reads each."""
        used_s = [0.0] * len(handlers)
        for at in range(0, len(self._batches), READS_PER_TURN):
            batches = self._batches[at : at + READS_PER_TURN]
            for index, handle in enumerate(handlers):
                started_s = time.process_time()
                for batch in batches:
                    for event in batch:
                        handle(event, 0.0)
                    await asyncio.sleep(0)
                used_s[index] += time.process_time() - started_s
        return used_s


def shown(values: Sequence[float], digits: int = 0) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def print_plain(cases: Sequence[Plain]) -> None:
    print(f"\nplain text, us per token (budget {PLAIN_BUDGET_US:g}):\n")
    print("| into | tokens per read | plain sink | write and flush | ratio |\n|---|---|---|---|---|")
    for one in cases:
        ours, bare = zip(*one.rows, strict=True)
        ratios = [a / b for a, b in one.rows]
        print(f"| {one.name} | {one.per_read} | {shown(ours, 2)} | {shown(bare, 2)} | {shown(ratios, 2)} |")


def print_markdown(pairs: Sequence[tuple[Drawn, Drawn]], lives: Sequence[float]) -> None:
    print(f"\nMarkdown on 80x24, us per token (budget {MARKDOWN_BUDGET_US:g}; growth {GROWTH_BUDGET:g}):\n")
    print(f"| answer | {SHORT:,} tokens | {LONG:,} tokens | growth | longest turn, ms |\n|---|---|---|---|---|")
    for short, long in pairs:
        growth = [b / a for a, b in zip(short.us, long.us, strict=True)]
        cells = (shown(short.us), shown(long.us), shown(growth, 2), shown(long.longest_ms, 1))
        print(f"| {short.shape} | {' | '.join(cells)} |")
    first = pairs[0][0]
    ratios = [theirs / ours for theirs, ours in zip(lives, first.us, strict=True)]
    print(f"\nrich.live.Live, {first.shape}, {SHORT:,} tokens: {shown(lives)}, {shown(ratios, 1)} times as much")


def print_panel(pairs: Sequence[tuple[Drawn, Drawn]]) -> None:
    print(f"\nshare of one core at {1 / TOKEN_S:g} tokens/s, % (budget of the panel {PANEL_BUDGET * 100:g}):\n")
    print("| terminal | answer | with the panel | the panel |\n|---|---|---|---|")
    percent = 100 / TOKEN_S / 1e6
    for without, with_it in pairs:
        alone, both = ([us * percent for us in one.us] for one in (without, with_it))
        panel = [b - a for a, b in zip(alone, both, strict=True)]
        name = "x".join(map(str, without.size))
        print(f"| {name} | {shown(alone, 2)} | {shown(both, 2)} | {shown(panel, 2)} |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = max(2, parser.parse_args().rounds)
    plain = [Plain(name, per_read) for name in ("pipe", "/dev/null") for per_read in (1, 4)]
    drawn = [(Drawn(shape, SHORT), Drawn(shape, LONG)) for shape in SHAPES]
    first = next(iter(SHAPES))
    panels = [(Drawn(first, 2 * SHORT, size), Drawn(first, 2 * SHORT, size, monitor=True)) for size in SIZES]
    lives: list[float] = []
    try:
        for number in range(rounds + 1):
            for case in plain:
                case.run()
            for case in itertools.chain(*drawn, *panels):
                case.run()
            lives.append(live(answer(first, SHORT), SIZES[0]))
            if number == 0:  # the first round only warms up
                for rows in (*(case.rows for case in plain), lives):
                    rows.clear()
                for case in itertools.chain(*drawn, *panels):
                    case.us.clear()
                    case.longest_ms.clear()
    except Check as error:
        print(f"WRONG: {error}")
        return 1
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, {rounds} rounds")
    print_plain(plain)
    print_markdown(drawn, lives)
    print_panel(panels)
    return 0


if __name__ == "__main__":
    sys.exit(main())
