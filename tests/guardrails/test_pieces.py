"""Short cuts for pieces that were seen before: they change no event, and are bounded."""

from __future__ import annotations

import random

import pytest

from utils.events import Redacted
from utils.guardrails import scanners
from utils.guardrails.patterns import KeywordsPattern
from utils.guardrails.policy import compile_rules
from utils.guardrails.redactor import GuardEvent, Redactor
from utils.guardrails.rules import Rule, RuleSet
from utils.guardrails.scanners import Pieces

VOCABULARY = (
    *(" DE89370400440532013000 or ", " 10.0.0.1, 10.0.0.2; "),
    *("The ", "keeper", " of", " the", " light", "house", ". ", "\n", "1", "4111", " 1111", "-", "ghp_", "aB3dE6gH9j"),
    *(
        "sk-",
        "proj-",
        "night",
        "fall",
        "Night",
        "fallen ",
        "mail ",
        "bob@",
        "example",
        ".com",
        " DE89",
        "3704",
        " 0044",
    ),
    *(
        " 0044",
        "AKIA",
        "IOSFODNN7EXAMPLE",
        "::1",
        "fe80",
        "10.0.0",
        ".1",
        "+49 ",
        "170 ",
        "é",
        "漢字",
        "\u200b",
        "ﬁne ",
        "",
    ),
)


PHRASES = (
    ("ghp_", "aB3dE6gH9j", "aB3dE6gH9j", "aB3dE6gH9j", "kL2nO5", " "),
    (" ", "4111", " 1111", " 1111", " 1111", "\n"),
    ("mail ", "bob@", "example", ".com", " "),
    (" night", "fall", " "),
    ("keeper", " of", " the"),
    (" IP 10.0.0", ".1", " and ", "fe80", "::1", " "),
    (" DE89", "3704", " 0044", " 0532", " 0130", " 00", "\n"),
)


def stream(rng: random.Random) -> list[str]:
    """Pieces: words, and phrases that are matches or, cut short, nearly some."""
    pieces: list[str] = []
    for _ in range(rng.randrange(12)):
        pieces += rng.choices(VOCABULARY, k=rng.randrange(5))
        phrase = rng.choice(PHRASES)
        pieces += phrase[: rng.choice((len(phrase), rng.randrange(len(phrase))))]
    return pieces


def rules() -> RuleSet:
    built_in = compile_rules(("pii", "secrets"))
    words = [
        Rule("own.word", "[WORD]", KeywordsPattern(("nightfall", "light house"), whole_word=True, ignore_case=True)),
        Rule("own.part", "[PART]", KeywordsPattern(("keeper of",), whole_word=False, ignore_case=False)),
    ]
    return RuleSet.compile((*built_in.rules, *words))


def events(rule_set: RuleSet, pieces: list[str]) -> list[list[GuardEvent]]:
    redactor = Redactor(rule_set)
    return [*(redactor.feed(piece) for piece in pieces), redactor.finish()]


@pytest.mark.parametrize("most", [8_192, 7])
def test_what_was_read_before_changes_no_event(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanners, "_PIECES_MAX", most)
    rng = random.Random(most)
    used = rules()
    found = 0
    for number in range(25):
        pieces = stream(rng)
        fresh = rules()
        expected = events(fresh, pieces)
        # Without any short cut, as they are only made for what was read by the same rules before.
        assert events(used, pieces) == expected, f"stream {number}: {pieces}"
        assert events(used, pieces) == expected, f"stream {number}, read again: {pieces}"
        found += sum(isinstance(event, Redacted) for row in expected for event in row)
    assert found > 20


def test_they_are_bounded_in_number_and_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanners, "_PIECES_MAX", 10)
    pieces: Pieces[int] = Pieces()
    table: dict[str, int] = {"x": 0}
    for number in range(1_000):
        pieces.keep(table, f"piece {number}", number)
        pieces.keep(table, "x" * 33, number)
        pieces.keep(table, "y", number)
        assert len(table) <= 11
        assert table[f"piece {number}"] == number
    assert table["x"] == 0
    assert "y" not in table
    assert "x" * 33 not in table
