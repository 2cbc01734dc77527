"""The laws of the engine as checks of one random case each: the test suite runs some, the fuzz many."""

from __future__ import annotations

import random

from tests.guardrails.engine_oracle import (
    ASCII,
    FOLDS,
    UNICODE,
    blocked_at,
    expected,
    flagged,
    held,
    hidden_by,
    pieces,
    random_specs,
    random_text,
    rule_set,
    run,
)
from utils.guardrails.redactor import Redactor

__all__ = ["LAWS"]


def _alphabet(rng: random.Random) -> str:
    return rng.choice((ASCII, UNICODE))


def shows_the_text_with_the_union_of_all_matches_replaced(rng: random.Random) -> None:
    letters = _alphabet(rng)
    specs, rules = random_specs(rng, letters)
    for _ in range(3):
        text = random_text(rng, letters, 16)
        wanted = expected(specs, text)
        cuts = [[text], list(text), pieces(rng, text), *([text[:n], text[n:]] for n in range(1, len(text)))]
        for cut in cuts:
            got = run(rules, cut).text
            assert got == wanted, (specs, cut, got, wanted)


def holds_exactly_from_the_first_live_position(rng: random.Random) -> None:
    letters = "ab "
    specs, rules = random_specs(rng, letters, ("redact",), count=2, verified=False, most=5)
    text = random_text(rng, letters, 6)
    for n in range(len(text) + 1):
        redactor = Redactor(rules)
        redactor.feed(text[:n])
        got = redactor.held_chars
        wanted = held(specs, text[:n], letters, 3)
        if got > wanted:
            wanted = held(specs, text[:n], letters, 5)  # as many characters as the longest rule needs
        assert got == wanted, (specs, text[:n], got, wanted)


def an_added_rule_never_shows_more(rng: random.Random) -> None:
    letters = _alphabet(rng)
    specs, _ = random_specs(rng, letters, count=6)
    text = random_text(rng, letters, 16)
    gone: set[int] = set()
    for n in range(len(specs) + 1):
        redactor = Redactor(rule_set(specs[:n]))
        for piece in pieces(rng, text):
            redactor.feed(piece)
        redactor.finish()
        ranges = [r for finding in redactor.statistics().findings for r in finding.ranges]
        now = {place for start, end in ranges for place in range(start, end)}
        assert gone <= now, (specs, n, text)
        assert now == {place for _, start, end in hidden_by(specs[:n], text) for place in range(start, end)}
        gone = now


def a_mask_keeps_the_length(rng: random.Random) -> None:
    letters = _alphabet(rng)
    specs, rules = random_specs(rng, letters, ("mask",))
    text = random_text(rng, letters, 24)
    redactor = Redactor(rules)
    length = 0
    for piece in pieces(rng, text):
        length += sum(len(getattr(e, "text", "") or getattr(e, "replacement", "")) for e in redactor.feed(piece))
        assert length + redactor.held_chars == redactor.statistics().seen_chars, (specs, text)


def flags_hold_nothing_and_name_every_run(rng: random.Random) -> None:
    letters = _alphabet(rng)
    specs, rules = random_specs(rng, letters, ("flag", "redact"))
    text = random_text(rng, letters, 16)
    for cut in ([text], list(text), pieces(rng, text)):
        seen = run(rules, cut)
        assert seen.text == expected(specs, text), (specs, cut)
        assert seen.flags == flagged(specs, text), (specs, cut, seen.flags, flagged(specs, text))
    only_flags = rule_set([spec for spec in specs if spec.action == "flag"])
    redactor = Redactor(only_flags)
    redactor.feed(text)
    assert redactor.held_chars == 0


def a_block_drops_its_match_and_all_that_follows(rng: random.Random) -> None:
    letters = _alphabet(rng)
    specs, rules = random_specs(rng, letters, ("block", "redact", "mask"))
    text = random_text(rng, letters, 16)
    seen = [run(rules, cut) for cut in ([text], list(text), pieces(rng, text), pieces(rng, text))]
    assert all(one == seen[0] for one in seen), (specs, text, seen)
    block = blocked_at(specs, text)
    assert (seen[0].blocked is None) == (block is None), (specs, text)
    whole = expected(specs, text)
    if block is None:
        assert seen[0].text == whole
        return
    known, start = block
    assert whole.startswith(seen[0].text) or expected(specs, text[:known]).startswith(seen[0].text), (specs, text, seen)
    gone = {place for _, begin, end in hidden_by(specs, text) for place in range(begin, end)}
    plain = [c for n, c in enumerate(text[:start]) if n not in gone]
    shown_plain = [c for c in seen[0].text if c not in "<>0123456789#"]
    assert len(shown_plain) <= len(plain), (specs, text, seen)
    assert all(c in FOLDS or c in letters for c in shown_plain)


LAWS = {
    law.__name__: law
    for law in (
        shows_the_text_with_the_union_of_all_matches_replaced,
        holds_exactly_from_the_first_live_position,
        an_added_rule_never_shows_more,
        a_mask_keeps_the_length,
        flags_hold_nothing_and_name_every_run,
        a_block_drops_its_match_and_all_that_follows,
    )
}
