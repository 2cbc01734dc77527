"""One run of the history as lines of text."""

from __future__ import annotations

from typing import Any

from utils.render.figures import report_lines
from utils.render.harmless import one_line
from utils.render.history_table import local_time
from utils.run_record import RunRecord
from utils.run_report import RunReport

__all__ = ["record_lines"]

_SHOWN = 40
"""Events that are listed; the record has them all."""


def record_lines(record: RunRecord) -> list[str]:
    """What the run was, how it ended, its figures, and what happened on the way."""
    facts, report = record.facts, record.report
    error = report.get("error") or {}
    lines = [
        f"run {facts.run_id} at {local_time(facts.started_at)}, version {facts.version}, {facts.environment}",
        f"asked {facts.model_requested or 'for any model'}, prompt of {facts.prompt_chars:,} characters",
        f"outcome {report['outcome']} (exit {report['exit_code']})" + (f": {error['code']}" if error else ""),
    ]
    if facts.is_simulated:
        lines.append("failures were simulated")
    if record.slo is not None:
        missed = [row["name"] for row in record.slo["objectives"] if row["met"] is False]
        verdict = {True: "met", False: "missed", None: "undecided"}[record.slo["good"]]
        lines.append(f"objectives {verdict}" + (f": {', '.join(missed)}" if missed else ""))
    lines += report_lines(_as_report(report))
    events = report.get("events", ())
    if events:
        lines.append("events")
        lines += [f"  {event['t_s']:9.3f} s  {event['type']}{_details(event)}" for event in events[:_SHOWN]]
        if len(events) > _SHOWN:
            lines.append(f"  and {len(events) - _SHOWN} more (--json has them all)")
    for name, text in (("prompt", record.prompt), ("answer", record.text)):
        if text is not None:
            lines += [f"{name}:", *map(one_line, text.splitlines())]
    return lines


def _details(event: dict[str, Any]) -> str:
    parts = []
    for key, value in event.items():
        if key in ("t_s", "type") or value is None:
            continue
        if isinstance(value, dict):
            value = value.get("code")
        parts.append(one_line(f"{key}={value}"))
    return "  " + " ".join(parts) if parts else ""


def _as_report(row: Any) -> RunReport:
    """The stored report, as far as the figures need it."""
    names = ("outcome", "exit_code", "finish_reason", "model_requested", "model_used", "target", "usage")
    parts = ("metrics", "quality", "guard", "breaker")
    return RunReport(text="", error=None, **{name: row[name] for name in (*names, *parts)})
