"""The laws of the guard on texts made of pieces of secrets: what is shown depends on the text alone and never leaks."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.guardrails.guard_oracle import (
    FRAGMENTS,
    RULES,
    covered,
    expected,
    held,
    luhn,
    rules,
    shown,
    stream,
    subset,
)
from utils.events import Redacted, TextDelta
from utils.guardrails.redactor import Redactor

ALL = rules()

texts = st.lists(st.sampled_from(FRAGMENTS), max_size=9).map("".join).filter(lambda text: len(text) <= 110)
rule_sets = st.sets(st.sampled_from(RULES))


@st.composite
def cut_texts(draw: st.DrawFn) -> list[str]:
    text = draw(texts)
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=12)))
    return [text[i:j] for i, j in pairwise([0, *cuts, len(text)])]


def characters(text: str) -> list[str]:
    return list(text)


@settings(max_examples=250, deadline=None)
@given(cut_texts())
@example(["x@y.co", "m and ", "4111 1111 1111 1", "111"])
@example(["4111111111111111", "@example.co", "m"])
@example(["eyJAb1Cd2Ef3G.eyJAb1Cd2Ef3G.eyJ", "Ab1Cd2Ef3G.sig.", "more"])
@example(["AKIA0123456789ABCDEF_", "sk-abcdefghij0123456789"])
def test_what_is_shown_is_the_text_with_the_union_of_all_matches_replaced(pieces: list[str]) -> None:
    text = "".join(pieces)
    assert stream(ALL, pieces) == expected(text)


@settings(max_examples=100, deadline=None)
@given(texts)
def test_every_cut_into_two_and_into_characters_shows_the_same(text: str) -> None:
    whole = stream(ALL, [text])
    assert stream(ALL, characters(text)) == whole
    assert all(stream(ALL, [text[:cut], text[cut:]]) == whole for cut in range(1, len(text)))


@settings(max_examples=100, deadline=None)
@given(texts)
def test_no_covered_character_is_released_at_any_time(text: str) -> None:
    redactor = Redactor(ALL)
    hidden = covered(text)
    position = 0  # of the next raw character that is not decided
    for count, character in enumerate(text, start=1):
        for event in redactor.feed(character):
            if isinstance(event, TextDelta):
                # skip what was swallowed since the last event: all of it must be covered
                while text[position : position + len(event.text)] != event.text or position in hidden:
                    assert position in hidden
                    position += 1
                released = range(position, position + len(event.text))
                assert not hidden.intersection(released)
                position = released.stop
        assert count - redactor.held_chars >= position


@settings(max_examples=120, deadline=None)
@given(texts, rule_sets, rule_sets)
def test_adding_a_rule_never_shows_more(text: str, few: set[str], added: set[str]) -> None:
    def hidden(ids: set[str]) -> set[int]:
        redactor = Redactor(subset(ALL, ids))
        events = [*redactor.feed(text), *redactor.finish()]
        ranges = [r for finding in redactor.statistics().findings for r in finding.ranges]
        gone = {position for start, end in ranges for position in range(start, end)}
        visible = "".join(c for n, c in enumerate(text) if n not in gone)
        assert visible == "".join(event.text for event in events if isinstance(event, TextDelta))
        return gone

    assert hidden(few) <= hidden(few | added)


@settings(max_examples=100, deadline=None)
@given(texts, rule_sets)
def test_each_subset_of_the_rules_agrees_with_its_definition(text: str, ids: set[str]) -> None:
    wanted = [rule for rule in RULES if rule in ids]
    assert stream(subset(ALL, ids), [text]) == expected(text, wanted)


@settings(max_examples=100, deadline=None)
@given(texts)
def test_the_search_in_a_finished_text_finds_what_the_stream_hides(text: str) -> None:
    found = {position for span in ALL.find(text) for position in range(span.raw_start, span.raw_end)}
    assert found == covered(text)


@given(st.text(alphabet="abc XYZ,;!?\n\t()[]é日本🙂", max_size=200), st.integers(1, 7))
def test_a_text_without_matches_comes_out_unchanged(text: str, size: int) -> None:
    assert stream(ALL, [text[i : i + size] for i in range(0, len(text), size)]) == text


@settings(max_examples=60, deadline=None)
@given(texts.filter(lambda text: len(text) <= 40))
@example("see 4111 1111 1111 1111 ")
@example("x@y.com.")
@example("x@y.com@")
@example("6304000000000000000 ")
@example("eyJ0123456789.eyJ0123456789.")
@example("sk-sk-0123456789abcde")
def test_text_is_held_exactly_while_some_continuation_makes_it_part_of_a_match(text: str) -> None:
    redactor = Redactor(ALL)
    redactor.feed(text)
    assert redactor.held_chars == held(text)


@pytest.mark.parametrize("digits", ["4111111111111111", "378282246310005", "5555555555554444", "6011111111111117"])
def test_the_oracle_knows_valid_cards(digits: str) -> None:
    assert luhn(digits)
    assert not luhn(digits[:-1] + str((int(digits[-1]) + 1) % 10))


def test_finish_releases_the_tail_and_cancel_drops_it() -> None:
    finished, cancelled = Redactor(ALL), Redactor(ALL)
    assert shown(finished.feed("a tail")) == shown(cancelled.feed("a tail")) == "a "
    assert finished.held_chars == cancelled.held_chars == 4
    assert finished.finish() == [TextDelta("tail")]
    assert cancelled.cancel() == 4
    assert cancelled.held_chars == 0
    assert cancelled.statistics().dropped_chars == 4
    assert cancelled.cancel() == finished.cancel() == 0


def test_a_match_that_may_grow_is_replaced_at_once_and_its_growth_is_swallowed() -> None:
    redactor = Redactor(ALL)
    assert redactor.feed("sk-0123456789abcde") == []
    assert redactor.feed("f") == [Redacted("api_key", "[KEY]", 0)]
    assert redactor.feed("0" * 500) == []
    assert redactor.held_chars == 0
    assert redactor.feed(" .") == [TextDelta(" .")]
    assert redactor.statistics().findings[0].ranges == ((0, 519),)


def test_the_growth_of_a_match_is_held_while_it_may_end_and_released_when_it_does_not_grow() -> None:
    redactor = Redactor(ALL)
    assert shown(redactor.feed("x@y.com")) == "[EMAIL]"
    assert redactor.feed(".a") == []
    assert redactor.held_chars == 2
    assert shown(redactor.feed("u")) == ""
    assert redactor.held_chars == 0
    assert shown(redactor.feed(".x")) == ""
    assert shown(redactor.feed(" ")) == ".x "
