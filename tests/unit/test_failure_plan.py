"""Failure plans: what can be written is what is meant, and the same seed gives the same faults."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.errors import UsageProblem
from utils.failure_simulator import demo_plan
from utils.failures.faults import ERROR_CODES, KINDS, RECOVERABLE, At, Fault, Kind, markdown_table
from utils.failures.grammar import MAX_PLAN_CHARS, parse_plan
from utils.failures.plan import FailurePlan, Injection, RandomFaults, Step

SECONDS = st.integers(0, 10**9 - 1) | st.integers(0, 10**15 - 1).map(lambda millionths: millionths / 1_000_000)
PROBABILITIES = st.integers(0, 1_000_000).map(lambda millionths: millionths / 1_000_000)
VALUES = {
    "none": st.none(),
    "seconds": SECONDS,
    "status": st.integers(200, 599),
    "rate": st.integers(1, 10**9 - 1),
    "content type": st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"'), min_size=1),
    "error code": st.sampled_from(ERROR_CODES),
}
OPTIONS = {"retry-after": SECONDS, "retry-after-ms": SECONDS, "should-retry": st.sampled_from(("true", "false"))}


def places(kind: Kind) -> st.SearchStrategy[At | None]:
    if kind.default_at is None:
        return st.none()
    exact = st.builds(At, st.integers(1, 10**9), st.sampled_from(("b", "e")))
    return st.none() | exact | st.builds(At, st.integers(0, 100), st.just("%"))


def faults_of(kind: Kind) -> st.SearchStrategy[Fault]:
    value = VALUES[kind.takes] if kind.needs_value else st.none() | VALUES[kind.takes]
    options = st.fixed_dictionaries({}, optional=OPTIONS) if kind.name in ("status", "quota") else st.just({})
    return st.builds(Fault, st.just(kind.name), value, places(kind), options.map(lambda found: tuple(found.items())))


FAULTS = st.one_of(*map(faults_of, KINDS.values()))
RANDOM = st.builds(
    RandomFaults,
    PROBABILITIES,
    st.none() | st.integers(-(2**63) + 1, 2**63 - 1),
    st.lists(st.sampled_from((*RECOVERABLE, "stall", "drip", "onebyte", "dns")), min_size=1).map(tuple),
)
TIMES = st.integers(1, 100_000)
STEPS = st.one_of(
    st.builds(Step, st.none() | RANDOM, TIMES),
    st.builds(Step, FAULTS, TIMES, PROBABILITIES),
)
LAST = st.one_of(st.builds(Step, st.none() | RANDOM, st.none()), st.builds(Step, FAULTS, st.none(), PROBABILITIES))


@settings(deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=5), st.none() | LAST)
def test_a_written_plan_parses_to_the_same_plan(steps: list[Step], last: Step | None) -> None:
    plan = FailurePlan([*steps, *([last] if last else [])], seed=1)
    text = str(plan)
    if len(text) <= MAX_PLAN_CHARS:
        parsed = parse_plan(text)
        assert parsed.steps == plan.steps
        assert str(parsed) == text


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("refused, cut@40%, ok", "refused, cut@40%, ok"),
        (" status=503 * 2   then reset@5e ", "status=503*2, reset@5e"),
        ("Connect-Timeout=0.50 then ok forever", "connect_timeout=0.5, ok forever"),
        ("STATUS=429 Retry-After=2 P=0.5 *3", "status=429 retry-after=2 p=0.5*3"),
        ("status=429 retry-after=2 p=0.5*3", "status=429 retry-after=2 p=0.5*3"),
        ("stall=3@120b\n,\tstall", "stall=3@120b, stall@50%"),
        ("drip=200", "drip=200@0b"),
        ("random", "random(rate=0.3)"),
        ("random(seed=7, rate=.5)".replace(".5", "0.5"), "random(rate=0.5, seed=7)"),
        ("random(kinds=refused+cut)*1, ok", "random(rate=0.3, kinds=refused+cut)*1, ok"),
        ('content_type="text/html; charset=utf-8"', 'content_type="text/html; charset=utf-8"'),
        ("content_type=text/plain", "content_type=text/plain"),
        ("error_object=overloaded_error@0e", "error_object=overloaded_error@0e"),
    ],
)
def test_blanks_case_and_defaults_do_not_matter(text: str, canonical: str) -> None:
    assert str(parse_plan(text)) == canonical


@pytest.mark.parametrize(
    ("text", "character", "said", "way_out"),
    [
        ("refused, cutt@40%", 10, "there is no failure 'cutt'", "did you mean 'cut'?"),
        ("ok, statsu=500", 5, "there is no failure 'statsu'", "did you mean 'status'?"),
        ("", 1, "expected a failure, but the text ends", "refused, cut@40%, ok"),
        ("refused,", 9, "expected a failure, but the text ends", "refused, cut@40%, ok"),
        ("refused cut", 9, "expected a comma, not 'cut'", "commas"),
        ("stall@5", 7, "'5' is no place", "@120b"),
        ("cut@140%", 5, "there is no place 140%", "@40%"),
        ("cut@", 5, "'' is no place", "@120b"),
        ("refused@3e", 9, "refused has no place", "refused: the connection"),
        ("duplicate@0e", 11, "duplicate needs an event before it", "@5e"),
        ("status", 7, "status needs a status from 200 to 599", "status: an error response"),
        ("status=abc", 7, "not 'abc'", "status: an error response"),
        ("status=700", 7, "not '700'", "status: an error response"),
        ("refused=3", 8, "refused needs no value", "refused: the connection"),
        ("stall=soon", 6, "stall needs a number of seconds, not 'soon'", "stall: silence"),
        ("drip=0", 5, "drip needs a number of bytes per second", "drip: from there"),
        ("error_object=opps", 13, "error_object needs one of server_error", "error_object"),
        ('content_type="a\nb"', 13, "content_type needs a content type", "content_type"),
        ("cut p=2", 7, "p is a probability from 0 to 1, not '2'", "p=0.3"),
        ("cut p=0.5 p=0.5", 11, "p is given twice", "once"),
        ("cut p", 6, "p needs a value", "p=..."),
        ("cut retry-after=2", 5, "there is no setting 'retry-after'", "cut takes p"),
        ("status=429 retry-aftr=2", 12, "there is no setting 'retry-aftr'", "did you mean 'retry-after'?"),
        ("status=429 retry-after=soon", 24, "retry-after needs a number of seconds", "retry-after=2"),
        ("status=429 should-retry=no", 25, "should-retry is true or false, not 'no'", "x-should-retry"),
        ("cut*0", 5, "* needs a number of attempts", "status=503*2"),
        ("refused forever, ok", 16, "nothing comes after an entry for all attempts", "*3"),
        ("random(rate=0.3), ok", 17, "nothing comes after an entry for all attempts", "random(...)*3"),
        ("random(rat=3)", 8, "there is no setting 'rat'", "did you mean 'rate'?"),
        ("random(seed=x)", 13, "seed needs a whole number, not 'x'", "seed=7"),
        ("random(kinds=refused+drp)", 14, "there is no failure 'drp'", "did you mean 'drip'?"),
        ("random(kinds=content_type)", 14, "content_type cannot be drawn", "a content type"),
        ("random(rate=0.3", 16, "expected rate, seed or kinds, but the text ends", "refused, cut"),
        ("ok, " * 1001, 1, "more than 4000 characters", "*N"),
    ],
)
def test_an_error_names_the_place_and_the_way_out(text: str, character: int, said: str, way_out: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        parse_plan(text)
    message = caught.value.message
    assert message.startswith(f"--failure-plan, character {character}: ")
    assert said in message
    assert way_out in caught.value.hint
    assert "\n" not in message + caught.value.hint


@given(st.text(max_size=60) | st.text('refusdct@*=%,()0123456789 pkb|"+then', max_size=60))
def test_any_text_is_a_plan_or_a_usage_problem(text: str) -> None:
    try:
        plan = parse_plan(text)
    except UsageProblem:
        return
    assert parse_plan(str(plan)).steps == plan.steps


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Fault("status"),
        lambda: Fault("refused", at=At(1, "e")),
        lambda: Fault("cut", options=(("retry-after", 1),)),
        lambda: Fault("content_type", 'a"b'),
        lambda: At(101, "%"),
        lambda: At(-1, "b"),
        lambda: Step(None, probability=0.5),
        lambda: FailurePlan([Step(None, None), Fault("cut")]),
    ],
)
def test_what_cannot_be_written_cannot_be_made(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        wrong()  # type: ignore[operator]


def drawn(plan: FailurePlan, attempts: int) -> list[str]:
    return [str(plan.next_fault() or "ok") for _ in range(attempts)]


def test_attempts_take_the_entries_in_order_and_then_are_left_alone() -> None:
    plan = parse_plan("refused*2, ok, reset@5e")
    assert drawn(plan, 6) == ["refused", "refused", "ok", "reset@5e", "ok", "ok"]
    assert drawn(parse_plan("ok, status=500 forever"), 4) == ["ok", "status=500", "status=500", "status=500"]


@given(st.integers(-(2**63), 2**63), st.integers(0, 20))
def test_the_same_seed_gives_every_attempt_the_same_fault(seed: int, skipped: int) -> None:
    text = "cut p=0.5*10, random(rate=0.7)*10, random(rate=0.7, seed=3)"
    first = drawn(parse_plan(text, seed=seed), 30)
    assert drawn(parse_plan(text, seed=seed), 30) == first
    # A draw more or less at one attempt moves no later one.
    other = drawn(parse_plan(text.replace("cut p=0.5*10", f"ok*{skipped + 1}, ok*{29 - skipped}"), seed=seed), 30)
    assert other == ["ok"] * 30
    assert drawn(parse_plan("ok*10, random(rate=0.7)*10, random(rate=0.7, seed=3)", seed=seed), 30)[10:] == first[10:]


def test_other_seeds_give_other_faults_and_a_seed_is_told() -> None:
    text = "random(rate=0.5)"
    assert len({tuple(drawn(parse_plan(text, seed=seed), 12)) for seed in range(20)}) == 20
    plan = parse_plan(text)
    assert drawn(plan, 12) == drawn(parse_plan(text, seed=plan.statistics().seed), 12)


@pytest.mark.parametrize("text", ["cut p=0.3 forever", "random(rate=0.3)"])
def test_a_probability_is_met_in_the_long_run(text: str) -> None:
    hits = sum(fault != "ok" for fault in drawn(parse_plan(text, seed=5), 3000))
    assert 800 < hits < 1000


def test_random_faults_are_recoverable_and_come_before_the_end_of_any_answer() -> None:
    plan = FailurePlan([Step(RandomFaults(1.0), None)], seed=2)
    found = [plan.next_fault() for _ in range(300)]
    kinds = {fault.kind for fault in found if fault is not None}
    assert kinds == set(RECOVERABLE)
    assert all(fault is not None and (fault.at is None or fault.at.unit == "%") for fault in found)


@pytest.mark.parametrize("seed", range(50))
def test_any_seed_of_the_demonstration_injects_a_recoverable_fault_before_the_answer(seed: int) -> None:
    plan = demo_plan(random.Random(seed))
    first, second, third = plan.next_fault(), plan.next_fault(), plan.next_fault()
    assert first is not None
    assert (first.kind, third) == ("refused", None)
    assert second is not None
    assert second.at is not None
    assert (second.kind, second.at.unit) == ("reset", "e")
    assert 4 <= second.at.amount <= 9


def test_the_demonstration_is_written_as_a_plan_like_any_other() -> None:
    text = str(demo_plan(random.Random(1)))
    assert text.startswith("refused, reset@")
    assert str(parse_plan(text)) == text


def test_planned_counts_what_is_certain_and_injected_what_has_happened() -> None:
    plan = parse_plan("refused, ok, cut*2, reset p=0.0, random(rate=0)")
    counts = [plan.planned]
    injections: list[Injection | None] = []
    for _ in range(6):
        injections.append(plan.next_injection())
        counts.append(plan.planned)
    assert counts == [3] * 7
    for injection, place in zip(injections, [(None, None), None, (70, 4), None, None, None], strict=True):
        if injection is not None and place is not None:
            injection.happen(*place)
            injection.happen(*place)
    statistics = plan.statistics()
    assert (statistics.attempts, statistics.planned, statistics.injected) == (6, 3, 2)
    assert statistics.by_kind == {"refused": 1, "cut": 1}
    assert [(i.attempt, i.at_byte, i.at_event) for i in statistics.recent] == [(1, None, None), (3, 70, 4)]


def test_a_plan_for_all_attempts_counts_what_it_has_given_out() -> None:
    plan = parse_plan("status=500 forever")
    assert plan.planned == 0
    plan.next_fault()
    plan.next_fault()
    assert plan.planned == 2


def test_the_table_for_people_has_every_kind_and_its_examples_parse() -> None:
    rows = markdown_table().splitlines()[2:]
    assert [row.split("`")[1].split("[")[0].split("=")[0] for row in rows] == list(KINDS)
    assert all(row.count("|") == 4 for row in rows)
