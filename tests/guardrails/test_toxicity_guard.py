"""The window policy: which windows a text has, what is shown before and after one is judged, and how it ends."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from utils.events import Aborted, Blocked, Event, Finished, Flagged, Redacted, TextDelta
from utils.guardrails.redactor import Guard, GuardEvent, GuardStateError, GuardStatistics
from utils.guardrails.stage import guarded
from utils.guardrails.toxicity import LexicalToxicity, ToxicityGuard, ToxicityMode
from utils.guardrails.toxicity_screen import ScreenedGuard
from utils.guardrails.toxicity_windows import WINDOW_CHARS_MAX, SentenceWindows, Window

MODES: tuple[ToxicityMode, ...] = ("flag", "stop", "hold")
MODEL = LexicalToxicity()


class BadWord:
    """Scores 0.9 for a window that holds the word `bad`, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def score(self, text: str) -> float:
        self.asked.append(text)
        return 0.9 if re.search(r"\bbad\b", text) else 0.1


class Fixed:
    def __init__(self, score: float) -> None:
        self._score = score

    def score(self, text: str) -> float:
        return self._score


class Broken:
    def score(self, text: str) -> float:
        raise RuntimeError("no model")


def cut(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted({place % (len(text) + 1) for place in places}), len(text)]
    return [text[a:b] for a, b in zip(edges, edges[1:], strict=False)]


def windows_of(pieces: list[str]) -> list[Window]:
    windows = SentenceWindows()
    return [window for piece in pieces for window in windows.feed(piece)] + windows.finish()


def run(guard: Guard, pieces: list[str]) -> list[GuardEvent]:
    events: list[GuardEvent] = []
    for piece in pieces:
        events += guard.feed(piece)
        if events and isinstance(events[-1], Blocked):
            return events
    return events + guard.finish()


def shown(events: list[GuardEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def decisions(events: list[GuardEvent]) -> list[GuardEvent]:
    return [event for event in events if not isinstance(event, TextDelta)]


SOUP = st.lists(
    st.one_of(
        st.sampled_from(
            ["bad", " bad ", "good ", ". ", ".", "! ", "?", "\n", "\r\n", '."', ') ', "…", "。", " ", "  ", "'", "3.14",
             "é", "\u2028", "x" * 150, "bad" * 70, ", " * 40, "_ *"]
        ),
        st.text(max_size=6),
    ),
    max_size=40,
).map("".join)  # fmt: skip
PLACES = st.lists(st.integers(min_value=0, max_value=10_000), max_size=12)


def windows_by_brute_force(text: str) -> list[tuple[int, int]]:
    """The windows by their definition: character by character, every rule tried at every place."""
    spans, start, seen = [], 0, 0
    while seen < len(text):
        seen += 1
        body = text[start:seen]
        last = body[-1]
        if last in "\n\r\u2028\u2029\u3002\uff01\uff1f" or (
            last.isspace()
            and any(
                body[-2 - closers : -1 - closers] in tuple(".!?…")
                and all(c in "\"'”’»)]*_" for c in body[len(body) - 1 - closers : -1])  # noqa: RUF001
                for closers in range(4)
            )
        ):
            spans.append((start, seen))
        elif len(body) == WINDOW_CHARS_MAX:
            breaks = [n for n, c in enumerate(body) if not re.match(r"\w", c)]
            spans.append((start, start + breaks[-1] + 1 if breaks else seen))
        else:
            continue
        start = spans[-1][1]
    return [*spans, (start, len(text))] if start < len(text) else spans


class TestWindows:
    @pytest.mark.parametrize(
        ("text", "windows"),
        [
            ("", []),
            ("One. Two! Three? Four", ["One. ", "Two! ", "Three? ", "Four"]),
            ("Pi is 3.14 and a.b is a name.", ["Pi is 3.14 and a.b is a name."]),
            ("Really?! Yes... no", ["Really?! ", "Yes... ", "no"]),
            ('He said "no." Then (he left.) End', ['He said "no." ', "Then (he left.) ", "End"]),
            ("**Bold.** Next", ["**Bold.** ", "Next"]),
            ("three.))) closers", ["three.))) ", "closers"]),
            ("four.)))) closers", ["four.)))) closers"]),
            ("line\nline\r\nline", ["line\n", "line\r", "\n", "line"]),
            ("こんにちは。元気?", ["こんにちは。", "元気?"]),
            ("two.  spaces", ["two. ", " spaces"]),
            ("...\n", ["...\n"]),
        ],
    )
    def test_a_window_ends_where_a_sentence_ends(self, text: str, windows: list[str]) -> None:
        assert [window.text for window in windows_of([text])] == windows
        assert [window.text for window in windows_of(list(text))] == windows

    @given(SOUP, PLACES)
    @example("a" * 999 + " bad", [])
    @example("," + "w" * 999 + "," + "w" * 2000, [3, 1000])
    def test_windows_are_those_of_the_definition_for_any_cutting(self, text: str, places: list[int]) -> None:
        expected = windows_by_brute_force(text)
        for pieces in ([text], list(text), cut(text, places)):
            found = windows_of(pieces)
            assert [(window.start, window.end) for window in found] == expected
            assert "".join(window.text for window in found) == text
            assert all(window.end <= window.decided_at < window.end + WINDOW_CHARS_MAX for window in found)

    def test_a_window_without_an_end_is_cut_between_words(self) -> None:
        text = "word " * 1000
        found = windows_of([text])
        assert {window.text.strip()[:4] for window in found} == {"word"}
        assert max(len(window.text) for window in found) <= WINDOW_CHARS_MAX
        assert [window.is_cut for window in found[:-1]] == [True] * (len(found) - 1)

    def test_nothing_is_fed_after_the_end(self) -> None:
        windows = SentenceWindows()
        assert windows.finish() == []
        with pytest.raises(GuardStateError):
            windows.feed("x")
        with pytest.raises(GuardStateError):
            windows.finish()


class TestModes:
    TEXT = "Good one.  A bad one. Never seen."

    def test_flag_shows_everything_at_once_and_names_the_place(self) -> None:
        guard = ToxicityGuard(BadWord(), "flag", 0.5)
        assert guard.feed("Good one.  A ba") == [TextDelta("Good one.  A ba")]
        assert guard.feed("d one. Never") == [TextDelta("d one. Never"), Flagged("toxicity", 11, 21)]
        assert self.TEXT[11:21] == "A bad one."
        assert guard.held_chars == 0
        assert guard.finish() == []

    def test_stop_shows_the_toxic_sentence_and_nothing_behind_it(self) -> None:
        guard = ToxicityGuard(BadWord(), "stop", 0.5)
        assert guard.feed("Good one.  A bad one.") == [TextDelta("Good one.  A bad one.")]
        assert guard.feed(" Never seen.") == [TextDelta(" "), Blocked("toxicity")]

    def test_hold_shows_a_sentence_when_it_was_judged_and_nothing_of_a_toxic_one(self) -> None:
        guard = ToxicityGuard(BadWord(), "hold", 0.5)
        assert guard.feed("Good one.") == []
        assert guard.held_chars == 9
        assert guard.feed("  A bad one.") == [TextDelta("Good one. ")]
        assert guard.feed(" Never") == [Blocked("toxicity")]
        assert guard.held_chars == 0
        assert guard.statistics().dropped_chars == len(" A bad one. Never")

    @pytest.mark.parametrize(("mode", "end"), [("flag", Flagged("toxicity", 0, 3)), ("stop", Blocked("toxicity")),
                                               ("hold", Blocked("toxicity"))])  # fmt: skip
    def test_the_last_sentence_is_judged_at_the_end(self, mode: ToxicityMode, end: GuardEvent) -> None:
        events = run(ToxicityGuard(BadWord(), mode, 0.5), ["ba", "d"])
        assert decisions(events) == [end]
        assert shown(events) == ("" if mode == "hold" else "bad")

    @pytest.mark.parametrize("mode", MODES)
    def test_text_without_findings_comes_through_unchanged(self, mode: ToxicityMode) -> None:
        text = "All  is well.\r\n\n  Yes? 3.14\tends."
        assert shown(run(ToxicityGuard(BadWord(), mode, 0.5), list(text))) == text

    @given(SOUP, PLACES, st.sampled_from(MODES))
    @example("x " * 495 + "bad bad bad bad. good", [7], "stop")
    def test_decisions_and_shown_text_do_not_depend_on_the_cutting(
        self, text: str, places: list[int], mode: ToxicityMode
    ) -> None:
        runs = [run(ToxicityGuard(BadWord(), mode, 0.5), pieces) for pieces in ([text], list(text), cut(text, places))]
        assert decisions(runs[1]) == decisions(runs[0])
        assert decisions(runs[2]) == decisions(runs[0])
        assert shown(runs[1]) == shown(runs[0])
        assert shown(runs[2]) == shown(runs[0])

    @given(SOUP, PLACES)
    def test_held_text_is_shown_up_to_the_first_toxic_window(self, text: str, places: list[int]) -> None:
        toxic = [window.start for window in windows_of([text]) if BadWord().score(window.text) > 0.5]
        guard = ToxicityGuard(BadWord(), "hold", 0.5)
        events: list[GuardEvent] = []
        for piece in cut(text, places):
            events += guard.feed(piece)
            if Blocked("toxicity") in events:
                break
            assert guard.held_chars < WINDOW_CHARS_MAX
            assert guard.statistics().seen_chars == len(shown(events)) + guard.held_chars
        else:
            events += guard.finish()
        assert shown(events) == text[: toxic[0] if toxic else len(text)]
        assert decisions(events) == ([Blocked("toxicity")] if toxic else [])

    @given(SOUP, PLACES)
    def test_flags_are_the_toxic_windows(self, text: str, places: list[int]) -> None:
        events = run(ToxicityGuard(BadWord(), "flag", 0.5), cut(text, places))
        assert shown(events) == text
        found = [text[event.raw_start : event.raw_end] for event in events if isinstance(event, Flagged)]
        assert found == [w.text.strip() for w in windows_of([text]) if BadWord().score(w.text) > 0.5]


class TestBoundsAndEnds:
    @pytest.mark.parametrize("text", ["x" * 100_000, "x " * 50_000, "." * 100_000, ". " * 50_000, "\n" * 100_000])
    def test_held_text_is_bounded_whatever_comes(self, text: str) -> None:
        guard = ToxicityGuard(Fixed(0.0), "hold")
        released = 0
        for start in range(0, len(text), 997):
            released += len(shown(guard.feed(text[start : start + 997])))
            assert guard.held_chars < WINDOW_CHARS_MAX
        assert released + guard.held_chars == len(text)
        assert guard.statistics().held_max_chars < WINDOW_CHARS_MAX

    def test_a_sentence_that_never_ends_is_judged_in_parts_and_none_is_shown_unjudged(self) -> None:
        judge = BadWord()
        guard = ToxicityGuard(judge, "hold", 0.5)
        events = run(guard, ["calm " * 300 + "bad " + "calm " * 300])
        assert shown(events) == "calm " * 200
        assert events[-1] == Blocked("toxicity")
        assert [len(text) for text in judge.asked] == [999, 998]
        assert guard.statistics().overflows == 2

    @pytest.mark.parametrize("mode", MODES)
    def test_a_classifier_that_raises_ends_the_guard_with_nothing_more_shown(self, mode: ToxicityMode) -> None:
        guard = ToxicityGuard(Broken(), mode)
        with pytest.raises(RuntimeError):
            guard.feed("One. Two")
        assert guard.held_chars == 0
        with pytest.raises(GuardStateError):
            guard.feed("more")
        guard = ToxicityGuard(Broken(), mode)
        guard.feed("One")
        with pytest.raises(RuntimeError):
            guard.finish()
        assert guard.cancel() == 0

    def test_a_score_that_is_no_number_blocks(self) -> None:
        guard = ToxicityGuard(Fixed(float("nan")), "hold")
        assert run(guard, ["text"]) == [Blocked("toxicity")]
        assert guard.toxicity_statistics().highest_score == 1.0

    def test_a_score_at_the_threshold_is_toxic(self) -> None:
        assert run(ToxicityGuard(Fixed(0.5), "hold", 0.5), ["text"]) == [Blocked("toxicity")]
        assert run(ToxicityGuard(Fixed(0.499), "hold", 0.5), ["text"]) == [TextDelta("text")]

    def test_white_space_is_not_judged(self) -> None:
        judge = BadWord()
        assert shown(run(ToxicityGuard(judge, "hold"), [" \n\n \r\n", "\t"])) == " \n\n \r\n\t"
        assert judge.asked == []

    def test_cancel_drops_what_is_held_and_judges_nothing(self) -> None:
        judge = BadWord()
        guard = ToxicityGuard(judge, "hold")
        guard.feed("not whole")
        assert guard.cancel() == 9
        assert guard.cancel() == 0
        assert judge.asked == []
        assert guard.statistics().dropped_chars == 9
        for call in (lambda: guard.feed("x"), guard.finish):
            with pytest.raises(GuardStateError):
                call()

    @pytest.mark.parametrize("mode", ["stop", "hold"])
    def test_a_blocked_guard_has_ended(self, mode: ToxicityMode) -> None:
        guard = ToxicityGuard(BadWord(), mode, 0.5)
        assert guard.feed("bad\n")[-1] == Blocked("toxicity")
        with pytest.raises(GuardStateError):
            guard.feed("x")
        with pytest.raises(GuardStateError):
            guard.finish()

    def test_figures_count_windows_and_keep_no_text(self) -> None:
        guard = ToxicityGuard(BadWord(), "flag", 0.5)
        run(guard, ["ok. bad! ", "\nbad"])
        figures = guard.toxicity_statistics()
        assert (figures.mode, figures.threshold, figures.windows, figures.toxic) == ("flag", 0.5, 3, 2)
        assert figures.highest_score == 0.9
        statistics = guard.statistics()
        assert statistics.rules == ("toxicity",)
        assert [(f.rule, f.count, f.ranges) for f in statistics.findings] == [("toxicity", 2, ((4, 8), (10, 13)))]
        assert statistics.seen_chars == 13
        assert "bad" not in repr(statistics) + repr(figures)

    @pytest.mark.parametrize("threshold", [0.0, -1.0, 1.01, float("nan")])
    def test_a_threshold_outside_of_the_scores_is_refused(self, threshold: float) -> None:
        with pytest.raises(ValueError, match="threshold"):
            ToxicityGuard(BadWord(), "flag", threshold)

    def test_an_unknown_mode_is_refused(self) -> None:
        with pytest.raises(ValueError, match="'off'"):
            ToxicityGuard(BadWord(), "off")  # type: ignore[arg-type]

    def test_the_lexical_model_finds_an_insult_in_a_streamed_answer(self) -> None:
        text = "Here is the result you asked for. You are a stupid idiot. Have a nice day."
        events = run(ToxicityGuard(MODEL), list(text))
        assert [text[e.raw_start : e.raw_end] for e in events if isinstance(e, Flagged)] == ["You are a stupid idiot."]


class Stars:
    """A guard that holds the newest character, hides every `#` and blocks at a `§`."""

    def __init__(self) -> None:
        self._held = ""
        self._raw = 0
        self._is_ended = False
        self.fed = ""

    def feed(self, text: str) -> list[GuardEvent]:
        assert not self._is_ended
        self.fed += text
        text = self._held + text
        self._held = text[-1:]
        return self._events(text[:-1])

    def finish(self, *, is_cut: bool = False) -> list[GuardEvent]:
        assert not self._is_ended
        self._is_ended = True
        text, self._held = self._held, ""
        return self._events(text)

    def cancel(self) -> int:
        self._is_ended = True
        dropped, self._held = len(self._held), ""
        return dropped

    @property
    def held_chars(self) -> int:
        return len(self._held)

    def statistics(self) -> GuardStatistics:
        return GuardStatistics(("stars",), (), len(self.fed), 1, 0.5, 0, 0)

    def _events(self, text: str) -> list[GuardEvent]:
        events: list[GuardEvent] = []
        for character in text:
            if character == "#":
                events.append(Redacted("stars", "*", self._raw))
            elif character == "§":
                return [*events, Blocked("stars")]
            else:
                events.append(TextDelta(character))
            self._raw += 1
        return events


class TestInFrontOfAnotherGuard:
    def test_replacements_keep_their_place_and_offsets_among_held_sentences(self) -> None:
        events = run(ScreenedGuard(ToxicityGuard(BadWord(), "hold", 0.5), Stars()), list("a#b. c#d"))
        text = "".join(e.text if isinstance(e, TextDelta) else "*" for e in events)
        assert text == "a*b. c*d"
        assert [e.raw_start for e in events if isinstance(e, Redacted)] == [1, 6]

    @given(SOUP, PLACES, st.sampled_from(MODES))
    def test_what_both_show_does_not_depend_on_the_cutting(
        self, text: str, places: list[int], mode: ToxicityMode
    ) -> None:
        text = text.replace("x", "#").replace("é", "§")
        runs = [
            run(ScreenedGuard(ToxicityGuard(BadWord(), mode, 0.5), Stars()), pieces)
            for pieces in ([text], cut(text, places))
        ]
        ends = [[event for event in events if isinstance(event, Redacted | Blocked)] for events in runs]
        assert shown(runs[0]) == shown(runs[1])
        assert ends[0] == ends[1]

    def test_a_block_of_the_screen_drops_what_the_other_holds(self) -> None:
        other = Stars()
        guard = ScreenedGuard(ToxicityGuard(BadWord(), "hold", 0.5), other)
        assert run(guard, ["Fine. ", "bad\n"])[-1] == Blocked("toxicity")
        assert other.fed == "Fine. "
        assert guard.held_chars == 0
        with pytest.raises(GuardStateError):
            guard.finish()

    def test_a_block_at_the_end_of_the_text_is_the_last_event(self) -> None:
        events = run(ScreenedGuard(ToxicityGuard(BadWord(), "hold", 0.5), Stars()), ["Fine. ", "bad"])
        assert (shown(events), decisions(events)) == ("Fine.", [Blocked("toxicity")])

    def test_a_block_of_the_other_ends_the_screen(self) -> None:
        screen = ToxicityGuard(BadWord(), "hold", 0.5)
        guard = ScreenedGuard(screen, Stars())
        assert run(guard, ["a§b. held"])[-1] == Blocked("stars")
        assert screen.held_chars == guard.held_chars == 0
        with pytest.raises(GuardStateError):
            guard.feed("x")

    def test_a_part_that_raises_ends_both(self) -> None:
        other = Stars()
        guard = ScreenedGuard(ToxicityGuard(Broken(), "flag"), other)
        guard.feed("abc")
        with pytest.raises(RuntimeError):
            guard.feed(". d")
        assert other.held_chars == 0
        with pytest.raises(GuardStateError):
            guard.feed("x")

    def test_figures_are_those_of_both(self) -> None:
        guard = ScreenedGuard(ToxicityGuard(BadWord(), "hold", 0.5), Stars())
        guard.feed("Fine. 12")
        assert guard.held_chars == 3
        assert guard.statistics().rules == ("toxicity", "stars")
        assert (guard.statistics().seen_chars, guard.statistics().held_max_chars) == (8, 3)
        assert guard.cancel() == 3


async def stream(*events: Event) -> AsyncIterator[Event]:
    for event in events:
        yield event


def through_stage(make: Callable[[], Guard], *events: Event) -> list[Event]:
    async def collect() -> list[Event]:
        return [event async for event in guarded(stream(*events), make)]  # type: ignore[arg-type]

    return asyncio.run(collect())


class TestAsAStage:
    @pytest.mark.parametrize(
        "make",
        [
            lambda: ToxicityGuard(BadWord(), "hold", 0.5),
            lambda: ScreenedGuard(ToxicityGuard(BadWord(), "hold", 0.5), Stars()),
        ],
        ids=["alone", "in front of another guard"],
    )
    def test_nothing_of_a_toxic_sentence_is_in_the_stream(self, make: Callable[[], Guard]) -> None:
        events = through_stage(make, TextDelta("Fine. A ba"), TextDelta("d one. "), TextDelta("no"), Finished("stop"))
        assert events[-1] == Blocked("toxicity")
        assert "".join(e.text for e in events if isinstance(e, TextDelta)) in ("Fine. ", "Fine.")

    def test_a_broken_classifier_shows_nothing_more_and_does_not_quote(self) -> None:
        events = through_stage(lambda: ToxicityGuard(Broken(), "hold"), TextDelta("secret text. "), Finished("stop"))
        (end,) = events
        assert isinstance(end, Aborted)
        assert "secret" not in end.error.message
