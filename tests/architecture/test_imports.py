"""Who may import whom: one direction, one importer per third party, small modules, honest exports."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path
    for path in [*ROOT.glob("*.py"), *(p for d in ("commands", "kaygraph", "utils") for p in (ROOT / d).rglob("*.py"))]
)
OURS = ("main", "commands", "flow", "nodes", "utils", "kaygraph")

MAY_IMPORT = {
    "main": {"commands", "utils"},
    "commands": {"commands", "flow", "nodes", "utils"},
    "flow": {"nodes", "utils", "kaygraph"},
    "nodes": {"utils", "kaygraph"},
    "utils": {"utils"},
    "kaygraph": {"kaygraph"},
}

IMPORTERS = {
    "openai": {"utils/openai_stream.py"},
    "httpx2": {
        "utils/openai_stream.py",
        "utils/http_body.py",
        "utils/transport_errors.py",
        "utils/failure_simulator.py",
    },
    "msgspec": {"utils/events.py", "utils/chat_stream.py", "utils/chat_reader.py", "utils/openai_stream.py"},
    "xllamacpp": {"utils/embedded_model/child.py"},
    "pydantic": {"utils/settings_model.py"},
    "llguidance": {"utils/validation/structured.py"},
    "opentelemetry": {"utils/exporters/otel.py"},
    "requests": {"utils/exporters/otel.py"},
    "prompt_toolkit": {"utils/render/chat_input.py"},
    "rs_bpe": {"utils/vocabularies.py"},
}

STANDARD_IMPORTERS = {"sqlite3": {"utils/database_file.py"}}
"""Parts of the standard library that open something: each has its importers too."""

LOCKED = {"utils/resilience/breaker.py", "utils/resilience/breaker_changes.py", "utils/resilience/target_states.py"}
"""Cores that many threads share: they may import a lock, and nothing else of `threading`."""

PURE = [
    "utils/attachments.py",
    "utils/chat_body.py",
    "utils/clock.py",
    "utils/code_block.py",
    "utils/code_block_lines.py",
    "utils/code_block_stage.py",
    "utils/errors.py",
    "utils/events.py",
    "utils/run_context.py",
    "utils/run_report.py",
    "utils/sse.py",
    "utils/byte_guard.py",
    "utils/provider_errors.py",
    "utils/well_formed.py",
    "utils/resilience/backoff.py",
    "utils/resilience/breaker.py",
    "utils/resilience/breaker_changes.py",
    "utils/resilience/breaker_permit.py",
    "utils/resilience/breaker_policy.py",
    "utils/resilience/breaker_reports.py",
    "utils/resilience/breaker_store.py",
    "utils/resilience/target_states.py",
    *(
        f"utils/resilience/{name}.py"
        for name in (
            "adaptive",
            "answer_so_far",
            "continuation",
            "hedging",
            "latency_window",
            "limiter",
            "loop_guard",
            "observations",
            "pacing",
        )
    ),
    *(
        f"utils/resilience/{name}.py"
        for name in ("rate_headers", "resume", "retry_policy", "seam", "seam_text", "seam_words", "stitching")
    ),
    "utils/resilience/token_bucket.py",
    "utils/failures",
    "utils/guardrails",
    "utils/metrics",
    "utils/validation/member_names.py",
    "utils/validation/plan.py",
    "utils/validation/retrying.py",
    "utils/validation/schema_check.py",
    "utils/validation/stage.py",
    "utils/validation/validators.py",
]
"""Cores: the standard library and each other; no network, no event loop, no clock of their own."""

EDGES = (
    "utils.openai_stream",
    "utils.render",
    "utils.embedded_model",
    "utils.settings",
    "utils.failure_simulator",
    "utils.diagnosis",
    "utils.database_file",
    "utils.state_store",
)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path, *, at_run_time: bool = True) -> Iterator[str]:
    """Every imported module; those under TYPE_CHECKING only if *at_run_time* is false."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and at_run_time:
            skipped.update(child for statement in node.body for child in ast.walk(statement))
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}: relative import"
            yield node.module or ""


def test_imports_run_in_one_direction() -> None:
    for path in SOURCES:
        layer = name_of(path).split("/")[0].removesuffix(".py")
        for module in imports(path, at_run_time=False):
            top = module.partition(".")[0]
            if top in OURS:
                assert top in MAY_IMPORT[layer], f"{name_of(path)} imports {module}"


def test_every_third_party_has_its_importers() -> None:
    for path in SOURCES:
        name = name_of(path)
        for module in imports(path):
            top = module.partition(".")[0]
            if top in STANDARD_IMPORTERS:
                assert name in STANDARD_IMPORTERS[top], f"{name} imports {module}"
            if top in sys.stdlib_module_names or top in OURS:
                continue
            assert not name.startswith("kaygraph/"), f"{name} imports {module}"
            if top == "click":
                assert name == "main.py" or name.startswith("commands/")
            elif top == "rich":
                assert name.startswith("utils/render/")
            else:
                assert name in IMPORTERS[top], f"{name} imports {module}"


@pytest.mark.parametrize("core", PURE)
def test_cores_touch_no_third_party_no_edge_and_no_event_loop(core: str) -> None:
    place = ROOT / core
    for path in [place] if place.suffix else sorted(place.rglob("*.py")):
        for module in imports(path):
            top = module.partition(".")[0]
            # What a value is made of is no edge: msgspec gives the events their shape, as dataclasses does elsewhere.
            is_shape = name_of(path) == "utils/events.py" and top == "msgspec"
            assert top in sys.stdlib_module_names or top == "utils" or is_shape, f"{name_of(path)} imports {module}"
            assert top not in ("asyncio", "socket", "subprocess", "sqlite3"), f"{name_of(path)} imports {module}"
            assert top != "threading" or only_a_lock(path), f"{name_of(path)} imports {module}"
            assert not module.startswith(EDGES), f"{name_of(path)} imports {module}"
            assert module != "time" or path.name == "clock.py", f"{name_of(path)} reads a clock"


def only_a_lock(path: Path) -> bool:
    nodes = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    threading = [ast.unparse(node) for node in nodes if "threading" in ast.unparse(node)]
    return name_of(path) in LOCKED and threading == ["from threading import Lock"]


BEFORE_A_COMMAND = (
    *("main.py", "commands/startup.py", "commands/cli.py", "commands/ending.py"),
    *("utils/version.py", "utils/cheaper_openai.py"),
)


def test_only_click_is_imported_before_a_command_is_known() -> None:
    allowed = {"click", *(name.removesuffix(".py").replace("/", ".") for name in BEFORE_A_COMMAND)}
    for name in BEFORE_A_COMMAND:
        tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
        statements = [*tree.body, *(child for node in tree.body if isinstance(node, ast.Try) for child in node.body)]
        top_level = [node for node in statements if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {alias.name for node in top_level if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in top_level if isinstance(node, ast.ImportFrom)}
        foreign = {module for module in names if module.partition(".")[0] not in sys.stdlib_module_names}
        assert foreign <= allowed, name


def test_what_must_run_without_packages_imports_none() -> None:
    assert set(imports(ROOT / "commands" / "startup.py")) <= set(sys.stdlib_module_names)


def test_main_is_one_screen_and_nodes_and_flow_are_few() -> None:
    lengths = {
        name: (ROOT / name).read_text(encoding="utf-8").count("\n") for name in ("main.py", "nodes.py", "flow.py")
    }
    assert lengths["main.py"] < 80
    assert max(lengths["nodes.py"], lengths["flow.py"]) <= 260


def test_modules_are_short_and_say_what_they_export() -> None:
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 420, f"{name_of(path)} is long: is it one idea?"
        tree = ast.parse(text)
        assert ast.get_docstring(tree), f"{name_of(path)} does not say what it is"
        if path.name in ("__init__.py", "child.py"):
            continue
        module = importlib.import_module(name_of(path).removesuffix(".py").replace("/", "."))
        exported = module.__all__
        assert sorted(set(exported), key=exported.index) == list(exported)
        for name in exported:
            assert hasattr(module, name), f"{name_of(path)} exports {name}, which it does not have"
