"""Quantiles of what was observed lately: the protocol that the adaptive cores read, and a small exact window."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from typing import Protocol

from utils.metrics.percentiles import percentile

__all__ = ["LatencyWindow", "Quantiles", "Weighed", "WeighedValues"]


class Quantiles(Protocol):
    """Anything that has observed values and knows their quantiles; `quantile` is asked only when `count` is above 0."""

    @property
    def count(self) -> int:
        """Values that the quantiles stand on."""
        ...

    def quantile(self, q: float, /) -> float | None:
        """The value below which the fraction *q* (0..1) of them lies."""
        ...


class Weighed(Protocol):
    """Observations that fade: their *weight* is a number of values, but not a whole one (see `metrics.sketch`)."""

    @property
    def weight(self) -> float:
        """How many values the quantiles still stand on."""
        ...

    def quantile(self, q: float, /) -> float | None:
        """The value below which the fraction *q* (0..1) of the weight lies."""
        ...


class WeighedValues:
    """A `Weighed` read as `Quantiles`: only whole values count, so faded figures stop deciding anything."""

    def __init__(self, values: Weighed) -> None:
        self._values = values

    @property
    def count(self) -> int:
        """The whole part of the weight."""
        return int(self._values.weight)

    def quantile(self, q: float, /) -> float | None:
        """See `Weighed.quantile`."""
        return self._values.quantile(q)


class LatencyWindow:
    """The last *size* values, in seconds, exact. Cost of `observe`: one bisection and one shift of at most *size*."""

    def __init__(self, size: int = 256) -> None:
        if size < 1:
            raise ValueError(f"a window has at least one place, got {size}")
        self._size = size
        self._by_age: deque[float] = deque()
        self._by_value: list[float] = []

    @property
    def count(self) -> int:
        """Values in the window."""
        return len(self._by_age)

    def observe(self, value_s: float) -> None:
        """Add a value; the oldest leaves a full window."""
        if len(self._by_age) == self._size:
            oldest = self._by_age.popleft()
            del self._by_value[bisect_left(self._by_value, oldest)]
        self._by_age.append(value_s)
        insort(self._by_value, value_s)

    def quantile(self, q: float) -> float | None:
        """By linear interpolation; None if nothing was observed. Raises ValueError if *q* lies outside 0..1."""
        return percentile(self._by_value, q) if self._by_value else None
