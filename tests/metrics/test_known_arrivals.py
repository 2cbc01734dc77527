"""Known arrivals: bodies whose bytes come at chosen instants go through the whole flow, and every figure is computed by
hand. The numbers below are literals; beside them stands how they follow from the script and from `DEFINITIONS`.

Instants are quarters of seconds from the start of the run, so that their sums are exact. The guards are those of
`--enable-guardrails`: a word that may begin an e-mail address waits, one with white space behind it does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest

from tests.support import wire
from tests.support.virtual_run import Body, VirtualRun, run_virtually
from utils.errors import Cancelled, Stopped
from utils.guardrails.policy import DEFAULT_PACKS, compile_rules
from utils.guardrails.rules import Action
from utils.resilience.continuation import Capabilities

SURE, HALF, QUARTER = 0.0, -0.6931471805599453, -1.3862943611198906
"""Logprobs of the probabilities 1, 1/2 and 1/4."""
ROLE, STOP, DONE = wire.sse(wire.role()), wire.sse(wire.finish()), wire.sse(wire.DONE)
OPENED = (0.25, ROLE)
NO_WAY_ON = Capabilities(replay=False, prefill=None, continue_=False)
LONG = "It went on over the still water of the lake to the far side, where the old house of a family stood. "
ALSO = "It came home over the same quiet water in the dark, when the lamps of the town had long been lit... "
"""Of 100 characters each: the beginning of a prefilled answer is held until 200 of it are known."""


def body(*reads: tuple[float, bytes], breaks_s: float | None = None) -> Body:
    return Body(reads, breaks_s)


def said(*parts: str | float) -> bytes:
    """One delta: its tokens, each with its logprob behind it."""
    tokens = [(str(token), float(value)) for token, value in zip(parts[::2], parts[1::2], strict=True)]
    return wire.sse(wire.delta("".join(token for token, _ in tokens), logprobs=tokens))


def thought(text: str) -> bytes:
    return wire.sse(wire.reasoning(text))


def counted(tokens: int) -> bytes:
    """Usage of a prompt of 9 tokens and an answer of *tokens*."""
    return wire.sse(wire.usage(9, tokens))


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is sent, and what must come of it. All times in seconds."""

    bodies: tuple[Body, ...]
    text: str
    opening_s: float
    """From the start to the first content, or to the end if there was none."""
    times: tuple[float | None, ...]
    """ttfc_s, ttfr_s, ttft_s, e2e_s."""
    rate: tuple[int | str | float | None, ...]
    """tokens, token_source, tpot_s, tokens_per_s."""
    gaps: tuple[float, ...] = ()
    summary: tuple[float | int | None, ...] = (0, None, None, None, None)
    """Of the gaps: n, p50, p90, max, mean."""
    stalls: tuple[float | None, list[float]] = (None, [])
    """longest_stall_s, gap_s."""
    others: Mapping[str, Any] = field(default_factory=dict)
    """Figures that are not those of `UNDISTURBED`."""
    tokens: tuple[tuple[int, float, float | None, float], ...] = ()
    """start_char, t_s, probability, held_s of each."""
    held: tuple[float, ...] | None = (0, 0.0, 0.0, 0.0)
    """Held characters: the most, mean over the deltas. Seconds: the longest, mean over all characters that came."""
    levels: tuple[tuple[float, int], ...] = ()
    """From which instant on how many characters were held."""
    outcome: str = "complete"
    retries: int = 1
    can: Capabilities = NO_WAY_ON
    action: Action | None = None
    stop: tuple[float, Stopped] | None = None


NEVER = ("interruptions", "retries", "resumes", "fallbacks", "breaker_changes", "adaptations", "redactions", "flags")
UNDISTURBED = {**dict.fromkeys(NEVER, 0), "attempts": 1, "reasoning_chunks": 0, "prompt_tokens": 9}
CUT_OFF = body(
    *(OPENED, (0.5, said("Ask ", HALF)), (1.0, said("him ", SURE)), (1.5, said("or", SURE, "bob", HALF))), breaks_s=2.5
)

CASES = {
    # Text at 0.5 0.75 1.25 2.75 3.
    "plain": Case(
        bodies=(
            body(
                *(OPENED, (0.5, said("Tea ", HALF)), (0.75, said("is ", SURE)), (1.25, said("hot. ", QUARTER))),
                *((2.75, said("Sip ", HALF)), (3.0, said("it. ", SURE)), (3.25, STOP), (3.5, counted(6)), (3.75, DONE)),
            ),
        ),
        text="Tea is hot. Sip it. ",
        opening_s=0.5,
        times=(0.25, None, 0.5, 3.75),
        # The server counts 6 tokens (one ends the turn): (3 - 0.5) / (6 - 1) = 0.5.
        rate=(6, "usage", 0.5, 2.0),
        gaps=(0.25, 0.5, 1.5, 0.25),
        # Sorted 0.25 0.25 0.5 1.5: p50 between the middle two, p90 at place 3 * 0.9 = 2.7: 0.5 + 0.7 * 1; mean 2.5 / 4.
        summary=(4, 0.375, 1.2, 1.5, 0.625),
        stalls=(1.5, []),
        others={"chunks": 5, "chars": 20, "tokens_per_chunk": 1.2, "tokens_by_source": {"usage": 6}},
        tokens=(
            *((0, 0.5, 0.5, 0.0), (4, 0.75, 1.0, 0.0), (7, 1.25, 0.25, 0.0), (12, 2.75, 0.5, 0.0)),
            (16, 3.0, 1.0, 0.0),
        ),
    ),
    # Text at 0.25 1 1 1 2.
    "several deltas in one read": Case(
        bodies=(
            body(
                (0.25, ROLE + said("Tea ", HALF)),
                (1.0, said("is ", SURE) + said("hot. ", QUARTER) + said("Sip", HALF, " ", SURE)),
                (2.0, said("it. ", SURE) + STOP + counted(6) + DONE),
            ),
        ),
        text="Tea is hot. Sip it. ",
        opening_s=0.25,
        times=(0.25, None, 0.25, 2.0),
        # (2 - 0.25) / (6 - 1) = 1.75 / 5; 5 / 1.75 = 20 / 7.
        rate=(6, "usage", 0.35, 2.857142857142857),
        gaps=(0.75, 0.0, 0.0, 1.0),
        # Sorted 0 0 0.75 1: p50 (0 + 0.75) / 2, p90 0.75 + 0.7 * 0.25, mean 1.75 / 4.
        summary=(4, 0.375, 0.925, 1.0, 0.4375),
        stalls=(1.0, []),
        others={"chunks": 5, "chars": 20},
        tokens=(
            *((0, 0.25, 0.5, 0.0), (4, 1.0, 1.0, 0.0), (7, 1.0, 0.25, 0.0), (12, 1.0, 0.5, 0.0)),
            *((12, 1.0, 1.0, 0.0), (16, 2.0, 1.0, 0.0)),
        ),
    ),
    # `ann` waits from 1.25 to 1.75 and is shown, `bob@exam` from 3.25 to 3.5 and is replaced. Cut at 4; what comes at 5
    # is held for the seam and shown at 5.5. Text at 0.5 1 1 1.75 3 3.75 | 5.5 5.5 6 6.25; a replacement is no delta.
    "held, replaced, stalled, cut, resumed": Case(
        bodies=(
            body(
                *(OPENED, (0.5, said("The ", HALF)), (1.0, said("boat ", SURE) + said("is ", QUARTER))),
                *((1.25, said("ann", HALF)), (1.75, said(" old. ", SURE)), (3.0, said("Ask ", HALF))),
                *(
                    (3.25, said("bob", SURE, "@exam", QUARTER)),
                    (3.5, said("ple.com", HALF)),
                    (3.75, said(" now. ", SURE)),
                ),
                breaks_s=4.0,
            ),
            body(
                *((4.5, ROLE), (5.0, said(LONG, HALF)), (5.5, said(ALSO, QUARTER)), (6.0, said("The ", SURE))),
                *((6.25, said("end. ", HALF)), (6.5, STOP), (6.75, counted(23)), (7.0, DONE)),
            ),
        ),
        text=f"The boat is ann old. Ask [EMAIL] now. {LONG}{ALSO}The end. ",
        opening_s=0.5,
        times=(0.25, None, 0.5, 7.0),
        # 10 tokens came with the text before the cut, 23 are counted after it: (6.25 - 0.5) / (33 - 1); 32 / 5.75.
        rate=(33, "logprobs", 0.1796875, 5.565217391304348),
        gaps=(0.5, 0.0, 0.75, 1.25, 0.75, 1.75, 0.0, 0.5, 0.25),
        # Sorted 0 0 0.25 0.5 0.5 0.75 0.75 1.25 1.75: p90 at place 8 * 0.9 = 7.2: 1.25 + 0.2 * 0.5; mean 5.75 / 9.
        summary=(9, 0.5, 1.35, 1.75, 0.6388888888888888),
        # From text to text, 3.75 to 5.5; the gap of the resume counts from the cut, 4 to 5.5.
        stalls=(1.75, [1.5]),
        others={
            "interruptions": 1,
            "retries": 1,
            "resumes": 1,
            "attempts": 2,
            "redactions": 1,
            "prompt_tokens": None,
            "chunks": 10,
            "chars": 247,  # 38 up to the cut (`[EMAIL]` has 7), 100 + 100 + 9 after it
            "tokens_by_source": {"logprobs": 10, "usage": 23},
            "tokens_per_chunk": 3.3,
        },
        # The three tokens that are hidden go on with the next text, ` now. `.
        tokens=(
            *((0, 0.5, 0.5, 0.0), (4, 1.0, 1.0, 0.0), (9, 1.0, 0.25, 0.0), (12, 1.75, 0.5, 0.5), (12, 1.75, 1.0, 0.5)),
            *((21, 3.0, 0.5, 0.0), (32, 3.75, 1.0, 0.0), (32, 3.75, 0.25, 0.0), (32, 3.75, 0.5, 0.0)),
            *((32, 3.75, 1.0, 0.0), (38, 5.5, 0.5, 0.0), (138, 5.5, 0.25, 0.0), (238, 6.0, 1.0, 0.0)),
            (242, 6.25, 0.5, 0.0),
        ),
        # After two of 13 deltas 3 and 8 are held. 3 * 0.5 + 8 * 0.25 = 3.5 s over the 46 + 209 characters that came
        # (the address has 15).
        held=(8, 0.8461538461538461, 0.5, 0.013725490196078431),
        levels=((1.25, 3), (1.75, 0), (3.25, 8), (3.5, 0)),
        can=Capabilities(replay=False, prefill="trailing", continue_=False),
    ),
    # At 3.5 the repeated answer is where the first one was cut, and `and ` is new. Text at 0.5 1 | 3.5 4.
    "replayed": Case(
        bodies=(
            body(OPENED, (0.5, said("The sun ", HALF)), (1.0, said("rose ", HALF)), breaks_s=2.0),
            body(
                *((3.0, ROLE), (3.25, said("The sun ", HALF)), (3.5, said("rose ", HALF, "and ", SURE))),
                *((4.0, said("set. ", QUARTER) + STOP), (4.25, counted(5) + DONE)),
            ),
        ),
        text="The sun rose and set. ",
        opening_s=0.5,
        times=(0.25, None, 0.5, 4.25),
        # Its usage is that of the whole answer: (4 - 0.5) / (5 - 1); 4 / 3.5.
        rate=(5, "usage", 0.875, 1.1428571428571428),
        gaps=(0.5, 2.5, 0.5),
        # Sorted 0.5 0.5 2.5: p90 at place 1.8: 0.5 + 0.8 * 2; mean 3.5 / 3.
        summary=(3, 0.5, 2.1, 2.5, 1.1666666666666667),
        stalls=(2.5, [1.5]),
        others={"interruptions": 1, "retries": 1, "resumes": 1, "attempts": 2, "tokens_by_source": {"usage": 5}},
        # Which token is the new part of a delta cannot be told.
        tokens=((0, 0.5, 0.5, 0.0), (8, 1.0, 0.5, 0.0), (13, 3.5, None, 0.0), (17, 4.0, 0.25, 0.0)),
        can=Capabilities(replay=True, prefill=None, continue_=False),
    ),
    # The first content is there at 0.5 and shown at 1.25, with what came then; only the end brings `on` out, at 2.5.
    "the first and the last text wait": Case(
        bodies=(
            body(
                *(OPENED, (0.5, said("Go", HALF)), (1.0, said("in", SURE)), (1.25, said("g ", SURE))),
                *((1.5, said("on", QUARTER)), (2.0, counted(5)), (2.5, STOP + DONE)),
            ),
        ),
        text="Going on",
        opening_s=0.5,
        times=(0.25, None, 1.25, 2.5),
        # (2.5 - 1.25) / (5 - 1); 4 / 1.25.
        rate=(5, "usage", 0.3125, 3.2),
        gaps=(1.25,),
        summary=(1, 1.25, 1.25, 1.25, 1.25),
        stalls=(1.25, []),
        others={"chunks": 2, "chars": 8},
        # `Going ` has waited as long as its oldest character, 1.25 - 0.5.
        tokens=((0, 1.25, 0.5, 0.75), (0, 1.25, 1.0, 0.75), (0, 1.25, 1.0, 0.75), (6, 2.5, 0.25, 1.0)),
        # After four deltas 2, 4, 0, 2. `Go` 0.75 s, `in` 0.25 s, `on` 1 s: 2 * 2 s over 8 characters.
        held=(4, 2.0, 1.0, 0.5),
        levels=((0.5, 2), (1.0, 4), (1.25, 0), (1.5, 2), (2.5, 0)),
    ),
    "a single chunk": Case(
        bodies=(body(OPENED, (0.5, said("Yes", SURE, ". ", HALF)), (1.0, STOP + counted(3) + DONE)),),
        text="Yes. ",
        opening_s=0.5,
        times=(0.25, None, 0.5, 1.0),
        rate=(3, "usage", None, None),
        others={"chunks": 1, "chars": 5, "tokens_per_chunk": 3.0},
        tokens=((0, 0.5, 1.0, 0.0), (0, 0.5, 0.5, 0.0)),
    ),
    # At 2 the address is whole: the run ends there, and nothing of it is shown. Text at 0.5 1.25.
    "blocked midway": Case(
        bodies=(
            body(
                *(OPENED, (0.5, said("Ask ", HALF)), (1.25, said("for ", SURE, "bob@exam", QUARTER))),
                *((2.0, said("ple.com ", HALF)), (3.0, said("now. ", SURE) + STOP + counted(9) + DONE)),
            ),
        ),
        text="Ask for ",
        opening_s=0.5,
        times=(0.25, None, 0.5, 2.0),
        # The tokens that came with shown text, two of them in one delta: 0.75 / (3 - 1); 2 / 0.75.
        rate=(3, "logprobs", 0.375, 2.6666666666666665),
        gaps=(0.75,),
        summary=(1, 0.75, 0.75, 0.75, 0.75),
        stalls=(0.75, []),
        others={"chunks": 2, "chars": 8, "prompt_tokens": None},
        tokens=((0, 0.5, 0.5, 0.0), (4, 1.25, 1.0, 0.0), (4, 1.25, 0.25, 0.0)),
        # After three deltas 0, 8, 0. 8 for 0.75 s: 6 s over 4 + 12 + 8 characters.
        held=(8, 2.6666666666666665, 0.75, 0.25),
        levels=((1.25, 8), (2.0, 0)),
        outcome="blocked",
        action="block",
    ),
    # No way leads on, so what is held is dropped when the connection breaks. Text at 0.5 1.
    "aborted by a failure": Case(
        bodies=(CUT_OFF,),
        text="Ask him ",
        opening_s=0.5,
        times=(0.25, None, 0.5, 2.5),
        rate=(2, "logprobs", 0.5, 2.0),
        gaps=(0.5,),
        summary=(1, 0.5, 0.5, 0.5, 0.5),
        stalls=(0.5, []),
        others={"interruptions": 1, "prompt_tokens": None},
        tokens=((0, 0.5, 0.5, 0.0), (4, 1.0, 1.0, 0.0)),
        # After three deltas 0, 0, 5. 5 for 1 s over 13 characters.
        held=(5, 1.6666666666666667, 1.0, 0.38461538461538464),
        levels=((1.5, 5), (2.5, 0)),
        outcome="incomplete",
    ),
    "aborted by a stop": Case(
        bodies=(CUT_OFF,),
        text="Ask him ",
        opening_s=0.5,
        times=(0.25, None, 0.5, 1.75),
        rate=(2, "logprobs", 0.5, 2.0),
        gaps=(0.5,),
        summary=(1, 0.5, 0.5, 0.5, 0.5),
        stalls=(0.5, []),
        others={"prompt_tokens": None},
        tokens=((0, 0.5, 0.5, 0.0), (4, 1.0, 1.0, 0.0)),
        # As before, but 5 for 0.25 s: 1.25 / 13.
        held=(5, 1.6666666666666667, 0.25, 0.09615384615384616),
        levels=((1.5, 5), (1.75, 0)),
        outcome="cancelled",
        stop=(1.75, Cancelled("cancelled")),
    ),
    # The first of the tokens that the server counts is that of the reasoning at 0.5: (2.5 - 0.5) / (9 - 1).
    "reasoning that usage counts": Case(
        bodies=(
            body(
                *(OPENED, (0.5, thought("Let me see. ")), (1.0, thought("I see. ")), (2.0, said("Ask ", HALF))),
                *((2.5, said("him. ", SURE) + STOP), (3.0, counted(9) + DONE)),
            ),
        ),
        text="Ask him. ",
        opening_s=0.5,
        times=(0.25, 0.5, 2.0, 3.0),
        rate=(9, "usage", 0.25, 4.0),
        gaps=(0.5,),
        summary=(1, 0.5, 0.5, 0.5, 0.5),
        stalls=(0.5, []),
        others={"reasoning_chunks": 2},
        tokens=((0, 2.0, 0.5, 0.0), (4, 2.5, 1.0, 0.0)),
    ),
    # Logprobs are those of the answer, which begins at 2: (3 - 2) / (3 - 1).
    "reasoning that nobody counts": Case(
        bodies=(
            body(
                *(OPENED, (0.5, thought("Let me see. ")), (2.0, said("Ask ", HALF)), (2.25, said("him ", SURE))),
                (3.0, said("now. ", SURE) + STOP + DONE),
            ),
        ),
        text="Ask him now. ",
        opening_s=0.5,
        times=(0.25, 0.5, 2.0, 3.0),
        rate=(3, "logprobs", 0.5, 2.0),
        gaps=(0.25, 0.75),
        # p90 at place 0.9: 0.25 + 0.9 * 0.5.
        summary=(2, 0.5, 0.7, 0.75, 0.5),
        stalls=(0.75, []),
        others={"reasoning_chunks": 1, "prompt_tokens": None},
        tokens=((0, 2.0, 0.5, 0.0), (4, 2.25, 1.0, 0.0), (8, 3.0, 1.0, 0.0)),
    ),
    # The first attempt brings a data event at 0.25 and breaks at 1. Text at 2.5 2.75 3.5: 1 / (3 - 1).
    "begun again before text, counted by nobody": Case(
        bodies=(
            body(OPENED, breaks_s=1.0),
            body(
                *((2.0, ROLE), (2.5, wire.sse(wire.delta("Ask "))), (2.75, wire.sse(wire.delta("him ")))),
                (3.5, wire.sse(wire.delta("now. ")) + STOP + DONE),
            ),
        ),
        text="Ask him now. ",
        opening_s=2.5,
        times=(0.25, None, 2.5, 3.5),
        rate=(3, "chunks", 0.5, 2.0),
        gaps=(0.25, 0.75),
        summary=(2, 0.5, 0.7, 0.75, 0.5),
        stalls=(0.75, []),
        others={"retries": 1, "attempts": 2, "prompt_tokens": None, "tokens_per_chunk": None},
        tokens=((0, 2.5, None, 0.0), (4, 2.75, None, 0.0), (8, 3.5, None, 0.0)),
    ),
    "no answer at all": Case(
        bodies=(body(OPENED, breaks_s=1.0),),
        text="",
        opening_s=1.0,
        times=(0.25, None, None, 1.0),
        rate=(0, "chunks", None, None),
        others={"chunks": 0, "chars": 0, "prompt_tokens": None, "tokens_per_chunk": None},
        held=None,
        outcome="unavailable",
        retries=0,
    ),
}

each_case = pytest.mark.parametrize("name", CASES)


@cache
def ran(name: str) -> VirtualRun:
    case = CASES[name]
    rules = compile_rules(DEFAULT_PACKS, action=case.action)
    return run_virtually(case.bodies, rules=rules, capabilities=case.can, retries=case.retries, stop=case.stop)


def numbers(*values: Any) -> list[Any]:
    """What is equal to *values*, numbers but for the last bits of a division."""
    return [pytest.approx(value, rel=1e-12, abs=0.0) if isinstance(value, float) else value for value in values]


def taken(figures: Mapping[str, Any], keys: str) -> list[Any]:
    return [figures[key] for key in keys.split()]


@each_case
def test_every_figure_of_the_stream_is_the_one_computed_by_hand(name: str) -> None:
    run, case = ran(name), CASES[name]
    metrics = run.report.metrics
    assert (run.report.text, run.report.outcome) == (case.text, case.outcome)
    assert taken(metrics, "ttfc_s ttfr_s ttft_s e2e_s") == numbers(*case.times)
    assert run.recorder.latencies() == case.gaps
    latency = metrics["inter_chunk_latency_s"]
    assert taken(latency, "n p50 p90 max mean p99 left_out") == numbers(*case.summary, None, 0)
    assert taken(metrics, "tokens token_source tpot_s tokens_per_s") == numbers(*case.rate)
    assert taken(metrics, "longest_stall_s gap_s") == numbers(*case.stalls)
    others = {**UNDISTURBED, **case.others}
    assert taken(metrics, " ".join(others)) == numbers(*others.values())


@each_case
def test_each_token_has_its_place_its_instant_its_probability_and_its_wait(name: str) -> None:
    run = ran(name)
    columns = run.recorder.token_log(run.guard.hold).as_json()
    rows = zip(*taken(columns, "start_char t_s probability held_s"), strict=True)
    assert list(rows) == list(CASES[name].tokens)


@each_case
def test_what_was_held_and_for_how_long_is_told_exactly(name: str) -> None:
    run, case = ran(name), CASES[name]
    if case.held is None:
        assert (run.report.guard, run.guard.hold) == ({"prompt": []}, None)
        return
    answer = run.report.guard["answer"]
    assert taken(answer, "held_max_chars held_mean_chars held_max_s held_mean_s") == numbers(*case.held)
    assert run.guard.hold is not None
    started_s = run.recorder.started_s
    assert [(now - started_s, chars) for now, chars in run.guard.hold.levels()] == list(case.levels)


@each_case
def test_the_node_tells_the_recorders_figures_of_the_stream_and_its_own_of_the_opening_alone(name: str) -> None:
    run, case = ran(name), CASES[name]
    figures = run.recorder.metrics(99.0)
    assert run.report.metrics == figures
    assert run.streams == {"runs": 1, "outcomes": {case.outcome: 1}, "last": figures}
    assert taken(run.opening, "total_executions success_rate total_retries") == [1, 1.0, 0]
    seconds = taken(run.opening, "avg_execution_time min_execution_time max_execution_time")
    assert seconds == [case.opening_s] * 3
    shown = run.recorder.snapshot(99.0)
    for key in ("ttfc_s", "ttft_s", "tokens_per_s", "longest_stall_s", "tokens", "token_source", "chunks", "chars"):
        assert getattr(shown, key) == figures[key]
