"""The worst plans for the time of a run, as real processes; fifty random ones: `python -m tests.cli.time_bound`."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from typing import Any

import pytest

from tests.cli.command_line import CommandLine
from tests.cli.time_bound import HANGS, SLACK_S, Trial, known_answer, run_all, trials, untrue
from utils.failure_simulator import parse_plan
from utils.failures.faults import KINDS, Fault

TIMEOUT_S = 4.0
"""More than a slow machine needs for the imports, during which nothing can be ended."""
NASTY = [
    Trial("stall@2e forever"),
    Trial("connect_timeout*2, read_timeout*2, drip=1@0b forever"),
    Trial("ok", ("--max-tokens-per-second", "2"), hang="text without an end"),
]


def _lag_s() -> float:
    """What a process loses to the others of the suite here and now: some starts of a bare Python."""
    started_s = time.monotonic()
    for _ in range(5):
        subprocess.run([sys.executable, "-c", "import asyncio"], check=True)
    return time.monotonic() - started_s


def test_no_plan_makes_a_run_last_longer_than_its_time(cli: CommandLine) -> None:
    whole = known_answer(cli)
    slack_s = SLACK_S + _lag_s()
    ended = list(run_all(cli, NASTY, timeout_s=TIMEOUT_S, whole=whole, slack_s=slack_s, at_once=len(NASTY)))
    assert [one.complaint for one in ended] == [""] * len(NASTY)
    assert all(one.exit_code in (3, 69) for one in ended)
    # All of them last as long as they may, and no longer.
    assert all(TIMEOUT_S <= one.seconds <= TIMEOUT_S + slack_s for one in ended)


def test_the_random_plans_begin_with_every_kind_and_meet_every_server_that_hangs() -> None:
    drawn = list(trials(50, random.Random(1)))
    assert drawn == list(trials(50, random.Random(1)))
    begun_with = {step.what.kind for t in drawn if isinstance((step := parse_plan(t.plan).steps[0]).what, Fault)}
    assert begun_with == set(KINDS)
    assert {trial.hang for trial in drawn} == {"", *HANGS}


WHOLE = "One, two, three."


@pytest.mark.parametrize(
    ("trial", "report", "complaint"),
    [
        (Trial("reset@2e"), {"text": WHOLE}, ""),
        (Trial("reset@2e"), {"text": "One, two"}, "complete with 'One, two' instead of"),
        (Trial("reset@2e"), {"text": "One, two", "exit_code": 3, "outcome": "incomplete"}, ""),
        (Trial("reset@2e"), {"text": "One, One", "exit_code": 3, "outcome": "incomplete"}, "is no beginning"),
        (
            Trial("reset@2e"),
            {"text": "One, two", "exit_code": 3, "outcome": "complete"},
            "exit code 3 with the outcome",
        ),
        (Trial("duplicate"), {"text": "One, two, two, three."}, ""),
        (Trial("duplicate"), {"text": "One"}, "complete with 'One'"),
        (Trial("ok", hang="only comments"), {"text": WHOLE}, "complete, and the server never was"),
    ],
)
def test_what_is_not_true_of_a_report_is_seen(trial: Trial, report: dict[str, Any], complaint: str) -> None:
    report = {"exit_code": 0, "outcome": "complete", **report}
    found = untrue(trial, report, report["exit_code"], WHOLE)
    assert complaint in found
    assert bool(found) == bool(complaint)
    assert untrue(trial, report, 1, WHOLE)
