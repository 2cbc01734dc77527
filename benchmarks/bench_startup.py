"""How long the program takes to start, beside bare Python: `python benchmarks/bench_startup.py [--rounds N]`.

The commands run in turn (A B C A B C ...), so that a change of the machine's mood meets all of them; each is checked
while it is timed. Printed are medians, and the median of the ratios round by round with their quartiles.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMANDS: dict[str, tuple[list[str], str]] = {
    "python -c pass": (["-c", "pass"], ""),
    "python -c 'import click'": (["-c", "import click"], ""),
    "main.py --version": (["main.py", "--version"], "kaygraph-streaming-llm"),
    "main.py --help": (["main.py", "--help"], "--simulate-failures"),
    "main.py model --help": (["main.py", "model", "--help"], "fetch"),
}
BUDGET = 6.0


def seconds(arguments: list[str], expected: str) -> float:
    started_s = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
    )
    elapsed_s = time.perf_counter() - started_s
    assert expected in done.stdout, f"{arguments} did not print {expected!r}"
    return elapsed_s


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=25)
    rounds = parser.parse_args().rounds
    # Bytecode is written by the first import of any normal run; an environment that forbids it would time the compiler.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for arguments, expected in COMMANDS.values():
        seconds(arguments, expected)
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, (arguments, expected) in COMMANDS.items():
            times[name].append(seconds(arguments, expected))
    base = times["python -c pass"]
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, {rounds} rounds")
    print(f"{'command':26} {'median ms':>10} {'ratio':>6}  quartiles")
    for name, row in times.items():
        ratios = [own / bare for own, bare in zip(row, base, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(f"{name:26} {statistics.median(row) * 1000:10.1f} {middle:6.2f}  {low:.2f} to {high:.2f}")
    ratio = statistics.median(times["main.py --help"]) / statistics.median(base)
    print(f"--help takes {ratio:.2f}x of bare Python (ratio of medians; budget {BUDGET:g}x)")
    return 0 if ratio <= BUDGET else 1


if __name__ == "__main__":
    sys.exit(main())
