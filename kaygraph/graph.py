"""Graphs: nodes run one after the other, along the edges that their actions name."""

from __future__ import annotations

import copy
from typing import Any, TypeVar, cast

from kaygraph._messages import describe, warn, wrong_argument
from kaygraph._typing import T_Action, T_Params
from kaygraph.base import BaseNode
from kaygraph.config import Config

__all__ = ["BatchGraph", "Graph"]

AnyNode = TypeVar("AnyNode", bound=BaseNode[Any, Any])


class Graph(BaseNode[Any, Any]):
    """Runs nodes from *start* on until an action has no edge; itself a node that can be wired and nested.

    Call order: prep(shared), then the nodes, then post(shared, prep_res, last_action), whose default returns the last
    action: `run` returns an action, not *shared*. exec and the other hooks of a node are not called on a graph.

    On every visit a shallow copy of the node runs. It receives a copy of the graph's params (of the outer graph's if
    that has any), and the graph's Config itself if it has none of its own. The originals stay as they were, except for
    what the copy shares with them: containers, context, metrics and edges.
    An error of a node leaves the graph unchanged. There is no limit on steps: a cycle ends when a node leaves it.
    """

    def __init__(
        self, start: BaseNode[Any, Any] | None = None, config: Config | None = None, *, node_id: str | None = None
    ) -> None:
        super().__init__(node_id=node_id, config=config)
        self.start_node: BaseNode[Any, Any] | None = None
        if start is not None:
            self.start(start)

    def start(self, node: AnyNode) -> AnyNode:
        """Make *node* the first one and return it, so that `graph.start(a) >> b` reads well."""
        if not isinstance(node, BaseNode):
            if isinstance(node, type):
                raise TypeError(f"{describe(self)} starts with a node, not a class; write {node.__name__}()")
            raise wrong_argument(self, "start", "a node", node)
        self.start_node = node
        return node

    def post(self, shared: Any, prep_res: Any, exec_res: Any) -> Any:
        """Return the action of the whole graph; the default is the last node's, received as *exec_res*."""
        return exec_res

    def get_next_node(self, curr: BaseNode[Any, Any], action: Any) -> BaseNode[Any, Any] | None:
        """The successor of *curr* for *action*; None, "" and other false values mean "default".

        Warns if *curr* has edges but none for the action. Raises TypeError if *action* is not hashable.
        """
        try:
            successor = curr.successors.get(action or "default")
        except TypeError as error:
            raise TypeError(
                f"{describe(curr)} returned a {type(action).__name__} as its action; "
                "post returns the name of an edge or None, and stores results in shared"
            ) from error
        if successor is None and curr.successors:
            known = list(curr.successors)
            # The action is whatever post returned, perhaps a result by mistake: it does not belong in a log.
            self.logger.warning("%s ends at %s: its action is none of %s", self.node_id, curr.node_id, known)
            warn(f"Graph ends: '{action}' not found in {known}")
        return successor

    def nodes(self) -> list[BaseNode[Any, Any]]:
        """The original nodes that can be reached from the start, breadth first along the edges in wiring order.

        A nested graph is one node here; call its own `nodes()` to look inside.
        """
        found = [] if self.start_node is None else [self.start_node]
        seen = {id(node) for node in found}
        for node in found:  # grows while it is walked
            for successor in node.successors.values():
                if id(successor) not in seen:
                    seen.add(id(successor))
                    found.append(successor)
        return found

    def to_mermaid(self, direction: str = "LR") -> str:
        """The graph as a Mermaid flowchart: class names, named edges, nested graphs as boxes.

        The same wiring always gives the same text. *direction* is LR, RL, TD or BT; ValueError otherwise.
        """
        from kaygraph.diagram import to_mermaid

        return to_mermaid(self, direction)

    def _run(self, shared: Any) -> T_Action:
        prep_res = self.prep(shared)
        action = self._walk(shared, self.params)
        return cast("T_Action", self.post(shared, prep_res, action))

    def _walk(self, shared: Any, params: T_Params) -> T_Action:
        params = dict(params or self.params)
        action: T_Action = None
        node = self._visit(self.start_node, params)
        while node is not None:
            action = node._run(shared)
            node = self._visit(self.get_next_node(node, action), params)
        return action

    def _visit(self, original: BaseNode[Any, Any] | None, params: T_Params) -> BaseNode[Any, Any] | None:
        """A copy of the node that is ready to run, or None where the walk ends."""
        if original is None:
            return None
        if not original:
            warn(
                f"Graph ends before {describe(original)}, because its truth value is False; "
                "give the class a __bool__ that returns True"
            )
            return None
        node = copy.copy(original)
        if self.config and not node.config:
            node.config = self.config
        node.set_params(params)
        return node


class BatchGraph(Graph):
    """Runs the whole inner graph once for each dict that `prep` returns (None: for none), one after the other.

    Each run gets the params `{**self.params, **item}`. Then `post(shared, items, None)` is called once, with what
    `prep` returned. Actions of the inner runs are dropped. The first error ends the batch; an item that is not a dict
    raises TypeError.
    """

    def _run(self, shared: Any) -> T_Action:
        prep_res = self.prep(shared)
        items = [] if prep_res is None else prep_res
        for item in items:
            self._walk(shared, self._item_params(item))
        return cast("T_Action", self.post(shared, items, None))

    def _item_params(self, item: Any) -> T_Params:
        if not isinstance(item, dict):
            raise TypeError(
                f"{describe(self)}: the items of the batch must be dicts of params, not {type(item).__name__}"
            )
        return {**self.params, **item}
