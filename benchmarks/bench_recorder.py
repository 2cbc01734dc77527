"""What the recorder costs: `python benchmarks/bench_recorder.py [--rounds N]`.

Microseconds per event of `Recorder.handle`, alone and behind `RunContext.emit` with the real clock, for chunks of text
with and without logprobs, for a text that is one loop (the search for loops finds something every time) and for one
that is not ASCII. The empty loop is left out, and what was recorded is compared with what was sent. Then the memory of
a recorder after long answers, each in a process of its own: what was allocated (tracemalloc), and how much the process
grew. Besides the text it must not grow with the length of the answer. Medians (quartiles) of interleaved rounds; time
is that of the thread. Exit code 1 if something was recorded wrong, never because of a time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.bench_guard import prose, tokens  # noqa: E402
from utils.clock import monotonic  # noqa: E402
from utils.events import Event, Finished, Opened, TextDelta, TokenLogprob  # noqa: E402
from utils.metrics.recorder import MAX_SAMPLES, Recorder  # noqa: E402
from utils.run_context import RunContext  # noqa: E402

BUDGET_US = 1.0
EVENTS = 8_000
GAP_S = 0.01
LENGTHS = (1_000, 100_000, 300_000)
TEXTS: dict[str, Callable[[], list[str]]] = {
    "prose": lambda: tokens(prose())[:EVENTS],
    "one loop": lambda: tokens("the same again and again. " * EVENTS)[:EVENTS],
    "not ASCII": lambda: tokens(prose().replace("e", "é").replace("a", "漢"))[:EVENTS],
}


def ignore(event: Event, now: float) -> None:
    """A listener that does nothing."""


@dataclass
class Case:
    """One answer and one way to the recorder: microseconds per event, round by round."""

    text: str
    with_logprobs: bool
    us: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = random.Random(1)
        self.pieces = TEXTS[self.text]()
        self.events: list[Event] = [
            TextDelta(piece, (TokenLogprob(piece, -rng.random()),) if self.with_logprobs else ())
            for piece in self.pieces
        ]
        self.times = [GAP_S * number for number in range(1, len(self.events) + 1)]
        self.us = {"handle": [], "emit": [], "emit to nobody": []}

    def run(self) -> None:
        events, times = self.events, self.times
        started_s = time.thread_time()
        for _event, _now in zip(events, times, strict=True):
            pass
        empty_s = time.thread_time() - started_s

        recorder = Recorder(0.0)
        handle = recorder.handle
        started_s = time.thread_time()
        for event, now in zip(events, times, strict=True):
            handle(event, now)
        self._note("handle", time.thread_time() - started_s - empty_s)
        self._look(recorder)

        recorder = Recorder(monotonic())
        for name, listener in (("emit", recorder.handle), ("emit to nobody", ignore)):
            emit = RunContext(clock=monotonic, started_s=recorder.started_s, listeners=(listener,)).emit
            started_s = time.thread_time()
            for event, _now in zip(events, times, strict=True):
                emit(event)
            self._note(name, time.thread_time() - started_s - empty_s)
        self._look(recorder)

    def _note(self, name: str, elapsed_s: float) -> None:
        self.us[name].append(elapsed_s / len(self.events) * 1e6)

    def _look(self, recorder: Recorder) -> None:
        look(recorder, "".join(self.pieces), len(self.pieces), with_logprobs=self.with_logprobs)
        assert (recorder.repetition is not None) == (self.text == "one loop"), "a loop was not seen, or seen in prose"


def look(recorder: Recorder, text: str, chunks: int, *, with_logprobs: bool) -> None:
    """What was recorded must be what was sent."""
    recorder.handle(Finished("stop"), recorder.started_s + 1e6)
    metrics, confidence = recorder.metrics(0.0), recorder.quality()["confidence"]
    assert recorder.text == text, "another text"
    assert metrics["chunks"] == chunks
    assert metrics["chars"] == len(text)
    assert len(recorder.latencies()) == min(chunks - 1, MAX_SAMPLES)
    assert (confidence is not None) == with_logprobs
    assert confidence is None or confidence["tokens"] + confidence["left_out"] == chunks


def snapshots(count: int) -> float:
    """Microseconds per look at a stream of 8,000 tokens with logprobs, as the live panel takes it."""
    recorder = Recorder(0.0)
    for event, now in zip(Case("prose", True).events, itertools.count(1), strict=False):
        recorder.handle(event, now * GAP_S)
    started_s = time.thread_time()
    for _ in range(count):
        now = recorder.snapshot(EVENTS * GAP_S)
    elapsed_s = time.thread_time() - started_s
    assert now.chunks == EVENTS
    assert len(now.latencies_s) == len(now.confidence) == 64
    return elapsed_s / count * 1e6


def long_answer(count: int, *, with_logprobs: bool) -> Iterator[Event]:
    """Events that nobody else holds."""
    text, rng = prose(), random.Random(1)
    for number in range(count):
        at = number * 4 % (len(text) - 4)
        piece = text[at : at + 4]
        yield TextDelta(piece, (TokenLogprob(piece, -rng.random()),) if with_logprobs else ())


def resident() -> int:
    """Bytes of memory that the process occupies."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def remember(count: int, with_logprobs: bool, is_traced: bool) -> None:
    """The body of a process: record, and print how many bytes that took, and how many are text."""
    prose()
    warm = Recorder(0.0)
    for event in long_answer(1_000, with_logprobs=with_logprobs):
        warm.handle(event, 0.0)
    del warm
    if is_traced:
        tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0] if is_traced else resident()
    recorder = Recorder(0.0)
    recorder.handle(Opened("bench", "bench", 1), 0.0)
    handle = recorder.handle
    for number, event in enumerate(long_answer(count, with_logprobs=with_logprobs), 1):
        handle(event, number * GAP_S)
    del event
    taken = (tracemalloc.get_traced_memory()[0] if is_traced else resident()) - before
    tracemalloc.stop()
    text = "".join(event.text for event in long_answer(count, with_logprobs=False) if isinstance(event, TextDelta))
    look(recorder, text, count, with_logprobs=with_logprobs)
    print(json.dumps([taken, len(text.encode())]))


def memory(count: int, with_logprobs: bool, is_traced: bool) -> tuple[float, float]:
    """Megabytes taken, and of text."""
    arguments = json.dumps([count, with_logprobs, is_traced])
    command = [sys.executable, __file__, "--remember", arguments]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    taken, text = json.loads(output)
    return taken / 1e6, text / 1e6


def shown(values: Sequence[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def print_times(cases: Sequence[Case], looks: Sequence[float]) -> None:
    print(f"\nus per event (budget of the recorder {BUDGET_US:g}):\n")
    print("| text | logprobs | recorder alone | emit with it | emit to a listener that does nothing |")
    print("|---|---|---|---|---|")
    for case in cases:
        print(f"| {case.text} | {_word(case.with_logprobs)} | {' | '.join(map(shown, case.us.values()))} |")
    print(f"\na snapshot for the live panel: {shown(looks)} us")


def print_memory() -> None:
    print("\nmemory of a recorder, MB:\n")
    print("| tokens | logprobs | allocated | the text in it | besides | growth of the process |")
    print(f"|{'---|' * 6}")
    for with_logprobs, count in itertools.product((False, True), LENGTHS):
        taken, text = memory(count, with_logprobs, True)
        grown, _ = memory(count, with_logprobs, False)
        sizes = " | ".join(f"{size:.2f}" for size in (taken, text, taken - text, grown))
        print(f"| {count:,} | {_word(with_logprobs)} | {sizes} |")


def _word(is_so: bool) -> str:
    return "yes" if is_so else "no"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=51)
    parser.add_argument("--remember", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.remember:
        remember(*json.loads(arguments.remember))
        return 0
    cases = [Case(text, with_logprobs) for text in TEXTS for with_logprobs in (False, True)]
    looks: list[float] = []
    try:
        for number in range(max(2, arguments.rounds) + 1):
            for case in cases:
                case.run()
            looks.append(snapshots(50))
            if number == 0:  # the first round only warms up
                looks.clear()
                for case in cases:
                    for values in case.us.values():
                        values.clear()
        print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, {len(looks)} rounds")
        print_times(cases, looks)
        print_memory()
    except (AssertionError, subprocess.CalledProcessError) as error:
        print(f"WRONG: {error} {getattr(error, 'stderr', '')}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
