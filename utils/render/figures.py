"""The figures of a report as aligned plain text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from utils.render.harmless import one_line
from utils.run_report import RunReport

__all__ = ["format_figure", "report_lines"]

# The longest suffix first: `tokens_per_s` is a rate, not a time.
_UNITS = (
    ("_per_s", "/s"),
    ("_per_min", "/min"),
    ("_ms", "ms"),
    ("_us", "us"),
    ("_chars", "characters"),
    ("_s", "s"),
)
_STATISTIC = re.compile(r"p\d+|min|max|mean|median")
_MAX_LISTED = 8
_NOT_FIGURES = frozenset({"definition", "definitions", "unit"})


def report_lines(report: RunReport) -> list[str]:
    """The outcome, the performance and the quality of a run, one figure per line, columns aligned.

    Every figure of `report.metrics` and `report.quality` appears with its unit; what is not known is `n/a`.
    """
    sections = {
        "run": [
            ("outcome", f"{report.outcome} (exit {report.exit_code})"),
            format_figure("finish_reason", report.finish_reason),
            format_figure("model", report.model_used or report.model_requested),
            format_figure("target", report.target),
        ],
        "performance": _flatten(report.metrics),
        "quality": _flatten(report.quality),
        "breaker": _flatten(report.breaker),
    }
    width = max(len(label) for rows in sections.values() for label, _ in rows)
    lines: list[str] = []
    for title, rows in sections.items():
        if not rows:
            lines.append(f"{title}: n/a")
            continue
        lines.append(f"{title}:")
        lines.extend(f"  {label.ljust(width)}  {value}" for label, value in rows)
    return lines


def format_figure(name: str, value: object) -> tuple[str, str]:
    """(label, value with unit) of one figure; the unit is the suffix of *name* (`ttft_s`, `tokens_per_s`).

    A statistic of a group (`latency_s.p90`) has the unit of the group; other members (`latency_s.n`) have none.
    """
    group, _, member = name.rpartition(".")
    stem, unit = _split_unit(member)
    if group:
        group_stem, group_unit = _split_unit(group)
        stem = f"{group_stem} {stem}"
        if _STATISTIC.fullmatch(member):
            unit = group_unit
    return one_line(stem.replace("_", " ").replace(".", " ")), _with_unit(value, unit)


def _split_unit(name: str) -> tuple[str, str]:
    for suffix, unit in _UNITS:
        if name.endswith(suffix):
            return name.removesuffix(suffix), unit
    return name, ""


def _with_unit(value: object, unit: str) -> str:
    match value:
        case None:
            return "n/a"
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            if len(value) > _MAX_LISTED:
                return f"{len(value)} values"
            return ", ".join(_with_unit(item, unit) for item in value) or "none"
        case int() | float():
            if unit == "s":
                return f"{value * 1e3:.1f} ms" if 0 < abs(value) < 1 else f"{value:.2f} s"
            number = f"{value:,}" if isinstance(value, int) else _number(value)
            return f"{number}{'' if unit.startswith('/') or not unit else ' '}{unit}"
        case _:
            return one_line(str(value))


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def _flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if name in _NOT_FIGURES:
            continue
        full = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            rows.extend(_flatten(value, f"{full}."))
        else:
            rows.append(format_figure(full, "none" if value == {} else value))
    return rows
