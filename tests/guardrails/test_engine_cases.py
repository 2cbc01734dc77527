"""Named cases of the engine: folding, keywords, regular rules, verified rules, actions, refusals, caps, linear time."""

# ruff: noqa: RUF001  (look-alikes are the subject)

from __future__ import annotations

import random
import sys
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.guardrails.guard_oracle import shown, stream
from utils.errors import ConfigError
from utils.events import Blocked, Flagged, Redacted, TextDelta
from utils.guardrails import regular, verified
from utils.guardrails.fold import fold, fold_character, is_word, lower_text
from utils.guardrails.patterns import EmailPattern, KeywordsPattern, LiteralPattern, RegularPattern
from utils.guardrails.redactor import HELD_CHARS_MAX, HELD_TEXT_LIMIT, GuardStateError, Redactor
from utils.guardrails.rules import Action, Rule, RuleSet, Span
from utils.guardrails.scanners import Pattern


def one(pattern: Pattern, action: Action = "redact", replacement: str = "<>") -> RuleSet:
    return RuleSet.compile([Rule("rule", replacement, pattern, action)])


def keywords(*words: str, **options: bool) -> RuleSet:
    return one(KeywordsPattern(words, **options))


def regex(source: str, **options: Any) -> RuleSet:
    return one(RegularPattern(source, **options))


def luhn(candidate: str) -> bool:
    digits = [int(c) for c in candidate if c.isdigit()]
    return sum(sum(divmod(2 * d, 10)) if n % 2 else d for n, d in enumerate(reversed(digits))) % 10 == 0


# Folding ----------------------------------------------------------------------------------------------------------


def test_ascii_folds_to_itself() -> None:
    text = "".join(map(chr, range(128)))
    assert "".join(fold(text)) == text


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("ｓｅｃｒｅｔ", "secret"),
        ("ѕесrеt", "secret"),
        ("ѕеϲrеt", "secret"),
        ("𝐬𝒆𝓬𝔯𝕖𝚝", "secret"),
        ("ⓢecret", "secret"),
        ("sécrèt", "secret"),
        ("se\u0301cre\u0301t", "secret"),
        ("se\u200bcr\u00adet\u2060", "secret"),
        ("\U000e0073\U000e0065", ""),
        ("ﬁle", "file"),
        ("Straße", "Strasse"),
        ("İstanbul, ılık", "Istanbul, ilik"),
        ("４１１１ ٤١١١", "4111 4111"),
        ("a\u00a0b\u2009c", "a b c"),
        ("bob＠example．com", "bob@example.com"),
        ("12‐34–56−78", "12-34-56-78"),
        ("שלום", "שלום"),
        ("日本🙂", "日本🙂"),
        ("жЖ", "жЖ"),
        ("🅢🅔🅒🅡🅔🅣 🆂🅰🆉", "SECRET SAZ"),
        ("ƈøƒƀᵽ ⱥɍȼ ȺƵŁ", "cofbp arc AZL"),
        ("ᴀʏꞯᴢʛ ᵻ", "AYQZG I"),
        ("ǝɐðŋ", "ǝɐðŋ"),
    ],
)
def test_look_alikes_fold_to_ascii_and_keep_their_case(text: str, form: str) -> None:
    assert "".join(fold(text)) == form


def test_every_code_point_folds_to_what_folds_to_itself() -> None:
    for code in range(0, sys.maxunicode + 1, 7):
        form = fold_character(chr(code))
        assert all(fold_character(c) == c for c in form), hex(code)


def test_letters_of_scripts_without_spaces_are_no_word_characters() -> None:
    assert [is_word(c) for c in "aZ0_жא"] == [True] * 6
    assert [is_word(c) for c in "日ひカไ -.🙂"] == [False] * 8


def test_lower_case_never_depends_on_the_neighbours() -> None:
    assert lower_text("ΟΔΣ ABC") == "οδσ abc"


# Keywords ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "text", "visible"),
    [
        (keywords("secret"), "a Secret, secretly unsecret SECRET", "a <>, secretly unsecret <>"),
        (keywords("secret", whole_word=False), "secretly unsecret", "<>ly un<>"),
        (keywords("Secret", ignore_case=False), "Secret secret", "<> secret"),
        (keywords("project night fall", "night"), "project night falls night", "project <> falls <>"),
        (keywords("he", "she", "hers", whole_word=False), "ushers", "u<>"),
        (keywords("c++", "c"), "c++ or c+ or c++x", "<> or <>+ or <>x"),
        (keywords("-v"), "x-v -v -vv", "x<> <> -vv"),
        (keywords("strasse"), "STRASSE Straße straßen", "<> <> straßen"),
        (keywords("secret"), "日secret本 жsecret", "日<>本 жsecret"),
        (keywords("café"), "CAFE cafe\u0301s cafe\u0301\u0301!", "<> cafe\u0301s <>!"),
        (keywords("a", "ab", "abc", whole_word=False), "xabcab", "x<>"),
        (keywords("abcde", "bcdx", "cd", whole_word=False), "abcdz", "ab<>z"),  # a suffix of a suffix
    ],
)
def test_keywords_are_found_where_they_are_words(rules: RuleSet, text: str, visible: str) -> None:
    for size in (1, 3, 100):
        assert stream(rules, [text[i : i + size] for i in range(0, len(text), size)]) == visible


@pytest.mark.parametrize(
    ("text", "held"),
    [("sec", 3), ("asec", 0), ("a sec", 3), ("secret", 6), ("secrets", 0), ("the s", 1), ("x-secre", 5), ("secx", 0)],
)
def test_a_word_is_held_only_from_where_a_keyword_may_start(text: str, held: int) -> None:
    redactor = Redactor(keywords("secret"))
    redactor.feed(text)
    assert redactor.held_chars == held


# Regular rules ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "text", "visible"),
    [
        (regex(r"foo(bar)?"), "foobar foobaz", "<> <>baz"),
        (regex(r"\bfoo\b"), "foo food xfoo foo.", "<> food xfoo <>."),
        (regex(r"\Bfoo"), "foo xfoo", "foo x<>"),
        (regex(r"fo+", whole_word=True), "foo food xfo (fo)", "<> food xfo (<>)"),
        (regex(r"a{2,3}"), "a aa aaa aaaaa", "a <> <> <>"),
        (regex(r"a{,2}b"), "aaab", "a<>"),
        (regex(r"x{2,}"), "x xx xxxx", "x <> <>"),
        (regex(r"a{b}"), "a{b}", "<>"),
        (regex(r"[^a-c\s]+z"), "abz dez", "abz <>"),
        (regex(r"[]a-]b"), "]b ab -b", "<> <> <>"),
        (regex(r"[\w.]+@\d"), "a.b@1 @2", "<> @2"),
        (regex(r"\x41\u0042\.\/"), "AB./", "<>"),
        (regex(r"(?i)KeY[a-c]"), "kEyB", "<>"),
        (regex(r"[^a]", ignore_case=True), "aAbA", "aA<>A"),
        (regex(r"(?P<word>a|b)c+?"), "accc", "<>"),
        (regex(r"a.c"), "abc a\nc", "<> a\nc"),
        (regex("caf[é]"), "cafe café", "<> <>"),
        (regex("ﬁt"), "fit ﬁt", "<> <>"),
        (regex(r"\d{3}-\d{2}"), "１２３–４５", "<>"),
        (regex(r"(?i)authorization: basic [a-z0-9+/=]{8,}"), "Authorization: Basic dXNlcjpwdw==.", "<>."),
        (regex(r"[^\W\x00-\u1fff]+", whole_word=True), "ab ⰰⰱ жж", "ab <> жж"),
        (regex(r"it"), "xﬁt", "x<>"),  # half of a ligature hides the whole character
    ],
)
def test_regular_rules_find_every_match(rules: RuleSet, text: str, visible: str) -> None:
    for size in (1, 2, 100):
        assert stream(rules, [text[i : i + size] for i in range(0, len(text), size)]) == visible


def test_a_match_is_replaced_at_once_and_its_growth_is_held_until_it_completes() -> None:
    redactor = Redactor(regex(r"foo(bar)?"))
    assert redactor.feed("foo") == [Redacted("rule", "<>", 0)]
    assert redactor.feed("ba") == []
    assert redactor.held_chars == 2
    assert redactor.feed("x") == [TextDelta("bax")]
    assert redactor.feed("fooba") == [Redacted("rule", "<>", 6)]
    assert redactor.feed("r") == []
    assert redactor.held_chars == 0


def test_text_that_only_an_impossible_boundary_could_continue_is_not_held() -> None:
    redactor = Redactor(regex(r"x(?:a|b\bc)z"))
    assert redactor.feed("xb") == [TextDelta("xb")]
    assert redactor.feed("xa") == []


def test_a_mark_or_an_invisible_character_after_a_match_belongs_to_it() -> None:
    redactor = Redactor(keywords("abc", whole_word=False))
    assert redactor.feed("abc") == [Redacted("rule", "<>", 0)]
    assert redactor.feed("\u200b") == []
    assert redactor.feed("\u0301x") == [TextDelta("x")]
    assert redactor.statistics().findings[0].ranges == ((0, 5),)


def test_places_are_those_of_the_raw_text() -> None:
    text = "\u200bﬁ a\u200bb\u0301c\u00ad ﬁx"
    rules = RuleSet.compile([Rule("k", "", KeywordsPattern(("abc",))), Rule("x", "", LiteralPattern("ix"))])
    assert rules.find(text) == (Span("k", 3, 9), Span("x", 10, 12))


@pytest.mark.parametrize("secret", ["my-sécret-key-1", "ｍy-secret-key-1"])
def test_an_own_key_that_is_not_ascii_is_found(secret: str) -> None:
    assert stream(one(LiteralPattern(secret)), list(f"x{secret}y")) == "x<>y"


# Verified rules ---------------------------------------------------------------------------------------------------

CARD = RegularPattern(r"\d(?:[ -]?\d){12,18}", verifier=luhn)


@pytest.mark.parametrize(
    ("text", "visible"),
    [
        ("4111 1111 1111 1111.", "<>."),
        ("4111 1111 1111 1112.", "4111 1111 1111 1112."),
        ("x4111111111111111", "x4111111111111111"),
        ("12 4111 1111 1111 1111 9", "12 <> 9"),
        ("4111-1111-1111-1111\u200b", "<>"),
        ("４１１１ 1111 1111 1111", "<>"),
    ],
)
def test_a_candidate_is_a_match_if_the_verifier_accepts_it(text: str, visible: str) -> None:
    for size in (1, 3, 100):
        assert stream(one(CARD), [text[i : i + size] for i in range(0, len(text), size)]) == visible


@pytest.mark.parametrize(
    ("source", "text", "visible"),
    [
        (r"a\b-b", "a-b a-x", "<> a-x"),
        (r"--\b", "a --b --", "a <>b --"),
        (r"-\B-{1,2}\b", "--- ---b", "--- <>b"),
        (r"b(?:\B|-)a", "ba b-a b", "<> <> b"),
    ],
)
def test_a_candidate_may_wait_for_a_boundary_inside_or_before_a_word(source: str, text: str, visible: str) -> None:
    rules = regex(source, verifier=lambda _: True)
    for size in (1, 2, 100):
        assert stream(rules, [text[i : i + size] for i in range(0, len(text), size)]) == visible


def test_a_candidate_that_is_refused_and_cannot_grow_is_not_waited_for() -> None:
    redactor = Redactor(one(RegularPattern(r"\d{4}", verifier=luhn)))
    redactor.feed("id 0000")
    assert redactor.held_chars == 4
    redactor.feed(", 0001")
    assert redactor.held_chars == 0
    redactor = Redactor(regex(r"a\bx?", verifier=lambda _: False))  # no x stands behind that boundary
    assert redactor.feed("a") == [TextDelta("a")]


def test_a_verifier_that_fails_ends_the_stream_and_shows_nothing_more() -> None:
    def fail(candidate: str) -> bool:
        raise ValueError(candidate)

    redactor = Redactor(one(RegularPattern(r"\d{4}", verifier=fail)))
    with pytest.raises(ValueError, match="1234"):
        redactor.feed("id 1234")
    with pytest.raises(GuardStateError):
        redactor.feed("x")


# Actions ----------------------------------------------------------------------------------------------------------


def test_a_mask_shows_one_character_for_each_covered_one_as_it_is_covered() -> None:
    redactor = Redactor(one(RegularPattern("ab+"), "mask", ""))
    assert shown(redactor.feed("xa")) == "x"
    assert shown(redactor.feed("b")) == "**"
    assert shown(redactor.feed("bb")) == "**"
    assert shown(redactor.feed("c")) == "c"
    assert redactor.statistics().findings[0].ranges == ((1, 5),)


BLOCK = RuleSet.compile(
    [Rule("poison", "", RegularPattern(r"poison\b"), "block"), Rule("email", "[EMAIL]", EmailPattern())]
)


@pytest.mark.parametrize(
    ("text", "visible"),
    [
        ("to a@b.com a poison, then more", "to [EMAIL] a "),
        ("poison", ""),
        ("x@y.com,poison.", "[EMAIL],"),
        ("a_poison.", ""),
        ("poisonous", None),
    ],
)
def test_a_block_shows_what_nothing_holds_and_ends_the_stream(text: str, visible: str | None) -> None:
    for size in (1, 2, 5, 100):
        redactor = Redactor(BLOCK)
        events = []
        for i in range(0, len(text), size):
            events += redactor.feed(text[i : i + size])
            if events and isinstance(events[-1], Blocked):
                break
        else:
            events += redactor.finish()
        if visible is None:
            assert shown(events) == text
            continue
        assert events[-1] == Blocked("poison")
        assert shown(events[:-1]) == visible
        assert redactor.held_chars == 0
        assert "poison" in {finding.rule for finding in redactor.statistics().findings}
        with pytest.raises(GuardStateError):
            redactor.feed("x")


def test_a_flag_holds_nothing_and_is_told_once_it_cannot_grow() -> None:
    redactor = Redactor(one(RegularPattern("ab+"), "flag"))
    assert redactor.feed("xab") == [TextDelta("xab")]
    assert redactor.feed("b") == [TextDelta("b")]
    assert redactor.feed("c") == [Flagged("rule", 1, 4), TextDelta("c")]
    assert redactor.feed("ab") == [TextDelta("ab")]
    assert redactor.cancel() == 0
    assert redactor.statistics().findings[0].ranges == ((1, 4), (5, 7))


def test_flagged_keywords_that_overlap_are_told_as_one_run() -> None:
    redactor = Redactor(one(KeywordsPattern(("abc", "bcx"), whole_word=False), "flag"))
    assert redactor.feed("abc") == [TextDelta("abc")]
    assert shown(redactor.feed("x")[-1:]) == "x"
    redactor.finish()
    assert redactor.statistics().findings[0].ranges == ((0, 4),)


# Refusals and caps ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "reason", "position"),
    [
        (r"a(?=b)", "look-ahead", 1),
        (r"(?<!a)b", "look-behind", 0),
        (r"(a)\1", "a back-reference", 3),
        (r"(?P<x>a)(?P=x)", "a back-reference", 8),
        (r"^a", "the anchor `^`", 0),
        (r"a$", "the anchor `$`", 1),
        (r"a\Z", "the anchor `\\Z`", 1),
        (r"a*", "a match of the empty text", 0),
        (r"", "a match of the empty text", 0),
        (r"\b", "a match of the empty text", 0),
        (r"ab|", "a match of the empty text", 0),
        (r"a{2000}", "a repeat of more than 1,000 (oversized)", 1),
        (r"(?:a{900}){900}", "810,000 automaton states (the limit is 5,000: oversized repeats)", 0),
        (r"a++", "a possessive repeat", 2),
        (r"a**", "a repeat of a repeat", 2),
        (r"a{3,2}", "a repeat from 3 to 2", 1),
        (r"(?>a)", "an atomic group", 0),
        (r"(a", "a group without its `)`", 0),
        (r"a)", "an unmatched `)`", 1),
        (r"[a", "a class is not finished", 2),
        (r"[b-a]", "a bad range in a class", 1),
        (r"[ß]", "U+00DF, which does not fold to one character, in a class", 1),
        ("a\u200b", "U+200B, which is dropped before matching,", 1),
        (r"\q", "the unknown escape `\\q`", 0),
        (r"\x4", "`\\x` without its 2 hexadecimal digits", 0),
        (r"\U00110000", "a character beyond Unicode", 0),
        (r"+a", "nothing to repeat before `+`", 0),
        (r"(?x)a", "the unknown group `(?x)`", 0),
        (r"a\bb", "a condition that no text meets (it can never match)", 0),
        ("(" * 60 + "a" + ")" * 60, "more than 50 groups inside each other", 50),
        (r"\b*", "a repeated boundary", 2),
        ("a\\", "an escape is not finished", 2),
    ],
)
def test_patterns_that_cannot_be_matched_in_a_stream_are_refused(source: str, reason: str, position: int) -> None:
    with pytest.raises(ConfigError) as refused:
        regex(source)
    assert refused.value.message == f"the guard rule 'rule' has {reason} at position {position}"
    assert refused.value.hint


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (KeywordsPattern(()), "has no keyword"),
        (KeywordsPattern(("a", "\u200b")), "has a keyword without a visible character"),
        (RegularPattern(r"\d+", verifier=luhn), "has candidates for a verifier of unlimited characters (at most 256)"),
        (RegularPattern(r"\d{300}", verifier=luhn), "has candidates for a verifier of 300 characters (at most 256)"),
        (LiteralPattern("\u200b"), "matches the empty text"),
    ],
)
def test_other_rules_that_cannot_work_are_refused(pattern: Pattern, reason: str) -> None:
    with pytest.raises(ConfigError, match="the guard rule 'rule'") as refused:
        one(pattern)
    assert reason in refused.value.message


def test_a_mask_of_several_characters_is_refused() -> None:
    with pytest.raises(ConfigError, match="masks with"):
        one(KeywordsPattern(("a",)), "mask", "***")


def test_too_many_states_in_all_rules_are_refused() -> None:
    rules = [Rule(f"r{n}", "", RegularPattern("(?:ab){900}")) for n in range(23)]
    with pytest.raises(ConfigError, match="automaton states in all rules"):
        RuleSet.compile(rules)


def test_held_text_over_the_cap_is_swallowed_until_nothing_is_live() -> None:
    rules = regex(r"a\S+z")
    text = "x a" + "b" * (HELD_CHARS_MAX + 10) + " y"
    for size in (1, 100, 10_000):
        pieces = [text[i : i + size] for i in range(0, len(text), size)]
        assert stream(rules, pieces) == "x [held text too long] y"


def test_exactly_the_cap_may_be_held() -> None:
    redactor = Redactor(regex(r"a\S+z"))
    assert redactor.feed("a" + "b" * (HELD_CHARS_MAX - 1)) == []
    assert redactor.held_chars == HELD_CHARS_MAX
    assert redactor.feed("b") == [Redacted(HELD_TEXT_LIMIT, "[held text too long]", 0)]
    assert redactor.held_chars == 0
    assert redactor.statistics().overflows == 1


def test_a_full_cache_is_emptied_and_nothing_else_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "abbacabbabcacb xaabbc 12-34 1-2345 -- word words sword " * 20
    rules = [
        Rule("blow-up", "<1>", RegularPattern(r"a[ab]{3}c")),
        Rule("words", "<2>", KeywordsPattern(("word", "words"))),
        Rule("numbers", "<3>", RegularPattern(r"\d[\d-]{3,8}", verifier=lambda c: len(c) % 2 == 1)),
    ]
    wanted = stream(RuleSet.compile(rules), [text])
    monkeypatch.setattr(regular, "STATES_MAX", 3)
    monkeypatch.setattr("utils.guardrails.keywords.TRANSITIONS_MAX", 3)
    monkeypatch.setattr(verified, "STATES_MAX", 2)
    assert wanted != text
    assert stream(RuleSet.compile(rules), [text]) == wanted
    monkeypatch.setattr(regular, "TRANSITIONS_MAX", 1)
    assert stream(RuleSet.compile(rules), list(text)) == wanted
    monkeypatch.undo()
    monkeypatch.setattr(regular, "PARTS_MAX", 5)
    assert stream(RuleSet.compile(rules), list(text)) == wanted


def test_a_long_counted_repeat_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regular, "PARTS_MAX", regular.PARTS_MAX // 10)
    rules = regex("x[^z]{1,250}z")
    text = "".join(random.Random(1).choices("xy", k=700))
    tracemalloc.start()
    try:
        rules.find(text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 7_000_000  # 22 MB without a cap on what states are made of


def test_threads_that_read_with_one_set_build_it_together_and_find_the_same() -> None:
    sources = (r"\b(?:ab|ba)+c?\b", r"(?:a[ab]{3}|b{2,4}a)+\b", "[ab ]{5}c", r"(?:a|b)*\Bc")
    texts = ["".join(random.Random(seed).choices("abc ", k=400)) for seed in range(8)]

    def rules() -> RuleSet:
        return RuleSet.compile(Rule(f"r{n}", "", RegularPattern(s), "flag") for n, s in enumerate(sources))

    expected = [rules().find(text) for text in texts]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            for _ in range(20):
                assert list(threads.map(rules().find, texts)) == expected
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        pytest.param(regex(r"(a+)+b"), "a" * 4000, id="nested repeats"),
        pytest.param(regex(r"a[ab]{12}c"), "abbabaababbaabab" * 2000, id="blow-up of states"),
        pytest.param(keywords("a" * 1000, whole_word=False), "a" * 999 + ("b" + "a" * 999) * 50, id="long keyword"),
        pytest.param(one(CARD), "1 2 3 4 " * 2000, id="many candidates"),
    ],
)
def test_the_worst_rules_take_linear_time(rules: RuleSet, text: str) -> None:
    started = time.process_time()
    stream(rules, [text])
    assert time.process_time() - started < 3  # exponential or quadratic work would need minutes


def test_ten_thousand_keywords_compile_quickly() -> None:
    words = tuple(f"word{n * 7919:x}tail" for n in range(10_000))
    started = time.process_time()
    rules = keywords(*words)
    assert time.process_time() - started < 2  # 0.15 s alone on a machine
    assert stream(rules, [f"a {words[77].upper()} b"]) == "a <> b"
