"""Executed bytecodes per chunk of the pure cores: `python benchmarks/count_bytecodes.py [--times] [--write]`.

Times depend on the machine and on what else it does; how many instructions the interpreter executes does not. Every
instruction of a frame in this project is counted by a trace function (what C code does is not seen). Each core reads
the same 400 chunks of prose, once to warm up and once counted. `--write` stores the counts as the baseline of this
Python version in benchmarks/bytecodes.json; tests/benchmarks/test_bytecodes.py fails if a core executes 15 % more.
`--times` measures the microseconds, too (median of 31 runs, each core alone and warm).
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.upstream import events_of, text_of  # noqa: E402
from utils.chat_stream import ChatStreamDecoder  # noqa: E402
from utils.clock import monotonic  # noqa: E402
from utils.events import Event, Finished, TextDelta, Usage  # noqa: E402
from utils.guardrails.policy import DEFAULT_PACKS, compile_rules  # noqa: E402
from utils.guardrails.redactor import Redactor  # noqa: E402
from utils.metrics.recorder import Recorder  # noqa: E402
from utils.render.output import FdWriter  # noqa: E402
from utils.render.plain import PlainSink  # noqa: E402
from utils.resilience.continuation import Detected  # noqa: E402
from utils.resilience.rate_headers import RateHeaders  # noqa: E402
from utils.resilience.resilient_stream import Opener  # noqa: E402
from utils.resilience.upstream import Upstream  # noqa: E402
from utils.run_context import Request, RunContext, Target  # noqa: E402
from utils.sse import SSEDecoder  # noqa: E402

__all__ = ["BASELINE", "CORES", "bytecodes_per_chunk"]

CHUNKS = 400
BASELINE = ROOT / "benchmarks" / "bytecodes.json"
WIRE = events_of(CHUNKS)
WORDS = [f"{word} " for word in text_of(CHUNKS).split(" ")[:CHUNKS]]
RULES = compile_rules(DEFAULT_PACKS)


def _sse() -> None:
    decoder = SSEDecoder()
    for event in WIRE:
        decoder.feed(event)
    decoder.finish()


def _decoder() -> None:
    decoder = ChatStreamDecoder(target="bench", attempt=1)
    for event in WIRE:
        decoder.feed(event)
    decoder.finish()


def _guard() -> None:
    redactor = Redactor(RULES)
    for word in WORDS:
        redactor.feed(word)
    redactor.finish()


_new_words = itertools.count()


def _guard_unseen() -> None:
    redactor = Redactor(RULES)
    for word in WORDS:
        # Letters in the place of the digits of a number that never comes again.
        mark = str(next(_new_words)).translate(_LETTERS)
        redactor.feed(f"{word[:-1]}{mark} ")
    redactor.finish()


_LETTERS = str.maketrans("0123456789", "aeinorstlu")


def _recorder() -> None:
    recorder = Recorder(0.0)
    for number, word in enumerate(WORDS):
        recorder.handle(TextDelta(word), number * 0.01)
    recorder.handle(Finished("stop"), CHUNKS * 0.01)


def _sink() -> None:
    with open(os.devnull, "wb", buffering=0) as file:
        sink = PlainSink(FdWriter(file.fileno()))
        for word in WORDS:
            sink.handle(TextDelta(word), 0.0)


class _Source:
    rate_headers = RateHeaders()

    def __init__(self) -> None:
        self._batches = iter([*([TextDelta(word)] for word in WORDS), [Usage(9, CHUNKS, CHUNKS + 9), Finished("stop")]])

    async def next_batch(self) -> list[Event]:
        return next(self._batches)

    async def aclose(self) -> None:
        pass


class _Prepared:
    async def open_chat(self, *args: Any, **options: Any) -> _Source:
        return _Source()

    async def detect(self, *args: Any) -> Detected:
        return Detected()


def _resilient() -> None:
    async def main() -> None:
        opener = Opener([Upstream(Target("http://bench.invalid/v1", "bench"), _Prepared())])
        stream = await opener.open(Request("?", RunContext(clock=monotonic, started_s=monotonic())))
        async for _ in stream:
            pass
        await stream.aclose()

    asyncio.run(main())


CORES: dict[str, Callable[[], None]] = {
    "sse": _sse,
    "sse and decoder": _decoder,
    "guard, default packs": _guard,
    "guard, words never seen before": _guard_unseen,
    "recorder": _recorder,
    "resilient layer": _resilient,
    "plain sink": _sink,
}


def bytecodes_per_chunk(work: Callable[[], None]) -> float:
    """Instructions that the frames of this project (but this file's) execute for a chunk, after one run to warm up."""
    work()
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        if event == "opcode":
            count += 1
        elif event == "call":
            name = frame.f_code.co_filename
            if not name.startswith(str(ROOT)) or name == __file__:
                return None
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count / CHUNKS


def us_per_chunk(work: Callable[[], None]) -> float:
    """CPU microseconds for a chunk."""
    times = []
    for _ in range(31):
        started_s = time.process_time()
        work()
        times.append((time.process_time() - started_s) / CHUNKS * 1e6)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="make these counts the baseline")
    parser.add_argument("--times", action="store_true", help="measure microseconds, too")
    options = parser.parse_args()
    python = ".".join(platform.python_version_tuple()[:2])
    kept: dict[str, dict[str, float]] = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    counts = {name: round(bytecodes_per_chunk(work), 1) for name, work in CORES.items()}
    print(f"Python {python}, executed bytecodes per chunk\n\n| core | now | baseline |\n| --- | --- | --- |")
    for name, count in counts.items():
        print(f"| {name} | {count} | {kept.get(python, {}).get(name, '-')} |")
    if options.times:
        print("\n| core | us per chunk |\n| --- | --- |")
        for name, work in CORES.items():
            print(f"| {name} | {us_per_chunk(work):.2f} |")
    if options.write:
        BASELINE.write_text(json.dumps({**kept, python: counts}, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
