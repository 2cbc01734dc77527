"""Batch nodes: one item at a time, in threads, and in tasks."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kaygraph import AsyncBatchNode, AsyncNode, AsyncParallelBatchNode, BatchNode, MetricsNode, Node, ParallelBatchNode

KINDS: list[tuple[type, ...]] = [
    (BatchNode,),
    (ParallelBatchNode,),
    (AsyncBatchNode,),
    (AsyncParallelBatchNode,),
    (AsyncNode, BatchNode),
    (BatchNode, AsyncNode),
    (AsyncNode, ParallelBatchNode),
    (MetricsNode, BatchNode),
    (MetricsNode, ParallelBatchNode),
    (ParallelBatchNode, MetricsNode),
    (MetricsNode, AsyncBatchNode),
    (MetricsNode, AsyncParallelBatchNode),
]
every_kind = pytest.mark.parametrize("bases", KINDS, ids=lambda bases: "+".join(b.__name__ for b in bases))


def build(
    bases: tuple[type, ...],
    items: Any,
    work: Callable[[Any, Any], Any],
    fallback: Callable[[Any, Any, Exception], Any] | None = None,
    **arguments: Any,
) -> Any:
    """A batch node over *items* that calls `work(node, item)` in its exec and stores the results."""

    def store(self: Any, shared: Any, prep_res: Any, exec_res: Any) -> None:
        shared["prepared"], shared["results"] = prep_res, exec_res

    async def prep_async(self: Any, shared: Any) -> Any:
        return items

    async def exec_async(self: Any, item: Any) -> Any:
        await asyncio.sleep(0)
        result = work(self, item)
        await asyncio.sleep(0)
        return result

    async def post_async(self: Any, shared: Any, prep_res: Any, exec_res: Any) -> None:
        store(self, shared, prep_res, exec_res)

    namespace: dict[str, Any] = (
        {"prep_async": prep_async, "exec_async": exec_async, "post_async": post_async}
        if any(issubclass(base, AsyncNode) for base in bases)
        else {"prep": lambda self, shared: items, "exec": work, "post": store}
    )
    if fallback is not None:

        async def exec_fallback_async(self: Any, item: Any, exc: Exception) -> Any:
            return fallback(self, item, exc)

        namespace |= {"exec_fallback": fallback, "exec_fallback_async": exec_fallback_async}
    return type("Probe", bases, namespace)(**arguments)


def run(node: Any) -> Any:
    shared: dict[str, Any] = {}
    if isinstance(node, AsyncNode):
        asyncio.run(node.run_async(shared))
    else:
        node.run(shared)
    return shared["results"]


def generated() -> Iterator[int]:
    yield from (1, 2, 3)


@every_kind
@pytest.mark.parametrize(
    ("items", "results"), [([3, 1, 2], [30, 10, 20]), ((1,), [10]), ([], []), (range(3), [0, 10, 20])]
)
def test_results_are_a_list_in_the_order_of_the_items(bases: tuple[type, ...], items: Any, results: list[int]) -> None:
    assert run(build(bases, items, lambda node, item: item * 10)) == results


@every_kind
def test_a_generator_of_items_is_fine(bases: tuple[type, ...]) -> None:
    assert run(build(bases, generated(), lambda node, item: item)) == [1, 2, 3]


@every_kind
def test_no_items_are_an_empty_batch_for_plain_batches_and_a_mistake_for_asynchronous_ones(
    bases: tuple[type, ...],
) -> None:
    node = build(bases, None, lambda node, item: item)
    if isinstance(node, AsyncNode):
        with pytest.raises(TypeError, match=r"return \[\] for an empty batch"):
            run(node)
    else:
        assert run(node) == []


@every_kind
def test_every_item_has_its_own_attempts_counted_from_zero(bases: tuple[type, ...]) -> None:
    log: dict[int, list[int]] = {item: [] for item in range(4)}

    def work(node: Any, item: int) -> str:
        log[item].append(node.cur_retry)
        if node.cur_retry < item:
            raise ConnectionError
        return f"{item} after {node.cur_retry}"

    results = run(build(bases, list(log), work, max_retries=4))
    assert results == ["0 after 0", "1 after 1", "2 after 2", "3 after 3"]
    assert log == {0: [0], 1: [0, 1], 2: [0, 1, 2], 3: [0, 1, 2, 3]}


@every_kind
def test_every_item_has_its_own_fallback(bases: tuple[type, ...]) -> None:
    def work(node: Any, item: int) -> str:
        if item % 2:
            raise ConnectionError(f"item {item}")
        return "worked"

    def fallback(node: Any, item: int, exc: Exception) -> str:
        return f"{item}: {exc}, retry {node.cur_retry}"

    results = run(build(bases, range(4), work, fallback, max_retries=2))
    assert results == ["worked", "1: item 1, retry 1", "worked", "3: item 3, retry 1"]


@every_kind
def test_the_final_failure_of_one_item_ends_the_batch(bases: tuple[type, ...]) -> None:
    def work(node: Any, item: int) -> None:
        if item == 1:
            raise ConnectionError("item 1")

    with pytest.raises(ConnectionError, match="item 1"):
        run(build(bases, range(3), work))


@every_kind
def test_an_error_of_the_iterable_leaves_nothing_behind(bases: tuple[type, ...]) -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise LookupError("no more items")

    with pytest.raises(LookupError, match="no more items"):
        run(build(bases, broken(), lambda node, item: item))


@pytest.mark.parametrize("bases", [(BatchNode,), (AsyncBatchNode,)])
def test_after_a_sequential_failure_no_further_item_is_tried(bases: tuple[type, ...]) -> None:
    tried = []

    def work(node: Any, item: int) -> None:
        tried.append(item)
        if item == 1:
            raise ConnectionError

    with pytest.raises(ConnectionError):
        run(build(bases, range(4), work))
    assert tried == [0, 1]


# Threads


def test_attempts_of_items_in_threads_are_independent_while_they_interleave() -> None:
    together = threading.Barrier(4, timeout=5)
    log: dict[int, list[tuple[int, int]]] = {item: [] for item in range(4)}

    def work(node: Any, item: int) -> None:
        before = node.cur_retry
        together.wait()
        log[item].append((before, node.cur_retry))
        if before < 2:
            raise ConnectionError

    run(build((ParallelBatchNode,), list(log), work, max_workers=4, max_retries=3))
    assert all(attempts == [(0, 0), (1, 1), (2, 2)] for attempts in log.values())


def test_items_in_threads_really_run_at_the_same_time_and_at_most_max_workers_of_them() -> None:
    together = threading.Barrier(2, timeout=5)
    names = set()

    def work(node: Any, item: int) -> None:
        together.wait()
        names.add(threading.current_thread().name)

    run(build((ParallelBatchNode,), range(4), work, max_workers=2))
    assert len(names) == 2


def test_threads_see_the_context_variables_of_the_caller() -> None:
    request: contextvars.ContextVar[str] = contextvars.ContextVar("request")
    request.set("seven")
    assert run(build((ParallelBatchNode,), range(2), lambda node, item: request.get())) == ["seven", "seven"]


def test_after_a_failure_in_threads_waiting_items_are_dropped_and_running_ones_are_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started, finished, dropped = [], [], threading.Event()
    shut_down = ThreadPoolExecutor.shutdown

    def shutdown(self: Any, wait: bool = True, *, cancel_futures: bool = False) -> None:
        shut_down(self, wait=False, cancel_futures=cancel_futures)
        dropped.set()
        shut_down(self, wait=wait)

    def work(node: Any, item: int) -> None:
        started.append(item)
        if item == 1:
            raise ConnectionError("item 1")
        dropped.wait(5)
        finished.append(item)

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", shutdown)
    with pytest.raises(ConnectionError, match="item 1"):
        run(build((ParallelBatchNode,), range(50), work, max_workers=2))
    assert set(started) <= {0, 1, 2}
    assert set(finished) == set(started) - {1}


def test_of_several_failures_in_threads_the_first_item_is_raised() -> None:
    later_failed = threading.Event()

    def work(node: Any, item: int) -> None:
        if item == 0:
            later_failed.wait(5)
        else:
            later_failed.set()
        raise ConnectionError(f"item {item}")

    with pytest.raises(ConnectionError, match="item 0"):
        run(build((ParallelBatchNode,), range(2), work, max_workers=2))


# Tasks


def test_items_in_tasks_really_run_at_the_same_time() -> None:
    class Meeting(AsyncParallelBatchNode):
        async def prep_async(self, shared: Any) -> list[int]:
            self.arrived, self.all_here = [], asyncio.Event()
            return [1, 2, 3]

        async def exec_async(self, item: int) -> list[int]:
            self.arrived.append(item)
            if len(self.arrived) == 3:
                self.all_here.set()
            await self.all_here.wait()
            return list(self.arrived)

    asyncio.run(asyncio.wait_for(Meeting().run_async({}), 5))


def test_attempts_of_items_in_tasks_are_independent_while_they_interleave() -> None:
    log: dict[int, list[tuple[int, int]]] = {item: [] for item in range(4)}

    class Probe(AsyncParallelBatchNode):
        async def prep_async(self, shared: Any) -> list[int]:
            return list(log)

        async def exec_async(self, item: int) -> None:
            before = self.cur_retry
            for _ in range(item + 1):
                await asyncio.sleep(0)
            log[item].append((before, self.cur_retry))
            if before < 2:
                raise ConnectionError

    asyncio.run(Probe(max_retries=3).run_async({}))
    assert all(attempts == [(0, 0), (1, 1), (2, 2)] for attempts in log.values())


def test_the_first_failure_in_tasks_cancels_the_others_and_waits_for_their_end() -> None:
    ended: list[int] = []

    class Probe(AsyncParallelBatchNode):
        async def prep_async(self, shared: Any) -> range:
            return range(4)

        async def exec_async(self, item: int) -> None:
            if item == 2:
                raise ConnectionError("item 2")
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                ended.append(item)

    async def main() -> None:
        with pytest.raises(ConnectionError, match="item 2"):
            await Probe().run_async({})
        assert sorted(ended) == [0, 1, 3]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_cancelling_a_parallel_batch_cancels_its_items() -> None:
    ended = []

    class Probe(AsyncParallelBatchNode):
        async def prep_async(self, shared: Any) -> range:
            return range(3)

        async def exec_async(self, item: int) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(item)

    async def main() -> None:
        task = asyncio.create_task(Probe().run_async({}))
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == [0, 1, 2]

    asyncio.run(main())


def test_max_workers_also_limits_tasks() -> None:
    class Probe(AsyncNode, ParallelBatchNode):
        running = most = 0

        async def prep_async(self, shared: Any) -> range:
            return range(6)

        async def exec_async(self, item: int) -> None:
            Probe.running += 1
            Probe.most = max(Probe.most, Probe.running)
            await asyncio.sleep(0)
            Probe.running -= 1

    asyncio.run(Probe(max_workers=2).run_async({}))
    assert Probe.most == 2


def test_a_batch_node_is_a_node() -> None:
    assert issubclass(BatchNode, Node)
    assert run(BatchNodeWithDefaults()) == [None]


class BatchNodeWithDefaults(BatchNode):
    def prep(self, shared: Any) -> list[int]:
        return [1]

    def post(self, shared: Any, prep_res: Any, exec_res: Any) -> None:
        shared["results"] = exec_res
