"""The laws of the engine as checks of one random case each: the test suite runs some, the fuzz many."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.guardrails import guard_oracle
from tests.guardrails.engine_oracle import (
    ASCII,
    FEW,
    FEW_UNICODE,
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
    source,
)
from utils.guardrails.redactor import Redactor

__all__ = ["LAWS", "Tally"]


@dataclass
class Tally:
    """What was tried: *texts*, matches in them that had to be *hidden*, and *prefixes* whose hold-back was checked.

    *held_longer*: by verifier, the prefixes that are held although no continuation could satisfy it, each because a
    candidate may still go on; *examples* of them.
    """

    texts: int = 0
    hidden: int = 0
    prefixes: int = 0
    held_longer: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)


Law = Callable[[random.Random, Tally], None]


def _alphabet(rng: random.Random) -> str:
    return rng.choice((ASCII, UNICODE))


def shows_the_text_with_the_union_of_all_matches_replaced(rng: random.Random, tally: Tally) -> None:
    _shows_the_union(rng, tally, 0.35)


def hides_every_candidate_that_its_verifier_accepts(rng: random.Random, tally: Tally) -> None:
    _shows_the_union(rng, tally, 1.0)


def _shows_the_union(rng: random.Random, tally: Tally, verified: float) -> None:
    letters = _alphabet(rng)
    specs, rules = random_specs(rng, letters, verified=verified)
    text = random_text(rng, letters, 16)
    wanted = expected(specs, text)
    cuts = [[text], list(text), pieces(rng, text), *([text[:n], text[n:]] for n in range(1, len(text)))]
    for cut in cuts:
        got = run(rules, cut).text
        assert got == wanted, (specs, cut, got, wanted)
    tally.texts += 1
    tally.hidden += len(hidden_by(specs, text))


def holds_exactly_from_the_first_live_position(rng: random.Random, tally: Tally) -> None:
    _holds_from_the_first_live_position(rng, tally, 0.0)


def holds_verified_candidates_only_while_they_may_go_on(rng: random.Random, tally: Tally) -> None:
    _holds_from_the_first_live_position(rng, tally, 1.0)


def _holds_from_the_first_live_position(rng: random.Random, tally: Tally, verified: float) -> None:
    letters = rng.choice((FEW, FEW, FEW_UNICODE))
    specs, rules = random_specs(rng, letters, ("redact",), count=2, verified=verified, most=5)
    text = random_text(rng, letters, 6)
    for n in range(len(text) + 1):
        redactor = Redactor(rules)
        redactor.feed(text[:n])
        got = redactor.held_chars
        least, most = held(specs, text[:n], FEW, 3)
        if not least == got == most:
            least, most = held(specs, text[:n], FEW, 5)  # as many characters as the longest rule needs
        assert got == most, (specs, text[:n], got, least, most)
        tally.prefixes += 1
        if least < got:
            (spec,) = [spec for spec in specs if spec.verified][:1]
            tally.held_longer[spec.verified] += 1
            shapes = [source(spec.tree) for spec in specs if spec.tree]
            tally.examples.setdefault(spec.verified, f"{shapes} on {text[:n]!r}: held {got}, satisfiable {least}")
    tally.texts += 1
    tally.hidden += len(hidden_by(specs, text))


def hides_and_holds_cards_addresses_and_keys_exactly(rng: random.Random, tally: Tally) -> None:
    wanted_rules = [rule for rule in guard_oracle.RULES if rng.random() < 0.7]
    rules = guard_oracle.subset(guard_oracle.rules(), wanted_rules)
    text = guard_oracle.random_text(rng)
    wanted = guard_oracle.expected(text, wanted_rules)
    for cut in ([text], list(text), pieces(rng, text)):
        got = guard_oracle.stream(rules, cut)
        assert got == wanted, (wanted_rules, cut, got, wanted)
    tally.texts += 1
    tally.hidden += len(guard_oracle.matches(text, wanted_rules))
    n = rng.randint(0, min(40, len(text)))
    redactor = Redactor(rules)
    redactor.feed(text[:n])
    least = guard_oracle.held(text[:n], wanted_rules)
    assert redactor.held_chars == least, (wanted_rules, text[:n], redactor.held_chars, least)
    tally.prefixes += 1


def an_added_rule_never_shows_more(rng: random.Random, tally: Tally) -> None:
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
    tally.texts += 1
    tally.hidden += len(hidden_by(specs, text))


def a_mask_keeps_the_length(rng: random.Random, tally: Tally) -> None:
    letters = _alphabet(rng)
    specs, rules = random_specs(rng, letters, ("mask",))
    text = random_text(rng, letters, 24)
    redactor = Redactor(rules)
    length = 0
    for piece in pieces(rng, text):
        length += sum(len(getattr(e, "text", "") or getattr(e, "replacement", "")) for e in redactor.feed(piece))
        assert length + redactor.held_chars == redactor.statistics().seen_chars, (specs, text)
        tally.prefixes += 1
    tally.texts += 1
    tally.hidden += len(hidden_by(specs, text))


def flags_hold_nothing_and_name_every_run(rng: random.Random, tally: Tally) -> None:
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
    tally.texts += 1
    tally.hidden += len(hidden_by(specs, text))


def a_block_drops_its_match_and_all_that_follows(rng: random.Random, tally: Tally) -> None:
    letters = _alphabet(rng)
    specs, rules = random_specs(rng, letters, ("block", "redact", "mask"))
    text = random_text(rng, letters, 16)
    seen = [run(rules, cut) for cut in ([text], list(text), pieces(rng, text), pieces(rng, text))]
    assert all(one == seen[0] for one in seen), (specs, text, seen)
    tally.texts += 1
    tally.hidden += len(hidden_by(specs, text))
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


LAWS: dict[str, Law] = {
    law.__name__: law
    for law in (
        shows_the_text_with_the_union_of_all_matches_replaced,
        hides_every_candidate_that_its_verifier_accepts,
        hides_and_holds_cards_addresses_and_keys_exactly,
        holds_exactly_from_the_first_live_position,
        holds_verified_candidates_only_while_they_may_go_on,
        an_added_rule_never_shows_more,
        a_mask_keeps_the_length,
        flags_hold_nothing_and_name_every_run,
        a_block_drops_its_match_and_all_that_follows,
    )
}
