"""Command-line programs for LLMs side by side: `python benchmarks/compare_programs.py [--only ours,llm]`.

Each program is asked as its users ask it, in a process of its own, against the same servers on this machine: ones that
answer well, refuse, cut or reset, with a pipe, a terminal, a full disk or `head` behind the program. The others are
installed with pinned packages, each in a virtual environment of its own (0.1 GB; in the user's cache, removed after
use unless `--keep`), and cannot reach the network. A Markdown table goes to standard output.

Exit code 1 if this project's program does not do what is stated of it in `programs/scenarios.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import platform
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.environments import InstallError, pinned_environment, say  # noqa: E402
from benchmarks.programs.clients import OURS, PEERS, Client, pins_of, version_of  # noqa: E402
from benchmarks.programs.judge import broken, shown_of  # noqa: E402
from benchmarks.programs.observe import observe  # noqa: E402
from benchmarks.programs.scenarios import SCENARIOS, Scenario  # noqa: E402
from benchmarks.programs.tables import Column, markdown_table, notes, problems_of  # noqa: E402
from utils.embedded_model.spec import cache_dir  # noqa: E402
from utils.version import VERSION  # noqa: E402

LIMIT_S = 40.0


def column_of(client: Client, title: str, python: Path, scenarios: Sequence[Scenario], limit_s: float) -> Column:
    """All runs of one program, one after the other."""
    runs = {}
    for scenario in scenarios:
        run = observe(client, python, scenario, limit_s)
        if run is not None:
            runs[scenario.id] = run
            say(f"{title}: {scenario.title}: {run.exit_code}, {run.seconds:.1f} s")
    return Column(client.title, title, runs, note=client.note)


def compare(
    peers: Sequence[str], scenarios: Sequence[Scenario], directory: Path, keep: bool, limit_s: float
) -> list[Column]:
    """A column per program, ours first."""
    columns = [column_of(OURS, f"{OURS.title} {VERSION}", Path(sys.executable), scenarios, limit_s)]
    for peer in peers:
        client = PEERS[peer]
        title = f"{client.title} {version_of(peer)}"
        try:
            with pinned_environment(pins_of(peer), client.title, directory / peer, keep) as python:
                columns.append(column_of(client, title, python, scenarios, limit_s))
        except InstallError as error:
            columns.append(Column(client.title, title, {}, failed=str(error)))
    return columns


def complaints(ours: Column, scenarios: Sequence[Scenario]) -> list[str]:
    """Where this project's program is not as stated or not honest, one line each."""
    found = []
    for scenario in scenarios:
        run = ours.runs[scenario.id]
        reasons = (*broken(run, scenario.answer, scenario.ours), *problems_of(run, scenario))
        if reasons:
            found.append(f"{ours.title}: {scenario.title}: {'; '.join(reasons)}")
    return found


def as_json(columns: Sequence[Column], scenarios: Sequence[Scenario], about: str) -> dict[str, Any]:
    def cell(column: Column, scenario: Scenario) -> dict[str, Any]:
        run = column.runs[scenario.id]
        found = problems_of(run, scenario)
        shown = shown_of(run.shown, scenario.answer)
        return {**dataclasses.asdict(run), "got": shown, "honest": not found, "problems": found}

    return {
        "about": about,
        "failed": {column.title: column.failed for column in columns if column.failed},
        "scenarios": [
            {
                "id": scenario.id,
                "title": scenario.title,
                "programs": {column.title: cell(column, scenario) for column in columns if scenario.id in column.runs},
            }
            for scenario in scenarios
        ],
    }


def names_of(known: Sequence[str]) -> Callable[[str], list[str]]:
    """A parser of comma-separated names out of *known*."""

    def parse(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",") if name.strip()]
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(known)}")
        return names

    return parse


def main(arguments: Sequence[str] | None = None) -> int:
    assert __doc__ is not None
    programs = [OURS.id, *PEERS]
    ids = [scenario.id for scenario in SCENARIOS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only",
        type=names_of(programs),
        default=programs,
        metavar="NAMES",
        help=f"of {','.join(programs)} (all by default); ours always runs, and alone needs no installation",
    )
    parser.add_argument(
        "--scenarios", type=names_of(ids), default=ids, metavar="NAMES", help=f"of {','.join(ids)} (all by default)"
    )
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds for each run (%(default)g)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was seen")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table to a file, too")
    parser.add_argument(
        "--venvs", type=Path, default=cache_dir() / "programs", help="where environments are (%(default)s)"
    )
    parser.add_argument("--keep", action="store_true", help="keep the new environments for the next run")
    options = parser.parse_args(arguments)
    scenarios = [scenario for scenario in SCENARIOS if scenario.id in options.scenarios]
    peers = [peer for peer in PEERS if peer in options.only]
    load = f"load {os.getloadavg()[0]:.1f} before"
    columns = compare(peers, scenarios, options.venvs.resolve(), options.keep, options.limit)
    with contextlib.suppress(OSError):
        options.venvs.rmdir()  # if nothing is left in it
    today = datetime.date.today().isoformat()
    about = f"{today}, Python {platform.python_version()}, {platform.system()}, {os.cpu_count()} CPUs, {load}"
    lines = "\n".join(f"- {line}" for line in notes(columns, scenarios, options.limit))
    text = f"{markdown_table(columns, scenarios)}\n\n{about}.\n\n{lines}\n"
    print(text, end="")
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    if options.json:
        options.json.write_text(json.dumps(as_json(columns, scenarios, about), indent=1) + "\n", encoding="utf-8")
    found = complaints(columns[0], scenarios)
    for line in found:
        say(line)
    return 1 if found else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))  # so that environments are removed
    sys.exit(main())
