"""What a run of a graph of four nodes costs: `python benchmarks/bench_graph.py [--rounds N]`.

The kinds of graph run in turn; each run is checked. Printed are medians of the microseconds per run.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kaygraph import AsyncGraph, AsyncNode, BaseNode, Graph, MetricsNode, Node, ValidatedNode

RUNS = 2000


class Sync(Node[Any, Any]):
    def post(self, shared: dict[str, int], prep_res: Any, exec_res: Any) -> None:
        shared["visits"] += 1


class Async(AsyncNode[Any, Any]):
    async def post_async(self, shared: dict[str, int], prep_res: Any, exec_res: Any) -> None:
        shared["visits"] += 1


class Checked(ValidatedNode[Any, Any]):
    def post(self, shared: dict[str, int], prep_res: Any, exec_res: Any) -> None:
        shared["visits"] += 1


class Measured(MetricsNode[Any, Any], Async):
    pass


def chain(graph: Graph, nodes: list[BaseNode[Any, Any]]) -> Graph:
    node = graph.start(nodes[0])
    for successor in nodes[1:]:
        node = node >> successor
    return graph


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    sync = chain(Graph(), [Sync() for _ in range(4)])
    many = chain(AsyncGraph(), [Async() for _ in range(4)])
    # Recording every run's time would grow a list through all rounds: the mix of the program, without its figures.
    ours = chain(AsyncGraph(), [Checked(), Measured(collect_metrics=False), Checked(), Async()])
    times: dict[str, list[float]] = {"four sync nodes": [], "four async nodes": [], "the program's mix": []}
    for _ in range(rounds):
        for name, graph in zip(times, (sync, many, ours), strict=True):
            shared = {"visits": 0}
            started_s = time.perf_counter()
            for _ in range(RUNS):
                if isinstance(graph, AsyncGraph):
                    await graph.run_async(shared)
                else:
                    graph.run(shared)
            times[name].append((time.perf_counter() - started_s) / RUNS * 1e6)
            assert shared["visits"] == 4 * RUNS
    print(f"Python {platform.python_version()}, {rounds} rounds of {RUNS} runs")
    for name, row in times.items():
        low, middle, high = statistics.quantiles(row, n=4)
        print(f"{name:18} {middle:5.1f} us per run (quartiles {low:.1f} to {high:.1f})")


if __name__ == "__main__":
    asyncio.run(main())
