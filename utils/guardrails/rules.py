"""Rules and the immutable set of them that all streams of a process share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from utils.errors import ConfigError
from utils.guardrails.compiled import Compiled, Reader
from utils.guardrails.fold import fold
from utils.guardrails.literal import LiteralPattern
from utils.guardrails.offsets import Offsets
from utils.guardrails.scanners import Match, Pattern

__all__ = [
    "MASK",
    "Action",
    "Rule",
    "RuleSet",
    "Severity",
    "Span",
]

Action = Literal["redact", "mask", "block", "flag"]
"""What happens to matched text.

`redact`: the rule's replacement is shown instead. `mask`: one character for each covered one. `block`: the stream ends.
`flag`: the text stays, the finding is told.
"""

_HIDING = ("redact", "mask", "block")

Severity = Literal["low", "medium", "high"]

MASK = "*"
"""Shown for each character that a `mask` rule covers, unless the rule's replacement is another single character."""


@dataclass(frozen=True, slots=True)
class Rule:
    """*id* names the rule in events and reports; *replacement* is shown for each run of hidden text it labels."""

    id: str
    replacement: str
    pattern: Pattern
    action: Action = "redact"
    description: str = ""
    severity: Severity = "medium"


class Span(NamedTuple):
    """*rule* covers [raw_start, raw_end), in code points. Never carries the text."""

    rule: str
    raw_start: int
    raw_end: int


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Checked rules in their order. Immutable: any number of streams may use one set at the same time."""

    rules: tuple[Rule, ...]
    hiding: Compiled = field(init=False, repr=False, compare=False)
    """The rules that hold text back: redact, mask and block."""
    flagging: Compiled = field(init=False, repr=False, compare=False)
    blocking: Compiled = field(init=False, repr=False, compare=False)
    """The rules of `hiding` that block, once more: they tell where a piece must be cut."""

    def __post_init__(self) -> None:
        for name, actions in (("hiding", _HIDING), ("flagging", ("flag",)), ("blocking", ("block",))):
            chosen = [(n, rule.id, rule.pattern) for n, rule in enumerate(self.rules) if rule.action in actions]
            object.__setattr__(self, name, Compiled(chosen))

    @classmethod
    def compile(cls, rules: Iterable[Rule]) -> RuleSet:
        """Check *rules* and make them a set.

        Raises: ConfigError if an id is empty or used twice, a pattern matches the empty text or cannot be matched while
        text streams (with its place and the reason), or the replacement of a `mask` rule is longer than one character.
        """
        checked = tuple(rules)
        seen: set[str] = set()
        for rule in checked:
            if not rule.id:
                raise ConfigError("a guard rule has an empty id", hint="give each rule an id of its own")
            if rule.id in seen:
                raise ConfigError(f"two guard rules have the id {rule.id!r}", hint="give each rule an id of its own")
            if isinstance(rule.pattern, LiteralPattern) and not rule.pattern.folded:
                raise ConfigError(
                    f"the guard rule {rule.id!r} matches the empty text", hint="give it at least one character"
                )
            if rule.action == "mask" and len(rule.replacement) > 1:
                raise ConfigError(
                    f"the guard rule {rule.id!r} masks with {rule.replacement!r}",
                    hint="a mask is one character, shown for each one that is covered",
                )
            seen.add(rule.id)
        return cls(checked)

    def find(self, text: str) -> tuple[Span, ...]:
        """The union of the matches of each rule on the finished *text*, by rule order, then by place.

        The scanners are those that guard a stream, so that batch and streaming agree. Time is linear in the text.
        """
        offsets = Offsets()
        folded = text
        if text.isascii():
            offsets.folded = offsets.raw = len(text)
        else:
            parts = fold(text)
            offsets.add(parts)
            folded = "".join(parts)
        matches: list[Match] = []
        for compiled in (self.hiding, self.flagging):
            reader = Reader(compiled)
            reader.scan(folded, 0, matches)
            reader.finish(len(folded), matches)
        by_rule: dict[int, list[tuple[int, int]]] = {}
        for match in matches:
            by_rule.setdefault(match.rule, []).append((offsets.start(match.start), offsets.end(match.end)))
        spans: list[Span] = []
        for order in sorted(by_rule):
            joined: list[tuple[int, int]] = []
            for start, end in sorted(by_rule[order]):
                if joined and start <= joined[-1][1]:
                    joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
                else:
                    joined.append((start, end))
            spans.extend(Span(self.rules[order].id, start, end) for start, end in joined)
        return tuple(spans)
