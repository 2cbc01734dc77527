"""What was shown, judged: leaks, delay, held text, cost. Pure functions."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.peers.streams import Planted

__all__ = ["CHANCE_CHARS", "Cost", "Leak", "Row", "Shown", "clean_figures", "leak_of", "longest_shown", "outcome_of"]

CHANCE_CHARS = 5
"""Pieces of a secret of up to this length are found in ordinary text too: they count as no leak."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a reader saw: the whole *text*, and how many characters *after* each token. *is_complete*: not cut short."""

    text: str
    after: list[int]
    is_complete: bool


@dataclass(frozen=True, slots=True)
class Leak:
    """Over all positions of one secret: the *worst* piece that was shown, and in how *many* positions one leaked."""

    worst: int
    many: int
    positions: int
    length: int


@dataclass(frozen=True, slots=True)
class Cost:
    """Process CPU microseconds per token, and how many times ours, round by round: median, least, most."""

    cpu_us: float
    ratio: float
    ratio_min: float
    ratio_max: float


@dataclass
class Row:
    """One setting of one guard. *failed*: why there are no figures. Characters are Unicode code points."""

    peer: str
    setting: str
    note: str = ""
    failed: str = ""
    leaks: dict[str, Leak] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)
    first_output_chars: int | None = None
    held_mean: float | None = None
    held_max: int | None = None
    clean: str = ""
    cost: Cost | None = None
    import_cpu_s: float = 0.0
    rss_mb: float = 0.0


def longest_shown(secret: str, text: str) -> int:
    """Length of the longest piece of *secret* that *text* contains."""
    longest = 0
    for start in range(len(secret)):
        while start + longest < len(secret) and secret[start : start + longest + 1] in text:
            longest += 1
    return longest


def leak_of(streams: Sequence[tuple[Planted, str]]) -> Leak:
    """The leak of one secret over its (stream, shown text) pairs."""
    secret = streams[0][0].secret.text
    found = [longest_shown(secret, text) for _, text in streams]
    leaked = [length for length in found if length > CHANCE_CHARS]
    return Leak(max(leaked, default=0), len(leaked), len(streams), len(secret))


def outcome_of(stream: Planted, shown: Shown) -> str:
    """What became of the rest of the answer: `whole`, `stopped` (by the guard) or `damaged` (lost or changed)."""
    if not shown.is_complete:
        return "stopped"
    before, after = _dense(stream.before), _dense(stream.after)
    text = _dense(shown.text)
    fits = len(text) >= len(before) + len(after) and text.startswith(before) and text.endswith(after)
    return "whole" if fits else "damaged"


def clean_figures(tokens: Sequence[str], shown: Shown, row: Row) -> None:
    """Fill the delay, the held text and the fate of clean text into *row*.

    Held is what arrived and is not shown, after each token from the first output on. White space that a guard changes
    is no held text: the end of the shown text is found in the raw text by the characters that are none.
    """
    raw = "".join(tokens)
    is_exact = raw.startswith(shown.text)
    ends = [0, *(n + 1 for n, character in enumerate(raw) if not character.isspace())]
    held: list[int] = []
    fed = 0
    for token, count in zip(tokens, shown.after, strict=True):
        fed += len(token)
        if count:
            row.first_output_chars = row.first_output_chars or fed
            read = count if is_exact else ends[min(len(_dense(shown.text[:count])), len(ends) - 1)]
            held.append(fed - read)
    if held:
        row.held_mean, row.held_max = statistics.fmean(held), max(held)
    else:
        row.first_output_chars = fed
        row.held_mean, row.held_max = None, fed
    if shown.text == raw:
        row.clean = "same"
    elif _dense(shown.text) == _dense(raw):
        row.clean = f"white space ({len(shown.text) - len(raw):+d})"
    else:
        row.clean = f"changed ({len(shown.text) - len(raw):+d})"


def _dense(text: str) -> str:
    return "".join(text.split())
