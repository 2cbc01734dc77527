"""A day of traffic against the limiter, in fake time: bursts, late and early settlements, debts, headers, pauses.

The ledger beside it counts as the law does: requests that were sent, tokens that were reserved less what came back. It
looks at every 60 s window that ends with a grant; any other window holds no more than one of these.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter

import pytest

from utils.resilience.limiter import Granted, Impossible, Limiter, Limits, Reservation, Ticket, Wait
from utils.resilience.rate_headers import RateHeaders, ServerLimit

DAY_S = 86_400.0
WINDOW_S = 60.0
HAPPENS = ("waited", "left the queue", "never sent", "cost more", "refused with 429", "headers", "limit changed")


@dataclass
class Entry:
    """One granted request as the law counts it."""

    at_s: float
    requests: float
    tokens: float


@dataclass
class Ledger:
    """The grants of the last 60 s, and the limits that were in force within them."""

    limits: Limits
    window: deque[Entry] = field(default_factory=deque)
    in_force: deque[tuple[float, float, float]] = field(default_factory=deque)
    """(since when, requests/min, tokens/min), oldest first; the first one may have begun before the window."""
    fullest: dict[str, float] = field(default_factory=lambda: {"requests": 0.0, "tokens": 0.0})
    """The largest share of a limit that a window has used."""

    def __post_init__(self) -> None:
        self.note_limits(-math.inf, self.limits.requests_per_minute, self.limits.tokens_per_minute)

    def note_limits(self, now: float, requests: float | None, tokens: float | None) -> None:
        """The limits are these from now on: a server may lower what was set, and raise it again, but not above that."""
        rpm, tpm = self.limits.requests_per_minute or math.inf, self.limits.tokens_per_minute or math.inf
        self.in_force.append((now, min(rpm, requests or math.inf), min(tpm, tokens or math.inf)))

    def note(self, now: float, tokens: float) -> Entry:
        """A request is sent now. The window that ends here must be within the largest limits that it has seen."""
        entry = Entry(now, 1.0, tokens)
        self.window.append(entry)
        while self.window[0].at_s < now - WINDOW_S:
            self.window.popleft()
        while len(self.in_force) > 1 and self.in_force[1][0] <= now - WINDOW_S:
            self.in_force.popleft()
        for what, limit in (
            ("requests", max(requests for _, requests, _ in self.in_force)),
            ("tokens", max(tokens for _, _, tokens in self.in_force)),
        ):
            if limit == math.inf:
                continue
            used = math.fsum(map(attrgetter(what), self.window))
            assert used <= limit + 1e-6, f"{used} {what} in the 60 s before {now}, allowed are {limit}"
            self.fullest[what] = max(self.fullest[what], used / limit)
        return entry


class Day:
    """One simulated day: events in the order of their instants, each of which may bring about later ones."""

    def __init__(self, limits: Limits, per_minute: float, seed: int) -> None:
        self.limits = limits
        self.rng = random.Random(seed)
        self.limiter = Limiter(limits)
        self.ledger = Ledger(limits)
        self.happened: Counter[str] = Counter()
        self._largest = min(4_000, (limits.tokens_per_minute or 16_000) // 4)
        self._every_s = 60.0 / per_minute
        self._now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._open: list[tuple[Reservation, Entry]] = []
        self._waiting: set[Ticket] = set()
        self._turn: tuple[Ticket, float] | None = None
        """The head of the queue and the instant at which it asks again."""

    def run(self) -> None:
        self._at(0.0, self._arrive)
        self._at(0.0, self._server_speaks)
        while self._events and self._events[0][0] < DAY_S:
            self._now, _, event = heapq.heappop(self._events)
            event()
            self._serve()

    def _at(self, seconds: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self._now + seconds, next(self._order), event))

    # What may happen.

    def _arrive(self) -> None:
        """Somebody comes, sometimes a crowd; sometimes nobody for minutes. At noon there are more of them."""
        rng = self.rng
        for _ in range(rng.choice((1, 1, 1, 1, 1, 1, 1, 1, 5, 30))):
            self._ask(rng.randint(1, self._largest))
        rush = 1.0 - 0.8 * math.cos(2.0 * math.pi * self._now / DAY_S)
        pause_s = rng.expovariate(rush / (4.3 * self._every_s))
        self._at(pause_s + (rng.uniform(60.0, 600.0) if rng.random() < 0.002 else 0.0), self._arrive)

    def _ask(self, tokens: int) -> None:
        if len(self._waiting) > 40:
            self.happened["turned away"] += 1
            return
        answer = self.limiter.reserve(self._now, tokens)
        if isinstance(answer, Wait):
            self._waiting.add(answer.ticket)
            self._at(self.rng.uniform(5.0, 240.0), lambda: self._leave(answer.ticket))
        else:
            self._answered(answer, tokens)

    def _leave(self, ticket: Ticket) -> None:
        if ticket in self._waiting:
            self.happened["left the queue"] += 1
            self._waiting.remove(ticket)
            self.limiter.withdraw(ticket)

    def _serve(self) -> None:
        """Whoever is next asks again: when its time has come, and whenever anything has happened."""
        while (ticket := self.limiter.head) is not None:
            answer = self.limiter.reserve(self._now, ticket.tokens, ticket)
            if isinstance(answer, Wait):
                if self._turn != (turn := (ticket, self._now + answer.seconds)):
                    self._turn = turn
                    self._at(answer.seconds, lambda: None)
                return
            self._waiting.remove(ticket)
            self.happened["waited"] += 1
            self._answered(answer, ticket.tokens)

    def _answered(self, answer: Granted | Impossible, tokens: int) -> None:
        if isinstance(answer, Impossible):
            self.happened["never fits"] += 1
            return
        self.happened["granted"] += 1
        entry = self.ledger.note(self._now, tokens)
        self._open.append((answer.reservation, entry))
        rng, kind = self.rng, self.rng.random()
        # Most end within seconds; some at once, some after the minute in which they were counted is long over.
        after_s = 0.0 if kind < 0.05 else rng.uniform(60.0, 900.0) if kind < 0.1 else rng.expovariate(1 / 8.0)
        self._at(after_s, lambda: self._end(answer.reservation, entry))

    def _end(self, reservation: Reservation, entry: Entry) -> None:
        rng, limiter, now = self.rng, self.limiter, self._now
        before, kind = limiter.statistics().refunded_tokens, rng.random()
        self._open.remove((reservation, entry))
        if kind < 0.04:
            self.happened["never sent"] += 1
            limiter.cancel(now, reservation)
            entry.requests = 0.0  # however little of its place came back
        elif kind < 0.10:
            self.happened["cost more"] += 1
            limiter.settle(now, reservation, reservation.tokens + rng.randint(1, self._largest))
        elif kind < 0.13:
            self.happened["refused with 429"] += 1
            limiter.pause(now, rng.choice((0.0, 1.0, rng.uniform(0.0, 40.0))))
            limiter.settle(now, reservation, reservation.tokens)
        else:
            limiter.settle(now, reservation, rng.randint(0, reservation.tokens))
        if rng.random() < 0.02:
            limiter.settle(now, reservation, 0)  # twice: the second one counts for nothing
        entry.tokens -= limiter.statistics().refunded_tokens - before

    def _server_speaks(self) -> None:
        """Headers of some answer, often stale or strange; now and then they name another limit."""
        rng, limits = self.rng, self.limits
        self.happened["headers"] += 1
        share = rng.choice((None, None, 1.0, 2.0, 0.5, rng.uniform(0.3, 1.5)))

        def said(limit: int | None) -> ServerLimit | None:
            if limit is None or rng.random() < 0.2:
                return None
            remaining = rng.choice((None, float(limit), rng.uniform(0.0, limit)))
            return ServerLimit(share and limit * share, remaining, rng.choice((None, 0.0, rng.uniform(0.0, 90.0))))

        headers = RateHeaders(said(limits.requests_per_minute), said(limits.tokens_per_minute))
        about = rng.choice(self._open)[0] if self._open and rng.random() < 0.7 else None
        if self.limiter.synchronise(self._now, headers, about):
            self.happened["limit changed"] += 1
            now = self.limiter.statistics()
            self.ledger.note_limits(self._now, now.requests_per_minute, now.tokens_per_minute)
        self._at(rng.expovariate(1 / 90.0), self._server_speaks)


@pytest.mark.parametrize(
    ("limits", "per_minute", "granted"),
    [
        (Limits(60, 60_000, largest_request_tokens=4_000), 40.0, 15_000),
        (Limits(90), 60.0, 35_000),
        (Limits(None, 80_000, largest_request_tokens=4_000), 40.0, 20_000),
        (Limits(1, 4_000), 0.8, 250),
    ],
    ids=str,
)
def test_no_window_of_a_simulated_day_exceeds_a_limit(limits: Limits, per_minute: float, granted: int) -> None:
    day = Day(limits, per_minute, seed=1)
    day.run()
    assert day.happened["granted"] >= granted
    assert min(day.happened[what] for what in HAPPENS) >= 5, day.happened
    assert max(day.ledger.fullest.values()) > 0.98, "the limit is used, too"
