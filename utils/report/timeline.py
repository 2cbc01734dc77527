"""The timeline: characters shown over time, what the run was doing meanwhile, and what happened to it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from utils.render.figures import counted, duration
from utils.report.charts import MAX_SLICES, chart, label, line, nice_ticks, percent, steps, thinned, time_axis
from utils.report.event_words import ENDS, KINDS
from utils.report.figures import known, part, rows
from utils.report.markup import Html, joined, sentence, tag, text
from utils.run_record import RunRecord

__all__ = ["Band", "bands", "end_of", "timeline"]

BandKind = Literal["waiting", "streaming", "recovery"]
_WORDS: dict[BandKind, str] = {
    "waiting": "waiting for text",
    "streaming": "streaming",
    "recovery": "recovering from a failure",
}
_FILLS: dict[BandKind, str] = {"waiting": "url(#dots)", "recovery": "url(#hatch)", "streaming": "none"}

_PLOT_TOP_PX = 8
_PLOT_PX = 170
_LANE_PX = 22
_MARKER_SLICES = 50

_LANES = {
    "failure": ("bad", "M-5-5L5 5M-5 5L5-5"),
    "retry": ("warn", "M5 0A5 5 0 1 1 0-5L4-5M0-5L2.5-8M0-5L2.5-2"),
    "resume": ("ok full", "M-4-5.5L5.5 0L-4 5.5Z"),
    "fallback": ("warn full", "M0-6.5L6.5 0L0 6.5L-6.5 0Z"),
    "breaker": ("warn", "M-5-5H5V5H-5Z"),
    "adapted": ("info", "M0-6L6 5H-6Z"),
    "guard": ("info", "M0-6L5-4V1Q4 5 0 6.5Q-4 5-5 1V-4Z"),
    "end": ("plain full", "M-2-6H2V6H-2Z"),
}
"""Rows of markers under the curve, in this order: how they look, and their outline around the origin."""


@dataclass(frozen=True, slots=True)
class Band:
    """What the run was doing in [start_s, end_s)."""

    kind: BandKind
    start_s: float
    end_s: float


def end_of(record: RunRecord) -> float:
    """The last instant that the record knows, in seconds from the start of the run; 0 if nothing ever happened."""
    times = [known(part(record.report, "metrics").get("e2e_s")), *(known(t_s) for t_s in record.tokens.t_s[-1:])]
    times += [known(event.get("t_s")) for event in rows(record.report.get("events"))[-1:]]
    return max((t_s for t_s in times if t_s is not None), default=0.0)


def bands(events: Sequence[Mapping[str, Any]], arrivals_s: Sequence[float], end_s: float) -> list[Band]:
    """The whole of 0..*end_s* in bands, in order; none of them is empty.

    *arrivals_s* (ascending): when text was shown. Recovery begins with a failure and ends when the answer goes on, or,
    before there was any text, when another attempt has its first data. Text that a guard lets go at a failure does not
    end it.
    """
    first_s = arrivals_s[0] if arrivals_s else end_s
    troubles = list(_troubles(events, first_s, arrivals_s, end_s))
    found: list[Band] = []
    now = 0.0
    for start, stop in [*troubles, (end_s, end_s)]:
        ends: tuple[tuple[BandKind, float], ...] = (
            *(("waiting", min(start, first_s)), ("streaming", start)),
            ("recovery", stop),
        )
        for kind, until in ends:
            if until > now:
                found.append(Band(kind, now, until))
                now = until
    return found


def timeline(record: RunRecord) -> Html:
    """The chart, its legend, and how it was drawn."""
    end_s = end_of(record)
    if end_s <= 0.0:
        return tag("p", tag("span", "n/a", class_="na"), " (nothing happened: the run never began)")
    events = rows(record.report.get("events"))
    arrivals = record.tokens.t_s
    curve, chars = _curve(record)
    shown = bands(events, _shown_at(arrivals, events), end_s)
    totals = {kind: sum(band.end_s - band.start_s for band in shown if band.kind == kind) for kind in _WORDS}
    lanes = {kind: _marked(events, kind) for kind in _LANES}
    lanes = {kind: found for kind, found in lanes.items() if found}
    drawn = thinned(curve, end_s)
    bottom = _PLOT_TOP_PX + _PLOT_PX
    height = bottom + len(lanes) * _LANE_PX + 34
    spoken = ", ".join(f"{_WORDS[kind]} {duration(total)}" for kind, total in totals.items() if total)
    happened = "; ".join(f"{kind}: {counted(len(found), 'event')}" for kind, found in lanes.items())
    content = (
        _definitions(lanes),
        *(_band(band, end_s) for band in shown),
        _vertical(chars),
        steps(drawn, end_s, chars, y=_PLOT_TOP_PX, height=_PLOT_PX),
        line(bottom),
        *(
            _lane(kind, found, end_s, bottom + place * _LANE_PX + _LANE_PX / 2 + 2)
            for place, (kind, found) in enumerate(lanes.items())
        ),
        time_axis(end_s, bottom + len(lanes) * _LANE_PX + 8),
    )
    title = f"Characters shown over {duration(end_s)}"
    return tag(
        "figure",
        chart("timeline", title, f"{counted(chars, 'character')} shown; {spoken}. {happened}.", height, *content),
        _legend(totals),
        tag("figcaption", _caption(record, len(curve), len(drawn))),
    )


def _troubles(
    events: Sequence[Mapping[str, Any]], first_s: float, arrivals_s: Sequence[float], end_s: float
) -> Iterator[tuple[float, float]]:
    """[start, end) of each recovery, in order, clipped to 0..*end_s*."""
    since: float | None = None
    for event in events:
        kind, t_s = event.get("type"), known(event.get("t_s"))
        if t_s is None:
            continue
        t_s = min(max(t_s, 0.0), end_s)
        if since is None:
            since = t_s if kind in ("interrupted", "retrying") else None
        elif kind == "resumed" or kind in ENDS or (kind == "opened" and since < first_s):
            yield since, t_s
            since = None
    if since is not None:
        # The list of events may have lost its end; text that came later says that the answer went on.
        place = bisect_left(arrivals_s, since)
        yield since, arrivals_s[place] if place < len(arrivals_s) else end_s


def _shown_at(arrivals: Sequence[float], events: Sequence[Mapping[str, Any]]) -> list[float]:
    hidden = [known(row.get("t_s")) for row in events if row.get("type") == "redacted" and row.get("replacement")]
    return sorted([*arrivals, *(t_s for t_s in hidden if t_s is not None)])


def _curve(record: RunRecord) -> tuple[list[tuple[float, float]], int]:
    """(instant, characters shown from then on), and the characters of the whole answer."""
    tokens = record.tokens
    chars = int(known(part(record.report, "metrics").get("chars")) or 0)
    if not len(tokens):
        return [], chars
    chars = max(chars, tokens.start_char[-1] + 1)
    ends = [*tokens.start_char[1:], chars]
    places = zip(tokens.start_char, ends, tokens.t_s, strict=True)
    # Tokens of one chunk share its place; the last of them has the chunk's end.
    return [(t_s, float(end)) for start, end, t_s in places if end != start], chars


def _marked(events: Sequence[Mapping[str, Any]], kind: str) -> list[Mapping[str, Any]]:
    return [
        event for event in events if KINDS.get(str(event.get("type"))) == kind and known(event.get("t_s")) is not None
    ]


def _definitions(lanes: Mapping[str, object]) -> Html:
    def pattern(name: str, ground: str, figure: Html) -> Html:
        rect = tag("rect", width=6, height=6, class_=ground)
        return tag("pattern", rect, figure, id=name, width=6, height=6, patternUnits="userSpaceOnUse")

    return tag(
        "defs",
        pattern("dots", "hatch-wait", tag("circle", cx=3, cy=3, r=0.8, class_="hatch-dot")),
        pattern("hatch", "hatch-recover", tag("path", d="M-1 7L7-1", class_="hatch-line")),
        *(tag("path", d=_LANES[kind][1], id=f"shape-{kind}") for kind in lanes),
    )


def _band(band: Band, end_s: float) -> Html:
    start, stop = percent(band.start_s, end_s), percent(band.end_s, end_s)
    said = f"{_WORDS[band.kind]}, {band.start_s:.3f} s to {band.end_s:.3f} s"
    return tag(
        "rect",
        tag("title", said),
        x=f"{start}%",
        width=f"{round(stop - start, 3)}%",
        y=_PLOT_TOP_PX,
        height=_PLOT_PX,
        fill=_FILLS[band.kind],
    )


def _vertical(chars: int) -> Html:
    if not chars:
        return tag("text", "no text was shown", x="50%", y=_PLOT_TOP_PX + _PLOT_PX / 2, text_anchor="middle")
    parts = []
    for tick in nice_ticks(chars, 4):
        if tick == int(tick):
            y = _PLOT_TOP_PX + (1.0 - tick / chars) * _PLOT_PX
            parts += [line(round(y, 1)), label(f"{tick:,.0f}", round(y, 1))]
    return joined(parts)


def _lane(kind: str, events: Sequence[Mapping[str, Any]], end_s: float, y: float) -> Html:
    """A row of markers; those of one slice of the time are one marker, whose title counts them."""
    slices: dict[int, list[Mapping[str, Any]]] = {}
    for event in events:
        slices.setdefault(int(percent(event["t_s"], end_s) * _MARKER_SLICES / 100.0), []).append(event)
    look = _LANES[kind][0]
    parts = [label(kind, y)]
    for found in slices.values():
        first = found[0]
        x = percent(first["t_s"], end_s)
        said = f"{first['t_s']:.3f} s: {first.get('type')}" + (f" and {len(found) - 1:,} more" if found[1:] else "")
        href = f"#shape-{kind}"
        parts.append(tag("use", tag("title", said), href=href, x=f"{x}%", y=y, class_=f"mark {look}"))
        if kind == "end":
            anchor, dx = ("end", -10) if x > 50.0 else ("start", 10)
            word = str(first.get("type"))
            parts.append(tag("text", word, x=f"{x}%", y=y, dx=dx, dy="0.35em", text_anchor=anchor, class_="strong"))
    return joined(parts)


def _legend(totals: Mapping[BandKind, float]) -> Html:
    swatches: dict[BandKind, str] = {"waiting": "swatch wait", "streaming": "swatch", "recovery": "swatch recover"}
    return tag(
        "ul",
        *(
            tag("li", tag("span", class_=swatches[kind]), f"{_WORDS[kind]}: {duration(total)}")
            for kind, total in totals.items()
            if total
        ),
        class_="legend",
    )


def _caption(record: RunRecord, points: int, drawn: int) -> Html:
    parts = ["Characters shown over time; the markers stand in one row per kind, and all events in words below. "]
    if drawn < points:
        parts.append(
            f"Of {points:,} points, the first, the highest and the last of each of {MAX_SLICES} slices are drawn. "
        )
    chunks = known(part(record.report, "metrics").get("chunks"))
    if chunks is not None and chunks > len(set(record.tokens.start_char)):
        parts.append("Only the first 131,072 chunks were kept. ")
    if known(part(record.report, "metrics").get("events_left_out")):
        parts.append("Events were left out of the record, so bands may be too long. ")
    return sentence(*map(text, parts))
