from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.embedded_model.tiny_model import SlowIndex
from utils.embedded_model import fetch as fetch_module
from utils.embedded_model.fetch import FetchProgress
from utils.embedded_model.ready import ensure_ready, start_early
from utils.embedded_model.spec import PINNED, ModelSpec, model_path
from utils.errors import ConfigError, EmbeddedModelError


@pytest.fixture
def fetches(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Instead of fetching, a second name for the real model; every fetch is recorded."""
    made: list[Path] = []

    def link(progress: object, *, model: ModelSpec, directory: Path | None, stop: Callable[[], bool]) -> Path:
        path = model_path(model, directory)
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        os.symlink(gguf, path)
        made.append(path)
        return path

    monkeypatch.setattr(fetch_module, "fetch", link)
    return made


def run(started: Any = None, **options: Any) -> tuple[str, float]:
    async def scenario() -> tuple[str, float]:
        ready = await ensure_ready(started, **options)
        with ready.server:
            assert ready.server.is_alive
            return ready.base_url, ready.fetch_s

    return asyncio.run(scenario())


def test_a_missing_model_is_fetched_first(cache: Path, fetches: list[Path]) -> None:
    assert start_early(directory=cache) is None
    url, fetch_s = run(directory=cache)
    assert url.startswith("http://127.0.0.1:")
    assert fetch_s > 0
    assert fetches == [model_path(PINNED, cache)]


def test_a_server_that_was_started_early_is_used(cache: Path, gguf: Path, fetches: list[Path]) -> None:
    started = start_early(directory=gguf.parent)
    assert started is not None
    pid = started.pid

    async def scenario() -> None:
        ready = await ensure_ready(started, directory=gguf.parent)
        with ready.server:
            assert (ready.server.pid, ready.fetch_s) == (pid, 0.0)

    asyncio.run(scenario())
    assert fetches == []


@pytest.mark.parametrize("content", [b"", b"GGUF but nothing else", b"a web page"])
def test_a_corrupt_model_is_fetched_again_and_started(cache: Path, fetches: list[Path], content: bytes) -> None:
    cache.mkdir()
    model_path(PINNED, cache).write_bytes(content)
    _, fetch_s = run(start_early(directory=cache), directory=cache)
    assert fetch_s > 0
    assert len(fetches) == 1


def test_a_child_that_crashes_over_a_corrupt_model_is_no_obstacle(
    cache: Path, tmp_path: Path, fetches: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.mkdir()
    model_path(PINNED, cache).write_bytes(b"GGUF that makes the loader crash")
    (tmp_path / "xllamacpp.py").write_text("import os\nos.abort()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    started = start_early(directory=cache)
    monkeypatch.delenv("PYTHONPATH")
    run(started, directory=cache)
    assert len(fetches) == 1


def test_a_crash_that_is_not_the_files_fault_fetches_nothing(
    cache: Path, gguf: Path, tmp_path: Path, fetches: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "xllamacpp.py").write_text("import os\nos.abort()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(EmbeddedModelError, match="SIGABRT"):
        run(directory=gguf.parent)
    assert fetches == []


def test_the_users_own_bad_file_is_neither_deleted_nor_replaced(tmp_path: Path, fetches: list[Path]) -> None:
    own = tmp_path / "own.gguf"
    own.write_bytes(b"GGUF but nothing else")
    with pytest.raises(ConfigError):
        run(gguf=own)
    assert own.read_bytes() == b"GGUF but nothing else"
    assert fetches == []


def test_a_model_that_stays_corrupt_is_an_error_and_not_a_loop(
    cache: Path, monkeypatch: pytest.MonkeyPatch, fetches: list[Path]
) -> None:
    def useless(progress: object, *, directory: Path, **_: object) -> None:
        fetches.append(directory)

    monkeypatch.setattr(fetch_module, "fetch", useless)
    cache.mkdir()
    model_path(PINNED, cache).write_bytes(b"GGUF but nothing else")
    with pytest.raises(EmbeddedModelError, match="unusable"):
        run(directory=cache)
    assert len(fetches) == 1


def test_cancelling_ends_a_fetch_and_leaves_nothing(tiny: ModelSpec, cache: Path, slow_index: SlowIndex) -> None:
    arrived = threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []
    tasks: list[asyncio.Task[object]] = []

    def cancel_halfway(report: FetchProgress) -> None:
        if report.done_bytes and not arrived.is_set():
            arrived.set()
            loops[0].call_soon_threadsafe(tasks[0].cancel)
            # A fetch that goes on in spite of it would now end well, and be noticed.
            loops[0].call_soon_threadsafe(slow_index.gate.set)

    async def scenario() -> None:
        loops.append(asyncio.get_running_loop())
        tasks.append(asyncio.create_task(ensure_ready(model=tiny, directory=cache, progress=cancel_halfway)))
        await asyncio.wait(tasks)
        assert tasks[0].cancelled()
        assert {entry.name for entry in cache.iterdir()} == {".fetch.lock"}

    asyncio.run(scenario())
    assert arrived.is_set()


def test_cancelling_while_the_model_loads_stops_the_child(gguf: Path) -> None:
    started = start_early(directory=gguf.parent)
    assert started is not None

    async def scenario() -> None:
        task = asyncio.create_task(ensure_ready(started, directory=gguf.parent))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
    assert not started.is_alive
