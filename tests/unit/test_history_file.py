"""The file of the history: what counts as damage, what is told of it, and that a run is recorded if it can be."""

from __future__ import annotations

import dataclasses
import functools
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.unit.test_history import facts, record, rows
from utils import history
from utils.database_file import DatabaseFile
from utils.history import History

FAILED = "; this run is not recorded"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "history.sqlite3"


@pytest.fixture
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks are waited for as long as a test likes to."""
    monkeypatch.setattr(history, "_KIND", dataclasses.replace(history._KIND, busy_s=0.02))


def filled(path: Path, *names: str) -> None:
    with History(path) as kept:
        for name in names:
            kept.begin(facts(name))
            kept.complete(record(facts(name), "Hi", text="Hi"), ended_at=1009.0)
        assert kept.take_warning() is None


def changed(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        yield


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir() if not entry.name.endswith(("-wal", "-shm")))


def test_a_run_that_left_no_row_when_it_began_is_recorded_when_it_ends(path: Path) -> None:
    filled(path, "old")
    with History(path) as kept:
        kept.complete(record(facts("new", prompt_chars=7), "Hi", text="Hi"), ended_at=1009.0)
        new, _ = rows(kept)
        assert (new.run_id, new.status, new.ended_at, new.prompt_chars) == ("new", "complete", 1009.0, 7)
        assert new.metrics["chars"] == 2
        found = kept.record("new")
        assert found is not None
        assert found.text == "Hi"
    assert names(path) == ["history.sqlite3"]


@pytest.mark.usefixtures("_hasty")
@pytest.mark.parametrize("later_s", [0.0, 61.0])
def test_a_lock_at_the_beginning_costs_no_row_and_no_file(
    path: Path, later_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(path, "old")
    now = [0.0]
    monkeypatch.setattr(history, "DatabaseFile", functools.partial(DatabaseFile, clock=lambda: now[0]))
    with History(path) as kept:
        with locked(path):
            kept.begin(facts("new"))
        now[0] += later_s
        kept.complete(record(facts("new"), "Hi"), ended_at=1009.0)
        assert kept.take_warning() is None
        assert [(row.run_id, row.status) for row in rows(kept)] == [("new", "complete"), ("old", "complete")]
    assert names(path) == ["history.sqlite3"]


@pytest.mark.usefixtures("_hasty")
def test_a_lock_that_outlasts_the_run_is_told_and_harms_no_file(path: Path) -> None:
    filled(path, "old")
    with History(path) as kept:
        with locked(path):
            kept.begin(facts("new"))
            kept.complete(record(facts("new"), "Hi"), ended_at=1009.0)
            assert kept.take_warning() == f"the history file {str(path)!r} cannot be used: database is locked{FAILED}"
        assert [row.run_id for row in rows(kept)] == ["old"]
    assert names(path) == ["history.sqlite3"]


@pytest.mark.parametrize("size", [100, 4096, 5000, 12_000, 20_000])
def test_the_run_that_meets_a_damaged_file_is_recorded_in_the_new_one(path: Path, size: int) -> None:
    filled(path, *(f"old{n}" for n in range(30)))
    os.truncate(path, size)
    with History(path) as kept:
        kept.begin(facts("new"))
        assert [row.status for row in kept.rows()] == ["running"]
        kept.complete(record(facts("new"), "Hi"), ended_at=1009.0)
        told = f"the history file {str(path)!r} was damaged; it is now history.sqlite3.damaged, and a new one is begun"
        assert kept.take_warning() == told
        assert [(row.run_id, row.status) for row in rows(kept)] == [("new", "complete")]
    assert names(path) == ["history.sqlite3", "history.sqlite3.damaged"]
    assert (path.parent / "history.sqlite3.damaged").stat().st_size == size


UNUSABLE = {
    "a row that nobody of ours writes": ("UPDATE runs SET pid = 'x'", "cannot be used"),
    "a record that is no record": ("UPDATE details SET record = x'00'", "the record of the run old cannot be read"),
    "a table is missing": ("DROP TABLE metrics", "no such table: metrics"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_is_no_damage_to_the_file_leaves_it_where_it_is(path: Path, name: str) -> None:
    filled(path, "old")
    statement, told = UNUSABLE[name]
    changed(path, statement)
    if "pid" in statement:
        changed(path, "UPDATE runs SET status = 'running'")
    with History(path) as kept:
        assert (kept.rows(), kept.record("old"))[1 if "record" in name else 0] in (None, [])
        assert told in str(kept.take_warning())
    assert names(path) == ["history.sqlite3"]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (1,)


def test_an_answer_that_cannot_be_written_costs_no_other_run(path: Path) -> None:
    filled(path, "old")
    unpaired = "\ud800"
    with History(path) as kept:
        kept.begin(facts("bad"))
        kept.complete(record(facts("bad"), "Hi", text=unpaired), ended_at=1009.0)
        assert "surrogates not allowed" in str(kept.take_warning())
        kept.begin(facts("next"))
        kept.complete(record(facts("next"), "Hi"), ended_at=1009.0)
        assert [row.run_id for row in kept.rows()] == ["next", "bad", "old"]
    assert names(path) == ["history.sqlite3"]


@pytest.mark.usefixtures("_hasty")
def test_a_file_that_is_set_aside_is_told_whatever_was_told_before(path: Path) -> None:
    filled(path, *(f"old{n}" for n in range(30)))
    with History(path) as kept:
        with locked(path):
            kept.begin(facts("new"))
        assert "locked" in str(kept.take_warning())
        os.truncate(path, 5000)
        kept.complete(record(facts("new"), "Hi"), ended_at=1009.0)
        assert "it is now history.sqlite3.damaged," in str(kept.take_warning())


def test_the_name_that_is_told_is_the_one_that_another_process_gave_it(path: Path) -> None:
    filled(path, *(f"old{n}" for n in range(30)))
    with History(path) as first, History(path) as second:
        assert len(first.rows()) == len(second.rows()) == 20
        content = path.read_bytes()
        path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
        for kept in (first, second):
            kept.complete(record(facts("new"), "Hi"), ended_at=1009.0)
            assert "it is now history.sqlite3.damaged," in str(kept.take_warning())
    assert names(path) == ["history.sqlite3", "history.sqlite3.damaged"]


def test_no_damaged_file_takes_the_place_of_an_earlier_one(path: Path) -> None:
    for n in range(1, 13):
        filled(path, *(f"old{n}" for n in range(30)))
        os.truncate(path, 5000 + n)
        with History(path) as kept:
            kept.begin(facts("new"))
        path.unlink()
    assert sorted(file.stat().st_size for file in path.parent.glob("*.damaged*")) == [5000 + n for n in range(1, 13)]


def test_what_a_damaged_file_had_in_its_log_lies_beside_it(path: Path) -> None:
    filled(path, "old")
    with History(path) as holder, History(path) as kept:
        holder.begin(facts("text-in-the-log"))
        content = path.read_bytes()
        path.write_bytes(content[:100] + b"\xff" * (len(content) - 100))
        kept.begin(facts("new"))
        assert "it is now history.sqlite3.damaged," in str(kept.take_warning())
        assert b"text-in-the-log" in (path.parent / "history.sqlite3.damaged-wal").read_bytes()


def test_a_request_waits_for_a_lock_much_shorter_than_the_end_of_the_run(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits_ms: list[int] = []

    class Watched(DatabaseFile):
        def attempt(self, work, otherwise, **options):  # type: ignore[no-untyped-def, override]
            def watched(connection: sqlite3.Connection) -> object:
                waits_ms.append(connection.execute("PRAGMA busy_timeout").fetchone()[0])
                return work(connection)

            return super().attempt(watched, otherwise, **options)

    monkeypatch.setattr(history, "DatabaseFile", Watched)
    with History(path) as kept:
        for name in ("one", "two"):
            kept.begin(facts(name))
            kept.complete(record(facts(name), "Hi"), ended_at=1009.0)
        assert kept.take_warning() is None
    assert waits_ms == [500, 5000] * 2
