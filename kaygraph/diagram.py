"""Drawing a graph as Mermaid text."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from kaygraph._messages import explicit_id
from kaygraph.base import BaseNode
from kaygraph.graph import Graph

__all__ = ["to_mermaid"]

_DIRECTIONS = ("LR", "RL", "TD", "BT")
# Words that Mermaid reads as syntax where an identifier is expected.
_RESERVED = frozenset(
    {"call", "class", "classdef", "click", "default", "direction", "end"}
    | {"flowchart", "graph", "href", "linkstyle", "style", "subgraph"}
)


def to_mermaid(graph: Graph, direction: str = "LR") -> str:
    """The flowchart of *graph*, one node or edge a line; the start is rounded, nested graphs are boxes.

    Nodes are named by class. Where a class occurs more than once its nodes are told apart by the id they were given,
    or else by a number. A node that appears in several places is drawn where it is met first.
    """
    if direction not in _DIRECTIONS:
        raise ValueError(f"direction must be one of {', '.join(_DIRECTIONS)}, not {direction!r}")
    return "\n".join([f"flowchart {direction}", *_Drawing(graph).lines]) + "\n"


class _Drawing:
    """The lines of one flowchart."""

    def __init__(self, graph: Graph) -> None:
        self.lines: list[str] = []
        self._everything: list[BaseNode[Any, Any]] = []
        self._collect(graph, {id(graph)})
        self._names = _names(self._everything)
        self._drawn = {id(graph)}
        self._draw_level(graph, indent="    ")

    def _collect(self, graph: Graph, seen: set[int]) -> None:
        for node in graph.nodes():
            if id(node) not in seen:
                seen.add(id(node))
                self._everything.append(node)
                if isinstance(node, Graph):
                    self._collect(node, seen)

    def _draw_level(self, graph: Graph, indent: str) -> None:
        nodes = [node for node in graph.nodes() if id(node) not in self._drawn]
        self._drawn.update(id(node) for node in nodes)
        for node in nodes:
            name, label = self._names[id(node)]
            if isinstance(node, Graph):
                self.lines.append(f'{indent}subgraph {name}["{label}"]')
                self._draw_level(node, indent + "    ")
                self.lines.append(f"{indent}end")
            else:
                left, right = ("([", "])") if node is graph.start_node else ("[", "]")
                self.lines.append(f'{indent}{name}{left}"{label}"{right}')
        for node in nodes:
            for action, successor in node.successors.items():
                if id(successor) not in self._names:
                    continue
                arrow = "-->" if action == "default" else f'-->|"{_escaped(str(action))}"|'
                self.lines.append(f"{indent}{self._names[id(node)][0]} {arrow} {self._names[id(successor)][0]}")


def _names(nodes: list[BaseNode[Any, Any]]) -> dict[int, tuple[str, str]]:
    """For each node (by identity) its unique Mermaid identifier and its label."""
    occurrences = Counter(type(node).__name__ for node in nodes)
    counted: Counter[str] = Counter()
    taken: set[str] = set()
    names: dict[int, tuple[str, str]] = {}
    for node in nodes:
        label = type(node).__name__
        if occurrences[label] > 1:
            counted[label] += 1
            chosen = explicit_id(node)
            label = f"{label} {counted[label]}" if chosen is None else f"{label} ({chosen})"
        name = re.sub(r"[^A-Za-z0-9]+", "_", label).strip("_") or "node"
        if name.lower() in _RESERVED:
            name += "_"
        while name in taken:
            name += "_"
        taken.add(name)
        names[id(node)] = (name, _escaped(label))
    return names


def _escaped(text: str) -> str:
    """Text for use between double quotes in Mermaid, which knows entity codes but no backslash."""
    text = re.sub(r"\s+", " ", text)
    return re.sub(r'[#"<>&`]', lambda match: f"#{ord(match[0])};", text)
