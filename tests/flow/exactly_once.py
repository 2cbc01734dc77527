"""Exactly once, measured: answers of the embedded model with failures in them against the same answers without.

    python -m tests.flow.exactly_once [--runs 500] [--seed 1] [--only N]

Three kinds of runs, drawn from the seed and the number of the run alone:

    replayed    1 to 3 failures anywhere in the body of an answer, a few before it: the same text, byte for byte
    guarded     so, too, through the built-in rules: the same guarded text, and the same things hidden
    refused     the repeated answer is made to differ, so that the replay is refused and the answer is prefilled: what
                was delivered stays, and what the model then writes follows it, nothing twice and nothing left out

Exits with 1 if one run of them is otherwise. The gaps are those of recovery alone, see `EmbeddedRuns`.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from commands.prompt_input import GUARDED_DEMO_PROMPT
from tests.flow.embedded_runs import EmbeddedRuns
from tests.flow.harness import FlowRun
from tests.flow.kept_bodies import Bodies, text_of
from tests.flow.recut_deltas import RecutTransport
from utils.embedded_model.spec import PINNED
from utils.errors import ResumeDiverged
from utils.events import Interrupted, Redacted, Resumed, Retrying, TextDelta
from utils.failure_simulator import FailurePlan, parse_plan
from utils.failures.faults import KINDS
from utils.guardrails.policy import DEFAULT_PACKS, compile_rules
from utils.metrics.percentiles import percentile
from utils.run_context import Parameters

PROMPTS = (
    "Name three rivers and say where each one flows.",
    "Write a haiku about rain.",
    "Write a Python function that adds two numbers.",
    "Erzähle eine kurze Geschichte über einen Bären.",
    "List five fruits as a Markdown list with one emoji each.",
    "Give a JSON object with the name and age of two people.",
    "请用中文介绍北京。",
    "Reply with a row of happy faces: 😀😃😄",
    # Some first words are equally likely, and the last bits of what is computed decide between them.
    GUARDED_DEMO_PROMPT,
)
GUARDED_PROMPTS = (
    GUARDED_DEMO_PROMPT,
    "Correct the spelling of this note: Plese write to anna.berg@example.com or call +1 212 555 0147. Thnak you.",
    "Repeat this sentence: My card is 5500 0055 5555 5559 and my mail is bo@example.org.",
    "Repeat this line twice: contact kim.lee@example.net, phone +1 212 555 0147.",
)
SAMPLING = ((0.0, 1), (0.7, 1), (0.7, 7), (0.7, 2026))
"""Temperatures and seeds."""

BREAKING = tuple(kind.name for kind in KINDS.values() if kind.phase == "body" and (kind.breaks or kind.name == "stall"))
ELSEWHERE = ("refused", "status=503", "status=429", "html", "empty", "json")
"""Failures of whole attempts, now and then between the others."""
HARMLESS = ("onebyte", "no_done", "garbage_line@{}", "stall=0.01@{}", "drip=200000@{}")
JOINED = (1, 1, 2, 3, 7)
"""How many deltas of the server come as one, drawn for every attempt, so that seams fall inside them too."""
VALUES = {
    "content_type": ("text/html", "application/json"),
    "error_object": ("server_error", "overloaded_error", "rate_limit_exceeded"),
}

RunKind = Literal["replayed", "guarded", "refused"]


@dataclass(frozen=True, slots=True)
class Question:
    """What the model is asked, and how it is to sample."""

    prompt: str
    temperature: float
    seed: int
    is_guarded: bool


@dataclass(frozen=True, slots=True)
class Whole:
    """The uninterrupted answer: what a reader gets, and how much of the body comes before the event that ends it."""

    text: str
    hidden: tuple[Redacted, ...]
    bytes: int
    events: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """One run: its plan, and what is wrong with it ("" for nothing)."""

    kind: RunKind
    number: int
    question: Question
    plan: FailurePlan
    run: FlowRun = field(repr=False)
    problem: str
    equals_whole: bool

    @property
    def strategies(self) -> list[str]:
        """How the run went on, each time that it did."""
        resumed = [event.strategy for event in self.run.events if isinstance(event, Resumed)]
        return [*resumed, *("restart" for has_text in _retries(self.run) if not has_text)]


def _retries(run: FlowRun) -> list[bool]:
    """Of every retry, whether text had been delivered before it."""
    found: list[bool] = []
    has_text = False
    for event in run.events:
        # What the guard holds back was delivered, too.
        has_text = has_text or isinstance(event, Interrupted)
        if isinstance(event, Retrying):
            found.append(has_text)
    return found


# -- runs ------------------------------------------------------------------------------------------------------------


class Bench:
    """Draws runs from *seed* and judges them."""

    def __init__(
        self,
        runs: EmbeddedRuns,
        *,
        seed: int = 1,
        prompts: Sequence[str] = PROMPTS,
        guarded_prompts: Sequence[str] = GUARDED_PROMPTS,
        sampling: Sequence[tuple[float, int]] = SAMPLING,
        max_tokens: int = 40,
        system: str | None = None,
    ) -> None:
        self._runs = runs
        self._seed = seed
        self._prompts = prompts
        self._guarded_prompts = guarded_prompts
        self._sampling = sampling
        self._max_tokens = max_tokens
        self._system = system
        self._wholes: dict[Question, Whole] = {}

    def run(self, kind: RunKind, number: int) -> Verdict:
        """Run *number* of its kind."""
        rng = random.Random(f"{self._seed}/{kind}/{number}")
        prompts = self._guarded_prompts if kind == "guarded" else self._prompts
        question = Question(rng.choice(prompts), *rng.choice(self._sampling), is_guarded=kind == "guarded")
        whole = self.whole(question)
        if kind == "refused":
            return self._refused(number, question, whole, rng)
        plan = parse_plan(drawn_plan(rng, whole))
        run = self.asked(question, plan, deltas=lambda: rng.choice(JOINED))
        problem = difference(run, whole)
        return Verdict(kind, number, question, plan, run, problem, not problem)

    def whole(self, question: Question) -> Whole:
        """The uninterrupted answer, asked for once."""
        if question not in self._wholes:
            bodies = Bodies()
            run = self.asked(question, parse_plan("ok"), bodies)
            assert run.report.outcome == "complete"
            (body,) = bodies.kept
            end = body.rindex(b"\n\n", 0, body.index(b'"finish_reason":"')) + 2
            hidden = tuple(event for event in run.events if isinstance(event, Redacted))
            self._wholes[question] = Whole(run.report.text, hidden, end, body.count(b"\n\n", 0, end))
        return self._wholes[question]

    def _refused(self, number: int, question: Question, whole: Whole, rng: random.Random) -> Verdict:
        """Cut in the middle; the second answer is another one; the third is a prefilled one."""
        place = rng.randint(3, max(3, whole.events - 1))
        plan = parse_plan(f"{rng.choice(('cut', 'reset', 'incomplete'))}@{place}e")
        bodies = Bodies(corrupts=2)
        run = self.asked(question, plan, bodies)
        causes = [event.cause for event in run.events if isinstance(event, Interrupted)]
        strategies = [event.strategy for event in run.events if isinstance(event, Resumed)]
        problem = ""
        if strategies != ["prefill"] or len(bodies.kept) != 3 or not isinstance(causes[-1], ResumeDiverged):
            problem = f"resumed by {strategies} after {causes} in {len(bodies.kept)} answers"
        elif run.report.outcome != "complete":
            problem = f"{run.report.outcome}: {run.report.error}"
        else:
            cut = next(event.chars for event in run.events if isinstance(event, Interrupted))
            delivered, rest = run.report.text[:cut], run.report.text[cut:]
            written = text_of(bodies.kept[2])
            # A model may begin with what was delivered: with the white space, which it was not shown, or with words.
            again = written.removesuffix(rest).strip()
            if not whole.text.startswith(delivered):
                problem = f"delivered {delivered!r}, which is not how {whole.text!r} begins"
            elif not written.endswith(rest) or not delivered.rstrip().endswith(again):
                problem = f"the model wrote {written!r} after {delivered!r}, and {rest!r} was shown"
        return Verdict("refused", number, question, plan, run, problem, not problem and run.report.text == whole.text)

    def asked(
        self,
        question: Question,
        plan: FailurePlan,
        bodies: Bodies | None = None,
        *,
        deltas: Callable[[], int] = lambda: 1,
    ) -> FlowRun:
        """The answer to *question* with the failures of *plan*; *deltas* says how many come as one, per attempt."""

        return self._runs.run(
            question.prompt,
            Parameters(question.temperature, self._max_tokens, question.seed, logprobs=True),
            plan,
            system=self._system,
            rules=compile_rules(DEFAULT_PACKS) if question.is_guarded else None,
            below=(bodies or Bodies()).keep,
            above=lambda inner: RecutTransport(inner, deltas),
        )


def drawn_plan(rng: random.Random, whole: Whole) -> str:
    """1 to 3 failures for an answer like *whole*, and perhaps something harmless in the attempt that succeeds."""

    def place() -> str:
        return rng.choice(
            (f"{rng.randint(0, whole.bytes - 1)}b", f"{rng.randint(0, whole.events)}e", f"{rng.randint(0, 100)}%")
        )

    def failure(number: int) -> str:
        if number and rng.random() < 0.1:
            return rng.choice(ELSEWHERE)
        kind = rng.choice(BREAKING)
        value = f"={rng.choice(VALUES[kind])}" if kind in VALUES else ""
        return f"{kind}{value}@{place()}" if KINDS[kind].default_at is not None else f"{kind}{value}"

    entries = [failure(number) for number in range(rng.randint(1, 3))]
    if rng.random() < 0.4:
        entries.append(rng.choice(HARMLESS).format(place()))
    return ", ".join(entries)


def difference(run: FlowRun, whole: Whole) -> str:
    """Where what a reader got of *run* is not *whole*; "" if it is."""
    text = "".join(event.text for event in run.events if isinstance(event, TextDelta))
    report = run.report
    hidden = tuple(event for event in run.events if isinstance(event, Redacted))
    if report.outcome != "complete":
        return f"{report.outcome} after {len(report.text)} characters: {report.error}"
    if not hidden and text != report.text:
        return f"{text!r} was streamed, {report.text!r} reported"
    if report.text.encode() != whole.text.encode():
        pairs = zip(report.text, whole.text, strict=False)
        place = next(
            (n for n, (one, other) in enumerate(pairs) if one != other), min(len(report.text), len(whole.text))
        )
        return f"at character {place}: {report.text[place:][:40]!r} instead of {whole.text[place:][:40]!r}"
    return "" if hidden == whole.hidden else f"{hidden} was hidden instead of {whole.hidden}"


# -- the report ------------------------------------------------------------------------------------------------------


def summary(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """The figures of runs of one kind, in lines."""
    good = sum(not verdict.problem for verdict in verdicts)
    name = "as they should be" if verdicts[0].kind == "refused" else "identical"
    yield f"  runs {len(verdicts)}, {name} {good}, not so {len(verdicts) - good}"
    if verdicts[0].kind == "guarded":
        hidden = [sum(isinstance(event, Redacted) for event in verdict.run.events) for verdict in verdicts]
        yield f"  runs with something hidden {sum(map(bool, hidden))}, hidden altogether {sum(hidden)}"
    if verdicts[0].kind == "refused":
        yield f"  equal to the uninterrupted answer, too {sum(verdict.equals_whole for verdict in verdicts)}"
    yield f"  runs by failed attempts: {_counts(len(_retries(verdict.run)) for verdict in verdicts)}"
    injected = [done.fault.kind for verdict in verdicts for done in verdict.plan.statistics().recent]
    yield f"  injected {len(injected)}: {_counts(injected)}"
    missed = sum(verdict.plan.planned - verdict.plan.injected for verdict in verdicts)
    yield f"  planned, but the attempt had ended before: {missed}"
    yield f"  strategies: {_counts(way for verdict in verdicts for way in verdict.strategies)}"
    gaps = [event.gap_s for verdict in verdicts for event in verdict.run.events if isinstance(event, Resumed)]
    if gaps:
        p50, p90 = (percentile(sorted(gaps), fraction) for fraction in (0.5, 0.9))
        yield f"  gap per resume: p50 {p50:.3f} s, p90 {p90:.3f} s, max {max(gaps):.3f} s, n {len(gaps)}"
    for verdict in verdicts:
        if verdict.problem:
            yield f"  run {verdict.number}, {verdict.question}, plan '{verdict.plan}': {verdict.problem}"


def _counts(names: Iterable[object]) -> str:
    counter = Counter(map(str, names))
    return ", ".join(f"{name} {counter[name]}" for name in sorted(counter)) or "none"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.flow.exactly_once")
    parser.add_argument("--runs", type=int, default=500, help="replayed runs; 40 guarded and 40 refused ones in 500")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, metavar="N", help="run N of each kind")
    options = parser.parse_args(arguments)
    is_good = True
    with EmbeddedRuns() as runs:
        bench = Bench(runs, seed=options.seed)
        print(f"{PINNED.name}, seed {options.seed}, {len(PROMPTS)} prompts, (temperature, seed) {SAMPLING}")
        kinds: tuple[tuple[RunKind, int], ...] = (
            ("replayed", options.runs),
            ("guarded", -(-options.runs * 2 // 25)),
            ("refused", -(-options.runs * 2 // 25)),
        )
        for kind, count in kinds:
            numbers = range(count) if options.only is None else (options.only,)
            verdicts = [bench.run(kind, number) for number in numbers]
            print(f"{kind}:", *summary(verdicts), sep="\n", flush=True)
            is_good = is_good and not any(verdict.problem for verdict in verdicts)
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
