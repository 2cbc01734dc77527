"""A server on 127.0.0.1 that plays scripts over plain sockets, so that every bad ending is a real one.

Theory of operation. One thread accepts, one thread per connection plays. Each accepted connection takes the
next script; it reads one whole request, records it, then plays the actions in order. A script that runs out
ends with `Close`. Every wait ends early when the client goes away (recorded) or the server stops, because it is
a select over the client's socket and a wake-up socket; nothing sleeps. `Close` sends FIN and keeps the socket
until the client has closed too: a client that leaks a connection shows in `open_connections()`.

Times are `time.monotonic()` seconds: on one machine they compare with those of other processes.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self, assert_never

from tests.support.scripts import (
    Action,
    Close,
    CloseBeforeResponse,
    Connection,
    Pause,
    Request,
    Reset,
    Script,
    ScriptError,
    Send,
    SendSlowly,
    Signal,
    WaitEvent,
    WaitForClientClose,
    WaitUntilRead,
)

__all__ = [
    "Action",
    "Close",
    "CloseBeforeResponse",
    "Connection",
    "Pause",
    "Request",
    "Reset",
    "Script",
    "ScriptError",
    "ScriptedServer",
    "Send",
    "SendSlowly",
    "Signal",
    "WaitEvent",
    "WaitForClientClose",
    "WaitUntilRead",
    "wait_until",
    "wait_until_async",
]

MAX_REQUEST_BYTES = 16 * 1024 * 1024
_POLL_S = 0.002
_JOIN_S = 5.0


class _ClientGone(Exception):
    """The client closed or reset the connection."""


class _ServerStopped(Exception):
    """The server is stopping."""


class _ScriptOver(Exception):
    """An action ended the connection."""


# -- server ----------------------------------------------------------------------------------------------------------


class ScriptedServer:
    """Plays *scripts*, one per accepted connection; then *default*, or the last script again.

    Use as a context manager. Leaving it ends every connection and joins every thread, then raises `ScriptError`
    if a script failed and nothing else is being raised.
    """

    def __init__(self, scripts: Sequence[Script] = (), *, default: Script | None = None) -> None:
        if not scripts and default is None:
            raise ValueError("a scripted server needs a script or a default")
        self._scripts = list(scripts)
        self._default = self._scripts[-1] if default is None else default
        self.connections: list[Connection] = []
        self.errors: list[Exception] = []
        self._players: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._listener.setblocking(False)
        self._wake_reader, self._wake_writer = socket.socketpair()
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, name=f"scripted-server-{self.port}", daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def requests(self) -> list[Request]:
        """The requests received so far, in the order of their connections."""
        return [connection.request for connection in list(self.connections) if connection.request is not None]

    def open_connections(self) -> int:
        """Connections that are not closed on both sides."""
        return sum(connection.is_open for connection in list(self.connections))

    def start(self) -> Self:
        self._acceptor.start()
        return self

    def stop(self) -> None:
        """End all connections and threads; nothing of this server is left afterwards."""
        self._wake_writer.close()  # every select sees the other end readable, now and for ever
        if self._acceptor.ident is not None:
            self._acceptor.join(_JOIN_S)
        for player in self._players:
            player.join(_JOIN_S)
        self._listener.close()
        stuck = [thread.name for thread in (self._acceptor, *self._players) if thread.is_alive()]
        if stuck:
            raise ScriptError(f"threads that did not end: {', '.join(stuck)}")
        self._wake_reader.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self.errors and error is None:
            raise ScriptError(f"a script failed: {self.errors[0]!r}") from self.errors[0]

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._wake_reader, selectors.EVENT_READ)
            while True:
                if any(key.fileobj is self._wake_reader for key, _ in selector.select()):
                    return
                try:
                    client, _address = self._listener.accept()
                except (BlockingIOError, ConnectionError):
                    continue  # the client gave up between select and accept
                record = Connection(number=len(self.connections) + 1, accepted_at=time.monotonic())
                self.connections.append(record)
                script = self._scripts[record.number - 1] if record.number <= len(self._scripts) else self._default
                name = f"scripted-server-{self.port}-{record.number}"
                player = threading.Thread(target=self._play, args=(client, record, script), name=name, daemon=True)
                self._players.append(player)
                player.start()

    def _play(self, client: socket.socket, record: Connection, script: Script) -> None:
        with ExitStack() as stack:
            stack.callback(lambda: setattr(record, "closed_at", time.monotonic()))
            player = stack.enter_context(_Player(client, record, self._wake_reader))
            try:
                player.read_request()
                player.play_all(script(record) if callable(script) else script)
            except _ClientGone:
                record.ended_by = record.ended_by or "client"
            except _ServerStopped:
                record.ended_by = record.ended_by or "server_stop"
            except _ScriptOver:
                pass
            except Exception as error:
                record.ended_by = "error"
                self.errors.append(error)


class _Player:
    """Plays one script on one socket."""

    def __init__(self, client: socket.socket, record: Connection, wake: socket.socket) -> None:
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client = client
        self._ports = client.getpeername()[1], client.getsockname()[1]
        self._record = record
        self._wake = wake
        self._selector = selectors.DefaultSelector()
        self._selector.register(client, selectors.EVENT_READ)
        self._selector.register(wake, selectors.EVENT_READ)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        self._client.close()

    def read_request(self) -> None:
        received = bytearray()
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._receive()
        request_line, *lines = received[:end].decode("latin-1").split("\r\n")
        method, path, _version = request_line.split(" ", 2)
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
        if "transfer-encoding" in headers:
            raise ScriptError("the scripted server reads requests with a Content-Length only")
        body = received[end + 4 :]
        length = int(headers.get("content-length", "0"))
        if length > MAX_REQUEST_BYTES:
            raise ScriptError(f"a request of {length} bytes is over the limit of {MAX_REQUEST_BYTES}")
        while len(body) < length:
            body += self._receive()
        self._record.request = Request(method, path, headers, bytes(body[:length]))
        self._record.request_at = time.monotonic()

    def play_all(self, actions: Iterable[Action]) -> None:
        iterator = iter(actions)
        try:
            for action in iterator:
                self._play(action)
            self._close()
        finally:
            if isinstance(iterator, Generator):
                iterator.close()  # a generator learns here that its client has gone

    def _play(self, action: Action) -> None:
        match action:
            case Send(data):
                self._send(data)
            case SendSlowly(data, size, pause_s):
                for start in range(0, len(data), size):
                    if start:
                        self._wait(pause_s)
                    self._send(data[start : start + size])
            case Pause(seconds):
                self._wait(seconds)
            case WaitUntilRead(timeout_s):
                self._wait_until_read(timeout_s)
            case Signal(event):
                event.set()
            case WaitEvent(event, timeout_s):
                self._wait_for(event.is_set, timeout_s, "the event that the script waits for was not set")
            case WaitForClientClose(timeout_s):
                self._wait(timeout_s)
            case Reset():
                self._reset()
            case Close():
                self._close()
            case CloseBeforeResponse():
                if self._record.bytes_sent:
                    raise ScriptError(f"{self._record.bytes_sent} bytes were sent before CloseBeforeResponse")
                self._close()
            case _:
                assert_never(action)

    def _send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                count = self._client.send(rest)
            except BlockingIOError:
                self._wait(None, until_writable=True)
                continue
            except ConnectionError:
                raise self._client_gone() from None
            now = time.monotonic()
            self._record.first_sent_at = self._record.first_sent_at or now
            self._record.last_sent_at = now
            self._record.bytes_sent += count
            rest = rest[count:]

    def _reset(self) -> NoReturn:
        self._record.ended_by = "reset"
        self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise _ScriptOver

    def _close(self) -> NoReturn:
        self._record.ended_by = "close"
        try:
            self._client.shutdown(socket.SHUT_WR)
        except OSError:
            raise self._client_gone() from None
        self._wait(None)
        raise _ScriptOver

    def _receive(self) -> bytes:
        while True:
            with suppress(BlockingIOError):
                return self._receive_now()
            self._wait(None, until_readable=True)

    def _receive_now(self) -> bytes:
        """What has arrived, never empty. Raises BlockingIOError if nothing has."""
        try:
            data = self._client.recv(65536)
        except ConnectionError:
            raise self._client_gone() from None
        if not data:
            raise self._client_gone()
        return data

    def _wait(self, seconds: float | None, *, until_readable: bool = False, until_writable: bool = False) -> None:
        """Wait *seconds* (None: without end) or until the socket is ready; raises if the client or the server ends."""
        deadline = None if seconds is None else time.monotonic() + seconds
        interest = selectors.EVENT_READ | (selectors.EVENT_WRITE if until_writable else 0)
        self._selector.modify(self._client, interest)
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            for key, mask in self._selector.select(left if left is None else max(left, 0.0)):
                if key.fileobj is self._wake:
                    raise _ServerStopped
                if until_readable:
                    return
                if mask & selectors.EVENT_READ:
                    with suppress(BlockingIOError):
                        self._receive_now()
                if mask & selectors.EVENT_WRITE:
                    return
            if left is not None and left <= 0:
                return

    def _client_gone(self) -> _ClientGone:
        self._record.client_closed_at = time.monotonic()
        return _ClientGone()

    def _wait_for(self, condition: Callable[[], bool], timeout_s: float, complaint: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise ScriptError(f"{complaint} within {timeout_s} s")
            self._wait(_POLL_S)

    def _wait_until_read(self, timeout_s: float) -> None:
        if _unread_bytes(*self._ports) is None:
            self._wait(0.05)
            return
        self._wait_for(lambda: not _unread_bytes(*self._ports), timeout_s, "the client did not read what was sent")


def _unread_bytes(client_port: int, server_port: int) -> int | None:
    """Bytes waiting in the client's receive queue; None if the kernel does not tell."""
    try:
        rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
    except OSError:
        return None
    for row in rows:
        _slot, local, remote, _state, queues, *_ = row.split()
        if local.endswith(f":{client_port:04X}") and remote.endswith(f":{server_port:04X}"):
            return int(queues.partition(":")[2], 16)
    return None


# -- waiting ---------------------------------------------------------------------------------------------------------


def wait_until(condition: Callable[[], object], timeout_s: float = 5.0) -> None:
    """Return as soon as *condition* holds. Raises AssertionError after *timeout_s* seconds."""
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"the condition did not hold within {timeout_s} s")
        pause.wait(_POLL_S)


async def wait_until_async(condition: Callable[[], object], timeout_s: float = 5.0) -> None:
    """`wait_until` for coroutines: the event loop runs on between the looks."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"the condition did not hold within {timeout_s} s")
        await asyncio.sleep(_POLL_S)
