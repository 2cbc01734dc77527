"""When the embedded model's process is started before the settings are read, and what a wrong guess leaves behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from commands.early_model import started_if_likely
from utils.embedded_model.spec import PINNED


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A home with a model file (not a real one: what is started ends by itself) and no settings file."""
    for name in list(os.environ):
        if name.startswith(("KAYGRAPH_", "OPENAI_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KAYGRAPH_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / PINNED.file_name).write_bytes(b"not a model")
    return {"HOME": str(tmp_path)}


@pytest.mark.parametrize("options", [{}, {"model": None}, {"model": "gpt-4"}, {"temperature": 0.7}, {"mode": "json"}])
def test_it_is_started_where_nothing_names_another_target(options: dict[str, object], environ: dict[str, str]) -> None:
    server = started_if_likely(options, environ)
    assert server is not None
    server.stop()
    assert server.is_pinned
    assert server.api_key
    assert server.poll() is not None


@pytest.mark.parametrize(
    "options",
    [
        {"base_url": "http://127.0.0.1:1/v1"},
        {"model": "small@http://127.0.0.1:1/v1"},
        {"api_key": "k"},
        {"gguf": "own.gguf"},
        {"profile": "work"},
        {"config": "own.toml"},
        {"template": "short"},
        {"dry_run": True},
    ],
)
def test_a_flag_that_may_name_another_target_keeps_it_from_starting(
    options: dict[str, object], environ: dict[str, str]
) -> None:
    assert started_if_likely(options, environ) is None


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "OPENAI_BASE_URL", "KAYGRAPH_MODEL", "KAYGRAPH_PROFILE"])
def test_so_does_a_variable(name: str, environ: dict[str, str]) -> None:
    assert started_if_likely({}, {**environ, name: "x"}) is None


def test_so_does_a_settings_file(environ: dict[str, str], tmp_path: Path) -> None:
    directory = tmp_path / ".config" / "kaygraph-streaming-llm"
    directory.mkdir(parents=True)
    (directory / "config.toml").write_text("", encoding="utf-8")
    assert started_if_likely({}, environ) is None


def test_nothing_is_started_or_fetched_where_the_model_is_missing(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "cache" / PINNED.file_name).unlink()
    assert started_if_likely({}, environ) is None
