"""The recorder: each figure against its definition, on a clock that the test moves."""

from __future__ import annotations

import gc
import json
import sys
import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.errors import Cancelled, ConnectionLost
from utils.events import (
    Aborted,
    Adapted,
    Blocked,
    Event,
    FellBack,
    Finished,
    Flagged,
    Interrupted,
    Opened,
    ReasoningDelta,
    Redacted,
    Resumed,
    Retrying,
    TextDelta,
    TokenLogprob,
    Usage,
    as_json,
)
from utils.metrics import recorder as recorder_module
from utils.metrics.event_log import EVENTS_KEPT_EACH_END
from utils.metrics.recorder import DEFINITIONS, Recorder
from utils.metrics.transcript import CHECK_EVERY_CHUNKS

LOST = ConnectionLost("the connection was lost")
OPENED = Opened("m at u", "m-1", 1)


def recorded(*timeline: tuple[float, Event], started_s: float = 0.0) -> Recorder:
    recorder = Recorder(started_s)
    for now, event in timeline:
        recorder.handle(event, now)
    return recorder


def sure(text: str, *logprobs: float) -> TextDelta:
    return TextDelta(text, tuple(TokenLogprob(text, logprob) for logprob in logprobs))


def keys_of(figures: dict[str, Any], prefix: str = "") -> set[str]:
    keys = set()
    for key, value in figures.items():
        keys.add(prefix + key)
        if isinstance(value, dict) and key != "tokens_by_source":
            keys |= keys_of(value, f"{prefix}{key}.")
    return keys


ANSWER = (
    (10.2, OPENED),
    (10.5, TextDelta("one ")),
    (10.6, TextDelta("two ")),
    (10.9, TextDelta("three ")),
    (11.0, TextDelta("four")),
    (11.1, Usage(7, 6, 13)),
    (11.2, Finished("stop")),
)


def test_the_times_of_a_plain_answer_follow_their_definitions() -> None:
    metrics = recorded(*ANSWER, started_s=10.0).metrics(99.0)
    assert metrics["ttfc_s"] == pytest.approx(0.2)
    assert metrics["ttft_s"] == pytest.approx(0.5)
    assert metrics["ttfr_s"] is None
    assert metrics["e2e_s"] == pytest.approx(1.2)
    assert metrics["tpot_s"] == pytest.approx(0.5 / 5)
    assert metrics["tokens_per_s"] == pytest.approx(5 / 0.5)
    assert metrics["longest_stall_s"] == pytest.approx(0.3)
    assert (metrics["tokens"], metrics["chunks"], metrics["chars"]) == (6, 4, 18)
    assert metrics["tokens_per_chunk"] == 1.5
    latency = metrics["inter_chunk_latency_s"]
    assert latency["n"] == 3
    assert latency["p50"] == pytest.approx(0.1)
    assert latency["p90"] == pytest.approx(0.26)
    assert latency["p99"] is None
    assert latency["max"] == pytest.approx(0.3)
    assert latency["mean"] == pytest.approx(0.5 / 3)
    assert latency["left_out"] == 0


@pytest.mark.parametrize(
    "timeline",
    [
        (),
        ((1.0, Finished("stop")),),
        ((1.0, Aborted(LOST)),),
        ((0.5, OPENED), (1.0, Usage(3, 0, 3)), (1.0, Finished("stop"))),
        ((0.5, OPENED), (1.0, ReasoningDelta("hm")), (1.5, Blocked("r"))),
        ((0.5, OPENED), (1.0, Redacted("r", "", 0)), (1.5, Finished("stop"))),
    ],
)
def test_a_stream_without_text_has_no_figures_of_text(timeline: tuple[tuple[float, Event], ...]) -> None:
    recorder = recorded(*timeline)
    metrics = recorder.metrics(2.0)
    for key in ("ttft_s", "tpot_s", "tokens_per_s", "tokens_per_chunk", "longest_stall_s"):
        assert metrics[key] is None
    latency = metrics["inter_chunk_latency_s"]
    assert latency == {"n": 0, "p50": None, "p90": None, "p99": None, "max": None, "mean": None, "left_out": 0}
    assert recorder.quality()["confidence"] is None
    assert recorder.quality()["repetition"]["detected"] is False
    assert recorder.snapshot(2.0).tokens_per_s_now is None
    assert (recorder.text, recorder.text_shown) == ("", False)
    json.dumps([metrics, recorder.quality(), recorder.events(), recorder.usage()], allow_nan=False)


def test_one_chunk_of_many_tokens_gives_no_rate() -> None:
    metrics = recorded(
        (1.0, TextDelta("a whole answer at once")), (1.0, Usage(3, 5, 8)), (1.1, Finished("stop"))
    ).metrics(2.0)
    assert (metrics["tokens"], metrics["tpot_s"], metrics["tokens_per_s"]) == (5, None, None)


def test_chunks_of_one_read_have_gaps_of_zero_and_count() -> None:
    metrics = recorded((1.0, TextDelta("a")), (1.0, TextDelta("b")), (1.0, TextDelta("c"))).metrics(2.0)
    assert metrics["inter_chunk_latency_s"]["n"] == 2
    assert metrics["inter_chunk_latency_s"]["max"] == 0.0
    assert (metrics["tpot_s"], metrics["tokens_per_s"]) == (0.0, None)


def test_reasoning_is_no_answer_but_counts_where_usage_counts_it() -> None:
    timeline: list[tuple[float, Event]] = [(0.5, OPENED), (1.0, ReasoningDelta("let me think"))]
    timeline += [(3.0, TextDelta("yes")), (4.0, TextDelta(" sir"))]
    recorder = recorded(*timeline)
    metrics = recorder.metrics(5.0)
    assert (metrics["ttfr_s"], metrics["ttft_s"], metrics["tokens_per_s"]) == (1.0, 3.0, 1.0)
    assert recorder.text == "yes sir"
    recorder.handle(Usage(3, 31, 34), 4.0)
    assert recorder.metrics(5.0)["tokens_per_s"] == pytest.approx(30 / 3.0)


def test_reasoning_of_a_failed_attempt_does_not_slow_down_the_next() -> None:
    metrics = recorded(
        (1.0, OPENED),
        (1.0, ReasoningDelta("lost")),
        (5.0, Retrying(2, 0.0, LOST)),
        (6.0, Opened("m at u", "m", 2)),
        (6.0, ReasoningDelta("again")),
        (7.0, TextDelta("yes")),
        (8.0, TextDelta(" sir")),
        (8.0, Usage(3, 21, 24)),
    ).metrics(9.0)
    assert (metrics["ttfr_s"], metrics["tokens_per_s"]) == (1.0, 10.0)


def test_a_character_of_several_tokens_does_not_look_like_hidden_reasoning() -> None:
    recorder = recorded((1.0, sure("\U0001f338", -0.1)), (2.0, sure("\U0001f33c", -0.1)), (2.0, Usage(3, 6, 9)))
    assert recorder.snapshot(3.0).tokens_per_s == 5.0
    recorder.handle(Finished("stop"), 3.0)
    assert recorder.snapshot(3.0).tokens_per_s == 5.0


def test_a_replacement_is_text_but_no_chunk() -> None:
    recorder = recorded(
        (0.5, OPENED),
        (1.0, Redacted("r", "[r]", 0)),
        (2.0, TextDelta("a")),
        (3.0, TextDelta("b")),
        (4.0, Redacted("r", "[r]", 9)),
        (4.0, Usage(3, 7, 10)),
    )
    metrics = recorder.metrics(5.0)
    assert (metrics["ttft_s"], metrics["tokens_per_s"], metrics["chunks"], metrics["redactions"]) == (1.0, 2.0, 2, 2)
    assert recorder.latencies() == (1.0,)


def test_a_mask_that_grows_is_one_finding_and_neighbours_are_two() -> None:
    def count(*events: Event) -> int:
        redactions = recorded(*((float(n), event) for n, event in enumerate(events))).metrics(99.0)["redactions"]
        assert isinstance(redactions, int)
        return redactions

    head, tail = Redacted("m", "**", 3), Redacted("m", "*", 5)
    assert count(head, tail, Redacted("m", "*", 6)) == 1
    assert count(head, Flagged("f", 0, 1), Interrupted(LOST, 5), tail) == 1
    assert count(head, TextDelta("a"), tail) == 2  # a replacement of as many characters as it hides by chance
    assert count(head, Redacted("m", "*", 6)) == 2
    assert count(head, Redacted("n", "*", 5)) == 2
    assert count(Redacted("m", "", 3), Redacted("m", "", 9)) == 2


def test_hidden_reasoning_in_usage_gives_no_rate_instead_of_a_wrong_one() -> None:
    recorder = recorded(
        (9.0, TextDelta("yes")), (9.1, TextDelta(" sir")), (9.2, Usage(3, 800, 803)), (9.2, Finished("stop"))
    )
    metrics = recorder.metrics(10.0)
    assert (metrics["tokens"], metrics["tokens_per_s"], metrics["tpot_s"]) == (800, None, None)
    completeness = recorder.quality()["completeness"]
    assert (completeness["usage_mismatch"], completeness["unaccounted_tokens"]) == (True, 800 - 7 - 2)


def test_every_key_has_a_definition_and_every_definition_a_key() -> None:
    recorder = recorded((1.0, OPENED), (1.0, sure("a", -0.1)), (2.0, sure("b", -0.2)), (3.0, Finished("stop")))
    # What the checks say of the structure is not in the events: the run adds it.
    quality = keys_of(recorder.quality()) | {"completeness.structure"}
    assert keys_of(recorder.metrics(4.0)) | quality == set(DEFINITIONS)
    assert all(text and "\n" not in text for text in DEFINITIONS.values())


def test_recovery_is_counted_with_the_gap_of_each_resume() -> None:
    recorder = recorded(
        (0.1, Retrying(2, 0.0, LOST)),
        (0.2, Opened("m at u", "m", 2)),
        (0.3, TextDelta("a")),
        (0.4, Interrupted(LOST, 1)),
        (0.4, Retrying(3, 0.1, LOST)),
        (0.9, Opened("m at u", "m", 3)),
        (1.0, Resumed("replay", 3, 0.6, 1)),
        (1.0, TextDelta("b")),
        (1.1, Flagged("f", 0, 1)),
        (1.1, FellBack("m at u", "n at v", "slow")),
        (1.2, Adapted("deadline", "1", "2", "slow")),
    )
    metrics = recorder.metrics(2.0)
    counted = ("attempts", "interruptions", "retries", "resumes", "gap_s", "fallbacks", "flags", "adaptations")
    assert [metrics[key] for key in counted] == [3, 1, 2, 1, [0.6], 1, 1, 1]
    assert metrics["ttfc_s"] == pytest.approx(0.2)
    assert metrics["longest_stall_s"] == pytest.approx(0.7)
    assert recorder.opened == Opened("m at u", "m", 3)
    snapshot = recorder.snapshot(2.0)
    assert (snapshot.retries, snapshot.resumes, snapshot.fallbacks, snapshot.flags) == (2, 1, 1, 1)
    assert (snapshot.target, snapshot.model) == ("n at v", None)


@pytest.mark.parametrize(
    ("timeline", "state"),
    [
        ((), "waiting"),
        (((0.0, OPENED),), "waiting"),
        (((0.0, Retrying(2, 0.0, LOST)),), "recovering"),
        (((0.0, Retrying(2, 0.0, LOST)), (0.1, OPENED)), "recovering"),
        (((0.0, TextDelta("a")),), "streaming"),
        (((0.0, Redacted("r", "[r]", 0)),), "streaming"),
        (((0.0, ReasoningDelta("a")),), "streaming"),
        (((0.0, TextDelta("a")), (0.1, Interrupted(LOST, 1))), "recovering"),
        (((0.0, TextDelta("a")), (0.1, Interrupted(LOST, 1)), (0.2, Resumed("replay", 2, 0.1, 1))), "streaming"),
        (((0.0, Finished("stop")),), "finished"),
        (((0.0, Blocked("r")),), "blocked"),
        (((0.0, Aborted(Cancelled("stopped"))),), "aborted"),
        (((0.0, Finished("stop")), (0.1, TextDelta("late"))), "finished"),
    ],
)
def test_the_state_follows_the_newest_event(timeline: tuple[tuple[float, Event], ...], state: str) -> None:
    assert recorded(*timeline).snapshot(1.0).state == state


def test_events_after_the_terminal_event_change_nothing() -> None:
    recorder = recorded(*ANSWER)
    before = (recorder.metrics(20.0), recorder.text, recorder.events(), recorder.terminal)
    for event in (TextDelta("more"), Aborted(LOST), Usage(1, 1, 2), Redacted("r", "[r]", 0)):
        recorder.handle(event, 19.0)
    assert (recorder.metrics(30.0), recorder.text, recorder.events(), recorder.terminal) == before


pieces = st.lists(
    st.one_of(
        st.builds(TextDelta, st.text(min_size=1, max_size=8)),
        st.builds(lambda text: Redacted("r", text, 0), st.text(max_size=4)),
        st.just(Flagged("f", 0, 1)),
        st.builds(ReasoningDelta, st.text(min_size=1, max_size=4)),
    ),
    max_size=180,
)


@given(pieces, st.booleans())
def test_the_text_is_the_concatenation_of_what_was_shown_whoever_looks_when(events: list[Event], look: bool) -> None:
    recorder, unseen, shown = Recorder(0.0), Recorder(0.0), ""
    for number, event in enumerate(events):
        now = number / 10
        recorder.handle(event, now)
        unseen.handle(event, now)
        if isinstance(event, TextDelta):
            shown += event.text
        elif isinstance(event, Redacted):
            shown += event.replacement
        assert recorder.text_shown == bool(shown)
        if look:
            recorder.snapshot(now)
            recorder.quality()
    assert recorder.text == shown
    assert recorder.metrics(99.0)["chars"] == len(shown)
    assert (recorder.metrics(99.0), recorder.quality()) == (unseen.metrics(99.0), unseen.quality())


def test_half_a_surrogate_pair_does_not_stop_the_measuring() -> None:
    recorder = recorded(
        (1.0, TextDelta("a\ud83d")), (2.0, TextDelta("b")), (2.0, Usage(1, 2, 3)), (2.0, Finished("stop"))
    )
    assert recorder.metrics(3.0)["tokens_per_s"] == 1.0


def test_events_are_kept_as_json_without_text_and_reasoning() -> None:
    recorder = recorded(*ANSWER[:3], (10.7, ReasoningDelta("x")), *ANSWER[3:], started_s=10.0)
    assert recorder.events() == tuple(
        as_json(event, now - 10.0) for now, event in ANSWER if not isinstance(event, TextDelta)
    )


def test_of_very_many_events_the_first_and_the_newest_are_kept_and_the_rest_counted() -> None:
    count = 3 * EVENTS_KEPT_EACH_END
    flags = [(float(i), Flagged("f", i, i + 1)) for i in range(count)]
    recorder = recorded(*flags, (5000.0, Finished("stop")))
    rows = recorder.events()
    starts = [row["raw_start"] for row in rows[:-1]]
    assert starts == [*range(EVENTS_KEPT_EACH_END), *range(count + 1 - EVENTS_KEPT_EACH_END, count)]
    assert rows[-1]["type"] == "finished"
    assert len(rows) + recorder.metrics(1.0)["events_left_out"] == count + 1


def test_just_full_is_not_left_out() -> None:
    flags = [(0.0, Flagged("f", i, i + 1)) for i in range(2 * EVENTS_KEPT_EACH_END)]
    recorder = recorded(*flags)
    assert (len(recorder.events()), recorder.metrics(1.0)["events_left_out"]) == (len(flags), 0)


def test_kept_events_do_not_keep_an_exception_alive() -> None:
    error = ConnectionLost("lost")
    watched = weakref.ref(error)
    recorder = recorded((0.0, Interrupted(error, 0)), (0.1, Retrying(2, 0.0, error)))
    del error
    gc.collect()
    assert watched() is None
    assert [row["cause"]["code"] for row in recorder.events()] == ["connection_lost"] * 2


def test_beyond_the_cap_percentiles_keep_their_base_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "MAX_SAMPLES", 4)
    times = [0.0, 1.0, 2.0, 3.0, 4.0, 14.0, 24.0]
    recorder = recorded(*((now, TextDelta("x")) for now in times))
    latency = recorder.metrics(30.0)["inter_chunk_latency_s"]
    assert recorder.latencies() == (1.0, 1.0, 1.0, 1.0)
    assert (latency["n"], latency["left_out"], latency["p90"]) == (4, 2, 1.0)
    assert (latency["max"], latency["mean"]) == (10.0, 4.0)


def test_what_a_long_stream_keeps_besides_its_text_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "MAX_SAMPLES", 100)

    def kept(chunks: int) -> int:
        recorder = Recorder(0.0)
        for i in range(chunks):
            recorder.handle(sure("word ", -0.1), i / 100)
            recorder.handle(Flagged("f", i, i + 1), i / 100)
        seen: set[int] = set()

        def size(thing: object) -> int:
            if id(thing) in seen or isinstance(thing, type | str):
                return 0
            seen.add(id(thing))
            parts: list[object] = list(vars(thing).values()) if hasattr(thing, "__dict__") else []
            if isinstance(thing, dict):
                parts += thing.values()
            elif isinstance(thing, list | tuple) or type(thing).__name__ == "deque":
                parts += thing  # type: ignore[arg-type]
            return sys.getsizeof(thing) + sum(map(size, parts))

        return size(recorder)

    text_blocks = 8 * 3_000 // CHECK_EVERY_CHUNKS * 2
    assert kept(6_000) - kept(3_000) < text_blocks + 2_000


class TestSnapshot:
    def test_before_anything_happened_it_knows_nothing_but_the_time(self) -> None:
        snapshot = Recorder(5.0).snapshot(6.5)
        assert snapshot.elapsed_s == 1.5
        assert (snapshot.state, snapshot.tokens, snapshot.latencies_s, snapshot.confidence) == ("waiting", 0, (), ())
        assert (snapshot.ttfc_s, snapshot.ttft_s, snapshot.tokens_per_s, snapshot.longest_stall_s) == (None,) * 4

    def test_it_agrees_with_the_metrics(self) -> None:
        recorder = recorded(*ANSWER, started_s=10.0)
        snapshot, metrics = recorder.snapshot(50.0), recorder.metrics(50.0)
        for key in ("ttfc_s", "ttft_s", "chunks", "chars", "tokens", "token_source", "tokens_per_s", "longest_stall_s"):
            assert getattr(snapshot, key) == metrics[key]
        assert snapshot.elapsed_s == metrics["e2e_s"]
        assert (snapshot.target, snapshot.model) == ("m at u", "m-1")
        assert snapshot.latencies_s == recorder.latencies()

    def test_the_present_rate_forgets_what_is_older_than_two_seconds(self) -> None:
        recorder = recorded(*((i / 10, TextDelta("x")) for i in range(51)))
        assert recorder.snapshot(5.0).tokens_per_s_now == pytest.approx(10.0)
        assert recorder.snapshot(6.0).tokens_per_s_now == pytest.approx(5.0, abs=0.51)
        assert recorder.snapshot(7.5).tokens_per_s_now == 0.0
        assert recorder.snapshot(7.5).tokens_per_s == pytest.approx(10.0)

    def test_the_present_rate_of_a_young_answer_is_taken_over_its_age(self) -> None:
        recorder = recorded((3.0, TextDelta("a")), (3.1, sure("b", -1.0, -1.0, -1.0)))
        assert recorder.snapshot(3.2).tokens_per_s_now == pytest.approx(3 / 0.2)

    def test_the_present_rate_of_a_flood_is_taken_over_what_is_remembered(self) -> None:
        recorder = recorded(*((i / 10_000, TextDelta("x")) for i in range(10_001)))
        assert recorder.snapshot(1.0).tokens_per_s_now == pytest.approx(10_000, rel=0.01)

    def test_it_stands_still_after_the_end(self) -> None:
        recorder = recorded(*ANSWER, started_s=10.0)
        assert recorder.snapshot(12.0) == recorder.snapshot(9_999.0)

    def test_it_carries_the_newest_64_latencies_and_probabilities(self) -> None:
        recorder = recorded(*((float(i * i), sure("x", -i / 100)) for i in range(100)))
        snapshot = recorder.snapshot(10_000.0)
        assert snapshot.latencies_s == recorder.latencies()[-64:]
        assert len(snapshot.confidence) == 64
        assert snapshot.confidence[-1] == pytest.approx(2.718281828 ** (-0.99))
        assert list(snapshot.confidence) == sorted(snapshot.confidence, reverse=True)

    def test_a_chunk_of_more_than_64_tokens_is_cut_to_the_newest(self) -> None:
        recorder = recorded((0.0, sure("x", *(-i / 100 for i in range(100)))))
        assert len(recorder.snapshot(1.0).confidence) == 64
        assert recorder.snapshot(1.0).confidence[-1] == pytest.approx(2.718281828 ** (-0.99))


class TestQuality:
    @pytest.mark.parametrize(
        ("timeline", "finish_reason", "is_complete"),
        [
            (((0.0, TextDelta("a")),), None, False),
            (((0.0, TextDelta("a")), (1.0, Finished("stop"))), "stop", True),
            (((0.0, TextDelta("a")), (1.0, Finished("length"))), "length", False),
            (((0.0, TextDelta("a")), (1.0, Finished("content_filter"))), "content_filter", False),
            (((0.0, TextDelta("```\na")), (1.0, Finished("stop"))), "stop", False),
            (((0.0, TextDelta("a")), (1.0, Blocked("r"))), None, False),
            (((0.0, TextDelta("a")), (1.0, Aborted(LOST))), None, False),
        ],
    )
    def test_completeness_needs_a_natural_end(
        self, timeline: tuple[tuple[float, Event], ...], finish_reason: str | None, is_complete: bool
    ) -> None:
        completeness = recorded(*timeline).quality()["completeness"]
        assert (completeness["finish_reason"], completeness["is_complete"]) == (finish_reason, is_complete)

    @pytest.mark.parametrize(
        ("shown", "completion_tokens", "unaccounted"),
        [
            ([sure("hi", -0.1), sure(" you", -0.1)], 2, 0),
            ([sure("hi", -0.1), sure(" you", -0.1)], 4, 0),  # tokens that end the turn have no text
            ([sure("hi", -0.1), sure(" you", -0.1)], 5, 1),
            ([sure("hi", -0.1), sure(" you", -0.1)], 1, -1),
            ([sure("\U0001f338", -0.1)], 4 + 2, 0),  # an emoji of several tokens has one logprobs entry
            ([sure("\U0001f338", -0.1)], 4 + 3, 1),
            ([TextDelta("hi"), TextDelta(" you")], 8, 0),
            ([TextDelta("hi"), TextDelta(" you")], 9, 1),
            ([TextDelta("hi"), sure(" you", -0.1)], 8, 0),
            ([TextDelta("hi"), Redacted("r", "[r]", 2)], 99, None),
            ([ReasoningDelta("hm"), TextDelta("hi")], 99, None),
            ([], 2, 0),
        ],
    )
    def test_usage_must_be_possible_for_the_text_shown(
        self, shown: list[Event], completion_tokens: int, unaccounted: int | None
    ) -> None:
        timeline = [(0.0, event) for event in shown]
        recorder = recorded(*timeline, (1.0, Usage(5, completion_tokens, 9)), (1.0, Finished("stop")))
        completeness = recorder.quality()["completeness"]
        assert completeness["unaccounted_tokens"] == unaccounted
        assert completeness["usage_mismatch"] == (None if unaccounted is None else unaccounted != 0)

    def test_usage_of_joined_attempts_is_not_compared_with_the_text(self) -> None:
        recorder = recorded(
            (0.0, TextDelta("a")),
            (0.0, Usage(5, 99, 104)),
            (0.0, Interrupted(LOST, 1)),
            (0.0, Resumed("prefill", 2, 0.1, 0)),
            (0.0, TextDelta("b")),
            (0.0, Usage(6, 99, 105)),
            (0.0, Finished("stop")),
        )
        assert recorder.metrics(1.0)["tokens"] == 198
        assert recorder.quality()["completeness"]["usage_mismatch"] is None

    def test_a_loop_is_seen_while_the_text_flows(self) -> None:
        recorder = Recorder(0.0)
        for _ in range(CHECK_EVERY_CHUNKS):
            recorder.handle(TextDelta("and so on "), 1.0)
        assert recorder.repetition is not None
        assert recorder.repetition.period_chars == len("and so on ")
        assert recorder.quality()["repetition"] == {
            "detected": True,
            "at_end": True,
            "first_seen_at_char": 500,
            "period_chars": 10,
            "covered_chars": 500,
            "repeats": 50.0,
        }

    def test_a_loop_that_the_answer_left_again_stays_known(self) -> None:
        recorder = Recorder(0.0)
        for i in range(3 * CHECK_EVERY_CHUNKS):
            recorder.handle(TextDelta("loop " if i < CHECK_EVERY_CHUNKS else f"word{i} "), 1.0)
        repetition = recorder.quality()["repetition"]
        assert recorder.repetition is None
        assert (repetition["detected"], repetition["at_end"], repetition["first_seen_at_char"]) == (True, False, 250)

    def test_a_short_loop_at_the_end_needs_no_fiftieth_chunk(self) -> None:
        recorder = recorded((0.0, TextDelta("Sure. ")), (0.1, TextDelta("I can. " * 10)))
        assert recorder.repetition is None
        assert recorder.quality()["repetition"]["at_end"] is True
        assert recorder.quality()["repetition"]["first_seen_at_char"] == 76
        recorder.handle(Finished("stop"), 0.2)
        assert recorder.repetition is not None
        assert recorder.quality()["repetition"]["first_seen_at_char"] == 76

    def test_replacements_are_text_too(self) -> None:
        recorder = recorded(*((0.0, Redacted("r", "[removed] ", 0)) for _ in range(CHECK_EVERY_CHUNKS)))
        assert recorder.repetition is not None

    def test_the_lowest_window_points_into_the_text_shown(self) -> None:
        timeline: list[tuple[float, Event]] = [(0.0, Redacted("r", "[email]", 0))]
        timeline += [(i / 10, sure("word ", -0.01 if i < 40 else -4.0)) for i in range(72)]
        recorder = recorded(*timeline)
        window = recorder.quality()["confidence"]["lowest_window"]
        assert recorder.text[window["start_char"] : window["end_char"]] == "word " * 32
        assert window["start_char"] == len("[email]") + 40 * 5
