"""The rows as an aligned plain-text table, and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.peers.measure import CHANCE_CHARS, Row
from benchmarks.peers.streams import SECRETS

__all__ = ["HEADINGS", "cells", "markdown_table", "notes", "plain_table"]

HEADINGS = (
    "guard",
    "setting",
    *(secret.id for secret in SECRETS),
    "rest of the answer",
    "first output",
    "held",
    "us/token",
    "x ours",
    "clean text",
    "import",
    "RSS",
)


def cells(row: Row) -> list[str]:
    """The texts of one row; a row that failed has its reason in the third."""
    if row.failed:
        return [row.peer, row.setting, row.failed]
    leaks = []
    for secret in SECRETS:
        leak = row.leaks[secret.id]
        leaks.append(f"{leak.worst}/{leak.length} ({leak.many})" if leak.many else "0")
    held = f"all ({row.held_max:,})" if row.held_mean is None else f"{row.held_mean:.1f} ({row.held_max:,})"
    cost = ratio = "-"
    if row.cost is not None:
        cost = f"{row.cost.cpu_us:.1f}"
        ratio = f"{row.cost.ratio:.1f} ({row.cost.ratio_min:.1f}-{row.cost.ratio_max:.1f})"
    outcome = ", ".join(f"{name} {count}" for name, count in sorted(row.outcomes.items(), reverse=True))
    return [
        row.peer,
        row.setting,
        *leaks,
        outcome,
        f"{row.first_output_chars:,}",
        held,
        cost,
        ratio,
        row.clean,
        f"{row.import_cpu_s:.1f} s",
        f"{row.rss_mb:.0f} MB",
    ]


def plain_table(rows: Sequence[Row]) -> str:
    """Aligned columns, two spaces apart; a failure runs over the columns of the figures."""
    lines = [list(HEADINGS), *(cells(row) for row in rows)]
    whole = [line for line in lines if len(line) == len(HEADINGS)]
    widths = [max(len(line[n]) for line in whole) for n in range(len(HEADINGS))]
    for line in lines:
        widths[:2] = [max(width, len(text)) for width, text in zip(widths[:2], line, strict=False)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=False)).rstrip() for line in lines
    )


def markdown_table(rows: Sequence[Row]) -> str:
    """One table without the last two columns; guards that failed come after it, one line each."""
    shown = HEADINGS[:-2]
    head = f"| {' | '.join(shown)} |\n|{'---|' * len(shown)}"
    body = [f"| {' | '.join(cells(row)[: len(shown)])} |" for row in rows if not row.failed]
    failures = [f"{row.peer}: {row.failed}." for row in rows if row.failed]
    return "\n".join([head, *body, *(["", *failures] if failures else [])])


def notes(rows: Sequence[Row], positions: int) -> list[str]:
    """How to read the columns, then what each setting does."""
    return [
        f"Secrets: longest piece shown / length (in how many of {positions} positions more than {CHANCE_CHARS} "
        "characters of it); 0: none.",
        "Rest of the answer, with a secret in it: whole, stopped by the guard, or damaged (text lost or changed).",
        "First output: characters received before anything is shown. Held: mean (and most) characters, after that.",
        "us/token: process CPU time on clean text; x ours: median (least-most) of the rounds, taken in turn. Import: "
        "CPU time.",
        *(f"{row.peer}, {row.setting}: {row.note}." for row in rows if row.note and not row.failed),
    ]
