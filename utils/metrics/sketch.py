"""A bounded, mergeable, ageing summary of durations or rates, from which quantiles are read. Pure.

Values fall into buckets whose bounds grow geometrically, so every quantile has the same relative error whatever the
distribution, and two summaries are merged by adding their buckets.
Source: C. Masson, J. E. Rim, H. K. Lee, "DDSketch: A Fast and Fully-Mergeable Quantile Sketch with Relative-Error
        Guarantees", VLDB 2019. Here with fixed bounds instead of collapsing buckets, and with weights that fade.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping

__all__ = ["HIGHEST", "LOWEST", "RELATIVE_ERROR", "Sketch"]

RELATIVE_ERROR = 0.02
"""Bound of |quantile - true| / true for values in LOWEST..HIGHEST."""
LOWEST = 1e-4
HIGHEST = 1e5
"""Values outside these bounds (0.1 ms to 28 hours, if they are seconds) count as the nearer bound."""

_LOG_BASE = math.log((1.0 + RELATIVE_ERROR) / (1.0 - RELATIVE_ERROR))
_FIRST = math.ceil(math.log(LOWEST) / _LOG_BASE)
_LAST = math.ceil(math.log(HIGHEST) / _LOG_BASE)
_NEGLIGIBLE = 1e-3
_VERSION = 1


class Sketch:
    """Weighted counts in at most 519 buckets. Not thread-safe.

    Invariants: `weight` is the sum of all buckets; merging is commutative and associative (up to rounding).
    """

    __slots__ = ("_buckets",)

    def __init__(self, buckets: Mapping[int, float] | None = None) -> None:
        self._buckets: dict[int, float] = dict(buckets or {})

    @property
    def weight(self) -> float:
        """How many values it stands for; a fraction after fading."""
        return math.fsum(self._buckets.values())

    def add(self, value: float) -> None:
        """Count one *value*. Raises: ValueError if it is negative or no number; nothing has changed then."""
        if not value >= 0.0:
            raise ValueError(f"a sketch holds numbers from 0 up, got {value!r}")
        clamped = min(max(value, LOWEST), HIGHEST)
        bucket = math.ceil(math.log(clamped) / _LOG_BASE)
        self._buckets[bucket] = self._buckets.get(bucket, 0.0) + 1.0

    def add_all(self, values: Iterable[float]) -> None:
        """Count each of *values*, those below zero as zero; in a third of the time. They must be numbers."""
        log, ceil, base = math.log, math.ceil, _LOG_BASE
        counts = Counter(
            [
                ceil(log(value) / base) if LOWEST < value < HIGHEST else (_FIRST if value <= LOWEST else _LAST)
                for value in values
            ]
        )
        for bucket, count in counts.items():
            self._buckets[bucket] = self._buckets.get(bucket, 0.0) + count

    def merge(self, other: Sketch) -> None:
        """Add what *other* has counted; *other* is not changed."""
        for bucket, weight in other._buckets.items():
            self._buckets[bucket] = self._buckets.get(bucket, 0.0) + weight

    def fade(self, factor: float) -> None:
        """Multiply every weight by *factor* in 0..1, so that older values count less than those added later.

        Buckets of negligible weight are dropped. Raises: ValueError outside 0..1; nothing has changed then.
        """
        if not 0.0 <= factor <= 1.0:
            raise ValueError(f"a sketch fades by a factor in 0..1, got {factor!r}")
        faded = ((bucket, weight * factor) for bucket, weight in self._buckets.items())
        self._buckets = {bucket: weight for bucket, weight in faded if weight >= _NEGLIGIBLE}

    def limit(self, weight: float) -> None:
        """Fade to at most *weight*, so that one long stream does not outweigh all others to come."""
        if (total := self.weight) > weight:
            self.fade(weight / total)

    def quantile(self, fraction: float) -> float | None:
        """The value that *fraction* (0..1) of the weight does not exceed; None if nothing was counted.

        Nearest rank: the smallest bucket whose cumulated weight reaches fraction * weight.
        Error:  at most RELATIVE_ERROR of that value.     Invariant: never decreases with *fraction*.
        Raises: ValueError outside 0..1.
        """
        if not 0.0 <= fraction <= 1.0:
            raise ValueError(f"fraction must lie in 0..1, got {fraction!r}")
        if not self._buckets:
            return None
        rank = fraction * self.weight
        cumulated = 0.0
        ordered = sorted(self._buckets)
        for bucket in ordered:
            cumulated += self._buckets[bucket]
            # Whole counts add up exactly; only faded ones need the hair's breadth.
            if cumulated >= rank * (1.0 - 1e-12):
                return _value_of(bucket)
        return _value_of(ordered[-1])

    def to_json(self) -> str:
        """A text that `from_json` reads: at most about 10 KB."""
        rows = {str(bucket): round(weight, 4) for bucket, weight in sorted(self._buckets.items())}
        return json.dumps({"v": _VERSION, "error": RELATIVE_ERROR, "buckets": rows}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Sketch:
        """The sketch that `to_json` wrote. Raises: ValueError if *text* is anything else."""
        try:
            data = json.loads(text)
            if data["v"] != _VERSION or data["error"] != RELATIVE_ERROR:
                raise ValueError("a sketch of another kind")
            buckets = {int(bucket): float(weight) for bucket, weight in data["buckets"].items()}
        except (KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            raise ValueError(f"not a sketch: {error}") from error
        if not all(_FIRST <= bucket <= _LAST and 0.0 < weight < math.inf for bucket, weight in buckets.items()):
            raise ValueError("not a sketch: a bucket or a weight is out of bounds")
        return cls(buckets)


def _value_of(bucket: int) -> float:
    """The value of the bucket (lower, upper] that is within RELATIVE_ERROR of both its ends."""
    return math.exp((bucket - 1) * _LOG_BASE) * (1.0 + RELATIVE_ERROR)
