"""Rules and the immutable set of them that all streams of a process share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from utils.errors import ConfigError
from utils.guardrails.keys import KeyPattern
from utils.guardrails.literal import LiteralPattern
from utils.guardrails.personal import CardPattern, EmailPattern
from utils.guardrails.scanners import Match, Pattern

__all__ = ["MIN_OWN_KEY_CHARS", "Action", "Rule", "RuleSet", "Span", "default_rules", "secret_rules"]

Action = Literal["redact"]
"""What happens to matched text; `redact`: the rule's replacement is shown instead."""

MIN_OWN_KEY_CHARS = 12
"""A configured key shorter than this is a word (`test`, `ollama`), not a secret: hiding it would spoil the answer."""


@dataclass(frozen=True, slots=True)
class Rule:
    """*id* names the rule in events and reports; *replacement* is shown for each run of hidden text it labels."""

    id: str
    replacement: str
    pattern: Pattern
    action: Action = "redact"


@dataclass(frozen=True, slots=True)
class Span:
    """*rule* covers [raw_start, raw_end), in code points. Never carries the text."""

    rule: str
    raw_start: int
    raw_end: int


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Checked rules in their order. Immutable: any number of streams may use one set at the same time."""

    rules: tuple[Rule, ...]

    @classmethod
    def compile(cls, rules: Iterable[Rule]) -> RuleSet:
        """Check *rules* and make them a set.

        Raises: ConfigError if an id is empty or used twice, or a literal is empty (it would match everywhere).
        """
        checked = tuple(rules)
        seen: set[str] = set()
        for rule in checked:
            if not rule.id:
                raise ConfigError("A guard rule has an empty id.", hint="Give each rule an id of its own.")
            if rule.id in seen:
                raise ConfigError(f"Two guard rules have the id {rule.id!r}.", hint="Give each rule an id of its own.")
            if isinstance(rule.pattern, LiteralPattern) and not rule.pattern.text:
                raise ConfigError(
                    f"The guard rule {rule.id!r} matches the empty text.", hint="Give it at least one character."
                )
            seen.add(rule.id)
        return cls(checked)

    def find(self, text: str) -> tuple[Span, ...]:
        """The union of the matches of each rule on the finished *text*, by rule order, then by place.

        The scanners are those that guard a stream, so that batch and streaming agree. Time is linear in the text.
        """
        spans: list[Span] = []
        for rule in self.rules:
            matches: list[Match] = []
            scanner = rule.pattern.scanner()
            scanner.scan(text, 0, matches)
            scanner.finish(len(text), matches)
            joined: list[tuple[int, int]] = []
            for start, _, end in sorted(matches):
                if joined and start <= joined[-1][1]:
                    joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
                else:
                    joined.append((start, end))
            spans.extend(Span(rule.id, start, end) for start, end in joined)
        return tuple(spans)


def secret_rules(own_key: str | None) -> RuleSet:
    """API keys, and *own_key* verbatim if it has at least `MIN_OWN_KEY_CHARS` characters."""
    rules = [Rule("api_key", "[KEY]", KeyPattern())]
    if own_key is not None and len(own_key) >= MIN_OWN_KEY_CHARS:
        rules.insert(0, Rule("own_key", "[KEY]", LiteralPattern(own_key)))
    return RuleSet.compile(rules)


def default_rules(own_key: str | None) -> RuleSet:
    """Secrets (see `secret_rules`), payment cards and e-mail addresses, all redacted."""
    personal = (Rule("payment_card", "[CARD]", CardPattern()), Rule("email", "[EMAIL]", EmailPattern()))
    return RuleSet.compile((*secret_rules(own_key).rules, *personal))
