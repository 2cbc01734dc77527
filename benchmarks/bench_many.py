"""Many streams in one process: `python benchmarks/bench_many.py [--streams 1 10 100 1000] [--json FILE]`.

So many answers of 200 chunks, 10 ms apart, come at once, and are read by the whole flow (prompt guard, resilient
stream, guardrails pii + secrets, recorder), by the SDK's raw path (its client and connection pool, its response unread,
our own splitting and decoding of the events), and by bare aiohttp. Each measurement is a process of its own; rounds are
interleaved. `wall / ideal`: duration by the 2 s that an answer takes; CPU microseconds of this process per chunk;
memory per stream: growth of the resident set from before the first request to its peak, by the number of streams.

Every text is compared. Exit code 1 only for a wrong text.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import msgspec  # noqa: E402

from benchmarks.upstream import Upstream, text_of  # noqa: E402

CHUNKS = 200
EVERY_S = 0.010
MODEL = "bench-model"
Read = Callable[[int], Awaitable[str]]


class Delta(msgspec.Struct):
    content: str | None = None


class Choice(msgspec.Struct):
    delta: Delta


class Chunk(msgspec.Struct):
    choices: list[Choice]


async def _flow(url: str, streams: int, work: Callable[[Read], Awaitable[None]]) -> None:
    from flow import StreamingFlow

    async with StreamingFlow(base_url=url, model=MODEL, guard=("pii", "secrets"), max_streams=streams) as flow:

        async def read(number: int) -> str:
            return (await flow.run("Count.")).text

        await work(read)


def _texts() -> Callable[[bytes], str]:
    """Splits and decodes a body as it comes: the least that a reader has to do."""
    decode = msgspec.json.Decoder(Chunk).decode
    rest = b""

    def feed(data: bytes) -> str:
        nonlocal rest
        *events, rest = (rest + data).split(b"\n\n")
        parts = []
        for event in events:
            if event != b"data: [DONE]":
                chunk = decode(event[6:])
                if chunk.choices and chunk.choices[0].delta.content:
                    parts.append(chunk.choices[0].delta.content)
        return "".join(parts)

    return feed


async def _raw(url: str, streams: int, work: Callable[[Read], Awaitable[None]]) -> None:
    import httpx2
    import openai

    limits = httpx2.Limits(max_connections=0)  # None would be aiohttp's default, 100
    http = openai.DefaultAioHttpClient(limits=limits, timeout=None)
    client = openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0, http_client=http, timeout=None)
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Count."}], "stream": True}

    async def read(number: int) -> str:
        response: Any = await client.post(
            "/chat/completions", body=body, cast_to=httpx2.Response, stream=True, stream_cls=openai.AsyncStream[Any]
        )
        feed, parts = _texts(), []
        async for data in response.aiter_bytes():
            parts.append(feed(data))
        await response.aclose()
        return "".join(parts)

    await work(read)
    await client.close()


async def _aiohttp(url: str, streams: int, work: Callable[[Read], Awaitable[None]]) -> None:
    import aiohttp

    body = {"model": MODEL, "messages": [{"role": "user", "content": "Count."}], "stream": True}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(None)) as session:

        async def read(number: int) -> str:
            feed, parts = _texts(), []
            async with session.post(f"{url}/chat/completions", json=body) as response:
                async for data in response.content.iter_any():
                    parts.append(feed(data))
            return "".join(parts)

        await work(read)


READERS = {"whole flow": _flow, "SDK raw path": _raw, "aiohttp alone": _aiohttp}


def one(name: str, url: str, streams: int) -> dict[str, float]:
    """One measurement, in this process."""
    text, found = text_of(CHUNKS), {}

    async def work(read: Read) -> None:
        if await read(0) != text:  # warms up imports, the pool and the rules
            raise SystemExit(f"{name}: a wrong text")
        before_kb, started_s, cpu_s = _rss_kb(), time.perf_counter(), time.process_time()
        texts = await asyncio.gather(*(read(number) for number in range(streams)))
        wall_s, used_s = time.perf_counter() - started_s, time.process_time() - cpu_s
        if any(got != text for got in texts):
            raise SystemExit(f"{name}: a wrong text")
        peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found.update(
            ratio=wall_s / (CHUNKS * EVERY_S),
            cpu_us=used_s / (streams * CHUNKS) * 1e6,
            kb=max(0, peak_kb - before_kb) / streams,
        )

    async def main() -> None:
        await READERS[name](url, streams, work)

    asyncio.run(main())
    return found


def measured(name: str, streams: int) -> dict[str, float]:
    """One measurement, in a process of its own, with a server of its own that is busy with no other connections."""
    with Upstream() as server:
        command = [sys.executable, __file__, "--one", name, server.paced(EVERY_S, CHUNKS), str(streams)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}, {streams} streams: {done.stderr[-500:]}")
    row: dict[str, float] = json.loads(done.stdout)
    return row


def _rss_kb() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 10, 100, 1_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--readers", nargs="+", choices=list(READERS), default=list(READERS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=3, metavar=("READER", "URL", "STREAMS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one[0], options.one[1], int(options.one[2]))))
        return
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores; {CHUNKS} chunks, {EVERY_S * 1e3:g} ms apart\n")
    print("| streams | reader | wall / ideal | CPU us per chunk | KB per stream |\n| --- | --- | --- | --- | --- |")
    results: dict[str, Any] = {}
    for streams in options.streams:
        found: dict[str, list[dict[str, float]]] = {name: [] for name in options.readers}
        for number in range(options.rounds):
            names = options.readers[number % len(options.readers) :] + options.readers[: number % len(options.readers)]
            for name in names:
                found[name].append(measured(name, streams))
        for name, rows in found.items():
            cells = []
            for key, digits in (("ratio", 2), ("cpu_us", 1), ("kb", 1)):
                values = sorted(row[key] for row in rows)
                cells.append(
                    f"{statistics.median(values):.{digits}f} ({values[0]:.{digits}f} to {values[-1]:.{digits}f})"
                )
            print(f"| {streams:,} | {name} | {' | '.join(cells)} |", flush=True)
        results[str(streams)] = found
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
