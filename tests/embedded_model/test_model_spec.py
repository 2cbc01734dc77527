from __future__ import annotations

import pwd
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest

from utils.embedded_model import store
from utils.embedded_model.spec import PINNED, cache_dir, model_path
from utils.embedded_model.store import probe_directory
from utils.errors import ConfigError


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"KAYGRAPH_CACHE_DIR": "/data/models"}, "/data/models"),
        ({"KAYGRAPH_CACHE_DIR": "/data/models", "XDG_CACHE_HOME": "/xdg"}, "/data/models"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/kaygraph-streaming-llm"),
        ({"KAYGRAPH_CACHE_DIR": "", "XDG_CACHE_HOME": "", "HOME": "/home/x"}, "/home/x/.cache/kaygraph-streaming-llm"),
        ({"XDG_CACHE_HOME": "relative/is/invalid", "HOME": "/home/x"}, "/home/x/.cache/kaygraph-streaming-llm"),
        ({"HOME": "/"}, "/.cache/kaygraph-streaming-llm"),
        ({"HOME": ""}, "/home/of-the-system/.cache/kaygraph-streaming-llm"),
        ({"HOME": "relative"}, "/home/of-the-system/.cache/kaygraph-streaming-llm"),
        ({}, "/home/of-the-system/.cache/kaygraph-streaming-llm"),
    ],
)
def test_the_first_variable_that_is_set_decides_where_the_cache_is(
    environ: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: SimpleNamespace(pw_dir="/home/of-the-system"))
    assert cache_dir(environ) == Path(expected)


def test_a_relative_cache_directory_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cache_dir({"KAYGRAPH_CACHE_DIR": "here"}) == tmp_path / "here"


def unknown_user(uid: int) -> NoReturn:
    raise KeyError(uid)


def user_without_home(uid: int) -> SimpleNamespace:
    return SimpleNamespace(pw_dir="")


@pytest.mark.parametrize("look_up", [unknown_user, user_without_home])
@pytest.mark.parametrize("environ", [{}, {"HOME": ""}])
def test_no_home_directory_is_a_configuration_error_with_a_way_out(
    environ: dict[str, str], look_up: Callable[[int], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pwd, "getpwuid", look_up)
    with pytest.raises(ConfigError) as caught:
        cache_dir(environ)
    assert caught.value.message == "cannot tell where to keep the model: no home directory"
    assert caught.value.hint == "set KAYGRAPH_CACHE_DIR to a directory"


@pytest.mark.parametrize("existing", ["", "a", "a/b"])
def test_a_directory_is_probed_without_a_trace(existing: str, tmp_path: Path) -> None:
    (tmp_path / existing).mkdir(parents=True, exist_ok=True)
    before = sorted(tmp_path.rglob("*"))
    probe_directory(tmp_path / "a" / "b")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_directory_below_a_file_cannot_be_used_and_what_was_made_is_gone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot use the model cache"):
        probe_directory(tmp_path / "file" / "b")
    assert [path.name for path in tmp_path.rglob("*")] == ["file"]


def test_a_directory_that_takes_no_entries_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> NoReturn:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(store.tempfile, "mkdtemp", refuse)
    with pytest.raises(ConfigError) as caught:
        probe_directory(tmp_path / "a")
    assert caught.value.message == f"cannot use the model cache '{tmp_path}/a': Read-only file system"
    assert not (tmp_path / "a").exists()


def test_the_file_name_carries_the_hash_so_versions_never_mix() -> None:
    path = model_path(directory=Path("/c"))
    assert path == Path(f"/c/smollm2-135m-instruct-{PINNED.sha256[:12]}.gguf")
