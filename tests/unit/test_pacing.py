"""Pacing: no window shows more than the budget and the rate, nothing is reordered or lost, and an end is an end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.virtual_time import virtually
from utils.errors import Cancelled, ConnectionLost, TotalTimeout
from utils.events import Aborted, Blocked, Event, Finished, Redacted, TextDelta, TokenLogprob, Usage
from utils.resilience.paced import paced
from utils.resilience.pacing import Pacer, tokens_in
from utils.run_context import RunContext

rates = st.floats(0.5, 500.0)


def tokens(*texts: str) -> tuple[TokenLogprob, ...]:
    return tuple(TokenLogprob(text, -0.5) for text in texts)


@given(rates, st.lists(st.tuples(st.floats(0.0, 3.0), st.floats(0.1, 1.0)), min_size=1, max_size=60))
@settings(deadline=None)
def test_no_window_shows_more_than_the_budget_and_the_rate(rate: float, arrivals: list[tuple[float, float]]) -> None:
    pacer, now, shown = Pacer(rate), 0.0, []
    for pause_s, share in arrivals:
        now += pause_s
        size = max(0.1, share * pacer.budget_tokens)
        due_s = pacer.due_s(now, size)
        assert due_s >= now
        now = due_s
        shown.append((due_s, size))
    for first in range(len(shown)):
        total = 0.0
        for at_s, size in shown[first:]:
            total += size
            assert total <= pacer.budget_tokens + rate * (at_s - shown[first][0]) + 1e-6


@given(rates, st.integers(1, 200))
def test_a_busy_stream_is_shown_at_the_rate_and_not_slower(rate: float, count: int) -> None:
    pacer, now = Pacer(rate), 0.0
    for _ in range(count):
        now = pacer.due_s(now, 1.0)
    assert now == pytest.approx(max(0.0, count - pacer.budget_tokens) / rate, abs=1e-6)
    assert pacer.statistics().tokens == count


def test_a_pause_earns_no_more_than_the_budget() -> None:
    pacer = Pacer(4.0)
    assert [pacer.due_s(0.0, 1.0), pacer.due_s(0.0, 1.0)] == [0.0, 0.25]
    assert [pacer.due_s(60.0, 1.0), pacer.due_s(60.0, 1.0)] == [60.0, 60.25]
    assert (pacer.statistics().delayed_pieces, pacer.statistics().delayed_s) == (2, 0.5)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("inf"), float("nan")])
def test_a_rate_that_makes_no_sense_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        Pacer(rate)


@pytest.mark.parametrize(
    ("delta", "pieces"),
    [
        (TextDelta("short"), ["short"]),
        (TextDelta("one two three four five"), ["one two ", "three ", "four ", "five"]),
        (TextDelta("a" * 20), ["a" * 8, "a" * 8, "aaaa"]),
        (TextDelta("abcdefge\u0301\u0302 xyz w"), ["abcdefge\u0301\u0302", " xyz w"]),
        (TextDelta("1234567👩\u200d🚀👍🏽 x"), ["1234567👩\u200d🚀", "👍🏽 x"]),
        (TextDelta("one two three", tokens("one", " two", " three")), ["one two", " three"]),
        (TextDelta("one two three", tokens("one", " two", "")), ["one two ", "three"]),
    ],
    ids=ascii,
)
def test_where_a_large_delta_is_cut(delta: TextDelta, pieces: list[str]) -> None:
    found = list(Pacer(8.0, budget_tokens=2.0).pieces(delta))
    assert [piece.text for piece in found] == pieces
    assert tuple(token for piece in found for token in piece.tokens) == delta.tokens


@given(st.text(min_size=1, max_size=200), st.floats(1.0, 9.0))
def test_pieces_join_to_the_delta_and_none_is_empty(text: str, budget: float) -> None:
    found = list(Pacer(8.0, budget_tokens=budget).pieces(TextDelta(text)))
    assert "".join(piece.text for piece in found) == text
    assert all(piece.text for piece in found)


# The stage, in virtual time.


class Source:
    """Plays events at once and knows whether it was closed."""

    def __init__(self, events: Sequence[Event | Exception]) -> None:
        self._events = iter(events)
        self.closed = 0

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        event = next(self._events, None)
        if event is None:
            raise StopAsyncIteration
        if isinstance(event, Exception):
            raise event
        return event

    async def aclose(self) -> None:
        self.closed += 1


def played(
    events: Sequence[Event | Exception], *, rate: float = 4.0, total_s: float | None = None, stop_s: float | None = None
) -> list[tuple[float, Event]]:
    async def main() -> list[tuple[float, Event]]:
        loop = asyncio.get_running_loop()
        context = RunContext(clock=loop.time, started_s=loop.time(), deadline_s=total_s)
        if stop_s is not None:
            loop.call_at(stop_s, context.stop, Cancelled("stopped"))
        source = Source(events)
        stage = paced(source, Pacer(rate), context=context)
        shown = [(round(loop.time(), 3), event) async for event in stage]
        assert source.closed == 1
        return shown

    return virtually(main)


WORDS = [TextDelta(word) for word in ("one ", "two ", "six ")]


def test_text_flows_at_the_pace_and_everything_keeps_its_order() -> None:
    usage, end = Usage(1, 3, 4), Finished("stop")
    redacted = Redacted("card", "[card numbers]", 8)
    shown = played([WORDS[0], redacted, WORDS[1], usage, WORDS[2], end])
    # The replacement has 14 characters: 3.5 tokens, more than the budget of 1, and charged in full.
    assert shown == [
        (0.0, WORDS[0]),
        (0.25, redacted),
        (1.125, WORDS[1]),
        (1.125, usage),
        (1.375, WORDS[2]),
        (1.375, end),
    ]


def test_one_large_delta_is_spread_out() -> None:
    shown = played([TextDelta("one two six ten"), Finished("stop")])
    assert [(at_s, event.text) for at_s, event in shown if isinstance(event, TextDelta)] == [
        (0.0, "one "),
        (0.25, "two "),
        (0.5, "six "),
        (0.75, "ten"),
    ]


@pytest.mark.parametrize("end", [Blocked("secrets"), Aborted(ConnectionLost("lost")), Finished("length")], ids=str)
def test_an_end_is_not_delayed(end: Event) -> None:
    assert played([*WORDS, end])[-1] == (0.5, end)


def test_an_error_of_the_stream_ends_it_at_once() -> None:
    lost = ConnectionLost("lost")
    assert played([WORDS[0], lost])[-1] == (0.0, Aborted(lost))


def test_a_stop_ends_the_wait_and_drops_the_rest() -> None:
    shown = played([*WORDS, Finished("stop")], stop_s=0.3)
    assert [at_s for at_s, _ in shown] == [0.0, 0.25, 0.3]
    assert isinstance(shown[-1][1], Aborted)
    assert isinstance(shown[-1][1].error, Cancelled)


def test_the_time_of_the_run_ends_the_wait() -> None:
    shown = played([*WORDS, Finished("stop")], total_s=0.3)
    assert isinstance(shown[-1][1], Aborted)
    assert isinstance(shown[-1][1].error, TotalTimeout)


def test_the_source_is_closed_when_the_consumer_goes_away() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        source = Source([*WORDS, Finished("stop")])
        stage = paced(source, Pacer(4.0), context=RunContext(clock=loop.time, started_s=0.0))
        await anext(stage)
        await stage.aclose()
        assert source.closed == 1

    virtually(main)


def test_tokens_are_those_of_the_server_or_a_guess() -> None:
    assert tokens_in(TextDelta("abc", tokens("a", "b", "c"))) == 3.0
    assert tokens_in(TextDelta("a")) == 1.0
    assert tokens_in(TextDelta("a" * 10)) == 2.5
