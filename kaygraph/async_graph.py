"""Graphs that await their nodes."""

from __future__ import annotations

from typing import Any, cast

from kaygraph._tasks import run_tasks
from kaygraph._typing import T_Action, T_Params
from kaygraph.async_node import AsyncNode
from kaygraph.graph import BatchGraph, Graph

__all__ = ["AsyncBatchGraph", "AsyncGraph", "AsyncParallelBatchGraph"]


class AsyncGraph(Graph, AsyncNode[Any, Any]):
    """A Graph with asynchronous nodes; synchronous ones run inline and block the event loop meanwhile.

    Call order of `await run_async(shared)`: prep_async(shared), then the nodes, then post_async(shared, prep_res,
    last_action), whose default returns the last action. Everything else is as in Graph. `run` raises RuntimeError.
    """

    async def post_async(self, shared: Any, prep_res: Any, exec_res: Any) -> Any:
        """Return the action of the whole graph; the default is the last node's, received as *exec_res*."""
        return exec_res

    def _run(self, shared: Any) -> T_Action:
        return AsyncNode._run(self, shared)

    async def _run_async(self, shared: Any) -> T_Action:
        prep_res = await self.prep_async(shared)
        action = await self._walk_async(shared, self.params)
        return cast("T_Action", await self.post_async(shared, prep_res, action))

    async def _walk_async(self, shared: Any, params: T_Params) -> T_Action:
        params = dict(params or self.params)
        action: T_Action = None
        node = self._visit(self.start_node, params)
        while node is not None:
            action = await node._run_async(shared) if isinstance(node, AsyncNode) else node._run(shared)
            node = self._visit(self.get_next_node(node, action), params)
        return action


class AsyncBatchGraph(AsyncGraph, BatchGraph):
    """A BatchGraph that awaits its inner runs, one after the other; `prep_async` returns the dicts.

    Ends with `post_async(shared, items, None)`.
    """

    async def _run_async(self, shared: Any) -> T_Action:
        prep_res = await self.prep_async(shared)
        items = [] if prep_res is None else prep_res
        for item in items:
            await self._walk_async(shared, self._item_params(item))
        return cast("T_Action", await self.post_async(shared, items, None))


class AsyncParallelBatchGraph(AsyncGraph, BatchGraph):
    """An AsyncBatchGraph whose inner runs happen at the same time, each in a task of its own.

    Every run works on its own copies of the nodes, but on the same *shared* and the same containers. No run starts if
    an item is not a dict. The first error (in time) cancels the other runs and is raised once they have ended, so
    nothing goes on working after the graph has failed.
    """

    async def _run_async(self, shared: Any) -> T_Action:
        prep_res = await self.prep_async(shared)
        items = [] if prep_res is None else prep_res
        params = [self._item_params(item) for item in items]
        await run_tasks(lambda item: self._walk_async(shared, item), params)
        return cast("T_Action", await self.post_async(shared, items, None))
