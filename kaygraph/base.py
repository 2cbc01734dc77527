"""What every node is: an identity, its edges, a scratch context, and one run of three phases.

Call order of one run (asynchronous nodes await their `*_async` phases at the same places):

    before_prep(shared)
    prep(shared)                          -> prep_res     read what the node needs from *shared*
    exec(prep_res)                        -> exec_res     do the work; retried by Node; should not touch *shared*
    after_exec(shared, prep_res, exec_res)
    post(shared, prep_res, exec_res)      -> action       store the result, name the edge to follow
    on_error(shared, error)               only if any of these raised
"""

from __future__ import annotations

import logging
from types import FunctionType
from typing import Any, Final, Generic, Literal, Self, TypeVar, cast

from kaygraph._lifecycle import Lifecycle
from kaygraph._messages import describe, warn
from kaygraph._typing import T_Action, T_ExecRes, T_Params, T_PrepRes
from kaygraph.config import Config

__all__ = ["BaseNode", "Transition"]

AnyNode = TypeVar("AnyNode", bound="BaseNode[Any, Any]")

_CO_COROUTINE: Final = 0x80  # inspect.CO_COROUTINE, without the cost of importing inspect
_PHASES: Final = ("prep", "exec", "exec_fallback", "post")
_HOOKS: Final = ("before_prep", "after_exec", "on_error", "validate_input", "validate_output")


class BaseNode(Generic[T_PrepRes, T_ExecRes]):
    """A step with edges to other steps, wired by action name: `a >> b` and `a - "action" >> b`.

    *node_id* defaults to the class name and a number. A graph runs a shallow copy of the node on every visit:
    attributes that a phase rebinds are lost afterwards, mutated containers (and the context) are kept.
    `on_error` decides about an Exception out of any phase: false lets it go on, a string suppresses it and is the
    action to follow, any other true value suppresses it and follows the default edge.
    The resource hooks run only in `with node:`; if `setup_resources` raises, `cleanup_resources` is not called.
    """

    def __init__(self, node_id: str | None = None, config: Config | None = None) -> None:
        super().__init__()
        name = type(self).__name__
        self.node_id = node_id if node_id is not None else f"{name}_{id(self)}"
        self.params: T_Params = {}
        self.config = config if config is not None else Config()
        self.successors: dict[str, BaseNode[Any, Any]] = {}
        self.logger = logging.getLogger(f"kaygraph.{name}")
        self._context: dict[str, Any] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in (*_PHASES, *_HOOKS):
            function = cls.__dict__.get(name)
            if isinstance(function, FunctionType) and function.__code__.co_flags & _CO_COROUTINE:
                advice = f"subclass AsyncNode and name it {name}_async" if name in _PHASES else "write a plain def"
                warn(f"{cls.__name__}.{name} is a coroutine function, which is never awaited: {advice}")

    # Parameters and context

    def set_params(self, params: T_Params) -> None:
        """Replace `params` by a shallow copy of *params*. Raises TypeError if it is not a dict."""
        if not isinstance(params, dict):
            raise TypeError(f"{describe(self)}: params must be a dict, not {type(params).__name__}")
        self.params = dict(params)

    def get_context(self, key: str, default: Any = None) -> Any:
        """A value of the node's own scratch store, which outlives single runs."""
        return self._context.get(key, default)

    def set_context(self, key: str, value: Any) -> None:
        """Remember a value in the node's own scratch store."""
        self._context[key] = value

    # Edges

    def next(self, node: AnyNode, action: str = "default") -> AnyNode:
        """Follow *action* to *node*, which is returned. Replacing an edge warns; a non-node raises TypeError."""
        if not isinstance(node, BaseNode):
            raise _not_a_node(self, node)
        previous = self.successors.get(action)
        if previous is not None:
            warn(
                f"Overwriting successor of {describe(self)} for action {action!r}: "
                f"{describe(previous)} is replaced by {describe(node)}"
            )
        self.successors[action] = node
        return node

    def __rshift__(self, node: AnyNode) -> AnyNode:
        return self.next(node)

    def __sub__(self, action: str) -> Transition:
        if not isinstance(action, str):
            raise TypeError(
                f"{describe(self)} - ...: an action is a string, not {type(action).__name__}; "
                'write node - "action" >> other'
            )
        return Transition(self, action)

    # The phases and hooks that subclasses override

    def prep(self, shared: Any) -> T_PrepRes:
        """Read from *shared* what `exec` needs."""
        return cast("T_PrepRes", None)

    def exec(self, prep_res: T_PrepRes) -> T_ExecRes:
        """Do the work on what `prep` returned."""
        return cast("T_ExecRes", None)

    def post(self, shared: Any, prep_res: T_PrepRes, exec_res: T_ExecRes) -> T_Action:
        """Store the result in *shared*; return the action to follow (None: "default")."""
        return None

    def before_prep(self, shared: Any) -> None:
        """Run before `prep`."""

    def after_exec(self, shared: Any, prep_res: T_PrepRes, exec_res: T_ExecRes) -> None:
        """Run between `exec` and `post`."""

    def on_error(self, shared: Any, error: Exception) -> bool | str | None:
        """Decide about *error*: false lets it go on, an action name or True suppresses it."""
        return False

    def setup_resources(self) -> None:
        """Acquire what the node needs; called by `with node:`."""

    def cleanup_resources(self) -> None:
        """Release what `setup_resources` acquired; called at the end of `with node:`."""

    def __enter__(self) -> Self:
        self.setup_resources()
        return self

    def __exit__(self, *_: object) -> Literal[False]:
        self.cleanup_resources()
        return False

    # One run

    def run(self, shared: Any) -> T_Action:
        """Run this node alone and return its action. Warns if it has successors: only a graph follows them."""
        self._warn_about_successors("Graph(start=node).run(shared)")
        return self._run(shared)

    def _run(self, shared: Any) -> T_Action:
        with Lifecycle(self, shared) as run:
            self.before_prep(shared)
            prep_res = self.prep(shared)
            exec_res = self._exec(prep_res)
            self.after_exec(shared, prep_res, exec_res)
            run.action = self.post(shared, prep_res, exec_res)
        return run.action

    def _exec(self, prep_res: Any) -> Any:
        return self.exec(prep_res)

    def _observe(self, event: Literal["retry", "fallback", "suppressed"]) -> None:
        """Told about what a caller does not see; MetricsNode counts it."""

    def _warn_about_successors(self, instead: str) -> None:
        if self.successors:
            count = len(self.successors)
            warn(f"{describe(self)} has {count} successor(s) that running it alone does not follow; use {instead}")


class Transition:
    """What `node - "action"` makes; `>> other` completes the edge."""

    __slots__ = ("action", "src")

    def __init__(self, src: BaseNode[Any, Any], action: str) -> None:
        self.src = src
        self.action = action

    def __rshift__(self, node: AnyNode) -> AnyNode:
        return self.src.next(node, self.action)


def _not_a_node(source: BaseNode[Any, Any], value: object) -> TypeError:
    """The error for a successor that is no node, with what to write instead."""
    if isinstance(value, Transition):
        # `a >> b - "x" >> c` means `a >> (b - "x") >> c`, because - binds tighter than >>.
        hint = f'- binds tighter than >>: write two statements, `a >> b` and `b - "{value.action}" >> c`'
    elif isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
        hint = f'write `node - "{value[0]}" >> other`'
    elif isinstance(value, type) and issubclass(value, BaseNode):
        hint = f"{value.__name__} is a class: write {value.__name__}()"
    else:
        hint = "pass an instance of a Node or Graph class"
    return TypeError(f"successor of {describe(source)} must be a node, not {type(value).__name__}; {hint}")
