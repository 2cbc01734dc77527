"""How the library speaks to the programmer: warnings point at the caller's line, nodes are named readably."""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kaygraph.base import BaseNode

__all__ = ["describe", "explicit_id", "warn", "wrong_argument"]

_PACKAGE = os.path.dirname(__file__) + os.sep


def explicit_id(node: BaseNode[Any, Any]) -> str | None:
    """The node's id if somebody chose it, None if it is the generated `<class name>_<number>`."""
    node_id = str(node.node_id)
    name, _, number = node_id.rpartition("_")
    return None if name == type(node).__name__ and number.isdigit() else node_id


def describe(node: BaseNode[Any, Any]) -> str:
    """The node's name for people: its class, and its id if somebody chose one."""
    chosen = explicit_id(node)
    return type(node).__name__ if chosen is None else f"{type(node).__name__} (node_id={chosen!r})"


def warn(message: str) -> None:
    """Issue a UserWarning that points at the first caller outside this package."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)


def wrong_argument(node: object, name: str, wanted: str, value: object) -> TypeError:
    """The error for a constructor argument of the wrong type, with what was probably meant if it is a string."""
    owner = type(node).__name__
    hint = f"; to name the node write {owner}(node_id={value!r})" if isinstance(value, str) else ""
    return TypeError(f"{owner}: {name} must be {wanted}, not {type(value).__name__}{hint}")
