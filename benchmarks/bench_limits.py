"""What the limiter, the pace, the hedge, the retry decision and the loop guard cost, in microseconds per operation.

    python benchmarks/bench_limits.py [--rounds 7]

Medians of interleaved rounds; each case asserts what it did, so a case that does nothing cannot be fast.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.errors import ServerFailure
from utils.events import TextDelta
from utils.resilience.hedged import hedged
from utils.resilience.hedging import HedgePlan, Hedger
from utils.resilience.latency_window import LatencyWindow
from utils.resilience.limiter import Granted, Limiter, Limits, Reservation
from utils.resilience.loop_guard import LoopGuard
from utils.resilience.pacing import Pacer
from utils.resilience.rate_headers import read_rate_headers
from utils.resilience.retry_policy import AttemptBudget, Capabilities, Retry, RetryBudget, RetryPolicy, decide

COUNT = 2_000
HEADERS = {
    f"x-ratelimit-{part}-{what}": value
    for what, values in {"requests": ("500", "499", "120ms"), "tokens": ("200000", "199000", "6m0s")}.items()
    for part, value in zip(("limit", "remaining", "reset"), values, strict=True)
}
WORDS = Path(__file__).read_text(encoding="utf-8").split(" ")


def limiter_in_flight(in_flight: int) -> Callable[[], int]:
    def case() -> int:
        limiter, open_ones, now, granted = Limiter(Limits(10**6, 10**9)), [], 0.0, 0
        for _ in range(COUNT):
            answer = limiter.reserve(now, 1_000)
            assert isinstance(answer, Granted)
            granted += 1
            open_ones.append(answer.reservation)
            if len(open_ones) > in_flight:
                reservation: Reservation = open_ones.pop(0)
                limiter.settle(now, reservation, 300)
            now += 1e-6
        return granted

    return case


def headers() -> int:
    limiter, read = Limiter(Limits(500, 200_000)), 0
    for _ in range(COUNT):
        limiter.synchronise(0.0, read_rate_headers(HEADERS, now_epoch_s=0.0))
        read += 1
    return read


def pacing() -> int:
    pacer, now, shown = Pacer(100.0), 0.0, 0
    for word in (WORDS * (1 + COUNT // len(WORDS)))[:COUNT]:
        for piece in pacer.pieces(TextDelta(word or " ")):
            now = pacer.due_s(now, 1.0)
            assert piece.text
        shown += 1
    return shown


def plans() -> int:
    window = LatencyWindow()
    hedger, rng, planned = Hedger(latencies=window), random.Random(1), 0
    for _ in range(COUNT):
        planned += hedger.plan() is not None
        hedger.observe(rng.random())
    assert window.count == 256
    return planned


def races() -> int:
    async def opener() -> int:
        await asyncio.sleep(0)
        return 1

    async def close(_: int) -> None:
        pass

    async def main() -> int:
        plan = HedgePlan(1.0, lambda: True, lambda _: False)
        return sum([(await hedged(opener, opener, plan, time.monotonic, close=close)).value for _ in range(COUNT)])

    return asyncio.run(main())


def decisions() -> int:
    error, budget, rng, policy = ServerFailure("503"), RetryBudget(), random.Random(1), RetryPolicy()
    can, retried = Capabilities(("replay",), "b"), 0
    for number in range(COUNT):
        now = number * 1e-3
        budget.note_request(now)
        left = AttemptBudget(30.0, may_retry=budget.allows(now))
        decision = decide(error, attempt=1, shown_chars=0, budget=left, capabilities=can, policy=policy, rng=rng)
        retried += isinstance(decision, Retry)
    return retried


def loops() -> int:
    guard, fed = LoopGuard(), 0
    for word in (WORDS * (1 + COUNT // len(WORDS)))[:COUNT]:
        guard.feed(word + " ")
        fed += 1
    assert guard.loop is None
    return fed


CASES: dict[str, Callable[[], int]] = {
    "limiter: reserve and settle, 1 in flight": limiter_in_flight(1),
    "limiter: reserve and settle, 16 in flight": limiter_in_flight(16),
    "limiter: reserve and settle, 256 in flight": limiter_in_flight(256),
    "limiter: read and take over six headers": headers,
    "pacing: one token": pacing,
    "hedging: plan and observe (256 samples)": plans,
    "hedging: a race that the first one wins": races,
    "retries: budget and decision": decisions,
    "loop guard: one token": loops,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Microseconds per operation of the limiting and hedging cores.")
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    seconds: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(rounds):
        for name, case in CASES.items():
            started_s = time.perf_counter()
            assert case() == COUNT, name
            seconds[name].append(time.perf_counter() - started_s)
    for name, taken in seconds.items():
        print(f"{name:<46}{1e6 * statistics.median(taken) / COUNT:8.2f} us   (best {1e6 * min(taken) / COUNT:.2f})")


if __name__ == "__main__":
    main()
