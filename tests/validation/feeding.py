"""Feeding a validator in pieces."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from utils.validation.validators import Validator, Violation


def judged(validator: Validator, pieces: Sequence[str]) -> Violation | None:
    """What *validator* says about an answer that arrives in *pieces* and then ends."""
    for piece in pieces:
        violation = validator.feed(piece)
        if violation is not None:
            return violation
    return validator.finish()


def split(text: str, cuts: Sequence[int]) -> list[str]:
    """*text* cut at *cuts* (taken modulo its length); pieces are never empty."""
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[start:end] for start, end in zip(places, places[1:], strict=False)]


def in_every_size(text: str) -> list[list[str]]:
    """*text* whole, and in pieces of one, two, three and seven characters."""
    sizes = (len(text) or 1, 1, 2, 3, 7)
    return [[text[n : n + size] for n in range(0, len(text), size)] for size in sizes]


CUTS = st.lists(st.integers(0, 10_000), max_size=12)
