"""What `--adaptive` adjusts before an attempt: the order of targets, deadlines, and a second request when one is late.

Between the pure rules (`adaptive`, `hedging`) and the figures of the targets; every change is emitted as `Adapted`.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from utils.events import Adapted
from utils.resilience.adaptive import (
    DeadlinePolicy,
    OrderPolicy,
    TargetFigures,
    adapted_deadlines,
    adapted_hedge_delay,
    ordered_targets,
)
from utils.resilience.attempt import prompt_chars
from utils.resilience.hedging import HedgePlan
from utils.resilience.upstream import Upstream
from utils.run_context import Deadlines, Request

__all__ = ["Adaptation"]

_SHORT_PROMPT_CHARS = 400
"""Shorter prompts (about 100 tokens) take no time worth counting."""


@dataclass(frozen=True, slots=True)
class Adaptation:
    """How far a flow may go in adapting. *max_loops*: how often a degenerate loop is cut out of one answer."""

    deadlines: DeadlinePolicy = field(default_factory=DeadlinePolicy)
    order: OrderPolicy = field(default_factory=OrderPolicy)
    max_loops: int = 2

    def ordered(self, upstreams: Sequence[Upstream], request: Request, rng: random.Random) -> list[Upstream]:
        """*upstreams* in the order in which this request is to try them."""
        by_name = {upstream.target.name: upstream for upstream in upstreams}
        figures = [
            TargetFigures(name, upstream.observed.first_content_s, upstream.observed.tokens_per_s)
            for name, upstream in by_name.items()
        ]
        order = ordered_targets(figures, rng=rng, policy=self.order)
        if order.adapted is not None:
            request.context.emit(order.adapted)
        return [by_name[name] for name in order.names]

    def timed(self, request: Request, upstream: Upstream) -> Request:
        """*request* with the deadlines that fit what *upstream* usually takes; never longer ones than were set."""
        limits = request.deadlines
        current = limits if upstream.deadlines is None else _within(upstream.deadlines, limits)
        observed = upstream.observed
        deadlines, changes = adapted_deadlines(
            limits, current, observed.first_content_s, observed.gap_s, self.deadlines, scale=_scale(request, upstream)
        )
        upstream.deadlines = deadlines
        for change in changes:
            request.context.emit(change)
        return dataclasses.replace(request, deadlines=deadlines)

    def hedge(self, request: Request, upstream: Upstream) -> HedgePlan | None:
        """When to send a second request to *upstream* if the first is late; None: never."""
        hedger = upstream.hedger
        if hedger is None:
            return None
        upstream.hedge_delay_s, change = adapted_hedge_delay(
            upstream.hedge_delay_s, upstream.observed.first_content_s, hedger.policy
        )
        if change is not None:
            request.context.emit(change)
        plan = hedger.plan(lambda: upstream.is_healthy(request.context.clock()))
        if plan.delay_s is None:
            return None
        delay_s = plan.delay_s * _scale(request, upstream)

        def may_start() -> bool:
            if not plan.may_start():
                return False
            upstream.observed.hedges.observe(1.0)
            reason = f"no text from {upstream.target.name} after {delay_s:.3g} s, which is later than usual"
            request.context.emit(Adapted("requests at once", "1", "2", reason))
            return True

        # A failure is for the retry policy to judge, which knows more about it.
        return HedgePlan(delay_s, may_start, lambda error: False)


def _within(deadlines: Deadlines, limits: Deadlines) -> Deadlines:
    """*deadlines*, none of them longer than the limit of this request."""

    def least(one_s: float | None, other_s: float | None) -> float | None:
        return one_s if other_s is None or (one_s is not None and one_s < other_s) else other_s

    return dataclasses.replace(
        limits,
        first_token_s=least(deadlines.first_token_s, limits.first_token_s),
        idle_s=least(deadlines.idle_s, limits.idle_s),
    )


def _scale(request: Request, upstream: Upstream) -> float:
    """How much longer than usual the prompt is, at least 1: reading it takes its time before the first content."""
    usual = upstream.observed.prompt_chars.quantile(0.5)
    return max(1.0, prompt_chars(request) / max(usual, _SHORT_PROMPT_CHARS)) if usual else 1.0
