"""The model's own certainty, from the logprobs of its tokens.

It measures the sampling distribution, not the truth of the answer: a model can be certain and wrong.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from utils.events import TokenLogprob

__all__ = [
    "CONFIDENCE_WINDOW_TOKENS",
    "LOGPROB_FLOOR",
    "LOW_PROBABILITY",
    "Confidence",
    "ConfidenceLog",
    "confidence_of",
    "probability",
]

CONFIDENCE_WINDOW_TOKENS = 32
LOW_PROBABILITY = 0.5
LOGPROB_FLOOR = -100.0
"""Logprobs below this count as this. Servers write -9999 for "too unlikely to say", which would drown every mean."""


@dataclass(frozen=True, slots=True)
class Confidence:
    """What the logprobs of *tokens* tokens say; definitions stand in `DEFINITIONS` under `confidence`.

    The lowest window is [lowest_window_start, lowest_window_start + lowest_window_tokens), in tokens.
    """

    tokens: int
    mean_logprob: float
    perplexity: float
    low_probability_share: float
    lowest_window_mean_logprob: float
    lowest_window_start: int
    lowest_window_tokens: int


def probability(logprob: float) -> float:
    """exp(*logprob*) within 0..1, whatever the server sent."""
    return math.exp(_sane(logprob))


def _sane(logprob: float) -> float:
    # max() with the floor first also turns NaN into the floor, as every comparison with NaN is false.
    return min(0.0, max(LOGPROB_FLOOR, logprob))


def confidence_of(logprobs: Sequence[float]) -> Confidence | None:
    """Mean, perplexity, share of unlikely tokens and the least certain window of *logprobs*; None if there are none.

    The window is 32 tokens, or all of them if there are fewer; the earliest one wins a tie. Cost: linear.
    Logprobs are natural logarithms; they are clamped to LOGPROB_FLOOR..0.
    """
    if not logprobs:
        return None
    values = [_sane(logprob) for logprob in logprobs]
    count = len(values)
    mean = math.fsum(values) / count
    window = min(CONFIDENCE_WINDOW_TOKENS, count)
    sums = [0.0, *accumulate(values)]
    lowest_sum, start = min((sums[i + window] - sums[i], i) for i in range(count - window + 1))
    low = math.log(LOW_PROBABILITY)
    return Confidence(
        tokens=count,
        mean_logprob=mean,
        perplexity=math.exp(-mean),
        low_probability_share=sum(value < low for value in values) / count,
        lowest_window_mean_logprob=lowest_sum / window,
        lowest_window_start=start,
        lowest_window_tokens=window,
    )


class ConfidenceLog:
    """The logprobs of an answer, each with where its delta begins and ends in the text shown; the first *cap* of them.

    Keeps numbers only, never the text of a token. `count` counts also what was left out.
    """

    def __init__(self, cap: int) -> None:
        self.count = 0
        self._cap = cap
        self._logprobs = array("d")
        self._starts = array("q")
        self._ends = array("q")

    def add(self, tokens: tuple[TokenLogprob, ...], start: int, end: int) -> None:
        """Take in the *tokens* of a delta that is [*start*, *end*) of the text shown, in characters."""
        self.count += len(tokens)
        if self.count <= self._cap:
            for token in tokens:
                self._logprobs.append(token.logprob)
                self._starts.append(start)
                self._ends.append(end)

    def placed(self) -> Iterator[tuple[int, float]]:
        """(start of its delta in the text shown, probability) of each token, in order."""
        return zip(self._starts, map(probability, self._logprobs), strict=True)

    def as_json(self) -> dict[str, Any] | None:
        """The `confidence` part of the quality report; None without logprobs."""
        confidence = confidence_of(self._logprobs)
        if confidence is None:
            return None
        first = confidence.lowest_window_start
        last = first + confidence.lowest_window_tokens - 1
        return {
            "tokens": confidence.tokens,
            "left_out": self.count - confidence.tokens,
            "mean_logprob": confidence.mean_logprob,
            "perplexity": confidence.perplexity,
            "low_probability_share": confidence.low_probability_share,
            "lowest_window": {
                "mean_logprob": confidence.lowest_window_mean_logprob,
                "tokens": confidence.lowest_window_tokens,
                "start_char": self._starts[first],
                "end_char": self._ends[last],
            },
        }
