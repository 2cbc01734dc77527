"""A part of the matrix of kinds, places and targets; all of it: `python -m tests.flow.fault_places`."""

from __future__ import annotations

import dataclasses
from functools import cache

import pytest

from tests.flow.fault_cases import NOT_APPLICABLE, PLACES, VARIANTS, WAIT_S, Case, Ending, cases
from tests.flow.fault_places import BEGUN_AGAIN, Violation, play, play_all
from utils.failure_simulator import parse_plan
from utils.failures.faults import KINDS, Fault


# Two at one place differ in target or occurrence, so every kind comes at each of its places; of those that wait fewer.
@cache
def some() -> list[Case]:
    return [case for n, case in enumerate(cases(0)) if n % (5 if case.deadline_s != WAIT_S else 11) == 0]


def test_every_run_ends_complete_and_exact_or_in_the_right_error_in_time() -> None:
    endings = play_all(some())
    endings.pop(BEGUN_AGAIN, None)
    assert endings.total() == len(some())
    assert endings["complete and exact"] > len(some()) // 2


def test_every_kind_comes_at_every_place_where_it_can() -> None:
    all_cases = [case for seed in range(5) for case in cases(seed)]
    assert {case.kind for case in some()} == {case.kind for case in all_cases} == set(KINDS) == set(VARIANTS)
    pairs = {(case.kind, case.place) for case in all_cases}
    assert len(pairs) + sum(map(len, NOT_APPLICABLE.values())) == len(KINDS) * len(PLACES)
    # Five seeds play every variant that stands in the table.
    played = {str(fault) for case in all_cases for fault in map(_without_place, _faults(case))}
    in_table = {f"{v.spec}{v.options}" for variants in VARIANTS.values() for v in variants}
    assert {str(_without_place(step)) for spec in in_table for step in _faults_of(spec)} <= played


def _faults(case: Case) -> list[Fault]:
    return _faults_of(case.plan)


def _faults_of(plan: str) -> list[Fault]:
    return [step.what for step in parse_plan(plan).steps if isinstance(step.what, Fault)]


def _without_place(fault: Fault) -> Fault:
    return Fault(fault.kind, fault.value, None, fault.options)


@pytest.mark.parametrize(
    "wrong",
    [
        {"endings": (Ending(0, text="another text"),)},
        {"endings": (Ending(3, "connection_lost"),)},
        {"is_borne": True},
        {"duplicates": 1},
        {"limit_s": -60.0},
        {"plan": "reset@9999e"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_run_that_does_not_end_as_it_should_is_a_violation(wrong: dict[str, object]) -> None:
    case = next(case for case in cases(0) if (case.kind, case.place, case.mode) == ("reset", "mid-stream", "words"))
    assert play(case)[0] == "complete and exact"
    with pytest.raises(Violation):
        play(dataclasses.replace(case, **wrong))  # type: ignore[arg-type]
