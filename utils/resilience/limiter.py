"""Requests per minute and tokens per minute, reserved together or not at all. Pure: time comes in, nothing sleeps.

Two token buckets, filled at first. A bucket of burst b refills at (limit - b) / 60 per second, so in any 60 s at most
b + 60 (limit - b) / 60 = limit can be taken: the minute of the server may begin whenever it likes.

    reserve(now, tokens) -> Granted(reservation)    take 1 request and *tokens* from both buckets
                          | Wait(seconds, ticket)   come back then, with the ticket: first come, first served
                          | Impossible(reason)      no wait will ever help
    settle(now, reservation, actual_tokens)         what the answer really cost
    cancel(now, reservation)                        the request was never sent

A reservation is an upper bound made before the answer. Settling with less gives the difference back, but never more
than would lie in the bucket had the smaller amount been taken from the start: tokens that would have run over its
brim in the meantime are gone. Without that bound a refund that comes late could be spent on top of a full bucket and
break the law above. Settling with more leaves a debt: the tokens are spent, so the level falls below zero and later
requests wait for it to be paid back; the law then holds for what was reserved.

What the server says (`synchronise`) makes us more careful only. The level becomes at most its `remaining`, less
what we have reserved since that request. The refill becomes at most (limit - remaining) / reset until its reset: so a
daily limit, which wears the same header, slows us down to its own pace. The limit becomes the smaller of ours and the
server's; when the server names a higher one again it rises, up to ours and never above.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

from utils.events import Adapted
from utils.resilience.rate_headers import RateHeaders
from utils.resilience.token_bucket import TokenBucket

__all__ = [
    "Granted",
    "Impossible",
    "Limiter",
    "LimiterStatistics",
    "Limits",
    "Reservation",
    "Ticket",
    "Wait",
    "reservation_tokens",
]

_PAD_S = 1e-6
"""Added to every wait, or rounding could ask to come back at an instant at which it is still a hair too early."""
_MAX_OUTSTANDING = 1_024
"""Reservations that may still get something back; beyond it the oldest lose that right, never more."""

_BYTES_PER_TOKEN = 3
_TEMPLATE_TOKENS = 16
_DEFAULT_COMPLETION_TOKENS = 1_024


def reservation_tokens(prompt: str, max_tokens: int | None) -> int:
    """Tokens to reserve for a request: one per 3 bytes of *prompt*, 16 for the template, and the whole answer.

    Generous for text in most languages (4 bytes of English, 3 of Chinese are about one token); without *max_tokens*
    an answer of 1,024 is assumed. What it really was is settled afterwards.
    """
    prompt_tokens = math.ceil(len(prompt.encode("utf-8", "replace")) / _BYTES_PER_TOKEN)
    return prompt_tokens + _TEMPLATE_TOKENS + (_DEFAULT_COMPLETION_TOKENS if max_tokens is None else max_tokens)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits per minute, None is no limit. Whole numbers of at least 1 request and 2 tokens.

    The bursts are a tenth of the requests (at least 1) and a quarter of the tokens, or *largest_request_tokens* if
    that is more. What bursts take, steady traffic lacks: it gets limit - burst per minute.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    largest_request_tokens: int = 0

    def __post_init__(self) -> None:
        if self.requests_per_minute is not None and self.requests_per_minute < 1:
            raise ValueError(f"requests per minute must be at least 1, got {self.requests_per_minute}")
        if self.tokens_per_minute is not None and self.tokens_per_minute < 2:
            raise ValueError(f"tokens per minute must be at least 2, got {self.tokens_per_minute}")


class Ticket:
    """A place in the queue."""

    __slots__ = ("tokens",)

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens


class Reservation:
    """The right to send one request. Settle or cancel it once; the first of the two counts."""

    __slots__ = ("_is_open", "_order", "_rooms", "_taken_so_far", "tokens")

    def __init__(self, tokens: int, order: int, rooms: list[float], taken_so_far: tuple[float, float]) -> None:
        self.tokens = tokens
        self._is_open = True
        self._order = order
        self._rooms = rooms
        """Per bucket, the least that was missing to its brim since this was granted: the bound of a refund."""
        self._taken_so_far = taken_so_far


@dataclass(frozen=True, slots=True)
class Granted:
    """Send the request, then settle *reservation*."""

    reservation: Reservation


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask again with *ticket* in *seconds*; *limit* says what is waited for.

    It is the earliest time unless refunds come back; for the head of the queue it is exact. Nobody overtakes: a small
    request waits behind a large one.
    """

    seconds: float
    ticket: Ticket
    limit: str


@dataclass(frozen=True, slots=True)
class Impossible:
    """The request is larger than what can ever be granted at once."""

    reason: str


@dataclass(frozen=True, slots=True)
class LimiterStatistics:
    """Counts since the start; levels and limits at the last operation (None: no such limit)."""

    granted: int
    waited: int
    impossible: int
    withdrawn: int
    cancelled: int
    settled: int
    reserved_tokens: int
    used_tokens: int
    refunded_requests: float
    """Fractions of a request may come back: see the bound of refunds."""
    refunded_tokens: float
    lost_refund_tokens: float
    indebted_tokens: int
    synchronised: int
    pauses: int
    queued: int
    requests_level: float | None
    tokens_level: float | None
    requests_per_minute: float | None
    tokens_per_minute: float | None

    def as_json(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {name: getattr(self, name) for name in self.__slots__}


class Limiter:
    """The limiter of one target. Not thread-safe: it belongs to one event loop.

    Invariant: for each limit the amounts reserved (after refunds) in any 60 s never exceed it.
    """

    def __init__(self, limits: Limits) -> None:
        rpm, tpm = limits.requests_per_minute, limits.tokens_per_minute
        least = max(1, limits.largest_request_tokens)
        self._buckets = (
            None if rpm is None else TokenBucket("requests", rpm, burst_share=0.1, least=1),
            None if tpm is None else TokenBucket("tokens", tpm, burst_share=0.25, least=least),
        )
        self._paused_until_s = -math.inf
        self._queue: deque[Ticket] = deque()
        self._queued_tokens = 0
        self._outstanding: dict[int, Reservation] = {}
        self._order = 0
        self._granted = self._waited = self._impossible = self._withdrawn = self._cancelled = self._settled = 0
        self._reserved_tokens = self._used_tokens = self._indebted_tokens = self._synchronised = self._pauses = 0
        self._refunded_requests = self._refunded_tokens = self._lost_refund_tokens = 0.0

    def reserve(self, now: float, tokens: int, ticket: Ticket | None = None) -> Granted | Wait | Impossible:
        """Reserve one request and *tokens* (at least 0) at the instant *now*, in seconds.

        With a *ticket* the request keeps its place, and its own tokens count. After Granted and Impossible the ticket
        is used up; after Wait the caller must come back with it or `withdraw` it, or everyone behind it waits forever.
        """
        if ticket is not None:
            tokens = ticket.tokens
        requests_bucket, tokens_bucket = self._buckets
        if tokens_bucket is not None and tokens > tokens_bucket.burst:
            self._impossible += 1
            if ticket is not None:
                self._leave(ticket)
            return Impossible(
                f"a request of {tokens:,} tokens never fits: at most {tokens_bucket.burst:,.0f} are granted at once"
                f" under a limit of {tokens_bucket.limit:,.0f} tokens/min"
            )
        queue = self._queue
        ahead_requests, ahead_tokens = 0, 0
        if queue and queue[0] is not ticket:
            if ticket is None:
                ahead_requests, ahead_tokens = len(queue), self._queued_tokens
            else:
                for other in queue:
                    if other is ticket:
                        break
                    ahead_requests += 1
                    ahead_tokens += other.tokens
        wait_s, limit = 0.0, ""
        if requests_bucket is not None:
            requests_bucket.advance(now)
            wait_s = requests_bucket.wait_s(ahead_requests + 1.0)
            limit = f"{requests_bucket.limit:g} requests/min" if wait_s else ""
        if tokens_bucket is not None:
            tokens_bucket.advance(now)
            tokens_wait_s = tokens_bucket.wait_s(ahead_tokens + tokens)
            if tokens_wait_s > wait_s:
                wait_s, limit = tokens_wait_s, f"{tokens_bucket.limit:g} tokens/min"
        if self._paused_until_s - now > wait_s:
            wait_s, limit = self._paused_until_s - now, "the server's wish to wait"
        if wait_s > 0.0 or ahead_requests:
            if ticket is None:
                ticket = Ticket(tokens)
                queue.append(ticket)
                self._queued_tokens += tokens
                self._waited += 1
            return Wait(wait_s + _PAD_S, ticket, limit or "requests that came before")
        if ticket is not None:
            self._leave(ticket)
        return Granted(self._take(tokens))

    def withdraw(self, ticket: Ticket) -> None:
        """Leave the queue; harmless if the ticket has left it before."""
        if self._leave(ticket):
            self._withdrawn += 1

    def settle(self, now: float, reservation: Reservation, actual_tokens: int) -> None:
        """The answer cost *actual_tokens* (prompt and completion): refund the rest, or book the debt."""
        if not reservation._is_open:
            return
        self._settled += 1
        self._used_tokens += actual_tokens
        unused = reservation.tokens - actual_tokens
        if unused < 0:
            self._indebted_tokens -= unused
        self._close(now, reservation, (0.0, float(unused)))

    def cancel(self, now: float, reservation: Reservation) -> None:
        """The request was never sent: it and its tokens come back, within the bound of every refund."""
        if not reservation._is_open:
            return
        self._cancelled += 1
        self._close(now, reservation, (1.0, float(reservation.tokens)))

    def synchronise(
        self, now: float, headers: RateHeaders, reservation: Reservation | None = None
    ) -> tuple[Adapted, ...]:
        """Take over what the answer to *reservation* says about the server's limits; the limits that changed.

        Without a reservation nothing is known about what we have sent since, and `remaining` is taken as it stands.
        A limit that we do not have ourselves is not adopted: who set none asked for none.
        """
        self._synchronised += 1
        adapted: list[Adapted] = []
        for index, (bucket, server) in enumerate(zip(self._buckets, (headers.requests, headers.tokens), strict=True)):
            if bucket is None or server is None:
                continue
            bucket.advance(now)
            since = 0.0 if reservation is None else bucket.taken - reservation._taken_so_far[index]
            before, lowered = bucket.obey(server, since)
            if bucket.limit != before:
                what = f"{bucket.what} per minute"
                adapted.append(Adapted(what, f"{before:g}", f"{bucket.limit:g}", "the server's own limit"))
            if lowered:
                # The server has counted these requests its own way and gives nothing back for them.
                for other in self._outstanding.values():
                    if reservation is None or other._order <= reservation._order:
                        other._rooms[index] = 0.0
        return tuple(adapted)

    def pause(self, now: float, seconds: float) -> None:
        """The server refused with 429: nothing is granted for *seconds*, and the buckets start from empty."""
        self._pauses += 1
        self._paused_until_s = max(self._paused_until_s, now + seconds)
        for index, bucket in enumerate(self._buckets):
            if bucket is not None:
                bucket.advance(now)
                bucket.level = min(bucket.level, 0.0)
                for other in self._outstanding.values():
                    other._rooms[index] = 0.0

    @property
    def head(self) -> Ticket | None:
        """Whose turn is next."""
        return self._queue[0] if self._queue else None

    def statistics(self) -> LimiterStatistics:
        """Counts, levels and limits."""
        requests, tokens = self._buckets
        return LimiterStatistics(
            granted=self._granted,
            waited=self._waited,
            impossible=self._impossible,
            withdrawn=self._withdrawn,
            cancelled=self._cancelled,
            settled=self._settled,
            reserved_tokens=self._reserved_tokens,
            used_tokens=self._used_tokens,
            refunded_requests=self._refunded_requests,
            refunded_tokens=self._refunded_tokens,
            lost_refund_tokens=self._lost_refund_tokens,
            indebted_tokens=self._indebted_tokens,
            synchronised=self._synchronised,
            pauses=self._pauses,
            queued=len(self._queue),
            requests_level=None if requests is None else requests.level,
            tokens_level=None if tokens is None else tokens.level,
            requests_per_minute=None if requests is None else requests.limit,
            tokens_per_minute=None if tokens is None else tokens.limit,
        )

    def _leave(self, ticket: Ticket) -> bool:
        try:
            self._queue.remove(ticket)
        except ValueError:
            return False
        self._queued_tokens -= ticket.tokens
        return True

    def _take(self, tokens: int) -> Reservation:
        self._granted += 1
        self._reserved_tokens += tokens
        self._note_rooms()
        rooms = [0.0, 0.0]
        for index, (bucket, amount) in enumerate(zip(self._buckets, (1.0, float(tokens)), strict=True)):
            if bucket is not None:
                bucket.level -= amount
                bucket.taken += amount
                rooms[index] = bucket.burst - bucket.level
        requests, token_bucket = self._buckets
        taken = (0.0 if requests is None else requests.taken, 0.0 if token_bucket is None else token_bucket.taken)
        self._order += 1
        reservation = Reservation(tokens, self._order, rooms, taken)
        self._outstanding[self._order] = reservation
        if len(self._outstanding) > _MAX_OUTSTANDING:
            del self._outstanding[next(iter(self._outstanding))]
        return reservation

    def _close(self, now: float, reservation: Reservation, unused: tuple[float, float]) -> None:
        """Give *unused* back as far as it may be, or take more where it is negative."""
        reservation._is_open = False
        for bucket in self._buckets:
            if bucket is not None:
                bucket.advance(now)
        self._note_rooms()
        is_known = self._outstanding.pop(reservation._order, None) is not None
        for index, bucket in enumerate(self._buckets):
            amount = unused[index]
            if bucket is None or amount == 0.0:
                continue
            room = max(0.0, reservation._rooms[index]) if is_known else 0.0
            back = min(amount, room)
            if amount > 0.0 and index:
                self._refunded_tokens += back
                self._lost_refund_tokens += amount - back
            elif amount > 0.0:
                self._refunded_requests += back
            if back == 0.0:
                continue
            bucket.level += back
            if back < 0.0:
                bucket.taken -= back
                continue
            # From here on the past reads as if *back* had never been taken; the others' room since then is smaller.
            for other in self._outstanding.values():
                later = other._order > reservation._order
                other._rooms[index] = other._rooms[index] - back if later else min(other._rooms[index], room - back)

    def _note_rooms(self) -> None:
        """Remember how little room the buckets have now; who can get nothing back any more is forgotten."""
        outstanding = self._outstanding
        if not outstanding:
            return
        requests, tokens = self._buckets
        requests_room = 0.0 if requests is None else requests.burst - requests.level
        tokens_room = 0.0 if tokens is None else tokens.burst - tokens.level
        if requests_room <= 0.0 and tokens_room <= 0.0:
            outstanding.clear()
            return
        for reservation in outstanding.values():
            rooms = reservation._rooms
            if requests_room < rooms[0]:
                rooms[0] = requests_room
            if tokens_room < rooms[1]:
                rooms[1] = tokens_room
