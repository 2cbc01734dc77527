"""Addresses, cards, a key and a literal, defined a second time in the plainest way, and what must be shown and held.

Every pair (start, end) is tried on its own, on the whole text: nothing here is incremental, and nothing is shared with
the code under test. Random rules and keywords have an oracle of their own (engine_oracle.py).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable
from functools import cache

from tests.guardrails.engine_oracle import replaced
from utils.events import Redacted, TextDelta
from utils.guardrails.patterns import CardPattern, EmailPattern, LiteralPattern, RegularPattern
from utils.guardrails.redactor import GuardEvent, Redactor
from utils.guardrails.rules import Rule, RuleSet
from utils.guardrails.scanners import Pattern

OWN_KEY = "my-key-my-key-1"
REPLACEMENTS = {"own_key": "[KEY]", "api_key": "[KEY]", "payment_card": "[CARD]", "email": "[EMAIL]"}
RULES = tuple(REPLACEMENTS)  # in rule order

KEY_SOURCE = r"(?:sk-[A-Za-z0-9_-]{16,}|A[KS]IA[A-Z0-9]{16,}|eyJ[A-Za-z0-9_-]{10,}[.]eyJ[A-Za-z0-9_-]{10,})"

_email = re.compile(r"[A-Za-z0-9][A-Za-z0-9._%+'-]{0,253}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}")
_key = re.compile(KEY_SOURCE)
_card = re.compile(r"[0-9]{3,}(?:[ -][0-9]{3,})*")
_issued = re.compile(
    r"4(?=(?:.{12}|.{15}|.{18})\Z)|5[1-5](?=.{14}\Z)|3[47](?=.{13}\Z)|30[0-5](?=.{11,16}\Z)|3[689](?=.{12,17}\Z)"
    r"|(?:222[1-9]|22[3-9].|2[3-6]..|27[01].|2720)(?=.{12}\Z)|35(?:2[89]|[3-8].)(?=.{12,15}\Z)"
    r"|(?:50|5[678]|6.)(?=.{11,17}\Z)|220[0-4](?=.{12,15}\Z)|8[12](?=.{14}\Z)"
)

FRAGMENTS = (
    *(
        "a",
        "Zq",
        " ",
        "  ",
        "\n",
        ".",
        "-",
        "_",
        "@",
        "%",
        "é",
        "1",
        "0.",
        "@@",
        ". ",
        "'",
        "x@",
        "x@y.co",
        ".c",
        ".com",
    ),
    *("sk-", "task-", "AKIA", "eyJ", ".eyJ", "s", "sk", "A"),
    *("Ab1Cd2Ef3G", "QWERTYUIOP123456", "abcdefghij0123456789", "0123-4567_"),
    *("4111111111111111", "4111 1111", " 1111 1111", "-1111", "378282246310005", "4222222222222", "00", "4 1 1 1 "),
    *("6304000000000000000", "0.4111111111111111", "5555 5555", " 5555 4444", "352", "222", "2720", "81", "666666"),
    *("5105105105105100", "3530111333300000", "3782 822463 10005", "30569309025904", "411 "),
    *(OWN_KEY, OWN_KEY[:-1], OWN_KEY[:7], OWN_KEY[7:]),
)
CARD_FRAGMENTS = (
    *(" ", "-", "  ", ".", "0", "1", "4", "5", "6", "8", "00", "11", "111", "1111", "000", "666666", "6666666"),
    *("4111", "4111111111111111", "5555", "5555 5555 5555 4444", "3782 822463 10005", "222", "6304", "81", "352"),
    *("0000 0000", " 1111 1111 1111", "37828224631000", "4222222222222", "x"),
)


@cache
def rules() -> RuleSet:
    """The rules that are defined here."""
    patterns: dict[str, Pattern] = {
        "own_key": LiteralPattern(OWN_KEY),
        "api_key": RegularPattern(rf"\b{KEY_SOURCE}"),
        "payment_card": CardPattern(),
        "email": EmailPattern(),
    }
    return RuleSet.compile(Rule(name, REPLACEMENTS[name], pattern) for name, pattern in patterns.items())


def random_text(rng: random.Random) -> str:
    """Pieces of secrets, or of card numbers alone, at most 110 characters."""
    fragments = rng.choice((FRAGMENTS, FRAGMENTS, CARD_FRAGMENTS))
    return "".join(rng.choices(fragments, k=rng.randint(0, 9)))[:110]


def luhn(digits: str) -> bool:
    doubled = [sum(divmod(2 * int(d), 10)) for d in digits[-2::-2]]
    return (sum(doubled) + sum(map(int, digits[-1::-2]))) % 10 == 0


def is_email(text: str, start: int, end: int) -> bool:
    return _email.fullmatch(text, start, end) is not None


def is_key(text: str, start: int, end: int) -> bool:
    return re.match("[A-Za-z0-9_]", text[start - 1 : start]) is None and _key.fullmatch(text, start, end) is not None


def is_own_key(text: str, start: int, end: int) -> bool:
    return text[start:end] == OWN_KEY


def is_card(text: str, start: int, end: int) -> bool:
    if re.search(r"(?:[0-9]|[0-9]\.)\Z", text[:start]) or re.match("[0-9]", text[end:]):
        return False
    if _card.fullmatch(text, start, end) is None:
        return False
    digits = re.sub("[ -]", "", text[start:end])
    return _issued.match(digits) is not None and len(set(digits)) > 1 and luhn(digits)


MATCHERS: dict[str, Callable[[str, int, int], bool]] = {
    "own_key": is_own_key,
    "api_key": is_key,
    "payment_card": is_card,
    "email": is_email,
}


def matches(text: str, rules: Iterable[str] = RULES) -> list[tuple[int, int, str]]:
    """All matches (start, end, rule) of the whole text. Its only character that is not ASCII, é, reads as e."""
    text = text.replace("é", "e")
    return [
        (start, end, rule)
        for rule in rules
        for start in range(len(text))
        for end in range(start + 6, len(text) + 1)  # no rule matches fewer than the six characters of a@b.cd
        if MATCHERS[rule](text, start, end)
    ]


def covered(text: str, rules: Iterable[str] = RULES) -> set[int]:
    """The positions that some match covers."""
    return {position for start, end, _ in matches(text, rules) for position in range(start, end)}


def expected(text: str, rules: Iterable[str] = RULES) -> str:
    """What a redactor must have shown at the end: each maximal run of covered characters replaced once."""
    found = matches(text, rules)

    def replacement(begin: int, run_end: int) -> str:
        inside = [match for match in found if begin <= match[0] < run_end]
        label = min(inside, key=lambda m: (m[1], m[0], m[2] == "payment_card", RULES.index(m[2])))
        return REPLACEMENTS[label[2]]

    return replaced(text, ((start, end) for start, end, _ in found), replacement)


def shown(events: Iterable[GuardEvent]) -> str:
    """The text that a reader sees."""
    texts = []
    for event in events:
        assert isinstance(event, TextDelta | Redacted), event
        texts.append(event.text if isinstance(event, TextDelta) else event.replacement)
    return "".join(texts)


def stream(rules: RuleSet, pieces: Iterable[str]) -> str:
    """What a reader has seen after the whole stream."""
    redactor = Redactor(rules)
    seen = [shown(redactor.feed(piece)) for piece in pieces]
    return "".join([*seen, shown(redactor.finish())])


def subset(rules: RuleSet, ids: Iterable[str]) -> RuleSet:
    """Those of *rules* whose id is in *ids*."""
    return _subset(rules.rules, frozenset(ids))


@cache
def _subset(rules: tuple[Rule, ...], ids: frozenset[str]) -> RuleSet:
    return RuleSet.compile(rule for rule in rules if rule.id in ids)


def _continuations() -> dict[str, list[str]]:
    """By rule: whatever a live start needs, one of these completes."""
    keys = ["sk-0123456789abcdef", "AKIA0123456789ABCDEF", "ASIA0123456789ABCDEF", "eyJ0123456789.eyJ0123456789"]
    prefixes = ["", "1", "8", "28"]  # with zeros, what the first digits of some issuer's numbers need
    digits = [
        prefix + "0" * zeros + check
        for prefix in prefixes
        for zeros in range(19 - len(prefix))
        for check in "0123456789"
    ]
    return {
        "own_key": [OWN_KEY[cut:] for cut in range(1, len(OWN_KEY))],
        "api_key": sorted({key[cut:] for key in keys for cut in range(1, len(key))} | {"0", "A"}, key=len),
        "payment_card": ["", *digits],
        "email": ["a", "aa", ".aa", "a.aa", "@a.aa"],
    }


CONTINUATIONS = _continuations()


def held(text: str, rules: Iterable[str] = RULES) -> int:
    """How much of *text* must be held: live starts are found by trying every continuation."""
    form = text.replace("é", "e")
    first = len(form)
    hidden: set[int] = set()
    for rule in rules:
        for continuation in CONTINUATIONS[rule]:
            whole = form + continuation
            first = next((start for start in range(first) if MATCHERS[rule](whole, start, len(whole))), first)
        late = rule == "payment_card"  # known only by the character after it
        hidden.update(
            place for start, end, _ in matches(form, [rule]) if end + late <= len(form) for place in range(start, end)
        )
    place = 0
    while place < len(form) and (place in hidden or place < first):
        place += 1
    return len(form) - place
