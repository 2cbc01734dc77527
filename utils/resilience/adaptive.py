"""What is adjusted to what was observed: deadlines, the hedge's delay, the order of targets, concurrency. Pure.

Every function returns the new value and, if it differs from the old one, an `Adapted` event that says why; nothing
is ever adjusted without one. Three rules hold for all of them: no change before enough was observed, no change outside
given bounds, and no change so small that it would only be noise.

Sources: deadlines and hedges from quantiles, J. Dean, L. A. Barroso, "The Tail at Scale", 2013. Additive increase,
multiplicative decrease: D. Chiu, R. Jain, "Analysis of the Increase and Decrease Algorithms", 1989.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from utils.events import Adapted
from utils.resilience.hedging import HedgePolicy, hedge_delay_s
from utils.resilience.latency_window import Quantiles
from utils.run_context import Deadlines

__all__ = [
    "Aimd",
    "AimdStatistics",
    "DeadlinePolicy",
    "OrderPolicy",
    "Outcome",
    "TargetFigures",
    "TargetOrder",
    "adapted_deadlines",
    "adapted_hedge_delay",
    "ordered_targets",
]


@dataclass(frozen=True, slots=True)
class DeadlinePolicy:
    """A deadline is *factor* x the *quantile* of what is usual, between its floor and the limit that was set.

    So adapting only ever tightens: who allowed 60 s is never made to wait longer. *min_samples* observations are
    needed (gaps between chunks are many, so more of them), and a change of at least the fraction *min_change*.
    """

    quantile: float = 0.95
    gap_quantile: float = 0.99
    factor: float = 3.0
    min_samples: int = 20
    min_gap_samples: int = 200
    first_token_floor_s: float = 2.0
    idle_floor_s: float = 5.0
    min_change: float = 0.25


def adapted_deadlines(
    limits: Deadlines,
    current: Deadlines,
    first_content: Quantiles,
    gaps: Quantiles,
    policy: DeadlinePolicy | None = None,
    *,
    scale: float = 1.0,
) -> tuple[Deadlines, tuple[Adapted, ...]]:
    """The deadlines for the next request; *limits* are those that were set, *current* those in force.

    *scale* (at least 1) widens the first-content deadline for a prompt that is longer than usual by that factor.
    A deadline that was switched off (None) stays off.
    """
    policy = policy or DeadlinePolicy()
    first_s, first_why = _deadline(
        limits.first_token_s,
        current.first_token_s,
        first_content,
        policy.quantile,
        policy.min_samples,
        policy.first_token_floor_s,
        policy,
        max(1.0, scale),
    )
    idle_s, idle_why = _deadline(
        limits.idle_s,
        current.idle_s,
        gaps,
        policy.gap_quantile,
        policy.min_gap_samples,
        policy.idle_floor_s,
        policy,
        1.0,
    )
    changes = []
    if first_why:
        changes.append(Adapted("first-token deadline", _seconds(current.first_token_s), _seconds(first_s), first_why))
    if idle_why:
        changes.append(Adapted("idle deadline", _seconds(current.idle_s), _seconds(idle_s), idle_why))
    return dataclasses.replace(current, first_token_s=first_s, idle_s=idle_s), tuple(changes)


def _deadline(
    limit_s: float | None,
    current_s: float | None,
    observed: Quantiles,
    quantile: float,
    min_samples: int,
    floor_s: float,
    policy: DeadlinePolicy,
    scale: float,
) -> tuple[float | None, str]:
    """The deadline, and the reason if it changed."""
    if limit_s is None or current_s is None or observed.count < min_samples:
        return current_s, ""
    usual_s = observed.quantile(quantile)
    if usual_s is None or not math.isfinite(usual_s):
        return current_s, ""
    wanted_s = min(max(policy.factor * usual_s * scale, floor_s), limit_s)
    if abs(wanted_s - current_s) < policy.min_change * current_s:
        return current_s, ""
    return wanted_s, f"{policy.factor:g} x p{100 * quantile:g} of {observed.count} observations, {_seconds(usual_s)}"


def adapted_hedge_delay(
    before_s: float | None, first_content: Quantiles, policy: HedgePolicy, *, min_change: float = 0.25
) -> tuple[float | None, Adapted | None]:
    """The hedge's delay for the next request; *before_s* is the one in force (None: no hedging yet)."""
    after_s = hedge_delay_s(first_content, policy)
    if after_s is None or (before_s is not None and abs(after_s - before_s) < min_change * before_s):
        return before_s, None
    reason = f"p{100 * policy.quantile:g} of {first_content.count} first-content times"
    return after_s, Adapted("hedge delay", _seconds(before_s), _seconds(after_s), reason)


@dataclass(frozen=True, slots=True)
class TargetFigures:
    """What was observed of one target: first-content times (s) and tokens per second of its answers."""

    name: str
    first_content: Quantiles
    tokens_per_s: Quantiles


@dataclass(frozen=True, slots=True)
class OrderPolicy:
    """Targets are compared by the expected time of an answer of *answer_tokens*.

    It is the *quantile* of their first-content times plus the tokens at their median speed. One moves up only if it is
    faster by the fraction *margin*; in a fraction *explore* of requests another than the best goes first, or a target
    that has become fast again would never be seen.
    """

    answer_tokens: int = 300
    quantile: float = 0.75
    min_samples: int = 10
    margin: float = 0.2
    explore: float = 0.05


@dataclass(frozen=True, slots=True)
class TargetOrder:
    """Names of the targets in the order in which they are to be tried."""

    names: tuple[str, ...]
    is_exploration: bool = False
    adapted: Adapted | None = None


def ordered_targets(
    targets: Sequence[TargetFigures], *, rng: random.Random, policy: OrderPolicy | None = None
) -> TargetOrder:
    """The order for the next request; *targets* come in the order that was set. Draws from *rng* if there are two.

    Targets without enough observations keep their places: nothing speaks for or against them. The others share theirs
    by expected time; among those within the margin of each other the order that was set decides.
    """
    policy = policy or OrderPolicy()
    names = [target.name for target in targets]
    if len(names) < 2:
        return TargetOrder(tuple(names))
    expected = {t.name: seconds for t in targets if (seconds := _expected_s(t, policy)) is not None}
    places = [place for place, name in enumerate(names) if name in expected]
    result = list(names)
    for place, name in zip(places, _ranked([names[p] for p in places], expected, policy.margin), strict=True):
        result[place] = name
    reason = ", ".join(f"{name} {_seconds(seconds)}" for name, seconds in expected.items())
    reason = f"expected time of an answer of {policy.answer_tokens} tokens: {reason}"
    is_exploration = rng.random() < policy.explore
    if is_exploration:
        chosen = result.pop(rng.randrange(1, len(result)))
        result.insert(0, chosen)
        reason = f"exploration: {policy.explore:.0%} of requests try another target first"
    if result == names:
        return TargetOrder(tuple(names), is_exploration)
    return TargetOrder(
        tuple(result), is_exploration, Adapted("order of targets", ", ".join(names), ", ".join(result), reason)
    )


def _expected_s(target: TargetFigures, policy: OrderPolicy) -> float | None:
    if min(target.first_content.count, target.tokens_per_s.count) < policy.min_samples:
        return None
    first_s, speed = target.first_content.quantile(policy.quantile), target.tokens_per_s.quantile(0.5)
    if first_s is None or not speed or speed <= 0.0:
        return None
    return first_s + policy.answer_tokens / speed


def _ranked(names: list[str], expected: dict[str, float], margin: float) -> list[str]:
    """Take, again and again, the first in the set order that is not slower than the fastest by more than *margin*."""
    rest, ranked = list(names), []
    while rest:
        fastest_s = min(expected[name] for name in rest)
        best = next(name for name in rest if expected[name] * (1.0 - margin) <= fastest_s)
        rest.remove(best)
        ranked.append(best)
    return ranked


Outcome = Literal["delivered", "overloaded", "other"]
"""Of a request in a batch: content came in time; 429, 5xx, a time-out or no connection; a 4xx, a cancellation, ..."""


@dataclass(frozen=True, slots=True)
class AimdStatistics:
    """The limit now, its lowest and highest value, and how often it was changed."""

    limit: int
    lowest: int
    highest: int
    increases: int
    decreases: int

    def as_json(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {name: getattr(self, name) for name in self.__slots__}


class Aimd:
    """How many requests may run at once: one more after each full round of deliveries, half as many after an overload.

    Invariant: minimum <= limit <= maximum. A delivery counts only while the limit was in use, or an idle hour would
    raise it unproved. One overload fells many requests at once, so failures of those that were started before the
    latest decrease change nothing more.
    """

    def __init__(self, *, initial: int = 2, minimum: int = 1, maximum: int = 32, decrease: float = 0.5) -> None:
        if not (1 <= minimum <= initial <= maximum and 0.0 < decrease < 1.0):
            raise ValueError("AIMD needs 1 <= minimum <= initial <= maximum and a decrease inside 0..1")
        self._minimum, self._maximum, self._factor = minimum, maximum, decrease
        self._limit = float(initial)
        self._decreased_s = -math.inf
        self._lowest = self._highest = initial
        self._increases = self._decreases = 0

    @property
    def limit(self) -> int:
        """Requests that may run at once."""
        return int(self._limit)

    def note(
        self, outcome: Outcome, *, now: float, started_s: float, in_flight: int, cause: str = ""
    ) -> Adapted | None:
        """A request that began at *started_s* ended at *now*; *in_flight* counts those that ran then, itself included.

        Returns the change if the whole number changed; *cause* names the overload for people.
        """
        before = self.limit
        if outcome == "delivered" and in_flight >= before:
            # One part of the whole number for each delivery: a round of them makes one.
            self._limit = min(float(self._maximum), self._limit + 1.0 / before)
            # Rounding may leave 2.9999999999999996 after the last of a round.
            if math.ceil(self._limit) - self._limit < 1e-9:
                self._limit = float(math.ceil(self._limit))
        elif outcome == "overloaded" and started_s >= self._decreased_s:
            self._limit = max(float(self._minimum), math.floor(self._limit * self._factor))
            self._decreased_s = now
        after = self.limit
        if after == before:
            return None
        self._lowest, self._highest = min(self._lowest, after), max(self._highest, after)
        if after > before:
            self._increases += 1
            reason = f"{before} at once were all answered"
        else:
            self._decreases += 1
            reason = cause or "the server is overloaded"
        return Adapted("concurrency", str(before), str(after), reason)

    def statistics(self) -> AimdStatistics:
        """Limit, its range, and how often it was changed."""
        return AimdStatistics(self.limit, self._lowest, self._highest, self._increases, self._decreases)


def _seconds(value_s: float | None) -> str:
    return "off" if value_s is None else f"{value_s:.3g} s"
