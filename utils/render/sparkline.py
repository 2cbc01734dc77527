"""A series of numbers as one row of block characters."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["ASCII_LEVELS", "BLOCK_LEVELS", "sparkline"]

BLOCK_LEVELS = "▁▂▃▄▅▆▇█"
ASCII_LEVELS = "_.-=+*#@"


def sparkline(
    values: Sequence[float], width: int, *, top: float | None = None, bottom: float = 0.0, levels: str = BLOCK_LEVELS
) -> str:
    """The newest *width* of *values* (oldest first) as characters of *levels*.

    The scale runs from *bottom* to *top* (None: the largest value shown); values outside are clamped, so that equal
    values always look equal under a fixed scale. One character per value; empty for no values or no width.
    """
    newest = values[-width:] if width > 0 else ()
    if not newest:
        return ""
    ceiling = max(newest) if top is None else top
    span = ceiling - bottom
    last = len(levels) - 1
    if span <= 0:
        return levels[0] * len(newest)
    return "".join(levels[max(0, min(last, int((value - bottom) / span * last + 0.5)))] for value in newest)
