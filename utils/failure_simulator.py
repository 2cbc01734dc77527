"""Failures on demand: a transport that wraps the SDK's real one, so that faults hit the real bytes of a real server.

A plan (`utils.failures.grammar`) says what happens to each chat request in turn; whatever it does not touch goes
through unchanged, and an attempt without a fault is not even looked at. Faults of the connection and responses that
stand in for the server's come before anything is sent: nothing is asked of the server, nothing is billed. Faults in
the body leave a response alone that is no success. The errors raised are those that a real socket would raise, with
the same causes, marked as simulated; errors that arise higher up are marked by `MarkingBackend`.

Any transport can be inside. `wrap_client` puts the plan into a client that somebody else has made: the SDK's aiohttp
client, or one whose proxies come from the environment.
"""

from __future__ import annotations

import asyncio
import errno
import math
import os
import random
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import NoReturn

import httpx2

from utils.failures.answers import answer_of
from utils.failures.faults import KINDS, At, Fault
from utils.failures.grammar import parse_plan
from utils.failures.marking import MarkingBackend, witness
from utils.failures.plan import FailurePlan, FailureStatistics, Injection
from utils.failures.stream import Break, End, Send, Transformer, Wait, expected_events, transformer_of

__all__ = [
    "At",
    "FailurePlan",
    "FailureStatistics",
    "Fault",
    "FaultTransport",
    "MarkingBackend",
    "Sleep",
    "demo_plan",
    "parse_plan",
    "wrap_client",
]

Sleep = Callable[[float], Awaitable[object]]
"""Waits so many seconds, perhaps `math.inf`; cancelled by whoever has a deadline."""

_CHAT_PATH = "/chat/completions"


class SimulatedConnectError(httpx2.ConnectError):
    """No connection, because that was asked for."""

    simulated = True


class SimulatedConnectTimeout(httpx2.ConnectTimeout):
    """No connection in time, because that was asked for."""

    simulated = True


class SimulatedReadTimeout(httpx2.ReadTimeout):
    """Silence that was asked for, longer than the client's own read timeout."""

    simulated = True


class SimulatedReadError(httpx2.ReadError):
    """A reset connection that was asked for."""

    simulated = True


class SimulatedProtocolError(httpx2.RemoteProtocolError):
    """A body without its end that was asked for."""

    simulated = True


def demo_plan(rng: random.Random) -> FailurePlan:
    """What `--simulate-failures` does: refuse the first connection, reset the second one early in the answer.

    The first fault comes before any text, so a recovery is seen even if the answer is too short to be cut.
    Draws once from *rng*: the place of the reset, 4 to 9 events in, which even a short answer reaches.
    """
    return FailurePlan([Fault("refused"), Fault("reset", at=At(rng.randint(4, 9), "e"))], seed=0)


def wrap_client(
    client: httpx2.AsyncClient, wrap: Callable[[httpx2.AsyncBaseTransport], httpx2.AsyncBaseTransport]
) -> None:
    """Put *wrap* around every transport of *client*, those of its proxies too; before its first request.

    The one way to a transport that a client makes for itself. The attributes are private ones of httpx2 2.x.
    """
    client._transport = wrap(client._transport)
    client._mounts = {
        pattern: None if transport is None else wrap(transport) for pattern, transport in client._mounts.items()
    }


class FaultTransport(httpx2.AsyncBaseTransport):
    """The transport with the faults; several may share one plan. *sleep* is for tests."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, plan: FailurePlan, *, sleep: Sleep = asyncio.sleep) -> None:
        self._inner = inner
        self._plan = plan
        self._sleep = sleep

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send, or fail as planned."""
        injection = self._plan.next_injection() if request.url.path.endswith(_CHAT_PATH) else None
        if injection is None:
            return await self._inner.handle_async_request(request)
        witness(injection)
        fault = injection.fault
        phase = KINDS[fault.kind].phase
        if phase == "connection":
            await self._fail_to_connect(request, injection)
        if phase == "response":
            injection.happen()
            answer = answer_of(fault)
            return httpx2.Response(answer.status, headers=answer.headers, stream=_Body(answer.body), request=request)
        response = await self._inner.handle_async_request(request)
        if 200 <= response.status_code < 300:
            self._spoil(request, response, injection)
        return response

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()

    async def _fail_to_connect(self, request: httpx2.Request, injection: Injection) -> NoReturn:
        fault = injection.fault
        injection.happen()
        match fault.kind:
            case "refused":
                refusal = ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
                raise SimulatedConnectError("connection refused", request=request) from refusal
            case "dns":
                unknown = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
                raise SimulatedConnectError("name or service not known", request=request) from unknown
            case "tls":
                bad = ssl.SSLCertVerificationError(1, "certificate verify failed: self-signed certificate")
                raise SimulatedConnectError("certificate verify failed", request=request) from bad
            case "connect_timeout":
                await self._sleep(_seconds(fault, _timeout(request, "connect")))
                raise SimulatedConnectTimeout("", request=request)
            case _:
                await self._sleep(min(_seconds(fault, math.inf), _timeout(request, "read")))
                raise SimulatedReadTimeout("", request=request)

    def _spoil(self, request: httpx2.Request, response: httpx2.Response, injection: Injection) -> None:
        fault = injection.fault
        if fault.kind == "content_type":
            response.headers["content-type"] = str(fault.value)
            injection.happen(0)
            return
        transformer = transformer_of(fault, expected_events(_content(request)))
        assert transformer is not None
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        # It tells the length of the body that the server sends, and this one may be another.
        response.headers.pop("content-length", None)
        response.stream = _SpoiltBody(response.stream, transformer, injection, request, self._sleep)


class _Body(httpx2.AsyncByteStream):
    """A body that is at hand. A response made of bytes would count as read, which a stream's reader refuses."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._data:
            yield self._data


class _SpoiltBody(httpx2.AsyncByteStream):
    """The server's body with a fault in it, pulled only as it is asked for."""

    def __init__(
        self,
        inner: httpx2.AsyncByteStream,
        transformer: Transformer,
        injection: Injection,
        request: httpx2.Request,
        sleep: Sleep,
    ) -> None:
        self._inner = inner
        self._transformer = transformer
        self._injection = injection
        self._request = request
        self._sleep = sleep
        self._read_timeout_s = _timeout(request, "read")
        self._is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        source = self._inner.__aiter__()
        is_begun = False
        try:
            transformer = self._transformer
            actions = transformer.start()
            is_at_end = False
            failure: Exception | None = None
            while True:
                self._count()
                for action in actions:
                    match action:
                        case Send(data):
                            yield data
                        case Wait(seconds):
                            await self._wait(math.inf if seconds is None else seconds)
                        case End():
                            await self.aclose()
                            return
                        case Break(how):
                            await self.aclose()
                            raise self._broken(how)
                if failure is not None:
                    self._injection.is_to_blame = False
                    raise failure
                if is_at_end:
                    return
                is_begun = True
                try:
                    if transformer.is_spent:
                        async for data in source:
                            yield data
                        return
                    chunk = await anext(source, None)
                except Exception as error:
                    # A real one; what was held of an unfinished event had arrived before it.
                    failure = error
                    actions = transformer.finish()
                    continue
                is_at_end = chunk is None
                actions = transformer.finish() if chunk is None else transformer.feed(chunk)
        finally:
            # One that was not begun must not be: a loop that is closing complains of it.
            if is_begun and isinstance(source, AsyncGenerator):
                await source.aclose()

    async def aclose(self) -> None:
        """Close the server's body, which closes the connection if it is not over; idempotent."""
        if not self._is_closed:
            self._is_closed = True
            await self._inner.aclose()

    def _count(self) -> None:
        place = self._transformer.happened
        if place is not None and not self._injection.has_happened:
            self._injection.happen(place.bytes, place.events)

    async def _wait(self, seconds: float) -> None:
        """Be silent; a client that gives up meanwhile gives up because of this fault."""
        self._injection.is_to_blame = True
        await self._sleep(min(seconds, self._read_timeout_s))
        if seconds > self._read_timeout_s:
            raise SimulatedReadTimeout("", request=self._request)
        self._injection.is_to_blame = False

    def _broken(self, how: str) -> Exception:
        if how == "incomplete":
            return SimulatedProtocolError(
                "peer closed connection without sending complete message body (incomplete chunked read)",
                request=self._request,
            )
        error = SimulatedReadError("connection reset", request=self._request)
        error.__cause__ = ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        return error


def _timeout(request: httpx2.Request, name: str) -> float:
    """The client's own timeout of that name, in seconds; infinite if it has none."""
    seconds = request.extensions.get("timeout", {}).get(name)
    return math.inf if seconds is None else float(seconds)


def _seconds(fault: Fault, default: float) -> float:
    return default if fault.value is None else float(fault.value)


def _content(request: httpx2.Request) -> bytes:
    try:
        return request.content
    except httpx2.RequestNotRead:
        return b""
