"""The transport around the cores: no network, no waiting, and everything that was opened is closed."""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import httpx2
import pytest

from utils.failure_simulator import FailurePlan, FaultTransport, parse_plan, wrap_client
from utils.failures.faults import KINDS

EVENTS = [b'data: {"choices":[{"delta":{"content":"%d"}}]}\n\n' % number for number in range(8)]
BODY = b"".join([*EVENTS, b'data: {"choices":[{"finish_reason":"stop"}]}\n\n', b"data: [DONE]\n\n"])


class Body(httpx2.AsyncByteStream):
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.pulled = 0
        self.closed = 0
        self.is_released = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            for start in range(0, len(BODY), 10):
                self.pulled += 1
                yield BODY[start : start + 10]
                if self.error is not None and start > 100:
                    raise self.error
        finally:
            self.is_released = True

    async def aclose(self) -> None:
        self.closed += 1


class Server(httpx2.AsyncBaseTransport):
    def __init__(self, *, status: int = 200, error: Exception | None = None) -> None:
        self.status = status
        self.bodies: list[Body] = []
        self.error = error
        self.is_closed = False

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.bodies.append(Body(self.error))
        headers = {"content-type": "text/event-stream", "content-length": str(len(BODY)), "x-own": "yes"}
        return httpx2.Response(self.status, headers=headers, stream=self.bodies[-1], request=request)

    async def aclose(self) -> None:
        self.is_closed = True


class Slept:
    """A sleep that takes no time, and remembers; *cancels* ends it as a deadline does."""

    def __init__(self, *, cancels: bool = False) -> None:
        self.seconds: list[float] = []
        self._cancels = cancels

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        if self._cancels:
            raise asyncio.CancelledError


class Fetched:
    """What came of one request."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.headers: httpx2.Headers | None = None
        self.body = b""
        self.error: BaseException | None = None


def fetch(
    plan: str | FailurePlan,
    server: Server | None = None,
    *,
    sleep: Slept | None = None,
    path: str = "/v1/chat/completions",
    timeout: httpx2.Timeout | None = None,
    stop_after: float = math.inf,
) -> Fetched:
    async def main() -> Fetched:
        used = parse_plan(plan) if isinstance(plan, str) else plan
        transport = FaultTransport(server or Server(), used, sleep=sleep or Slept())
        fetched = Fetched()
        async with httpx2.AsyncClient(transport=transport, timeout=timeout or httpx2.Timeout(None)) as client:
            try:
                async with client.stream("POST", f"http://x{path}", json={"max_tokens": 10}) as response:
                    fetched.status, fetched.headers = response.status_code, response.headers
                    async for data in response.aiter_raw():
                        fetched.body += data
                        if len(fetched.body) > stop_after:
                            break
            except (httpx2.HTTPError, asyncio.CancelledError) as error:
                fetched.error = error
        return fetched

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("plan", "kind", "cause"),
    [
        ("refused", httpx2.ConnectError, ConnectionRefusedError),
        ("dns", httpx2.ConnectError, socket.gaierror),
        ("tls", httpx2.ConnectError, ssl.SSLError),
        ("connect_timeout=0", httpx2.ConnectTimeout, type(None)),
        ("read_timeout=0", httpx2.ReadTimeout, type(None)),
    ],
)
def test_a_connection_fails_as_a_real_one_does_and_nothing_is_sent(
    plan: str, kind: type[Exception], cause: type[Exception]
) -> None:
    server = Server()
    error = fetch(plan, server).error
    assert isinstance(error, kind)
    assert isinstance(error.__cause__, cause)
    assert getattr(error, "simulated", False)
    assert not server.bodies


@pytest.mark.parametrize(
    ("plan", "slept"),
    [
        ("connect_timeout", 3.0),
        ("connect_timeout=0.5", 0.5),
        ("read_timeout", 7.0),
        ("read_timeout=0.5", 0.5),
        ("read_timeout=9", 7.0),
    ],
)
def test_time_outs_take_as_long_as_the_client_lets_them_or_the_plan_says(plan: str, slept: float) -> None:
    sleep = Slept()
    fetch(plan, sleep=sleep, timeout=httpx2.Timeout(7.0, connect=3.0))
    assert sleep.seconds == [slept]


def test_silence_without_a_limit_lasts_for_ever() -> None:
    sleep = Slept()
    fetch("read_timeout", sleep=sleep)
    assert sleep.seconds == [math.inf]


@pytest.mark.parametrize(
    ("plan", "status", "headers", "said"),
    [
        ("status=503", 503, {"content-type": "application/json"}, b"overloaded"),
        ("status=529", 529, {}, b"overloaded_error"),
        ("status=418", 418, {}, b"invalid_request_error"),
        ("status=599", 599, {}, b"server_error"),
        ("status=429 retry-after=2", 429, {"retry-after": "2"}, b"rate_limit_exceeded"),
        (
            "status=429 retry-after-ms=300 should-retry=false",
            429,
            {"retry-after-ms": "300", "x-should-retry": "false"},
            b"rate_limit",
        ),
        ("quota", 429, {}, b"insufficient_quota"),
        ("html", 200, {"content-type": "text/html; charset=utf-8"}, b"<html>"),
        ("json", 200, {"content-type": "application/json"}, b'"chat.completion"'),
        ("empty", 200, {"content-type": "text/event-stream", "content-length": "0"}, b""),
    ],
)
def test_a_response_stands_in_for_the_servers_and_nothing_is_sent(
    plan: str, status: int, headers: dict[str, str], said: bytes
) -> None:
    server = Server()
    fetched = fetch(plan, server)
    assert fetched.status == status
    assert fetched.headers is not None
    assert headers.items() <= dict(fetched.headers).items()
    assert said in fetched.body
    assert int(fetched.headers["content-length"]) == len(fetched.body)
    assert not server.bodies


@pytest.mark.parametrize(
    ("plan", "body", "error"),
    [
        ("cut@3e", b"".join(EVENTS[:3]), None),
        ("cut@40%", b"".join(EVENTS[:4]), None),
        ("reset@25b", BODY[:25], httpx2.ReadError),
        ("incomplete@3e", b"".join(EVENTS[:3]), httpx2.RemoteProtocolError),
        ("stall=3@25b", BODY, None),
        ("onebyte", BODY, None),
        ("drip=200", BODY, None),
        ("early_done@1e", EVENTS[0] + b"data: [DONE]\n\n", None),
    ],
)
def test_a_body_is_spoilt_lazily_and_closed_at_once(plan: str, body: bytes, error: type[Exception] | None) -> None:
    server = Server()
    used = parse_plan(plan)
    fetched = fetch(used, server)
    assert fetched.body == body
    assert isinstance(fetched.error, error or type(None))
    (served,) = server.bodies
    assert served.pulled <= len(body) // 10 + 2
    assert (served.closed, served.is_released, server.is_closed) == (1, True, True)
    assert used.injected == used.planned == 1
    assert fetched.headers is not None
    assert "content-length" not in fetched.headers
    assert fetched.headers["x-own"] == "yes"


def test_every_kind_of_fault_can_be_injected_and_leaves_nothing_open() -> None:
    values = {"status": "=500", "rate": "=1000", "content type": "=text/plain"}
    for kind in KINDS.values():
        plan = parse_plan(kind.name + values.get(kind.takes, ""))
        server = Server()
        fetch(plan, server)
        statistics = plan.statistics()
        assert statistics.by_kind == {kind.name: 1}
        assert all(body.closed == 1 and body.is_released for body in server.bodies)


def test_the_place_of_a_fault_is_counted_in_bytes_and_events_of_the_server() -> None:
    plan = parse_plan("cut@3e, reset@25b, refused")
    for _ in range(3):
        fetch(plan)
    found = [(i.fault.kind, i.attempt, i.at_byte, i.at_event) for i in plan.statistics().recent]
    assert found == [("cut", 1, len(b"".join(EVENTS[:3])), 3), ("reset", 2, 25, None), ("refused", 3, None, None)]


def test_a_content_type_changes_and_the_body_does_not() -> None:
    fetched = fetch('content_type="text/html; charset=x"')
    assert fetched.headers is not None
    assert fetched.headers["content-type"] == "text/html; charset=x"
    assert fetched.body == BODY


def test_a_stall_over_the_clients_own_read_timeout_is_a_read_timeout() -> None:
    sleep = Slept()
    fetched = fetch("stall=9@1e", sleep=sleep, timeout=httpx2.Timeout(4.0))
    assert isinstance(fetched.error, httpx2.ReadTimeout)
    assert fetched.body == EVENTS[0]
    assert sleep.seconds == [4.0]


@pytest.mark.parametrize("plan", ["stall@1e", "drip=5", "stall@0b"])
def test_a_client_that_gives_up_in_a_silence_gives_up_because_of_it(plan: str) -> None:
    used = parse_plan(plan)
    server = Server()
    injections = []
    original = used.next_injection

    def remember() -> object:
        injections.append(original())
        return injections[-1]

    used.next_injection = remember  # type: ignore[assignment, method-assign]
    fetched = fetch(used, server, sleep=Slept(cancels=True))
    assert isinstance(fetched.error, asyncio.CancelledError)
    assert injections[0] is not None
    assert injections[0].is_to_blame
    assert server.bodies[0].closed == 1


@pytest.mark.parametrize("plan", ["stall=1@1e", "drip=1000@2e", "onebyte", "garbage@1e", "cut@9e", "no_finish"])
def test_a_real_failure_behind_a_fault_is_not_the_faults(plan: str) -> None:
    used = parse_plan(plan)
    injections = []
    original = used.next_injection

    def remember() -> object:
        injections.append(original())
        return injections[-1]

    used.next_injection = remember  # type: ignore[assignment, method-assign]
    real = httpx2.ReadError("a real one")
    server = Server(error=real)
    fetched = fetch(used, server)
    assert fetched.error is real
    assert injections[0] is not None
    assert not injections[0].is_to_blame
    assert len(fetched.body) >= 110
    assert (server.bodies[0].closed, server.bodies[0].is_released) == (1, True)


@pytest.mark.parametrize("plan", ["cut@1e", "reset@30b", "incomplete@1e", "early_done@1e", "error_object@1e"])
def test_an_end_closes_the_servers_body_at_once_and_not_when_the_client_gets_to_it(plan: str) -> None:
    async def main() -> None:
        server = Server()
        request = httpx2.Request("POST", "http://x/v1/chat/completions")
        response = await FaultTransport(server, parse_plan(plan)).handle_async_request(request)
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        with suppress(httpx2.TransportError):
            async for _ in response.stream:
                pass
        assert (server.bodies[0].closed, server.bodies[0].is_released) == (1, True)
        await response.aclose()
        assert server.bodies[0].closed == 1

    asyncio.run(main())


def test_a_client_that_leaves_early_closes_everything() -> None:
    for plan in ("stall=1@90%", "onebyte", "garbage@1e", "no_done", "ok"):
        server = Server()
        fetch(plan, server, stop_after=60)
        assert (server.bodies[0].closed, server.bodies[0].is_released) == (1, True)


def test_a_real_error_response_is_left_as_it_is() -> None:
    plan = parse_plan("cut@0b")
    fetched = fetch(plan, Server(status=500))
    assert (fetched.status, fetched.body) == (500, BODY)
    assert (plan.injected, plan.planned) == (0, 1)


def test_other_requests_and_attempts_without_a_fault_pass_untouched() -> None:
    plan = parse_plan("ok, cut@1e")
    assert fetch(plan, path="/v1/models").body == BODY
    assert fetch(plan).body == BODY
    assert plan.attempts == 1
    assert fetch(plan).body == EVENTS[0]
    assert fetch(plan).body == BODY


def test_an_attempt_without_a_fault_keeps_the_very_body_of_the_server() -> None:
    async def main() -> None:
        server = Server()
        transport = FaultTransport(server, parse_plan("ok"))
        response = await transport.handle_async_request(httpx2.Request("POST", "http://x/v1/chat/completions"))
        assert response.stream is server.bodies[0]

    asyncio.run(main())


def test_a_client_made_by_others_is_wrapped_with_its_proxies() -> None:
    async def main() -> list[str]:
        plan = parse_plan("refused forever")
        main_transport, proxy = Server(), Server()
        client = httpx2.AsyncClient(transport=main_transport, mounts={"http://proxied": proxy, "http://direct": None})
        wrap: Callable[[httpx2.AsyncBaseTransport], FaultTransport] = lambda inner: FaultTransport(inner, plan)  # noqa: E731
        wrap_client(client, wrap)
        found = []
        async with client:
            for host in ("other", "proxied", "direct"):
                with pytest.raises(httpx2.ConnectError):
                    await client.post(f"http://{host}/v1/chat/completions")
                found.append((await client.get(f"http://{host}/v1/models")).text[:5])
        assert main_transport.is_closed
        assert proxy.is_closed
        assert (len(main_transport.bodies), len(proxy.bodies)) == (2, 1)
        return found

    assert asyncio.run(main()) == ["data:"] * 3
