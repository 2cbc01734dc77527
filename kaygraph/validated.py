"""Checks around exec."""

from __future__ import annotations

from typing import Any

from kaygraph._typing import T_ExecRes, T_PrepRes
from kaygraph.node import Node

__all__ = ["ValidatedNode"]


class ValidatedNode(Node[T_PrepRes, T_ExecRes]):
    """A node that checks what goes into exec and what comes out.

    Call order: before_prep, prep, validate_input once, exec (with retries and fallback) on the validated value,
    validate_output once (on a fallback result too), after_exec, post. `after_exec` and `post` receive the value that
    `prep` returned and the validated result. A validation error is not retried and has no fallback; it goes to
    `on_error`.
    With BatchNode the order of the bases decides: (ValidatedNode, BatchNode) validates the whole list, (BatchNode,
    ValidatedNode) each item. With AsyncNode, in either order, the awaited result is validated.
    """

    def validate_input(self, prep_res: Any) -> Any:
        """Return the value that exec shall receive (not whether it is valid), or raise."""
        return prep_res

    def validate_output(self, exec_res: Any) -> Any:
        """Return the value that `post` shall receive (not whether it is valid), or raise."""
        return exec_res

    def _exec(self, prep_res: Any) -> Any:
        return self.validate_output(super()._exec(self.validate_input(prep_res)))

    async def _exec_async(self, prep_res: Any) -> Any:
        return self.validate_output(await super()._exec_async(self.validate_input(prep_res)))
