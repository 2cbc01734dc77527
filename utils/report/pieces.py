"""The answer cut into pieces: what one chunk showed, what a guard showed in the place of something, what is unknown.

A record says where each chunk begins. What a guard put in the place of hidden text has no chunk of its own: it stands
behind the chunk before it, and its event says what it was. The model did not write it, so no confidence is about it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from utils.report.figures import known, part, rows
from utils.run_record import RunRecord

__all__ = ["LIMITS", "Piece", "grouped", "mean_probability", "pieces_of", "step_of", "steps_counted", "why_no_places"]

LIMITS = (0.9, 0.7, 0.5, 0.2)
"""Lower limits of the steps of confidence 0 to 3; step 4 is below them all."""

_LEAST = 5e-5
"""Records round probabilities to four places: 0 stands for anything below this."""
_SAME_INSTANT_S = 2e-6
"""Events and chunks are rounded to microseconds, each on its own."""

PieceKind = Literal["chunk", "hidden", "unknown"]


@dataclass(frozen=True, slots=True)
class Piece:
    """Characters [start, end) of the text shown. Of a chunk: its tokens' probabilities, () if the server sent none.

    *t_s*, *latency_s*, *held_s*: as in `TokenRecord`; None for what is no chunk, and for several chunks in one piece.
    """

    kind: PieceKind
    start: int
    end: int
    probabilities: tuple[float, ...] = ()
    t_s: float | None = None
    latency_s: float | None = None
    held_s: float = 0.0

    @property
    def step(self) -> int | None:
        """The step of its mean probability; None without any."""
        mean = mean_probability(self.probabilities)
        return None if mean is None else step_of(mean)


def step_of(probability: float) -> int:
    """0 (the most confident) to 4."""
    return next((step for step, limit in enumerate(LIMITS) if probability >= limit), len(LIMITS))


def mean_probability(probabilities: Sequence[float]) -> float | None:
    """The geometric mean, which is what perplexity is made of; None of nothing."""
    if len(probabilities) < 2:
        return probabilities[0] if probabilities else None
    return math.exp(math.fsum(math.log(max(value, _LEAST)) for value in probabilities) / len(probabilities))


def steps_counted(record: RunRecord) -> Counter[int | None]:
    """How many tokens are in each step; under None those that the server sent no logprob of."""
    return Counter(None if value is None else step_of(value) for value in record.tokens.probability)


def why_no_places(record: RunRecord) -> str | None:
    """Why the pieces cannot be found in the text of *record*; None if they can."""
    if record.text is None:
        return "the text was not kept"
    starts = record.tokens.start_char
    chars = known(part(record.report, "metrics").get("chars"))
    if chars is None or len(record.text) != chars or (starts and starts[-1] >= chars):
        return "the text was cleaned before it was kept, so the places of its tokens are no longer known"
    return None


def pieces_of(record: RunRecord) -> list[Piece]:
    """All of the text in order, without gaps; with places in it (see `why_no_places`), also what a guard put there."""
    chunks = list(_chunks(record))
    metrics = part(record.report, "metrics")
    chars = int(known(metrics.get("chars")) or 0)
    if not chunks:
        return [Piece("hidden" if metrics.get("redactions") else "unknown", 0, chars)] if chars else []
    is_cut = len(chunks) < (known(metrics.get("chunks")) or 0)
    if is_cut:
        # The end of the last one that was kept is not known.
        last = chunks.pop()
        chunks.append(Piece("unknown", last.start, max(chars, last.end)))
    if chunks[0].start > 0:
        chunks.insert(0, Piece("hidden", 0, chunks[0].start))
    if record.text is None or why_no_places(record) is not None or metrics.get("events_left_out"):
        return chunks
    return list(_split(chunks, record.text, rows(record.report.get("events"))))


def grouped(pieces: Sequence[Piece], size: int, borders: Sequence[int] = ()) -> list[Piece]:
    """Up to *size* chunks in one piece each; none across other pieces, nor across a place in *borders*."""
    if size < 2:
        return list(pieces)
    found: list[Piece] = []
    pending: list[Piece] = []

    def close() -> None:
        if pending:
            probabilities = tuple(value for piece in pending for value in piece.probabilities)
            found.append(Piece("chunk", pending[0].start, pending[-1].end, probabilities))
            pending.clear()

    for piece in pieces:
        if piece.kind != "chunk" or piece.start in borders or len(pending) == size:
            close()
        if piece.kind == "chunk":
            pending.append(piece)
        else:
            found.append(piece)
    close()
    return found


def _chunks(record: RunRecord) -> Iterator[Piece]:
    groups = [list(group) for _, group in groupby(record.tokens, key=lambda token: token.start_char)]
    chars = int(known(part(record.report, "metrics").get("chars")) or 0)
    for place, group in enumerate(groups):
        first = group[0]
        end = groups[place + 1][0].start_char if place + 1 < len(groups) else max(chars, first.start_char + 1)
        probabilities = tuple(token.probability for token in group if token.probability is not None)
        yield Piece("chunk", first.start_char, end, probabilities, first.t_s, first.latency_s, first.held_s)


def _split(chunks: Sequence[Piece], text: str, events: Sequence[Any]) -> Iterator[Piece]:
    """*chunks* with what a guard showed behind them as pieces of their own.

    Between two chunks come the replacements whose instants lie between theirs; of those in the instant of the next
    chunk, as many as the text ends in. If the text does not bear it out, the chunk stays whole.
    """
    shown = [(event.get("t_s"), event.get("replacement")) for event in events if event.get("type") == "redacted"]
    pending = [(float(t_s), str(words)) for t_s, words in shown if known(t_s) is not None and words][::-1]
    for place, piece in enumerate(chunks):
        if piece.t_s is None:
            room = piece.end - piece.start
            while piece.kind == "hidden" and pending and len(pending[-1][1]) <= room:
                room -= len(pending.pop()[1])
            yield piece
            continue
        until = chunks[place + 1].t_s if place + 1 < len(chunks) else math.inf
        words = ""
        tail = text[piece.start : piece.end]
        while pending and until is not None:
            t_s, more = pending[-1]
            is_before = t_s < until - _SAME_INSTANT_S
            if not is_before and not (t_s <= until + _SAME_INSTANT_S and tail.endswith(words + more)):
                break
            words += more
            pending.pop()
        start = piece.end - len(words)
        if words and tail.endswith(words) and start > piece.start:
            yield Piece("chunk", piece.start, start, piece.probabilities, piece.t_s, piece.latency_s, piece.held_s)
            yield Piece("hidden", start, piece.end)
        else:
            yield piece
