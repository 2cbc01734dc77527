"""ValidatedNode: checks around exec, synchronous and awaited."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kaygraph import AsyncNode, BatchNode, Node, ParallelBatchNode, ValidatedNode

SINGLE: list[tuple[type, ...]] = [(ValidatedNode,), (ValidatedNode, AsyncNode), (AsyncNode, ValidatedNode)]
every_single = pytest.mark.parametrize("bases", SINGLE, ids=lambda bases: "+".join(b.__name__ for b in bases))


class Traced:
    """Marks values with the step they went through; `fail` names a step that raises."""

    fail: str | None = None
    prepared: Any = "p"

    def note(self, *call: Any) -> None:
        self.calls = [*getattr(self, "calls", []), call]
        if call[0] == self.fail:
            raise ValueError(call[0])

    def before_prep(self, shared: Any) -> None:
        self.note("before_prep")

    def prep(self, shared: Any) -> Any:
        self.note("prep")
        return self.prepared

    def validate_input(self, prep_res: Any) -> Any:
        self.note("validate_input", prep_res)
        return f"valid {prep_res}"

    def exec(self, prep_res: Any) -> Any:
        self.note("exec", prep_res)
        return f"result of {prep_res}"

    def validate_output(self, exec_res: Any) -> Any:
        self.note("validate_output", exec_res)
        return f"valid {exec_res}"

    def after_exec(self, shared: Any, prep_res: Any, exec_res: Any) -> None:
        self.note("after_exec", prep_res, exec_res)

    def post(self, shared: Any, prep_res: Any, exec_res: Any) -> None:
        self.note("post", prep_res, exec_res)

    async def prep_async(self, shared: Any) -> Any:
        return Traced.prep(self, shared)

    async def exec_async(self, prep_res: Any) -> Any:
        await asyncio.sleep(0)
        return Traced.exec(self, prep_res)

    async def post_async(self, shared: Any, prep_res: Any, exec_res: Any) -> None:
        Traced.post(self, shared, prep_res, exec_res)


class Fallback:
    def exec_fallback(self, prep_res: Any, exc: Exception) -> str:
        self.note("fallback", prep_res)  # type: ignore[attr-defined]
        return "fallback"

    async def exec_fallback_async(self, prep_res: Any, exc: Exception) -> str:
        return Fallback.exec_fallback(self, prep_res, exc)


def build(bases: tuple[type, ...], *mixins: type, max_retries: int = 1, **attributes: Any) -> Any:
    return type("Probe", (*mixins, Traced, *bases), attributes)(max_retries=max_retries)


def run(node: Any) -> Any:
    return asyncio.run(node.run_async({})) if isinstance(node, AsyncNode) else node.run({})


@every_single
def test_values_are_validated_once_before_and_once_after_exec(bases: tuple[type, ...]) -> None:
    node = build(bases)
    run(node)
    assert node.calls == [
        ("before_prep",),
        ("prep",),
        ("validate_input", "p"),
        ("exec", "valid p"),
        ("validate_output", "result of valid p"),
        ("after_exec", "p", "valid result of valid p"),
        ("post", "p", "valid result of valid p"),
    ]


@every_single
def test_retries_and_fallback_work_on_the_validated_value_and_the_fallback_is_validated_too(
    bases: tuple[type, ...],
) -> None:
    node = build(bases, Fallback, max_retries=2, fail="exec")
    run(node)
    assert node.calls[2:] == [
        ("validate_input", "p"),
        ("exec", "valid p"),
        ("exec", "valid p"),
        ("fallback", "valid p"),
        ("validate_output", "fallback"),
        ("after_exec", "p", "valid fallback"),
        ("post", "p", "valid fallback"),
    ]


@every_single
@pytest.mark.parametrize("step", ["validate_input", "validate_output"])
def test_a_validation_error_is_not_retried_and_goes_to_on_error(bases: tuple[type, ...], step: str) -> None:
    errors = []

    def on_error(self: Any, shared: Any, error: Exception) -> str:
        errors.append(error)
        return "rejected"

    node = build(bases, Fallback, max_retries=3, fail=step, on_error=on_error)
    assert run(node) == "rejected"
    names = [call[0] for call in node.calls]
    assert names.count(step) == 1
    assert "fallback" not in names
    assert names.count("exec") == (0 if step == "validate_input" else 1)
    assert [str(error) for error in errors] == [step]


@every_single
def test_whatever_a_validator_returns_is_used(bases: tuple[type, ...]) -> None:
    node = build(bases, validate_input=lambda self, prep_res: True, validate_output=lambda self, exec_res: None)
    run(node)
    assert ("exec", True) in node.calls
    assert node.calls[-1] == ("post", "p", None)


def test_by_default_values_pass_unchanged() -> None:
    value = object()
    assert ValidatedNode().validate_input(value) is value
    assert ValidatedNode().validate_output(value) is value


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("batch", [BatchNode, ParallelBatchNode])
@pytest.mark.parametrize("validates_first", [True, False])
def test_with_batches_the_class_order_decides_whether_the_list_or_each_item_is_validated(
    validates_first: bool, batch: type, asynchronous: bool
) -> None:
    bases = (ValidatedNode, batch) if validates_first else (batch, ValidatedNode)
    bases = (AsyncNode, *bases) if asynchronous else bases
    seen = []

    def validate_input(self: Any, value: Any) -> Any:
        seen.append(value)
        return value

    node = build(bases, prepared=[1, 2], validate_input=validate_input, validate_output=lambda self, value: value)
    run(node)
    assert sorted(seen, key=str) == ([[1, 2]] if validates_first else [1, 2])
    assert node.calls[-1] == ("post", [1, 2], ["result of 1", "result of 2"])


def test_the_awaited_value_is_validated_never_a_coroutine() -> None:
    class Length(ValidatedNode, AsyncNode):
        async def exec_async(self, prep_res: Any) -> int:
            return 5

        def validate_output(self, exec_res: Any) -> int:
            assert isinstance(exec_res, int)
            return exec_res + 1

        async def post_async(self, shared: Any, prep_res: Any, exec_res: int) -> str:
            return str(exec_res)

    assert run(Length()) == "6"


def test_a_validated_node_is_a_node_with_retries() -> None:
    assert issubclass(ValidatedNode, Node)
