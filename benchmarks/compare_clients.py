"""The whole flow beside other libraries that stream: `python benchmarks/compare_clients.py [--venvs DIR]`.

Each library reads the same burst of 2,000 chunks, with nothing around it but a loop that joins the text, in a virtual
environment of its own with pinned versions (benchmarks/clients/). The whole flow does the same with its prompt guard,
breaker, guardrails (pii, secrets, 1,000 keywords), recorder and a plain sink. CPU microseconds per chunk, interleaved
by processes; the ratio is to the bare SDK of this environment in the same round. And one-shot programs: wall time and
time to the first byte of `main.py`, of the `llm` program, and of a script of ten lines with the bare SDK, for an answer
of 50 chunks. Every text is compared. Exit code 1 only for a wrong text.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.environments import InstallError, pinned_environment  # noqa: E402
from benchmarks.upstream import Upstream, text_of  # noqa: E402

CLIENTS = Path(__file__).resolve().parent / "clients"
READER = CLIENTS / "read_answers.py"
PEERS = {
    "LiteLLM": ("litellm", "litellm"),
    "langchain-openai": ("langchain_openai", "langchain-openai"),
    "pydantic-ai": ("pydantic_ai", "pydantic-ai"),
    "llm": ("llm", "llm"),
}
OURS = """
import asyncio, json, sys, time
sys.path.insert(0, {root!r})
from benchmarks.bench_flow import Whole, rules
async def main():
    read, times = Whole(rules(), aiohttp={aiohttp}), []
    for _ in range({rounds} + 1):
        started = time.process_time()
        text, _ = await read({url!r})
        times.append((time.process_time() - started) / {chunks} * 1e6)
    await read.aclose()
    print(json.dumps({{"length": len(text), "us": times[1:]}}))
asyncio.run(main())
"""
BARE = """
import openai
client = openai.OpenAI(api_key="none", base_url={url!r})
messages = [dict(role="user", content="Count.")]
stream = client.chat.completions.create(model="bench-model", messages=messages, stream=True)
for chunk in stream:
    if chunk.choices and chunk.choices[0].delta.content:
        print(chunk.choices[0].delta.content, end="", flush=True)
print()
"""


def cpu(command: list[str], chunks: int) -> float:
    """Median CPU microseconds per chunk that *command* reports; checks the length of its text."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise SystemExit(f"{command[:3]}: {done.stderr[-400:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    if found["length"] not in (len(text_of(chunks)), len(text_of(chunks).strip())):
        raise SystemExit(f"{command[:3]}: a text of {found['length']} characters instead of {len(text_of(chunks))}")
    return statistics.median(found["us"])


def one_shot(command: list[str], environ: dict[str, str], text: str) -> tuple[float, float]:
    """Seconds to the first byte and to the end of a program that prints an answer."""
    started_s = time.perf_counter()
    program = subprocess.Popen(
        command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert program.stdout is not None
    first = program.stdout.read(1)
    first_s = time.perf_counter() - started_s
    rest = program.stdout.read()
    code = program.wait()
    if code or (first + rest).decode().strip() != text.strip():
        raise SystemExit(f"{command[:3]}: exit code {code}, a wrong text")
    return first_s, time.perf_counter() - started_s


def spread(values: list[float], digits: int) -> str:
    """Median, and the quartiles in brackets."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def streaming(options: argparse.Namespace, pythons: dict[str, Path], server: Upstream) -> list[str]:
    chunks, rounds, url = options.chunks, options.inner_rounds, server.burst(options.chunks)
    reader = [str(READER)]
    tail = [url, str(chunks), str(rounds)]
    ours = {"root": str(ROOT), "url": url, "chunks": chunks, "rounds": rounds}
    commands = {
        f"bare AsyncOpenAI {version('openai')}": [sys.executable, *reader, "openai", *tail],
        "whole flow": [sys.executable, "-c", OURS.format(aiohttp=False, **ours)],
        "whole flow, aiohttp": [sys.executable, "-c", OURS.format(aiohttp=True, **ours)],
        **{name: [str(python), *reader, PEERS[name][1], *tail] for name, python in pythons.items()},
    }
    found: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(options.rounds):
        names = list(commands)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            found[name].append(cpu(commands[name], chunks))
    base = next(iter(found.values()))
    lines = [f"| reader | CPU us per chunk of {chunks:,} at once | / bare |", "| --- | --- | --- |"]
    for name, values in found.items():
        ratios = [value / bare for value, bare in zip(values, base, strict=True)]
        lines.append(f"| {name} | {spread(values, 1)} | {spread(ratios, 3)} |")
    return lines


def programs(options: argparse.Namespace, pythons: dict[str, Path], server: Upstream) -> list[str]:
    url, text = server.burst(50), text_of(50)
    with tempfile.TemporaryDirectory() as home:
        environ = {"PATH": os.environ["PATH"], "HOME": home, "KAYGRAPH_STATE_DIR": home, "LLM_USER_PATH": home}
        commands = {
            "main.py": [sys.executable, str(ROOT / "main.py"), "--base-url", url, "--model", "bench-model", "Count."],
            "a script with the bare SDK": [sys.executable, "-c", BARE.format(url=url)],
        }
        if "llm" in pythons:
            models = f"- model_id: bench-model\n  model_name: bench-model\n  api_base: {url}\n"
            Path(home, "extra-openai-models.yaml").write_text(models, encoding="utf-8")
            commands["llm"] = [str(pythons["llm"].with_name("llm")), "-m", "bench-model", "--key", "none", "Count."]
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for number in range(options.shots + 1):
            names = list(commands)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                times = one_shot(commands[name], environ, text)
                if number:
                    found[name].append(times)
    lines = ["| program | first byte s | / ours | whole s | / ours |", "| --- | --- | --- | --- | --- |"]
    ours = found["main.py"]
    for name, rows in found.items():
        cells = []
        for part in (0, 1):
            values = [row[part] for row in rows]
            ratios = [row[part] / our[part] for row, our in zip(rows, ours, strict=True)]
            cells += [spread(values, 3), spread(ratios, 2)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venvs", type=Path, help="keep the environments here, and use those that are there")
    parser.add_argument("--only", nargs="*", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--chunks", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--inner-rounds", type=int, default=3)
    parser.add_argument("--shots", type=int, default=15)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    lines = [f"Python {platform.python_version()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}", ""]
    with contextlib.ExitStack() as stack:
        directory = options.venvs or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pythons: dict[str, Path] = {}
        for name in options.only:
            pins = CLIENTS / f"{PEERS[name][0]}.txt"
            try:
                kept = pinned_environment(pins, name, directory / PEERS[name][0], bool(options.venvs))
                pythons[name] = stack.enter_context(kept)
            except InstallError as error:
                lines.append(f"{name}: {error}")
        server: Any = stack.enter_context(Upstream())
        lines += [*streaming(options, pythons, server), "", *programs(options, pythons, server)]
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
