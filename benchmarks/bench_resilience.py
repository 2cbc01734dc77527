"""What the resilient layer costs while nothing fails: `python benchmarks/bench_resilience.py [--rounds N]`.

The same prepared answer is read twice in turn: by a bare async generator, and through a `ResilientStream` (breaker, no
limiter). Their difference is what the layer costs: the clock, the text kept for a resume, the search for loops, the
permit and the figures that are reported at the end. Every answer is compared after it was timed. Time is that of the
thread, so that what else runs on the machine does not count. Printed are medians of the rounds with their quartiles;
differences and ratios are taken round by round. Exit code 1 if a budget is exceeded.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from utils.clock import Clock, monotonic  # noqa: E402
from utils.events import Event, Finished, TextDelta, TokenLogprob  # noqa: E402
from utils.resilience.adapting import Adaptation  # noqa: E402
from utils.resilience.breaker import Breaker, Permit  # noqa: E402
from utils.resilience.continuation import Detected  # noqa: E402
from utils.resilience.rate_headers import RateHeaders  # noqa: E402
from utils.resilience.resilient_stream import Opener  # noqa: E402
from utils.resilience.upstream import Upstream  # noqa: E402
from utils.run_context import Request, RunContext, Target  # noqa: E402

CHUNK_CHARS = 4
CHUNK_BUDGET_US = 0.5
BREAKER_BUDGET_US = 3.0
CHUNKS_PER_ROUND = 4_000
"""Answers are repeated until a round has read so many: long enough to time, short enough to fall between two pauses."""
REQUESTS_PER_ROUND = 100
GAPS_S = (0.011, 0.019, 0.014, 0.027, 0.016, 0.021, 0.012, 0.045, 0.018, 0.015, 0.023)
"""Between the reads of a server that writes 50 chunks per second; the mocked ones come within a microsecond."""
BREAKER = "breaker: admit, first content, success"
TARGET = Target("http://bench.invalid/v1", "bench")


class Source:
    """A mocked open answer: every read finds its batch prepared."""

    rate_headers = RateHeaders()

    def __init__(self, batches: Sequence[list[Event]]) -> None:
        self._batches: Iterator[list[Event]] = iter(batches)

    async def next_batch(self) -> list[Event]:
        return next(self._batches)

    async def aclose(self) -> None:
        pass


class Prepared:
    """A backend that plays the same batches to everybody."""

    def __init__(self, batches: Sequence[list[Event]]) -> None:
        self.batches = batches

    async def open_chat(self, *args: Any, **options: Any) -> Source:
        return Source(self.batches)

    async def detect(self, *args: Any) -> Detected:
        return Detected()


@dataclass(frozen=True)
class Case:
    """One answer, cut into batches."""

    name: str
    text: str
    batches: list[list[Event]]


def prose(chars: int) -> str:
    """The project's own prose: it has tables and code in it, and repeats itself no more than answers do."""
    files = [ROOT / "README.md", *sorted((ROOT / "docs" / "decisions").glob("*.md"))]
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    assert len(text) >= chars
    return text[:chars]


def made(chunks: int, per_batch: int, *, logprobs: bool) -> Case:
    text = prose(chunks * CHUNK_CHARS)
    pieces = [text[place : place + CHUNK_CHARS] for place in range(0, len(text), CHUNK_CHARS)]
    deltas: list[Event] = [
        TextDelta(piece, (TokenLogprob(piece, -0.25),)) if logprobs else TextDelta(piece) for piece in pieces
    ]
    batches = [deltas[place : place + per_batch] for place in range(0, len(deltas), per_batch)]
    name = f"{chunks:,} chunks, {per_batch} per read{', logprobs' if logprobs else ''}"
    return Case(name, text, [*batches, [Finished("stop")]])


async def bare(source: Source) -> AsyncGenerator[Event, None]:
    """What any driver has to do: read a batch, hand its events on."""
    while True:
        for event in await source.next_batch():
            yield event
            if type(event) is Finished:
                return


async def drained(stream: AsyncIterator[Event], case: Case, count: int) -> float:
    """Seconds to read *stream* to its end; it must be the answer of *case*, *count* events long."""
    events: list[Event] = []
    append = events.append
    started_s = time.thread_time()
    async for event in stream:
        append(event)
    elapsed_s = time.thread_time() - started_s
    assert len(events) == count
    assert events[-1] == Finished("stop")
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == case.text
    return elapsed_s


def jumping() -> Clock:
    """A clock that is as cheap to read as the real one, and at every look one of the gaps later."""
    clock: Clock = itertools.accumulate(itertools.cycle(GAPS_S)).__next__
    return clock


def request(clock: Clock = monotonic) -> Request:
    return Request("Say it.", RunContext(clock=clock, started_s=clock()))


def opener(batches: Sequence[list[Event]], adaptation: Adaptation | None) -> Opener:
    return Opener([Upstream(TARGET, Prepared(batches), Breaker())], rng=random.Random(1), adaptation=adaptation)


class Chunks:
    """Microseconds per chunk of one case, round by round: bare, and through the layer."""

    def __init__(self, case: Case, *, adaptation: Adaptation | None = None, clock: Clock = monotonic) -> None:
        self.name = case.name + (", adaptive" if adaptation else "") + (", 20 ms apart" if clock != monotonic else "")
        self.rows: list[tuple[float, float]] = []
        self._case = case
        self._clock = clock
        self._opener = opener(case.batches, adaptation)
        self._count = sum(map(len, case.batches))
        self._repeats = max(1, CHUNKS_PER_ROUND // self._count)

    async def measure(self) -> None:
        """One round, in which both take turns at being first."""
        case, count = self._case, self._count
        bare_s = layered_s = 0.0
        for number in range(self._repeats):
            for is_bare in (True, False) if number % 2 else (False, True):
                if is_bare:
                    bare_s += await drained(bare(Source(case.batches)), case, count)
                else:
                    stream = await self._opener.open(request(self._clock))
                    layered_s += await drained(stream, case, count)
                    await stream.aclose()
        per_chunk = 1e6 / (count * self._repeats)
        self.rows.append((bare_s * per_chunk, layered_s * per_chunk))


async def breaker_calls(count: int) -> float:
    """Seconds for *count* requests as the breaker sees them: let in, first content, whole."""
    breaker, clock = Breaker(), monotonic
    started_s = time.thread_time()
    for _ in range(count):
        permit = breaker.admit(clock())
        assert isinstance(permit, Permit)
        permit.first_content(clock())
        permit.succeed(clock())
    elapsed_s = time.thread_time() - started_s
    assert breaker.statistics().succeeded == count
    return elapsed_s


async def clock_calls(count: int) -> float:
    """What the three looks at the clock in `breaker_calls` cost by themselves."""
    clock = monotonic
    started_s = time.thread_time()
    for _ in range(count):
        clock()
        clock()
        clock()
    return time.thread_time() - started_s


def whole_requests(adaptation: Adaptation | None) -> Callable[[int], Awaitable[float]]:
    """Open, read and close answers of one chunk."""
    answer: list[list[Event]] = [[TextDelta("Yes.")], [Finished("stop")]]
    one = opener(answer, adaptation)

    async def case(count: int) -> float:
        requests = [request() for _ in range(count)]
        started_s = time.thread_time()
        for asked in requests:
            stream = await one.open(asked)
            read = [event async for event in stream]
            await stream.aclose()
            assert len(read) == 2
        return time.thread_time() - started_s

    return case


async def bare_requests(count: int) -> float:
    answer: list[list[Event]] = [[TextDelta("Yes.")], [Finished("stop")]]
    started_s = time.thread_time()
    for _ in range(count):
        stream = bare(Source(answer))
        read = [event async for event in stream]
        await stream.aclose()
        assert len(read) == 2
    return time.thread_time() - started_s


def shown(values: Sequence[float], digits: int = 2) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=101)
    rounds = parser.parse_args().rounds
    chunk_cases: list[Chunks] = []
    for count, per_batch, logprobs in itertools.product((200, 2_000), (1, 4), (False, True)):
        case = made(count, per_batch, logprobs=logprobs)
        chunk_cases += [Chunks(case), Chunks(case, adaptation=Adaptation())]
        if per_batch == 1:
            chunk_cases.append(Chunks(case, clock=jumping()))
    request_cases: dict[str, Callable[[int], Awaitable[float]]] = {
        BREAKER: breaker_calls,
        "of that, three looks at the clock": clock_calls,
        "read and close a bare answer of one chunk": bare_requests,
        "open, read and close a resilient one": whole_requests(None),
        "the same, adaptive": whole_requests(Adaptation()),
    }
    request_rows: dict[str, list[float]] = {name: [] for name in request_cases}
    for number in range(rounds + 1):
        for one in chunk_cases:
            await one.measure()
        for name, measure in request_cases.items():
            request_rows[name].append(await measure(REQUESTS_PER_ROUND) / REQUESTS_PER_ROUND * 1e6)
        if number == 0:  # the first round only warms up
            for one in chunk_cases:
                one.rows.clear()
            for row in request_rows.values():
                row.clear()
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, {rounds} rounds\n")
    print("us per chunk, median (quartiles):\n")
    print("| answer | bare | resilient | difference | ratio |\n|---|---|---|---|---|")
    worst_us = 0.0
    for one in chunk_cases:
        alone, layered = zip(*one.rows, strict=True)
        differences = [with_it - without for without, with_it in one.rows]
        ratios = [with_it / without for without, with_it in one.rows]
        worst_us = max(worst_us, statistics.median(differences))
        print(f"| {one.name} | {' | '.join(map(shown, (alone, layered, differences, ratios)))} |")
    print("\nus per request, median (quartiles):\n")
    print("| what | us |\n|---|---|")
    for name, row in request_rows.items():
        print(f"| {name} | {shown(row)} |")
    breaker_us = statistics.median(request_rows[BREAKER])
    print(f"\nat most {worst_us:.2f} us per chunk (budget {CHUNK_BUDGET_US:g})")
    print(f"the breaker: {breaker_us:.2f} us per request (budget {BREAKER_BUDGET_US:g})")
    return 0 if worst_us <= CHUNK_BUDGET_US and breaker_us <= BREAKER_BUDGET_US else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
