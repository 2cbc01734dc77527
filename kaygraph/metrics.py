"""Figures about the runs of a node."""

from __future__ import annotations

import threading
import time
from contextvars import ContextVar
from typing import Any, Literal

from kaygraph._messages import wrong_argument
from kaygraph._typing import T_Action, T_ExecRes, T_PrepRes
from kaygraph.node import Node

__all__ = ["MetricsNode"]

# One lock for all nodes: it is held for a few appends only, and a lock in the node would forbid deepcopy and pickle.
_lock = threading.Lock()


class MetricsNode(Node[T_PrepRes, T_ExecRes]):
    """A node that counts and times its runs in `metrics`; `get_stats()` sums them up.

    A run that raises no exception is a success, also one whose error `on_error` suppressed or whose result came from a
    fallback: those are counted again in `suppressed_count` and `fallback_count`. A run ended by cancellation or Ctrl-C
    is not recorded. The original node sees the runs of its copies in graphs; concurrent runs are recorded correctly.

    `metrics` keys: `execution_times` (seconds of each whole run), `retry_counts` (attempts after the first in each run,
    over all items of a batch), `success_count`, `error_count`, `suppressed_count`, `fallback_count`.
    """

    def __init__(self, collect_metrics: bool = True, *args: Any, **kwargs: Any) -> None:
        if not isinstance(collect_metrics, int):
            raise wrong_argument(self, "collect_metrics", "True or False", collect_metrics)
        super().__init__(*args, **kwargs)
        self.collect_metrics = collect_metrics
        self.metrics: dict[str, Any] = {
            "execution_times": [],
            "retry_counts": [],
            "success_count": 0,
            "error_count": 0,
            "suppressed_count": 0,
            "fallback_count": 0,
        }

    def get_stats(self) -> dict[str, Any]:
        """The sums so far: `{"status": "no_executions"}` before the first recorded run, afterwards

        `total_executions`, `success_rate` (0 to 1), `avg_execution_time`, `min_execution_time`, `max_execution_time`
        (seconds) and `total_retries`.
        """
        with _lock:
            times: list[float] = list(self.metrics["execution_times"])
            retries: list[int] = list(self.metrics["retry_counts"])
            successes: int = self.metrics["success_count"]
        if not times:
            return {"status": "no_executions"}
        return {
            "total_executions": len(times),
            "success_rate": successes / len(times),
            "avg_execution_time": sum(times) / len(times),
            "min_execution_time": min(times),
            "max_execution_time": max(times),
            "total_retries": sum(retries),
        }

    def _run(self, shared: Any) -> T_Action:
        if not self.collect_metrics:
            return super()._run(shared)
        with _Recording(self):
            return super()._run(shared)

    async def _run_async(self, shared: Any) -> T_Action:
        if not self.collect_metrics:
            return await super()._run_async(shared)
        with _Recording(self):
            return await super()._run_async(shared)

    def _observe(self, event: Literal["retry", "fallback", "suppressed"]) -> None:
        super()._observe(event)
        recording = _innermost.get()
        if recording is not None and recording.node is self:
            with _lock:
                recording.counts[event] += 1


class _Recording:
    """One run being recorded; found by the threads and tasks of its items through their context."""

    __slots__ = ("_outer", "_started", "counts", "node")

    def __init__(self, node: MetricsNode[Any, Any]) -> None:
        self.node = node
        self.counts = {"retry": 0, "fallback": 0, "suppressed": 0}
        self._outer: _Recording | None = None
        self._started = 0.0

    def __enter__(self) -> None:
        self._outer = _innermost.get()
        _innermost.set(self)
        self._started = time.perf_counter()

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        elapsed = time.perf_counter() - self._started
        if _innermost.get() is self:
            _innermost.set(self._outer)
        if error_type is not None and not issubclass(error_type, Exception):
            return
        metrics = self.node.metrics
        with _lock:
            metrics["execution_times"].append(elapsed)
            metrics["retry_counts"].append(self.counts["retry"])
            metrics["success_count" if error_type is None else "error_count"] += 1
            metrics["fallback_count"] += self.counts["fallback"]
            metrics["suppressed_count"] += self.counts["suppressed"]


_innermost: ContextVar[_Recording | None] = ContextVar("kaygraph_recording", default=None)
