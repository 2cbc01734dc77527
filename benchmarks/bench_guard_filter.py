"""What the filter costs: `python benchmarks/bench_guard_filter.py [--rounds N] [--small MB] [--large MB]`.

Three inputs run through `python main.py guard` as a shell would run it: lines with an address each, prose, and noise
that is not UTF-8. The output is compared with what must come while it is timed. Printed are megabytes of input per
second and the largest resident memory for a small and a large input (it must not grow with the input: the exit code
is 1 if it does), the time to the first output of a stream that goes on, the time from a line's write to its arrival
behind the running filter, and the start-up beside bare Python with click.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, str(ROOT / "main.py"), "guard", "-q"]
GROWTH_MAX_KB = 2048
"""Memory of two runs of the same program differs by some hundred kB; a copy of the input would be many MB."""
BLOCK = 1 << 16


def clean_environment() -> dict[str, str]:
    unwanted = ("KAYGRAPH_API_KEY", "OPENAI_API_KEY", "PYTHONDONTWRITEBYTECODE")
    return {name: value for name, value in os.environ.items() if name not in unwanted}


def inputs() -> dict[str, tuple[bytes, bytes]]:
    """Name to a unit of input and the unit of output that must come of it; units are repeated."""
    source = random.Random(11)
    noise = bytes(source.choice(b"\x80\x9f\xa5\xc3\xe2\xf0\xfe\xff \n") for _ in range(4096)) + b"\n"
    prose = (ROOT / "docs" / "decisions" / "0003-the-graph-wires-the-stream-flows.md").read_bytes() + b"\n"
    return {
        "an address per line": (b"mail bob@example.com now\n", b"mail [EMAIL] now\n"),
        "prose": (prose, prose),
        "not UTF-8": (noise, noise),
    }


def write_input(path: Path, unit: bytes, size: int) -> int:
    """Fill *path* with whole units, at least *size* bytes; how many units."""
    count = -(-size // len(unit))
    block = unit * max(1, BLOCK // len(unit))
    per_block = len(block) // len(unit)
    with path.open("wb") as file:
        for _ in range(count // per_block):
            file.write(block)
        file.write(unit * (count % per_block))
    return count


def check(shown: BinaryIO, unit: bytes, count: int) -> None:
    """Compare the stream with *count* times *unit*, in bounded memory."""
    block = unit * max(1, BLOCK // len(unit))
    left = count * len(unit)
    while left:
        expected = block[: min(len(block), left)]
        assert shown.read(len(expected)) == expected, "the output is not what it must be"
        left -= len(expected)
    assert shown.read(1) == b"", "the output goes on"


def run(source: Path, unit: bytes, count: int) -> tuple[float, int]:
    """Seconds, and the largest resident memory in kB, of one run whose output is *count* times *unit*."""
    started_s = time.perf_counter()
    with source.open("rb") as stdin:
        process = subprocess.Popen(COMMAND, stdin=stdin, stdout=subprocess.PIPE, env=clean_environment())
    assert process.stdout is not None
    with process.stdout as shown:
        check(shown, unit, count)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    elapsed_s = time.perf_counter() - started_s
    assert process.returncode == 0, process.returncode
    return elapsed_s, usage.ru_maxrss // (1024 if sys.platform == "darwin" else 1)


def throughput(rounds: int, sizes_mb: list[int]) -> bool:
    """Print the table; whether memory stayed flat."""
    is_flat = True
    print(f"{'input':22} {'size':>7} {'MB/s':>7}  {'quartiles':14} {'peak memory':>12}")
    with tempfile.TemporaryDirectory() as place:
        for name, (unit, shown) in inputs().items():
            peaks = []
            for size_mb in sizes_mb:
                source = Path(place) / "input"
                count = write_input(source, unit, size_mb * 1_000_000)
                runs = [run(source, shown, count) for _ in range(rounds)]
                rates = [count * len(unit) / 1e6 / elapsed_s for elapsed_s, _ in runs]
                low, middle, high = statistics.quantiles(rates, n=4) if rounds > 1 else rates * 3
                peaks.append(max(kb for _, kb in runs))
                spread = f"{low:.2f} to {high:.2f}"
                print(f"{name:22} {size_mb:4} MB {middle:7.2f}  {spread:14} {peaks[-1] / 1024:9.1f} MB")
            is_flat = is_flat and peaks[-1] - peaks[0] <= GROWTH_MAX_KB
    return is_flat


def first_output() -> Iterator[float]:
    """Seconds from a filter that waits to the first byte, when more input is ready than it can work off."""
    unit = b"mail bob@example.com now\n"
    with subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=clean_environment()) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"ready\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"ready\n"
        for _ in range(20):
            started_s = time.perf_counter()
            os.write(process.stdin.fileno(), unit * (60_000 // len(unit)))
            assert process.stdout.readline() == b"mail [EMAIL] now\n"
            yield time.perf_counter() - started_s
            for _ in range(60_000 // len(unit) - 1):
                assert process.stdout.readline() == b"mail [EMAIL] now\n"
        process.stdin.close()


def line_delay(lines: int = 2000) -> Iterator[float]:
    """Seconds from the write of a line to its arrival, one line at a time."""
    with subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=clean_environment()) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for n in range(lines):
            started_s = time.perf_counter()
            os.write(process.stdin.fileno(), b"%d mail bob@example.com now\n" % n)
            assert os.read(process.stdout.fileno(), BLOCK) == b"%d mail [EMAIL] now\n" % n
            yield time.perf_counter() - started_s
        process.stdin.close()


def start_up(rounds: int) -> None:
    """Print how long an empty input takes, beside bare Python and beside Python with click."""
    commands = {"python -c pass": ["-c", "pass"], "python -c 'import click'": ["-c", "import click"]}
    commands["main.py guard </dev/null"] = COMMAND[1:]
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds + 1):
        for name, arguments in commands.items():
            started_s = time.perf_counter()
            subprocess.run([sys.executable, *arguments], stdin=subprocess.DEVNULL, check=True, env=clean_environment())
            times[name].append(time.perf_counter() - started_s)
    for name, row in times.items():
        print(f"start-up, {name:28} {statistics.median(row[1:]) * 1000:6.1f} ms")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", type=int, default=5, metavar="MB")
    parser.add_argument("--large", type=int, default=50, metavar="MB")
    arguments = parser.parse_args()
    print(
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, {arguments.rounds} rounds"
    )
    is_flat = throughput(arguments.rounds, [arguments.small, arguments.large])
    print(f"first line of a ready block of 60 kB: {statistics.median(first_output()) * 1000:.1f} ms (median of 20)")
    delays = statistics.quantiles(line_delay(), n=100)
    print(f"one line at a time: {delays[49] * 1e6:.0f} us (median), {delays[98] * 1e6:.0f} us (p99 of 2,000)")
    start_up(max(11, arguments.rounds))
    if not is_flat:
        print(f"memory grew with the input by more than {GROWTH_MAX_KB} kB")
    return 0 if is_flat else 1


if __name__ == "__main__":
    sys.exit(main())
