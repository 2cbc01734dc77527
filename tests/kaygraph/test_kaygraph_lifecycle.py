"""One run of a node: the same call order, error handling and times for synchronous and asynchronous nodes."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from kaygraph import AsyncGraph, AsyncNode, BaseNode, Graph, MetricsNode, Node, ValidatedNode


class Recorder:
    """Phases that write down their calls; `fail` names one that raises, `way_out` is what on_error answers."""

    fail: str | None = None
    way_out: Any = False

    def note(self, *call: Any) -> None:
        self.calls = [*getattr(self, "calls", []), call]
        if call[0] == self.fail:
            raise ValueError(call[0])

    def before_prep(self, shared: Any) -> None:
        self.note("before_prep", shared)

    def prep(self, shared: Any) -> Any:
        self.note("prep", shared)
        return "prepared"

    def exec(self, prep_res: Any) -> Any:
        self.note("exec", prep_res)
        return "executed"

    def after_exec(self, shared: Any, prep_res: Any, exec_res: Any) -> None:
        self.note("after_exec", shared, prep_res, exec_res)

    def post(self, shared: Any, prep_res: Any, exec_res: Any) -> Any:
        self.note("post", shared, prep_res, exec_res)
        return "action"

    def on_error(self, shared: Any, error: Exception) -> Any:
        self.note("on_error", shared, error)
        return self.way_out

    async def prep_async(self, shared: Any) -> Any:
        await asyncio.sleep(0)
        return Recorder.prep(self, shared)

    async def exec_async(self, prep_res: Any) -> Any:
        await asyncio.sleep(0)
        return Recorder.exec(self, prep_res)

    async def post_async(self, shared: Any, prep_res: Any, exec_res: Any) -> Any:
        await asyncio.sleep(0)
        return Recorder.post(self, shared, prep_res, exec_res)


MIXES: list[tuple[type, ...]] = [
    (BaseNode,),
    (Node,),
    (ValidatedNode, MetricsNode),
    (MetricsNode, ValidatedNode),
    (AsyncNode,),
    (MetricsNode, AsyncNode),
    (AsyncNode, MetricsNode),
    (ValidatedNode, AsyncNode),
    (AsyncNode, ValidatedNode),
    (ValidatedNode, MetricsNode, AsyncNode),
    (AsyncNode, MetricsNode, ValidatedNode),
]
every_mix = pytest.mark.parametrize("bases", MIXES, ids=lambda bases: "+".join(b.__name__ for b in bases))
PHASES = ["before_prep", "prep", "exec", "after_exec", "post"]


def build(bases: tuple[type, ...], **attributes: Any) -> Any:
    return type("Probe", (Recorder, *bases), attributes)()


def run(node: Any, shared: Any) -> Any:
    if isinstance(node, AsyncNode):
        return asyncio.run(node.run_async(shared=shared))
    return node.run(shared=shared)


@every_mix
def test_the_phases_run_in_order_and_pass_their_results_on(bases: tuple[type, ...]) -> None:
    node, shared = build(bases), object()
    assert run(node, shared) == "action"
    assert node.calls == [
        ("before_prep", shared),
        ("prep", shared),
        ("exec", "prepared"),
        ("after_exec", shared, "prepared", "executed"),
        ("post", shared, "prepared", "executed"),
    ]


@every_mix
@pytest.mark.parametrize("phase", PHASES)
def test_an_error_of_any_phase_is_shown_to_on_error_and_goes_on_unchanged(bases: tuple[type, ...], phase: str) -> None:
    node = build(bases, fail=phase)
    with pytest.raises(ValueError, match=phase) as caught:
        run(node, "shared")
    assert node.calls[-1] == ("on_error", "shared", caught.value)
    assert [call[0] for call in node.calls[:-1]] == PHASES[: PHASES.index(phase) + 1]
    assert node.get_context("last_execution_time") is None


@every_mix
@pytest.mark.parametrize("phase", PHASES)
def test_on_error_may_suppress_the_error_of_any_phase(bases: tuple[type, ...], phase: str) -> None:
    node = build(bases, fail=phase, way_out=True)
    assert run(node, {}) is None
    assert node.get_context("last_execution_time") is None


@pytest.mark.parametrize(
    ("way_out", "action"), [(True, None), (1, None), ({"any": "value"}, None), ("repair", "repair")]
)
@pytest.mark.parametrize("bases", [(Node,), (AsyncNode,)])
def test_on_error_may_name_the_way_out(bases: tuple[type, ...], way_out: Any, action: Any) -> None:
    assert run(build(bases, fail="exec", way_out=way_out), {}) == action


@pytest.mark.parametrize("way_out", [False, None, "", 0])
def test_a_false_answer_of_on_error_lets_the_error_go_on(way_out: Any) -> None:
    with pytest.raises(ValueError, match="exec"):
        run(build((Node,), fail="exec", way_out=way_out), {})


@pytest.mark.parametrize(("way_out", "reached"), [("repair", "repaired"), (True, "went on")])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_graph_follows_the_way_out_that_on_error_names(kind: str, way_out: Any, reached: str) -> None:
    class End(Node):
        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

        def post(self, shared: Any, prep_res: Any, exec_res: Any) -> None:
            shared["reached"] = self.text

    node = build((AsyncNode,) if kind == "async" else (Node,), fail="exec", way_out=way_out)
    node - "repair" >> End("repaired")
    node >> End("went on")
    shared: dict[str, Any] = {}
    if kind == "async":
        asyncio.run(AsyncGraph(start=node).run_async(shared))
    else:
        Graph(start=node).run(shared)
    assert shared == {"reached": reached}


@pytest.mark.parametrize("bases", [(Node,), (AsyncNode,)])
def test_an_error_of_on_error_itself_replaces_the_first(bases: tuple[type, ...]) -> None:
    def on_error(self: Any, shared: Any, error: Exception) -> bool:
        raise KeyError("in on_error")

    with pytest.raises(KeyError, match="in on_error") as caught:
        run(build(bases, fail="exec", on_error=on_error), {})
    assert isinstance(caught.value.__context__, ValueError)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
@pytest.mark.parametrize("phase", PHASES)
def test_what_ends_the_program_is_not_shown_to_on_error(stop: type[BaseException], phase: str) -> None:
    def raise_it(self: Any, *_: Any) -> None:
        raise stop

    node = build((Node,), way_out=True, **{phase: raise_it})
    with pytest.raises(stop):
        run(node, {})
    assert "on_error" not in [call[0] for call in getattr(node, "calls", [])]


def test_cancelling_an_asynchronous_node_is_neither_suppressed_nor_retried() -> None:
    tries = []

    class Slow(AsyncNode):
        async def exec_async(self, prep_res: Any) -> None:
            tries.append(self.cur_retry)
            await asyncio.Event().wait()

        async def exec_fallback_async(self, prep_res: Any, exc: Exception) -> None:
            tries.append("fallback")

        def on_error(self, shared: Any, error: Exception) -> bool:
            tries.append("on_error")
            return True

    async def main() -> None:
        task = asyncio.create_task(Slow(max_retries=3).run_async({}))
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert tries == [0]


@every_mix
def test_the_context_holds_the_start_and_after_success_the_duration(bases: tuple[type, ...]) -> None:
    node, before = build(bases), time.time()
    run(node, {})
    assert before <= node.get_context("start_time") <= time.time()
    assert 0 <= node.get_context("last_execution_time") < 10


@pytest.mark.parametrize("bases", [(Node,), (AsyncNode,)])
def test_running_a_node_with_successors_alone_warns_how_many_are_ignored(bases: tuple[type, ...]) -> None:
    node = build(bases)
    node >> Node()
    node - "other" >> Node()
    with pytest.warns(UserWarning, match=r"2 successor\(s\)"):
        assert run(node, {}) == "action"


def test_a_base_node_does_nothing_by_default() -> None:
    node = BaseNode[Any, Any]()
    assert node.prep({}) is None
    assert node.exec(None) is None
    assert node.run({}) is None
    assert node.on_error({}, ValueError()) is False


def test_the_internal_run_can_be_replaced_on_one_instance() -> None:
    node = Node()
    node._run = lambda shared: "replaced"  # type: ignore[method-assign]
    assert node.run({}) == "replaced"
    assert Graph(start=node).run({}) == "replaced"


class Resource(Node):
    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []

    def setup_resources(self) -> None:
        self.events.append("setup")

    def exec(self, prep_res: Any) -> None:
        self.events.append("exec")

    def cleanup_resources(self) -> None:
        self.events.append("cleanup")


def test_with_sets_resources_up_and_cleans_them_up() -> None:
    node = Resource()
    with node as entered:
        assert entered is node
        node.run({})
    assert node.events == ["setup", "exec", "cleanup"]


def test_with_cleans_up_after_an_error_and_lets_it_go_on() -> None:
    node = Resource()
    with pytest.raises(ValueError, match="inside"), node:
        raise ValueError("inside")
    assert node.events == ["setup", "cleanup"]
    assert node.__exit__(None, None, None) is False


def test_neither_run_nor_a_graph_touches_resources() -> None:
    node = Resource()
    node.run({})
    Graph(start=node).run({})
    assert node.events == ["exec", "exec"]


def test_cleanup_is_not_called_if_setup_raises() -> None:
    class Broken(Resource):
        def setup_resources(self) -> None:
            raise OSError("no resource")

    node = Broken()
    with pytest.raises(OSError, match="no resource"), node:
        pass
    assert node.events == []
