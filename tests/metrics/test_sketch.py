"""The sketch: its relative error, its laws, and what it refuses to read."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.metrics.sketch import HIGHEST, LOWEST, RELATIVE_ERROR, Sketch

ROUNDED = RELATIVE_ERROR * 1.001
VALUES = st.lists(st.floats(LOWEST, HIGHEST), min_size=1, max_size=60)
FRACTIONS = st.floats(0.0, 1.0)


def sketch_of(values: list[float]) -> Sketch:
    sketch = Sketch()
    for value in values:
        sketch.add(value)
    return sketch


@given(VALUES, FRACTIONS)
def test_a_quantile_is_within_the_relative_error_of_the_nearest_rank(values: list[float], fraction: float) -> None:
    estimate = sketch_of(values).quantile(fraction)
    rank = max(math.ceil(fraction * len(values) * (1 - 1e-12)), 1)
    true = sorted(values)[rank - 1]
    assert estimate is not None
    assert abs(estimate - true) <= RELATIVE_ERROR * true * (1 + 1e-9)


@given(VALUES, FRACTIONS, FRACTIONS)
def test_quantiles_never_decrease(values: list[float], one: float, other: float) -> None:
    sketch = sketch_of(values)
    low, high = sketch.quantile(min(one, other)), sketch.quantile(max(one, other))
    assert low is not None
    assert high is not None
    assert low <= high


@given(VALUES, VALUES, FRACTIONS)
def test_merging_is_counting_together(left: list[float], right: list[float], fraction: float) -> None:
    merged, turned = sketch_of(left), sketch_of(right)
    merged.merge(sketch_of(right))
    turned.merge(sketch_of(left))
    assert merged.weight == len(left) + len(right)
    assert merged.quantile(fraction) == turned.quantile(fraction) == sketch_of(left + right).quantile(fraction)


@given(VALUES, FRACTIONS, st.floats(0.05, 1.0))
def test_a_written_sketch_reads_the_same(values: list[float], fraction: float, factor: float) -> None:
    sketch = sketch_of(values)
    sketch.fade(factor)
    again = Sketch.from_json(sketch.to_json())
    assert again.weight == pytest.approx(sketch.weight, rel=1e-3)
    assert again.to_json() == sketch.to_json()
    low, high = sketch.quantile(max(0.0, fraction - 0.01)), sketch.quantile(min(1.0, fraction + 0.01))
    estimate = again.quantile(fraction)
    assert low is not None
    assert high is not None
    assert estimate is not None
    assert low <= estimate <= high


def test_newer_values_outweigh_faded_ones() -> None:
    sketch = sketch_of([1.0] * 90)
    sketch.fade(0.1)
    sketch.merge(sketch_of([5.0] * 11))
    assert sketch.weight == pytest.approx(20.0)
    assert sketch.quantile(0.5) == pytest.approx(5.0, rel=ROUNDED)
    sketch.fade(1e-9)
    assert sketch.quantile(0.5) is None


def test_a_limit_keeps_the_shares() -> None:
    sketch = sketch_of([1.0] * 300 + [2.0] * 100)
    sketch.limit(40.0)
    assert sketch.weight == pytest.approx(40.0)
    assert sketch.quantile(0.74) == pytest.approx(1.0, rel=ROUNDED)
    assert sketch.quantile(0.76) == pytest.approx(2.0, rel=ROUNDED)
    sketch.limit(100.0)
    assert sketch.weight == pytest.approx(40.0)


@pytest.mark.parametrize(("value", "counted"), [(0.0, LOWEST), (1e-9, LOWEST), (1e9, HIGHEST), (math.inf, HIGHEST)])
def test_values_outside_the_bounds_count_as_the_bound(value: float, counted: float) -> None:
    assert sketch_of([value]).quantile(0.5) == pytest.approx(counted, rel=ROUNDED)


def test_it_stays_small_whatever_it_counts() -> None:
    ratio = (HIGHEST / LOWEST) ** (1 / 5000)
    sketch = sketch_of([LOWEST * ratio**i for i in range(5001)])
    assert len(json.loads(sketch.to_json())["buckets"]) <= 519
    assert len(sketch.to_json()) < 10_000


@pytest.mark.parametrize("value", [-1.0, math.nan, -math.inf])
def test_what_is_no_duration_is_refused(value: float) -> None:
    sketch = Sketch()
    with pytest.raises(ValueError, match="numbers from 0 up"):
        sketch.add(value)
    assert sketch.weight == 0.0


@pytest.mark.parametrize("number", [-0.1, 1.1, math.nan])
def test_shares_lie_between_zero_and_one(number: float) -> None:
    sketch = sketch_of([1.0])
    with pytest.raises(ValueError, match=r"0\.\.1"):
        sketch.quantile(number)
    with pytest.raises(ValueError, match=r"0\.\.1"):
        sketch.fade(number)
    assert sketch.weight == 1.0


GOOD = json.loads(Sketch({3: 1.0}).to_json())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{}",
        "[" * 100_000,
        json.dumps(GOOD | {"v": 2}),
        json.dumps(GOOD | {"error": 0.1}),
        json.dumps(GOOD | {"buckets": [1]}),
        json.dumps(GOOD | {"buckets": {"x": 1.0}}),
        json.dumps(GOOD | {"buckets": {"3": "many"}}),
        json.dumps(GOOD | {"buckets": {"3": -1.0}}),
        json.dumps(GOOD | {"buckets": {"3": math.nan}}),
        json.dumps(GOOD | {"buckets": {"3": math.inf}}),
        json.dumps(GOOD | {"buckets": {"9999": 1.0}}),
    ],
    ids=lambda text: text[:50] or "nothing",
)
def test_what_is_no_sketch_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        Sketch.from_json(text)
