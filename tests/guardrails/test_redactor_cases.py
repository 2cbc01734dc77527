"""Named cases: where other stream guards fail, the limits of each rule, the cap on held text, the figures."""

from __future__ import annotations

import time

import pytest

from tests.guardrails.guard_oracle import OWN_KEY, expected, shown, stream
from tests.support.sample_rules import API_KEY, KEY_PREFIXES, sample_rules
from utils.errors import ConfigError
from utils.events import Redacted, TextDelta
from utils.guardrails.literal import LiteralPattern
from utils.guardrails.patterns import KeywordsPattern, RegularPattern
from utils.guardrails.personal import CardPattern, EmailPattern
from utils.guardrails.policy import DEFAULT_PACKS, compile_rules
from utils.guardrails.redactor import HELD_CHARS_MAX, HELD_TEXT_LIMIT, RANGES_MAX, GuardStateError, Redactor
from utils.guardrails.rules import Rule, RuleSet, Span
from utils.guardrails.scanners import NOT_LIVE, Match

ALL = sample_rules(OWN_KEY)
PROSE = "Streams are read word by word, and each word is shown as soon as it is known to be safe. "
KEY_37 = "sk-ant-api03-AbCd1234EfGh5678IjKl9012"
CARD = "4111 1111 1111 1111"
TOO_LONG = "[held text too long]"


def tokens(text: str, size: int) -> list[str]:
    return [text[i : i + size] for i in range(0, len(text), size)]


# Where other guards fail ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", range(40))
@pytest.mark.parametrize(
    ("secret", "replacement"),
    [(CARD, "[CARD]"), (KEY_37, "[KEY]"), ("alice@example.com", "[EMAIL]"), (OWN_KEY, "[KEY]")],
)
def test_a_secret_over_six_tokens_is_hidden_at_forty_positions(position: int, secret: str, replacement: str) -> None:
    before, after = (PROSE * 3)[: 100 + position] + " ", " " + PROSE
    size = -(-len(secret) // 6)
    pieces = [*tokens(before, 4), *tokens(secret, size), *tokens(after, 4)]
    assert stream(ALL, pieces) == before + replacement + after


@pytest.mark.parametrize("length", [51, 109, 129, 1000, 5000])
@pytest.mark.parametrize("prefix", KEY_PREFIXES)
def test_a_key_longer_than_any_window_is_hidden_whole(prefix: str, length: int) -> None:
    key = prefix + ("A1B2C3D4E5" * 500)[: length - len(prefix)]
    text = f"{PROSE}the key is {key}. {PROSE}"
    shown_text = f"{PROSE}the key is [KEY]. {PROSE}"
    assert stream(ALL, tokens(text, 4)) == stream(ALL, [text]) == shown_text


@pytest.mark.parametrize(
    "pieces",
    [
        ["Write to alice", "@", "example", ".", "com", " today"],
        ["Write to alice@example.", "com today"],
        ["Write to alice@exa", "mple.com today"],
    ],
)
def test_an_address_whose_dot_ends_a_token_is_hidden(pieces: list[str]) -> None:
    assert stream(ALL, pieces) == "Write to [EMAIL] today"


@pytest.mark.parametrize(
    "address",
    [
        "a" * 160 + "@example.com",
        "a.b" * 20 + "+@" + "sub-domain." * 9 + "example.com",
        "x" * 64 + "@" + "y" * 63 + "." + "z" * 39 + ".com",
    ],
)
@pytest.mark.parametrize("size", [1, 4, 17, 1000])
def test_an_address_of_172_characters_is_hidden_whole(address: str, size: int) -> None:
    assert len(address) == 172
    assert stream(ALL, tokens(f"To {address}, now", size)) == "To [EMAIL], now"


@pytest.mark.parametrize(
    ("text", "visible"),
    [
        ("AKIA0123456789ABCDEF_sk-0123456789abcdef", "[KEY]"),  # the second begins where the first ends
        ("xoxb-0123456789-sk-01234567_89abcdef0.", "[KEY]."),  # the second starts inside the first and goes on after it
        ("AIza-ghp_0123456789abcdefghij~", "AIza-[KEY]~"),
        ("4111111111111111@example.com is one", "[CARD] is one"),  # label: the match that ends first
        ("a@b.com@c.com.", "[EMAIL]."),
        ("mail:" + OWN_KEY + "@example.com.", "mail:[KEY]."),
        ("4111 1111 1111 1111 5500 0000 0000 0004", "[CARD] [CARD]"),
        ("12 4111 1111 1111 1111 99", None),
    ],
)
def test_of_overlapping_secrets_nothing_is_uncovered(text: str, visible: str | None) -> None:
    for size in (1, 3, 1000):
        assert stream(ALL, tokens(text, size)) == (expected(text) if visible is None else visible)


def test_a_text_that_never_ends_a_sentence_is_shown_word_by_word() -> None:
    redactor = Redactor(ALL)
    for word in ["word"] * 500:
        assert shown(redactor.feed(word + " ")) == word + " "


def test_double_spaces_and_line_ends_stay() -> None:
    text = "One.  Two.   Three.\r\n\n\tFour.  "
    assert stream(ALL, tokens(text, 3)) == text


def test_nothing_of_a_later_part_is_lost_after_an_early_match() -> None:
    text = f"{KEY_37} {PROSE * 20}"
    assert stream(ALL, tokens(text, 4)) == f"[KEY] {PROSE * 20}"


def test_ordinary_prose_holds_less_than_a_word() -> None:
    redactor = Redactor(ALL)
    for token in tokens(PROSE * 50, 4):
        redactor.feed(token)
    figures = redactor.statistics()
    assert figures.held_max_chars <= max(map(len, PROSE.split()))
    assert figures.held_mean_chars < 4
    assert figures.findings == ()


# The limits of each rule ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "visible"),
    [
        ("a@b.co", "[EMAIL]"),
        ("a@b.c", "a@b.c"),
        ("a@b", "a@b"),
        ("@b.com", "@b.com"),
        (".@b.com", ".@b.com"),
        ("-_a@b.com", "-_[EMAIL]"),
        ("o'brien+news@mail.example.co.uk.", "[EMAIL]."),
        ("a@b..com", "a@b..com"),
        ("a@.com", "a@.com"),
        ("a@b.comX1", "[EMAIL]1"),
        ("a@b.com1.de", "[EMAIL]"),
        ("a" * 255 + "@b.com", "a[EMAIL]"),
        ("a@" + "b" * 63 + ".com", "[EMAIL]"),
        ("a@" + "b" * 64 + ".com", "a@" + "b" * 64 + ".com"),
        ("a@b." + "c" * 24, "[EMAIL]"),
        ("a@b." + "c" * 25 + " ", "[EMAIL]c "),
        ("a@b." + "c" * 63 + ".de", "[EMAIL]"),
        ("a@b." + "c" * 64 + ".de", "[EMAIL]" + "c" * 40 + ".de"),
        ("`a@b.com`", "`[EMAIL]`"),
        ("äa@b.com", "[EMAIL]"),  # folds to a letter
        ("日a@b.com", "日[EMAIL]"),
    ],
)
def test_the_limits_of_an_address(text: str, visible: str) -> None:
    for size in (1, 5, 1000):
        assert stream(ALL, tokens(text, size)) == visible


@pytest.mark.parametrize(
    ("text", "visible"),
    [
        ("4222222222222", "[CARD]"),
        ("4111-1111-1111-1111", "[CARD]"),
        ("4111 1111-1111 1111.", "[CARD]."),
        ("4111  1111 1111 1111", "4111  1111 1111 1111"),
        ("4111.1111.1111.1111", "4111.1111.1111.1111"),
        ("4111111111111112", "4111111111111112"),
        ("41111111111111111", "41111111111111111"),
        ("No.4111111111111111", "No.[CARD]"),
        ("x4111111111111111y", "x[CARD]y"),
        ("0.4111111111111111", "0.4111111111111111"),
        ("1. 4111111111111111", "1. [CARD]"),
        ("6304000000000000000", "[CARD]"),
        ("63040000000000000000", "63040000000000000000"),
        ("000000000018", "000000000018"),
        ("0000000000018", "0000000000018"),
        ("0000000000000000", "0000000000000000"),
        ("6666666666666", "6666666666666"),  # passes the check, but its digits are all equal
        ("20231104091530", "20231104091530"),
        ("1924915343677653014", "1924915343677653014"),
        ("1700000000123456", "1700000000123456"),
        ("00 00 00 00 00 00 00 00", "00 00 00 00 00 00 00 00"),
        ("44 44 44 44 44 44 44 44", "44 44 44 44 44 44 44 44"),
        ("DE44 5001 0517 5407 3249 31", "DE44 5001 0517 5407 3249 31"),
        ("378282246310005", "[CARD]"),
        ("3782 822463 10005", "[CARD]"),
        ("3056 930902 5904", "[CARD]"),
        ("2223003122003222", "[CARD]"),
        ("3530111333300000", "[CARD]"),
        ("2220003122003225", "2220003122003225"),
        ("55555555555544440000", "55555555555544440000"),
        ("55555555555544", "55555555555544"),
        ("4111 1111 1111 1111 ", "[CARD] "),
        ("4111 1111 1111 1111 12", None),
        ("4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 x", "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 x"),
    ],
)
def test_the_limits_of_a_card(text: str, visible: str | None) -> None:
    visible = expected(text) if visible is None else visible
    for size in (1, 5, 1000):
        assert stream(ALL, tokens(text, size)) == visible


@pytest.mark.parametrize(
    ("text", "visible"),
    [
        ("sk-0123456789abcde", "sk-0123456789abcde"),
        ("sk-0123456789abcdef", "[KEY]"),
        ("task-0123456789abcdef", "task-0123456789abcdef"),
        ("my_sk-0123456789abcdef", "my[KEY]"),
        ("ésk-0123456789abcdef", "ésk-0123456789abcdef"),  # folds to a letter: no boundary
        ("日sk-0123456789abcdef", "日[KEY]"),
        ("AKIA0123456789ABCDEFghi", "[KEY]ghi"),
        ("ghx_0123456789abcdefghij", "ghx_0123456789abcdefghij"),
        ("github_pat_11ABCDEFG0123456789_abcdef", "[KEY]"),
        ("Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0x.c2lnbmF0dXJl.", "Bearer [KEY]."),
        ("eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0x", "[KEY]"),
        ("eyJhbGciOiJub25lIn0.abcdefghijklmnop", "eyJhbGciOiJub25lIn0.abcdefghijklmnop"),
        ("my-key-my-key-my-key-1", "my-key-[KEY]"),
        ("my-key-my-key-", "my-key-my-key-"),
    ],
)
def test_the_limits_of_a_key(text: str, visible: str) -> None:
    for size in (1, 5, 1000):
        assert stream(ALL, tokens(text, size)) == visible


@pytest.mark.parametrize("own_key", [None, "", "ollama", "elevenchars"])
def test_a_short_own_key_is_no_secret(own_key: str | None) -> None:
    rules = compile_rules(DEFAULT_PACKS, own_keys=() if own_key is None else (own_key,))
    assert {rule.id.partition(".")[0] for rule in rules.rules} == set(DEFAULT_PACKS)


def test_an_own_key_is_hidden_even_in_the_middle_of_a_word_and_never_stands_in_a_repr() -> None:
    rules = compile_rules(DEFAULT_PACKS, own_keys=("twelve-chars",))
    assert stream(rules, list("xxtwelve-charsyy")) == "xx[KEY]yy"
    assert "twelve" not in repr(rules)


def test_touching_matches_are_one_run() -> None:
    rules = RuleSet.compile(
        [Rule("ab", "<ab>", LiteralPattern("ab")), Rule("ba", "<ba>", LiteralPattern("cc")), *sample_rules().rules]
    )
    assert stream(rules, ["xa", "bc", "cabx"]) == stream(rules, ["xabccabx"]) == "x<ab>x"


def test_overlapping_occurrences_of_a_literal_are_all_hidden() -> None:
    rules = RuleSet.compile([Rule("abab", "<>", LiteralPattern("abab"))])
    for size in (1, 3, 100):
        assert stream(rules, tokens("xabababx", size)) == "x<>x"


DIGITS_LITERAL = Rule("literal", "<literal>", LiteralPattern("4111111111111111"))
CARD_RULE = Rule("card", "<card>", CardPattern())
KEY_RULE = Rule("key", "<key>", API_KEY.pattern)
INNER_LITERAL = Rule("inner", "<inner>", LiteralPattern("0123"))


@pytest.mark.parametrize(
    ("rules", "text", "visible"),
    [
        # the same place: the card needs to see one character more, so the literal is known first, in any rule order
        ([CARD_RULE, DIGITS_LITERAL], "4111111111111111.", "<literal>."),
        ([DIGITS_LITERAL, CARD_RULE], "4111111111111111.", "<literal>."),
        ([KEY_RULE, INNER_LITERAL], "sk-0123456789abcdef.", "<inner>."),
        ([INNER_LITERAL, KEY_RULE], "sk-0123456789abcdef.", "<inner>."),
        ([Rule("a", "<a>", LiteralPattern("ab")), Rule("b", "<b>", LiteralPattern("ab"))], "ab", "<a>"),
    ],
)
def test_the_label_of_a_run_does_not_depend_on_the_cut(rules: list[Rule], text: str, visible: str) -> None:
    for size in (1, 2, 7, 100):
        assert stream(RuleSet.compile(rules), tokens(text, size)) == visible


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("x 411111111111", 12),
        ("4111 1111 1111 1111 ", 1),  # replaced; the space may belong to a longer number
        ("4111 1111 1111 1111  ", 0),
        ("6304000000000000000", 19),  # passes the check: waits for its boundary
        ("6304000000000000001", 0),  # nineteen digits that fail: nothing can follow
        ("6304000000000000000 ", 0),
        ("7 6304000000000000001", 0),
        ("63040000000000000000", 0),
        ("0.411111", 0),
        ("1.4", 0),
        ("17", 0),  # no issuer's
        ("2", 1),
        ("27", 2),
        ("273", 0),
        ("41 ", 0),  # groups have three digits
        ("4111 11", 7),
        ("4111 11 ", 0),
        ("5555 5555 5555 44", 17),
        ("5555 5555 5555 4 ", 0),
        ("55555555555544 ", 0),  # three digits more are too many
    ],
)
def test_digits_are_held_only_while_they_may_become_a_card(text: str, held: int) -> None:
    redactor = Redactor(RuleSet.compile([CARD_RULE]))
    redactor.feed(text)
    assert redactor.held_chars == held


# Linear time and the cap on held text -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a" * 100_000, id="one letter"),
        pytest.param("4111111111111111" * 6_250, id="digits in a row"),
        pytest.param("1 2 3 4 " * 12_500, id="single digits"),
        pytest.param(PROSE * 11_000, id="a line of one megabyte"),
        pytest.param("." * 100_000, id="dots"),
        pytest.param("a@" * 50_000, id="addresses that never end"),
        pytest.param((OWN_KEY[:14] + "x") * 6_000, id="own key that never ends"),
    ],
)
def test_long_input_takes_linear_time(text: str) -> None:
    started = time.process_time()
    redactor = Redactor(ALL)
    redactor.feed(text)
    redactor.finish()
    assert redactor.statistics().overflows == 0
    assert time.process_time() - started < 5  # a quadratic scan would need minutes


@pytest.mark.parametrize("text", ["a" * 100_000, "7" * 100_000, PROSE * 1_000])
def test_long_harmless_input_comes_out_unchanged(text: str) -> None:
    assert stream(ALL, [text]) == stream(ALL, tokens(text, 333)) == text


ENDLESS_DOMAIN = "x@" + "1." * 4_000
ENDLESS_HEADER = "eyJ" + "A" * 6_000


@pytest.mark.parametrize("endless", [ENDLESS_DOMAIN, ENDLESS_HEADER])
@pytest.mark.parametrize("size", [1, 7, 4_095, 4_096, 4_097, 100_000])
def test_held_text_over_the_cap_is_replaced_and_swallowed_until_nothing_is_live(endless: str, size: int) -> None:
    text = f"Look: {endless} and a@b.com, or {endless}"
    assert stream(ALL, tokens(text, size)) == f"Look: {TOO_LONG} and [EMAIL], or {TOO_LONG}"


def test_exactly_the_cap_is_held_and_one_character_more_fails_closed() -> None:
    redactor = Redactor(ALL)
    redactor.feed("x@" + "1." * (HELD_CHARS_MAX // 2 - 1))
    assert redactor.held_chars == HELD_CHARS_MAX
    assert redactor.feed("1") == [Redacted(HELD_TEXT_LIMIT, TOO_LONG, 0)]
    assert redactor.held_chars == 0
    assert redactor.feed(".co") == []  # would complete the address
    assert redactor.feed(" x ") == [TextDelta(" x ")]
    figures = redactor.statistics()
    assert figures.overflows == 1
    assert [(f.rule, f.count, f.ranges) for f in figures.findings] == [(HELD_TEXT_LIMIT, 1, ((0, 4100),))]


def test_a_match_in_the_swallowed_text_is_not_shown_either() -> None:
    text = ENDLESS_DOMAIN + "a@b.com" + "!" + " end"
    assert stream(ALL, tokens(text, 10)) == f"{TOO_LONG}! end"


# States and figures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [Redactor.finish, Redactor.cancel])
def test_a_redactor_that_has_ended_refuses_text(end: object) -> None:
    redactor = Redactor(ALL)
    assert callable(end)
    end(redactor)
    with pytest.raises(AssertionError, match="after the end of the stream"):
        redactor.feed("x")
    with pytest.raises(GuardStateError, match="after the end of the stream"):
        redactor.finish()


def test_an_empty_feed_shows_nothing() -> None:
    redactor = Redactor(ALL)
    assert redactor.feed("") == []
    assert redactor.finish() == []


def test_the_figures_name_rules_and_places_and_never_text() -> None:
    redactor = Redactor(ALL)
    for piece in ("To bob@example.", "com: ", CARD, " and ", KEY_37, " or x@y.zz"):
        redactor.feed(piece)
    redactor.finish()
    figures = redactor.statistics()
    assert figures.rules == ("own_key", "api_key", "payment_card", "email")
    assert {f.rule: (f.count, f.ranges) for f in figures.findings} == {
        "email": (2, ((3, 18), (85, 91))),
        "payment_card": (1, ((20, 39),)),
        "api_key": (1, ((44, 81),)),
    }
    assert figures.seen_chars == 91
    assert figures.dropped_chars == figures.overflows == 0
    assert figures.held_max_chars == 19
    assert "bob" not in repr(figures)


def test_the_ranges_are_bounded_and_the_count_is_exact() -> None:
    redactor = Redactor(ALL)
    redactor.feed("a@b.com " * (RANGES_MAX + 5))
    (finding,) = redactor.statistics().findings
    assert finding.count == RANGES_MAX + 5
    assert len(finding.ranges) == RANGES_MAX
    assert finding.ranges[0] == (0, 7)


def test_the_first_character_position_of_a_replacement_is_raw() -> None:
    redactor = Redactor(ALL)
    events = redactor.feed("a@b.com, c@d.com, ")
    assert [event.raw_start for event in events if isinstance(event, Redacted)] == [0, 9]


def test_a_finished_text_is_searched_by_the_same_rules() -> None:
    assert ALL.find("a@b.com and " + CARD) == (Span("payment_card", 12, 31), Span("email", 0, 7))


class _LateScanner:
    """Breaks the contract: matches text that it never declared live."""

    def scan(self, text: str, base: int, found: list[Match]) -> int:
        if base > 0:
            found.append(Match(0, 1, 1))
        return NOT_LIVE

    def finish(self, length: int, found: list[Match]) -> None: ...


class _LatePattern:
    decides_late = False

    def scanner(self) -> _LateScanner:
        return _LateScanner()


def test_a_rule_that_would_have_leaked_ends_the_stream() -> None:
    redactor = Redactor(RuleSet.compile([Rule("late", "x", _LatePattern())]))
    redactor.feed("ab")
    with pytest.raises(GuardStateError, match="covers text that was released"):
        redactor.feed("c")
    assert redactor.held_chars == 0
    with pytest.raises(GuardStateError):
        redactor.feed("d")


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([Rule("a", "", EmailPattern()), Rule("a", "", CardPattern())], "two guard rules have the id 'a'"),
        ([Rule("", "", EmailPattern())], "a guard rule has an empty id"),
        ([Rule("a", "", LiteralPattern(""))], "the guard rule 'a' matches the empty text"),
    ],
)
def test_rules_that_cannot_work_are_refused_with_their_name(rules: list[Rule], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        RuleSet.compile(rules)
    assert refused.value.message == message
    assert refused.value.hint


def test_no_rules_hold_and_hide_nothing() -> None:
    redactor = Redactor(RuleSet.compile([]))
    assert redactor.feed("a@b.com") == [TextDelta("a@b.com")]


def test_the_label_of_a_ligature_does_not_depend_on_the_cut() -> None:
    """Both matches end in the one raw character, and only the keyword has to wait for the end of the word."""
    rules = RuleSet.compile(
        [
            Rule("word", "[WORD]", KeywordsPattern(("fi",))),
            Rule("letter", "#", RegularPattern("i"), action="mask"),
        ]
    )
    shown = set()
    for pieces in (["x \ufb01 y"], ["x \ufb01", " y"], ["x ", "\ufb01", " ", "y"]):
        redactor = Redactor(rules)
        events = [event for piece in pieces for event in redactor.feed(piece)] + redactor.finish()
        shown.add("".join(getattr(event, "text", "") or getattr(event, "replacement", "") for event in events))
    assert shown == {"x # y"}
