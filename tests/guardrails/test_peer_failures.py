"""Where guards on streams are known to fail: one named case each. The laws behind them stand in engine_laws.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence

import pytest

from tests.guardrails.guard_oracle import shown, stream
from utils.errors import AnswerBlocked, Cancelled, ConnectionLost
from utils.events import (
    Aborted,
    Blocked,
    Event,
    Finished,
    Flagged,
    Interrupted,
    ReasoningDelta,
    Redacted,
    Resumed,
    TextDelta,
)
from utils.guardrails.patterns import CardPattern, EmailPattern, KeywordsPattern, LiteralPattern, RegularPattern
from utils.guardrails.redactor import GuardStateError, Redactor
from utils.guardrails.rules import Action, Rule, RuleSet
from utils.guardrails.scanners import Pattern
from utils.guardrails.stage import guarded

WORDS = KeywordsPattern(("projectnightfall",))
KEY = RegularPattern(r"\bsk-[A-Za-z0-9_-]{16,}")
BASIC = RegularPattern(r"(?i)authorization: *basic +[a-z0-9+/=]{4,}")
RULES = RuleSet.compile(
    [
        Rule("words", "[WORD]", WORDS),
        Rule("keys", "[KEY]", KEY),
        Rule("cards", "[CARD]", CardPattern()),
        Rule("addresses", "[EMAIL]", EmailPattern()),
    ]
)
CARD = "4111 1111 1111 1111"
KEY_37 = "sk-ant-api03-AbCd1234EfGh5678IjKl9012"
ADDRESS_172 = "a.b" * 20 + "+@" + "sub-domain." * 9 + "example.com"
PROSE = "Streams are read word by word, and each word is shown as soon as it is known to be safe. "
LOST = ConnectionLost("The connection was lost.")
STOP = Finished("stop")


def one(pattern: Pattern, action: Action = "redact", replacement: str = "[X]") -> RuleSet:
    return RuleSet.compile([Rule("rule", replacement, pattern, action)])


def tokens(text: str, size: int = 4) -> list[str]:
    return [text[i : i + size] for i in range(0, len(text), size)]


def at_every_offset(secret: str, pieces: int, replacement: str) -> None:
    size = -(-len(secret) // pieces)
    for offset in range(40):
        before, after = (PROSE * 3)[: 100 + offset] + " ", f" {PROSE}"
        cut = [*tokens(before), *tokens(secret, size), *tokens(after)]
        assert len(tokens(secret, size)) == pieces
        assert stream(RULES, cut) == before + replacement + after
        assert stream(RULES, tokens(before + secret + after)) == before + replacement + after


class Script:
    """An event stream that plays *events*."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = iter(events)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        for event in self._events:
            return event
        raise StopAsyncIteration

    async def aclose(self) -> None:
        pass


def staged(rules: RuleSet, events: Sequence[Event]) -> list[Event]:
    async def run() -> list[Event]:
        return [event async for event in guarded(Script(events), lambda: Redactor(rules))]

    return asyncio.run(run())


def visible(events: Iterable[Event]) -> str:
    texts = (event.replacement if isinstance(event, Redacted) else getattr(event, "text", "") for event in events)
    return "".join(texts)


# A secret over several tokens ---------------------------------------------------------------------------------------


def test_a_card_over_seven_tokens_is_hidden_at_forty_offsets() -> None:
    """A batch of tokens ends in the middle of a number: the part before it must not have been shown."""
    at_every_offset(CARD, 7, "[CARD]")


def test_a_keyword_over_three_tokens_is_hidden_at_forty_offsets() -> None:
    """No token of it is the keyword."""
    at_every_offset("projectnightfall", 3, "[WORD]")


def test_a_key_over_six_tokens_is_hidden_at_forty_offsets() -> None:
    """Its prefix alone tells that it is a key, and arrives in a token of its own."""
    at_every_offset(KEY_37, 6, "[KEY]")


def test_an_address_over_six_tokens_is_hidden_at_forty_offsets() -> None:
    """Its first word looks like any other one."""
    at_every_offset("alice@example.com", 6, "[EMAIL]")


def test_a_value_over_exactly_two_chunks_is_hidden_wherever_it_is_cut() -> None:
    """Judging each chunk alone finds neither half."""
    for secret, replacement in ((CARD, "[CARD]"), (KEY_37, "[KEY]"), ("al@example.com", "[EMAIL]")):
        for cut in range(1, len(secret)):
            assert stream(RULES, [f"x {secret[:cut]}", f"{secret[cut:]} y"]) == f"x {replacement} y"


@pytest.mark.parametrize("length", [51, 129, 513, 4001])
def test_a_key_longer_than_any_look_back_is_hidden_whole(length: int) -> None:
    """A look-back of a fixed number of characters shows the head of what is longer."""
    key = "sk-" + ("A1B2C3D4E5" * 400)[: length - 3]
    assert stream(RULES, tokens(f"The key is {key}. {PROSE}")) == f"The key is [KEY]. {PROSE}"


def test_an_address_of_172_characters_is_hidden_whole() -> None:
    """Also when its end comes later than any window looks back."""
    assert len(ADDRESS_172) == 172
    for size in (1, 4, 50, 1000):
        assert stream(RULES, tokens(f"To {ADDRESS_172}, now", size)) == "To [EMAIL], now"


def test_an_address_whose_dot_ends_a_token_is_hidden() -> None:
    """A dot at the end of a token is no end of a sentence."""
    assert stream(RULES, ["Write to alice@example.", "com today. ", "Bye."]) == "Write to [EMAIL] today. Bye."


def test_every_fifth_chunk_being_looked_at_would_not_be_enough() -> None:
    """Each chunk counts, whichever of five it is, and none is lost."""
    for place in range(10):
        pieces = [f"{n} , " for n in range(10)]
        pieces.insert(place, f"{CARD}, ")
        wanted = "".join(pieces).replace(CARD, "[CARD]")
        assert stream(RULES, pieces) == wanted


def test_one_character_at_a_time_and_one_giant_chunk_show_the_same() -> None:
    """What is shown depends on the text alone."""
    text = f"{PROSE * 30}{CARD}, {KEY_37} {PROSE}projectnightfall: {ADDRESS_172} {PROSE * 30}"
    wanted = f"{PROSE * 30}[CARD], [KEY] {PROSE}[WORD]: [EMAIL] {PROSE * 30}"
    assert stream(RULES, list(text)) == stream(RULES, [text]) == wanted


def test_a_match_at_the_very_start_and_at_the_very_end_is_hidden() -> None:
    """There is no character before the first and after the last one to tell a boundary."""
    for secret, replacement in ((CARD, "[CARD]"), ("projectnightfall", "[WORD]"), ("a@b.co", "[EMAIL]")):
        assert stream(RULES, [secret]) == stream(RULES, list(secret)) == replacement
        assert stream(RULES, list(f"{secret} - {secret}")) == f"{replacement} - {replacement}"


def test_a_header_with_a_space_inside_is_hidden_with_its_value() -> None:
    """A rule that waits for a single word releases `Authorization:` and then the credentials."""
    text = "> Authorization: Basic dXNlcjpwYXNzd29yZA==\n> Accept: */*"
    for size in (1, 3, 14, 100):
        assert stream(one(BASIC), tokens(text, size)) == "> [X]\n> Accept: */*"


# Matches that overlap, touch and grow -------------------------------------------------------------------------------


def test_of_two_overlapping_secrets_no_tail_is_left() -> None:
    """Replacing the leftmost one alone would leave the end of the other one."""
    rules = RuleSet.compile([Rule("a", "[A]", LiteralPattern("abcdef")), Rule("b", "[B]", LiteralPattern("defghi"))])
    for size in (1, 2, 5, 100):
        assert stream(rules, tokens("x abcdefghi y", size)) == "x [A] y"
        assert stream(rules, tokens("x abcdefgh y", size)) == "x [A]gh y"


def test_a_secret_inside_a_longer_one_does_not_uncover_it() -> None:
    """The shorter one is complete first; the rest of the longer one is swallowed, not shown."""
    rules = RuleSet.compile(
        [Rule("long", "[LONG]", LiteralPattern("abcdef")), Rule("in", "[IN]", LiteralPattern("cd"))]
    )
    assert stream(rules, list("xabcdefx")) == stream(rules, ["xabcdefx"]) == "x[IN]x"


def test_a_match_that_is_complete_early_swallows_what_makes_it_longer() -> None:
    """A key is complete with its shortest body: what follows belongs to it and is not shown after the replacement."""
    redactor = Redactor(RULES)
    assert redactor.feed("sk-0123456789abcdef") == [Redacted("keys", "[KEY]", 0)]
    assert redactor.feed("GhEf5678IjKl9012") == []
    assert redactor.held_chars == 0
    assert shown(redactor.feed(" is it")) == " is "


def test_growth_that_may_fail_is_held_and_released_if_it_does() -> None:
    """`.co` after a whole address may be its end or the next sentence."""
    redactor = Redactor(RULES)
    assert shown(redactor.feed("a@b.com")) == "[EMAIL]"
    assert redactor.feed(".") == []
    assert redactor.held_chars == 1
    assert shown(redactor.feed(" Bye")) == ". "


def test_a_chain_of_overlapping_matches_holds_nothing() -> None:
    """Each match starts inside the one before: a run is swallowed as it comes, so the hold-back stays bounded."""
    rules = one(LiteralPattern("abab"))
    redactor = Redactor(rules)
    for piece in ["ab"] * 5_000:
        redactor.feed(piece)
        assert redactor.held_chars <= 2
    assert redactor.statistics().held_max_chars == 2
    assert stream(rules, ["ab"] * 3) == stream(rules, ["ababab"]) == "[X]"
    assert shown([*redactor.feed("c"), *redactor.finish()]) == "c"


def test_a_bigger_rule_set_never_shows_more() -> None:
    """The second rule's match is part of the first one's, or overlaps it: adding it uncovers nothing."""
    text = f"x {CARD} sk-{'4' * 20}@example.com projectnightfall@b.com 4111111111111111@x.com y"
    rules = list(RULES.rules)
    gone: set[int] = set()
    for count in range(len(rules) + 1):
        redactor = Redactor(RuleSet.compile(rules[:count]))
        redactor.feed(text)
        redactor.finish()
        ranges = [r for finding in redactor.statistics().findings for r in finding.ranges]
        now = {place for start, end in ranges for place in range(start, end)}
        assert gone <= now
        assert count == 0 or gone < now
        gone = now


def test_an_invisible_character_after_a_shown_replacement_is_swallowed() -> None:
    """It belongs to the hidden character before it, and would betray where that ended."""
    redactor = Redactor(one(LiteralPattern("secret")))
    assert shown(redactor.feed("a secret")) == "a [X]"
    assert redactor.feed("\u200b\u200d") == []
    assert shown(redactor.feed("\u0301.")) == "."


# Clean text ---------------------------------------------------------------------------------------------------------


def test_clean_text_stays_as_it_is_byte_for_byte() -> None:
    """Double spaces, line ends, tabs, trailing blanks and characters of any script."""
    text = "One.  Two.   Three.\r\n\n\tFour.\u00a0 日本🙂 e\u0301\u200b ﬁn 4111 a@b  \n"
    for size in (1, 2, 7, 1000):
        assert stream(RULES, tokens(text, size)).encode() == text.encode()


def test_a_text_that_never_ends_a_sentence_is_shown_word_by_word() -> None:
    """Nothing waits for a full stop."""
    redactor = Redactor(RULES)
    for _ in range(500):
        assert shown(redactor.feed("word ")) == "word "


def test_the_last_128_characters_arrive_also_after_an_early_match() -> None:
    """The end of the answer is not lost, and does not come as one block."""
    text = f"{KEY_37} {PROSE * 20}"
    redactor = Redactor(RULES)
    pieces = [shown(redactor.feed(piece)) for piece in tokens(text)]
    tail = shown(redactor.finish())
    assert "".join(pieces) + tail == f"[KEY] {PROSE * 20}"
    assert tail == ""
    assert max(map(len, pieces)) <= 12


def test_the_first_characters_are_not_held_for_a_window_to_fill() -> None:
    """An answer shorter than a window streams as well."""
    redactor = Redactor(RULES)
    assert [shown(redactor.feed(piece)) for piece in ("Yes, ", "it ", "is ")] == ["Yes, ", "it ", "is "]


def test_held_text_is_not_released_because_it_has_waited() -> None:
    """Nothing but text decides: empty pieces, however many, release nothing."""
    redactor = Redactor(RULES)
    redactor.feed("see 4111 1111")
    assert [redactor.feed("") for _ in range(1000)] == [[]] * 1000
    assert redactor.held_chars == 9


# Actions ------------------------------------------------------------------------------------------------------------


def test_a_mask_keeps_the_length_of_what_it_covers() -> None:
    """One mask character for each covered one, as it is covered, also while a match grows."""
    rules = one(KEY, "mask", "#")
    for size in (1, 5, 1000):
        assert stream(rules, tokens(f"a {KEY_37} b", size)) == f"a {'#' * 37} b"


def test_flagged_text_is_not_held() -> None:
    """A rule that only tells never delays."""
    redactor = Redactor(one(KEY, "flag"))
    assert [shown(redactor.feed(piece)) for piece in tokens(KEY_37)] == tokens(KEY_37)
    assert redactor.feed(".") == [Flagged("rule", 0, 37), TextDelta(".")]


def test_a_block_on_the_last_character_stops_before_its_match() -> None:
    """The match is known only by the end of the stream: its text is held until then, and dropped."""
    rules = one(KeywordsPattern(("secret",)), "block", "")
    events = staged(rules, [TextDelta("the sec"), TextDelta("ret"), STOP])
    assert events == [TextDelta("the "), Blocked("rule")]


def test_a_block_hides_its_match_and_all_that_follows_in_the_same_chunk() -> None:
    """What the model sends after the match is never shown, though it came with it."""
    rules = one(KEY, "block", "")
    assert staged(rules, [TextDelta(f"a {KEY_37} b"), TextDelta("c"), STOP]) == [TextDelta("a "), Blocked("rule")]


# Ends and failures --------------------------------------------------------------------------------------------------


def test_the_end_of_the_stream_releases_the_tail_before_the_end_is_told() -> None:
    """A number that is not whole is shown; a whole one is hidden."""
    assert staged(RULES, [TextDelta("see 4111 1111"), STOP]) == [TextDelta("see "), TextDelta("4111 1111"), STOP]
    assert staged(RULES, [TextDelta(f"see {CARD}"), STOP]) == [TextDelta("see "), Redacted("cards", "[CARD]", 4), STOP]


@pytest.mark.parametrize("error", [LOST, Cancelled("Stopped.")])
def test_an_error_and_a_cancel_drop_the_tail(error: ConnectionLost | Cancelled) -> None:
    """Half a number is no number yet, and must not be shown because the stream broke."""
    assert staged(RULES, [TextDelta("see 4111 1111 1111 11"), Aborted(error)]) == [TextDelta("see "), Aborted(error)]


def test_a_secret_that_a_failure_cuts_in_half_is_caught_after_the_resumption() -> None:
    """The guard keeps its state over the gap."""
    gap = [Interrupted(LOST, 12), Resumed("replay", 2, 0.1, 0)]
    events = staged(RULES, [TextDelta("Card 4111 11"), *gap, TextDelta("11 1111 1111."), STOP])
    assert visible(events) == "Card [CARD]."
    assert [event for event in events if event in gap] == gap


def test_the_reasoning_is_guarded_too_and_apart_from_the_answer() -> None:
    """A secret in the reasoning is one; half of one in each channel is none."""
    events = staged(RULES, [ReasoningDelta(f"the card {CARD} "), TextDelta(f"It is {CARD}."), STOP])
    assert "".join(e.text for e in events if isinstance(e, ReasoningDelta)) == "the card [CARD] "
    assert visible(e for e in events if not isinstance(e, ReasoningDelta)) == "It is [CARD]."


def test_a_rule_that_raises_ends_the_answer_and_shows_nothing_more() -> None:
    """Failing open would show what the rule was there to hide."""

    def fail(candidate: str) -> bool:
        raise RuntimeError(candidate)

    rules = one(RegularPattern(r"\d{4}", verifier=fail))
    *before, terminal = staged(rules, [TextDelta("code "), TextDelta("1234 and more"), TextDelta("more"), STOP])
    assert before == [TextDelta("code ")]
    assert isinstance(terminal, Aborted)
    assert isinstance(terminal.error, AnswerBlocked)
    assert terminal.error.exit_code == 4
    assert "1234" not in f"{terminal.error.message}{terminal.error.hint}"


def test_a_guard_that_has_ended_shows_nothing_more() -> None:
    """A late chunk after a cancel is refused, not passed on."""
    redactor = Redactor(RULES)
    redactor.feed("see 4111")
    assert redactor.cancel() == 4
    with pytest.raises(GuardStateError):
        redactor.feed("5")


def test_findings_never_contain_the_text_they_are_about() -> None:
    """They go to logs and reports: names, places and counts only."""
    redactor = Redactor(RULES)
    events = redactor.feed(f"Ask bob@example.com, {CARD}, {KEY_37}. ")
    redacted = [event for event in events if isinstance(event, Redacted)]
    told = repr(redactor.statistics()) + repr(redacted) + repr(RULES.find(f"bob@example.com {CARD} {KEY_37}"))
    assert len(redacted) == 3
    for secret in ("bob", "example.com", "4111", "1111", "sk-", "AbCd"):
        assert secret not in told
