"""BaseNode: identity, parameters, context, edges, and mistakes in wiring."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from kaygraph import AsyncNode, BaseNode, Config, Graph, MetricsNode, Node, ParallelBatchNode, ValidatedNode


class Fetch(Node):
    pass


class Store(Node):
    pass


def test_a_node_starts_with_the_documented_attributes() -> None:
    node = BaseNode()
    assert node.node_id == f"BaseNode_{id(node)}"
    assert node.params == {}
    assert node.successors == {}
    assert isinstance(node.config, Config)
    assert not node.config
    assert node.logger.name == "kaygraph.BaseNode"


def test_id_and_config_may_be_given_by_position_and_an_empty_config_is_kept() -> None:
    config = Config()
    node = BaseNode("name", config)
    assert node.node_id == "name"
    assert node.config is config


def test_a_node_starts_with_one_attempt_no_wait_and_retry_zero() -> None:
    node = Node()
    assert (node.max_retries, node.wait, node.cur_retry) == (1, 0, 0)
    assert (Node(3, 0.5).max_retries, Node(3, 0.5).wait) == (3, 0.5)


def test_set_params_stores_a_shallow_copy() -> None:
    node, inner = Fetch(), [1]
    params = {"inner": inner}
    node.set_params(params)
    params["more"] = []
    assert node.params == {"inner": [1]}
    assert node.params["inner"] is inner


@pytest.mark.parametrize("params", [None, [("a", 1)], "a", 5])
def test_params_that_are_no_dict_raise_type_error(params: Any) -> None:
    node = Fetch()
    with pytest.raises(TypeError, match="params must be a dict"):
        node.set_params(params)
    assert node.params == {}


def test_the_context_is_a_store_of_the_node_itself() -> None:
    node = Fetch()
    assert node.get_context("key") is None
    assert node.get_context("key", 5) == 5
    node.set_context("key", 6)
    assert node.get_context("key", 5) == 6
    assert Fetch().get_context("key") is None


def test_next_and_the_arrow_return_the_successor() -> None:
    a, b, c = Fetch(), Store(), Store()
    assert a.next(b) is b
    assert b >> c is c
    assert a.successors == {"default": b}
    assert b.successors == {"default": c}


def test_a_named_edge_is_written_with_minus() -> None:
    a, b, c = Fetch(), Store(), Store()
    transition = a - "found"
    assert (transition.src, transition.action) == (a, "found")
    assert transition >> b is b
    assert a.next(c, "missing") is c
    assert a.successors == {"found": b, "missing": c}


def test_chains_of_named_and_plain_edges_read_from_left_to_right() -> None:
    a, b, c = Fetch(), Store(), Store()
    a - "x" >> b >> c
    assert a.successors == {"x": b}
    assert b.successors == {"default": c}


def test_replacing_an_edge_warns_with_both_classes_and_then_replaces() -> None:
    a, b, c = Fetch(), Store(), Graph()
    a >> b
    with pytest.warns(UserWarning, match="Overwriting successor") as caught:
        a >> c
    assert a.successors == {"default": c}
    assert "Store" in str(caught[0].message)
    assert "Graph" in str(caught[0].message)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("action", [None, 5, ("x",)])
def test_an_action_that_is_no_string_raises_type_error(action: Any) -> None:
    with pytest.raises(TypeError, match="an action is a string"):
        Fetch() - action


@pytest.mark.parametrize(
    ("wire", "advice"),
    [
        (lambda a, b, c: a >> ("found", b), 'write `node - "found" >> other`'),
        (lambda a, b, c: a >> b - "x" >> c, 'two statements, `a >> b` and `b - "x" >> c`'),
        (lambda a, b, c: a - "x" >> b - "y" >> c, 'two statements, `a >> b` and `b - "y" >> c`'),
        (lambda a, b, c: a >> Store, "Store is a class: write Store()"),
        (lambda a, b, c: a >> None, "not NoneType"),
        (lambda a, b, c: a >> "store", "not str"),
        (lambda a, b, c: a.next([b, c]), "not list"),
        (lambda a, b, c: Graph(start=Store), "write Store()"),
        (lambda a, b, c: Graph().start("store"), "start must be a node, not str"),
    ],
)
def test_wiring_something_that_is_no_node_says_what_to_write_instead(wire: Any, advice: str) -> None:
    nodes = Fetch(), Store(), Store()
    with pytest.raises(TypeError) as caught:
        wire(*nodes)
    assert advice in str(caught.value)
    assert not any(node.successors for node in nodes)


@pytest.mark.parametrize(
    ("build", "advice"),
    [
        (
            lambda: Fetch("name"),
            "Fetch: max_retries must be an int, not str; to name the node write Fetch(node_id='name')",
        ),
        (lambda: MetricsNode("name"), "to name the node write MetricsNode(node_id='name')"),
        (lambda: ParallelBatchNode("name"), "to name the node write ParallelBatchNode(node_id='name')"),
        (lambda: Graph("name"), "to name the node write Graph(node_id='name')"),
        (lambda: Node(2.5), "max_retries must be an int, not float"),
        (lambda: Node(wait="1"), "wait must be a number of seconds, not str"),
    ],
)
def test_a_constructor_argument_of_the_wrong_type_says_what_was_probably_meant(build: Any, advice: str) -> None:
    with pytest.raises(TypeError) as caught:
        build()
    assert advice in str(caught.value)


def test_a_misspelt_argument_is_refused() -> None:
    with pytest.raises(TypeError, match="max_retry"):
        Fetch(max_retry=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(("attribute", "value"), [("max_retries", 3), ("wait", 0.5)])
def test_retry_settings_in_a_class_body_warn_that_they_have_no_effect(attribute: str, value: float) -> None:
    sloppy = type("Sloppy", (Node,), {attribute: value})
    with pytest.warns(UserWarning, match=rf"write Sloppy\({attribute}={value}\)") as caught:
        node = sloppy()
    assert getattr(node, attribute) == {"max_retries": 1, "wait": 0}[attribute]
    assert caught[0].filename == __file__


def test_a_class_that_passes_its_own_setting_on_does_not_warn() -> None:
    class Careful(Node):
        max_retries = 3

        def __init__(self) -> None:
            super().__init__(max_retries=self.max_retries)

    assert Careful().max_retries == 3


@pytest.mark.parametrize("phase", ["prep", "exec", "exec_fallback", "post"])
def test_a_coroutine_in_place_of_a_plain_phase_warns_where_the_class_is_written(phase: str) -> None:
    async def function(self: Any, *_: Any) -> None:
        pass

    with pytest.warns(UserWarning, match=f"subclass AsyncNode and name it {phase}_async") as caught:
        type("Wrong", (Node,), {phase: function})
    assert caught[0].filename == __file__


def test_an_asynchronous_hook_warns_because_it_would_never_be_awaited() -> None:
    async def on_error(self: Any, shared: Any, error: Exception) -> bool:
        return False

    with pytest.warns(UserWarning, match="write a plain def"):
        type("Wrong", (AsyncNode,), {"on_error": on_error})


def test_an_exec_that_makes_an_asynchronous_generator_is_fine() -> None:
    async def stream(self: Any, prep_res: Any) -> Any:
        yield prep_res

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert hasattr(type("Lazy", (Node,), {"exec": stream})().exec(1), "__anext__")


@pytest.mark.parametrize(
    "bases",
    [
        (ValidatedNode, MetricsNode),
        (MetricsNode, ValidatedNode),
        (MetricsNode, AsyncNode),
        (AsyncNode, MetricsNode, ValidatedNode),
    ],
)
def test_mixed_classes_pass_all_keywords_on(bases: tuple[type, ...]) -> None:
    config = Config(a=1)
    node: Any = type("Mixed", bases, {})(max_retries=4, wait=1.5, node_id="m", config=config, collect_metrics=False)
    assert (node.max_retries, node.wait, node.node_id, node.config) == (4, 1.5, "m", config)
    assert node.collect_metrics is False


@pytest.mark.parametrize("bases", [(MetricsNode, ParallelBatchNode), (ParallelBatchNode, MetricsNode)])
def test_metrics_and_parallel_batches_mix_in_both_orders(bases: tuple[type, ...]) -> None:
    node: Any = type("Mixed", bases, {})(max_workers=2, max_retries=3)
    assert (node.max_workers, node.max_retries, node.collect_metrics) == (2, 3, True)


def test_metrics_can_be_mixed_into_a_graph() -> None:
    class Measured(MetricsNode, Graph):
        pass

    graph = Measured()
    graph.start(Fetch())
    graph.run({})
    assert graph.metrics["success_count"] == 1


def test_the_first_positional_argument_is_the_documented_one() -> None:
    assert MetricsNode(False, 3).collect_metrics is False
    assert MetricsNode(False, 3).max_retries == 3
    assert ParallelBatchNode(2, 3).max_workers == 2
    assert ParallelBatchNode(2, 3).max_retries == 3


def test_max_workers_below_one_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        ParallelBatchNode(0)
