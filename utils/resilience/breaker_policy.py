"""When a circuit breaker opens and for how long, and the window of calls that it judges. Pure."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass

__all__ = ["BreakerPolicy", "CallWindow"]

_MAX_DOUBLINGS = 60
"""2.0 ** n overflows a float near 1024; any cap is reached long before this."""


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """The thresholds of a breaker; times in seconds, rates in 0..1.

    Opens after *failure_threshold* failures in a row, or when of at least *minimum_calls* calls (the newest
    *window_calls*, none older than *window_s*) the share *failure_rate* has failed, or *slow_rate* had its first
    content later than *slow_after_s* (None: nothing is slow).
    Stays open for *open_s*, doubled with every opening that no whole answer came between, at most *max_open_s*, which
    also bounds what a server may ask for; *jitter* is the largest share by which chance shortens it.
    Then *half_open_permits* calls at a time may try; a permit without content expires after *permit_s*.
    Raises: ValueError if that makes no sense.
    """

    failure_threshold: int = 5
    failure_rate: float = 0.5
    slow_rate: float = 0.8
    slow_after_s: float | None = None
    minimum_calls: int = 10
    window_calls: int = 50
    window_s: float = 60.0
    open_s: float = 15.0
    max_open_s: float = 300.0
    jitter: float = 0.1
    half_open_permits: int = 1
    permit_s: float = 60.0

    def __post_init__(self) -> None:
        makes_sense = (
            min(self.failure_threshold, self.half_open_permits, self.minimum_calls) >= 1
            and self.minimum_calls <= self.window_calls
            and 0 < self.failure_rate <= 1
            and 0 < self.slow_rate <= 1
            and 0 <= self.jitter < 1
            and 0 < self.open_s <= self.max_open_s < float("inf")
            and self.window_s > 0
            # A permit that never expires would let one dead caller keep a breaker half-open for ever.
            and 0 < self.permit_s < float("inf")
            and (self.slow_after_s is None or self.slow_after_s > 0)
        )
        if not makes_sense:
            raise ValueError(
                "a breaker needs a threshold, permits and minimum_calls of at least 1, minimum_calls <= window_calls, "
                "rates in 0..1 above 0, jitter in 0..1 below 1, times above 0, open_s <= max_open_s, and that and "
                "permit_s finite"
            )

    def open_time_s(self, earlier_opens: int, rng: random.Random | None) -> float:
        """How long to stay open after *earlier_opens* openings in a row; without *rng* there is no jitter.

        Formula: min(max_open_s, open_s * 2**earlier_opens) * uniform(1 - jitter, 1).     Draws at most once.
        """
        open_s = min(self.max_open_s, self.open_s * 2.0 ** min(earlier_opens, _MAX_DOUBLINGS))
        # Chance only shortens, so the cap holds, and processes that opened together do not come back together.
        return open_s if rng is None else open_s * rng.uniform(1.0 - self.jitter, 1.0)


class CallWindow:
    """The newest calls: at most *size* of them, none older than *age_s*.  Amortised O(1) time, O(size) memory."""

    __slots__ = ("_age_s", "_calls", "_size", "failures", "slow")

    def __init__(self, size: int, age_s: float) -> None:
        self._size = size
        self._age_s = age_s
        self._calls: deque[tuple[float, bool, bool]] = deque()
        self.failures = 0
        """How many of the calls failed."""
        self.slow = 0
        """How many of them had a late first content."""

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, now: float, *, failed: bool, slow: bool) -> None:
        """A call ended at the instant *now*."""
        self._calls.append((now, failed, slow))
        self.failures += failed
        self.slow += slow
        if len(self._calls) > self._size:
            self._drop_oldest()
        self.forget_old(now)

    def forget_old(self, now: float) -> None:
        """Drop what is *age_s* or more behind *now*."""
        oldest_kept_s = now - self._age_s
        while self._calls and self._calls[0][0] <= oldest_kept_s:
            self._drop_oldest()

    def clear(self) -> None:
        """Drop everything."""
        self._calls.clear()
        self.failures = self.slow = 0

    def _drop_oldest(self) -> None:
        _, failed, slow = self._calls.popleft()
        self.failures -= failed
        self.slow -= slow
