"""Service level objectives: what a run had to reach, and whether it did. Pure.

    ttft=0.5,tpot=0.05              at most so many seconds
    itl_p99=0.2,e2e=10,stall=1      percentiles and the longest of the inter-chunk latencies, the whole run
    tokens_per_s=20                 at least so many

Goodput is the share of runs that are whole and met every objective (as in `vllm bench serve --goodput` and aiperf). A
figure that is not known (a p99 of too few chunks, say) leaves its objective undecided, and the run with it.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from utils.errors import UsageProblem

__all__ = ["OBJECTIVES", "Objective", "Slo", "SloVerdict", "parse_slo"]

OBJECTIVES: Mapping[str, tuple[str, ...]] = {
    "ttfc": ("ttfc_s",),
    "ttft": ("ttft_s",),
    "tpot": ("tpot_s",),
    "e2e": ("e2e_s",),
    "stall": ("longest_stall_s",),
    "itl_p50": ("inter_chunk_latency_s", "p50"),
    "itl_p90": ("inter_chunk_latency_s", "p90"),
    "itl_p99": ("inter_chunk_latency_s", "p99"),
    "itl_max": ("inter_chunk_latency_s", "max"),
    "tokens_per_s": ("tokens_per_s",),
}
"""Names, and where their figure stands in the metrics of a run."""

_AT_LEAST = ("tokens_per_s",)
_MAX = 1e9


@dataclass(frozen=True, slots=True)
class Objective:
    """*name* (of `OBJECTIVES`) and its *limit*: at most so many seconds, or at least so many tokens per second."""

    name: str
    limit: float

    @property
    def is_minimum(self) -> bool:
        """Whether more is better."""
        return self.name in _AT_LEAST

    def __str__(self) -> str:
        return f"{self.name}={self.limit:g}"

    def value_in(self, metrics: Mapping[str, Any]) -> float | None:
        """The figure of a run; None if it is not known."""
        value: Any = metrics
        for key in OBJECTIVES[self.name]:
            value = value.get(key) if isinstance(value, Mapping) else None
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None

    def is_met_by(self, value: float) -> bool:
        """Whether *value* is good enough; the limit itself is."""
        return value >= self.limit if self.is_minimum else value <= self.limit


@dataclass(frozen=True, slots=True)
class SloVerdict:
    """What became of each objective: (name, limit, value or None, met or None for not known).

    *is_good*: the answer was whole and all were met; False if it was not, or one was missed; None: one is undecided.
    """

    rows: tuple[tuple[str, float, float | None, bool | None], ...]
    is_good: bool | None

    def as_json(self) -> dict[str, Any]:
        """JSON-ready form."""
        rows = [dict(zip(("name", "limit", "value", "met"), row, strict=True)) for row in self.rows]
        return {"good": self.is_good, "objectives": rows}


@dataclass(frozen=True, slots=True)
class Slo:
    """The objectives of a run, in the order in which they were given."""

    objectives: tuple[Objective, ...]

    def __str__(self) -> str:
        return ",".join(map(str, self.objectives))

    def judge(self, metrics: Mapping[str, Any], *, is_complete: bool) -> SloVerdict:
        """The verdict on a run with these *metrics*."""
        rows = []
        for objective in self.objectives:
            value = objective.value_in(metrics)
            met = None if value is None else objective.is_met_by(value)
            rows.append((objective.name, objective.limit, value, met))
        verdicts = [row[3] for row in rows]
        is_good: bool | None = None
        if not is_complete or False in verdicts:
            is_good = False
        elif None not in verdicts:
            is_good = True
        return SloVerdict(tuple(rows), is_good)


def parse_slo(text: str, *, name: str = "--slo") -> Slo:
    """The objectives that *text* names; *name* is how messages call it. Raises UsageProblem with the way out."""
    objectives: list[Objective] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        key, sign, raw = (piece.strip() for piece in part.partition("="))
        if key not in OBJECTIVES:
            near = difflib.get_close_matches(key, OBJECTIVES, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UsageProblem(
                f"{name}: there is no objective {key[:40]!r}", hint=f"{hint}there are {', '.join(OBJECTIVES)}"
            )
        if any(objective.name == key for objective in objectives):
            raise UsageProblem(f"{name}: {key} is given twice", hint="give it once")
        limit = _number(raw)
        if not sign or limit is None:
            unit = "tokens per second" if key in _AT_LEAST else "seconds"
            raise UsageProblem(
                f"{name}: {key} needs a number of {unit} above 0, not {raw[:40]!r}", hint=f"for example {key}=0.5"
            )
        objectives.append(Objective(key, limit))
    if not objectives:
        raise UsageProblem(f"{name} names no objective", hint="for example ttft=0.5,tpot=0.05")
    return Slo(tuple(objectives))


def _number(raw: str) -> float | None:
    try:
        value = float(raw)
    except ValueError:
        return None
    return value if 0.0 < value <= _MAX else None
