"""What a second request for late answers brings, against a real server: `python benchmarks/bench_hedging.py`.

A server in a process of its own answers over loopback. The time to its first content is lognormal, and 3 in 100
requests take eight times as long. Every draw depends on the number of the request: both sides have the same luck with
their first requests. Runs with and without a hedger take turns, 20 at a time, through the program's own opener and
client. Printed are the times to the first content, the ratio of the 99th percentiles with its bootstrap interval, the
additional requests as the server has counted them, and how late server and client were with their own timers: what the
client is late itself makes the ratio smaller, so the machine should be quiet. Every answer must be whole, and every
loser's connection closed. Exit code 1 if p99 falls by less than 2x, or for more than 6 % requests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from utils.events import Event, Finished, TextDelta  # noqa: E402
from utils.metrics.percentiles import percentile  # noqa: E402
from utils.openai_stream import OpenAIBackend  # noqa: E402
from utils.resilience.adapting import Adaptation  # noqa: E402
from utils.resilience.hedging import Hedger  # noqa: E402
from utils.resilience.observations import Observations  # noqa: E402
from utils.resilience.resilient_stream import Opener  # noqa: E402
from utils.resilience.retry_policy import RetryPolicy  # noqa: E402
from utils.resilience.upstream import Upstream  # noqa: E402
from utils.run_context import Request, RunContext, Target  # noqa: E402

SIGMA = 0.5
STRAGGLERS, STRAGGLE = 0.03, 8.0
REST_S = 0.050
"""From the first content to the rest: time enough to close a loser before its answer is whole."""
CONCURRENT = 20
WARM_UP = 300
LEAST_RATIO, MOST_EXTRA = 2.0, 0.06
SIDES = ("plain", "hedged")
RESAMPLES = 1_000


def answer(number: int) -> list[str]:
    return [f"Answer {number}: ", *(f"word{n} " for n in range(10))]


# The server.


def first_content_s(number: int, attempt: int, median_s: float) -> float:
    """How long attempt *attempt* (0, 1) at request *number* is silent."""
    rng = random.Random(number * 2 + attempt)
    return rng.lognormvariate(0.0, SIGMA) * median_s * (STRAGGLE if rng.random() < STRAGGLERS else 1.0)


def sse(data: str) -> bytes:
    event = f"data: {data}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(event), event)


def delta(reason: str | None = None, **content: str) -> bytes:
    choice = {"index": 0, "delta": content, "finish_reason": reason}
    return sse(json.dumps({"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}))


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
BEGIN = HEAD + delta(role="assistant", content="")
END = delta("stop") + sse("[DONE]") + b"0\r\n\r\n"


class Tally:
    """What the server has seen."""

    def __init__(self) -> None:
        self.attempts: Counter[tuple[str, int]] = Counter()
        self.requests: Counter[str] = Counter()
        self.whole: Counter[str] = Counter()
        self.aborted: Counter[str] = Counter()
        self.answering = 0
        self.late_s: list[float] = []

    def as_json(self) -> str:
        late = sorted(self.late_s) or [0.0]
        figures = {
            "requests": self.requests,
            "whole": self.whole,
            "aborted": self.aborted,
            "answering": self.answering,
            "late_p50_s": percentile(late, 0.5),
            "late_p99_s": percentile(late, 0.99),
            "late_max_s": late[-1],
            "cpu_s": time.process_time(),
        }
        self.late_s.clear()
        return json.dumps(figures)


class Serving(asyncio.Protocol):
    """One connection: requests one after the other, each answered on its schedule."""

    def __init__(self, tally: Tally, median_s: float) -> None:
        self._tally = tally
        self._median_s = median_s
        self._received = b""
        self._side: str | None = None
        """Whose request is being answered."""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        length = next(
            int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
        )
        if len(body) < length:
            return
        self._received = body[length:]
        asked = json.loads(body[:length])
        self._begin(asked["model"], int(asked["messages"][-1]["content"]))

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._side is not None:
            self._tally.aborted[self._side] += 1
            self._tally.answering -= 1

    def _begin(self, side: str, number: int) -> None:
        tally = self._tally
        attempt = tally.attempts[side, number]
        tally.attempts[side, number] += 1
        tally.requests[side] += 1
        tally.answering += 1
        self._side = side
        self._transport.write(BEGIN)
        silent_s = first_content_s(number, attempt, self._median_s)
        self._at(asyncio.get_running_loop().time() + silent_s, number, 0)

    def _at(self, due_s: float, number: int, step: int) -> None:
        self._timer = asyncio.get_running_loop().call_at(due_s, self._write, due_s, number, step)

    def _write(self, due_s: float, number: int, step: int) -> None:
        now = asyncio.get_running_loop().time()
        self._tally.late_s.append(now - due_s)
        first, *rest = answer(number)
        if step == 0:
            self._transport.write(delta(content=first))
            self._at(now + REST_S, number, 1)
            return
        assert self._side is not None
        self._tally.whole[self._side] += 1
        self._tally.answering -= 1
        self._side = self._timer = None
        self._transport.write(b"".join([*(delta(content=piece) for piece in rest), END]))


async def serve(median_s: float) -> None:
    """Print the port, then the tally for every line that comes in; end with the input."""
    tally, loop = Tally(), asyncio.get_running_loop()
    server = await loop.create_server(lambda: Serving(tally, median_s), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while await lines.readline():
        print(tally.as_json(), flush=True)


class Server:
    """The server's process."""

    def __init__(self, median_ms: float) -> None:
        command = [sys.executable, __file__, "--serve", "--median-ms", str(median_ms)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.base_url = f"http://127.0.0.1:{int(self._line())}/v1"

    def tally(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        figures: dict[str, Any] = json.loads(self._line())
        return figures

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(10) == 0

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


# The client.


class Side:
    """One of the two ways to ask."""

    def __init__(self, name: str, base_url: str) -> None:
        self.backend = OpenAIBackend(base_url=base_url, api_key=None)
        observed = Observations()
        hedger = Hedger(latencies=observed.first_content_s) if name == "hedged" else None
        self.upstream = Upstream(Target(base_url, name), self.backend, hedger=hedger, observed=observed)
        self.opener = Opener([self.upstream], RetryPolicy(retries=0), random.Random(1), Adaptation())
        self.seconds: dict[int, float] = {}

    async def ask(self, number: int) -> None:
        started_s = time.monotonic()
        context = RunContext(clock=time.monotonic, started_s=started_s)
        # All prompts have one length: a longer one than usual would be given more time before its hedge.
        stream = await self.opener.open(Request(f"{number:07}", context))
        self.seconds[number] = time.monotonic() - started_s
        events: list[Event] = [event async for event in stream]
        await stream.aclose()
        assert events[-1] == Finished("stop"), events[-1]
        text = "".join(event.text for event in events if isinstance(event, TextDelta))
        assert text == "".join(answer(number)), text


async def ask_all(sides: dict[str, Side], numbers: Iterator[int]) -> None:
    async def worker() -> None:
        for number in numbers:
            for name in SIDES if number % 2 else reversed(SIDES):
                await sides[name].ask(number)

    await asyncio.gather(*(worker() for _ in range(CONCURRENT)))


async def lateness(into: list[float]) -> None:
    """How late this process comes back from sleeping."""
    while True:
        due_s = time.monotonic() + 0.01
        await asyncio.sleep(0.01)
        into.append(time.monotonic() - due_s)


def p99_ratio(plain: list[float], hedged: list[float]) -> tuple[float, float, float]:
    """The ratio of the 99th percentiles and its 95 % interval; pairs are drawn, as both had the same luck."""
    pairs, rng, ratios = list(zip(plain, hedged, strict=True)), random.Random(1), []
    for _ in range(RESAMPLES):
        drawn = rng.choices(pairs, k=len(pairs))
        ratios.append(percentile(sorted(a for a, _ in drawn), 0.99) / percentile(sorted(b for _, b in drawn), 0.99))
    ratios.sort()
    ratio = percentile(sorted(plain), 0.99) / percentile(sorted(hedged), 0.99)
    return ratio, percentile(ratios, 0.025), percentile(ratios, 0.975)


async def measured(server: Server, requests: int, median_s: float) -> int:
    # What the first requests of a process take (imports, cold caches) is not what its later ones take.
    for first_number in (2_000_000, 1_000_000):
        sides = {name: Side(name, server.base_url) for name in SIDES}
        await ask_all(sides, iter(range(first_number, first_number + WARM_UP)))
    hedger = sides["hedged"].upstream.hedger
    assert hedger is not None
    before, hedges = server.tally(), -hedger.statistics().hedges
    for side in sides.values():
        side.seconds.clear()
    late_s: list[float] = []
    watching = asyncio.create_task(lateness(late_s))
    wall_s, cpu_s = -time.monotonic(), -time.process_time()
    await ask_all(sides, iter(range(requests)))
    wall_s, cpu_s = wall_s + time.monotonic(), cpu_s + time.process_time()
    watching.cancel()
    for side in sides.values():
        await side.backend.aclose()
    after, statistics = server.tally(), hedger.statistics()
    hedges += statistics.hedges
    seen = {
        what: {name: after[what].get(name, 0) - before[what].get(name, 0) for name in SIDES}
        for what in ("requests", "whole", "aborted")
    }
    more = seen["requests"]["hedged"] - requests
    assert after["answering"] == 0, "a connection was left open"
    assert (seen["requests"]["plain"], seen["aborted"]["plain"]) == (requests, 0)
    assert 0 < more <= hedges  # one that is overtaken while it still connects never reaches the server
    assert seen["whole"]["hedged"] + seen["aborted"]["hedged"] == requests + more
    # A client that gets no processor for as long as REST_S closes a loser too late; that must be rare.
    assert 0.9 * more <= seen["aborted"]["hedged"] <= more, "losers are closed before their answers are whole"

    rows = {name: [side.seconds[number] for number in range(requests)] for name, side in sides.items()}
    rows["the server alone"] = [first_content_s(number, 0, median_s) for number in range(requests)]
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores; {requests:,} each, {CONCURRENT} at a time;")
    print(f"median {median_s * 1e3:g} ms, sigma {SIGMA:g}, {STRAGGLERS:.0%} of them {STRAGGLE:g} times as long\n")
    print("| first content, ms | p50 | p90 | p99 | mean | requests | whole answers | closed losers |")
    print("|---|---|---|---|---|---|---|---|")
    for name, row in rows.items():
        figures = [percentile(sorted(row), q) for q in (0.5, 0.9, 0.99)] + [sum(row) / len(row)]
        cells = [f"{1e3 * figure:.0f}" for figure in figures]
        cells += [f"{seen[what][name]:,}" if name in SIDES else "" for what in seen]
        print(f"| {name} | {' | '.join(cells)} |")
    ratio, low, high = p99_ratio(rows["plain"], rows["hedged"])
    print(
        f"\np99 falls by {ratio:.2f}x (95 % interval {low:.2f} to {high:.2f}) for {more / requests:.1%} more requests"
    )
    print(
        f"{hedges} hedges after {1e3 * (statistics.delay_s or 0.0):.0f} ms (at the end), in all {statistics.hedges}: "
        f"{statistics.won_by_second} won, {statistics.refused_budget} more refused by the budget"
    )
    server_late_s = [after[f"late_{which}_s"] for which in ("p50", "p99", "max")]
    client_late_s = [percentile(sorted(late_s), q) for q in (0.5, 0.99, 1.0)]
    for name, late, busy_s in (
        ("server", server_late_s, after["cpu_s"] - before["cpu_s"]),
        ("client", client_late_s, cpu_s),
    ):
        shown = ", ".join(f"{1e3 * one:.1f}" for one in late)
        print(f"{name}: timers {shown} ms late (p50, p99, largest), {busy_s / wall_s:.0%} of a core for {wall_s:.0f} s")
    return 0 if ratio >= LEAST_RATIO and more <= MOST_EXTRA * requests else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=3_000)
    parser.add_argument("--median-ms", type=float, default=40.0, help="of the server; longer for a busy machine")
    parser.add_argument("--serve", action="store_true", help="be the server")
    arguments = parser.parse_args()
    median_s = arguments.median_ms / 1e3
    if arguments.serve:
        asyncio.run(serve(median_s))
        return 0
    server = Server(arguments.median_ms)
    try:
        return asyncio.run(measured(server, arguments.requests, median_s))
    finally:
        server.close()


if __name__ == "__main__":
    sys.exit(main())
