"""Whether the cost per chunk stays flat: `python benchmarks/bench_curves.py [--svg FILE] [--json FILE]`.

CPU microseconds per chunk of the whole flow (prompt guard, breaker, guardrails pii and secrets, recorder, sink) over

- the length of the answer, 1,000 to 64,000 chunks that come at once,
- the number of rules: 10 to 10,000 rules of one keyword each besides the two packs,
- the number of streams, 1 to 1,000 at once, a chunk every 10 ms (each in a process of its own, as bench_many does it).

Points of one curve are measured in turn; medians, and quartiles where there are four rounds. Every text is compared;
exit code 1 only for a wrong one. The drawing has one panel for each curve, both axes from zero or logarithmic.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import math
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.bench_flow import Whole  # noqa: E402
from benchmarks.bench_many import measured  # noqa: E402
from benchmarks.upstream import Upstream, text_of  # noqa: E402
from utils.guardrails.policy import compile_rules  # noqa: E402
from utils.guardrails.rules import RuleSet  # noqa: E402

LENGTHS = (1_000, 4_000, 16_000, 64_000)
RULES = (10, 100, 1_000, 10_000)
STREAMS = (1, 10, 100, 1_000)
RULES_CHUNKS = 2_000
Curve = dict[int, list[float]]


def with_rules(count: int) -> RuleSet:
    """The packs pii and secrets, and so many rules that find nothing."""
    rules = "".join(f'[[rule]]\nid = "r{n}"\nkeywords = ["forbidden{n * 7919 % 1_000_003}"]\n' for n in range(count))
    with tempfile.TemporaryDirectory() as directory:
        pack = Path(directory) / "many.toml"
        pack.write_text(f'name = "many"\ndescription = "rules"\n{rules}', encoding="utf-8")
        return compile_rules(("pii", "secrets", str(pack)))


async def cost(reader: Whole, url: str, chunks: int) -> float:
    """CPU microseconds per chunk of one answer."""
    gc.collect()
    started_s = time.process_time()
    text, _ = await reader(url)
    used_s = time.process_time() - started_s
    if text != text_of(chunks):
        raise SystemExit(f"a wrong text of {len(text)} characters instead of {len(text_of(chunks))}")
    return used_s / chunks * 1e6


async def over_lengths(server: Upstream, rounds: int) -> Curve:
    reader = Whole(compile_rules(("pii", "secrets")), aiohttp=True)
    curve: Curve = {chunks: [] for chunks in LENGTHS}
    await cost(reader, server.burst(RULES_CHUNKS), RULES_CHUNKS)
    for _ in range(rounds):
        for chunks in LENGTHS:
            curve[chunks].append(await cost(reader, server.burst(chunks), chunks))
    await reader.aclose()
    return curve


async def over_rules(server: Upstream, rounds: int) -> Curve:
    readers = {count: Whole(with_rules(count), aiohttp=True) for count in RULES}
    curve: Curve = {count: [] for count in RULES}
    url = server.burst(RULES_CHUNKS)
    for number in range(rounds + 1):
        for count, reader in readers.items():
            us = await cost(reader, url, RULES_CHUNKS)
            if number:  # the first one builds the states of the automata
                curve[count].append(us)
    for reader in readers.values():
        await reader.aclose()
    return curve


def over_streams(rounds: int) -> Curve:
    curve: Curve = {streams: [] for streams in STREAMS}
    for _ in range(rounds):
        for streams in STREAMS:
            curve[streams].append(measured("whole flow", streams)["cpu_us"])
    return curve


def show(title: str, curve: Curve) -> None:
    print(f"\n### {title}\n\n| {title} | CPU us per chunk | beside the first |\n| --- | --- | --- |")
    first = statistics.median(next(iter(curve.values())))
    for count, values in curve.items():
        middle = statistics.median(values)
        spread = ""
        if len(values) >= 4:
            low, _, high = statistics.quantiles(values, n=4)
            spread = f" ({low:.1f} to {high:.1f})"
        print(f"| {count:,} | {middle:.1f}{spread} | {middle / first:.2f} |")


# -- drawing -----------------------------------------------------------------------------------------------------------

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 300, 220, 44, 40, 34


def drawing(curves: dict[str, Curve]) -> str:
    """All *curves* by their titles, side by side, as SVG that works on light and dark pages."""
    panels = [panel(number, title, curve) for number, (title, curve) in enumerate(curves.items())]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH * len(curves)} {_HEIGHT}" '
        'font-family="sans-serif" font-size="11" fill="#777">\n<title>CPU microseconds per chunk</title>\n'
        + "\n".join(panels)
        + "\n</svg>\n"
    )


def panel(number: int, title: str, curve: Curve) -> str:
    """One curve: logarithmic to the right, from zero upwards."""
    top = 1.25 * max(max(values) for values in curve.values())
    low, high = math.log10(min(curve)), math.log10(max(curve))

    def x(count: float) -> float:
        return _LEFT + (math.log10(count) - low) / (high - low) * (_WIDTH - _LEFT - 20)

    def y(us: float) -> float:
        return _HEIGHT - _BOTTOM - us / top * (_HEIGHT - _BOTTOM - _TOP)

    middles = {count: statistics.median(values) for count, values in curve.items()}
    parts = [
        f'<g transform="translate({number * _WIDTH} 0)">',
        f'<text x="{_LEFT}" y="18">us per chunk over {title}</text>',
    ]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        us = top * share
        parts.append(f'<path d="M{_LEFT} {y(us):.1f}H{_WIDTH - 20}" stroke="#8884" fill="none"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y(us) + 4:.1f}" text-anchor="end">{us:.0f}</text>')
    for count, values in curve.items():
        parts.append(f'<text x="{x(count):.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{count:,}</text>')
        parts.append(f'<path d="M{x(count):.1f} {y(min(values)):.1f}V{y(max(values)):.1f}" stroke="#58a" fill="none"/>')
        parts.append(f'<circle cx="{x(count):.1f}" cy="{y(middles[count]):.1f}" r="3" fill="#58a"/>')
    line = "L".join(f"{x(count):.1f} {y(us):.1f}" for count, us in middles.items())
    parts.append(f'<path d="M{line}" stroke="#58a" fill="none"/></g>')
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    machine = (
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, {options.rounds} rounds"
    )
    print(machine)
    with Upstream() as server:
        curves = {
            "chunks of the answer": asyncio.run(over_lengths(server, options.rounds)),
            "rules": asyncio.run(over_rules(server, options.rounds)),
        }
    curves["streams at once"] = over_streams(max(1, options.rounds // 2))
    for title, curve in curves.items():
        show(title, curve)
    if options.svg:
        options.svg.write_text(drawing(curves), encoding="utf-8")
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, **curves}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
