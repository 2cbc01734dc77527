"""Attempt counters that concurrent items cannot disturb."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from kaygraph._messages import describe

if TYPE_CHECKING:
    from kaygraph.node import Node

__all__ = ["Attempts", "current_attempts"]

_innermost: ContextVar[Attempts | None] = ContextVar("kaygraph_attempts", default=None)


class Attempts:
    """The attempts of one node at one item, visible (through `Node.cur_retry`) only to the thread or task it runs in.

    `number` counts from 0. Entering raises RuntimeError if the node allows no attempt at all.
    """

    __slots__ = ("_outer", "node", "number")

    def __init__(self, node: Node[Any, Any]) -> None:
        self.node = node
        self.number = 0
        self._outer: Attempts | None = None

    def __enter__(self) -> Attempts:
        if self.node.max_retries < 1:
            raise RuntimeError(
                f"{describe(self.node)}: max_retries={self.node.max_retries} allows no attempt, so exec is never "
                "called; max_retries counts all attempts: write max_retries=1 for one"
            )
        self._outer = _innermost.get()
        _innermost.set(self)
        self.node._last_retry = 0
        return self

    def __exit__(self, *_: object) -> None:
        # Not a token reset: that raises when an abandoned coroutine is closed from another context.
        if _innermost.get() is self:
            _innermost.set(self._outer)

    def another(self, error: Exception) -> bool:
        """Whether a further attempt is allowed after *error*; if so, `number` is already its index."""
        node = self.node
        node.logger.warning(
            "%s: attempt %d of %d failed (%s)", node.node_id, self.number + 1, node.max_retries, type(error).__name__
        )
        if self.number + 1 >= node.max_retries:
            return False
        self.number += 1
        node._last_retry = self.number
        node._observe("retry")
        return True


def current_attempts(node: Node[Any, Any]) -> Attempts | None:
    """The attempts that *node* is making in this thread or task, if any."""
    attempts = _innermost.get()
    while attempts is not None and attempts.node is not node:
        attempts = attempts._outer
    return attempts
