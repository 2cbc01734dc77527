"""A connection that has brought a whole answer brings the next one too; what keeps it from that delays nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from flow import StreamingFlow
from tests.support.wire import DONE, delta, finish, sse

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENTS = tuple(map(sse, (delta("All "), delta("here."), finish(), DONE)))
Ending = Callable[[asyncio.StreamWriter], Awaitable[object]]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def at_once(writer: asyncio.StreamWriter) -> None:
    writer.write(b"0\r\n\r\n")


async def in_pieces(writer: asyncio.StreamWriter) -> None:
    for byte in b"0\r\n\r\n":
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0)


async def never(writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def flooding(writer: asyncio.StreamWriter) -> None:
    while not writer.is_closing():
        writer.write(chunk(b": more\n\n" * 1_000))
        await writer.drain()


async def resetting(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


class Server:
    """Keeps connections; ends the body behind `[DONE]` as it is told."""

    def __init__(self, ending: Ending) -> None:
        self.connections = 0
        self._ending = ending

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
                await reader.readexactly(int(fields[b"content-length"]))
                writer.write(HEAD + b"".join(map(chunk, EVENTS)))
                await self._ending(writer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()


async def two_answers(server: Server) -> list[float]:
    """Asks twice, one after the other; the seconds that each took."""
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    took: list[float] = []
    async with StreamingFlow(base_url=f"http://127.0.0.1:{port}/v1", model="m") as flow:
        for _ in range(2):
            started_s = time.monotonic()
            report = await flow.run("Hi")
            took.append(time.monotonic() - started_s)
            assert (report.text, report.outcome, report.exit_code) == ("All here.", "complete", 0)
    listening.close()
    serving = asyncio.all_tasks() - {asyncio.current_task()}
    for task in serving:
        task.cancel()
    await asyncio.gather(*serving, return_exceptions=True)
    return took


@pytest.mark.parametrize("ending", [at_once, in_pieces])
def test_the_connection_is_used_again(ending: Ending) -> None:
    server = Server(ending)
    asyncio.run(two_answers(server))
    assert server.connections == 1


@pytest.mark.parametrize("ending", [never, flooding, resetting])
def test_a_body_that_does_not_end_costs_a_connection_and_hardly_any_time(ending: Ending) -> None:
    server = Server(ending)
    took = asyncio.run(two_answers(server))
    assert server.connections == 2
    assert max(took) < 1.0  # 0.05 s of it are waited
