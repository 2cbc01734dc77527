"""The right to one connection attempt, on which the outcome is reported. Pure."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

__all__ = ["Permit", "Report"]


class Report(Enum):
    """What may be said on a permit: that content has begun, then one of the outcomes."""

    FIRST_CONTENT = "first_content"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RATE_LIMITED = "rate_limited"
    RELEASED = "released"


_FIRST_CONTENT, _SUCCEEDED = Report.FIRST_CONTENT, Report.SUCCEEDED


class Permit:
    """Given by `Breaker.admit`; whoever drains the stream holds it. Outcomes may be reported from any thread.

    The outcomes are `succeed`, `fail`, `cool_down` and `release`. Exactly one of them counts: the first.
    """

    __slots__ = ("_permit_s", "_report", "admitted_s", "expires_s", "generation", "is_open", "is_slow", "place")

    def __init__(
        self,
        report: Callable[[Permit, Report, float, float | None], None],
        generation: int,
        now: float,
        permit_s: float,
        place: str,
    ) -> None:
        self._report = report
        self._permit_s = permit_s
        self.generation = generation
        self.admitted_s = now
        self.expires_s = now + permit_s
        """Instant at which a silent probe gives its place back."""
        self.place = place
        """The token of the place that a probe holds among those of all processes."""
        self.is_open = True
        """No outcome has been reported."""
        self.is_slow: bool | None = None
        """Whether the first content came late; None before it."""

    def first_content(self, now: float) -> None:
        """The first content of the answer arrived: a probe has succeeded, or shown that the target is slow."""
        self._report(self, _FIRST_CONTENT, now, None)

    def keep_alive(self, now: float) -> None:
        """Content arrived: the attempt is alive, so its permit must not expire. Cheap enough for every chunk."""
        if now < self.expires_s:
            self.expires_s = now + self._permit_s

    def succeed(self, now: float) -> None:
        """The answer is whole."""
        self._report(self, _SUCCEEDED, now, None)

    def fail(self, now: float, *, retry_after_s: float | None = None) -> None:
        """The target failed, at any time until the end; *retry_after_s* if it asked to be left alone."""
        self._report(self, Report.FAILED, now, retry_after_s)

    def cool_down(self, now: float, retry_after_s: float | None) -> None:
        """The target is healthy but busy (429): no verdict, and no calls for *retry_after_s* seconds if it said so."""
        self._report(self, Report.RATE_LIMITED, now, retry_after_s)

    def release(self, now: float) -> None:
        """No verdict: the user cancelled, or the failure was not the target's."""
        self._report(self, Report.RELEASED, now, None)
