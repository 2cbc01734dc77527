"""What a circuit breaker says: its state, its refusals, its changes and its counts. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

__all__ = ["BreakerState", "BreakerStatistics", "ChangeCause", "Refused", "StateChange"]


class BreakerState(Enum):
    """The three states. An open breaker turns half-open when it is asked after its time has passed."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class ChangeCause(Enum):
    """Why a breaker changed its state."""

    FAILURES_IN_A_ROW = "failures_in_a_row"
    FAILURE_RATE = "failure_rate"
    SLOW_RATE = "slow_rate"
    OPEN_TIME_PASSED = "open_time_passed"
    PROBE_SUCCEEDED = "probe_succeeded"
    PROBE_FAILED = "probe_failed"
    PROBE_SLOW = "probe_slow"
    OTHER_PROCESS = "other_process"


@dataclass(frozen=True, slots=True)
class Refused:
    """The target is not to be called; ask again after *retry_after_s* seconds.

    *is_cooldown*: the server itself asked to wait; else it has failed too often, or is being tried by somebody else.
    """

    retry_after_s: float
    is_cooldown: bool = False


@dataclass(frozen=True, slots=True)
class StateChange:
    """One change, at the instant *at_s* of the caller's clock; *open_for_s* seconds if it opened, else 0."""

    before: BreakerState
    after: BreakerState
    cause: ChangeCause
    at_s: float
    generation: int
    open_for_s: float


@dataclass(frozen=True, slots=True)
class BreakerStatistics:
    """A snapshot: the state now, the calls in the window, and counts since the start.

    retry_after_s: how long no call goes out at all, 0 if calls may; None if no instant was given.
    consecutive_opens: openings since the last whole answer.  probes: half-open permits that are out.
    slow: first contents that came late.  rate_limited: answered by a 429.  released: ended without a verdict.
    ignored: succeeded or failed, but too late to say anything about the state that has been reached since.
    Invariant: admitted = succeeded + failed + rate_limited + released + those under way.
    """

    state: BreakerState
    generation: int
    retry_after_s: float | None
    failures_in_a_row: int
    consecutive_opens: int
    window_calls: int
    window_failures: int
    window_slow: int
    probes: int
    admitted: int
    refused: int
    succeeded: int
    slow: int
    failed: int
    rate_limited: int
    released: int
    ignored: int
    opened: int

    def as_json(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {name: getattr(self, name) for name in self.__slots__} | {"state": self.state.value}
