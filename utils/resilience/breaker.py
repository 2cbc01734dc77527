"""A circuit breaker in two steps, made for streams. Pure: time comes in, nothing sleeps.

`admit(now)` gives a permit or refuses; whoever drains the stream reports the outcome on the permit, however much
later that is. A breaker around a function that returns a stream would see only successes.

    closed    --failures in a row reach the threshold-->  open
    open      --its time has passed, a permit is taken-->  half-open
    half-open --the probe succeeds-->  closed      --the probe fails-->  open, for twice as long (capped)

A permit belongs to the generation (the period between two state changes) in which it was given; outcomes of an
earlier generation are ignored, so a late success cannot close a breaker that has opened since. A probe that never
reports expires and releases its place without an outcome.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

__all__ = ["Breaker", "BreakerState", "BreakerStatistics", "Permit", "Refused"]


class BreakerState(Enum):
    """The three states."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Refused:
    """The target is not to be called; ask again after *retry_after_s* seconds."""

    retry_after_s: float


@dataclass(frozen=True, slots=True)
class BreakerStatistics:
    """A snapshot: counts since the start, and the state now."""

    state: BreakerState
    failures_in_a_row: int
    admitted: int
    refused: int
    succeeded: int
    failed: int
    released: int
    opened: int

    def as_json(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {name: getattr(self, name) for name in self.__slots__} | {"state": self.state.value}


class Permit:
    """The right to one connection attempt. Exactly one of `succeed`, `fail`, `release` counts: the first."""

    __slots__ = ("_breaker", "_is_open", "expires_s", "generation")

    def __init__(self, breaker: Breaker, generation: int, expires_s: float) -> None:
        self._breaker = breaker
        self._is_open = True
        self.generation = generation
        self.expires_s = expires_s
        """Instant at which a silent probe gives its place back."""

    def keep_alive(self, now: float) -> None:
        """Content arrived: the attempt is alive, so its permit must not expire."""
        self._breaker._keep_alive(self, now)

    def succeed(self, now: float) -> None:
        """The target delivered."""
        if self._is_open:
            self._is_open = False
            self._breaker._succeed(self, now)

    def fail(self, now: float) -> None:
        """The target failed."""
        if self._is_open:
            self._is_open = False
            self._breaker._fail(self, now)

    def release(self, now: float) -> None:
        """No verdict: the user cancelled, or the failure was not the target's."""
        if self._is_open:
            self._is_open = False
            self._breaker._release(self, now)


class Breaker:
    """The breaker of one target. Not thread-safe: it belongs to one event loop.

    Invariants: half-open, at most *half_open_permits* are out at a time; the open time lies between *open_s* and
    *max_open_s* seconds.
    """

    def __init__(
        self,
        *,
        failure_threshold: int = 5,
        open_s: float = 15.0,
        max_open_s: float = 300.0,
        half_open_permits: int = 1,
        permit_s: float = 60.0,
    ) -> None:
        if failure_threshold < 1 or half_open_permits < 1 or not 0 < open_s <= max_open_s:
            raise ValueError("a breaker needs a threshold and permits of at least 1 and 0 < open_s <= max_open_s")
        self._failure_threshold = failure_threshold
        self._open_s = open_s
        self._max_open_s = max_open_s
        self._half_open_permits = half_open_permits
        self._permit_s = permit_s
        self._state = BreakerState.CLOSED
        self._generation = 0
        self._failures_in_a_row = 0
        self._times_opened_in_a_row = 0
        self._open_until_s = 0.0
        self._probes: list[Permit] = []
        self._admitted = self._refused = self._succeeded = self._failed = self._released = self._opened = 0

    def admit(self, now: float) -> Permit | Refused:
        """A permit for one connection attempt at the instant *now* (seconds), or how long to stay away."""
        if self._state is BreakerState.OPEN:
            if now < self._open_until_s:
                self._refused += 1
                return Refused(self._open_until_s - now)
            self._enter(BreakerState.HALF_OPEN)
        if self._state is BreakerState.HALF_OPEN:
            self._probes = [probe for probe in self._probes if probe.expires_s > now]
            if len(self._probes) >= self._half_open_permits:
                self._refused += 1
                return Refused(min(probe.expires_s for probe in self._probes) - now)
        self._admitted += 1
        permit = Permit(self, self._generation, now + self._permit_s)
        if self._state is BreakerState.HALF_OPEN:
            self._probes.append(permit)
        return permit

    def statistics(self) -> BreakerStatistics:
        """Counts and state."""
        return BreakerStatistics(
            self._state,
            self._failures_in_a_row,
            self._admitted,
            self._refused,
            self._succeeded,
            self._failed,
            self._released,
            self._opened,
        )

    def _keep_alive(self, permit: Permit, now: float) -> None:
        permit.expires_s = now + self._permit_s

    def _succeed(self, permit: Permit, now: float) -> None:
        self._succeeded += 1
        if not self._counts(permit, now):
            return
        self._failures_in_a_row = 0
        if self._state is BreakerState.HALF_OPEN:
            self._times_opened_in_a_row = 0
            self._enter(BreakerState.CLOSED)

    def _fail(self, permit: Permit, now: float) -> None:
        self._failed += 1
        if not self._counts(permit, now):
            return
        self._failures_in_a_row += 1
        if self._state is BreakerState.HALF_OPEN or self._failures_in_a_row >= self._failure_threshold:
            open_s = min(self._max_open_s, self._open_s * 2.0 ** min(self._times_opened_in_a_row, 60))
            self._open_until_s = now + open_s
            self._times_opened_in_a_row += 1
            self._opened += 1
            self._enter(BreakerState.OPEN)

    def _release(self, permit: Permit, now: float) -> None:
        self._released += 1
        self._counts(permit, now)

    def _counts(self, permit: Permit, now: float) -> bool:
        """Whether the permit still speaks for the present state; a probe gives its place back."""
        if permit.generation != self._generation:
            return False
        if self._state is BreakerState.HALF_OPEN:
            if permit.expires_s <= now or permit not in self._probes:
                return False
            self._probes.remove(permit)
        return True

    def _enter(self, state: BreakerState) -> None:
        self._state = state
        self._generation += 1
        self._probes = []
        if state is not BreakerState.OPEN:
            self._failures_in_a_row = 0
