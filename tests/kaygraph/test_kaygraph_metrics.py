"""MetricsNode: what is counted, for synchronous, asynchronous and batch nodes."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from kaygraph import AsyncGraph, AsyncNode, AsyncParallelBatchNode, BatchNode, Graph, MetricsNode, ParallelBatchNode

MIXES: list[tuple[type, ...]] = [(MetricsNode,), (MetricsNode, AsyncNode), (AsyncNode, MetricsNode)]
every_mix = pytest.mark.parametrize("bases", MIXES, ids=lambda bases: "+".join(b.__name__ for b in bases))


class Flaky:
    """Fails as often as `shared["failures"]` says; falls back and suppresses as it is told."""

    def prep(self, shared: Any) -> Any:
        if shared.get("prep_fails"):
            raise LookupError("prep")
        return shared

    def exec(self, prep_res: Any) -> str:
        if self.cur_retry < prep_res.get("failures", 0):  # type: ignore[attr-defined]
            raise ConnectionError
        return "result"

    def exec_fallback(self, prep_res: Any, exc: Exception) -> str:
        if prep_res.get("fallback"):
            return "fallback"
        raise exc

    def on_error(self, shared: Any, error: Exception) -> bool:
        return bool(shared.get("suppress"))

    async def prep_async(self, shared: Any) -> Any:
        return Flaky.prep(self, shared)

    async def exec_async(self, prep_res: Any) -> str:
        return Flaky.exec(self, prep_res)

    async def exec_fallback_async(self, prep_res: Any, exc: Exception) -> str:
        return Flaky.exec_fallback(self, prep_res, exc)


def build(bases: tuple[type, ...], **arguments: Any) -> Any:
    return type("Probe", (Flaky, *bases), {})(**arguments)


def run(node: Any, shared: Any) -> Any:
    return asyncio.run(node.run_async(shared)) if isinstance(node, AsyncNode) else node.run(shared)


def counts(node: Any) -> dict[str, Any]:
    return {key: value for key, value in node.metrics.items() if key != "execution_times"}


@pytest.mark.parametrize(
    ("shared", "expected"),
    [
        ({}, {"success_count": 1, "retry_counts": [0]}),
        ({"failures": 2}, {"success_count": 1, "retry_counts": [2]}),
        ({"failures": 9}, {"error_count": 1, "retry_counts": [2]}),
        ({"failures": 9, "suppress": True}, {"success_count": 1, "suppressed_count": 1, "retry_counts": [2]}),
        ({"failures": 9, "fallback": True}, {"success_count": 1, "fallback_count": 1, "retry_counts": [2]}),
        ({"prep_fails": True}, {"error_count": 1, "retry_counts": [0]}),
        ({"prep_fails": True, "suppress": True}, {"success_count": 1, "suppressed_count": 1, "retry_counts": [0]}),
    ],
    ids=str,
)
@every_mix
def test_every_kind_of_run_is_counted(bases: tuple[type, ...], shared: Any, expected: Any) -> None:
    node = build(bases, max_retries=3)
    try:
        run(node, shared)
    except (ConnectionError, LookupError):
        assert expected.get("error_count") == 1
    none = {"success_count": 0, "error_count": 0, "suppressed_count": 0, "fallback_count": 0}
    assert counts(node) == none | expected
    assert len(node.metrics["execution_times"]) == 1


@every_mix
def test_a_run_without_attempts_does_not_repeat_the_retries_of_the_run_before(bases: tuple[type, ...]) -> None:
    node = build(bases, max_retries=3)
    run(node, {"failures": 2})
    run(node, {"prep_fails": True, "suppress": True})
    assert node.metrics["retry_counts"] == [2, 0]


@every_mix
def test_the_original_collects_what_its_copies_in_a_graph_do(bases: tuple[type, ...]) -> None:
    node = build(bases)
    if isinstance(node, AsyncNode):
        asyncio.run(AsyncGraph(start=node).run_async({}))
    else:
        Graph(start=node).run({})
    assert node.get_stats()["total_executions"] == 1


@every_mix
def test_stats_sum_the_recorded_runs_up(bases: tuple[type, ...]) -> None:
    node = build(bases, max_retries=3)
    assert node.get_stats() == {"status": "no_executions"}
    for shared in ({}, {"failures": 1}, {"failures": 2}, {"prep_fails": True, "suppress": True}):
        run(node, shared)
    with pytest.raises(ConnectionError):
        run(node, {"failures": 9})
    node.metrics["execution_times"][:] = [0.5, 0.1, 0.2, 0.3, 0.4]
    assert node.get_stats() == {
        "total_executions": 5,
        "success_rate": pytest.approx(0.8),
        "avg_execution_time": pytest.approx(0.3),
        "min_execution_time": 0.1,
        "max_execution_time": 0.5,
        "total_retries": 5,
    }


@every_mix
def test_times_cover_the_whole_run(bases: tuple[type, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def tick(self: Any, *_: Any) -> None:
        now[0] += 1

    node: Any = type("Probe", bases, {"before_prep": tick, "after_exec": tick})()
    run(node, {})
    assert node.metrics["execution_times"] == [2.0]
    assert node.get_context("last_execution_time") == 2.0


@every_mix
def test_nothing_is_recorded_when_collecting_is_off(bases: tuple[type, ...]) -> None:
    node = build(bases, collect_metrics=False, max_retries=2)
    run(node, {"failures": 1})
    assert node.get_stats() == {"status": "no_executions"}
    assert node.metrics["success_count"] == 0


def test_a_cancelled_run_is_neither_success_nor_error() -> None:
    class Slow(MetricsNode, AsyncNode):
        async def exec_async(self, prep_res: Any) -> None:
            await asyncio.Event().wait()

    async def main() -> Any:
        node = Slow()
        task = asyncio.create_task(node.run_async({}))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return node

    assert asyncio.run(main()).get_stats() == {"status": "no_executions"}


@pytest.mark.parametrize("base", [BatchNode, ParallelBatchNode, AsyncParallelBatchNode])
def test_a_batch_counts_the_retries_and_fallbacks_of_all_its_items_in_one_run(base: type) -> None:
    def work(self: Any, item: int) -> None:
        if self.cur_retry < item:
            raise ConnectionError

    async def exec_async(self: Any, item: int) -> None:
        await asyncio.sleep(0)
        work(self, item)

    async def prep_async(self: Any, shared: Any) -> range:
        return range(5)

    async def exec_fallback_async(self: Any, item: int, exc: Exception) -> None:
        pass

    namespace = (
        {"prep_async": prep_async, "exec_async": exec_async, "exec_fallback_async": exec_fallback_async}
        if base is AsyncParallelBatchNode
        else {"prep": lambda self, shared: range(5), "exec": work, "exec_fallback": lambda self, item, exc: None}
    )
    node: Any = type("Probe", (MetricsNode, base), namespace)(max_retries=3)
    run(node, {})
    assert node.metrics["retry_counts"] == [0 + 1 + 2 + 2 + 2]
    assert node.metrics["fallback_count"] == 2
    assert node.metrics["success_count"] == 1


def test_concurrent_runs_of_one_node_are_recorded_apart() -> None:
    class Meeting(MetricsNode, AsyncNode):
        async def prep_async(self, shared: Any) -> Any:
            return shared

        async def exec_async(self, prep_res: Any) -> None:
            await asyncio.sleep(0)
            if self.cur_retry < prep_res:
                raise ConnectionError

    async def main() -> Any:
        node = Meeting(max_retries=5)
        await asyncio.gather(*(node.run_async(failures) for failures in range(5)))
        return node

    assert sorted(asyncio.run(main()).metrics["retry_counts"]) == [0, 1, 2, 3, 4]


def test_runs_in_many_threads_are_all_counted() -> None:
    node = build((MetricsNode,), max_retries=2)
    threads = [threading.Thread(target=lambda: [node.run({"failures": 1}) for _ in range(50)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert node.metrics["success_count"] == 400
    assert node.get_stats()["total_retries"] == 400


@pytest.mark.parametrize(("measured", "retries"), [(True, [1]), (False, [])])
def test_a_node_inside_another_is_counted_for_itself(measured: bool, retries: list[int]) -> None:
    inner = build((MetricsNode,), max_retries=2, collect_metrics=measured)

    class Outer(MetricsNode):
        def exec(self, prep_res: Any) -> None:
            inner.run({"failures": 1})

    outer = Outer()
    outer.run({})
    assert inner.metrics["retry_counts"] == retries
    assert outer.metrics["retry_counts"] == [0]
