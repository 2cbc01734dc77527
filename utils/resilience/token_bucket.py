"""A token bucket that keeps a limit per minute in every minute, and listens to the server. Pure; used by `limiter`."""

from __future__ import annotations

import math

from utils.resilience.rate_headers import ServerLimit

__all__ = ["TokenBucket"]

_PERIOD_S = 60.0


class TokenBucket:
    """One limit per minute, of *what*. The burst is *burst_share* of it, at least *least*, and less than the limit.

    `advance` first: everything else speaks of the instant of the last `advance`. The level may be below zero: a debt.
    """

    __slots__ = (
        *("at_s", "burst", "burst_share", "configured", "least", "level", "limit", "refill", "slow", "slow_until_s"),
        *("taken", "what"),
    )

    def __init__(self, what: str, limit: int, *, burst_share: float, least: int) -> None:
        self.what = what
        self.configured = float(limit)
        self.burst_share = burst_share
        self.least = least
        self.at_s = -math.inf
        self.slow = math.inf
        """The server's own refill per second, while it is known; until *slow_until_s*."""
        self.slow_until_s = -math.inf
        self.taken = 0.0
        self.limit = self.burst = self.refill = self.level = 0.0
        self.resize(self.configured)
        self.level = self.burst

    def resize(self, limit: float) -> None:
        """Take another limit. The burst and the refill never grow when the limit falls."""
        self.limit = limit
        if limit <= 1.0:
            # One at a time has no room for a burst: a 61st second keeps two out of any 60 s.
            self.burst, self.refill = 1.0, limit / (_PERIOD_S + 1.0)
        else:
            burst = max(math.floor(limit * self.burst_share), self.least)
            self.burst = float(min(burst, math.ceil(limit) - 1))
            self.refill = (limit - self.burst) / _PERIOD_S
        self.level = min(self.level, self.burst)

    def advance(self, now: float) -> None:
        """Refill until the instant *now*; an instant before the last one counts as the last one."""
        at_s = self.at_s
        if now <= at_s:
            return
        self.at_s = now
        if self.level >= self.burst:
            return
        gained = self.refill * (now - at_s)
        if at_s < self.slow_until_s and self.slow < self.refill:
            gained -= (self.refill - self.slow) * (min(now, self.slow_until_s) - at_s)
        self.level = min(self.burst, self.level + gained)

    def wait_s(self, amount: float) -> float:
        """Seconds until the level reaches *amount* if nothing else happens; 0 if it has."""
        missing = amount - self.level
        if missing <= 0.0:
            return 0.0
        slow_s = self.slow_until_s - self.at_s
        if slow_s > 0.0 and self.slow < self.refill:
            gained = self.slow * slow_s
            return missing / self.slow if gained >= missing else slow_s + (missing - gained) / self.refill
        return missing / self.refill

    def obey(self, server: ServerLimit, taken_since: float) -> tuple[float, bool]:
        """Take over what the server says; the former limit, and whether the level was lowered."""
        before = self.limit
        if server.limit is not None and server.limit >= 1.0:
            wanted = min(self.configured, server.limit)
            if wanted != before:
                self.resize(wanted)
        lowered = False
        if server.remaining is not None:
            level = server.remaining - taken_since
            if level < self.level:
                self.level, lowered = level, True
            if server.limit is not None and server.reset_s and server.limit > server.remaining:
                self.slow = (server.limit - server.remaining) / server.reset_s
                self.slow_until_s = self.at_s + server.reset_s
        return before, lowered
