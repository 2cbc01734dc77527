"""Percentiles by linear interpolation, and the summary of a set of durations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["P99_MIN_SAMPLES", "Summary", "percentile", "summarize"]

P99_MIN_SAMPLES = 100
"""Below this many samples the 99th percentile is only another name for the maximum, so none is given."""


@dataclass(frozen=True, slots=True)
class Summary:
    """*n* samples, their percentiles, largest and mean value; None means: too few samples to say."""

    n: int
    p50: float | None
    p90: float | None
    p99: float | None
    max: float | None
    mean: float | None


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """The value below which *fraction* (0..1) of the ascending, finite values *ordered* lie.

    Linear interpolation between the two closest ranks, position (n - 1) * fraction.
    Invariants: between the first and the last value; never decreases with *fraction*.
    Raises:     ValueError if *ordered* is empty or *fraction* lies outside 0..1.
    Source:     R. J. Hyndman, Y. Fan, "Sample Quantiles in Statistical Packages", 1996, definition 7.
    """
    if not ordered:
        raise ValueError("no percentile of no values")
    if not 0.0 <= fraction <= 1.0:
        raise ValueError(f"fraction must lie in 0..1, got {fraction!r}")
    position = (len(ordered) - 1) * fraction
    rank = int(position)
    low = ordered[rank]
    if rank + 1 == len(ordered):
        return low
    high = ordered[rank + 1]
    # Rounding may step past the upper value by a hair; the clamp keeps the result between both and monotonic.
    return min(low + (high - low) * (position - rank), high)


def summarize(values: Iterable[float]) -> Summary:
    """Summary of *values* in any order; every figure is None when there are none, p99 under 100 samples.

    Cost: one sort, O(n log n); *values* is not changed.
    """
    ordered = sorted(values)
    count = len(ordered)
    if not count:
        return Summary(n=0, p50=None, p90=None, p99=None, max=None, mean=None)
    return Summary(
        n=count,
        p50=percentile(ordered, 0.5),
        p90=percentile(ordered, 0.9),
        p99=percentile(ordered, 0.99) if count >= P99_MIN_SAMPLES else None,
        max=ordered[-1],
        mean=math.fsum(ordered) / count,
    )
