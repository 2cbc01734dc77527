"""The course of one answer through attempts and targets: what was delivered, what is tried next, how it is joined.

The state that `ResilientStream` drives. It decides nothing by itself (`retry_policy.decide` does) and waits for
nothing: what has to be asked of a server is asked by the driver between `wants_to_know` and `after`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from utils.errors import BreakerOpen, ProviderError, RequestRefused, ResumeDiverged
from utils.events import (
    Aborted,
    Adapted,
    Event,
    FellBack,
    Finished,
    Flagged,
    Interrupted,
    Resumed,
    ResumeStrategy,
    Retrying,
    TextDelta,
)
from utils.resilience.answer_so_far import AnswerSoFar
from utils.resilience.attempt import left_alone
from utils.resilience.continuation import (
    Capabilities,
    continue_request,
    prefill_request,
    remaining_tokens,
    strategies,
)
from utils.resilience.loop_guard import Loop, resampled
from utils.resilience.resume import Replay
from utils.resilience.retry_policy import AttemptBudget, Decision, FallBack, GiveUp, Resume, Retry, RetryPolicy, decide
from utils.resilience.retry_policy import Capabilities as Ways
from utils.resilience.stitching import Stitcher
from utils.resilience.upstream import Upstream
from utils.run_context import Request

__all__ = ["Course", "Joiner"]

Joiner = Replay | Stitcher
"""Lets pass of a new attempt what lies behind the delivered text."""

_ANY_MODEL: tuple[ResumeStrategy, ...] = ("prefill", "continue")
"""The ways by which a model goes on with text that it would not write again: another model's, or after a loop."""


class Course:
    """Where the answer to *request* stands in the chain of *upstreams*.

    Invariant: `way` is `restart` as long as nothing was delivered, and never after it.
    """

    def __init__(
        self, request: Request, upstreams: Sequence[Upstream], policy: RetryPolicy, rng: random.Random
    ) -> None:
        self.request = request
        self.upstreams = list(upstreams)
        self.answer = AnswerSoFar()
        self.number = 1
        """Of the attempt, counted over all targets."""
        self.tries = 1
        """Attempts at this target."""
        self.way: ResumeStrategy = "restart"
        """How the next attempt is to go on."""
        self.loops = 0
        """How many were cut out."""
        self._policy = policy
        self._rng = rng
        self._place = 0
        self._resumes = 0
        self._in_vain: set[ResumeStrategy] = set()
        self._last_cause: ProviderError | None = None
        """Why the attempt before this one failed here."""
        self._capabilities = self.upstream.capabilities
        self._stopped_s: float | None = None
        """When the text stopped; None while it flows."""

    @property
    def upstream(self) -> Upstream:
        """The one that is asked now."""
        return self.upstreams[self._place]

    @property
    def _following(self) -> Upstream | None:
        return self.upstreams[self._place + 1] if self._place + 1 < len(self.upstreams) else None

    @property
    def is_last_chance(self) -> bool:
        """Whether nothing follows if the next attempt fails: it gets all the time that was allowed."""
        return self.tries > self._policy.retries and self._following is None

    @property
    def is_joined(self) -> bool:
        """Whether the text flows: what was delivered has been found again, or nothing was."""
        return self._stopped_s is None

    # -- the next attempt --------------------------------------------------------------------------------------------

    def is_at_limit(self) -> bool:
        """Whether the answer is known to have all the tokens that were asked for, so that only its end was lost."""
        limit = self.upstream.adjusted(self.request).parameters.max_tokens
        counted = self.answer.counted_tokens
        if self.way not in _ANY_MODEL or limit is None or counted is None:
            return False
        return remaining_tokens(limit, "", counted).tokens == 0

    def next_request(self) -> Request:
        """What to send."""
        request, answer = self.upstream.adjusted(self.request), self.answer
        match self.way:
            case "prefill":
                form = self._capabilities.prefill or "trailing"
                return prefill_request(request, answer.written, form=form, counted=answer.counted_tokens)
            case "continue":
                return continue_request(request, answer.written, counted=answer.counted_tokens)
            case "replay" | "restart":
                return request

    def joiner(self) -> Joiner | None:
        """What the events of the next attempt have to pass; None: they are the answer."""
        match self.way:
            case "replay":
                return Replay(self.answer.delivered)
            case "prefill" | "continue":
                return Stitcher(self.answer.written, self.way)
            case "restart":
                return None

    def joined(self, joiner: Joiner, batch: list[Event], now: float) -> list[Event]:
        """What of *batch* may pass, with `Resumed` where the answer goes on. Raises ResumeDiverged."""
        try:
            passed = joiner.feed(batch)
        except ResumeDiverged:
            self._in_vain.add(self.way)
            raise
        if self._stopped_s is None or not joiner.is_caught_up:
            return passed
        place = next((n for n, event in enumerate(passed) if isinstance(event, TextDelta | Finished)), None)
        if place is None:
            return passed
        gap_s = round(now - self._stopped_s, 6)
        self._stopped_s = None
        if self.way != "replay":
            self.answer.is_original = False
        seam: list[Event] = [Resumed(self.way, self.number, gap_s, joiner.overlap_chars)]
        if self.way == "continue" and isinstance(joiner, Stitcher) and joiner.is_unproved:
            seam.append(Flagged("unproved_seam", self.answer.chars, self.answer.chars))
        return [*passed[:place], *seam, *passed[place:]]

    def refusal(self, error: RequestRefused) -> ProviderError:
        """What it means that the server refuses the request: if only this way of going on, another one may do."""
        if self.way not in _ANY_MODEL:
            return error
        self._in_vain.add(self.way)
        return ResumeDiverged(
            f"{self.upstream.target.name} refuses to go on with the answer: {error.message}",
            hint="the answer is not whole; run again",
        )

    # -- after it ----------------------------------------------------------------------------------------------------

    def note_failure(self, cause: ProviderError, now: float, *, was_open: bool) -> list[Event]:
        """The attempt failed at the instant *now*; *was_open*: after its connection was made."""
        if not self.answer:
            return []
        is_first = self._stopped_s is None
        if is_first:
            self._stopped_s = now
        return [Interrupted(cause, self.answer.chars)] if was_open or is_first else []

    def wants_to_know(self, cause: ProviderError) -> bool:
        """Whether it matters now what the server allows besides a replay: asking costs a request."""
        may_replay = self.answer.is_original and self._capabilities.replay and "replay" not in self._in_vain
        return bool(self.answer) and not may_replay and (cause.is_retryable or isinstance(cause, ResumeDiverged))

    def learn(self, capabilities: Capabilities) -> None:
        """What the target that is asked now allows."""
        self._capabilities = capabilities
        if self.way in _ANY_MODEL:
            self.way = next((way for way in self._ways(capabilities) if way in _ANY_MODEL), self.way)

    def after(self, cause: ProviderError, now: float) -> FellBack | Retrying | Aborted:
        """Decide what follows *cause*, and go there. After `FellBack` with text, `learn` what the new target allows."""
        upstream = self.upstream
        decision = self._decision(cause, now)
        left_alone_s = upstream.breaker.statistics(now).retry_after_s or 0.0
        if isinstance(decision, Retry | Resume) and decision.delay_s < left_alone_s:
            # Our own failures have opened it: nobody should wait for an attempt that will be refused.
            self._last_cause = cause
            cause = left_alone(upstream.target.name, left_alone_s)
            decision = self._decision(cause, now)
        if isinstance(decision, GiveUp):
            before = self._last_cause
            if isinstance(cause, BreakerOpen) and before is not None:
                # What the failures were says more.
                before.hint = cause.message
                return Aborted(before)
            if decision.hint and not cause.simulated:
                cause.hint = decision.hint
            return Aborted(cause)
        self._last_cause = cause
        self.number += 1
        if isinstance(decision, FallBack):
            self._place += 1
            self.tries, self._resumes, self._in_vain, self._last_cause = 1, 0, set(), None
            self.way = decision.strategy or "restart"
            self._capabilities = self.upstream.capabilities
            if self.answer:
                self.answer.is_original = False
            why = f"{cause.message} (simulated)" if cause.simulated else cause.message
            return FellBack(upstream.target.name, self.upstream.target.name, why)
        self.way = "restart"
        if isinstance(decision, Resume):
            self.way = decision.strategy
        if not isinstance(cause, ResumeDiverged):
            self.tries += 1
            self._resumes += isinstance(decision, Resume)
            upstream.budget.spend(now)
        return Retrying(self.number, decision.delay_s, cause)

    def _decision(self, cause: ProviderError, now: float) -> Decision:
        upstream, following = self.upstream, self._following
        context = self.request.context
        return decide(
            cause,
            attempt=self.tries,
            shown_chars=self.answer.chars,
            budget=AttemptBudget(
                remaining_s=None if context.deadline_s is None else context.deadline_s - now,
                resumes_used=self._resumes,
                may_retry=upstream.budget.allows(now),
            ),
            capabilities=Ways(
                strategies=self._ways(self._capabilities),
                fallback=following.target.name if following is not None else None,
                fallback_strategies=self._ways(following.capabilities, is_new=True) if following is not None else (),
            ),
            policy=self._policy,
            rng=self._rng,
        )

    def may_cut(self) -> bool:
        """Whether an answer that repeats itself can go on from before its loop."""
        return any(way in _ANY_MODEL for way in self._ways(self._capabilities))

    def cut(self, loop: Loop, now: float) -> tuple[list[TextDelta], Adapted]:
        """Go on from before *loop* with other sampling parameters: what is shown at the seam, and what was changed."""
        self._stopped_s = now
        self.loops += 1
        self.number += 1
        seam = [] if self.answer.delivered.endswith("\n") else [TextDelta("\n")]
        for delta in seam:
            self.answer.add(delta)
        self.answer.keep(loop)
        # From where the loop before this one has left them: a step each time.
        parameters, adapted = resampled(self.upstream.adjusted(self.request).parameters, loop, attempt=1)
        self.request = self.request.with_parameters(parameters)
        self.way = next(way for way in self._ways(self._capabilities) if way in _ANY_MODEL)
        return seam, adapted

    def _ways(self, capabilities: Capabilities, *, is_new: bool = False) -> tuple[ResumeStrategy, ...]:
        """How the answer can go on at a target of these *capabilities*, best first, without what failed there."""
        answer = self.answer
        ways = strategies(capabilities, self.request, answer.written, has_reasoned=answer.has_reasoned)
        if is_new or not answer.is_original:
            ways = tuple(way for way in ways if way in _ANY_MODEL)
        return ways if is_new else tuple(way for way in ways if way not in self._in_vain)
