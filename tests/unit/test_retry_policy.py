"""The decision after a failure: every error, with and without text on the screen, with every budget."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils import errors
from utils.errors import AppError, ProviderError
from utils.resilience.backoff import Backoff
from utils.resilience.retry_policy import (
    AttemptBudget,
    Capabilities,
    Decision,
    FallBack,
    GiveUp,
    Resume,
    Retry,
    RetryBudget,
    RetryPolicy,
    decide,
)

ALONE = Capabilities(strategies=("replay", "prefill"))
CHAIN = Capabilities(strategies=("replay", "prefill"), fallback="b", fallback_strategies=("replay", "continue"))
POLICY = RetryPolicy(retries=2, resumes=1, backoff=Backoff(base_s=0.25, cap_s=8.0))


def decided(
    error: AppError,
    *,
    attempt: int = 1,
    shown: int = 0,
    budget: AttemptBudget | None = None,
    can: Capabilities = ALONE,
    seed: int = 1,
) -> Decision:
    return decide(
        error,
        attempt=attempt,
        shown_chars=shown,
        budget=budget or AttemptBudget(),
        capabilities=can,
        policy=POLICY,
        rng=random.Random(seed),
    )


def told(decision: Decision) -> str:
    """A decision without its delay: `retry`, `resume replay`, `b`, `b continue`, or why it ends."""
    match decision:
        case Retry():
            return "retry"
        case Resume(strategy=strategy):
            return f"resume {strategy}"
        case FallBack(target=target, strategy=strategy):
            return f"{target} {strategy}" if strategy else target
        case GiveUp(reason=reason):
            return reason


def leaves() -> list[type[AppError]]:
    found = [value for name in errors.__all__ if issubclass(value := getattr(errors, name), AppError)]
    return [cls for cls in found if not cls.__subclasses__() or cls is errors.EmbeddedModelError]


OURS = ("not the provider's fault",) * 4
REFUSED = ("the request is refused",) * 4
ELSEWHERE = ("no other target", "no other target", "b", "b continue")
AGAIN = ("retry", "resume replay", "retry", "resume replay")

TABLE = {
    # error: (alone, alone after text, with a fallback, with a fallback after text)
    **dict.fromkeys(("InternalError", "UsageProblem", "ConfigError", "TotalTimeout", "AnswerTooLong"), OURS),
    **dict.fromkeys(("Cancelled", "Terminated", "OutputClosed"), OURS),
    **dict.fromkeys(("PromptRejected", "AnswerBlocked", "ValidationFailed", "ContentFiltered"), OURS),
    "RequestRefused": REFUSED,
    **dict.fromkeys(("AuthFailed", "ModelNotFound", "BreakerOpen", "EmbeddedModelError"), ELSEWHERE),
    **dict.fromkeys(("Unreachable", "ConnectionLost", "ServerFailure", "NotAStream", "ProtocolError"), AGAIN),
    **dict.fromkeys(("StreamTruncated", "FirstTokenTimeout", "IdleTimeout", "RateLimited"), AGAIN),
    "EmbeddedModelDied": AGAIN,
    "ResumeDiverged": ("retry", "resume prefill", "retry", "resume prefill"),
}


@pytest.mark.parametrize("cls", leaves(), ids=lambda cls: cls.__name__)
def test_every_error_has_its_row(cls: type[AppError]) -> None:
    rows = [told(decided(cls("x"), shown=shown, can=can)) for can, shown in itertools.product((ALONE, CHAIN), (0, 40))]
    assert tuple(rows) == TABLE[cls.__name__]


DOWN = errors.ServerFailure("503")
NO_RETRY = errors.ServerFailure("301")
NO_RETRY.is_retryable = False


def asks(seconds: float) -> ProviderError:
    return errors.RateLimited("429", retry_after_s=seconds)


@pytest.mark.parametrize(
    ("error", "options", "alone", "chained"),
    [
        (DOWN, {"attempt": 2}, "retry", "retry"),
        (DOWN, {"attempt": 3}, "no attempts left", "b"),
        (DOWN, {"attempt": 3, "shown": 1}, "no attempts left", "b continue"),
        (DOWN, {"shown": 1, "budget": AttemptBudget(resumes_used=1)}, "no attempts left", "b continue"),
        (DOWN, {"budget": AttemptBudget(resumes_used=1)}, "retry", "retry"),
        (DOWN, {"budget": AttemptBudget(may_retry=False)}, "retry budget spent", "b"),
        (DOWN, {"budget": AttemptBudget(remaining_s=0.0)}, "no time left", "b"),
        (NO_RETRY, {}, "no other target", "b"),
        (asks(3.0), {}, "retry", "retry"),
        (asks(6.0), {}, "retry", "b"),
        (asks(6.0), {"shown": 1}, "resume replay", "b continue"),
        (asks(31.0), {}, "the wait is too long", "b"),
        (asks(3.0), {"budget": AttemptBudget(remaining_s=3.0)}, "no time left", "b"),
        (asks(3.0), {"budget": AttemptBudget(remaining_s=3.3)}, "retry", "retry"),
    ],
)
def test_what_the_budgets_change(error: ProviderError, options: dict[str, object], alone: str, chained: str) -> None:
    assert told(decided(error, **options)) == alone  # type: ignore[arg-type]
    assert told(decided(error, can=CHAIN, **options)) == chained  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("can", "shown", "expected"),
    [
        (Capabilities(), 0, "retry"),
        (Capabilities(), 1, "cannot go on after text"),
        (Capabilities(strategies=("restart",)), 1, "cannot go on after text"),
        (Capabilities(strategies=("continue",)), 1, "resume continue"),
        (Capabilities(fallback="b"), 1, "cannot go on after text"),
        (Capabilities(fallback="b", fallback_strategies=("replay",)), 1, "cannot go on after text"),
        (Capabilities(fallback="b", fallback_strategies=("prefill",)), 1, "b prefill"),
    ],
)
def test_what_the_capabilities_change(can: Capabilities, shown: int, expected: str) -> None:
    assert told(decided(DOWN, shown=shown, can=can)) == expected


def test_after_a_diverged_replay_only_another_strategy_goes_on_and_at_once() -> None:
    diverged = errors.ResumeDiverged("x")
    assert decided(diverged, shown=1, budget=AttemptBudget(resumes_used=0)) == Resume("prefill", 0.0)
    assert told(decided(diverged, shown=1, can=Capabilities(strategies=("replay",)))) == "cannot go on after text"


def test_a_way_out_is_told_where_there_is_one() -> None:
    assert "--seed" in getattr(decided(DOWN, shown=1, can=Capabilities()), "hint")  # noqa: B009
    assert "31 s" in getattr(decided(asks(31.0)), "hint")  # noqa: B009


@given(
    attempt=st.integers(1, 2),
    shown=st.integers(0, 3),
    seed=st.integers(),
    asked=st.none() | st.floats(0.0, 30.0),
    left=st.none() | st.floats(0.0, 40.0),
)
def test_delays_are_full_jitter_keep_the_servers_wish_and_fit_the_run(
    attempt: int, shown: int, seed: int, asked: float | None, left: float | None
) -> None:
    error = errors.RateLimited("429", retry_after_s=asked)
    decision = decided(error, attempt=attempt, shown=shown, budget=AttemptBudget(remaining_s=left), seed=seed)
    jitter = random.Random(seed).uniform(0.0, 0.25 * 2 ** (attempt - 1))
    expected = jitter if asked is None else asked + min(jitter, 0.25)
    if left is not None and expected >= left:
        assert decision == GiveUp("no time left")
    else:
        assert decision == (Resume("replay", expected) if shown else Retry(expected))


def test_ends_draw_nothing_from_the_random_source() -> None:
    class Untouched(random.Random):
        def uniform(self, a: float, b: float) -> float:
            raise AssertionError("drawn")

    for error in (errors.AuthFailed("401"), errors.RequestRefused("400"), errors.Cancelled("x"), asks(31.0)):
        decide(
            error,
            attempt=1,
            shown_chars=0,
            budget=AttemptBudget(),
            capabilities=ALONE,
            policy=POLICY,
            rng=Untouched(),
        )


# The budget over time.


@given(st.lists(st.tuples(st.floats(0.0, 15.0), st.booleans()), max_size=150))
def test_no_window_has_more_retries_than_the_constant_and_a_tenth_of_its_requests(
    steps: list[tuple[float, bool]],
) -> None:
    budget, now = RetryBudget(ratio=0.1, constant=3, window_s=60.0), 0.0
    requests: list[float] = []
    retries: list[float] = []
    for pause_s, is_retry in steps:
        now += pause_s
        if not is_retry:
            budget.note_request(now)
            requests.append(now)
        elif budget.allows(now):
            budget.spend(now)
            retries.append(now)
            # Counts live up to a tenth longer than the window, so requests of 66 s may have earned the retry.
            earned = 3 + 0.1 * sum(at_s > now - 66.0 for at_s in requests)
            assert sum(at_s > now - 60.0 for at_s in retries) <= earned + 1e-6


def test_a_budget_recovers_and_counts_its_refusals() -> None:
    budget = RetryBudget(ratio=0.1, constant=1, window_s=60.0)
    for _ in range(10):
        budget.note_request(0.0)
    for _ in range(2):
        assert budget.allows(1.0)
        budget.spend(1.0)
    assert not budget.allows(1.0)
    assert budget.statistics(1.0).refused == 1
    assert budget.allows(70.0)
    assert budget.statistics(70.0).retries == 0


@pytest.mark.parametrize("options", [{"ratio": 1.5}, {"constant": -1}, {"window_s": 0.0}])
def test_a_budget_that_makes_no_sense_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="a retry budget"):
        RetryBudget(**options)  # type: ignore[arg-type]
