"""What to do after a failure: one pure function. The only retry layer of the program stands on it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from utils.errors import AppError, ProviderError
from utils.events import ResumeStrategy
from utils.resilience.backoff import Backoff

__all__ = ["Decision", "GiveUp", "Resume", "Retry", "RetryPolicy", "decide"]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """*retries* counts further attempts after the first; a server's wish to wait is granted up to *max_wait_s*."""

    retries: int = 2
    backoff: Backoff = field(default_factory=Backoff)
    max_wait_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Retry:
    """Start over after *delay_s*: nothing of the answer was delivered."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on after what was delivered, by *strategy*, after *delay_s*."""

    strategy: ResumeStrategy
    delay_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """End with the error."""

    error: AppError


Decision = Retry | Resume | GiveUp


def decide(
    error: ProviderError,
    *,
    attempt: int,
    delivered_chars: int,
    can_replay: bool,
    remaining_s: float | None,
    policy: RetryPolicy,
    rng: random.Random,
) -> Decision:
    """The step after attempt number *attempt* (1-based) failed with *error*.

    *delivered_chars* of the answer have left for the screen, so starting over would show them twice; *remaining_s*
    is what is left of the run's own time (None: no limit). A wait that does not fit ends the run at once instead of
    sleeping into its deadline. Draws from *rng* only if it decides to wait.
    """
    if not error.is_retryable or attempt > policy.retries:
        return GiveUp(error)
    if delivered_chars and not can_replay:
        error.hint = "run again; with --seed or --temperature 0 a cut answer can go on where it stopped"
        return GiveUp(error)
    asked_s = error.retry_after_s
    if asked_s is not None and asked_s > policy.max_wait_s:
        error.hint = f"the server asks to wait {asked_s:g} s, longer than is waited here: run again then"
        return GiveUp(error)
    delay_s = policy.backoff.delay_s(attempt, rng)
    if asked_s is not None:
        delay_s = max(delay_s, asked_s)
    if remaining_s is not None and delay_s >= remaining_s:
        return GiveUp(error)
    return Resume("replay", delay_s) if delivered_chars else Retry(delay_s)
