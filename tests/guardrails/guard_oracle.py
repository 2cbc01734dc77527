"""The definitions of the rules, written a second time in the plainest way, and what a redactor must show for a text.

Every pair (start, end) is tried on its own, on the whole text: nothing here is incremental, and nothing is shared with
the code under test.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from utils.events import Redacted, TextDelta
from utils.guardrails.redactor import GuardEvent, Redactor
from utils.guardrails.rules import RuleSet

OWN_KEY = "my-key-my-key-1"
REPLACEMENTS = {"own_key": "[KEY]", "api_key": "[KEY]", "payment_card": "[CARD]", "email": "[EMAIL]"}
RULES = tuple(REPLACEMENTS)  # in rule order

_email = re.compile(r"[A-Za-z0-9][A-Za-z0-9._%+'-]{0,253}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}")
_key = re.compile(
    r"sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|A[KS]IA[A-Z0-9]{16,}"
    r"|AIza[A-Za-z0-9_-]{30,}|xox[abeprs]-[A-Za-z0-9-]{10,}|hf_[A-Za-z0-9]{20,}"
    r"|eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}(?:\.[A-Za-z0-9_-]+)?"
)
_card = re.compile(r"[0-9](?:[ -]?[0-9]){12,18}")


def luhn(digits: str) -> bool:
    doubled = [sum(divmod(2 * int(d), 10)) for d in digits[-2::-2]]
    return (sum(doubled) + sum(map(int, digits[-1::-2]))) % 10 == 0


def is_email(text: str, start: int, end: int) -> bool:
    return _email.fullmatch(text, start, end) is not None


def is_key(text: str, start: int, end: int) -> bool:
    return re.match("[A-Za-z0-9]", text[start - 1 : start]) is None and _key.fullmatch(text, start, end) is not None


def is_own_key(text: str, start: int, end: int) -> bool:
    return text[start:end] == OWN_KEY


def is_card(text: str, start: int, end: int) -> bool:
    if re.search(r"(?:[0-9]|[0-9]\.)\Z", text[:start]) or re.match("[0-9]", text[end:]):
        return False
    return _card.fullmatch(text, start, end) is not None and luhn(re.sub("[ -]", "", text[start:end]))


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
    hidden = {position for start, end, _ in found for position in range(start, end)}
    shown: list[str] = []
    position = 0
    while position < len(text):
        if position not in hidden:
            shown.append(text[position])
            position += 1
            continue
        run_end = position
        while run_end in hidden:
            run_end += 1
        inside = [match for match in found if position <= match[0] < run_end]
        label = min(inside, key=lambda m: (m[1], m[0], m[2] == "payment_card", RULES.index(m[2])))
        shown.append(REPLACEMENTS[label[2]])
        position = run_end
    return "".join(shown)


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
    wanted = set(ids)
    return RuleSet.compile(rule for rule in rules.rules if rule.id in wanted)
