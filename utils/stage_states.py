"""What the stages around a stream say of themselves, gathered for the live panel."""

from __future__ import annotations

from utils.answer_guard import GuardFigures
from utils.metrics.snapshot import StageStates
from utils.resilience.upstream import Upstream

__all__ = ["stage_states"]


def stage_states(upstream: Upstream, guard: GuardFigures) -> StageStates:
    """The states of *upstream*, which is asked now, and of the guard that fills *guard*. Cost: constant."""
    limiter = upstream.limiter.statistics() if upstream.limiter is not None else None
    return StageStates(
        breaker=upstream.breaker.statistics().state.value,
        queued=limiter.queued if limiter else None,
        requests_left=limiter.requests_level if limiter else None,
        tokens_left=limiter.tokens_level if limiter else None,
        held_chars=guard.hold.held_chars if guard.hold is not None else None,
    )
