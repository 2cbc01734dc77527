"""All benchmarks of speed, one after the other: `python benchmarks/suite.py DIRECTORY [--quick] [--only NAME ...]`.

Writes DIRECTORY/results.md (what each of them prints), results.json (machine, versions, and the figures of those that
have a JSON form) and curves.svg. About 12 minutes; --quick takes few rounds and some 4. Nothing else should run beside
it. Exit code 1 if one of them ended so: a wrong text or, for those that say so, a budget missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PACKAGES = ("openai", "httpx2", "aiohttp", "msgspec", "pydantic", "rich", "click")
BENCHMARKS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # name: arguments, arguments that make it quick
    "bench_startup": ((), ("--rounds", "9")),
    "bench_first_token": ((), ("--rounds", "5")),
    "bench_flow": ((), ("--rounds", "5", "--first-rounds", "20")),
    "bench_many": ((), ("--rounds", "1", "--streams", "100", "1000")),
    "bench_curves": ((), ("--rounds", "2")),
    "bench_guard": ((), ()),
    "bench_recorder": ((), ("--rounds", "9")),
    "bench_render": (("--rounds", "5"), ("--rounds", "2")),
    "bench_resilience": ((), ()),
    "bench_graph": ((), ()),
    "count_bytecodes": ((), ()),
}
HAS_JSON = ("bench_flow", "bench_many", "bench_curves")


def machine() -> dict[str, str]:
    """Where and with what the figures were measured."""
    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        rows = (line.partition(":") for line in cpuinfo.read_text(encoding="utf-8").splitlines())
        model = next((value.strip() for name, _, value in rows if name.strip() == "model name"), "")
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "cpu": model,
        "cores": str(os.cpu_count()),
        "load": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", choices=list(BENCHMARKS), default=list(BENCHMARKS))
    options = parser.parse_args()
    directory: Path = options.directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    told = machine()
    figures: dict[str, Any] = {}
    pages = [f"# Benchmarks\n\n{', '.join(f'{name} {value}' for name, value in told.items() if value)}\n"]
    failed = []
    for name in options.only:
        usual, quick = BENCHMARKS[name]
        command = [sys.executable, str(HERE / f"{name}.py"), *(quick if options.quick else usual)]
        page = directory / f"{name}.json"
        if name in HAS_JSON:
            command += ["--json", str(page)]
        if name == "bench_curves":
            command += ["--svg", str(directory / "curves.svg")]
        print(f"{name} ...", end=" ", flush=True)
        started_s = time.monotonic()
        done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False)
        print(f"{time.monotonic() - started_s:.0f} s" + (f", exit code {done.returncode}" if done.returncode else ""))
        if done.returncode:
            failed.append(name)
        pages.append(f"## {name}\n\n{done.stdout.strip() or done.stderr.strip()[-2_000:]}\n")
        if page.exists():
            figures[name] = json.loads(page.read_text(encoding="utf-8"))
            page.unlink()
        (directory / "results.md").write_text("\n".join(pages), encoding="utf-8")
    results = {"machine": told, "failed": failed, "figures": figures}
    (directory / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
