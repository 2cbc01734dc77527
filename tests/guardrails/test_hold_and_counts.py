"""What the guard's stage tells about itself agrees with what a reader of the stream can count and time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.guardrails.engine_oracle import ASCII, UNICODE, pieces, random_specs, random_text
from tests.support.sample_rules import sample_rules
from utils.errors import ConnectionLost
from utils.events import Aborted, Event, Finished, Flagged, Interrupted, ReasoningDelta, Redacted, TextDelta
from utils.guardrails.hold_time import HoldTime
from utils.guardrails.patterns import RegularPattern
from utils.guardrails.redactor import HELD_TEXT_LIMIT, Guard, GuardEvent, GuardStatistics, Redactor
from utils.guardrails.rules import Action, Rule, RuleSet
from utils.guardrails.stage import guarded
from utils.metrics.recorder import Recorder

ACTIONS: tuple[Action, ...] = ("redact", "mask", "mask", "flag", "block")
STOP = Finished("stop")
LOST = ConnectionLost("lost")


class Ticks:
    """A clock that is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def timed(events: Sequence[tuple[float, Event]], clock: Ticks) -> AsyncIterator[Event]:
    for at, event in events:
        clock.now = 100.0 + at
        yield event


def through(
    rules: RuleSet, *events: tuple[float, Event]
) -> tuple[list[Event], GuardStatistics, GuardStatistics | None, Recorder]:
    clock, recorder = Ticks(), Recorder(100.0)
    figures: list[tuple[GuardStatistics, GuardStatistics | None]] = []

    async def run() -> list[Event]:
        shown = []
        stream = guarded(
            timed(events, clock),  # type: ignore[arg-type]
            lambda: Redactor(rules),
            clock=clock,
            on_statistics=lambda *both: figures.append(both),
        )
        async for event in stream:
            recorder.handle(event, clock.now)
            shown.append(event)
        return shown

    shown = asyncio.run(run())
    ((answer, reasoning),) = figures
    return shown, answer, reasoning, recorder


def hidden(figures: GuardStatistics | None) -> int:
    return sum(finding.count for finding in figures.findings if finding.action == "hidden") if figures else 0


def untimed(*events: Event) -> list[tuple[float, Event]]:
    return [(float(n), event) for n, event in enumerate(events)]


# -- one finding, one count ------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32), st.sampled_from([STOP, Aborted(LOST)]))
def test_the_recorder_counts_the_findings_of_the_guard(seed: int, end: Event) -> None:
    rng = random.Random(seed)
    letters = rng.choice((ASCII, UNICODE))
    specs, rules = random_specs(rng, letters, ACTIONS)
    text = random_text(rng, letters, 40)
    events: list[Event] = [TextDelta(piece) for piece in pieces(rng, text) if piece]
    for other in (Interrupted(LOST, 1), ReasoningDelta("ab ba"), Flagged("elsewhere", 0, 1)):
        events.insert(rng.randint(0, len(events)), other)
    shown, answer, reasoning, recorder = through(rules, *untimed(*events, end))
    assert recorder.metrics(0.0)["redactions"] == hidden(answer), (specs, text)
    of_rule = {f"r{n}": spec.action for n, spec in enumerate(specs)}
    words: dict[str, str | None] = {"redact": "hidden", "mask": "hidden", "flag": "flagged", "block": "blocked"}
    told = {event.rule for event in shown if isinstance(event, Redacted | Flagged)}
    for finding in answer.findings:
        if finding.rule in told or of_rule[finding.rule] != "flag":
            assert finding.action == words[of_rule[finding.rule]]
    for finding in reasoning.findings if reasoning else ():
        assert finding.action in (words[of_rule[finding.rule]], None)


def test_text_that_is_hidden_because_too_much_was_held_counts_once_each_time() -> None:
    rules = RuleSet.compile([Rule("long", "", RegularPattern("x[^z]*z"), "redact"),
                             Rule("stars", "", RegularPattern("s+"), "mask")])  # fmt: skip
    text = "ss" + ("x" * 9000 + "z" + "ss") * 2
    cut = [text[n : n + 700] for n in range(0, len(text), 700)]
    _, answer, _, recorder = through(rules, *untimed(*map(TextDelta, cut), STOP))
    counts = {finding.rule: finding.count for finding in answer.findings}
    assert counts[HELD_TEXT_LIMIT] >= 1
    assert recorder.metrics(0.0)["redactions"] == sum(counts.values()) == hidden(answer)


@pytest.mark.parametrize("size", [1, 2, 50])
def test_a_mask_over_many_pieces_is_one_finding_in_the_answer_and_one_in_the_reasoning(size: int) -> None:
    rules = RuleSet.compile([Rule("digits", "", RegularPattern(r"\d+"), "mask")])
    text = "a 123456 b"
    cut = [text[n : n + size] for n in range(0, len(text), size)]
    events = [e for piece in cut for e in (TextDelta(piece), ReasoningDelta(piece))]
    shown, answer, reasoning, recorder = through(rules, *untimed(*events, STOP))
    assert (hidden(answer), hidden(reasoning), recorder.metrics(0.0)["redactions"]) == (1, 1, 1)
    assert recorder.text == "a ****** b"
    assert "".join(e.text for e in shown if isinstance(e, ReasoningDelta)) == "a ****** b"


# -- how long text is held -------------------------------------------------------------------------------------------


def test_a_character_waits_from_its_arrival_until_it_is_shown_or_hidden() -> None:
    _, answer, _, _ = through(
        sample_rules(),
        (0.0, TextDelta("to bob")),
        (1.0, TextDelta("@ex")),
        (3.0, TextDelta("a.com!")),
        (4.0, STOP),
    )
    # `bob` waited 3 s, `@ex` 2 s, what came last (`a.com` is shown with its end) at most until the end
    assert answer.held_max_s == pytest.approx(3.0)
    assert answer.held_mean_s == pytest.approx((3 * 3.0 + 3 * 2.0) / 15)


def test_what_is_dropped_waited_until_then_and_without_a_clock_nothing_is_claimed() -> None:
    _, answer, _, _ = through(sample_rules(), (0.0, TextDelta("to bob")), (5.0, Aborted(LOST)))
    assert (answer.held_max_s, answer.held_mean_s) == (5.0, pytest.approx(3 * 5.0 / 6))

    async def stream() -> AsyncIterator[Event]:
        yield STOP

    figures: list[GuardStatistics] = []

    async def run() -> None:
        plain = guarded(stream(), lambda: Redactor(sample_rules()), on_statistics=lambda a, _: figures.append(a))  # type: ignore[arg-type]
        assert [event async for event in plain] == [STOP]

    asyncio.run(run())
    assert (figures[0].held_mean_s, figures[0].held_max_s) == (None, None)


class Steps:
    """A guard that holds what it is told to hold."""

    def __init__(self, held: Sequence[int]) -> None:
        self._held = iter(held)
        self.held_chars = 0

    def feed(self, text: str) -> list[GuardEvent]:
        self.held_chars = min(next(self._held), self.held_chars + len(text))
        return []

    def finish(self, *, is_cut: bool = False) -> list[GuardEvent]:
        self.held_chars = 0
        return []

    def cancel(self) -> int:
        return 0

    def statistics(self) -> GuardStatistics:
        return GuardStatistics((), (), 0, 0, 0.0, 0, 0)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 12), st.integers(0, 3)), max_size=20))
@example([(4, 4, 1), (4, 6, 1), (1, 7, 1), (1, 3, 2), (1, 0, 1)])
def test_the_times_are_those_of_every_single_character(steps: list[tuple[int, int, int]]) -> None:
    clock = Ticks()
    guard: Guard = Steps([held for _, held, _ in steps])
    hold = HoldTime(guard, clock)
    waiting: list[float] = []
    waited: list[float] = []
    for came, _, pause in steps:
        clock.now += pause
        hold.feed("x" * came)
        waiting += [clock.now] * came
        while len(waiting) > guard.held_chars:
            waited.append(clock.now - waiting.pop(0))
    clock.now += 1.0
    guard.finish()
    hold.note_end()
    waited += [clock.now - at for at in waiting]
    assert hold.longest_s == max(waited, default=0.0)
    assert hold.mean_s(len(waited)) == pytest.approx(sum(waited) / len(waited) if waited else 0.0)
