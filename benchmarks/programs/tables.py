"""The runs as a Markdown table, with what is needed to read it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.programs.judge import Run, other_chars, problems, said_in_short, shown_of
from benchmarks.programs.scenarios import KEY, Scenario

__all__ = ["Column", "cell", "markdown_table", "notes", "problems_of", "title_of"]


@dataclass(frozen=True, slots=True)
class Column:
    """One program with its runs by scenario, without those in which it cannot be asked.

    *title* is *name* with the version. A program that did not install has the reason and no runs.
    """

    name: str
    title: str
    runs: Mapping[str, Run]
    failed: str = ""
    note: str = ""


def problems_of(run: Run, scenario: Scenario) -> tuple[str, ...]:
    """Why *run* is not honest."""
    return problems(run, scenario.answer, key=KEY, judges_exit=scenario.judges_exit)


def title_of(scenario: Scenario) -> str:
    """The first cell of the row of *scenario*."""
    return _escaped(scenario.title)


def cell(run: Run, scenario: Scenario) -> str:
    """Exit code, what was shown, what was said, seconds, what the server saw; and why it is not honest."""
    lines = sum(1 for line in run.said.splitlines() if line.strip())
    said = f"“{said_in_short(run.said)}”" if lines else "silent"
    others = 0 if scenario.on_terminal else other_chars(run.shown, scenario.answer)
    parts = [
        "killed" if run.exit_code is None else str(run.exit_code),
        shown_of(run.shown, scenario.answer) + (f" and {others} other characters" if others else ""),
        f"{said} ({lines} lines)" if lines > 1 else said,
        f"{run.seconds:.1f} s",
        *run.facts,
    ]
    found = problems_of(run, scenario)
    return _escaped("; ".join(parts)) + (f" **{_escaped(', '.join(found))}**" if found else "")


def markdown_table(columns: Sequence[Column], scenarios: Sequence[Scenario]) -> str:
    """A row per scenario, a column per program, who was honest, and the counts in the last row."""
    there = [column for column in columns if not column.failed]
    rows = [["scenario", *(column.title for column in there), "honest?"]]
    rows.append(["---"] * (len(there) + 2))
    honest = Counter[str]()
    for scenario in scenarios:
        asked = [column for column in there if scenario.id in column.runs]
        good = [column.name for column in asked if not problems_of(column.runs[scenario.id], scenario)]
        honest.update(good)
        verdict = ", ".join(good) if len(good) < len(asked) else "all"
        cells = [cell(column.runs[scenario.id], scenario) if column in asked else "-" for column in there]
        rows.append([title_of(scenario), *cells, verdict or "none"])
    counts = [f"**{honest[column.name]} of {len(column.runs)}**" for column in there]
    rows.append(["**honest**", *counts, ""])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def notes(columns: Sequence[Column], scenarios: Sequence[Scenario], limit_s: float) -> list[str]:
    """How to read a cell, what the last column judges, and how each program was asked."""
    fair = ", ".join(f"“{scenario.title}”" for scenario in scenarios if not scenario.judges_exit)
    return [
        "A cell: exit code as a shell shows it; what of the answer reached standard output (white space does not "
        "count); the most telling line of standard error, with the number of its lines (on a terminal: of the other "
        f"lines); seconds from start to end (killed after {limit_s:g}); what the server saw, if it is not one request.",
        "Honest: exit code 0 if and only if the answer on standard output is whole, no traceback, the key not shown, "
        "no part of the answer comes twice. What is missing stands in bold in the cell."
        + (f" Where both exit codes are fair, the code is not judged: {fair}." if fair else ""),
        *(f"{column.title}: {column.note}." for column in columns if column.note and not column.failed),
        *(f"{column.title}: {column.failed}." for column in columns if column.failed),
    ]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
