"""The shape of a value that must not be shown: enough to find it again, too little to learn it."""

from __future__ import annotations

__all__ = ["SAMPLE_CHARS", "shape"]

SAMPLE_CHARS = 24
"""Characters of a shape; a longer value ends in an ellipsis."""

_SHORTEST = 8
_SEPARATORS = frozenset(" -_.@:/+")
_SEPARATORS_MAX_SHARE = 1 / 3
_HIDDEN = "***"


def shape(value: str) -> str:
    """*value* with `x` for each letter, `9` for each digit and `*` for everything else but common separators.

    The shape is the same for all values with letters and digits in the same places. Signs can be the secret itself, as
    in a password without letters: the separators (blank, `-_.@:/+`) stay only while they are at most a third of the
    value. Of a value shorter than 8 characters not even the length is told.
    """
    if len(value) < _SHORTEST:
        return _HIDDEN
    separators = sum(character in _SEPARATORS for character in value)
    keep = separators <= len(value) * _SEPARATORS_MAX_SHARE
    shown = "".join(_mark(character, keep) for character in value[:SAMPLE_CHARS])
    return shown + "…" if len(value) > SAMPLE_CHARS else shown


def _mark(character: str, keep: bool) -> str:
    if character.isdigit():
        return "9"
    if character.isalpha():
        return "x"
    return character if keep and character in _SEPARATORS else "*"
