"""Which rules guard a stream: the user's own keys, then the chosen packs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from utils.errors import ConfigError
from utils.guardrails.literal import LiteralPattern
from utils.guardrails.packs import BUILTIN, Pack, load_pack
from utils.guardrails.rules import MASK, Action, Rule, RuleSet

__all__ = ["DEFAULT_PACKS", "MIN_OWN_KEY_CHARS", "compile_rules"]

DEFAULT_PACKS = ("pii", "secrets", "profanity")
"""The packs that guard an answer when none is chosen."""

MIN_OWN_KEY_CHARS = 12
"""A configured key shorter than this is a word (`test`, `ollama`), not a secret: hiding it would spoil the answer."""


def compile_rules(packs: Iterable[str], *, action: Action | None = None, own_keys: Iterable[str] = ()) -> RuleSet:
    """The rules of *own_keys*, then those of *packs* (names or files) in their order.

    An own key is a secret from `MIN_OWN_KEY_CHARS` characters on: it is hidden verbatim, always redacted, with the id
    own_key (then own_key_2, ...). *action* replaces the action of every rule of a pack; a mask that has no single
    character of its own uses `MASK`. A pack that is given twice counts once.

    Raises: ConfigError if a pack cannot be used, or two different ones have one name.
    """
    chosen = tuple(dict.fromkeys(packs))
    keys = tuple(dict.fromkeys(key for key in own_keys if len(key) >= MIN_OWN_KEY_CHARS))
    if all(name in BUILTIN for name in chosen):
        return _compile_builtin(chosen, action, keys)
    return _compile(chosen, action, keys)


def _compile(names: tuple[str, ...], action: Action | None, keys: tuple[str, ...]) -> RuleSet:
    rules = [
        Rule(
            "own_key" if number == 1 else f"own_key_{number}",
            "[KEY]",
            LiteralPattern(key),
            description="your own API key, verbatim",
            severity="high",
        )
        for number, key in enumerate(keys, 1)
    ]
    for pack in _different(map(load_pack, names)):
        rules.extend(_with_action(entry.rule, action) for entry in pack.rules)
    return RuleSet.compile(rules)


_compile_builtin = lru_cache(maxsize=8)(_compile)  # a prompt and its answer are judged by the same rules


def _with_action(rule: Rule, action: Action | None) -> Rule:
    if action is None or action == rule.action:
        return rule
    mark = MASK if action == "mask" and len(rule.replacement) != 1 else rule.replacement
    if rule.action == "mask" and action == "redact":
        mark = f"[{rule.id.partition('.')[2].replace('_', ' ').replace('-', ' ').upper()}]"
    return replace(rule, action=action, replacement=mark)


def _different(packs: Iterable[Pack]) -> list[Pack]:
    known: dict[str, Pack] = {}
    for pack in packs:
        other = known.setdefault(pack.name, pack)
        if other is not pack and _file(other) != _file(pack):
            raise ConfigError(
                f"two guard packs are called {pack.name!r}: {other.origin!r} and {pack.origin!r}",
                hint="give one of them another name",
            )
    return list(known.values())


def _file(pack: Pack) -> str:
    return pack.origin if pack.origin in BUILTIN else str(Path(pack.origin).resolve())
