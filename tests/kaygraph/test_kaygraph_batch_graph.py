"""Graphs that run once for each item of a batch of params."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kaygraph import AsyncBatchGraph, AsyncGraph, AsyncNode, AsyncParallelBatchGraph, BatchGraph, Node


class Note(Node):
    def post(self, shared: Any, prep_res: Any, exec_res: Any) -> str:
        if self.params.get("fail"):
            raise LookupError(f"item {self.params['i']}")
        shared.append(dict(self.params))
        return "inner action"


class AsyncNote(AsyncNode):
    async def post_async(self, shared: Any, prep_res: Any, exec_res: Any) -> str:
        await asyncio.sleep(0)
        return Note.post(self, shared, prep_res, exec_res)  # type: ignore[arg-type]


KINDS = [
    (BatchGraph, Note),
    (AsyncBatchGraph, Note),
    (AsyncBatchGraph, AsyncNote),
    (AsyncParallelBatchGraph, AsyncNote),
]
every_kind = pytest.mark.parametrize(("base", "node"), KINDS)


def build(base: type, items: Any, start: Any) -> Any:
    def prep(self: Any, shared: Any) -> Any:
        return items(self) if callable(items) else items

    async def prep_async(self: Any, shared: Any) -> Any:
        return prep(self, shared)

    namespace: dict[str, Any] = {"prep_async": prep_async} if issubclass(base, AsyncGraph) else {"prep": prep}
    return type("Probe", (base,), namespace)(start=start)


def run(graph: Any, shared: Any) -> Any:
    return asyncio.run(graph.run_async(shared)) if isinstance(graph, AsyncGraph) else graph.run(shared)


@every_kind
def test_the_graph_runs_once_for_each_item_with_its_params(base: type, node: type) -> None:
    graph, shared = build(base, [{"i": 1}, {"i": 2, "x": "item"}, {}], node()), []
    graph.set_params({"x": "own"})
    assert run(graph, shared) is None
    assert shared == [{"i": 1, "x": "own"}, {"i": 2, "x": "item"}, {"x": "own"}]
    assert graph.params == {"x": "own"}


@every_kind
@pytest.mark.parametrize("items", [None, []])
def test_no_items_are_no_runs(base: type, node: type, items: Any) -> None:
    shared: list[Any] = []
    assert run(build(base, items, node()), shared) is None
    assert shared == []


@every_kind
def test_an_empty_item_is_a_run_without_params(base: type, node: type) -> None:
    shared: list[Any] = []
    run(build(base, [{}], node()), shared)
    assert shared == [{}]


@every_kind
def test_items_may_come_from_a_generator(base: type, node: type) -> None:
    shared: list[Any] = []
    run(build(base, lambda graph: ({"i": i} for i in range(3)), node()), shared)
    assert shared == [{"i": 0}, {"i": 1}, {"i": 2}]


@every_kind
@pytest.mark.parametrize("item", ["text", ["i", 1], None, 5])
def test_an_item_that_is_no_dict_is_a_type_error(base: type, node: type, item: Any) -> None:
    with pytest.raises(TypeError, match="must be dicts of params, not " + type(item).__name__):
        run(build(base, [item], node()), [])


@every_kind
def test_post_receives_what_prep_returned_and_names_the_action(base: type, node: type) -> None:
    items = [{"i": 1}, {"i": 2}]
    seen: list[Any] = []

    def post(self: Any, shared: Any, prep_res: Any, exec_res: Any) -> str:
        seen.append((prep_res, exec_res))
        return "whole"

    async def post_async(self: Any, shared: Any, prep_res: Any, exec_res: Any) -> str:
        return post(self, shared, prep_res, exec_res)

    graph = build(base, items, node())
    type(graph).post, type(graph).post_async = post, post_async
    assert run(graph, []) == "whole"
    assert seen == [(items, None)]
    assert seen[0][0] is items


@pytest.mark.parametrize(("base", "node"), KINDS[:3])
def test_the_first_error_ends_a_sequential_batch(base: type, node: type) -> None:
    shared: list[Any] = []
    with pytest.raises(LookupError, match="item 2"):
        run(build(base, [{"i": 1}, {"i": 2, "fail": True}, {"i": 3}], node()), shared)
    assert shared == [{"i": 1}]


@every_kind
def test_nested_batches_merge_their_params_from_the_outside_in(base: type, node: type) -> None:
    inner = build(base, lambda graph: [{"file": f"{graph.params['folder']}{i}"} for i in (1, 2)], node())
    outer = build(base, [{"folder": "a"}, {"folder": "b"}], inner)
    shared: list[Any] = []
    run(outer, shared)
    assert sorted(shared, key=lambda row: row["file"]) == [
        {"folder": "a", "file": "a1"},
        {"folder": "a", "file": "a2"},
        {"folder": "b", "file": "b1"},
        {"folder": "b", "file": "b2"},
    ]


def test_parallel_runs_happen_at_the_same_time_on_copies_of_their_own() -> None:
    class Meet(AsyncNode):
        async def prep_async(self, shared: Any) -> None:
            self.mine = self.params["i"]
            shared["here"] += 1
            if shared["here"] == 3:
                shared["all"].set()
            await shared["all"].wait()
            shared["read"].append((self.params["i"], self.mine))

    async def main() -> list[Any]:
        shared: dict[str, Any] = {"here": 0, "all": asyncio.Event(), "read": []}
        graph = build(AsyncParallelBatchGraph, [{"i": i} for i in range(3)], Meet())
        await asyncio.wait_for(graph.run_async(shared), 5)
        return list(shared["read"])

    assert sorted(asyncio.run(main())) == [(0, 0), (1, 1), (2, 2)]


def test_the_first_error_of_parallel_runs_cancels_the_others_and_waits_for_their_end() -> None:
    class Wait(AsyncNode):
        async def prep_async(self, shared: Any) -> None:
            if self.params["i"] == 1:
                await asyncio.sleep(0)
                raise LookupError("item 1")
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                shared.append(self.params["i"])

    async def main() -> None:
        shared: list[int] = []
        with pytest.raises(LookupError, match="item 1"):
            await build(AsyncParallelBatchGraph, [{"i": i} for i in range(3)], Wait()).run_async(shared)
        assert sorted(shared) == [0, 2]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_no_parallel_run_starts_if_an_item_is_no_dict() -> None:
    shared: list[Any] = []
    with pytest.raises(TypeError):
        run(build(AsyncParallelBatchGraph, [{"i": 1}, "text"], AsyncNote()), shared)
    assert shared == []


@pytest.mark.parametrize("base", [AsyncBatchGraph, AsyncParallelBatchGraph])
def test_running_an_asynchronous_batch_synchronously_says_what_to_write_instead(base: type) -> None:
    with pytest.raises(RuntimeError, match=r"await node\.run_async"):
        base(start=Note()).run([])
