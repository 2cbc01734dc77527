"""Exactly once on the embedded model: a small part of `python -m tests.flow.exactly_once`."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from commands.prompt_input import GUARDED_DEMO_PROMPT
from tests.flow.embedded_runs import EmbeddedRuns
from tests.flow.exactly_once import Bench, Question, RunKind, difference, drawn_plan
from tests.support.exhaustive import exhaustive
from utils.events import Redacted, Resumed
from utils.failure_simulator import parse_plan
from utils.run_context import Parameters

RUNS: tuple[tuple[RunKind, int], ...] = (
    *(("replayed", number) for number in range(3)),
    *(("guarded", number) for number in range(1)),
    *(("refused", number) for number in range(1)),
)
QUESTION = Question("Name three rivers.", 0.7, 7, is_guarded=False)


@pytest.fixture(scope="module")
def runs() -> Iterator[EmbeddedRuns]:
    with EmbeddedRuns(stall_s=0.4) as runs:
        yield runs


@pytest.fixture(scope="module")
def bench(runs: EmbeddedRuns) -> Bench:
    return Bench(
        runs,
        prompts=("Name three rivers.", "Reply: 😀😃😄"),
        guarded_prompts=("Correct: Plese write to anna.berg@example.com",),
        sampling=((0.0, 1), (0.7, 7)),
        max_tokens=14,
        # The model's own one is longer than all the rest, and every attempt would read it anew.
        system="Copy.",
    )


def test_every_answer_with_failures_is_delivered_exactly_once(bench: Bench) -> None:
    verdicts = [bench.run(kind, number) for kind, number in RUNS]
    assert [f"{v.kind} {v.number}, {v.plan}: {v.problem}" for v in verdicts if v.problem] == []

    for verdict in verdicts:
        events = verdict.run.events
        ways = {"prefill"} if verdict.kind == "refused" else {"replay"}
        assert {event.strategy for event in events if isinstance(event, Resumed)} <= ways
        assert any(isinstance(event, Redacted) for event in events) == (verdict.kind == "guarded")
    # Where the machine is busy, the time of a stall may be over before its place has come.
    plans = [verdict.plan for verdict in verdicts]
    assert sum(plan.injected for plan in plans) >= 0.75 * sum(plan.planned for plan in plans)
    assert sum("replay" in verdict.strategies for verdict in verdicts) >= 3
    assert sum("prefill" in verdict.strategies for verdict in verdicts) == 1
    assert len({kind for verdict in verdicts for kind in verdict.plan.statistics().by_kind}) >= 5


@pytest.mark.parametrize("seed", [1, *exhaustive([6])])
def test_a_prompt_that_was_just_read_gets_the_same_answer_as_a_new_one(runs: EmbeddedRuns, seed: int) -> None:
    # Near the beginning of this answer the last bits decide, and a prompt from the cache has other ones.
    def answer(prompt: str) -> str:
        parameters = Parameters(temperature=0.7, max_tokens=8, seed=seed)
        return runs.run(prompt, parameters, parse_plan("ok")).report.text

    answer("Hello there, what is new?")
    assert answer(GUARDED_DEMO_PROMPT) == answer(GUARDED_DEMO_PROMPT) != ""


def test_text_that_comes_twice_is_noticed(bench: Bench) -> None:
    whole = bench.whole(QUESTION)
    plan = parse_plan("duplicate@5e")
    assert difference(bench.asked(QUESTION, parse_plan("ok")), whole) == ""
    assert difference(bench.asked(QUESTION, plan), whole).startswith("at character ")
    assert plan.injected == 1


def test_text_that_does_not_come_is_noticed(bench: Bench) -> None:
    whole = bench.whole(QUESTION)
    assert difference(bench.asked(QUESTION, parse_plan("cut@5e*9")), whole).startswith("incomplete after ")


def test_plans_reach_every_place_of_an_answer(bench: Bench) -> None:
    whole = bench.whole(QUESTION)
    plans = [drawn_plan(random.Random(number), whole) for number in range(600)]
    places = {entry.partition("@")[2].split(" ")[0] for plan in plans for entry in plan.split(", ")}
    assert whole.events > 5
    assert {f"{number}e" for number in range(whole.events + 1)} <= places
    assert {"0%", "100%"} <= places
    in_bytes = [int(place[:-1]) for place in places if place.endswith("b")]
    assert min(in_bytes) < whole.bytes / 20
    assert whole.bytes * 0.95 < max(in_bytes) < whole.bytes
    assert {len(parse_plan(plan).steps) for plan in plans} == {1, 2, 3, 4}
