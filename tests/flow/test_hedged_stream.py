"""A second request when the first is late, through the whole stream: in virtual time, with mocked servers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.virtual_time import virtually
from utils.errors import AppError, Cancelled, ConnectionLost, ServerFailure, Stopped
from utils.events import Aborted, Adapted, Event, Finished, Interrupted, Opened, Retrying, TextDelta, Usage
from utils.resilience.adapting import Adaptation
from utils.resilience.backoff import Backoff
from utils.resilience.breaker import Breaker, Permit
from utils.resilience.continuation import Detected
from utils.resilience.hedging import HedgePolicy, Hedger
from utils.resilience.limited import SharedLimiter
from utils.resilience.limiter import Limiter, Limits
from utils.resilience.observations import Observations
from utils.resilience.rate_headers import RateHeaders
from utils.resilience.resilient_stream import Opener
from utils.resilience.retry_policy import RetryPolicy
from utils.resilience.upstream import Upstream
from utils.run_context import Parameters, Request, RunContext, Target
from utils.watchdog import Watchdog

STEP_S = 0.25
"""Between the pieces of an answer."""


@dataclass
class Reply:
    """What one request brings: *connect_s* to the connection, *content_s* more to its first content, then the rest.

    Closing its connection takes *closes_s*.
    """

    content_s: float
    connect_s: float = 0.0
    closes_s: float = 0.0
    refused: AppError | None = None
    """Raised in the place of the connection."""
    breaks: AppError | None = None
    """Raised in the place of the first content."""
    breaks_later: AppError | None = None
    """Raised behind it."""
    sent_s: float = -1.0
    opened: int = 0
    closed_s: list[float] = field(default_factory=list)
    attempt: int = 0

    @property
    def is_open(self) -> bool:
        return self.opened > len(self.closed_s)


class Server:
    """Gives the replies to requests, in order; each speaks of itself by its number."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = replies
        self._next = iter(replies)

    async def open_chat(
        self,
        request: Request,
        target: Target,
        *,
        attempt: int,
        watchdog: Watchdog,
        first_token_deadline_s: float | None,
    ) -> Source:
        reply = next(self._next)
        reply.sent_s, reply.attempt = watchdog.now(), attempt
        await watchdog.wait(asyncio.sleep(reply.connect_s), first_token_deadline_s, late)
        if reply.refused is not None:
            raise reply.refused
        reply.opened += 1
        return Source(reply, attempt, watchdog)

    async def detect(self, *args: Any) -> Detected:
        return Detected()

    @property
    def sent_s(self) -> list[float]:
        return [reply.sent_s for reply in self.replies if reply.sent_s >= 0.0]

    @property
    def open_ones(self) -> int:
        return sum(reply.is_open for reply in self.replies)


class Source:
    """One open answer: "I am N.", then its usage."""

    rate_headers = RateHeaders()

    def __init__(self, reply: Reply, attempt: int, watchdog: Watchdog) -> None:
        self._reply = reply
        self._watchdog = watchdog
        self._batches: list[tuple[float, list[Event] | AppError]] = [
            (0.0, [Opened("t", "m", attempt)]),
            (reply.content_s, reply.breaks or [TextDelta("I am ")]),
            (STEP_S, reply.breaks_later or [TextDelta(f"{attempt}.")]),
            (STEP_S, [Usage(3, 2, 5), Finished("stop")]),
        ]

    async def next_batch(self) -> list[Event]:
        after_s, batch = self._batches.pop(0)
        await self._watchdog.wait(asyncio.sleep(after_s), None, late)
        if isinstance(batch, AppError):
            raise batch
        return batch

    async def aclose(self) -> None:
        await asyncio.sleep(self._reply.closes_s)
        self._reply.closed_s.append(self._watchdog.now())


def late() -> AppError:
    return ConnectionLost("late")


class Run:
    """One run against a server, whose first content has always come after a second until now."""

    def __init__(
        self, *replies: Reply, policy: HedgePolicy | None = None, retries: int = 0, limits: Limits | None = None
    ):
        self.server = Server(*replies)
        self.breaker = Breaker(failure_threshold=10)
        observed = Observations()
        for _ in range(20):
            observed.first_content_s.observe(1.0)
        hedger = Hedger(policy or HedgePolicy(budget_ratio=1.0), observed.first_content_s)
        self.limiter = None if limits is None else SharedLimiter(Limiter(limits))
        self.upstream = Upstream(
            Target("http://t/v1", "m"), self.server, self.breaker, self.limiter, observed=observed, hedger=hedger
        )
        retry = RetryPolicy(retries=retries, backoff=Backoff(0.001, 0.002))
        self.opener = Opener([self.upstream], retry, adaptation=Adaptation())
        self.emitted: list[Event] = []
        self.pulled: list[Event] = []
        delay_s = hedger.statistics().delay_s
        assert delay_s is not None
        self.delay_s = delay_s

    async def answer(self) -> None:
        """Open and drain, as the flow does."""
        loop = asyncio.get_running_loop()
        self.context = RunContext(
            clock=loop.time, started_s=loop.time(), listeners=(lambda event, _: self.emitted.append(event),)
        )
        stream = await self.opener.open(Request("Who?", self.context, parameters=Parameters(max_tokens=100)))
        try:
            async for event in stream:
                self.pulled.append(event)
        finally:
            await stream.aclose()

    def hedges(self) -> list[Adapted]:
        return [event for event in self.emitted if isinstance(event, Adapted) and event.what == "requests at once"]

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.pulled if isinstance(event, TextDelta))

    def verdicts(self) -> tuple[int, int, int, int]:
        """What the breaker was told: admitted, succeeded, failed, released."""
        told = self.breaker.statistics()
        return told.admitted, told.succeeded, told.failed, told.released


def answered(run: Run) -> Run:
    virtually(run.answer)
    assert run.server.open_ones == 0
    return run


def test_a_late_first_request_is_overtaken_by_a_second_one_and_exactly_one_answer_is_shown() -> None:
    run = answered(Run(Reply(9.0), Reply(0.5)))
    first, second = run.server.replies
    assert run.server.sent_s == [0.0, pytest.approx(run.delay_s)]
    assert (first.attempt, second.attempt) == (1, 2)
    assert run.pulled == [TextDelta("I am "), TextDelta("2."), Usage(3, 2, 5), Finished("stop")]
    assert [event for event in run.emitted if isinstance(event, Opened)] == [Opened("t", "m", 2)]
    assert run.hedges() == [
        Adapted("requests at once", "1", "2", "no text from m at http://t/v1 after 0.98 s, which is later than usual")
    ]
    assert first.closed_s == [pytest.approx(run.delay_s + 0.5)], "as soon as the second has spoken"
    assert run.verdicts() == (2, 1, 0, 1), "the loser's permit goes back without a verdict"


def test_both_times_of_a_race_are_remembered() -> None:
    run = answered(Run(Reply(9.0), Reply(0.5)))
    seen = run.upstream.observed.first_content_s
    assert seen.count == 22
    assert seen.quantile(0.0) == pytest.approx(0.5, rel=0.02)
    assert seen.quantile(1.0) == pytest.approx(run.delay_s + 0.5, rel=0.02)
    assert run.upstream.hedger is not None
    assert run.upstream.hedger.statistics().won_by_second == 1


@pytest.mark.parametrize("connect_s", [0.0, 2.0])
def test_a_late_first_request_may_still_win_and_the_second_is_closed(connect_s: float) -> None:
    run = answered(Run(Reply(1.2), Reply(5.0, connect_s)))
    _, second = run.server.replies
    assert run.text == "I am 1."
    assert len(run.hedges()) == 1
    assert second.closed_s == ([pytest.approx(1.2)] if connect_s == 0.0 else [])
    assert run.verdicts() == (2, 1, 0, 1)


def test_a_first_request_in_time_stays_alone() -> None:
    run = answered(Run(Reply(0.9)))
    assert (run.text, run.server.sent_s, run.hedges()) == ("I am 1.", [0.0], [])
    assert run.verdicts() == (1, 1, 0, 0)


def test_without_a_budget_or_a_healthy_target_the_late_one_is_waited_for() -> None:
    run = answered(Run(Reply(9.0), policy=HedgePolicy(budget_ratio=0.05)))
    assert (run.text, run.server.sent_s, run.hedges()) == ("I am 1.", [0.0], [])

    busy = Run(Reply(9.0))

    async def with_a_cooldown() -> None:
        running = asyncio.create_task(busy.answer())
        await asyncio.sleep(0.5)
        permit = busy.breaker.admit(0.5)
        assert isinstance(permit, Permit)
        permit.cool_down(0.5, 60.0)
        await running

    virtually(with_a_cooldown)
    assert (busy.text, busy.server.sent_s, busy.hedges()) == ("I am 1.", [0.0], [])


def test_each_request_of_a_race_has_its_own_place_at_the_limiter() -> None:
    run = answered(Run(Reply(9.0), Reply(0.5), limits=Limits(60, 60_000)))
    assert run.limiter is not None
    told = run.limiter.statistics()
    assert (told.granted, told.settled, told.cancelled) == (2, 2, 0)
    # The server may have written all that the loser has asked for: nobody knows, so all of it counts.
    assert told.used_tokens == told.reserved_tokens // 2 + 5


def test_a_failure_of_one_leaves_the_other_in_the_race() -> None:
    run = answered(Run(Reply(9.0, breaks=ServerFailure("503")), Reply(9.5)))
    assert (run.text, run.verdicts()) == ("I am 2.", (2, 1, 1, 0))
    run = answered(Run(Reply(3.0), Reply(0.0, refused=ServerFailure("503"))))
    assert (run.text, run.verdicts()) == ("I am 1.", (2, 1, 1, 0))


def test_a_first_failure_before_the_delay_is_a_retry_and_no_hedge() -> None:
    run = answered(Run(Reply(0.3, breaks=ServerFailure("503")), Reply(0.5), retries=1))
    assert (run.text, run.hedges()) == ("I am 2.", [])
    assert any(isinstance(event, Retrying) for event in run.emitted)
    assert run.verdicts() == (2, 1, 1, 0)


def test_two_failures_are_one_failed_attempt_for_the_retries() -> None:
    run = answered(
        Run(Reply(1.5, breaks=ServerFailure("one")), Reply(0.1, breaks=ServerFailure("two")), Reply(0.2), retries=1)
    )
    causes = [event.cause.message for event in run.emitted if isinstance(event, Retrying)]
    assert (causes, run.text) == (["one"], "I am 3.")
    assert run.verdicts() == (3, 1, 2, 0)


def test_a_winner_that_breaks_later_is_a_failure_like_any_other() -> None:
    run = answered(Run(Reply(9.0), Reply(0.5, breaks_later=ConnectionLost("cut"))))
    assert (run.text, run.verdicts()) == ("I am ", (2, 0, 1, 1))
    assert isinstance(run.pulled[-2], Interrupted)
    assert isinstance(run.pulled[-1], Aborted)


DELAY_S = Run().delay_s


@pytest.mark.parametrize("how", ["stopped", "cancelled"])
@pytest.mark.parametrize(("connect_s", "closes_s"), [(0.0, 0.0), (0.3, 0.0), (0.0, 0.3)])
@pytest.mark.parametrize("at_s", [0.0, 0.2, DELAY_S, 1.1, DELAY_S + 0.4, DELAY_S + 0.5, 1.6, 1.95], ids="{:.2f}".format)
def test_a_run_that_ends_at_any_time_leaves_nothing_open(
    how: str, connect_s: float, closes_s: float, at_s: float
) -> None:
    replies = (Reply(9.0, connect_s, closes_s), Reply(0.5, connect_s, closes_s))
    run = Run(*replies, limits=Limits(60, 60_000))

    async def main() -> None:
        task = asyncio.create_task(run.answer())
        await asyncio.sleep(at_s)
        run.context.stop(Cancelled("stopped")) if how == "stopped" else task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            assert how == "cancelled"
        assert run.server.open_ones == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    virtually(main)
    admitted, succeeded, failed, released = run.verdicts()
    assert (succeeded, failed, released) == (0, 0, admitted)
    if how == "stopped":
        last = run.pulled[-1]
        assert isinstance(last, Aborted)
        assert isinstance(last.error, Stopped)
    assert run.limiter is not None
    told = run.limiter.statistics()
    assert told.granted == told.settled + told.cancelled == admitted
    assert run.context._on_stop == [], "no watchdog stays behind"
