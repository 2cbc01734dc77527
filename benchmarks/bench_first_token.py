"""Seconds from the start of the process to the first character on a pipe: `python benchmarks/bench_first_token.py`.

Once with an empty cache (the model is fetched), then --rounds times with the model in place.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ARGUMENTS = ["main.py", "--max-tokens", "24", "Name three rivers."]


def seconds(cache: Path) -> tuple[float, float]:
    """(first character, end) in seconds after the start; checks that the answer came and the exit code is 0."""
    environ = {**os.environ, "KAYGRAPH_CACHE_DIR": str(cache)}
    started_s = time.perf_counter()
    program = subprocess.Popen(
        [sys.executable, *ARGUMENTS],
        cwd=ROOT,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert program.stdout is not None
    first = program.stdout.read(1)
    first_s = time.perf_counter() - started_s
    rest = program.stdout.read()
    assert program.wait() == 0, f"exit code {program.returncode}"
    assert len(first + rest) > 20, "no answer"
    return first_s, time.perf_counter() - started_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as directory:
        cache = Path(directory)
        print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores")
        print(f"first run, with the fetch: first character after {seconds(cache)[0]:.2f} s")
        times = [seconds(cache)[0] for _ in range(rounds)]
    low, middle, high = statistics.quantiles(times, n=4)
    print(f"later runs ({rounds}): median {middle:.2f} s, quartiles {low:.2f} to {high:.2f}, min {min(times):.2f}")


if __name__ == "__main__":
    main()
