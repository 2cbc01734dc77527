"""Nodes whose phases are coroutines."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NoReturn, cast

from kaygraph._messages import describe
from kaygraph._tasks import run_tasks
from kaygraph._typing import T_Action, T_ExecRes, T_PrepRes
from kaygraph.batch import BatchNode
from kaygraph.node import Node

__all__ = ["AsyncBatchNode", "AsyncNode", "AsyncParallelBatchNode"]


class AsyncNode(Node[T_PrepRes, T_ExecRes]):
    """A Node with awaited phases and the same lifecycle, retries and fallback as a synchronous one.

    Call order: before_prep, await prep_async, await exec_async (with retries; exec_fallback_async after the last),
    after_exec, await post_async; on_error if any of these raised an Exception. The hooks are plain functions. Waiting
    between attempts does not block the event loop; cancellation is never retried. Mixed with ValidatedNode, MetricsNode
    or BatchNode (in either order), validation, metrics and batches apply to the awaited values.
    """

    async def prep_async(self, shared: Any) -> T_PrepRes:
        """Read from *shared* what `exec_async` needs."""
        return cast("T_PrepRes", None)

    async def exec_async(self, prep_res: T_PrepRes) -> T_ExecRes:
        """Do the work on what `prep_async` returned."""
        return cast("T_ExecRes", None)

    async def exec_fallback_async(self, prep_res: Any, exc: Exception) -> Any:
        """The result to use instead when the last attempt failed with *exc*. The default raises *exc* itself."""
        raise exc

    async def post_async(self, shared: Any, prep_res: T_PrepRes, exec_res: T_ExecRes) -> T_Action:
        """Store the result in *shared*; return the action to follow (None: "default")."""
        return None

    async def run_async(self, shared: Any) -> T_Action:
        """Run this node alone and return its action. Warns if it has successors: only a graph follows them."""
        self._warn_about_successors("await AsyncGraph(start=node).run_async(shared)")
        return await self._run_async(shared)

    def run(self, shared: Any) -> NoReturn:
        """Raises RuntimeError: an asynchronous node is awaited with `run_async`."""
        raise RuntimeError(
            f"{describe(self)} is asynchronous: write `await node.run_async(shared)` instead of run(shared)"
        )

    def _run(self, shared: Any) -> T_Action:
        raise RuntimeError(
            f"{describe(self)} is asynchronous and cannot run in a Graph: "
            "use AsyncGraph(start=...) and `await graph.run_async(shared)`"
        )


class AsyncBatchNode(AsyncNode[T_PrepRes, T_ExecRes], BatchNode[T_PrepRes, T_ExecRes]):
    """`prep_async` returns an iterable, `exec_async(item)` is awaited for one item after the other.

    Every item has its own attempts and its own `exec_fallback_async(item, exc)`. The first item that finally fails ends
    the batch. An empty iterable gives []; None raises TypeError.
    """

    async def exec_async(self, prep_res: Any) -> Any:
        """Do the work on one item."""
        return None


class AsyncParallelBatchNode(AsyncNode[T_PrepRes, T_ExecRes], BatchNode[T_PrepRes, T_ExecRes]):
    """An AsyncBatchNode that runs all items at the same time, each in a task of its own.

    Results keep the order of the items. The first item that finally fails (in time) cancels the others; its error is
    raised once they have ended, so no item goes on working after the node has failed.
    """

    async def exec_async(self, prep_res: Any) -> Any:
        """Do the work on one item."""
        return None

    async def _map_async(self, run_one: Callable[[Any], Awaitable[Any]], items: Iterable[Any]) -> list[Any]:
        return await run_tasks(run_one, items)
