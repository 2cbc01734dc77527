"""Graphs: following actions, copies, params, configuration, nesting; synchronous and asynchronous alike."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from kaygraph import AsyncGraph, AsyncNode, BaseNode, Config, Graph, Node


class Step(Node):
    """Calls `work(self, shared)` and returns what it returns as the action."""

    def __init__(self, work: Callable[[Any, Any], Any] = lambda node, shared: None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.work = work

    def post(self, shared: Any, prep_res: Any, exec_res: Any) -> Any:
        return self.work(self, shared)


class AsyncStep(AsyncNode):
    def __init__(self, work: Callable[[Any, Any], Any] = lambda node, shared: None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.work = work

    async def post_async(self, shared: Any, prep_res: Any, exec_res: Any) -> Any:
        await asyncio.sleep(0)
        return self.work(self, shared)


both = pytest.mark.parametrize(("graph_class", "step"), [(Graph, Step), (AsyncGraph, AsyncStep), (AsyncGraph, Step)])


def run(graph: Any, shared: Any = None) -> Any:
    shared = {} if shared is None else shared
    return asyncio.run(graph.run_async(shared)) if isinstance(graph, AsyncGraph) else graph.run(shared)


def says(word: str, action: Any = None) -> Callable[[Any, Any], Any]:
    def work(node: Any, shared: Any) -> Any:
        shared.setdefault("said", []).append(word)
        return action

    return work


# Following actions


@both
def test_nodes_run_along_the_edges_their_actions_name(graph_class: Any, step: Any) -> None:
    a, b, c, d = step(says("a", "left")), step(says("b")), step(says("c")), step(says("d", "end"))
    a - "left" >> b >> d
    a - "right" >> c >> d
    shared: dict[str, Any] = {}
    assert run(graph_class(start=a), shared) == "end"
    assert shared["said"] == ["a", "b", "d"]


@both
def test_start_returns_the_node_so_that_wiring_can_go_on(graph_class: Any, step: Any) -> None:
    graph, a, b = graph_class(), step(says("a")), step(says("b"))
    assert graph.start(a) >> b is b
    assert graph.start_node is a
    shared: dict[str, Any] = {}
    run(graph, shared)
    assert shared["said"] == ["a", "b"]


@pytest.mark.parametrize("action", [None, "", 0, False, "default"])
def test_a_false_action_means_default(action: Any) -> None:
    a, b = Step(), Step()
    a >> b
    assert Graph().get_next_node(a, action) is b


@pytest.mark.parametrize("action", ["missing", None, 5])
def test_an_unknown_action_ends_the_graph_with_one_warning_that_names_what_is_known(action: Any) -> None:
    a = Step(says("a", action))
    a - "x" >> Step()
    a - "y" >> Step()
    with pytest.warns(UserWarning, match="Graph ends") as caught:
        assert run(Graph(start=a)) == action
    assert [str(row.message) for row in caught] == [f"Graph ends: '{action}' not found in ['x', 'y']"]
    assert caught[0].filename == __file__


@both
def test_a_node_without_successors_ends_the_graph_silently(graph_class: Any, step: Any) -> None:
    assert run(graph_class(start=step(says("a", "anything")))) == "anything"


@pytest.mark.parametrize("wired", [True, False])
def test_an_action_that_cannot_be_looked_up_is_a_type_error_that_says_what_to_return(wired: bool) -> None:
    a = Step(says("a", ["a", "list"]))
    if wired:
        a >> Step()
    with pytest.raises(TypeError, match="Step returned a list as its action; post returns the name of an edge or None"):
        run(Graph(start=a))


@both
def test_a_graph_without_a_start_does_nothing(graph_class: Any, step: Any) -> None:
    assert run(graph_class()) is None


@both
def test_loops_run_until_a_node_leaves_them_without_a_limit_on_steps(graph_class: Any, step: Any) -> None:
    def count(node: Any, shared: Any) -> str:
        shared["n"] += 1
        return "again" if shared["n"] < 3000 else "done"

    a = step(count)
    a - "again" >> a
    a - "done" >> step(says("end"))
    shared = {"n": 0}
    run(graph_class(start=a), shared)
    assert shared["n"] == 3000


@both
def test_an_error_of_a_node_leaves_the_graph_unchanged(graph_class: Any, step: Any) -> None:
    error = LookupError("in a node")

    def fail(node: Any, shared: Any) -> None:
        raise error

    class Watchful(graph_class):  # type: ignore[misc]
        def on_error(self, shared: Any, error: Exception) -> bool:
            raise AssertionError("a graph calls no on_error of its own")

    with pytest.raises(LookupError) as caught:
        run(Watchful(start=step(fail)))
    assert caught.value is error


def test_a_graph_has_prep_and_post_around_its_nodes_and_none_of_the_other_phases() -> None:
    calls: list[Any] = []

    class Outer(Graph):
        def prep(self, shared: Any) -> str:
            calls.append("prep")
            return "prepared"

        def post(self, shared: Any, prep_res: Any, exec_res: Any) -> str:
            calls.append(("post", prep_res, exec_res))
            return "mine"

        def exec(self, prep_res: Any) -> None:
            calls.append("exec")

        def before_prep(self, shared: Any) -> None:
            calls.append("before_prep")

        def after_exec(self, shared: Any, prep_res: Any, exec_res: Any) -> None:
            calls.append("after_exec")

    assert Outer(start=Step(lambda node, shared: calls.append("node") or "last")).run({}) == "mine"
    assert calls == ["prep", "node", ("post", "prepared", "last")]


def test_an_asynchronous_graph_awaits_its_prep_and_post() -> None:
    calls: list[Any] = []

    class Outer(AsyncGraph):
        async def prep_async(self, shared: Any) -> str:
            await asyncio.sleep(0)
            return "prepared"

        async def post_async(self, shared: Any, prep_res: Any, exec_res: Any) -> str:
            calls.append((prep_res, exec_res))
            return "mine"

    assert run(Outer(start=AsyncStep(says("a", "last")))) == "mine"
    assert calls == [("prepared", "last")]


def test_running_a_wired_graph_alone_warns() -> None:
    graph = Graph(start=Step())
    graph >> Step()
    with pytest.warns(UserWarning, match=r"1 successor\(s\)"):
        graph.run({})


def test_a_node_whose_truth_value_is_false_ends_the_graph_with_a_warning() -> None:
    class Sized(Step):
        def __len__(self) -> int:
            return 0

    a = Step(says("a", "first"))
    a - "first" >> Sized(says("never"))
    shared: dict[str, Any] = {}
    with pytest.warns(UserWarning, match="Graph ends before Sized, because its truth value is False"):
        assert run(Graph(start=a), shared) == "first"
    assert shared["said"] == ["a"]


# Copies


@both
def test_every_visit_runs_a_fresh_shallow_copy_of_the_original(graph_class: Any, step: Any) -> None:
    def visit(node: Any, shared: Any) -> str:
        node.count += 1
        node.seen.append(node.count)
        node.set_context("visits", node.get_context("visits", 0) + 1)
        shared.setdefault("selves", []).append(node)
        return "again" if len(node.seen) < 3 else "done"

    a = step(visit, node_id="original")
    a.count, a.seen = 0, []
    a - "again" >> a
    a - "done" >> step()
    shared: dict[str, Any] = {}
    run(graph_class(start=a), shared)
    assert a.count == 0
    assert a.seen == [1, 1, 1]
    assert a.get_context("visits") == 3
    assert len({id(node) for node in (*shared["selves"], a)}) == 4
    assert {node.node_id for node in shared["selves"]} == {"original"}


@both
def test_wiring_changed_by_a_running_node_changes_the_original(graph_class: Any, step: Any) -> None:
    late = step(says("late"))
    a = step(lambda node, shared: node.next(late) and None)
    shared: dict[str, Any] = {}
    run(graph_class(start=a), shared)
    assert shared["said"] == ["late"]
    assert a.successors == {"default": late}


def test_a_node_decides_itself_how_it_is_copied() -> None:
    class Counted(Step):
        copies = 0

        def __copy__(self) -> Counted:
            Counted.copies += 1
            return Counted(self.work)

    run(Graph(start=Counted()))
    assert Counted.copies == 1


# Params


def params_of(name: str) -> Callable[[Any, Any], None]:
    def work(node: Any, shared: Any) -> None:
        shared[name] = dict(node.params)
        node.params["mutated"] = True

    return work


@both
def test_a_graph_sets_its_own_params_on_a_copy_of_every_node(graph_class: Any, step: Any) -> None:
    a, b = step(params_of("a")), step(params_of("b"))
    a >> b
    a.set_params({"own": "ignored"})
    graph = graph_class(start=a)
    graph.set_params({"from": "graph"})
    shared: dict[str, Any] = {}
    run(graph, shared)
    assert shared == {"a": {"from": "graph"}, "b": {"from": "graph"}}
    assert a.params == {"own": "ignored"}
    assert b.params == {}
    assert graph.params == {"from": "graph"}


@both
def test_a_graph_without_params_hides_the_params_of_its_nodes_too(graph_class: Any, step: Any) -> None:
    a = step(params_of("a"))
    a.set_params({"own": 1})
    shared: dict[str, Any] = {}
    run(graph_class(start=a), shared)
    assert shared == {"a": {}}


@both
def test_nested_graphs_receive_the_params_of_the_outer_one(graph_class: Any, step: Any) -> None:
    inner = graph_class(start=step(params_of("a")))
    inner.set_params({"level": "inner"})
    outer = graph_class(start=inner)
    outer.set_params({"level": "outer"})
    shared: dict[str, Any] = {}
    run(outer, shared)
    assert shared == {"a": {"level": "outer"}}
    assert inner.params == {"level": "inner"}


# Configuration


def config_of(name: str) -> Callable[[Any, Any], None]:
    def work(node: Any, shared: Any) -> None:
        shared[name] = node.config

    return work


@both
def test_a_node_without_configuration_receives_the_graphs_own_config_object(graph_class: Any, step: Any) -> None:
    config = Config(model="small")
    a, b = step(config_of("a")), step(config_of("b"), config=Config(own=1))
    a >> b
    shared: dict[str, Any] = {}
    run(graph_class(start=a, config=config), shared)
    assert shared["a"] is config
    assert shared["b"] is b.config
    assert b.config.to_dict() == {"own": 1}
    assert not a.config


@both
def test_an_empty_graph_config_is_not_handed_on(graph_class: Any, step: Any) -> None:
    config = Config()
    shared: dict[str, Any] = {}
    run(graph_class(start=step(config_of("a")), config=config), shared)
    assert shared["a"] is not config


@both
def test_nested_graphs_pass_configuration_on(graph_class: Any, step: Any) -> None:
    config = Config(model="small")
    inner = graph_class(start=step(config_of("a")))
    shared: dict[str, Any] = {}
    run(graph_class(start=inner, config=config), shared)
    assert shared["a"] is config
    assert not inner.config


def test_a_setting_made_by_a_node_reaches_the_graphs_config() -> None:
    config = Config(model="small")
    run(Graph(start=Step(lambda node, shared: node.config.set("seen", True)), config=config))
    assert config.get("seen") is True


# Nesting


@both
def test_the_action_of_a_nested_graph_selects_its_own_successor(graph_class: Any, step: Any) -> None:
    inner = graph_class(start=step(says("inner", "found")))
    inner - "found" >> step(says("after found"))
    inner >> step(says("after default"))
    shared: dict[str, Any] = {}
    run(graph_class(start=inner), shared)
    assert shared["said"] == ["inner", "after found"]


def test_an_asynchronous_graph_runs_synchronous_nodes_and_graphs_inline() -> None:
    a, b, c = Step(says("sync")), Graph(start=Step(says("sync graph"))), AsyncGraph(start=AsyncStep(says("async")))
    a >> b >> c
    shared: dict[str, Any] = {}
    run(AsyncGraph(start=a), shared)
    assert shared["said"] == ["sync", "sync graph", "async"]


# Mistakes


@pytest.mark.parametrize(
    ("misuse", "advice"),
    [
        (lambda: AsyncStep().run({}), "write `await node.run_async(shared)`"),
        (lambda: AsyncGraph(start=Step()).run({}), "write `await node.run_async(shared)`"),
        (lambda: Graph(start=AsyncStep()).run({}), "use AsyncGraph"),
        (lambda: Graph(start=AsyncGraph(start=Step())).run({}), "use AsyncGraph"),
        (lambda: Graph(start=Graph(start=AsyncStep())).run({}), "use AsyncGraph"),
    ],
)
def test_asynchronous_work_in_a_synchronous_place_says_what_to_write_instead(misuse: Any, advice: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeError) as caught:
            misuse()
    assert advice in str(caught.value)


def test_the_name_a_node_was_given_stands_in_messages_about_it() -> None:
    with pytest.raises(RuntimeError, match=r"AsyncStep \(node_id='loader'\) is asynchronous"):
        AsyncStep(node_id="loader").run({})


def test_a_graph_keeps_working_after_a_run_and_can_run_again() -> None:
    graph = Graph(start=Step(says("a")))
    shared: dict[str, Any] = {}
    run(graph, shared)
    run(graph, shared)
    assert shared["said"] == ["a", "a"]


def test_a_graph_is_a_node_with_an_id_of_its_own() -> None:
    graph = Graph(None, Config(a=1))
    assert isinstance(graph, BaseNode)
    assert graph.node_id == f"Graph_{id(graph)}"
    assert graph.config.get("a") == 1
    assert graph.start_node is None


def test_a_node_may_be_part_of_concurrent_runs() -> None:
    def work(node: Any, shared: Any) -> None:
        node.mine = shared["name"]
        shared["read"] = node.mine

    graph = AsyncGraph(start=AsyncStep(work))

    async def main() -> list[str]:
        stores = [{"name": name} for name in "abc"]
        await asyncio.gather(*(graph.run_async(store) for store in stores))
        return [store["read"] for store in stores]

    assert asyncio.run(main()) == ["a", "b", "c"]
