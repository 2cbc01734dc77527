"""Names for the types that travel through a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

__all__ = ["T_Action", "T_ExecRes", "T_Params", "T_PrepRes", "T_Shared"]

T_Shared: TypeAlias = dict[str, Any]
"""The usual store that all nodes of a run share; the methods accept any object in its place."""

T_Params: TypeAlias = dict[str, Any]
"""Parameters that a graph sets on each node it visits."""

T_Action: TypeAlias = str | None
"""The name of the edge to follow; None means "default"."""

if TYPE_CHECKING:
    # Defaults (PEP 696) let `class Fetch(Node)` pass `mypy --strict` as `Node[Any, Any]`. They exist at runtime only
    # from Python 3.13 on, and only type checkers need them.
    from typing_extensions import TypeVar

    T_PrepRes = TypeVar("T_PrepRes", default=Any)
    T_ExecRes = TypeVar("T_ExecRes", default=Any)
else:
    from typing import TypeVar

    T_PrepRes = TypeVar("T_PrepRes")
    T_ExecRes = TypeVar("T_ExecRes")
