"""Percentiles: linear interpolation, checked against the standard library and against the definition."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from utils.metrics.percentiles import P99_MIN_SAMPLES, Summary, percentile, summarize

durations = st.floats(min_value=0.0, max_value=1e6, allow_nan=False)


@pytest.mark.parametrize(
    ("values", "fraction", "expected"),
    [
        ([7.0], 0.0, 7.0),
        ([7.0], 0.99, 7.0),
        ([1.0, 2.0], 0.5, 1.5),
        ([1.0, 2.0, 3.0, 4.0], 0.5, 2.5),
        ([1.0, 2.0, 3.0, 4.0], 0.9, 3.7),
        ([1.0, 2.0, 3.0, 4.0], 1.0, 4.0),
        ([0.0, 10.0], 0.99, 9.9),
    ],
)
def test_a_percentile_lies_between_the_two_closest_ranks(values: list[float], fraction: float, expected: float) -> None:
    assert percentile(values, fraction) == pytest.approx(expected)


@given(st.lists(durations, min_size=2, max_size=40))
def test_every_percentile_equals_the_inclusive_quantile_of_the_standard_library(values: list[float]) -> None:
    ordered = sorted(values)
    cuts = statistics.quantiles(ordered, n=100, method="inclusive")
    for number, cut in enumerate(cuts, start=1):
        assert percentile(ordered, number / 100) == pytest.approx(cut, rel=1e-9, abs=1e-9)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), st.floats(0, 1), st.floats(0, 1))
@example([-1e6, 0.1], 1 - 2**-53, 1.0)
def test_a_percentile_stays_within_the_values_and_never_falls_as_the_fraction_grows(
    values: list[float], one: float, other: float
) -> None:
    ordered = sorted(values)
    low, high = sorted((one, other))
    assert ordered[0] <= percentile(ordered, low) <= percentile(ordered, high) <= ordered[-1]


@pytest.mark.parametrize(("values", "fraction"), [([], 0.5), ([1.0], -0.1), ([1.0], 1.1), ([1.0], math.nan)])
def test_no_values_and_fractions_outside_0_to_1_are_refused(values: list[float], fraction: float) -> None:
    with pytest.raises(ValueError, match=r"no percentile|fraction"):
        percentile(values, fraction)


def test_a_summary_of_nothing_is_none_throughout() -> None:
    assert summarize([]) == Summary(n=0, p50=None, p90=None, p99=None, max=None, mean=None)


@pytest.mark.parametrize("count", [1, 2, P99_MIN_SAMPLES - 1])
def test_under_100_samples_no_p99_is_given(count: int) -> None:
    summary = summarize([1.0] * count)
    assert (summary.n, summary.p99, summary.p90) == (count, None, 1.0)


@given(st.integers(100, 130), st.integers())
def test_a_summary_does_not_depend_on_the_order_of_its_samples(count: int, seed: int) -> None:
    rng = random.Random(seed)
    values = [rng.expovariate(20) for _ in range(count)]
    summary = summarize(values)
    ordered = sorted(values)
    assert summary == summarize(ordered)
    assert summary.p99 == percentile(ordered, 0.99)
    assert (summary.n, summary.max) == (len(values), max(values))
    assert summary.mean == pytest.approx(statistics.fmean(values))
