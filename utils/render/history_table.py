"""History as lines of text: aligned columns, cut to the terminal where there is one."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from utils.history import HistoryRow
from utils.metrics.comparison import ModelFigures
from utils.metrics.percentiles import Summary
from utils.render.figures import counted, duration
from utils.render.harmless import one_line
from utils.render.wrapping import printed_width

__all__ = ["comparison_lines", "local_time", "run_lines"]

_ID_CHARS = 8


def local_time(seconds: float) -> str:
    """An instant (seconds since 1970) in the local time zone, to the second."""
    return datetime.datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def run_lines(rows: Sequence[HistoryRow], width: int | None = None) -> list[str]:
    """A line per run, newest first, under a heading."""
    heading = ("run", "started", "status", "model", "first token", "tokens/s", "tokens", "recovered")
    body = [
        (
            row.run_id[:_ID_CHARS],
            local_time(row.started_at),
            row.status if row.exit_code in (0, None) else f"{row.status} ({row.exit_code})",
            one_line(row.model),
            duration(row.metrics.get("ttft_s")),
            _number(row.metrics.get("tokens_per_s")),
            f"{row.metrics.get('tokens', 0):.0f}",
            _recovered(row),
        )
        for row in rows
    ]
    return _table(heading, body, width)


def comparison_lines(models: Sequence[ModelFigures], width: int | None = None) -> list[str]:
    """A block per model: how its runs ended, and the percentiles of its whole answers, each with its n."""
    lines: list[str] = []
    for figures in models:
        ends = ", ".join(f"{count} {status}" for status, count in sorted(figures.by_status.items()))
        good = f"; goodput {figures.good} of {figures.judged}" if figures.judged else ""
        lines.append(
            one_line(
                f"{figures.model}: {counted(figures.runs, 'run')} ({ends}), {counted(figures.resumes, 'resume')}{good}"
            )
        )
        body = [(name, *_summary(name, summary)) for name, summary in figures.figures.items()]
        lines += [f"  {line}" for line in _table(("of whole answers", "n", "p50", "p90", "p99", "max"), body, width)]
    return lines


def _summary(name: str, summary: Summary) -> tuple[str, ...]:
    show = duration if name.endswith("_s") and name != "tokens_per_s" else _number
    return (str(summary.n), *(show(value) for value in (summary.p50, summary.p90, summary.p99, summary.max)))


def _recovered(row: HistoryRow) -> str:
    parts = (("retry", "retries"), ("resume", "resumes"), ("fallback", "fallbacks"))
    found = [counted(round(count), one, many) for one, many in parts if (count := row.metrics.get(many))]
    return ", ".join([*found, *(["simulated"] if row.is_simulated else [])])


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:,.1f}"


def _table(heading: Sequence[str], body: Sequence[Sequence[str]], width: int | None) -> list[str]:
    rows = [heading, *body]
    widths = [max(printed_width(row[column]) for row in rows) for column in range(len(heading))]
    lines = [
        "  ".join(cell + " " * (widths[column] - printed_width(cell)) for column, cell in enumerate(row)).rstrip()
        for row in rows
    ]
    return [line if width is None else line[:width] for line in lines]
