"""The package as a whole: names, class tree, imports, types."""

from __future__ import annotations

import ast
import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import kaygraph
from kaygraph import (
    AsyncBatchGraph,
    AsyncBatchNode,
    AsyncGraph,
    AsyncNode,
    AsyncParallelBatchGraph,
    AsyncParallelBatchNode,
    BaseNode,
    BatchGraph,
    BatchNode,
    Graph,
    MetricsNode,
    Node,
    ParallelBatchNode,
    ValidatedNode,
)

PACKAGE = Path(kaygraph.__file__).parent
MODULES = sorted(PACKAGE.glob("*.py"))

CORE = (
    *("Config", "BaseNode", "Node", "BatchNode", "ParallelBatchNode", "Graph", "BatchGraph", "AsyncNode"),
    *("AsyncBatchNode", "AsyncParallelBatchNode", "AsyncGraph", "AsyncBatchGraph", "AsyncParallelBatchGraph"),
    *("ValidatedNode", "MetricsNode", "T_Shared", "T_Params", "T_Action", "T_PrepRes", "T_ExecRes"),
)


@pytest.mark.parametrize("name", CORE)
def test_every_core_name_can_be_imported_from_the_package(name: str) -> None:
    assert hasattr(kaygraph, name)
    assert name in kaygraph.__all__


def test_the_version_is_a_string() -> None:
    assert isinstance(kaygraph.__version__, str)


@pytest.mark.parametrize("name", ["ValidationError"])
def test_names_that_only_documentation_mentions_do_not_exist(name: str) -> None:
    assert not hasattr(kaygraph, name)


@pytest.mark.parametrize(
    ("child", "parents"),
    [
        (Node, {BaseNode}),
        (BatchNode, {Node}),
        (ParallelBatchNode, {BatchNode}),
        (AsyncNode, {Node}),
        (AsyncBatchNode, {AsyncNode, BatchNode}),
        (AsyncParallelBatchNode, {AsyncNode, BatchNode}),
        (ValidatedNode, {Node}),
        (MetricsNode, {Node}),
        (Graph, {BaseNode}),
        (BatchGraph, {Graph}),
        (AsyncGraph, {Graph, AsyncNode}),
        (AsyncBatchGraph, {AsyncGraph, BatchGraph}),
        (AsyncParallelBatchGraph, {AsyncGraph, BatchGraph}),
    ],
)
def test_the_class_tree_is_the_documented_one(child: type, parents: set[type]) -> None:
    assert set(child.__bases__) == parents


def test_a_graph_is_no_node_with_retries() -> None:
    assert not issubclass(Graph, Node)


@pytest.mark.parametrize(
    "base", [BaseNode, Node, BatchNode, ParallelBatchNode, AsyncNode, AsyncBatchNode, ValidatedNode, MetricsNode]
)
def test_the_bases_take_the_types_of_prep_and_exec_in_brackets(base: Any) -> None:
    class Typed(base[list[int], str]):  # type: ignore[misc]
        pass

    assert isinstance(Typed(), base)


def test_importing_the_package_imports_neither_asyncio_nor_threads_pools_nor_a_third_party() -> None:
    code = (
        "import sys; before = set(sys.modules); import kaygraph; "
        "new = {m.split('.')[0] for m in set(sys.modules) - before}; "
        "print('asyncio' in sys.modules, 'concurrent.futures' in sys.modules, "
        "sorted(new - set(sys.stdlib_module_names) - {'kaygraph'}))"
    )
    run = [sys.executable, "-W", "error", "-S", "-c", code]
    answer = subprocess.run(run, cwd=PACKAGE.parent, capture_output=True, text=True, check=True)
    assert answer.stdout.split(maxsplit=2) == ["False", "False", "[]\n"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_every_module_is_small_declares_its_names_and_imports_only_the_standard_library(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    assert any(isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__" for n in tree.body)
    type_checking = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    for_checkers = {inner for block in type_checking for part in block.body for inner in ast.walk(part)}
    for node in ast.walk(tree):
        if node in for_checkers:
            continue
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names = [node.module or ""]
        for name in names:
            root = name.split(".")[0]
            assert root == "kaygraph" or root in sys.stdlib_module_names, f"{path.name} imports {name}"


def test_every_public_method_says_what_it_does() -> None:
    for name in CORE:
        thing = getattr(kaygraph, name)
        if isinstance(thing, type) and thing is not dict:
            assert thing.__doc__, name
            for key, value in vars(thing).items():
                if callable(value) and not key.startswith("_"):
                    assert value.__doc__, f"{name}.{key}"


class Everything(ValidatedNode, MetricsNode):
    """A module-level class, so that pickle finds it."""


def test_nodes_can_be_deep_copied_and_pickled() -> None:
    node = Everything(max_retries=2, node_id="n")
    node >> Everything(node_id="m")
    for twin in (copy.deepcopy(node), pickle.loads(pickle.dumps(node))):
        assert twin.node_id == "n"
        assert twin.successors["default"].node_id == "m"
        Graph(start=twin).run({})
        assert twin.metrics["success_count"] == 1
    assert node.metrics["success_count"] == 0


USER_CODE = """
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any, TypedDict

from kaygraph import AsyncBatchNode, AsyncGraph, AsyncNode, BatchNode, Config, Graph, MetricsNode, Node
from kaygraph import ParallelBatchNode, ValidatedNode


@dataclass
class Store:
    count: int = 0


class Keys(TypedDict):
    text: str


class Bare(Node):
    def prep(self, shared: dict[str, Any]) -> int:
        return 1

    def exec(self, prep_res: int) -> str:
        return str(prep_res)

    def exec_fallback(self, prep_res: int, exc: Exception) -> str:
        return ""

    def post(self, shared: dict[str, Any], prep_res: int, exec_res: str) -> str:
        return "next"

    def on_error(self, shared: dict[str, Any], error: Exception) -> bool:
        return True


class Typed(Node[int, str]):
    def prep(self, shared: Store) -> int:
        return shared.count

    def exec(self, number: int) -> str:
        return str(number)

    def post(self, shared: Store, prep_res: int, exec_res: str) -> None:
        return None

    def on_error(self, shared: Store, error: Exception) -> str | None:
        return "elsewhere"


class Batch(BatchNode):
    def prep(self, shared: Keys) -> Iterable[str]:
        return [shared["text"]]

    def exec(self, item: str) -> int:
        return len(item)

    def post(self, shared: Keys, prep_res: Iterable[str], exec_res: list[int]) -> str | None:
        return None


class Threads(MetricsNode, ParallelBatchNode):
    def exec(self, item: int) -> int:
        return item


class Stream(MetricsNode, AsyncNode):
    def __init__(self, url: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.url = url

    async def prep_async(self, shared: Keys) -> str:
        return shared["text"]

    async def exec_async(self, prep_res: str) -> AsyncIterator[str]:
        async def words() -> AsyncIterator[str]:
            yield prep_res

        return words()

    async def exec_fallback_async(self, prep_res: str, exc: Exception) -> AsyncIterator[str]:
        raise exc

    async def post_async(self, shared: Keys, prep_res: str, exec_res: AsyncIterator[str]) -> str:
        return "streaming"


class Checked(ValidatedNode[str, int], AsyncNode[str, int]):
    def validate_input(self, prep_res: str) -> str:
        return prep_res

    def validate_output(self, exec_res: int) -> int:
        return exec_res

    async def exec_async(self, prep_res: str) -> int:
        return len(prep_res)


class CheckedToo(AsyncNode, ValidatedNode):
    async def exec_async(self, prep_res: str) -> int:
        return len(prep_res)


class AsyncItems(AsyncBatchNode):
    async def exec_async(self, item: int) -> int:
        return item


class Outer(Graph):
    def post(self, shared: Keys, prep_res: None, exec_res: str) -> str:
        return exec_res


bare = Bare(max_retries=3, wait=0.5, node_id="bare")
stream = Stream("url", max_retries=2, collect_metrics=False)
stream - "streaming" >> Checked(config=Config(a=1))
typed: Typed = bare >> Typed()
inner: Typed = AsyncGraph(start=stream).start(typed)
number: int = typed.prep(Store())
"""

WRONG_CODE = """
from kaygraph import Node


class Length(Node[str, int]):
    def exec(self, prep_res: str) -> bytes:
        return b""


Length(max_retry=3)
Length() >> "next"
Length() >> ("action", Length())
"""


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What `mypy --strict` says about both programs."""
    directory = tmp_path_factory.mktemp("typed")
    (directory / "right.py").write_text(USER_CODE)
    (directory / "wrong.py").write_text(WRONG_CODE)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir=cache", "--config-file=", "right.py", "wrong.py"]
    environment = os.environ | {"MYPYPATH": str(PACKAGE.parent)}
    answer = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True)
    assert not answer.stderr
    assert "checked 2 source files" in answer.stdout
    return [row for row in answer.stdout.splitlines() if ": error:" in row]


def test_typed_programs_that_use_the_library_pass_mypy_strict(findings: list[str]) -> None:
    assert [row for row in findings if not row.startswith("wrong.py")] == []


@pytest.mark.parametrize(
    ("line", "code"),
    [(6, "override"), (10, "call-arg"), (11, "type-var"), (12, "type-var")],
    ids=["result type", "misspelt argument", "text as successor", "tuple as successor"],
)
def test_mypy_finds_the_mistakes_that_types_can_show(findings: list[str], line: int, code: str) -> None:
    assert any(row.startswith(f"wrong.py:{line}: error:") and row.endswith(f"[{code}]") for row in findings)


def test_type_information_is_shipped() -> None:
    assert (PACKAGE / "py.typed").exists()
