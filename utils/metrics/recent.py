"""The newest chunks of a stream: what a live panel draws from, and the rate of the last two seconds."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from itertools import islice, pairwise

from utils.events import TokenLogprob
from utils.metrics.confidence import probability

__all__ = ["RecentChunks"]

_CHUNKS = 1_024
_WINDOW_S = 2.0
_VALUES = 64


class RecentChunks:
    """The newest 1,024 chunks. `at` and `tokens` are appended to side by side: an instant in seconds, logprobs."""

    __slots__ = ("at", "tokens")

    def __init__(self) -> None:
        self.at: deque[float] = deque(maxlen=_CHUNKS)
        self.tokens: deque[tuple[TokenLogprob, ...]] = deque(maxlen=_CHUNKS)

    def latencies(self) -> tuple[float, ...]:
        """The newest 64 inter-chunk latencies in seconds, oldest first."""
        recent = list(self.at)[-_VALUES - 1 :]
        return tuple(later - earlier for earlier, later in pairwise(recent))

    def tokens_per_s(self, now: float) -> float | None:
        """Tokens of the last two seconds, the oldest chunk left out, per second of that time; None under two chunks."""
        if len(self.at) < 2:
            return None
        arrivals = list(self.at)
        begin = max(now - _WINDOW_S, arrivals[0])
        if begin >= now:
            return None
        first = bisect_right(arrivals, begin)
        return sum(len(tokens) or 1 for tokens in islice(self.tokens, first, None)) / (now - begin)

    def confidence(self) -> tuple[float, ...]:
        """The newest 64 token probabilities, oldest first; empty without logprobs."""
        newest: list[float] = []
        for tokens in reversed(self.tokens):
            newest.extend(probability(token.logprob) for token in reversed(tokens))
            if len(newest) >= _VALUES:
                break
        return tuple(reversed(newest[:_VALUES]))
