"""The token streams that every guard reads, and the secrets planted in them. Deterministic, standard library only."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

__all__ = ["SECRETS", "Planted", "Secret", "clean_tokens", "plant", "plant_places"]

TOKENS = 2_000
TOKENS_AFTER = 400
"""More than any guard that streams holds back, so that all that will be shown of a secret has been shown."""

_SIZES = (3, 4, 5, 2, 4, 3, 6, 3, 4, 3)
_SUBJECTS = (
    "The old harbour",
    "A careful reader",
    "Most of the visitors",
    "The committee's report",
    "Every second winter",
    "Her first experiment",
    "The night train",
    "A small garden",
    "The city library",
    "Our neighbour's dog",
    "The second chapter",
    "Rain from the west",
)
_VERBS = (
    "changed",
    "describes",
    "follows",
    "kept",
    "brought back",
    "quietly improved",
    "couldn't explain",
    "measured",
    "replaced",
    "reminds us of",
)
_OBJECTS = (
    "the narrow streets behind the market",
    "a well-known question of method",
    "the price of bread and salt",
    "three of the seven bridges",
    "what the engineers had promised",
    "the habits of migrating birds",
    "an idea that nobody had tried",
    "the colour of the evening sky",
    "about 12 percent of the harvest",
    "a map drawn in 1987",
    "the quiet hours after lunch",
    "walls of 3.5 metres and more",
)
_ENDS = (
    ".",
    ", although it took years.",
    "; the rest is guesswork.",
    " (or so it seemed).",
    ", as far as we know.",
    ". Why?",
    " before anyone noticed.",
    ", which is less than it sounds.",
)


@dataclass(frozen=True, slots=True)
class Secret:
    """*text* arrives in *pieces* tokens, cut at random. *id* names the column."""

    id: str
    text: str
    pieces: int
    replacement: str
    """What our own guard shows instead."""


_KEY_HEAD = "-".join(("sk", "ant", "api03", ""))
_LETTERS = "QmRtZx7Lw2KpVb9NcHs4GdYf8JqTeUa3XoWi6Mn5"
_LONG_ADDRESS = f"{'alice.of.the.reading.room.and.the.northern.archive'}@{'.'.join(['letters-' * 5 + 'desk'] * 2)}"

SECRETS = (
    Secret("keyword", "projectnightfall", 3, "[KEYWORD]"),
    Secret("card", "4111 1111 1111 1111", 6, "[CARD]"),
    Secret("e-mail", "alice@example.com", 6, "[EMAIL]"),
    Secret("key", _KEY_HEAD + _LETTERS[:24], 6, "[KEY]"),
    Secret("long e-mail", f"{_LONG_ADDRESS}.{'archive' * 2}annex.example.com", 43, "[EMAIL]"),
    Secret("long key", _KEY_HEAD + (_LETTERS * 3)[:96], 27, "[KEY]"),
)


@dataclass(frozen=True, slots=True)
class Planted:
    """A stream with one secret: *before* + *secret* + *after* is its text."""

    secret: Secret
    tokens: list[str]
    before: str
    after: str


def clean_tokens(count: int = TOKENS) -> list[str]:
    """Ordinary prose without any secret, in *count* tokens of 2 to 6 characters, 3.7 on average."""
    rng = random.Random(1)
    sentences: list[str] = []
    needed = count * 5
    while needed > 0:
        gap = "\n\n" if len(sentences) % 9 == 8 else " "
        sentence = f"{rng.choice(_SUBJECTS)} {rng.choice(_VERBS)} {rng.choice(_OBJECTS)}{rng.choice(_ENDS)}{gap}"
        sentences.append(sentence)
        needed -= len(sentence)
    text = "".join(sentences)
    tokens: list[str] = []
    place = 0
    while len(tokens) < count:
        size = _SIZES[len(tokens) % len(_SIZES)]
        tokens.append(text[place : place + size])
        place += size
    return tokens


def plant_places(tokens: list[str], count: int) -> list[int]:
    """*count* indices, spread at random (always the same ones), of tokens that begin with a space.

    They are between a tenth and half of the stream: every guard is in its steady state there.
    """
    allowed = [
        n for n in range(len(tokens) // 10, len(tokens) // 2) if tokens[n][0] == " " and tokens[n - 1][-1].isalpha()
    ]
    return sorted(random.Random(2).sample(allowed, count))


def plant(tokens: list[str], secret: Secret, place: int) -> Planted:
    """The stream with *secret*, and a space before it, before token *place*; it ends `TOKENS_AFTER` tokens later.

    Where the secret is cut into tokens depends on *place*: some guards leak at some cuts only.
    """
    text = " " + secret.text
    cuts = [0, *sorted(random.Random(place).sample(range(1, len(text)), secret.pieces - 1)), len(text)]
    pieces = [text[start:end] for start, end in itertools.pairwise(cuts)]
    before, after = "".join(tokens[:place]) + " ", tokens[place : place + TOKENS_AFTER]
    return Planted(secret, [*tokens[:place], *pieces, *after], before, "".join(after))
