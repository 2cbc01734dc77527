"""What a server says about its rate limits in the headers of an answer. Pure; unreadable values count as absent.

Read are `x-ratelimit-{limit,remaining,reset}-{requests,tokens}` and the spelling
`anthropic-ratelimit-{requests,tokens}-{limit,remaining,reset}`. Numbers may be written `60` or `60.0`. A reset is

    a duration   6m0s   250ms   1s   1h2m3.5s   2d          (units ns us ms s m h d, descending or not)
    seconds      59.7                                       (a number below one thousand million)
    a date       1763812345   1763812345000   2026-11-22T14:33:22Z   (Unix seconds or milliseconds, ISO 8601)
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["RateHeaders", "ServerLimit", "parse_reset", "read_rate_headers"]

MAX_RESET_S = 86_400.0
"""A longer reset is taken as a day: no run lives longer, and a wrong clock must not stop us for years."""

_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)(ns|us|µs|ms|s|m|h|d)")
_NUMBER = re.compile(r"\d{1,15}(\.\d{1,12})?")
_FIRST_UNIX_S = 1e9
"""Smaller numbers are durations: as a date they lie before September 2001."""
_FIRST_UNIX_MS = 1e12


@dataclass(frozen=True, slots=True)
class ServerLimit:
    """One limit: *limit* per period of the server's own, *remaining* of it, all of it again in *reset_s* seconds."""

    limit: float | None = None
    remaining: float | None = None
    reset_s: float | None = None


@dataclass(frozen=True, slots=True)
class RateHeaders:
    """Both limits of one answer; None where the server said nothing readable."""

    requests: ServerLimit | None = None
    tokens: ServerLimit | None = None


def read_rate_headers(headers: Mapping[str, str], *, now_epoch_s: float) -> RateHeaders:
    """The limits in *headers* (names in lower case, or a mapping that ignores case)."""
    return RateHeaders(_read(headers, "requests", now_epoch_s), _read(headers, "tokens", now_epoch_s))


def parse_reset(value: str, *, now_epoch_s: float) -> float | None:
    """Seconds from now until the reset, 0 to a day; None if *value* is none of the known forms."""
    value = value.strip()
    if _NUMBER.fullmatch(value):
        number = float(value)
        if number >= _FIRST_UNIX_MS:
            number = number / 1e3 - now_epoch_s
        elif number >= _FIRST_UNIX_S:
            number -= now_epoch_s
        return _bounded(number)
    parts = _PART.findall(value)
    if parts and "".join(number + unit for number, unit in parts) == value:
        return _bounded(sum(float(number) * _UNITS_S[unit] for number, unit in parts))
    try:
        date = datetime.datetime.fromisoformat(value)
        # A date without a zone is UTC here: a server does not know our zone.
        zoned = date if date.tzinfo is not None else date.replace(tzinfo=datetime.UTC)
        return _bounded(zoned.timestamp() - now_epoch_s)
    except (ValueError, OverflowError):
        return None


def _read(headers: Mapping[str, str], what: str, now_epoch_s: float) -> ServerLimit | None:
    texts = [
        headers.get(f"x-ratelimit-{part}-{what}") or headers.get(f"anthropic-ratelimit-{what}-{part}") or ""
        for part in ("limit", "remaining", "reset")
    ]
    limit, remaining = (float(text) if _NUMBER.fullmatch(text.strip()) else None for text in texts[:2])
    reset_s = parse_reset(texts[2], now_epoch_s=now_epoch_s)
    if limit is None and remaining is None and reset_s is None:
        return None
    return ServerLimit(limit, remaining, reset_s)


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), MAX_RESET_S)
