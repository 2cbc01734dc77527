"""Nodes whose exec works on one item of a batch at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from kaygraph._messages import describe, wrong_argument
from kaygraph._tasks import run_tasks
from kaygraph._typing import T_ExecRes, T_PrepRes
from kaygraph.node import Node

__all__ = ["BatchNode", "ParallelBatchNode"]


class BatchNode(Node[T_PrepRes, T_ExecRes]):
    """`prep` returns an iterable (or None), `exec(item)` runs for each item, `post` gets the list of results.

    Every item has its own attempts and its own `exec_fallback(item, exc)`. The first item that finally fails ends the
    batch. Call order: prep, exec(item 1), ..., exec(item n), after_exec, post. The type parameters are those of the
    whole batch; the parameter of `exec` is one item and is not checked against them.
    """

    def exec(self, prep_res: Any) -> Any:
        """Do the work on one item."""
        return None

    def _exec(self, prep_res: Any) -> Any:
        return self._map(super()._exec, () if prep_res is None else prep_res)

    async def _exec_async(self, prep_res: Any) -> Any:
        if prep_res is None:
            raise TypeError(
                f"{describe(self)}: prep_async returned None instead of items; return [] for an empty batch"
            )
        return await self._map_async(super()._exec_async, prep_res)

    def _map(self, run_one: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        return [run_one(item) for item in items]

    async def _map_async(self, run_one: Callable[[Any], Awaitable[Any]], items: Iterable[Any]) -> list[Any]:
        return [await run_one(item) for item in items]


class ParallelBatchNode(BatchNode[T_PrepRes, T_ExecRes]):
    """A BatchNode that runs its items in up to *max_workers* threads (None: the default of ThreadPoolExecutor).

    Results keep the order of the items; each item runs in a copy of the caller's context variables. As soon as an item
    finally fails, items that have not started are dropped and running ones are waited for; then the error of the first
    failed item, in the order of the items, is raised. Mixed with AsyncNode, items run as tasks instead of threads.
    """

    def __init__(self, max_workers: int | None = None, *args: Any, **kwargs: Any) -> None:
        if max_workers is not None:
            if not isinstance(max_workers, int):
                raise wrong_argument(self, "max_workers", "an int or None", max_workers)
            if max_workers < 1:
                raise ValueError(f"{type(self).__name__}: max_workers must be at least 1, got {max_workers}")
        super().__init__(*args, **kwargs)
        self.max_workers = max_workers

    def _map(self, run_one: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        # Imported late: a graph without such a node should not pay for it.
        from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
        from contextvars import copy_context

        items = list(items)
        with ThreadPoolExecutor(self.max_workers, thread_name_prefix=type(self).__name__) as pool:
            futures = [pool.submit(copy_context().run, run_one, item) for item in items]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                # Items start in order, so nothing before the first failed item is dropped here.
                pool.shutdown(wait=True, cancel_futures=True)
        return [future.result() for future in futures]

    async def _map_async(self, run_one: Callable[[Any], Awaitable[Any]], items: Iterable[Any]) -> list[Any]:
        return await run_tasks(run_one, items, limit=self.max_workers)
