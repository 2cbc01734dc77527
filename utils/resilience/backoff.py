"""How long to wait before trying again. Pure: randomness is injected."""

from __future__ import annotations

import random
from dataclasses import dataclass

__all__ = ["Backoff"]

_MAX_DOUBLINGS = 60
"""2.0 ** attempt overflows a float near 1024; any cap is reached long before this."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off with full jitter; *base_s* and *cap_s* in seconds."""

    base_s: float = 0.25
    cap_s: float = 8.0

    def delay_s(self, attempt: int, rng: random.Random) -> float:
        """Delay before retry number *attempt* (1-based), in seconds.

        Formula: uniform(0, min(cap, base * 2**(attempt - 1))).  Invariant: 0 <= result <= cap.
        Raises:  ValueError if attempt < 1.                     Draws once from *rng*.
        Source:  M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015 ("full jitter").
        """
        if attempt < 1:
            raise ValueError(f"attempt counts from 1, got {attempt}")
        return rng.uniform(0.0, min(self.cap_s, self.base_s * 2.0 ** min(attempt - 1, _MAX_DOUBLINGS)))
