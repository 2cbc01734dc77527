"""What the guards found and did, and what it cost: characters held back over time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from utils.guardrails.hold_log import MAX_ENTRIES
from utils.render.figures import counted, duration
from utils.report.charts import MAX_SLICES, chart, label, line, nice_ticks, steps, thinned, time_axis
from utils.report.figures import (
    Glossary,
    bool_word,
    count,
    figure,
    items,
    known,
    na,
    part,
    rows,
    seconds,
    spread,
    table,
)
from utils.report.markup import Html, code, joined, sentence, tag, text
from utils.report.timeline import end_of
from utils.run_record import RunRecord

__all__ = ["guard_part"]

_PLOT_PX = 110
_PLOT_TOP_PX = 8
_PLACES_SHOWN = 5
_ACTIONS = {"hidden": "hidden", "flagged": "flagged, stayed visible", "blocked": "blocked the answer"}
_STATISTICS = (
    ("seen_chars", "characters judged", count),
    ("held_mean_chars", "held on average", count),
    ("held_max_chars", "held at most", count),
    ("held_mean_s", "hold time on average", seconds),
    ("held_max_s", "hold time at most", seconds),
    ("overflows", "cap on held text reached", count),
    ("dropped_chars", "held, then dropped", count),
)


def guard_part(record: RunRecord, glossary: Glossary) -> Html:
    """Findings by rule for the prompt, the answer and the reasoning, judgements, and the hold-back chart."""
    guard = part(record.report, "guard")
    metrics = part(record.report, "metrics")
    names = (("redactions", "hidden in the answer"), ("flags", "flagged"))
    parts = [spread([(glossary.term(key, name), count(metrics[key])) for key, name in names if key in metrics])]
    if found := rows(guard.get("prompt")):
        parts += [tag("h3", "In the prompt"), _prompt(found)]
    for channel in ("answer", "reasoning"):
        if figures := part(guard, channel):
            parts += [tag("h3", f"In the {channel}"), _channel(figures, record, is_answer=channel == "answer")]
    if not part(guard, "answer"):
        why = "no guard was on" if metrics.get("chars") else "no guard was on, or the answer never began"
        parts.append(tag("p", "Rules on the answer: ", na(why)))
    if flags := _flags(record):
        parts += [tag("h3", "Told while it streamed"), flags]
    if toxicity := part(guard, "toxicity"):
        parts += [tag("h3", "Toxicity"), _toxicity(toxicity)]
    if violations := rows(guard.get("validation")):
        parts += [tag("h3", "Validation"), _validation(violations)]
    return joined(parts)


def _prompt(found: Sequence[Mapping[str, Any]]) -> Html:
    body = [
        [
            code(row.get("rule")),
            text(row.get("place")),
            count(row.get("count")),
            text(row.get("severity")),
            _range((row.get("start"), row.get("end"))),
            code(row.get("sample") or None),
        ]
        for row in found
    ]
    heading = ("rule", "where", "count", "severity", "first at characters", "shape")
    return table(heading, body, "Findings by rule; the shape stands for the text, which is not kept")


def _channel(figures: Mapping[str, Any], record: RunRecord, *, is_answer: bool) -> Html:
    findings = rows(figures.get("findings"))
    watching = items(figures.get("rules"))
    parts: list[Html] = []
    if findings:
        body = [
            [
                code(row.get("rule")),
                count(row.get("count")),
                text(_ACTIONS.get(str(row.get("action")), "not recorded")),
                _places(row),
            ]
            for row in findings
        ]
        parts.append(table(("rule", "count", "what was done", "at characters"), body, "Findings by rule"))
    else:
        parts.append(tag("p", f"Nothing was found by {counted(len(watching), 'rule')}."))
    values = [(name, show(figures.get(key), "nobody measured")) for key, name, show in _STATISTICS]
    parts.append(spread(values))
    if is_answer:
        parts.append(_hold(record))
    if watching:
        names = [sentence(code(rule), " ") for rule in watching]
        parts.append(tag("details", tag("summary", f"{counted(len(watching), 'rule')} watched"), tag("p", *names)))
    return joined(parts)


def _hold(record: RunRecord) -> Html:
    """Characters held over time. The guard said each change; between two of them the number stays."""
    levels = [(float(t_s), float(chars)) for t_s, chars in record.held if known(t_s) is not None]
    end_s = max(end_of(record), levels[-1][0] if levels else 0.0)
    if not levels or end_s <= 0.0:
        return tag("p", "Characters held over time: ", na("the guard recorded no change"))
    highest = max(chars for _, chars in levels)
    drawn = thinned(levels, end_s)
    bottom = _PLOT_TOP_PX + _PLOT_PX
    top = max(highest, 1.0)
    parts: list[Html] = []
    for tick in nice_ticks(top, 3):
        if tick == int(tick):
            y = round(_PLOT_TOP_PX + (1.0 - tick / top) * _PLOT_PX, 1)
            parts += [line(y), label(f"{tick:,.0f}", y)]
    parts += [
        steps([(0.0, 0.0), *drawn], end_s, top, y=_PLOT_TOP_PX, height=_PLOT_PX, class_="curve thin"),
        line(bottom),
    ]
    parts.append(time_axis(end_s, bottom + 6))
    said = f"At most {counted(int(highest), 'character')} held at once; {counted(len(levels), 'change')} recorded."
    notes = ["Characters that the guard held back at each instant, because they might have become a finding. "]
    if len(drawn) < len(levels):
        notes.append(
            f"Of {len(levels):,} changes, the first, the highest and the last of each of {MAX_SLICES} slices. "
        )
    if len(levels) >= MAX_ENTRIES:
        notes.append(f"Only the first {MAX_ENTRIES:,} changes were kept, until {duration(levels[-1][0])}. ")
    return tag(
        "figure",
        chart("hold", "Characters held over time", said, bottom + 30, *parts),
        tag("figcaption", *notes),
    )


def _flags(record: RunRecord) -> Html | None:
    """Rules without statistics of their own: repetition, refusal, toxicity. They speak through events only."""
    counts = Counter(
        str(event.get("rule"))
        for event in rows(record.report.get("events"))
        if event.get("type") == "flagged" and not str(event.get("rule")).startswith("prompt.")
    )
    if not counts:
        return None
    body = [[code(rule), count(times)] for rule, times in counts.items()]
    return table(("rule", "count"), body, "Flagged by event; what was flagged stayed visible")


def _toxicity(figures: Mapping[str, Any]) -> Html:
    values: list[tuple[str, Html]] = []
    for key, value in figures.items():
        if key == "findings":
            continue
        name = str(key).replace("_", " ").removesuffix(" s")
        if isinstance(value, bool):
            shown = bool_word(value)
        elif known(value) is None:
            shown = na("no sentence was scored") if value is None else code(value)
        elif str(key).endswith("_s"):
            shown = seconds(value)
        elif "score" in str(key) or key == "threshold":
            shown = figure(value, f"{value:.3f}")
        else:
            shown = count(value)
        values.append((name, shown))
    return spread(values)


def _validation(violations: Sequence[Mapping[str, Any]]) -> Html:
    body = [
        [
            code(row.get("validator")),
            count(row.get("position")),
            text(row.get("reason") or "not kept: it may quote the answer"),
        ]
        for row in violations
    ]
    return table(("check", "at character", "reason"), body, "Violations of what the answer had to be")


def _places(row: Mapping[str, Any]) -> Html:
    found = items(row.get("ranges"))
    shown = [_range(place) for place in found[:_PLACES_SHOWN]]
    if not shown:
        return na("not recorded")
    more = int(known(row.get("count")) or len(found)) - len(shown)
    parts = [sentence(", " if index else "", place) for index, place in enumerate(shown)]
    return sentence(*parts, f" and {more:,} more" if more > 0 else "")


def _range(place: Any) -> Html:
    start, end = map(known, place) if isinstance(place, list | tuple) and len(place) == 2 else (None, None)
    return text("n/a" if start is None or end is None else f"{start:,.0f} to {end:,.0f}")
