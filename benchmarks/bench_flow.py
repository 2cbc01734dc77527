"""What the whole flow costs beside the bare SDK: `python benchmarks/bench_flow.py [--rounds N] [--json FILE]`.

A: the same answer is read in turn by bare `AsyncOpenAI` iteration and by the whole flow (prompt guard, resilient
stream behind its breaker, guardrails pii + secrets + 1,000 keywords, recorder, plain sink into /dev/null), on either
transport, in one process and one event loop, from one loopback server that is cheaper than all of them. Figures are
CPU microseconds of this process per chunk; burst: the whole answer is in the socket; paced: a chunk every 1 or 20 ms.
C: from calling to the first text, on a warm client, in milliseconds of wall time.

Every text is compared. Ratios are taken round by round; printed are medians with quartiles. Exit code 1 only for a
wrong text or a server that was the bottleneck.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import openai  # noqa: E402

from benchmarks.upstream import Upstream, text_of  # noqa: E402
from flow import create_streaming_graph, run_streaming_graph  # noqa: E402
from utils.answer_guard import AnswerPolicy  # noqa: E402
from utils.guardrails.policy import compile_rules  # noqa: E402
from utils.guardrails.prompt_guard import PromptLimits, PromptPolicy  # noqa: E402
from utils.guardrails.rules import RuleSet  # noqa: E402
from utils.library import new_run  # noqa: E402
from utils.openai_stream import OpenAIBackend  # noqa: E402
from utils.render.output import FdWriter  # noqa: E402
from utils.render.plain import PlainSink  # noqa: E402
from utils.resilience.resilient_stream import Opener  # noqa: E402
from utils.resilience.upstream import Upstream as Chain  # noqa: E402
from utils.run_context import Target  # noqa: E402

MODEL = "bench-model"
KEYWORDS = 1_000
Reader = Callable[[str], Awaitable[tuple[str, float]]]
"""Reads the answer of a base URL: its text, and the instant of its first text."""


def rules() -> RuleSet:
    """pii, secrets and 1,000 keywords that do not occur."""
    words = "\n".join(f'  "forbidden{number * 7919 % 100_000}",' for number in range(KEYWORDS))
    with tempfile.TemporaryDirectory() as directory:
        pack = Path(directory) / "keywords.toml"
        pack.write_text(
            'name = "keywords"\ndescription = "words"\n[[rule]]\nid = "word"\nreplacement = "[WORD]"\n'
            f'keywords = [\n{words}\n]\nmatch = ["forbidden0"]\nno_match = ["allowed"]\n',
            encoding="utf-8",
        )
        return compile_rules(("pii", "secrets", str(pack)))


class Bare:
    """`AsyncOpenAI` and a loop over its chunks: what people write."""

    def __init__(self, *, aiohttp: bool = False) -> None:
        self._clients: dict[str, openai.AsyncOpenAI] = {}
        self._aiohttp = aiohttp

    async def __call__(self, url: str) -> tuple[str, float]:
        client = self._clients.get(url)
        if client is None:
            http = openai.DefaultAioHttpClient() if self._aiohttp else None
            client = self._clients[url] = openai.AsyncOpenAI(api_key="none", base_url=url, http_client=http)
        first_s = 0.0
        parts = []
        stream = await client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "Count."}],
            stream=True,
            stream_options={"include_usage": True},
        )
        async for chunk in stream:
            if chunk.choices and (content := chunk.choices[0].delta.content):
                if not first_s:
                    first_s = time.perf_counter()
                parts.append(content)
        return "".join(parts), first_s

    async def aclose(self) -> None:
        for client in self._clients.values():
            await client.close()


class Whole:
    """The flow as the program runs it, with a plain sink into /dev/null."""

    def __init__(self, guard: RuleSet | None, *, aiohttp: bool = False) -> None:
        self._answer = AnswerPolicy(guard)
        self._prompt = PromptPolicy(
            PromptLimits(1_000_000), secrets=compile_rules(("secrets",)), advisory=compile_rules(("pii", "injection"))
        )
        self._aiohttp = aiohttp
        self._backends: dict[str, OpenAIBackend] = {}
        self._openers: dict[str, Opener] = {}
        self._fd = os.open(os.devnull, os.O_WRONLY)

    async def __call__(self, url: str) -> tuple[str, float]:
        if url not in self._openers:
            backend = OpenAIBackend(base_url=url, api_key="none", uses_aiohttp=self._aiohttp)
            self._backends[url] = backend
            self._openers[url] = Opener([Chain(Target(url, MODEL), backend)])
        graph = create_streaming_graph(self._openers[url], prompt=self._prompt, answer=self._answer)
        run_input, recorder = new_run("Count.")
        sink = PlainSink(FdWriter(self._fd))
        run_input.context.add_listener(sink.handle)
        report = await run_streaming_graph(graph, run_input, recorder)
        sink.finish(report)
        sink.close()
        first_s = time.perf_counter() - (time.monotonic() - (recorder.started_s + report.metrics["ttft_s"]))
        return report.text, first_s

    async def aclose(self) -> None:
        for backend in self._backends.values():
            await backend.aclose()


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


async def cpu_rounds(readers: dict[str, Reader], url: str, chunks: int, rounds: int) -> dict[str, list[float]]:
    """CPU microseconds per chunk of each reader, round by round."""
    text = text_of(chunks)
    results: dict[str, list[float]] = {name: [] for name in readers}
    for number in range(rounds + 1):
        names = list(readers)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            gc.collect()
            started_s = time.process_time()
            got, _ = await readers[name](url)
            used_s = time.process_time() - started_s
            if got != text:
                raise SystemExit(f"{name}: a wrong text of {len(got)} characters instead of {len(text)}")
            if number:  # the first round warms up
                results[name].append(used_s / chunks * 1e6)
    return results


async def first_text(readers: dict[str, Reader], url: str, rounds: int) -> dict[str, list[float]]:
    """Milliseconds from the call to the first text."""
    results: dict[str, list[float]] = {name: [] for name in readers}
    for number in range(rounds + 3):
        names = list(readers)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            started_s = time.perf_counter()
            _, first_s = await readers[name](url)
            if number >= 3:
                results[name].append((first_s - started_s) * 1e3)
    return results


def show(title: str, unit: str, results: dict[str, list[float]], budgets: dict[str, float]) -> dict[str, Any]:
    print(f"\n### {title}\n\n| | {unit} (quartiles) | / bare (quartiles) | budget |\n| --- | --- | --- | --- |")
    base = results["bare"]
    rows: dict[str, Any] = {}
    for name, values in results.items():
        low, middle, high = quartiles(values)
        ratio = quartiles([value / bare for value, bare in zip(values, base, strict=True)])
        budget = f"{budgets[name]:.2f}" if name in budgets else ""
        print(
            f"| {name} | {middle:.2f} ({low:.2f} to {high:.2f}) | {ratio[1]:.3f} ({ratio[0]:.3f} to {ratio[2]:.3f}) "
            f"| {budget} |"
        )
        rows[name] = {"median": middle, "quartiles": [low, high], "ratio": ratio[1], "budget": budgets.get(name)}
    return rows


async def measure(options: argparse.Namespace, server: Upstream) -> dict[str, Any]:
    guard = rules()
    readers: dict[str, Any] = {
        "bare": Bare(),
        "bare, aiohttp": Bare(aiohttp=True),
        "whole flow": Whole(guard),
        "whole flow, aiohttp": Whole(guard, aiohttp=True),
        "without guardrails": Whole(None),
    }
    found: dict[str, Any] = {}
    try:
        burst = await cpu_rounds(readers, server.burst(options.chunks), options.chunks, options.rounds)
        budgets = {"whole flow": 0.15, "whole flow, aiohttp": 0.15}
        found["burst"] = show(f"Burst, {options.chunks} chunks", "CPU us per chunk", burst, budgets)
        for every_ms, chunks, limits in ((1, 1_000, (0.70, 0.45)), (20, 100, (0.80, 0.50))):
            url = server.paced(every_ms / 1e3, chunks)
            paced = await cpu_rounds(readers, url, chunks, max(5, options.rounds // 2))
            budgets = dict(zip(("whole flow", "whole flow, aiohttp"), limits, strict=True))
            found[f"paced {every_ms} ms"] = show(f"Paced, {every_ms} ms", "CPU us per chunk", paced, budgets)
        first = await first_text(readers, server.burst(3), options.first_rounds)
        found["first text"] = show("First text on a warm client", "ms", first, {})
        for name in ("whole flow", "whole flow, aiohttp"):
            added = [ours - bare for ours, bare in zip(first[name], first["bare"], strict=True)]
            low, middle, high = quartiles(added)
            print(f"\n{name}: added first-token latency {middle:+.2f} ms ({low:+.2f} to {high:+.2f}; budget: below 0)")
            found["first text"][name]["added_ms"] = [low, middle, high]
    finally:
        for reader in readers.values():
            await reader.aclose()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--first-rounds", type=int, default=60)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    packages = ", ".join(f"{name} {version(name)}" for name in ("openai", "httpx2", "aiohttp", "msgspec"))
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores; {packages}")
    with Upstream() as server:
        before_s, started_s = server.cpu_s(), time.monotonic()
        found = asyncio.run(measure(options, server))
        busy = (server.cpu_s() - before_s) / (time.monotonic() - started_s)
        print(f"\nthe server was busy for {busy:.0%} of the time")
    if options.json:
        options.json.write_text(json.dumps({"machine": platform.platform(), "packages": packages, **found}, indent=1))
    if busy > 0.5:
        raise SystemExit("the server was the bottleneck")


if __name__ == "__main__":
    main()
