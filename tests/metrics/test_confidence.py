"""Confidence: each figure against its definition."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.events import TokenLogprob
from utils.metrics.confidence import (
    CONFIDENCE_WINDOW_TOKENS,
    LOGPROB_FLOOR,
    ConfidenceLog,
    confidence_of,
    probability,
)

logprobs = st.lists(st.floats(min_value=-30, max_value=0), min_size=1, max_size=120)


@given(logprobs)
def test_the_lowest_window_is_the_least_mean_of_all_windows(values: list[float]) -> None:
    found = confidence_of(values)
    assert found is not None
    size = min(CONFIDENCE_WINDOW_TOKENS, len(values))
    means = [math.fsum(values[i : i + size]) / size for i in range(len(values) - size + 1)]
    assert found.lowest_window_tokens == size
    assert found.lowest_window_mean_logprob == pytest.approx(min(means), abs=1e-9)
    assert means[found.lowest_window_start] == pytest.approx(min(means), abs=1e-9)
    assert found.lowest_window_mean_logprob <= found.mean_logprob + 1e-9


@given(logprobs)
def test_mean_perplexity_and_share_follow_from_the_logprobs(values: list[float]) -> None:
    found = confidence_of(values)
    assert found is not None
    assert found.tokens == len(values)
    assert found.mean_logprob == pytest.approx(sum(values) / len(values))
    assert found.perplexity == pytest.approx(math.exp(-found.mean_logprob))
    assert found.low_probability_share == sum(math.exp(value) < 0.5 for value in values) / len(values)


def test_without_logprobs_there_is_no_confidence() -> None:
    assert confidence_of([]) is None
    assert ConfidenceLog(10).as_json() is None


@pytest.mark.parametrize("wild", [-9999.0, -math.inf, math.nan])
def test_a_wild_logprob_counts_as_the_floor_and_never_overflows(wild: float) -> None:
    found = confidence_of([wild])
    assert found is not None
    assert found.mean_logprob == LOGPROB_FLOOR
    assert math.isfinite(found.perplexity)
    assert 0.0 <= probability(wild) < 1e-40


def test_a_positive_logprob_counts_as_certainty() -> None:
    assert probability(0.3) == 1.0
    found = confidence_of([0.3, 0.3])
    assert found is not None
    assert (found.mean_logprob, found.perplexity) == (0.0, 1.0)


def test_the_lowest_window_knows_its_place_in_the_text() -> None:
    log = ConfidenceLog(1_000)
    for i in range(100):
        log.add((TokenLogprob("abc", -3.0 if 40 <= i < 72 else -0.1),), i * 5, i * 5 + 3)
    window = log.as_json()["lowest_window"]  # type: ignore[index]
    assert window == {
        "mean_logprob": pytest.approx(-3.0),
        "tokens": 32,
        "start_char": 200,
        "end_char": 358,
    }


def test_tokens_of_one_delta_share_its_place() -> None:
    log = ConfidenceLog(1_000)
    log.add((TokenLogprob("ab", -0.1), TokenLogprob("cd", -2.0)), 5, 9)
    found = log.as_json()
    assert found is not None
    assert found["lowest_window"] == {"mean_logprob": -1.05, "tokens": 2, "start_char": 5, "end_char": 9}


def test_tokens_beyond_the_cap_are_counted_and_left_out() -> None:
    log = ConfidenceLog(cap=3)
    for i in range(5):
        log.add((TokenLogprob("x", -float(i)),), i, i + 1)
    found = log.as_json()
    assert found is not None
    assert (log.count, found["tokens"], found["left_out"]) == (5, 3, 2)
    assert found["mean_logprob"] == -1.0
