"""What charts are made of: bins, bands, ticks, and curves with fewer points."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report.records import answered
from utils.report.charts import nice_ticks, percent, steps, thinned
from utils.report.latency import LOWEST_S, bins, gaps_of
from utils.report.pieces import Piece, grouped, mean_probability, step_of
from utils.report.timeline import bands

gap_lists = st.lists(
    st.one_of(st.floats(0.0, 1e10), st.sampled_from([0.0, 1e-4, 1e-3, 0.01, 0.1, 1.0, 10.0, 10**0.2])), max_size=60
)


@given(gap_lists)
def test_every_gap_is_in_exactly_one_bin(gaps: list[float]) -> None:
    found = bins(gaps)
    assert sum(bin_.count for bin_ in found) == len(gaps)
    for bin_ in found:
        assert bin_.count == sum(bin_.low_s <= gap < bin_.high_s for gap in gaps)
    assert all(before.high_s == after.low_s for before, after in itertools.pairwise(found))
    if found:
        assert found[0].count
        assert found[-1].count
    for bin_ in found:
        if bin_.low_s > 0.0 and math.isfinite(bin_.high_s):
            assert bin_.high_s / bin_.low_s == pytest.approx(10**0.2)


def test_gaps_too_short_to_mean_anything_share_a_bin() -> None:
    assert [(bin_.low_s, bin_.count) for bin_ in bins([0.0, LOWEST_S / 2, -1e-9, LOWEST_S])] == [
        (0.0, 3),
        (LOWEST_S, 1),
    ]


def test_the_histogram_has_a_gap_for_each_chunk_but_the_first() -> None:
    record = answered(["a", "b", "c", "d"])
    assert gaps_of(record) == pytest.approx([0.02] * 3)
    assert len(gaps_of(record)) == record.report["metrics"]["inter_chunk_latency_s"]["n"]
    assert gaps_of(answered(["a"])) == gaps_of(answered([])) == []


points = st.lists(st.tuples(st.floats(0.0, 10.0), st.floats(0.0, 1e6)), max_size=400).map(
    lambda rows: sorted(rows, key=lambda row: row[0])
)


@given(points, st.integers(1, 40))
def test_a_thinned_curve_keeps_its_ends_and_extremes(curve: list[tuple[float, float]], slices: int) -> None:
    kept = thinned(curve, 10.0, slices)
    assert len(kept) <= max(2 * slices, 3 * (slices + 1))
    rest = iter(curve)
    assert all(point in rest for point in kept), "points of the curve, in its order"
    if curve:
        assert kept[0] == curve[0]
        assert kept[-1] == curve[-1]
        assert max(value for _, value in kept) == max(value for _, value in curve)


def test_a_hundred_thousand_points_are_drawn_by_a_thousand() -> None:
    curve = [(n / 1e4, float(n)) for n in range(100_000)]
    path = steps(thinned(curve, 10.0), 10.0, 1e5, y=0, height=100)
    assert path.count("H") <= 2 * (3 * 401 + 1)
    assert steps([], 10.0, 5.0, y=0, height=100) == ""


@given(st.floats(1e-6, 1e9), st.integers(3, 8))
def test_ticks_are_few_and_inside(end: float, most: int) -> None:
    ticks = nice_ticks(end, most)
    assert 2 <= len(ticks) <= most + 1
    assert ticks[0] == 0.0
    assert ticks[-1] <= end * (1 + 1e-6)


def test_places_outside_of_the_drawing_lie_at_its_edge() -> None:
    assert [percent(value, 4.0) for value in (-1.0, 0.0, 1.0, 4.0, 9.0)] == [0.0, 0.0, 25.0, 100.0, 100.0]
    assert percent(1.0, 0.0) == 0.0


def at(t_s: float, kind: str) -> dict[str, Any]:
    return {"type": kind, "t_s": t_s}


@pytest.mark.parametrize(
    ("events", "arrivals", "expected"),
    [
        ([], [], [("waiting", 0.0, 9.0)]),
        ([], [2.0, 3.0], [("waiting", 0.0, 2.0), ("streaming", 2.0, 9.0)]),
        (
            [at(1.0, "retrying"), at(1.5, "opened")],
            [2.0],
            [("waiting", 0.0, 1.0), ("recovery", 1.0, 1.5), ("waiting", 1.5, 2.0), ("streaming", 2.0, 9.0)],
        ),
        (
            # What the guard lets go at the failure is no recovery, and an opened attempt has not gone on yet.
            [at(4.0, "interrupted"), at(4.0, "retrying"), at(5.0, "opened"), at(6.0, "resumed")],
            [2.0, 4.001, 6.0],
            [("waiting", 0.0, 2.0), ("streaming", 2.0, 4.0), ("recovery", 4.0, 6.0), ("streaming", 6.0, 9.0)],
        ),
        (
            [at(4.0, "interrupted"), at(9.0, "aborted")],
            [2.0],
            [("waiting", 0.0, 2.0), ("streaming", 2.0, 4.0), ("recovery", 4.0, 9.0)],
        ),
        (
            [at(4.0, "interrupted")],
            [2.0, 7.0],
            [("waiting", 0.0, 2.0), ("streaming", 2.0, 4.0), ("recovery", 4.0, 7.0), ("streaming", 7.0, 9.0)],
        ),
    ],
    ids=["nothing", "plain", "retried", "resumed", "given_up", "events_lost"],
)
def test_bands_tell_waiting_streaming_and_recovery(
    events: list[dict[str, Any]], arrivals: list[float], expected: list[tuple[str, float, float]]
) -> None:
    assert [(band.kind, band.start_s, band.end_s) for band in bands(events, arrivals, 9.0)] == expected


kinds = st.sampled_from(["opened", "interrupted", "retrying", "resumed", "fell_back", "finished", "usage"])
event_lists = st.lists(st.tuples(st.floats(0.0, 12.0), kinds), max_size=12).map(sorted)


@given(event_lists, st.lists(st.floats(0.0, 9.0), max_size=8).map(sorted))
def test_bands_cover_all_of_the_time_once(events: list[tuple[float, str]], arrivals: list[float]) -> None:
    found = bands([at(*event) for event in events], arrivals, 9.0)
    assert found[0].start_s == 0.0
    assert found[-1].end_s == 9.0
    assert all(before.end_s == after.start_s for before, after in itertools.pairwise(found))
    assert all(band.start_s < band.end_s for band in found)


def test_steps_of_confidence_begin_at_their_limits() -> None:
    assert [step_of(value) for value in (1.0, 0.9, 0.8999, 0.7, 0.5, 0.4999, 0.2, 0.1999, 0.0)] == [
        0,
        0,
        1,
        1,
        2,
        3,
        3,
        4,
        4,
    ]
    assert mean_probability(()) is None
    assert mean_probability((0.25, 1.0)) == pytest.approx(0.5)
    assert mean_probability((0.0, 0.0)) == pytest.approx(5e-5)


@given(st.lists(st.sampled_from(["chunk", "chunk", "hidden"]), max_size=30), st.integers(1, 7), st.integers(0, 30))
def test_grouped_pieces_are_the_same_text_and_the_same_tokens(kinds: list[Any], size: int, border: int) -> None:
    pieces = [Piece(kind, n, n + 1, (0.5,) if kind == "chunk" else ()) for n, kind in enumerate(kinds)]
    found = grouped(pieces, size, (border,))
    assert [place for piece in found for place in range(piece.start, piece.end)] == list(range(len(pieces)))
    assert sum(len(piece.probabilities) for piece in found) == kinds.count("chunk")
    assert all(piece.end - piece.start <= size for piece in found)
    assert not any(piece.start < border < piece.end for piece in found)
    assert [piece.start for piece in found if piece.kind == "hidden"] == [
        n for n, k in enumerate(kinds) if k == "hidden"
    ]
