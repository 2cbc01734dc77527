"""Inter-chunk latency: the histogram of the gaps, and their percentiles as the record has them."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from utils.metrics.percentiles import P99_MIN_SAMPLES
from utils.render.figures import counted, duration
from utils.report.charts import chart, label, line, nice_ticks
from utils.report.figures import Glossary, count, known, na, part, seconds, table
from utils.report.markup import Html, joined, tag
from utils.run_record import RunRecord

__all__ = ["LOWEST_S", "Bin", "Quantile", "bins", "gaps_of", "latency_part"]

LOWEST_S = 1e-4
"""Shorter gaps share one bin: they are several chunks of one read, and their lengths say nothing about the server."""

_PER_DECADE = 5
_LOWEST_INDEX = -4 * _PER_DECADE
_HIGHEST_INDEX = 9 * _PER_DECADE
_PLOT_TOP_PX = 76
_PLOT_PX = 150
_PERCENTILES = ("p50", "p90", "p99", "max")
_DASHES: dict[str, str | None] = {"p50": None, "p90": "8 3", "p99": "4 3", "max": "1 3"}


@dataclass(frozen=True, slots=True)
class Bin:
    """*count* gaps of [low_s, high_s)."""

    low_s: float
    high_s: float
    count: int


@dataclass(frozen=True, slots=True)
class Quantile:
    """A percentile in the drawing: *across* in per cent, the words at *y*, right of their line or left."""

    name: str
    value_s: float
    across: float
    y: int
    is_right: bool


def gaps_of(record: RunRecord) -> list[float]:
    """The seconds between each chunk and the one before it."""
    gaps = []
    place = -1
    for token in record.tokens:
        if token.start_char != place and token.latency_s is not None:
            gaps.append(token.latency_s)
        place = token.start_char
    return gaps


def bins(gaps_s: Sequence[float]) -> list[Bin]:
    """Five bins per power of ten from the shortest to the longest gap, before them one for what is under 0.1 ms.

    Every gap is in exactly one bin; bins between others may be empty. None for no gaps. Cost: linear.
    """
    if not gaps_s:
        return []
    bounds = [10.0 ** (index / _PER_DECADE) for index in range(_LOWEST_INDEX, _HIGHEST_INDEX + 1)]
    found = Counter(bisect_right(bounds, gap) for gap in gaps_s)
    first, last = min(found), max(found)
    edges = [0.0, *bounds, math.inf]
    return [Bin(edges[place], edges[place + 1], found[place]) for place in range(first, last + 1)]


def latency_part(record: RunRecord, glossary: Glossary) -> Html:
    """Chart and table."""
    figures = part(record.report, "metrics", "inter_chunk_latency_s")
    gaps = gaps_of(record)
    if not gaps and not known(figures.get("n")):
        shown = {True: "the answer came in one piece", False: "no text was shown"}[bool(len(record.tokens))]
        return tag("p", glossary.term("inter_chunk_latency_s", "Inter-chunk latency"), ": ", na(shown))
    drawn = bins(gaps)
    reason = "not recorded"
    why = {"p99": f"needs {P99_MIN_SAMPLES} gaps"}
    key = "inter_chunk_latency_s"
    names = (*_PERCENTILES, "mean")
    cells = [seconds(figures.get(name), why.get(name, reason)) for name in names]
    heading = [glossary.term(f"{key}.{name}", name) for name in (*names, "n")]
    parts = [
        tag(
            "p",
            glossary.term(key, "Inter-chunk latency"),
            ": the seconds between a chunk of text and the one before it.",
        ),
        _drawing(drawn, figures, len(gaps)) if drawn else tag("p", "Histogram: ", na("no token was recorded")),
        table(heading, [[*cells, count(figures.get("n"))]], "Percentiles, by linear interpolation"),
    ]
    if left_out := known(figures.get("left_out")):
        parts.append(tag("p", f"{counted(int(left_out), 'later gap')} are in max and mean only.", class_="note"))
    return joined(parts)


def _drawing(drawn: Sequence[Bin], figures: Mapping[str, Any], n: int) -> Html:
    padded = _padded(drawn)
    top = max(found.count for found in padded)
    bottom = _PLOT_TOP_PX + _PLOT_PX
    width = 100.0 / len(padded)
    parts: list[Html] = []
    for tick in nice_ticks(top, 4):
        if tick == int(tick):
            y = round(_PLOT_TOP_PX + (1.0 - tick / top) * _PLOT_PX, 1)
            parts += [line(y), label(f"{tick:,.0f}", y)]
    for place, found in enumerate(padded):
        high = max(found.count / top * _PLOT_PX, 1.0) if found.count else 0.0
        said = f"{_range(found)}: {counted(found.count, 'gap')}"
        parts.append(
            tag(
                "rect",
                tag("title", said),
                x=f"{place * width + width * 0.06:.3f}%",
                width=f"{width * 0.88:.3f}%",
                y=round(bottom - high, 1),
                height=round(high, 1),
                class_="bar",
            )
        )
    parts.append(line(bottom))
    parts += _axis(padded, bottom)
    quantiles = _quantiles(figures, padded)
    # All lines before all words: these have an edge that interrupts a line behind them.
    parts += [*(_rule(quantile, bottom) for quantile in quantiles), *map(_name, quantiles)]
    busiest = max(padded, key=lambda found: found.count)
    spoken = ", ".join(f"{name} {duration(known(figures.get(name)))}" for name in _PERCENTILES)
    description = f"{n:,} gaps, most of them in {_range(busiest)}; {spoken}."
    caption = f"Gaps by their length, {n:,} in all; the axis is logarithmic, five bins per power of ten. "
    if any(found.low_s == 0.0 and found.count for found in padded):
        caption += "The first bin holds what is under 0.1 ms: chunks that came in one read. "
    return tag(
        "figure",
        chart("latency", "Histogram of inter-chunk latencies", description, bottom + 26, *parts),
        tag("figcaption", caption),
    )


def _padded(drawn: Sequence[Bin]) -> list[Bin]:
    """*drawn* and empty bins on both sides, so that the axis spans a power of ten at least."""
    found = list(drawn)
    ratio = 10.0 ** (1.0 / _PER_DECADE)
    while len(found) < _PER_DECADE + 2:
        last = found[-1]
        if math.isfinite(last.high_s) and len(found) % 2:
            found.append(Bin(last.high_s, last.high_s * ratio, 0))
        elif found[0].low_s > LOWEST_S:
            found.insert(0, Bin(found[0].low_s / ratio, found[0].low_s, 0))
        else:
            found.append(Bin(last.high_s, last.high_s * ratio, 0))
    return found


def _across(value: float, drawn: Sequence[Bin]) -> float:
    """Where *value* lies, in per cent; inside the bin of the shortest gaps in its middle."""
    width = 100.0 / len(drawn)
    for place, found in enumerate(drawn):
        if value < found.high_s or place == len(drawn) - 1:
            if found.low_s <= 0.0 or not math.isfinite(found.high_s):
                return (place + 0.5) * width
            share = math.log(max(value, found.low_s) / found.low_s) / math.log(found.high_s / found.low_s)
            return (place + min(share, 1.0)) * width
    return 100.0


def _axis(drawn: Sequence[Bin], bottom: int) -> list[Html]:
    width = 100.0 / len(drawn)
    places = [(place, found.low_s) for place, found in enumerate(drawn) if _is_power(found.low_s)]
    if len(places) < 2:
        places = [(0, drawn[0].low_s), *places]
        places = sorted({*places, (len(drawn) - 1, drawn[-1].low_s)})
    parts = []
    for place, low_s in places:
        x = f"{place * width:.3f}%"
        anchor = "start" if place == 0 else "middle"
        parts.append(tag("line", x1=x, x2=x, y1=bottom, y2=bottom + 5, class_="grid"))
        parts.append(tag("text", _tick(low_s), x=x, y=bottom + 18, text_anchor=anchor))
    return parts


def _quantiles(figures: Mapping[str, Any], drawn: Sequence[Bin]) -> list[Quantile]:
    """The percentiles that are known. Their words stand where no other's line begins above them, if there is room."""
    found = [
        (name, value, _across(value, drawn)) for name in _PERCENTILES if (value := known(figures.get(name))) is not None
    ]
    is_right = bool(found) and found[0][2] < 45.0
    return [
        Quantile(
            name, value, across, 12 + 17 * (row if is_right else len(found) - 1 - row), is_right and across <= 66.0
        )
        for row, (name, value, across) in enumerate(found)
    ]


def _rule(quantile: Quantile, bottom: int) -> Html:
    x = f"{quantile.across:.3f}%"
    dashes = _DASHES[quantile.name]
    return tag("line", x1=x, x2=x, y1=quantile.y - 8, y2=bottom, class_="quantile", stroke_dasharray=dashes)


def _name(quantile: Quantile) -> Html:
    anchor, dx = ("start", 5) if quantile.is_right else ("end", -5)
    words = f"{quantile.name} {duration(quantile.value_s)}"
    return tag("text", words, x=f"{quantile.across:.3f}%", y=quantile.y, dx=dx, text_anchor=anchor, class_="strong")


def _is_power(low_s: float) -> bool:
    return low_s > 0.0 and abs(math.log10(low_s) - round(math.log10(low_s))) < 1e-9


def _tick(seconds_: float) -> str:
    if seconds_ <= 0.0:
        return "0"
    return f"{seconds_ * 1e3:.3g} ms" if seconds_ < 0.9995 else f"{seconds_:,.3g} s"


def _range(found: Bin) -> str:
    if found.low_s <= 0.0:
        return f"under {_tick(found.high_s)}"
    if not math.isfinite(found.high_s):
        return f"{_tick(found.low_s)} and more"
    return f"{_tick(found.low_s)} to {_tick(found.high_s)}"
