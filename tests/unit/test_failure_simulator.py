"""The fault transport cuts where the plan says, however the bytes arrive."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import httpx2
import pytest

from utils.failure_simulator import CutAfterEvents, FailurePlan, FaultTransport, RefusedConnection, demo_plan

EVENTS = [b"data: 1\n\n", b": ping\n\n", b"data: two\ndata: lines\n\n", b"data: [DONE]\n\n"]
BODY = b"".join(EVENTS)


class Played(httpx2.AsyncByteStream):
    def __init__(self, size: int) -> None:
        self._size = size

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(BODY), self._size):
            yield BODY[start : start + self._size]


class Inner(httpx2.AsyncBaseTransport):
    def __init__(self, size: int) -> None:
        self._size = size

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, stream=Played(self._size))


async def fetch(transport: FaultTransport, path: str = "/v1/chat/completions") -> tuple[bytes, str]:
    request = httpx2.Request("POST", f"http://x{path}")
    try:
        response = await transport.handle_async_request(request)
    except httpx2.ConnectError as error:
        return b"", type(error).__name__
    got = b""
    try:
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        async for piece in response.stream:
            got += piece
    except httpx2.ReadError as error:
        assert getattr(error, "simulated", False)
        return got, type(error).__name__
    return got, ""


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10, 11, 1000])
@pytest.mark.parametrize("events", [1, 2, 3, 4])
def test_a_cut_comes_right_after_the_event_however_the_bytes_arrive(events: int, size: int) -> None:
    plan = FailurePlan([CutAfterEvents(events)])
    got, error = asyncio.run(fetch(FaultTransport(Inner(size), plan)))
    assert got == b"".join(EVENTS[:events])
    assert error == "SimulatedReadError"
    assert plan.injected == 1


@pytest.mark.parametrize("size", [1, 1000])
def test_a_cut_behind_the_end_does_not_happen(size: int) -> None:
    plan = FailurePlan([CutAfterEvents(5)])
    assert asyncio.run(fetch(FaultTransport(Inner(size), plan))) == (BODY, "")
    assert (plan.injected, plan.planned) == (0, 1)


def test_faults_come_in_order_and_only_to_chat_requests() -> None:
    transport = FaultTransport(Inner(7), FailurePlan([RefusedConnection(), CutAfterEvents(1)]))

    async def all_of_them() -> list[str]:
        return [
            (await fetch(transport, "/v1/models"))[1],
            (await fetch(transport))[1],
            (await fetch(transport))[1],
            (await fetch(transport))[1],
        ]

    assert asyncio.run(all_of_them()) == ["", "SimulatedConnectError", "SimulatedReadError", ""]


@pytest.mark.parametrize("seed", range(20))
def test_every_demo_plan_has_a_fault_before_the_answer_and_one_early_in_it(seed: int) -> None:
    plan = demo_plan(random.Random(seed))
    first, second = plan.next_fault(), plan.next_fault()
    assert isinstance(first, RefusedConnection)
    assert isinstance(second, CutAfterEvents)
    assert 4 <= second.events <= 9
    assert plan.next_fault() is None
