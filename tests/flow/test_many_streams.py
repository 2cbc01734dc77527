"""Many streams at once: none waits for another one to end, whatever the transport's own limit is."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable

import pytest

from flow import StreamingFlow
from tests.support.wire import DONE, delta, finish, sse

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
BODY = b"".join(map(sse, (delta("All "), delta("here."), finish(), DONE)))
MORE_THAN_A_DEFAULT = 130
"""aiohttp opens 100 connections unless it is told otherwise."""


def test_all_streams_are_open_at_the_same_time() -> None:
    async def main() -> list[str]:
        waiting = asyncio.Barrier(MORE_THAN_A_DEFAULT)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            await waiting.wait()  # nobody is answered before everybody has asked
            writer.write(HEAD + BODY)
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=MORE_THAN_A_DEFAULT)
        port = server.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}/v1"
        async with StreamingFlow(base_url=url, model="m", max_streams=MORE_THAN_A_DEFAULT) as flow:
            async with asyncio.timeout(20):
                reports = await asyncio.gather(*(flow.run("Hi") for _ in range(MORE_THAN_A_DEFAULT)))
        server.close()
        await server.wait_closed()
        return [report.text for report in reports]

    assert asyncio.run(main()) == ["All here."] * MORE_THAN_A_DEFAULT


def test_few_runs_begin_in_one_turn_of_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> Counter[int]:
        turn = 0
        begun: Counter[int] = Counter()

        def count_turns() -> None:
            nonlocal turn
            turn += 1
            loop.call_soon(count_turns)

        def begin(*args: object) -> tuple[Awaitable[None], None]:
            begun[turn] += 1
            return asyncio.sleep(0), None

        loop = asyncio.get_running_loop()
        flow = StreamingFlow(base_url="http://127.0.0.1:9/v1", model="m", max_streams=500)
        monkeypatch.setattr(flow, "_begin", begin)
        loop.call_soon(count_turns)
        await asyncio.gather(*(flow.run("Hi") for _ in range(500)))
        return begun

    begun = asyncio.run(main())
    assert begun.total() == 500
    assert max(begun.values()) <= 64
    assert len(begun) >= 8
