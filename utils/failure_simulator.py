"""Failures on demand: a transport that wraps the SDK's real one, so that faults hit the real bytes of a real server.

A plan says what happens to each chat request in turn; requests behind its end are left alone. The errors raised are
those that a real socket would raise, marked as simulated so that every report can say so.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import httpx2

__all__ = ["CutAfterEvents", "FailurePlan", "Fault", "FaultTransport", "RefusedConnection", "demo_plan"]


@dataclass(frozen=True, slots=True)
class RefusedConnection:
    """The connection is refused before anything is sent."""


@dataclass(frozen=True, slots=True)
class CutAfterEvents:
    """The connection is reset after *events* complete server-sent events have passed."""

    events: int


Fault = RefusedConnection | CutAfterEvents


class SimulatedConnectError(httpx2.ConnectError):
    """A refused connection that was asked for."""

    simulated = True


class SimulatedReadError(httpx2.ReadError):
    """A reset connection that was asked for."""

    simulated = True


class FailurePlan:
    """Hands out one fault per chat request, in order; None when the request is to be left alone."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._faults = list(faults)
        self.injected = 0
        """How many faults have really happened."""
        self.planned = len(self._faults)

    def next_fault(self) -> Fault | None:
        """The fault of the next request."""
        return self._faults.pop(0) if self._faults else None


def demo_plan(rng: random.Random) -> FailurePlan:
    """What `--simulate-failures` does: refuse the first connection, cut the second one early in the answer.

    The first fault comes before any text, so a recovery is seen even if the answer is too short to be cut.
    Draws once from *rng*: the place of the cut, 4 to 9 events in, which even a short answer reaches.
    """
    return FailurePlan([RefusedConnection(), CutAfterEvents(rng.randint(4, 9))])


class FaultTransport(httpx2.AsyncBaseTransport):
    """The transport with the faults; everything that the plan does not touch goes through *inner* unchanged."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, plan: FailurePlan) -> None:
        self._inner = inner
        self._plan = plan

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send, or fail as planned."""
        fault = self._plan.next_fault() if request.url.path.endswith("/chat/completions") else None
        if isinstance(fault, RefusedConnection):
            self._plan.injected += 1
            raise SimulatedConnectError("connection refused", request=request)
        response = await self._inner.handle_async_request(request)
        if isinstance(fault, CutAfterEvents):
            assert isinstance(response.stream, httpx2.AsyncByteStream)
            response.stream = _CutStream(response.stream, fault.events, self._plan, request)
        return response

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()


class _CutStream(httpx2.AsyncByteStream):
    """Passes bytes until a number of events is complete, then fails as a reset connection does."""

    def __init__(self, inner: httpx2.AsyncByteStream, events: int, plan: FailurePlan, request: httpx2.Request) -> None:
        self._inner = inner
        self._events = events
        self._plan = plan
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._events
        tail = b""
        async for data in self._inner:
            # An event ends with an empty line, which two reads may share.
            seen = tail + data
            end = 0
            while left and (found := seen.find(b"\n\n", end)) >= 0:
                left -= 1
                end = found + 2
            if not left:
                if end > len(tail):
                    yield seen[len(tail) : end]
                self._plan.injected += 1
                raise SimulatedReadError("connection reset", request=self._request)
            tail = seen[-1:] if end < len(seen) else b""
            yield data

    async def aclose(self) -> None:
        await self._inner.aclose()
