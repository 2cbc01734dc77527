"""What a stream leaves behind of its pace: the gaps between its reads, counted once it is over; and its permit."""

from __future__ import annotations

import asyncio
import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.virtual_time import virtually
from utils.errors import AppError, ConnectionLost
from utils.events import Event, Finished, ReasoningDelta, TextDelta, Usage
from utils.resilience.breaker import Breaker, BreakerState, Permit
from utils.resilience.continuation import Detected
from utils.resilience.observations import Figure, Observations
from utils.resilience.rate_headers import RateHeaders
from utils.resilience.resilient_stream import Opener
from utils.resilience.retry_policy import RetryPolicy
from utils.resilience.upstream import Upstream
from utils.run_context import Request, RunContext, Target


class Source:
    """Gives its batches, each after its own time; an error among them is raised."""

    rate_headers = RateHeaders()

    def __init__(self, batches: list[tuple[float, list[Event] | AppError]]) -> None:
        self._batches = iter(batches)

    async def next_batch(self) -> list[Event]:
        after_s, batch = next(self._batches)
        await asyncio.sleep(after_s)
        if isinstance(batch, AppError):
            raise batch
        return batch

    async def aclose(self) -> None:
        pass


class OneAnswer:
    """A backend that plays it to everybody."""

    def __init__(self, batches: list[tuple[float, list[Event] | AppError]]) -> None:
        self._batches = batches

    async def open_chat(self, *args: Any, **options: Any) -> Source:
        return Source(self._batches)

    async def detect(self, *args: Any) -> Detected:
        return Detected()


def streamed(*batches: tuple[float, list[Event] | AppError], breaker: Breaker | None = None) -> Observations:
    """The figures of a target after one answer of these *batches*."""
    upstream = Upstream(Target("http://t/v1", "m"), OneAnswer(list(batches)), breaker or Breaker())

    async def main() -> None:
        clock = asyncio.get_running_loop().time
        opener = Opener([upstream], RetryPolicy(retries=0, resumes=0))
        stream = await opener.open(Request("?", RunContext(clock=clock, started_s=clock())))
        async for _ in stream:
            pass
        await stream.aclose()

    virtually(main)
    return upstream.observed


def text(piece: str = "word ") -> list[Event]:
    return [TextDelta(piece)]


STOP: tuple[float, list[Event]] = (0.0, [Usage(3, 5, 8), Finished("stop")])


@given(st.lists(st.floats(0.0, 1e6) | st.sampled_from([0.0, 1e-4, 1.0, 1e5, 1e6])))
def test_values_that_are_counted_together_are_counted_as_one_by_one(values: list[float]) -> None:
    together, one_by_one = Figure(), Figure()
    together.observe_all(iter(values))
    for value in values:
        one_by_one.observe(value)
    for figures in ((together._all, one_by_one._all), (together.take_new(), one_by_one.take_new())):
        texts = [None if figure is None else figure.to_json() for figure in figures]
        assert texts[0] == texts[1]
    together.observe_all(iter(values))
    assert together.count == 2 * len(values)


def test_the_gaps_between_reads_count_from_the_first_content_on() -> None:
    seen = streamed((3.0, [Usage(0, 0, 0)]), (2.0, text()), (0.5, text()), (0.5, [*text(), *text()]), STOP)
    assert seen.first_content_s.count == 1
    assert seen.first_content_s.quantile(1.0) == pytest.approx(5.0, rel=0.021)
    assert (seen.gap_s.count, seen.gap_s.quantile(0.9)) == (3, pytest.approx(0.5, rel=0.021))
    assert seen.tokens_per_s.quantile(0.5) == pytest.approx(4.0, rel=0.021)


def test_reasoning_is_content_too() -> None:
    seen = streamed((1.0, [ReasoningDelta("hm")]), (4.0, text()), STOP)
    assert seen.first_content_s.quantile(1.0) == pytest.approx(1.0, rel=0.021)
    assert (seen.gap_s.count, seen.gap_s.quantile(1.0)) == (2, pytest.approx(4.0, rel=0.021))


def test_an_answer_that_breaks_leaves_its_gaps_once() -> None:
    seen = streamed((1.0, text()), (0.5, text()), (0.5, ConnectionLost("cut")))
    assert seen.gap_s.count == 1


def test_an_answer_that_says_nothing_leaves_no_gap() -> None:
    assert streamed((1.0, [Usage(0, 0, 0)]), STOP).gap_s.count == 0


@pytest.mark.parametrize("reads", [2, 128, 129, 130, 256, 257, 258, 5_000])
def test_a_long_answer_gives_a_bounded_number_of_gaps_from_all_of_it(reads: int) -> None:
    # The gaps grow: 1, 2, 3, ... ms.
    batches = [(0.001 * number, text(f"{number} ")) for number in range(1, reads + 1)]
    seen = streamed(*batches, (0.0, [Finished("stop")])).gap_s
    assert min(reads, 64) <= seen.count <= 128
    step = math.ceil(reads / 128)
    assert seen.count == math.ceil(reads / step)
    largest_ms = max(itertools.islice([*range(2, reads + 1), 0], 0, None, step))
    assert seen.quantile(1.0) == pytest.approx(0.001 * largest_ms, rel=0.021)
    assert seen.quantile(0.5) == pytest.approx(0.001 * reads / 2, rel=0.06, abs=0.001)


def test_a_probe_may_write_for_longer_than_its_permit_lives_without_content() -> None:
    breaker = Breaker(failure_threshold=1, open_s=1.0, jitter=0.0, permit_s=5.0)
    permit = breaker.admit(-2.0)
    assert isinstance(permit, Permit)
    permit.fail(-2.0)
    streamed((4.0, text()), *[(4.0, text())] * 5, (9.0, text()), STOP, breaker=breaker)
    told = breaker.statistics()
    assert (told.state, told.succeeded, told.ignored, told.failed) == (BreakerState.CLOSED, 1, 0, 1)


def test_a_probe_that_breaks_long_after_its_first_content_is_a_failure_of_the_closed_breaker() -> None:
    breaker = Breaker(failure_threshold=1, open_s=1.0, jitter=0.0, permit_s=5.0)
    permit = breaker.admit(-2.0)
    assert isinstance(permit, Permit)
    permit.fail(-2.0)
    streamed((4.0, text()), *[(4.0, text())] * 5, (9.0, ConnectionLost("cut")), breaker=breaker)
    told = breaker.statistics()
    assert (told.state, told.failed, told.ignored, told.opened) == (BreakerState.OPEN, 2, 0, 2)
