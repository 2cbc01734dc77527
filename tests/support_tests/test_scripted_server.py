"""The scripted server does on the wire what its scripts say."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support import wire
from tests.support.scripted_server import (
    Action,
    Close,
    CloseBeforeResponse,
    Connection,
    Pause,
    Reset,
    ScriptedServer,
    ScriptError,
    Send,
    SendSlowly,
    Signal,
    WaitEvent,
    WaitForClientClose,
    WaitUntilRead,
    wait_until,
    wait_until_async,
)


def connect(server: ScriptedServer, body: bytes = b"{}", extra: str = "") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", server.port), timeout=5)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
    client.sendall(head.encode() + body)
    return client


def read_to_end(client: socket.socket) -> tuple[bytes, str]:
    """What arrives, and how it ended: "fin" or "rst"."""
    received = b""
    with client:
        while True:
            try:
                data = client.recv(65536)
            except ConnectionResetError:
                return received, "rst"
            if not data:
                return received, "fin"
            received += data


def play_until_it_fails(script: list[Action], then: Exception | None = None) -> None:
    with ScriptedServer([script]) as server:
        read_to_end(connect(server))
        wait_until(lambda: server.errors)
        if then is not None:
            raise then


@pytest.fixture(autouse=True)
def _no_thread_is_left_behind() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def test_a_request_is_recorded_whole_even_if_it_comes_in_pieces() -> None:
    body = json.dumps({"messages": ["café"], "stream": True}, ensure_ascii=False).encode()
    raw = b"POST /v1/x?a=1 HTTP/1.1\r\nX-One: 1\r\nx-one: 2\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with ScriptedServer([[Send(b"ok")]]) as server, socket.create_connection(("127.0.0.1", server.port)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in raw:
            client.sendall(bytes([byte]))
        assert read_to_end(client) == (b"ok", "fin")
        (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/x?a=1")
    assert request.headers["x-one"] == "1, 2"
    assert request.json == {"messages": ["café"], "stream": True}


def test_connections_take_scripts_in_order_and_the_last_one_repeats() -> None:
    with ScriptedServer([[Send(b"one")], [Send(b"two")]]) as server:
        assert [read_to_end(connect(server))[0] for _ in range(3)] == [b"one", b"two", b"two"]
        assert [connection.number for connection in server.connections] == [1, 2, 3]


def test_an_explicit_default_takes_over_when_the_scripts_are_used_up() -> None:
    with ScriptedServer([[Send(b"one")]], default=[Send(b"rest")]) as server:
        assert [read_to_end(connect(server))[0] for _ in range(3)] == [b"one", b"rest", b"rest"]


def test_a_server_without_any_script_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a script or a default"):
        ScriptedServer()


def test_a_script_may_be_made_from_the_request() -> None:
    def answer(connection: Connection) -> list[Action]:
        assert connection.request is not None
        return [Send(connection.request.body.upper())]

    with ScriptedServer(default=answer) as server:
        assert read_to_end(connect(server, b"shout"))[0] == b"SHOUT"


@pytest.mark.parametrize(
    ("script", "received", "end", "ended_by"),
    [
        ([Send(b"abc")], b"abc", "fin", "close"),
        ([Send(b"abc"), Close()], b"abc", "fin", "close"),
        ([Close()], b"", "fin", "close"),
        ([CloseBeforeResponse()], b"", "fin", "close"),
        ([Reset()], b"", "rst", "reset"),
        ([Send(b"abc"), WaitUntilRead(), Reset()], b"abc", "rst", "reset"),
        ([SendSlowly(b"abcdefg", 3)], b"abcdefg", "fin", "close"),
    ],
)
def test_each_ending_arrives_as_what_it_is(script: list[Action], received: bytes, end: str, ended_by: str) -> None:
    with ScriptedServer([script]) as server:
        assert read_to_end(connect(server)) == (received, end)
        wait_until(lambda: server.open_connections() == 0)
        (connection,) = server.connections
        assert connection.ended_by == ended_by
        assert connection.bytes_sent == len(received)


def test_a_script_can_wait_until_the_client_has_read_all() -> None:
    is_read = threading.Event()
    with ScriptedServer([[Send(b"abc"), WaitUntilRead(), Signal(is_read), Reset()]]) as server:
        client = connect(server)
        assert client.recv(3, socket.MSG_PEEK) == b"abc"
        assert not is_read.wait(0.1)
        assert client.recv(2) == b"ab"
        assert not is_read.wait(0.05)
        assert client.recv(1) == b"c"
        assert is_read.wait(5)
        assert read_to_end(client) == (b"", "rst")


def test_send_slowly_sends_pieces_of_the_given_size_with_pauses() -> None:
    with ScriptedServer([[SendSlowly(b"abcdef", 2, 0.02)]]) as server:
        assert read_to_end(connect(server)) == (b"abcdef", "fin")
        (connection,) = server.connections
        assert connection.first_sent_at is not None
        assert connection.last_sent_at is not None
        assert 0.04 <= connection.last_sent_at - connection.first_sent_at < 2


def test_a_body_larger_than_all_buffers_is_sent_whole() -> None:
    body = bytes(range(256)) * 40_000
    with ScriptedServer([[Send(body)]]) as server:
        client = connect(server)
        wait_until(lambda: server.connections and server.connections[0].bytes_sent > 0)
        assert read_to_end(client) == (body, "fin")


@pytest.mark.parametrize(
    "waiting", [Pause(60), WaitForClientClose(), SendSlowly(b"ab", 1, 60), Send(b"x" * 50_000_000)]
)
def test_a_client_that_leaves_ends_every_wait_and_its_time_is_recorded(waiting: Action) -> None:
    with ScriptedServer([[Send(b"hello"), waiting, Send(b"never")]]) as server:
        client = connect(server)
        assert client.recv(5) == b"hello"
        assert server.open_connections() == 1
        before = time.monotonic()
        client.close()
        wait_until(lambda: server.open_connections() == 0)
        (connection,) = server.connections
        assert connection.ended_by == "client"
        assert connection.client_closed_at is not None
        assert before <= connection.client_closed_at <= time.monotonic()


@pytest.mark.parametrize(
    "waiting",
    [Pause(60), WaitForClientClose(), WaitEvent(threading.Event()), WaitUntilRead(), Close()],
    ids=lambda action: type(action).__name__,
)
def test_stopping_the_server_ends_every_wait(waiting: Action) -> None:
    started = time.monotonic()
    with ScriptedServer([[Send(b"hello"), waiting]]) as server:
        client = connect(server)
        wait_until(lambda: server.connections and server.connections[0].bytes_sent == 5)
    client.close()
    assert time.monotonic() - started < 3
    assert server.open_connections() == 0


def test_a_server_can_be_stopped_before_a_request_has_come() -> None:
    with ScriptedServer([[Close()]]) as server, socket.create_connection(("127.0.0.1", server.port)):
        wait_until(lambda: server.open_connections() == 1)
    assert server.requests == []


def test_a_connection_counts_as_open_until_the_client_has_closed_it_too() -> None:
    with ScriptedServer([[Send(b"bye"), Close()]]) as server:
        client = connect(server)
        while client.recv(100):
            pass
        assert server.open_connections() == 1
        client.close()
        wait_until(lambda: server.open_connections() == 0)


def test_test_and_script_can_order_what_they_do() -> None:
    arrived, go_on = threading.Event(), threading.Event()
    with ScriptedServer([[Send(b"1"), Signal(arrived), WaitEvent(go_on), Send(b"2")]]) as server:
        client = connect(server)
        assert arrived.wait(5)
        assert client.recv(10) == b"1"
        assert server.connections[0].bytes_sent == 1
        go_on.set()
        assert read_to_end(client) == (b"2", "fin")


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ([WaitEvent(threading.Event(), timeout_s=0.01)], "was not set within 0.01 s"),
        ([Send(b"x"), CloseBeforeResponse()], "1 bytes were sent before"),
    ],
)
def test_a_script_that_cannot_be_played_fails_the_test(script: list[Action], complaint: str) -> None:
    with pytest.raises(ScriptError, match=complaint):
        play_until_it_fails(script)


def test_a_failed_script_does_not_hide_the_error_of_the_test() -> None:
    with pytest.raises(KeyError):
        play_until_it_fails([Send(b"x"), CloseBeforeResponse()], KeyError())


def test_a_generator_learns_that_its_client_has_gone() -> None:
    ended = threading.Event()

    def answer(connection: Connection) -> Iterator[Action]:
        try:
            yield Send(b"hello")
            yield Pause(60)
        finally:
            assert connection.client_closed_at is not None
            ended.set()

    with ScriptedServer(default=answer) as server:
        with connect(server) as client:
            assert client.recv(5) == b"hello"
        assert ended.wait(5)


def test_wait_until_gives_up_with_a_failure() -> None:
    with pytest.raises(AssertionError, match=r"within 0\.01 s"):
        wait_until(lambda: False, 0.01)


def test_wait_until_async_lets_the_event_loop_run() -> None:
    async def scenario() -> None:
        event = asyncio.Event()
        asyncio.get_running_loop().call_later(0.01, event.set)
        await wait_until_async(event.is_set)
        with pytest.raises(AssertionError, match=r"within 0\.01 s"):
            await wait_until_async(lambda: False, 0.01)

    asyncio.run(scenario())


# -- the bytes of the helpers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (wire.sse("a", "b"), b"data: a\n\ndata: b\n\n"),
        (wire.sse(b"\xff"), b"data: \xff\n\n"),
        (wire.sse({"é": 1}), 'data: {"é":1}\n\n'.encode()),
        (wire.sse("a\nb"), b"data: a\ndata: b\n\n"),
        (wire.sse("a", newline="\r\n"), b"data: a\r\n\r\n"),
        (wire.sse("a", newline="\r"), b"data: a\r\r"),
        (wire.sse("a", "b", bom=True), b"\xef\xbb\xbfdata: a\n\ndata: b\n\n"),
        (wire.sse("a", name="error"), b"event: error\ndata: a\n\n"),
        (wire.comment("hi"), b": hi\n\n"),
        (wire.sse(wire.DONE), b"data: [DONE]\n\n"),
        (wire.chunk(b"x" * 17), b"11\r\n" + b"x" * 17 + b"\r\n"),
        (wire.chunked(b"a", b"b"), b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n"),
        (wire.chunked(b"a", end="missing"), b"1\r\na\r\n"),
        (wire.chunked(end="bad_header"), b"zz\r\nnot a chunk size\r\n"),
        (
            wire.head(529, content_type=None, length=0, headers={"Retry-After": "1"}),
            b"HTTP/1.1 529 Overloaded\r\nConnection: close\r\nContent-Length: 0\r\nRetry-After: 1\r\n\r\n",
        ),
        (
            wire.head(length="until_close"),
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n",
        ),
        (wire.stream_response(b"x"), wire.head() + b"1\r\nx\r\n0\r\n\r\n"),
    ],
)
def test_helpers_write_these_bytes(made: bytes, expected: bytes) -> None:
    assert made == expected


def test_an_empty_http_chunk_is_refused_since_it_would_end_the_body() -> None:
    with pytest.raises(ValueError, match="LAST_CHUNK"):
        wire.chunk(b"")


@pytest.mark.parametrize(
    ("made", "choices"),
    [
        (wire.delta("hi"), [{"index": 0, "delta": {"content": "hi"}, "finish_reason": None}]),
        (wire.role(), [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]),
        (wire.finish("length", index=1), [{"index": 1, "delta": {}, "finish_reason": "length"}]),
        (wire.reasoning("hm"), [{"index": 0, "delta": {"reasoning_content": "hm"}, "finish_reason": None}]),
        (
            wire.deltas({0: "a", 1: "b"}),
            [
                {"index": 0, "delta": {"content": "a"}, "finish_reason": None},
                {"index": 1, "delta": {"content": "b"}, "finish_reason": None},
            ],
        ),
        (wire.usage(), []),
    ],
)
def test_chunks_carry_these_choices(made: wire.Json, choices: list[object]) -> None:
    assert made["object"] == "chat.completion.chunk"
    assert made["choices"] == choices


def test_a_delta_can_carry_logprobs_and_padding() -> None:
    made = wire.delta("é!", logprobs=[("é", -0.5), ("!", 0.0)], obfuscation="xxxx")
    assert made["obfuscation"] == "xxxx"
    tokens = made["choices"][0]["logprobs"]["content"]
    assert [(token["token"], token["logprob"], bytes(token["bytes"])) for token in tokens] == [
        ("é", -0.5, "é".encode()),
        ("!", 0.0, b"!"),
    ]


def test_usage_adds_up() -> None:
    assert wire.usage(2, 3)["usage"] == {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
