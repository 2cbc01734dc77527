"""Disguised secrets: the table of docs/guardrails.md is what the guard does, however the text is cut."""

# ruff: noqa: RUF001  (look-alikes are the subject)

from __future__ import annotations

import re
import sys
from functools import cache

import pytest

from tests.guardrails.guard_oracle import stream
from tests.guardrails.unicode_table import (
    CAUGHT,
    DISGUISES,
    IN_PART,
    NONE,
    NOT_CAUGHT,
    PAGE,
    RULES,
    SECRETS,
    Disguise,
    table,
)
from utils.byte_guard import ByteGuard
from utils.guardrails.fold import fold, fold_character
from utils.guardrails.patterns import KeywordsPattern, RegularPattern
from utils.guardrails.redactor import Redactor
from utils.guardrails.scanners import Match


def documented() -> dict[tuple[str, str], str]:
    """(disguise, kind) -> verdict, as the page says."""
    rows = PAGE.read_text(encoding="utf-8").split("| disguise |")[1].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {(name, kind): verdict for name, *verdicts in cells for kind, verdict in zip(SECRETS, verdicts, strict=True)}


VERDICTS = documented()
CASES = [
    pytest.param(disguise, kind, id=f"{disguise.name}-{kind}")
    for disguise in DISGUISES
    for kind in SECRETS
    if disguise.sample(kind) is not None
]


def through_bytes(kind: str, pieces: list[bytes]) -> str:
    guard = ByteGuard(Redactor(RULES[kind]))
    return (b"".join(map(guard.feed, pieces)) + guard.finish()).decode()


def test_the_page_has_the_table_of_what_is_caught() -> None:
    assert "\n".join(table()) in PAGE.read_text(encoding="utf-8")


def test_every_disguise_of_the_page_is_tried() -> None:
    assert set(VERDICTS) == {(disguise.name, kind) for disguise in DISGUISES for kind in SECRETS}
    tried = {(disguise.name, kind) for disguise in DISGUISES for kind in SECRETS if disguise.sample(kind) is not None}
    assert tried == {key for key, verdict in VERDICTS.items() if verdict != NONE}
    assert set(VERDICTS.values()) <= {CAUGHT, IN_PART, NOT_CAUGHT, NONE}


@pytest.mark.parametrize(("disguise", "kind"), CASES)
def test_a_disguised_secret_is_caught_or_not_as_the_page_says_at_every_cut(disguise: Disguise, kind: str) -> None:
    whole = f"{disguise.before}{disguise.sample(kind)}{disguise.after}"
    hidden = f"{disguise.before}[X]{disguise.after}"
    visible = stream(RULES[kind], [whole])
    match VERDICTS[disguise.name, kind]:
        case "caught":
            assert visible == hidden
        case "no":
            assert visible == whole
        case verdict:
            assert verdict == IN_PART
            assert visible not in (whole, hidden)
    assert stream(RULES[kind], list(whole)) == visible
    for cut in range(1, len(whole)):
        assert stream(RULES[kind], [whole[:cut], whole[cut:]]) == visible
    data = whole.encode()
    assert through_bytes(kind, [data[n : n + 1] for n in range(len(data))]) == visible
    for cut in range(1, len(data)):  # also inside of characters
        assert through_bytes(kind, [data[:cut], data[cut:]]) == visible


# Case --------------------------------------------------------------------------------------------------------------


def matches(pattern: KeywordsPattern | RegularPattern, text: str) -> bool:
    folded = "".join(fold(text))
    found: list[Match] = []
    scanner = pattern.scanner()
    scanner.scan(folded, 0, found)
    scanner.finish(len(folded), found)
    return bool(found)


@cache
def cased() -> list[tuple[str, set[str]]]:
    """Every character that has another case and does not vanish, with all its cases."""
    characters = map(chr, range(sys.maxunicode + 1))
    forms = ((c, {c, c.lower(), c.upper(), c.title()}) for c in characters)
    return [(c, cases) for c, cases in forms if len(cases) > 1 and fold_character(c)]


def test_a_keyword_without_case_is_found_in_every_case_of_its_letters() -> None:
    missed = [(c, case) for c, cases in cased() for case in cases if not matches(KeywordsPattern((c * 3,)), case * 3)]
    assert missed == []


def test_a_pattern_without_case_matches_every_case_of_its_letters() -> None:
    missed = [
        (c, case) for c, cases in cased() for case in cases if not matches(RegularPattern(f"(?i){c * 3}"), case * 3)
    ]
    assert missed == []


def test_a_class_without_case_has_every_case_of_its_characters() -> None:
    single = [(c, [x for x in cases if len(x) == 1 == len(fold_character(x))]) for c, cases in cased()]
    missed = [
        (c, case)
        for c, cases in single
        if c in cases
        for case in cases
        for members in (c, f"{c}-{c}")
        if not matches(RegularPattern(f"(?i)[{members}]{{3}}"), case * 3)
    ]
    assert missed == []


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("μυστικό", "ΜΥΣΤΙΚΌ"),
        ("μυστικό", "Μυστικό"),
        ("ΗΛΙΟΣ", "ηλιος"),
        ("ηλιος", "Ηλιος"),
        ("οδος", "ΟΔΟΣ"),
        ("νυν και αει", "Νυν Και Αει"),
        ("ӏам", "Ӏам"),
        ("ɓera", "ƁERA"),
        ("հայ", "ՀԱՅ"),
    ],
)
def test_words_are_found_in_the_other_case(word: str, text: str) -> None:
    for pattern in (KeywordsPattern((word,)), RegularPattern(re.escape(word), ignore_case=True)):
        assert matches(pattern, f"({text})")
    assert not matches(KeywordsPattern((word,), ignore_case=False), text)


def test_a_capital_stays_outside_of_a_negated_class_without_case() -> None:
    assert not matches(RegularPattern("(?i)x[^η]y"), "xΗy")
    assert matches(RegularPattern("(?i)ζώνη[0-9]+"), "ΖΏΝΗ12")
