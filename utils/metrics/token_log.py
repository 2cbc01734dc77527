"""One record for each token of an answer: where it stands, when it came, how sure the model was, how long it waited.

A server that sends logprobs names its tokens; several of them may come in one chunk, which then share its place and its
arrival. Without logprobs a record stands for a chunk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any

from utils.guardrails.hold_log import HoldLog

__all__ = ["TokenLog", "TokenRecord", "token_log"]


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """*start_char*: where its chunk begins in the text shown.  *t_s*: when that was shown, from the start of the run.

    *latency_s*: since the chunk before it, None for the first.  *probability*: the model's own, None without logprobs.
    *held_s*: how long the oldest character of the chunk had waited in the guard.
    """

    start_char: int
    t_s: float
    latency_s: float | None
    probability: float | None
    held_s: float


@dataclass(frozen=True, slots=True)
class TokenLog:
    """The same as columns, which is how records are kept: lists of equal length."""

    start_char: list[int] = field(default_factory=list)
    t_s: list[float] = field(default_factory=list)
    probability: list[float | None] = field(default_factory=list)
    held_s: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.start_char)

    def __iter__(self) -> Iterator[TokenRecord]:
        before_s: float | None = None
        latency_s: float | None = None
        place = -1
        for start, t_s, probability, held_s in zip(
            self.start_char, self.t_s, self.probability, self.held_s, strict=True
        ):
            if start != place:
                latency_s = None if before_s is None else t_s - before_s
                before_s, place = t_s, start
            yield TokenRecord(start, t_s, latency_s, probability, held_s)

    def as_json(self) -> dict[str, list[Any]]:
        """Columns, times in seconds rounded to microseconds, probabilities to 4 places."""
        return {
            "start_char": self.start_char,
            "t_s": [round(value, 6) for value in self.t_s],
            "probability": [None if value is None else round(value, 4) for value in self.probability],
            "held_s": [round(value, 6) for value in self.held_s],
        }

    @classmethod
    def from_json(cls, columns: dict[str, list[Any]]) -> TokenLog:
        """What `as_json` wrote."""
        return cls(*(list(columns[name]) for name in ("start_char", "t_s", "probability", "held_s")))


def token_log(
    arrivals_s: Sequence[float],
    starts: Sequence[int],
    placed: Iterable[tuple[int, float]],
    hold: HoldLog | None = None,
) -> TokenLog:
    """The log of chunks that came at *arrivals_s* and begin at *starts*; *placed* are (start of the chunk, probability)
    of their tokens in order, none for chunks whose tokens the server did not name.
    """
    log = TokenLog()
    by_place = {place: [p for _, p in group] for place, group in groupby(placed, key=itemgetter(0))}
    for t_s, start in zip(arrivals_s, starts, strict=False):
        held_s = hold.held_s(start) if hold is not None else 0.0
        for probability in by_place.get(start, [None]):
            log.start_char.append(start)
            log.t_s.append(t_s)
            log.probability.append(probability)
            log.held_s.append(held_s)
    return log
