from __future__ import annotations

from pathlib import Path

import pytest

from utils.embedded_model.spec import PINNED, cache_dir, model_path
from utils.errors import ConfigError


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"KAYGRAPH_CACHE_DIR": "/data/models"}, "/data/models"),
        ({"KAYGRAPH_CACHE_DIR": "/data/models", "XDG_CACHE_HOME": "/xdg"}, "/data/models"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/kaygraph-streaming-llm"),
        ({"KAYGRAPH_CACHE_DIR": "", "XDG_CACHE_HOME": ""}, "/home/someone/.cache/kaygraph-streaming-llm"),
        ({"XDG_CACHE_HOME": "relative/is/invalid"}, "/home/someone/.cache/kaygraph-streaming-llm"),
        ({}, "/home/someone/.cache/kaygraph-streaming-llm"),
    ],
)
def test_the_first_variable_that_is_set_decides_where_the_cache_is(
    environ: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_dir(environ) == Path(expected)


def test_a_relative_cache_directory_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cache_dir({"KAYGRAPH_CACHE_DIR": "here"}) == tmp_path / "here"


def test_no_home_directory_is_a_configuration_error_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with pytest.raises(ConfigError) as caught:
        cache_dir({})
    assert "KAYGRAPH_CACHE_DIR" in caught.value.hint


def test_the_file_name_carries_the_hash_so_versions_never_mix() -> None:
    path = model_path(directory=Path("/c"))
    assert path == Path(f"/c/smollm2-135m-instruct-{PINNED.sha256[:12]}.gguf")
