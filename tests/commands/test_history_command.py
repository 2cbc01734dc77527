"""`history`: rows that are not shown, files that are deleted, and a place that is no directory are told."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

import main
from tests.unit.test_history import facts, record
from utils.history import History, history_path
from utils.render.history_table import run_lines


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KAYGRAPH_STATE_DIR", str(tmp_path / "state"))
    found = history_path()
    assert found is not None
    return found


def filled(path: Path, count: int, *, ended: bool = True) -> None:
    with History(path) as history:
        for n in range(count):
            about = facts(f"run{n}" if ended else f"begun{n}", started_at=1000.0 + n)
            history.begin(about)
            if ended:
                history.complete(record(about, "Hi"), ended_at=2000.0)
        assert history.take_warning() is None


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    code = main.main(["history", *args])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize(
    ("count", "options", "told"),
    [
        (20, (), ""),
        (21, (), "20 of 21 runs are shown; -n 21 shows all\n"),
        (21, ("--json",), "20 of 21 runs are shown; -n 21 shows all\n"),
        (3, ("-n", "1", "--model", "m-1"), "1 of 3 runs are shown; -n 3 shows all\n"),
        (3, ("-n", "1", "--since", "1m"), "no runs\n"),
        (3, ("-n", "3"), ""),
        (3, ("-n", "4"), ""),
    ],
)
def test_a_list_says_how_many_runs_it_leaves_out(
    path: Path, capsys: pytest.CaptureFixture[str], count: int, options: tuple[str, ...], told: str
) -> None:
    filled(path, count)
    code, _, err = run(capsys, "list", *options)
    assert (code, err) == (0, told)


@pytest.mark.parametrize(("is_alive", "status"), [(True, "running"), (False, "interrupted")])
def test_runs_without_an_end_are_told_apart_and_counted(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, is_alive: bool, status: str
) -> None:
    filled(path, 2)
    filled(path, 3, ended=False)
    monkeypatch.setattr("utils.history.is_running", lambda pid, start: is_alive)
    code, out, err = run(capsys, "list", "-n", "2", "--json", "--status", status)
    assert [json.loads(line)["run_id"] for line in out.splitlines()] == ["begun2", "begun1"]
    assert (code, err) == (0, "2 of 3 runs are shown; -n 3 shows all\n")
    other = "running" if status == "interrupted" else "interrupted"
    assert run(capsys, "list", "--status", other) == (0, "", "no runs\n")


@pytest.mark.parametrize("command", [["list"], ["stats"], ["export"], ["show", "last"], ["prune", "--keep", "0"]])
@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_state_directory_that_is_none_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str], place: str
) -> None:
    (tmp_path / "file").write_text("not a directory")
    monkeypatch.setenv("KAYGRAPH_STATE_DIR", str(tmp_path / place))
    code, out, err = run(capsys, *command)
    assert (code, out) == (78, "")
    assert f"'{tmp_path}/file' is not a directory" in err
    assert "hint: KAYGRAPH_STATE_DIR names another directory" in err


def test_pruning_tells_which_damaged_files_it_deletes(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(path, 3)
    damaged = path.parent / "history.sqlite3.damaged"
    damaged.write_bytes(b"x" * 5000)
    (path.parent / "history.sqlite3.damaged-2").write_bytes(b"x")
    code, out, err = run(capsys, "prune", "--keep", "2")
    assert (code, out) == (0, "")
    assert err.splitlines() == [
        f"deleted '{damaged}', set aside as damaged: 5,000 bytes",
        f"deleted '{damaged}-2', set aside as damaged: 1 byte",
        "1 run forgotten",
    ]
    assert not damaged.exists()


def test_pruning_never_deletes_what_it_has_just_set_aside(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(path, 30)
    os.truncate(path, 5000)
    code, _, err = run(capsys, "prune", "--keep", "2")
    assert code == 78
    assert "was damaged; it is now history.sqlite3.damaged," in err
    assert (path.parent / "history.sqlite3.damaged").exists()
    code, _, err = run(capsys, "prune", "--keep", "2")
    assert code == 0
    assert "history.sqlite3.damaged', set aside as damaged: 5,000 bytes\n0 runs forgotten\n" in err


def test_a_file_that_is_set_aside_while_it_is_listed_is_no_empty_history(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(path, 30)
    os.truncate(path, 5000)
    code, out, err = run(capsys, "list")
    assert (code, out) == (78, "")
    assert "it is now history.sqlite3.damaged," in err
    assert "hint: `history prune` removes what was set aside" in err


def test_one_run_is_no_plural(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(path, 1)
    _, out, _ = run(capsys, "stats")
    assert out.splitlines()[0] == "m-1: 1 run (1 complete), 0 resumes"


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ({"retries": 1.0, "resumes": 2.0}, "1 retry, 2 resumes"),
        ({"retries": 2.0, "fallbacks": 1.0}, "2 retries, 1 fallback"),
    ],
)
def test_what_was_recovered_is_counted(path: Path, metrics: dict[str, float], words: str) -> None:
    filled(path, 1)
    with History(path) as history:
        (row,) = history.rows()
    assert run_lines([dataclasses.replace(row, metrics=metrics)])[1].endswith(f"  {words}")
