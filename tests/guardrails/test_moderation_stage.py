"""Sentences judged by tasks of their own, in virtual time: order, modes, failures, and that nothing is left running."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.virtual_time import virtually
from utils.errors import (
    AnswerBlocked,
    AppError,
    AuthFailed,
    Cancelled,
    ConnectionLost,
    InternalError,
    ProtocolError,
    RateLimited,
    ServerFailure,
)
from utils.events import (
    Aborted,
    Adapted,
    Blocked,
    Event,
    Finished,
    Flagged,
    Interrupted,
    Opened,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    Usage,
)
from utils.guardrails.moderation import Judgement, Moderation, ModerationPolicy, ModerationStatistics
from utils.guardrails.toxicity import ToxicityMode
from utils.moderated_stream import moderated
from utils.run_context import RunContext

STOP = Finished("stop")
LOST = ConnectionLost("lost")
MODES: tuple[ToxicityMode, ...] = ("flag", "stop", "hold")


class Paced:
    """A stream that plays (pause, event) and counts how often it was closed."""

    def __init__(self, steps: Sequence[tuple[float, Event | Exception]]) -> None:
        self._steps = iter(steps)
        self.closed = 0
        self.pulled = 0

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        for pause, event in self._steps:
            await asyncio.sleep(pause)
            self.pulled += 1
            if isinstance(event, Exception):
                raise event
            return event
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed += 1


@dataclass
class Judge:
    """Finds sentences with `bad` toxic, after *delay_s*; or raises *errors*, one per call, None being no error."""

    delay_s: Callable[[], float] = lambda: 0.0
    errors: Sequence[Exception | None] = ()
    name: str = "judge"
    calls: list[list[str]] = field(default_factory=list)
    running: int = 0
    running_max: int = 0

    async def judge(self, texts: Sequence[str]) -> list[Judgement]:
        self.calls.append(list(texts))
        error = self.errors[len(self.calls) - 1] if len(self.calls) <= len(self.errors) else None
        self.running += 1
        self.running_max = max(self.running, self.running_max)
        try:
            await asyncio.sleep(self.delay_s())
            if error is not None:
                raise error
            return [Judgement(0.9 if "bad" in text else 0.2, "bad" in text) for text in texts]
        finally:
            self.running -= 1


class Local:
    """Finds sentences with `awful` toxic."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def score(self, text: str) -> float:
        self.asked.append(text)
        return 0.95 if "awful" in text else 0.05


@dataclass
class Seen:
    events: list[tuple[float, Event]]
    figures: ModerationStatistics
    stream: Paced
    judge: Judge
    local: Local

    @property
    def text(self) -> str:
        return "".join(event.text for _, event in self.events if isinstance(event, TextDelta))

    @property
    def others(self) -> list[Event]:
        return [event for _, event in self.events if not isinstance(event, TextDelta)]


def run(
    steps: Sequence[tuple[float, Event | Exception]],
    judge: Judge | None = None,
    *,
    local: Local | None = None,
    deadline_s: float | None = None,
    stop_at: float | None = None,
    **policy: Any,
) -> Seen:
    judge, local, stream = judge or Judge(), local or Local(), Paced(steps)
    figures: list[ModerationStatistics] = []

    async def main() -> list[tuple[float, Event]]:
        loop = asyncio.get_running_loop()
        context = RunContext(clock=loop.time, started_s=0.0, deadline_s=deadline_s)
        if stop_at is not None:
            loop.call_at(stop_at, context.stop, Cancelled("Ctrl-C"))
        events = []
        stage = moderated(
            stream, judge, ModerationPolicy(**policy), local=local, context=context, on_statistics=figures.append
        )
        async for event in stage:
            assert not isinstance(event, Finished | Blocked | Aborted) or (stream.closed, judge.running) == (1, 0)
            events.append((loop.time(), event))
        return events

    events = virtually(main)
    assert stream.closed == 1
    assert judge.running == 0
    (one,) = figures
    return Seen(events, one, stream, judge, local)


def told(*texts: str, pause: float = 0.0) -> list[tuple[float, Event | Exception]]:
    return [(pause, TextDelta(text)) for text in texts]


# -- modes -----------------------------------------------------------------------------------------------------------


def test_flag_shows_text_at_once_and_tells_findings_when_they_are_known_and_before_the_end() -> None:
    steps = [*told("So bad. ", "Fine. ", pause=1.0), (4.0, TextDelta("Bad? bad!")), (1.0, STOP)]
    seen = run(steps, Judge(lambda: 3.0), mode="flag")
    assert seen.events == [
        (1.0, TextDelta("So bad. ")),
        (2.0, TextDelta("Fine. ")),
        (4.0, Flagged("toxicity", 0, 7)),
        (6.0, TextDelta("Bad? bad!")),
        (10.0, Flagged("toxicity", 19, 23)),
        (10.0, STOP),
    ]
    assert (seen.figures.windows, seen.figures.toxic, seen.figures.judged_remotely) == (4, 2, 4)
    assert (seen.figures.findings[0].count, seen.figures.findings[0].action) == (2, "flagged")
    assert "bad" not in repr(seen.figures)


def test_stop_ends_the_answer_when_a_finding_is_known_though_the_model_is_silent() -> None:
    steps = [*told("So bad. More", pause=1.0), (60.0, TextDelta("never")), (0.0, STOP)]
    seen = run(steps, Judge(lambda: 0.5), mode="stop")
    assert seen.events == [(1.0, TextDelta("So bad. More")), (1.5, Blocked("toxicity"))]


def test_stop_judges_the_last_sentence_before_the_end() -> None:
    assert run([*told("so bad"), (0.0, STOP)], Judge(lambda: 1.0), mode="stop").others == [Blocked("toxicity")]


def test_hold_shows_a_sentence_when_it_and_all_before_it_were_judged() -> None:
    delays = iter([3.0, 1.0, 1.0])
    steps = [*told("One. ", "Two. ", "So ba", pause=1.0), (0.0, TextDelta("d. ")), (20.0, STOP)]
    seen = run(steps, Judge(lambda: next(delays)), mode="hold")
    assert seen.events == [(4.0, TextDelta("One. ")), (4.0, TextDelta("Two. ")), (4.0, Blocked("toxicity"))]
    assert (seen.figures.held_max_s, seen.figures.held_mean_s) == (3.0, 2.5)
    assert seen.figures.held_max_chars == 18


def test_hold_lets_no_event_overtake_a_sentence_that_ended_before_it() -> None:
    opened, broken, usage = Opened("t", "m", 1), Interrupted(LOST, 8), Usage(1, 2, 3)
    steps = [(0.0, opened), *told("One. Tw"), (0.0, broken), *told("o. "), (0.0, usage), (0.0, STOP)]
    seen = run(steps, Judge(lambda: 1.0), mode="hold")
    assert [event for _, event in seen.events] == [
        opened, TextDelta("One. "), broken, TextDelta("Tw"), TextDelta("o. "), usage, STOP,
    ]  # fmt: skip


def test_hold_does_not_keep_an_event_for_the_end_of_an_open_sentence() -> None:
    steps = [*told("Half a sen"), (1.0, Interrupted(LOST, 10)), (30.0, TextDelta("tence. ")), (0.0, STOP)]
    assert run(steps, mode="hold").events[0] == (1.0, Interrupted(LOST, 10))


def test_tokens_stay_with_a_piece_that_is_whole_and_lose_their_text_with_one_that_is_cut() -> None:
    whole = TextDelta("One", (TokenLogprob("One", -0.1),))
    cut = TextDelta(". Two", (TokenLogprob(".", -0.2), TokenLogprob(" Two", -0.3)))
    seen = run([(0.0, whole), (0.0, cut), (0.0, STOP)], mode="hold")
    assert [event for _, event in seen.events] == [
        whole, TextDelta(". "), TextDelta("Two", (TokenLogprob("", -0.2), TokenLogprob("", -0.3))), STOP,
    ]  # fmt: skip
    assert run([(0.0, cut), (0.0, STOP)], mode="flag").events[0][1] is cut


def test_reasoning_passes_unjudged_here() -> None:
    seen = run([(0.0, ReasoningDelta("so bad. ")), *told("Fine."), (0.0, STOP)], mode="hold")
    assert seen.others == [ReasoningDelta("so bad. "), STOP]
    assert seen.judge.calls == [["Fine."]]


# -- laws ------------------------------------------------------------------------------------------------------------

EVENTS = st.lists(
    st.one_of(
        st.sampled_from(["Fine. ", "a", " b", ". ", "\n", "Two. Three! ", "é。", "x " * 600]).map(TextDelta),
        st.sampled_from([Usage(1, 2, 3), Interrupted(LOST, 1), ReasoningDelta("r. ")]),
    ),
    max_size=25,
)


@settings(max_examples=60)
@given(EVENTS, st.sampled_from(MODES), st.integers(0, 2**32))
def test_text_and_order_do_not_depend_on_who_judges_how_fast(
    events: list[Event], mode: ToxicityMode, seed: int
) -> None:
    rng = random.Random(seed)
    errors = [rng.choice([None, None, ServerFailure("x"), RateLimited("x", retry_after_s=2.0)]) for _ in range(40)]
    judge = Judge(lambda: rng.choice([0.0, 0.1, 1.0, 7.0]), errors)
    steps = [(rng.choice([0.0, 0.0, 0.3, 2.0]), event) for event in [*events, STOP]]
    seen = run(steps, judge, mode=mode, in_flight_max=rng.randint(1, 4), batch_max=rng.randint(1, 5), waiting_max=8)
    assert seen.text == "".join(event.text for event in events if isinstance(event, TextDelta))
    assert seen.others[-1] == STOP
    passed = [event for event in seen.others[:-1] if not isinstance(event, Adapted)]
    assert passed == [event for event in events if not isinstance(event, TextDelta)]
    assert seen.figures.windows == seen.figures.judged_remotely + seen.figures.judged_locally
    assert seen.figures.failures == 0 or sum(isinstance(event, Adapted) for event in seen.others) == 1


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["Fine. ", "So bad. ", "awful. ", "open"]), max_size=12), st.integers(0, 2**32))
def test_hold_shows_exactly_what_stands_before_the_first_toxic_sentence(parts: list[str], seed: int) -> None:
    rng = random.Random(seed)
    judge = Judge(lambda: rng.choice([0.0, 0.1, 1.0, 7.0]))
    text = "".join(parts)
    cut = sorted(rng.sample(range(len(text) + 1), min(5, len(text))))
    pieces = [text[a:b] for a, b in zip([0, *cut], [*cut, len(text)], strict=True) if b > a]
    local = Local()
    local.score = lambda text: 0.99 if "bad" in text else 0.0  # type: ignore[method-assign]
    seen = run([*told(*pieces), (0.0, STOP)], judge, mode="hold", local=local)
    place = text.find("bad")
    if place < 0:
        assert (seen.text, seen.others[-1]) == (text, STOP)
    else:
        before = text[:place].rfind(". ")
        assert (seen.text, seen.others[-1]) == (text[: before + 2 if before >= 0 else 0], Blocked("toxicity"))


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["Fine. ", "So bad. ", "x", "\n"]), max_size=20), st.integers(0, 2**32))
def test_flags_are_the_toxic_sentences_whatever_the_delays(parts: list[str], seed: int) -> None:
    rng = random.Random(seed)
    text = "".join(parts)
    seen = run([*told(*parts), (0.0, STOP)], Judge(lambda: rng.choice([0.0, 0.5, 2.0])), mode="flag")
    spans = sorted((e.raw_start, e.raw_end) for e in seen.others if isinstance(e, Flagged))
    assert len(spans) == text.count("bad")
    assert all("bad" in text[a:b] for a, b in spans)
    assert seen.others[-1] == STOP


# -- calls -----------------------------------------------------------------------------------------------------------


def test_sentences_that_wait_share_a_call_and_calls_are_few() -> None:
    steps = [*told(*(f"No {n}. " for n in range(20))), (0.0, STOP)]
    seen = run(steps, Judge(lambda: 1.0), mode="flag", in_flight_max=2, batch_max=8)
    assert [len(call) for call in seen.judge.calls] == [1, 1, 8, 8, 2]
    assert seen.judge.running_max == 2
    assert (seen.figures.calls, seen.figures.judged_remotely) == (5, 20)
    assert sorted(text for call in seen.judge.calls for text in call) == sorted(f"No {n}." for n in range(20))


def test_the_stream_is_not_read_on_while_too_many_sentences_wait() -> None:
    steps = [*told(*(f"No {n}. " for n in range(20))), (0.0, STOP)]
    seen = run(steps, Judge(lambda: 1.0), mode="flag", in_flight_max=1, batch_max=2, waiting_max=4)
    assert [at for at, event in seen.events if isinstance(event, TextDelta)][:5] == [0.0, 0.0, 0.0, 0.0, 1.0]


def test_white_space_is_not_sent() -> None:
    assert run([*told("\n\n \n", "Fine.\n"), (0.0, STOP)], mode="hold").judge.calls == [["Fine."]]


# -- failures --------------------------------------------------------------------------------------------------------

ENDINGS: list[tuple[Exception, str, bool]] = [
    (AuthFailed("so bad", status=401), "auth failed (401)", True),
    (RateLimited("so bad", status=429, retry_after_s=9.0), "rate limited (429)", False),
    (ServerFailure("so bad", status=503), "server failure (503)", False),
    (ConnectionLost("so bad"), "connection lost", False),
    (ProtocolError("so bad"), "protocol error", False),
    (InternalError("so bad"), "internal error", True),
    (ValueError("so bad"), "failed (ValueError)", False),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("error", "words", "is_final"), ENDINGS, ids=[case[1] for case in ENDINGS])
def test_what_the_endpoint_does_not_judge_the_local_model_does(
    error: Exception, words: str, is_final: bool, mode: ToxicityMode
) -> None:
    steps = [*told("One awful. "), (1.0, TextDelta("So bad. ")), (1.0, STOP)]
    seen = run(steps, Judge(errors=[error]), mode=mode)
    reason = f"{words}; what the endpoint does not judge is judged on this machine"
    assert seen.others[0] == Adapted("toxicity classifier", "judge", "lexical", reason)
    assert sum(isinstance(event, Adapted) for event in seen.others) == 1
    assert seen.figures.is_given_up == is_final
    assert seen.local.asked[0] == "One awful."
    if mode == "flag":
        assert seen.others[1] == Flagged("toxicity", 0, 10)
        assert seen.others[-1] == STOP
    else:
        assert seen.others[1:] == [Blocked("toxicity")]
        assert seen.text == ("" if mode == "hold" else "One awful. ")


def test_an_endpoint_that_does_not_answer_costs_its_deadline_and_no_more() -> None:
    seen = run([*told("One awful. "), (0.0, STOP)], Judge(lambda: 1e9), mode="hold", call_timeout_s=5.0)
    adapted = seen.events[0]
    assert adapted[0] == 5.0
    assert isinstance(adapted[1], Adapted)
    assert adapted[1].reason.startswith("no judgement within 5 s;")
    assert seen.events[-1] == (5.0, Blocked("toxicity"))


def test_no_call_outlives_the_run() -> None:
    seen = run([*told("Fine. ", "Ok"), (1.0, STOP)], Judge(lambda: 1e9), mode="hold", deadline_s=2.0)
    assert seen.events[-1] == (2.0, STOP)
    assert (seen.text, seen.figures.judged_locally) == ("Fine. Ok", 2)
    late = run([(3.0, TextDelta("Fine. ")), (0.0, STOP)], mode="hold", deadline_s=2.0)
    assert (late.judge.calls, late.figures.judged_locally) == ([], 1)


def test_after_a_few_failures_in_a_row_the_rest_is_judged_here() -> None:
    steps = [*told(*(f"No {n}. " for n in range(6)), pause=1.0), (1.0, STOP)]
    seen = run(steps, Judge(errors=[ServerFailure("x")] * 9), mode="flag")
    assert (seen.figures.calls, seen.figures.failures, seen.figures.is_given_up) == (3, 3, True)
    assert seen.figures.judged_locally == 6
    up_and_down = [ServerFailure("x"), ServerFailure("x"), None] * 3
    seen = run(steps, Judge(errors=up_and_down), mode="flag")
    assert (seen.figures.failures, seen.figures.is_given_up, seen.figures.judged_remotely) == (4, False, 2)


def test_an_endpoint_that_asks_for_time_gets_it() -> None:
    steps = [*told(*(f"No {n}. " for n in range(6)), pause=1.0), (1.0, STOP)]
    seen = run(steps, Judge(errors=[RateLimited("x", retry_after_s=2.5)]), mode="hold")
    assert seen.judge.calls == [["No 0."], ["No 3."], ["No 4."], ["No 5."]]
    assert seen.local.asked == ["No 0.", "No 1.", "No 2."]


def test_too_few_judgements_are_none() -> None:
    class Short(Judge):
        async def judge(self, texts: Sequence[str]) -> list[Judgement]:
            return []

    seen = run([*told("One awful. "), (0.0, STOP)], Short(), mode="hold")
    assert seen.others[-1] == Blocked("toxicity")
    assert (seen.figures.failures, seen.figures.judged_locally) == (1, 1)


@pytest.mark.parametrize("mode", MODES)
def test_when_both_judges_fail_nothing_more_is_shown(mode: ToxicityMode) -> None:
    class Broken(Local):
        def score(self, text: str) -> float:
            raise ZeroDivisionError(text)

    seen = run([*told("One. "), (9.0, TextDelta("x")), (0.0, STOP)], Judge(errors=[LOST]), local=Broken(), mode=mode)
    end = seen.events[-1]
    assert isinstance(end[1], Aborted)
    assert isinstance(end[1].error, AnswerBlocked)
    assert "One" not in end[1].error.message
    assert end[0] == 0.0


# -- ends ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_stop_ends_everything_at_once_also_while_judgements_are_awaited(mode: ToxicityMode) -> None:
    steps = [*told("One. ", "Two"), (1.0, STOP)]
    seen = run(steps, Judge(lambda: 4.0), mode=mode, stop_at=2.0)
    at, end = seen.events[-1]
    assert (at, isinstance(end, Aborted) and isinstance(end.error, Cancelled)) == (2.0, True)
    assert seen.text == ("" if mode == "hold" else "One. Two")
    early = run([*told("One. "), (50.0, STOP)], Judge(lambda: 4.0), mode=mode, stop_at=2.0)
    assert early.events[-1][0] == 2.0


@pytest.mark.parametrize("error", [LOST, Cancelled("Ctrl-C")], ids=["lost", "cancelled"])
def test_an_aborted_answer_shows_its_judged_sentences_unless_somebody_stopped_it(error: AppError) -> None:
    seen = run([*told("One. ", "Two. ", "Thr"), (0.0, Aborted(error))], Judge(lambda: 1.0), mode="hold")
    assert seen.text == ("One. Two. " if error is LOST else "")
    assert seen.others == [Aborted(error)]


def test_an_error_of_the_stream_passes_and_leaves_nothing() -> None:
    for mode in MODES:
        stream, judge = Paced([*told("One. "), (1.0, OSError("gone"))]), Judge(lambda: 9.0)

        async def main(stream: Paced = stream, judge: Judge = judge, mode: ToxicityMode = mode) -> None:
            context = RunContext(clock=asyncio.get_running_loop().time, started_s=0.0)
            with pytest.raises(OSError, match="gone"):
                async for _ in moderated(stream, judge, ModerationPolicy(mode), local=Local(), context=context):
                    pass

        virtually(main)
        assert (stream.closed, judge.running) == (1, 0)


def test_a_stream_without_a_terminal_event_gets_one() -> None:
    (end,) = run(told("One. "), mode="flag").others
    assert isinstance(end, Aborted)
    assert isinstance(end.error, InternalError)


@pytest.mark.parametrize("mode", MODES)
def test_a_consumer_that_goes_away_or_is_cancelled_leaves_nothing(mode: ToxicityMode) -> None:
    for how in ("aclose", "cancel"):
        stream = Paced([(0.0, Opened("t", "m", 1)), *told("One. "), (100.0, STOP)])
        judge = Judge(lambda: 50.0)
        figures: list[ModerationStatistics] = []

        async def main(
            stream: Paced = stream, judge: Judge = judge, how: str = how, figures: list[Any] = figures
        ) -> None:
            context = RunContext(clock=asyncio.get_running_loop().time, started_s=0.0)
            stage = moderated(
                stream, judge, ModerationPolicy(mode), local=Local(), context=context, on_statistics=figures.append
            )
            if how == "aclose":
                await anext(stage)
                await stage.aclose()
                return

            async def drain() -> None:
                async for _ in stage:
                    pass

            task = asyncio.create_task(drain())
            await asyncio.sleep(0.5)
            assert judge.running == 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        virtually(main)
        assert (stream.closed, judge.running, len(figures)) == (1, 0, 1)


def test_a_bug_in_the_accounting_is_raised_and_does_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("utils.guardrails.moderation.Moderation.judged", broken)
    with pytest.raises(ZeroDivisionError):
        run([*told("One. "), (60.0, STOP)], mode="hold")


@pytest.mark.parametrize("mode", MODES)
def test_after_the_end_nothing_more_is_taken_in(mode: ToxicityMode) -> None:
    core = Moderation(ModerationPolicy(mode), Local(), name="judge")
    core.take(TextDelta("So bad. Half"), 0.0)
    batch = core.next_batch(0.0)
    if mode == "flag":
        core.stop(Blocked("toxicity"))
    core.judged(batch, [Judgement(0.9, True)], 1.0)
    assert core.end == Blocked("toxicity")
    core.released()
    core.take(TextDelta(" a sentence. And "), 1.0)
    core.take(STOP, 1.0)
    assert (core.released(), core.end, core.wants_more) == ([], Blocked("toxicity"), False)
