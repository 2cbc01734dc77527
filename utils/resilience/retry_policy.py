"""What to do after a failure, with fallbacks and budgets: one pure function. The successor of `policy.decide`.

    who is at fault        before text is shown                       after it
    the run, a guard       give up                                    give up
    the request (4xx)      give up: no server will take it            give up
    key, quota, model      fall back                                  fall back, if the other target can go on
    breaker open, no start fall back                                  fall back, if the other target can go on
    busy (429)             retry, no earlier than asked for           resume likewise
    network, 5xx, cut      retry                                      resume: the target's next best strategy
    replay diverged        -                                          resume by another strategy, else fall back

Retrying and resuming end with the attempts, with the retry budget (see `RetryBudget`) and with the run's time: a wait
that does not fit is not begun. What cannot be retried falls back if there is another target, else it is the end.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from utils.errors import (
    AppError,
    AuthFailed,
    BreakerOpen,
    EmbeddedModelError,
    ModelNotFound,
    ProviderError,
    RequestRefused,
    ResumeDiverged,
)
from utils.events import ResumeStrategy
from utils.resilience.backoff import Backoff

__all__ = [
    "AttemptBudget",
    "Capabilities",
    "Decision",
    "FallBack",
    "GiveUp",
    "GiveUpReason",
    "Resume",
    "Retry",
    "RetryBudget",
    "RetryBudgetStatistics",
    "RetryPolicy",
    "decide",
]

GiveUpReason = Literal[
    "not the provider's fault",
    "the request is refused",
    "no other target",
    "no attempts left",
    "retry budget spent",
    "the wait is too long",
    "no time left",
    "cannot go on after text",
]

_OTHER_TARGET_MAY_HELP = (AuthFailed, ModelNotFound, BreakerOpen, EmbeddedModelError)
_ANOTHER_MODEL: tuple[ResumeStrategy, ...] = ("prefill", "continue")
"""What lets one model go on with the text of another; a replay repeats only the model that wrote it."""
_HINT_RESUME = "run again; with --seed or --temperature 0 a cut answer can go on where it stopped"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """*retries* counts further attempts after the first, *resumes* those of them after text was shown.

    A server's wish to wait is granted up to *max_wait_s*; with another target at hand only up to *patience_s*.
    """

    retries: int = 2
    resumes: int = 2
    backoff: Backoff = field(default_factory=Backoff)
    max_wait_s: float = 30.0
    patience_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the target and the one behind it allow.

    *strategies*: how this target's cut answer can go on, best first, those that were tried in vain left out.
    *fallback*: the name of the next target that is ready, or None; *fallback_strategies*: how that one goes on.
    """

    strategies: Sequence[ResumeStrategy] = ()
    fallback: str | None = None
    fallback_strategies: Sequence[ResumeStrategy] = ()


@dataclass(frozen=True, slots=True)
class AttemptBudget:
    """What is left: *remaining_s* of the run (None: no limit), *resumes_used*, and whether `RetryBudget` agrees."""

    remaining_s: float | None = None
    resumes_used: int = 0
    may_retry: bool = True


@dataclass(frozen=True, slots=True)
class Retry:
    """Start over at the same target after *delay_s*: nothing of the answer was shown."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on at the same target after what was shown, by *strategy*, after *delay_s*."""

    strategy: ResumeStrategy
    delay_s: float


@dataclass(frozen=True, slots=True)
class FallBack:
    """Go to *target* at once; with *strategy* if text was shown. Attempts count anew there."""

    target: str
    strategy: ResumeStrategy | None = None


@dataclass(frozen=True, slots=True)
class GiveUp:
    """End with the error that was decided about; *hint*, if not empty, is a better way out than the error's own."""

    reason: GiveUpReason
    hint: str = ""


Decision = Retry | Resume | FallBack | GiveUp


def decide(
    error: AppError,
    *,
    attempt: int,
    shown_chars: int,
    budget: AttemptBudget,
    capabilities: Capabilities,
    policy: RetryPolicy,
    rng: random.Random,
) -> Decision:
    """The step after attempt number *attempt* (1-based, at this target) failed with *error*.

    Full jitter: uniform(0, min(cap, base 2^(attempt - 1))); a server's wish to wait is kept, and the jitter comes on
    top of it, capped at the base, so that all who were told the same do not come back at once. Changes nothing; draws
    once from *rng*, and only for Retry and Resume. Whoever follows one of these calls `RetryBudget.spend`.
    """
    if not isinstance(error, ProviderError):
        return GiveUp("not the provider's fault")
    if isinstance(error, RequestRefused):
        return GiveUp("the request is refused")
    if isinstance(error, _OTHER_TARGET_MAY_HELP) and not error.is_retryable:
        return _fall_back(capabilities, shown_chars) or GiveUp("no other target")

    strategies = [s for s in capabilities.strategies if s != "restart"]
    diverged = isinstance(error, ResumeDiverged)
    if diverged:
        strategies = [s for s in strategies if s != "replay"]
    problem = _obstacle(error, attempt, shown_chars, budget, policy, bool(strategies))
    if problem is None:
        asked_s = error.retry_after_s
        delay_s = 0.0 if diverged else policy.backoff.delay_s(attempt, rng)
        if asked_s is not None:
            delay_s = asked_s + min(delay_s, policy.backoff.base_s)
        is_long = asked_s is not None and asked_s > policy.patience_s
        if budget.remaining_s is not None and delay_s >= budget.remaining_s:
            problem = GiveUp("no time left")
        elif not (is_long and _fall_back(capabilities, shown_chars)):
            return Resume(strategies[0], delay_s) if shown_chars else Retry(delay_s)
    return _fall_back(capabilities, shown_chars) or problem or GiveUp("no other target")


def _obstacle(
    error: ProviderError, attempt: int, shown_chars: int, budget: AttemptBudget, policy: RetryPolicy, can_resume: bool
) -> GiveUp | None:
    """Why the same target is not asked again; None if it may be."""
    if not error.is_retryable and not isinstance(error, ResumeDiverged):
        return GiveUp("no other target")
    if shown_chars and not can_resume:
        return GiveUp("cannot go on after text", "" if isinstance(error, ResumeDiverged) else _HINT_RESUME)
    # A way of going on that failed is not tried again, and costs no attempt: the ways are few.
    free = isinstance(error, ResumeDiverged)
    if attempt - free > policy.retries or (shown_chars and budget.resumes_used - free >= policy.resumes):
        return GiveUp("no attempts left")
    if not budget.may_retry:
        return GiveUp("retry budget spent", "too many requests fail just now: run again later")
    asked_s = error.retry_after_s
    if asked_s is not None and asked_s > policy.max_wait_s:
        return GiveUp(
            "the wait is too long", f"the server asks to wait {asked_s:g} s, longer than is waited here: run again then"
        )
    return None


def _fall_back(capabilities: Capabilities, shown_chars: int) -> FallBack | None:
    target = capabilities.fallback
    if target is None:
        return None
    if not shown_chars:
        return FallBack(target)
    strategy = next((s for s in capabilities.fallback_strategies if s in _ANOTHER_MODEL), None)
    return None if strategy is None else FallBack(target, strategy)


@dataclass(frozen=True, slots=True)
class RetryBudgetStatistics:
    """Requests and retries within the window, and how many more retries it allows; refusals since the start."""

    requests: int
    retries: int
    left: float
    refused: int

    def as_json(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {name: getattr(self, name) for name in self.__slots__}


class RetryBudget:
    """Retries over time, shared by all runs against a target: at most *constant* + *ratio* x requests in *window_s*.

    Attempts per request bound what one run adds to an overload; only this bounds what all of them add together. The
    constant lets a single run retry at all. The window moves in ten steps: a count lives for *window_s*, and up to a
    tenth longer. Not thread-safe.
    """

    _STEPS = 10

    def __init__(self, *, ratio: float = 0.1, constant: int = 5, window_s: float = 60.0) -> None:
        if not (0.0 <= ratio <= 1.0 and constant >= 0 and window_s > 0.0):
            raise ValueError("a retry budget has a ratio of 0..1, a constant of at least 0 and a window above 0 s")
        self._ratio = ratio
        self._constant = constant
        self._step_s = window_s / self._STEPS
        self._steps: deque[list[int]] = deque()
        """[number of the step, requests, retries], oldest first."""
        self._requests = self._retries = self._refused = 0

    def note_request(self, now: float) -> None:
        """A request was sent for the first time at the instant *now* (s)."""
        self._step(now)[1] += 1
        self._requests += 1

    def allows(self, now: float) -> bool:
        """Whether one more retry fits; for `AttemptBudget.may_retry`."""
        self._step(now)
        fits = self._left() >= 1.0
        self._refused += not fits
        return fits

    def spend(self, now: float) -> None:
        """A retry or a resume is sent."""
        self._step(now)[2] += 1
        self._retries += 1

    def statistics(self, now: float) -> RetryBudgetStatistics:
        """What the window holds at the instant *now*."""
        self._step(now)
        return RetryBudgetStatistics(self._requests, self._retries, self._left(), self._refused)

    def _left(self) -> float:
        # A hair for 0.1 x 10 requests and its like, which must be 1.
        return self._constant + self._ratio * self._requests - self._retries + 1e-9

    def _step(self, now: float) -> list[int]:
        number = int(now / self._step_s)
        steps = self._steps
        while steps and steps[0][0] <= number - self._STEPS - 1:
            _, requests, retries = steps.popleft()
            self._requests -= requests
            self._retries -= retries
        if not steps or steps[-1][0] < number:
            steps.append([number, 0, 0])
        return steps[-1]
