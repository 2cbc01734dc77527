"""A small set of rules for tests of what guards a stream, so that these do not depend on what the packs have."""

from __future__ import annotations

from functools import cache

from utils.guardrails.patterns import CardPattern, EmailPattern, LiteralPattern, RegularPattern
from utils.guardrails.rules import Rule, RuleSet

__all__ = ["API_KEY", "KEY_PREFIXES", "sample_rules"]

_SHAPES = (
    "sk-[A-Za-z0-9_-]{16,}",
    "gh[pousr]_[A-Za-z0-9]{20,}",
    "github_pat_[A-Za-z0-9_]{20,}",
    "A[KS]IA[A-Z0-9]{16,}",
    "AIza[A-Za-z0-9_-]{30,}",
    "xox[abeprs]-[A-Za-z0-9-]{10,}",
    "hf_[A-Za-z0-9]{20,}",
    r"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}(?:\.[A-Za-z0-9_-]+)?",
)

KEY_PREFIXES = (
    *("sk-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "AKIA", "ASIA", "AIza"),
    *("xoxa-", "xoxb-", "xoxe-", "xoxp-", "xoxr-", "xoxs-", "hf_"),
)
"""What a key may start with; a body of capital letters and digits goes with each."""

API_KEY = Rule("api_key", "[KEY]", RegularPattern(rf"(?:\b|_)(?:{'|'.join(_SHAPES)})"), severity="high")
"""Keys of eight shapes at the start of a word, or behind an underscore, which is hidden too."""


@cache
def sample_rules(own_key: str | None = None) -> RuleSet:
    """The rules own_key (verbatim, if there is one), api_key, payment_card and email; all redact."""
    rules = [
        API_KEY,
        Rule("payment_card", "[CARD]", CardPattern()),
        Rule("email", "[EMAIL]", EmailPattern()),
    ]
    if own_key is not None:
        rules.insert(0, Rule("own_key", "[KEY]", LiteralPattern(own_key), severity="high"))
    return RuleSet.compile(rules)
