"""Looking at a graph: its nodes and its Mermaid text."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from kaygraph import AsyncGraph, AsyncNode, Graph, MetricsNode, Node, ValidatedNode


class Read(ValidatedNode):
    pass


class Stream(MetricsNode, AsyncNode):
    pass


class Show(Node):
    pass


def lines(*rows: str) -> str:
    return "\n".join(rows) + "\n"


def test_nodes_are_walked_breadth_first_in_wiring_order_and_once_each() -> None:
    a, b, c, d = Read(), Stream(), Show(), Show()
    a - "x" >> b >> d
    a - "y" >> c >> d
    d - "again" >> a
    assert Graph(start=a).nodes() == [a, b, c, d]


def test_an_empty_graph_has_no_nodes() -> None:
    assert Graph().nodes() == []
    assert Graph().to_mermaid() == lines("flowchart LR")


def test_unreachable_nodes_are_not_part_of_the_graph() -> None:
    a, b = Read(), Show()
    Stream() >> b
    assert Graph(start=a).nodes() == [a]


def test_a_nested_graph_is_one_node_of_the_outer_one() -> None:
    inner = Graph(start=Read())
    assert Graph(start=inner).nodes() == [inner]
    assert [type(node) for node in inner.nodes()] == [Read]


def test_mermaid_shows_classes_and_named_edges() -> None:
    read, stream, show = Read(), Stream(), Show()
    read - "ready" >> stream
    read - "rejected" >> show
    stream >> show
    assert AsyncGraph(start=read).to_mermaid() == lines(
        "flowchart LR",
        '    Read(["Read"])',
        '    Stream["Stream"]',
        '    Show["Show"]',
        '    Read -->|"ready"| Stream',
        '    Read -->|"rejected"| Show',
        "    Stream --> Show",
    )


def test_the_same_wiring_gives_the_same_text() -> None:
    def build() -> Graph:
        nodes = [Show() for _ in range(6)]
        for node, following in pairwise(nodes):
            node - "next" >> following
            node - "first" >> nodes[0]
        return Graph(start=nodes[0])

    assert build().to_mermaid() == build().to_mermaid()


def test_repeated_classes_are_told_apart_by_number_or_by_the_id_they_were_given() -> None:
    a, b, c = Show(), Show(node_id="orders"), Show()
    a >> b >> c
    assert Graph(start=a).to_mermaid() == lines(
        "flowchart LR",
        '    Show_1(["Show 1"])',
        '    Show_orders["Show (orders)"]',
        '    Show_3["Show 3"]',
        "    Show_1 --> Show_orders",
        "    Show_orders --> Show_3",
    )


def test_nested_graphs_are_boxes_and_edges_reach_them() -> None:
    class Inner(Graph):
        pass

    read, show = Read(), Show()
    inner = Inner(start=Stream())
    read >> inner
    inner - "done" >> show
    assert Graph(start=read).to_mermaid("TD") == lines(
        "flowchart TD",
        '    Read(["Read"])',
        '    subgraph Inner["Inner"]',
        '        Stream(["Stream"])',
        "    end",
        '    Show["Show"]',
        "    Read --> Inner",
        '    Inner -->|"done"| Show',
    )


def test_a_graph_that_contains_itself_can_be_drawn() -> None:
    graph = Graph()
    graph.start(Read()) >> graph
    assert graph.to_mermaid() == lines("flowchart LR", '    Read(["Read"])')


@pytest.mark.parametrize(
    ("action", "shown"),
    [
        ('say "hi"', "say #34;hi#34;"),
        ("a|b", "a|b"),
        ("<b>", "#60;b#62;"),
        ("two\nlines", "two lines"),
        ("#1", "#35;1"),
    ],
)
def test_actions_with_special_characters_are_escaped(action: str, shown: str) -> None:
    a = Read()
    a - action >> Show()
    assert f'-->|"{shown}"|' in Graph(start=a).to_mermaid()


@pytest.mark.parametrize("word", ["end", "Graph", "class_", "Größe", "_"])
def test_class_names_that_mermaid_would_misread_get_a_safe_identifier(word: str) -> None:
    node: Any = type(word, (Node,), {})()
    identifier = Graph(start=node).to_mermaid().splitlines()[1].split("(")[0].strip()
    assert identifier.isascii()
    assert identifier.replace("_", "").isalnum()
    assert identifier.lower() not in {"end", "graph", "class"}
    assert f'(["{word}"])' in Graph(start=node).to_mermaid()


def test_identifiers_never_collide() -> None:
    a, b, c = Show(), Show(), type("Show_1", (Node,), {})()
    c >> a >> b
    rows = Graph(start=c).to_mermaid().splitlines()[1:4]
    assert len({row.strip().split("[")[0].split("(")[0] for row in rows}) == 3


def test_an_unknown_direction_is_refused() -> None:
    with pytest.raises(ValueError, match="direction must be one of LR, RL, TD, BT, not 'up'"):
        Graph().to_mermaid("up")
