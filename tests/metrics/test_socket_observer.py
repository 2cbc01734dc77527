"""Our figures and an outside observer's agree within 5 ms: a small part of `python -m tests.metrics.socket_observer`.

A busy machine delays a process by more than that, now and then, and one look cannot tell such a delay from an error.
So a run is repeated until every figure has agreed once, and of each figure the smallest difference counts: an error of
ours shows in every run, a delay does not. An error that comes and goes may stay unseen here, in virtual time it does
not (test_known_arrivals.py). On an idle machine the first run is enough; with twice as many busy processes as
processors each figure was off by over 5 ms in up to four of ten runs.
"""

from __future__ import annotations

import dataclasses

import pytest

from tests.metrics.socket_observer import EACH_GAP, WORST_GAP, Figures, Run, differences_ms, observed, runs
from tests.support import wire
from tests.support.stream_tap import Passed

LIMIT_MS = 5.0
RUNS_MAX = 8


def test_our_figures_are_those_of_an_outside_observer() -> None:
    smallest: dict[str, float] = {}
    for run in runs(RUNS_MAX):
        for name, value in differences_ms(run).items():
            if name != WORST_GAP:
                smallest[name] = min(value, smallest.get(name, value))
        if max(smallest.values()) < LIMIT_MS:
            break
    assert {name: value for name, value in smallest.items() if value >= LIMIT_MS} == {}


# -- the observer itself ---------------------------------------------------------------------------------------------


def passed(*segments: tuple[float, bytes], closed_s: float = 99.0) -> Passed:
    return Passed(0.0, [(instant, data.decode("latin-1")) for instant, data in segments], closed_s)


def said(text: str) -> bytes:
    return wire.chunk(wire.sse(wire.delta(text)))


END = wire.chunked(wire.sse(wire.finish(), wire.usage(9, 5), wire.DONE))
FIRST = passed(
    *((1.0, wire.head()), (1.25, wire.chunk(wire.sse(wire.role())) + wire.chunk(wire.comment()))),
    *(
        (1.5, said("one ")),
        (1.75, said("two ")[:30]),
        (2.0, said("two ")[30:] + said("thrée ")),
        (3.0, b"1f\r\ndata: {"),
    ),
    closed_s=3.5,
)
AGAIN = passed(
    *((4.0, wire.head() + said("one ") + said("two ")), (4.5, said("thrée four ")), (4.75, said("five ") + END)),
)


def test_the_observer_computes_what_follows_by_hand() -> None:
    # Text at 1.5 2 2 | 4.5 4.75: the delta in two pieces counts when it is whole, what was cut inside never.
    seen = observed([FIRST, AGAIN])
    assert seen.instants == {"first data event": 1.25, "first text": 1.5, "last event": 4.75}
    assert seen.gaps == (0.5, 0.0, 2.5, 0.25)
    assert seen.durations == pytest.approx(
        {
            # Sorted 0 0.25 0.5 2.5: (0.25 + 0.5) / 2; at place 2.7: 0.5 + 0.7 * 2; 3.25 / 4.
            "gap p50": 0.375,
            "gap p90": 1.9,
            "gap mean": 0.8125,
            "longest stall": 2.5,
            "per token": 0.8125,  # 3.25 for 5 - 1 tokens
            "gap of the resume": 1.0,  # from the cut at 3.5 to 4.5
        }
    )


def test_a_figure_that_is_wrong_by_more_than_the_limit_shows() -> None:
    theirs = observed([FIRST, AGAIN])
    assert set(differences_ms(Run(0.0, theirs, theirs)).values()) == {0.0}
    late_s = 0.006

    def late(values: dict[str, float]) -> dict[str, float]:
        return {name: value - late_s for name, value in values.items()}

    ours = Figures(late(theirs.instants), late(theirs.durations), tuple(gap + late_s for gap in theirs.gaps))
    found = differences_ms(Run(0.0, ours, theirs))
    assert found == pytest.approx(dict.fromkeys((*theirs.single, EACH_GAP, WORST_GAP), 6.0))
    with pytest.raises(ValueError, match="longer"):
        differences_ms(Run(0.0, dataclasses.replace(ours, gaps=ours.gaps[1:]), theirs))
