"""The limiter: no minute exceeds a limit, whatever is refunded, owed, refused or said by the server."""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.virtual_time import virtually
from utils.errors import Cancelled, RateLimited, UsageProblem
from utils.events import Adapted, Event
from utils.resilience.limited import SharedLimiter
from utils.resilience.limiter import Granted, Impossible, Limiter, Limits, Reservation, Wait, reservation_tokens
from utils.resilience.rate_headers import RateHeaders, ServerLimit, parse_reset, read_rate_headers
from utils.run_context import RunContext

NOW_EPOCH_S = 1_763_822_002.0


def granted(limiter: Limiter, now: float, tokens: int = 0) -> Reservation:
    answer = limiter.reserve(now, tokens)
    assert isinstance(answer, Granted), answer
    return answer.reservation


def wait(limiter: Limiter, now: float, tokens: int = 0) -> float:
    """How long the next request would wait; it does not stay in the queue."""
    answer = limiter.reserve(now, tokens)
    assert isinstance(answer, Wait), answer
    limiter.withdraw(answer.ticket)
    return answer.seconds


class Ledger:
    """What was taken in the last 60 s, counted as the law counts: requests sent; tokens reserved, less refunds."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.entries: deque[list[float]] = deque()
        """[instant, requests, tokens]"""
        self.requests = self.tokens = 0.0

    def note(self, now: float, tokens: float) -> list[float]:
        entry = [now, 1.0, tokens]
        self.entries.append(entry)
        self.requests += 1
        self.tokens += tokens
        while self.entries[0][0] < now - 60.0:
            _, requests, old = self.entries.popleft()
            self.requests -= requests
            self.tokens -= old
        rpm, tpm = self.limits.requests_per_minute, self.limits.tokens_per_minute
        assert rpm is None or self.requests <= rpm + 1e-6, (now, self.requests)
        assert tpm is None or self.tokens <= tpm + 1e-6, (now, self.tokens)
        return entry

    def refund(self, entry: list[float], now: float, requests: float, tokens: float) -> None:
        if any(other is entry for other in self.entries):
            self.requests -= requests
            self.tokens -= tokens
        entry[1] -= requests
        entry[2] -= tokens


@pytest.mark.parametrize(
    ("limits", "step_s"),
    [
        (Limits(1, None), 13.0),
        (Limits(2, 2_000), 5.0),
        (Limits(60, 9_000), 0.4),
        (Limits(None, 6_000, largest_request_tokens=4_000), 3.0),
        (Limits(500, 200_000), 0.5),
    ],
    ids=str,
)
def test_no_minute_of_a_day_of_greedy_traffic_exceeds_a_limit(limits: Limits, step_s: float) -> None:
    rng = random.Random(7)
    limiter, ledger, now, count = Limiter(limits), Ledger(limits), 1e6, 0
    open_ones: deque[tuple[Reservation, list[float], float]] = deque()
    largest = min(4_000, (limits.tokens_per_minute or 16_000) // 4)
    day_ends = now + 86_400.0
    while now < day_ends:
        tokens = rng.randint(1, largest)
        answer = limiter.reserve(now, tokens)
        if isinstance(answer, Wait):
            now += answer.seconds
            answer = limiter.reserve(now, tokens, answer.ticket)
        assert isinstance(answer, Granted), "the wait that was asked for is enough"
        count += 1
        entry = ledger.note(now, tokens)
        open_ones.append((answer.reservation, entry, now + rng.expovariate(1 / 20.0)))
        if rng.random() < 0.01:
            now += rng.uniform(0.0, 300.0)
        now += rng.uniform(0.0, step_s) * (rng.random() < 0.2)
        while open_ones and open_ones[0][2] < now:
            reservation, entry, _ = open_ones.popleft()
            before = limiter.statistics().refunded_tokens
            limiter.settle(now, reservation, rng.randint(0, reservation.tokens))
            ledger.refund(entry, now, 0.0, limiter.statistics().refunded_tokens - before)
    per_minute = count / 1440
    if limits.requests_per_minute is not None and limits.tokens_per_minute is None:
        assert per_minute > limits.requests_per_minute * 0.7, "the limit is used, too"


steps = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "reserve", "reserve", "settle", "owe", "cancel", "sync", "pause", "idle"]),
        st.floats(0.0, 40.0) | st.just(0.0),
        st.integers(0, 100),
    ),
    max_size=60,
)


@given(rpm=st.none() | st.integers(1, 12), tpm=st.none() | st.integers(2, 400), steps=steps)
@settings(max_examples=300, deadline=None)
def test_no_order_of_grants_refunds_debts_and_headers_breaks_the_law(
    rpm: int | None, tpm: int | None, steps: list[tuple[str, float, int]]
) -> None:
    limits = Limits(rpm, tpm)
    limiter, ledger, now = Limiter(limits), Ledger(limits), 0.0
    held: list[tuple[Reservation, list[float]]] = []
    for what, pause_s, number in steps:
        now += pause_s
        if what == "reserve":
            answer = limiter.reserve(now, number)
            if isinstance(answer, Wait):
                now += answer.seconds
                assert answer.seconds < math.inf
                answer = limiter.reserve(now, number, answer.ticket)
            if isinstance(answer, Granted):
                held.append((answer.reservation, ledger.note(now, number)))
        elif what in ("settle", "owe", "cancel") and held:
            reservation, entry = held.pop(number % len(held))
            before = limiter.statistics()
            if what == "cancel":
                limiter.cancel(now, reservation)
            else:
                limiter.settle(now, reservation, 0 if what == "settle" else reservation.tokens + number)
            after = limiter.statistics()
            # A cancelled request was never sent, however little of its place came back.
            never_sent = 1.0 if what == "cancel" else 0.0
            ledger.refund(entry, now, never_sent, after.refunded_tokens - before.refunded_tokens)
        elif what == "sync":
            said = ServerLimit(float(number), float(number // 2), pause_s)
            limiter.synchronise(now, RateHeaders(said, said), held[-1][0] if held else None)
        elif what == "pause":
            limiter.pause(now, pause_s)


def test_a_burst_and_then_a_steady_pace() -> None:
    limiter = Limiter(Limits(60))
    for _ in range(6):
        granted(limiter, 0.0)
    assert wait(limiter, 0.0) == pytest.approx(60 / 54, abs=1e-5)
    assert wait(limiter, 1.0) == pytest.approx(60 / 54 - 1.0, abs=1e-5)


def test_both_limits_are_reserved_together_or_not_at_all() -> None:
    limiter = Limiter(Limits(60, 1_000))
    granted(limiter, 0.0, 250)
    before = limiter.statistics()
    answer = limiter.reserve(0.0, 100)
    assert isinstance(answer, Wait)
    assert answer.limit == "1000 tokens/min"
    assert limiter.statistics().requests_level == before.requests_level


def test_a_request_that_never_fits_is_impossible_at_once() -> None:
    limiter = Limiter(Limits(tokens_per_minute=10_000))
    answer = limiter.reserve(0.0, 2_501)
    assert answer == Impossible(
        "a request of 2,501 tokens never fits: at most 2,500 are granted at once under a limit of 10,000 tokens/min"
    )
    assert isinstance(Limiter(Limits(None, 10_000, largest_request_tokens=4_000)).reserve(0.0, 4_000), Granted)


@pytest.mark.parametrize("numbers", [(0, None), (-1, None), (None, 1), (None, 0)])
def test_limits_that_make_no_sense_are_refused(numbers: tuple[int | None, int | None]) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        Limits(*numbers)


def test_no_limit_grants_everything() -> None:
    limiter = Limiter(Limits())
    for _ in range(1_000):
        granted(limiter, 0.0, 10**9)


def test_first_come_first_served_and_a_small_request_overtakes_nobody() -> None:
    limiter = Limiter(Limits(tokens_per_minute=1_000))
    granted(limiter, 0.0, 250)
    large, small = limiter.reserve(0.0, 200), limiter.reserve(0.0, 1)
    assert isinstance(large, Wait)
    assert isinstance(small, Wait)
    assert small.seconds == pytest.approx(201 / 12.5, abs=1e-5)
    assert isinstance(limiter.reserve(10.0, 1, small.ticket), Wait)
    assert isinstance(limiter.reserve(16.0 + 1e-5, 200, large.ticket), Granted)
    assert isinstance(limiter.reserve(16.1, 1, small.ticket), Granted)
    assert limiter.statistics().queued == 0


def test_who_withdraws_blocks_nobody() -> None:
    limiter = Limiter(Limits(tokens_per_minute=1_000))
    granted(limiter, 0.0, 250)
    large, small = limiter.reserve(0.0, 250), limiter.reserve(0.0, 10)
    assert isinstance(large, Wait)
    assert isinstance(small, Wait)
    limiter.withdraw(large.ticket)
    limiter.withdraw(large.ticket)
    assert isinstance(limiter.reserve(0.81, 10, small.ticket), Granted)
    assert limiter.statistics().withdrawn == 1


def test_a_refund_comes_back_and_only_once() -> None:
    limiter = Limiter(Limits(tokens_per_minute=1_000))
    reservation = granted(limiter, 0.0, 250)
    limiter.settle(0.0, reservation, 50)
    limiter.settle(0.0, reservation, 0)
    limiter.cancel(0.0, reservation)
    assert limiter.statistics().tokens_level == 200.0
    assert (limiter.statistics().settled, limiter.statistics().refunded_tokens) == (1, 200.0)


def test_a_refund_that_would_have_run_over_the_brim_is_lost() -> None:
    limiter = Limiter(Limits(tokens_per_minute=1_000))
    late = granted(limiter, 0.0, 200)
    # Full again after 16 s: from then on it makes no difference how much the first request took.
    granted(limiter, 60.0, 250)
    limiter.settle(60.0, late, 0)
    assert limiter.statistics().tokens_level == 0.0
    assert limiter.statistics().lost_refund_tokens == 200.0


def test_a_refund_is_bounded_by_the_least_room_since() -> None:
    limiter = Limiter(Limits(tokens_per_minute=1_000))
    late = granted(limiter, 0.0, 200)
    granted(limiter, 12.0, 200)  # 50 were missing to the brim just before
    limiter.settle(12.0, late, 0)
    assert limiter.statistics().refunded_tokens == pytest.approx(50.0)


def test_only_the_newest_thousand_reservations_are_remembered_for_a_refund() -> None:
    limiter = Limiter(Limits(tokens_per_minute=10**6))
    reservations = [granted(limiter, 0.0, 10) for _ in range(1_025)]
    for reservation in (reservations[0], reservations[1]):
        limiter.settle(0.0, reservation, 0)
    assert limiter.statistics().refunded_tokens == 10.0
    assert limiter.statistics().lost_refund_tokens == 10.0


def test_a_debt_is_paid_back_before_the_next_request() -> None:
    limiter = Limiter(Limits(tokens_per_minute=1_000))
    limiter.settle(0.0, granted(limiter, 0.0, 250), 500)
    assert limiter.statistics().tokens_level == -250.0
    assert limiter.statistics().indebted_tokens == 250
    assert wait(limiter, 0.0, 10) == pytest.approx(260 / 12.5, abs=1e-5)


def test_a_request_that_was_never_sent_gives_its_place_back() -> None:
    limiter = Limiter(Limits(requests_per_minute=1))
    limiter.cancel(0.0, granted(limiter, 0.0))
    granted(limiter, 0.0)
    assert wait(limiter, 0.0) == pytest.approx(61.0, abs=1e-5)


def said(limit: float | None = None, remaining: float | None = None, reset_s: float | None = None) -> RateHeaders:
    return RateHeaders(tokens=ServerLimit(limit, remaining, reset_s))


def test_the_servers_remaining_lowers_the_level_and_never_raises_it() -> None:
    limiter = Limiter(Limits(tokens_per_minute=1_000))
    reservation = granted(limiter, 0.0, 100)
    limiter.synchronise(0.0, said(remaining=900.0), reservation)
    assert limiter.statistics().tokens_level == 150.0
    limiter.synchronise(0.0, said(remaining=40.0), reservation)
    assert limiter.statistics().tokens_level == 40.0
    limiter.settle(0.0, reservation, 0)
    assert limiter.statistics().tokens_level == 40.0, "the server gives nothing back for what it has counted"


def test_what_was_sent_after_the_answered_request_is_still_missing_in_its_remaining() -> None:
    limiter = Limiter(Limits(tokens_per_minute=1_000))
    first = granted(limiter, 0.0, 100)
    granted(limiter, 0.0, 50)
    limiter.synchronise(0.0, said(remaining=60.0), first)
    assert limiter.statistics().tokens_level == 10.0


def test_the_servers_limit_lowers_ours_and_raises_it_again_up_to_what_was_set() -> None:
    limiter = Limiter(Limits(tokens_per_minute=1_000))
    lower = limiter.synchronise(0.0, said(400.0))
    assert lower == (Adapted("tokens per minute", "1000", "400", "the server's own limit"),)
    assert isinstance(limiter.reserve(0.0, 101), Impossible)
    assert limiter.synchronise(0.0, said(400.0)) == ()
    higher = limiter.synchronise(0.0, said(5_000.0))
    assert higher == (Adapted("tokens per minute", "400", "1000", "the server's own limit"),)
    assert limiter.statistics().tokens_level == 100.0, "a higher limit fills nothing"


def test_a_daily_limit_slows_us_down_to_its_pace_until_its_reset() -> None:
    limiter = Limiter(Limits(requests_per_minute=60))
    daily = RateHeaders(requests=ServerLimit(200.0, 0.0, 3600.0))
    limiter.synchronise(0.0, daily, granted(limiter, 0.0))
    assert wait(limiter, 0.0) == pytest.approx(18.0, abs=1e-5)
    assert wait(limiter, 9.0) == pytest.approx(9.0, abs=1e-5)
    late = Limiter(Limits(requests_per_minute=60))
    late.synchronise(0.0, RateHeaders(requests=ServerLimit(200.0, 199.0, 5.0)), granted(late, 0.0))
    late.pause(0.0, 0.0)
    # 0.2 per second for 5 s are 1; without the reset behind it the second one would come after 10 s.
    granted(late, 5.1)
    assert wait(late, 5.1) < 60 / 54


def test_a_limit_that_was_not_set_is_not_adopted() -> None:
    limiter = Limiter(Limits(requests_per_minute=60))
    assert limiter.synchronise(0.0, said(10.0, 0.0, 60.0)) == ()
    granted(limiter, 0.0, 10_000)


def test_a_pause_holds_everyone_and_leaves_the_buckets_empty() -> None:
    limiter = Limiter(Limits(requests_per_minute=60))
    reservation = granted(limiter, 0.0)
    limiter.pause(0.0, 20.0)
    answer = limiter.reserve(0.0, 0)
    assert isinstance(answer, Wait)
    assert answer.limit == "the server's wish to wait"
    assert answer.seconds == pytest.approx(20.0, abs=1e-5)
    limiter.cancel(0.0, reservation)
    assert limiter.statistics().requests_level == 0.0
    assert isinstance(limiter.reserve(20.1, 0, answer.ticket), Granted)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360.0),
        ("250ms", 0.25),
        ("1s", 1.0),
        ("1h2m3.5s", 3723.5),
        ("2d", 86_400.0),
        ("17µs", 17e-6),
        (" 59.7 ", 59.7),
        ("0", 0.0),
        ("1763822012", 10.0),
        ("1763822012000", 10.0),
        ("1763821000", 0.0),
        ("2025-11-22T14:33:32Z", 10.0),
        ("2025-11-22T15:33:32+01:00", 10.0),
        ("2025-11-22T14:33:32", 10.0),
        ("", None),
        ("soon", None),
        ("-5s", None),
        ("nan", None),
        ("inf", None),
        ("1s later", None),
        ("9" * 400, None),
        ("9999-99-99", None),
    ],
)
def test_every_form_of_a_reset(text: str, seconds: float | None) -> None:
    found = parse_reset(text, now_epoch_s=NOW_EPOCH_S)
    assert found == (None if seconds is None else pytest.approx(seconds))


def test_headers_are_read_in_both_spellings_and_nonsense_is_absent() -> None:
    headers = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "anthropic-ratelimit-tokens-limit": "40000",
        "anthropic-ratelimit-tokens-remaining": "many",
        "anthropic-ratelimit-tokens-reset": "2025-11-22T14:33:32Z",
    }
    assert read_rate_headers(headers, now_epoch_s=NOW_EPOCH_S) == RateHeaders(
        ServerLimit(60.0, 59.0, 1.0), ServerLimit(40_000.0, None, 10.0)
    )
    assert read_rate_headers({"x-ratelimit-limit-tokens": "x"}, now_epoch_s=0.0) == RateHeaders()


@given(st.text(max_size=30))
def test_no_reset_raises_or_leaves_its_bounds(text: str) -> None:
    found = parse_reset(text, now_epoch_s=NOW_EPOCH_S)
    assert found is None or 0.0 <= found <= 86_400.0


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "tokens"), [("", None, 1_040), ("abc", 10, 27), ("語", 0, 17), ("x" * 3_000, 100, 1_116)]
)
def test_what_a_request_reserves(prompt: str, max_tokens: int | None, tokens: int) -> None:
    assert reservation_tokens(prompt, max_tokens) == tokens


# The edge: waiting in virtual time.


def context(total_s: float | None = None) -> tuple[RunContext, list[Event]]:
    loop, seen = asyncio.get_running_loop(), []
    now = loop.time()
    made = RunContext(
        clock=loop.time,
        started_s=now,
        deadline_s=None if total_s is None else now + total_s,
        listeners=(lambda event, _: seen.append(event),),
    )
    return made, seen


def test_waiters_are_served_in_order_each_at_its_time_and_are_told() -> None:
    async def main() -> None:
        shared = SharedLimiter(Limiter(Limits(tokens_per_minute=1_000)))
        ctx, seen = context()
        served: list[tuple[str, float]] = []

        async def one(name: str, tokens: int) -> None:
            await shared.acquire(ctx, tokens)
            served.append((name, round(asyncio.get_running_loop().time(), 3)))

        await asyncio.gather(one("a", 250), one("b", 200), one("c", 1), one("d", 24))
        assert served == [("a", 0.0), ("b", 16.0), ("c", 16.08), ("d", 18.0)]
        assert seen[0] == Adapted("start of the request", "now", "in 16.0 s", "1000 tokens/min")

    virtually(main)


def test_a_refund_wakes_the_head() -> None:
    async def main() -> None:
        shared = SharedLimiter(Limiter(Limits(tokens_per_minute=1_000)))
        ctx, _ = context()
        first = await shared.acquire(ctx, 250)
        loop = asyncio.get_running_loop()
        loop.call_later(1.0, lambda: shared.settle(loop.time(), first, 10))
        await shared.acquire(ctx, 200)
        assert loop.time() == 1.0

    virtually(main)


def test_a_turn_after_the_deadline_is_not_waited_for() -> None:
    async def main() -> None:
        shared = SharedLimiter(Limiter(Limits(requests_per_minute=1)))
        ctx, _ = context(total_s=30.0)
        await shared.acquire(ctx, 0)
        with pytest.raises(RateLimited, match="1 requests/min leave no place") as caught:
            await shared.acquire(ctx, 0)
        assert not caught.value.is_retryable
        assert asyncio.get_running_loop().time() == 0.0
        assert shared.statistics().queued == 0

    virtually(main)


def test_a_request_that_never_fits_is_a_usage_problem() -> None:
    async def main() -> None:
        shared = SharedLimiter(Limiter(Limits(tokens_per_minute=100)))
        with pytest.raises(UsageProblem, match="never fits"):
            await shared.acquire(context()[0], 26)

    virtually(main)


@pytest.mark.parametrize(("how", "error"), [("stop", Cancelled), ("cancel", asyncio.CancelledError)])
def test_who_goes_away_while_waiting_leaves_the_queue_to_the_next(how: str, error: type[BaseException]) -> None:
    async def main() -> None:
        shared = SharedLimiter(Limiter(Limits(tokens_per_minute=1_000)))
        leaving, staying = context()[0], context()[0]
        await shared.acquire(staying, 250)
        gone = asyncio.create_task(shared.acquire(leaving, 250))
        await asyncio.sleep(0)
        kept = asyncio.create_task(shared.acquire(staying, 125))
        await asyncio.sleep(0)
        leaving.stop(Cancelled("stopped")) if how == "stop" else gone.cancel()
        with pytest.raises(error):
            await gone
        await kept
        assert asyncio.get_running_loop().time() == pytest.approx(10.0, abs=1e-4)
        assert shared.statistics().withdrawn == 1

    virtually(main)


def test_a_debt_that_pushes_a_turn_behind_the_deadline_ends_the_wait() -> None:
    async def main() -> None:
        shared = SharedLimiter(Limiter(Limits(tokens_per_minute=1_000)))
        ctx, _ = context(total_s=25.0)
        first = await shared.acquire(ctx, 250)
        loop = asyncio.get_running_loop()
        loop.call_later(1.0, lambda: shared.settle(loop.time(), first, 900))
        with pytest.raises(RateLimited):
            await shared.acquire(ctx, 250)
        assert loop.time() == 1.0

    virtually(main)
