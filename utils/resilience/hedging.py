"""A second request when the first is late: when, and how often. Pure.

Most of the tail of first-content times is made of few stragglers. If the first request has given no content after the
95th percentile of what is usual, a second one is sent, and whichever speaks first is heard. Only before the first
content: after it there is an answer that must not be told twice.

The price is bounded twice: by the quantile (one in twenty is later than it), and by a budget in which every request
earns a fraction of a hedge. When a server slows down for everybody, the quantile is wrong for a while, and only the
budget keeps the second requests from doubling its load.

Source: J. Dean, L. A. Barroso, "The Tail at Scale", 2013 (hedged requests).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from utils.errors import ProviderError
from utils.resilience.latency_window import LatencyWindow, Quantiles

__all__ = ["HedgePlan", "HedgePolicy", "HedgeStatistics", "Hedger", "Latencies", "NoHedge", "Winner", "hedge_delay_s"]

Winner = Literal["first", "second"]

NoHedge = Literal["too few samples", "budget spent", "second target not ready"]
"""Why a request goes without a hedge."""


@dataclass(frozen=True, slots=True)
class HedgePolicy:
    """When to hedge: after *quantile* of at least *min_samples* first-content times, within the two delays (s).

    *budget_ratio* hedges are earned by a request, at most *budget_burst* are saved up.
    """

    quantile: float = 0.95
    min_samples: int = 20
    min_delay_s: float = 0.05
    max_delay_s: float = 30.0
    budget_ratio: float = 0.05
    budget_burst: float = 5.0

    def __post_init__(self) -> None:
        if not (0.0 < self.quantile < 1.0 and self.min_samples >= 1 and 0.0 <= self.min_delay_s <= self.max_delay_s):
            raise ValueError(
                "a hedge needs a quantile inside 0..1, at least 1 sample, and ordered delays of at least 0"
            )
        if not (0.0 <= self.budget_ratio <= 1.0 and self.budget_burst >= 1.0):
            raise ValueError("a hedge budget has a ratio of 0..1 and a burst of at least 1")


def hedge_delay_s(latencies: Quantiles, policy: HedgePolicy) -> float | None:
    """Seconds after which a request counts as late; None while too few were observed to say."""
    if latencies.count < policy.min_samples:
        return None
    late_s = latencies.quantile(policy.quantile)
    return None if late_s is None else min(max(late_s, policy.min_delay_s), policy.max_delay_s)


@dataclass(frozen=True, slots=True)
class HedgePlan:
    """What a driver does with one request: after *delay_s* ask `may_start()`, and start the second one if it says so.

    *delay_s* None: never. `fails_over(error)`: the first request failed this way before its delay was over, so the
    second may start at once. That one replaces a retry; it asks no budget of hedges.
    """

    delay_s: float | None
    may_start: Callable[[], bool]
    fails_over: Callable[[Exception], bool]


@dataclass(frozen=True, slots=True)
class HedgeStatistics:
    """Counts since the start, the delay now (None: too few samples) and the hedges saved up."""

    requests: int
    hedges: int
    failed_over: int
    won_by_second: int
    refused_budget: int
    refused_target: int
    delay_s: float | None
    budget: float

    def as_json(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {name: getattr(self, name) for name in self.__slots__}


class Latencies(Quantiles, Protocol):
    """Quantiles that can be added to."""

    def observe(self, value_s: float, /) -> None:
        """Add one value, in seconds."""
        ...


class Hedger:
    """The hedges of one target. Not thread-safe: it belongs to one event loop.

    Invariant: hedges <= budget_ratio x requests, those of other processes included if *saved* tells what they have
    left over (asked once, with the first plan; the burst bounds it). *latencies* are first-content times in seconds;
    `observe` is given them unless the caller keeps the figures itself.
    """

    def __init__(
        self,
        policy: HedgePolicy | None = None,
        latencies: Latencies | None = None,
        *,
        saved: Callable[[], float] | None = None,
    ) -> None:
        self.policy = policy or HedgePolicy()
        self._latencies: Latencies = latencies or LatencyWindow()
        self._saved = saved
        self._budget = 0.0
        self._requests = self._hedges = self._failed_over = self._won_by_second = 0
        self._refused_budget = self._refused_target = 0

    def plan(self, is_second_ready: Callable[[], bool] = lambda: True) -> HedgePlan:
        """The plan of a new request; it earns its fraction of a hedge.

        *is_second_ready* is asked when the hedge is due, not before: say False while the breaker of the second target
        is not closed, its limiter has no place, or it asked us to wait.
        """
        policy = self.policy
        self._requests += 1
        if self._saved is not None:
            saved, self._saved = self._saved(), None
            self._budget = max(0.0, saved)
        self._budget = min(policy.budget_burst, self._budget + policy.budget_ratio)

        def may_start() -> bool:
            if self._budget < 1.0 - 1e-9:
                self._refused_budget += 1
                return False
            if not is_second_ready():
                self._refused_target += 1
                return False
            self._budget -= 1.0
            self._hedges += 1
            return True

        def fails_over(error: Exception) -> bool:
            if not (isinstance(error, ProviderError) and error.is_retryable and is_second_ready()):
                return False
            # A server that names a time to wait must not be asked again before it.
            if error.retry_after_s:
                return False
            self._failed_over += 1
            return True

        return HedgePlan(hedge_delay_s(self._latencies, policy), may_start, fails_over)

    def observe(self, first_content_s: float) -> None:
        """A request took this long from its own start to its first content."""
        self._latencies.observe(first_content_s)

    def note_winner(
        self, winner: Winner, winner_s: float, overtaken_s: float | None, *, is_same_target: bool = True
    ) -> None:
        """A request ended well: the winner took *winner_s*; *overtaken_s* is the age of a silent first one that lost.

        That age is a lower bound which lies beyond the quantile, and it is observed like a time: without it the
        stragglers would vanish from the figures and the delay would creep down. A second one that lost says nothing,
        and one that won at another target says nothing about this one.
        """
        if winner == "second":
            self._won_by_second += 1
        if winner == "first" or is_same_target:
            self._latencies.observe(winner_s)
        if overtaken_s is not None:
            self._latencies.observe(overtaken_s)

    def statistics(self) -> HedgeStatistics:
        """Counts, delay and budget."""
        return HedgeStatistics(
            self._requests,
            self._hedges,
            self._failed_over,
            self._won_by_second,
            self._refused_budget,
            self._refused_target,
            hedge_delay_s(self._latencies, self.policy),
            self._budget,
        )
