"""What surrounds one run of a node, the same for synchronous and asynchronous nodes."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from kaygraph._typing import T_Action

if TYPE_CHECKING:
    from kaygraph.base import BaseNode

__all__ = ["Lifecycle"]


class Lifecycle:
    """Clock and error handling around the phases of one run; `action` is the run's result afterwards.

    Sets the context `start_time` (seconds since the epoch) on entry and, only after success, `last_execution_time`
    (seconds). An Exception goes to `on_error`: if that returns something true, the error ends here and `action` is the
    returned string, or None (the default edge) for any other true value. If not, the error goes on unchanged. Other
    BaseExceptions (cancellation, Ctrl-C) always go on and are not shown to `on_error`.
    """

    __slots__ = ("_node", "_shared", "_started", "action")

    def __init__(self, node: BaseNode[Any, Any], shared: Any) -> None:
        self._node = node
        self._shared = shared
        self._started = 0.0
        self.action: T_Action = None

    def __enter__(self) -> Lifecycle:
        self._node.set_context("start_time", time.time())
        self._node.logger.debug("%s: run started", self._node.node_id)
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        node = self._node
        elapsed = time.perf_counter() - self._started
        if error is None:
            node.set_context("last_execution_time", elapsed)
            node.logger.debug("%s: run finished after %.6f s", node.node_id, elapsed)
            return False
        if not isinstance(error, Exception):
            return False
        answer = node.on_error(self._shared, error)
        if not answer:
            return False
        self.action = answer if isinstance(answer, str) else None
        node._observe("suppressed")
        node.logger.warning("%s: on_error suppressed %s", node.node_id, type(error).__name__)
        return True
