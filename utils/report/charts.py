"""Parts of charts: scales, ticks, thinning, and drawings that stretch across while their words do not.

Across, everything is placed in per cent of the width; down, in pixels. A curve lies in an inner drawing that is
stretched to the width; words and markers lie outside it. Left of 0 % is the gutter for the labels of the vertical axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from utils.render.figures import duration
from utils.report.markup import Html, joined, tag

__all__ = ["MAX_SLICES", "chart", "label", "line", "nice_ticks", "percent", "steps", "thinned", "time_axis"]

MAX_SLICES = 400
"""A curve of more points is drawn by the first, the highest and the last of each of so many slices of time."""

_PATH_WIDTH = 1_000
_TICKS = 5
_GUTTER_PX = 8

Point = tuple[float, float]


def percent(value: float, end: float) -> float:
    """Where *value* of 0..*end* lies across, in per cent of the width; values outside lie at the edge."""
    if end <= 0.0:
        return 0.0
    return round(min(max(value / end, 0.0), 1.0) * 100.0, 3)


def nice_ticks(end: float, most: int = _TICKS) -> list[float]:
    """0 and up to *most* multiples of 1, 2 or 5 times a power of ten that lie in 0..*end*."""
    if not (end > 0.0 and math.isfinite(end)):
        return [0.0]
    power = 10.0 ** math.floor(math.log10(end / most))
    step = next(size * power for size in (1.0, 2.0, 5.0, 10.0, 20.0) if end / (size * power) <= most)
    return [index * step for index in range(int(end / step + 1e-9) + 1)]


def thinned(points: Sequence[Point], end: float, slices: int = MAX_SLICES) -> list[Point]:
    """*points* (in order of time), or the first, the highest and the last of each slice of 0..*end* if they are many.

    No extreme is lost, and the curve is right at every border of a slice. Cost: linear.
    """
    if len(points) <= 2 * slices or end <= 0.0:
        return list(points)
    kept: list[Point] = []
    start = 0
    while start < len(points):
        place = int(points[start][0] / end * slices)
        stop = start + 1
        highest = start
        while stop < len(points) and int(points[stop][0] / end * slices) == place:
            if points[stop][1] > points[highest][1]:
                highest = stop
            stop += 1
        kept += [points[index] for index in sorted({start, highest, stop - 1})]
        start = stop
    return kept


def steps(points: Sequence[Point], end: float, top: float, *, y: int, height: int, class_: str = "curve") -> Html:
    """A step curve with the area under it: each point's value holds until the next point, the last one until *end*."""
    if not points or top <= 0.0:
        return Html("")
    commands = []
    for index, (t_s, value) in enumerate(points):
        across = percent(t_s, end) * _PATH_WIDTH / 100.0
        down = (1.0 - min(max(value / top, 0.0), 1.0)) * height
        commands.append(f"M{across:.1f} {height}V{down:.1f}" if index == 0 else f"H{across:.1f}V{down:.1f}")
    path = "".join(commands) + f"H{_PATH_WIDTH}"
    return tag(
        "svg",
        tag("path", d=f"{path}V{height}Z", class_="under"),
        tag("path", d=path, class_=class_),
        x=0,
        y=y,
        width="100%",
        height=height,
        viewBox=f"0 0 {_PATH_WIDTH} {height}",
        preserveAspectRatio="none",
    )


def line(y: float, class_: str = "grid") -> Html:
    """A line across the whole drawing."""
    return tag("line", x1="0", x2="100%", y1=y, y2=y, class_=class_)


def label(words: str, y: float, class_: str | None = None) -> Html:
    """Words in the gutter."""
    return tag("text", words, x=-_GUTTER_PX, y=y, dy="0.35em", text_anchor="end", class_=class_)


def time_axis(end_s: float, y: float) -> Html:
    """Ticks with times below the drawing, whose bottom is *y*."""
    ticks = nice_ticks(end_s)
    step = ticks[1] if len(ticks) > 1 else 1.0
    parts = [line(y)]
    for tick in ticks:
        x = f"{percent(tick, end_s)}%"
        anchor = "start" if tick == 0.0 else "end" if percent(tick, end_s) > 96.0 else "middle"
        parts.append(tag("line", x1=x, x2=x, y1=y, y2=y + 4, class_="grid"))
        parts.append(tag("text", _time(tick, step), x=x, y=y + 17, text_anchor=anchor))
    return joined(parts)


def chart(name: str, title: str, description: str, height: int, *content: str) -> Html:
    """A drawing of *height* pixels, as wide as there is room, that says in words what it shows."""
    return tag(
        "svg",
        tag("title", title, id=f"{name}-title"),
        tag("desc", description, id=f"{name}-desc"),
        *content,
        class_="chart",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
        width="100%",
        height=height,
    )


def _time(tick: float, step: float) -> str:
    if tick == 0.0:
        return "0"
    if step < 0.001:
        return f"{tick * 1e3:.6g} ms"
    if step < 1.0:
        return f"{tick * 1e3:.0f} ms" if step < 0.1 else f"{tick:.1f} s"
    return f"{tick:,.0f} s" if step < 600.0 else duration(tick)
