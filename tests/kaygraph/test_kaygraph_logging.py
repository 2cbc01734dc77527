"""Logs: useful names and times, and nothing private at any level."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

import kaygraph
from kaygraph import AsyncGraph, AsyncNode, BatchNode, Graph, MetricsNode, Node, ValidatedNode

SECRET = "very-private"


class Private:
    """A value that must never be shown: its repr and str raise."""

    def __repr__(self) -> str:
        raise AssertionError("a private value was formatted")

    __str__ = __repr__

    def __hash__(self) -> int:
        return 1


class Work(ValidatedNode, MetricsNode):
    def prep(self, shared: Any) -> Any:
        return Private()

    def exec(self, prep_res: Any) -> Any:
        if self.cur_retry == 0:
            raise ConnectionError(SECRET)
        return Private()

    def post(self, shared: Any, prep_res: Any, exec_res: Any) -> str:
        raise LookupError(SECRET)

    def on_error(self, shared: Any, error: Exception) -> str:
        return SECRET


class AsyncWork(AsyncNode):
    async def prep_async(self, shared: Any) -> Any:
        return Private()

    async def exec_async(self, prep_res: Any) -> Any:
        raise ConnectionError(SECRET)

    async def exec_fallback_async(self, prep_res: Any, exc: Exception) -> Any:
        return Private()


class Items(BatchNode):
    def prep(self, shared: Any) -> Any:
        return [Private()]

    def exec(self, item: Any) -> Any:
        raise ConnectionError(SECRET)

    def exec_fallback(self, item: Any, exc: Exception) -> Any:
        return Private()


def test_no_value_is_logged_at_any_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(1)
    work, items, after = Work(max_retries=2), Items(max_retries=2), AsyncWork(max_retries=2)
    items >> work
    work - "other" >> after
    graph = Graph(start=items)
    graph.set_params({"key": Private()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the graph's warning names the action, by contract; the log must not
        graph.run({"text": Private()})
    asyncio.run(AsyncGraph(start=after).run_async({"text": Private()}))
    shown = caplog.text + "".join(str(record.__dict__) for record in caplog.records)
    assert SECRET not in shown
    assert not any(record.exc_info for record in caplog.records)
    levels = {record.levelname for record in caplog.records}
    assert levels == {"DEBUG", "WARNING"}
    for text in (
        "attempt 1 of 2 failed (ConnectionError)",
        "run started",
        "on_error suppressed LookupError",
        "ends at",
    ):
        assert text in caplog.text


@pytest.mark.parametrize("level", [logging.DEBUG, logging.CRITICAL])
def test_values_that_cannot_be_shown_do_not_disturb_a_run(level: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(level, logger="kaygraph")
    shared: dict[str, Any] = {"value": Private()}
    assert Work(max_retries=2).run(shared) == SECRET


def test_messages_are_formatted_only_if_somebody_reads_them(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(1)
    Graph(start=Items(max_retries=2)).run({})
    assert caplog.records
    assert all(record.args for record in caplog.records)


def test_loggers_stand_under_the_library_and_are_named_after_the_class() -> None:
    class Custom(Node):
        pass

    assert Custom().logger.name == "kaygraph.Custom"
    assert Graph().logger.name == "kaygraph.Graph"


def test_the_library_is_silent_unless_logging_is_set_up() -> None:
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("kaygraph").handlers)
    code = (
        "import kaygraph\n"
        "class Work(kaygraph.Node):\n"
        "    def exec(self, prep_res): raise ConnectionError('private')\n"
        "    def exec_fallback(self, prep_res, exc): return None\n"
        "Work(max_retries=2).run({})\n"
    )
    root = Path(kaygraph.__file__).parent.parent
    answer = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert (answer.stdout, answer.stderr) == ("", "")
