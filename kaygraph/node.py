"""A node whose exec is retried, with a fallback after the last attempt."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

from kaygraph._attempts import Attempts, current_attempts
from kaygraph._lifecycle import Lifecycle
from kaygraph._messages import warn, wrong_argument
from kaygraph._typing import T_Action, T_ExecRes, T_PrepRes
from kaygraph.base import BaseNode
from kaygraph.config import Config

if TYPE_CHECKING:
    from kaygraph.async_node import AsyncNode

__all__ = ["Node"]


class Node(BaseNode[T_PrepRes, T_ExecRes]):
    """A node that calls `exec` up to *max_retries* times in all, *wait* seconds apart, then `exec_fallback` once.

    Only `exec` is retried, and only after an Exception. The result of `exec_fallback` counts as the result; its default
    raises the last error. `max_retries` below 1 makes every run raise RuntimeError.
    The arguments win over attributes of the same name in a class body, which therefore have no effect (and warn).
    """

    def __init__(
        self, max_retries: int = 1, wait: float = 0, node_id: str | None = None, config: Config | None = None
    ) -> None:
        if not isinstance(max_retries, int):
            raise wrong_argument(self, "max_retries", "an int", max_retries)
        if not isinstance(wait, (int, float)):
            raise wrong_argument(self, "wait", "a number of seconds", wait)
        for name, value in (("max_retries", max_retries), ("wait", wait)):
            declared = getattr(type(self), name, value)
            if isinstance(declared, (int, float)) and declared != value:
                owner = type(self).__name__
                warn(
                    f"{owner}: {name} = {declared!r} in the class body has no effect, {value!r} is used; "
                    f"write {owner}({name}={declared!r}) or pass it on in __init__"
                )
        super().__init__(node_id=node_id, config=config)
        self.max_retries = max_retries
        self.wait = wait
        self._last_retry = 0

    @property
    def cur_retry(self) -> int:
        """The index (from 0) of the current attempt; after a run, of the last one.

        While items run concurrently, each thread and task reads its own attempt. After a concurrent batch the value is
        that of one of the items.
        """
        attempts = current_attempts(self)
        return self._last_retry if attempts is None else attempts.number

    @cur_retry.setter
    def cur_retry(self, value: int) -> None:
        attempts = current_attempts(self)
        if attempts is not None:
            attempts.number = value
        self._last_retry = value

    def exec_fallback(self, prep_res: Any, exc: Exception) -> Any:
        """The result to use instead when the last attempt failed with *exc*. The default raises *exc* itself."""
        raise exc

    def _exec(self, prep_res: Any) -> Any:
        with Attempts(self) as attempts:
            while True:
                try:
                    return self.exec(prep_res)
                except Exception as error:
                    if not attempts.another(error):
                        result = self.exec_fallback(prep_res, error)
                        self._observe("fallback")
                        return result
                if self.wait > 0:
                    time.sleep(self.wait)

    # The asynchronous twins stand here, below every mixin, and AsyncNode only opens them to the outside: so a class
    # that wraps a phase (validation, metrics, batches) wraps the awaited one too, whatever the order of the bases.

    async def _run_async(self, shared: Any) -> T_Action:
        node = cast("AsyncNode[Any, Any]", self)
        with Lifecycle(self, shared) as run:
            self.before_prep(shared)
            prep_res = await node.prep_async(shared)
            exec_res = await self._exec_async(prep_res)
            self.after_exec(shared, prep_res, exec_res)
            run.action = await node.post_async(shared, prep_res, exec_res)
        return run.action

    async def _exec_async(self, prep_res: Any) -> Any:
        node = cast("AsyncNode[Any, Any]", self)
        with Attempts(self) as attempts:
            while True:
                try:
                    return await node.exec_async(prep_res)
                except Exception as error:
                    if not attempts.another(error):
                        result = await node.exec_fallback_async(prep_res, error)
                        self._observe("fallback")
                        return result
                if self.wait > 0:
                    # Imported late: importing kaygraph must not cost the import of asyncio.
                    import asyncio

                    await asyncio.sleep(self.wait)
