"""The history: one row per run, complete or not at all, and nothing in it that was not asked for."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from utils.errors import ConnectionLost
from utils.events import Aborted, Finished, TextDelta
from utils.history import _FIRST, History, HistoryRow, RunFilter, history_path
from utils.metrics.recorder import Recorder
from utils.metrics.token_log import TokenLog
from utils.processes import is_running, process_start
from utils.run_record import RunFacts, RunRecord, without_quotes
from utils.run_report import RunReport, exit_code_of, outcome_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "history.sqlite3"


def facts(name: str = "run1", **fields: object) -> RunFacts:
    return RunFacts(**{"run_id": name, "started_at": 1000.0, "target": "m at u", "model_requested": "m", **fields})  # type: ignore[arg-type]


def record(about: RunFacts, *parts: str, error: ConnectionLost | None = None, **texts: str) -> RunRecord:
    recorder = Recorder(0.0)
    for n, part in enumerate(parts):
        recorder.handle(TextDelta(part), 1.0 + n)
    terminal = Aborted(error) if error is not None else Finished("stop")
    recorder.handle(terminal, 9.0)
    report = RunReport(
        text=recorder.text,
        outcome=outcome_of(terminal, text_shown=bool(parts)),
        exit_code=exit_code_of(terminal, text_shown=bool(parts)),
        finish_reason=None if error else "stop",
        model_requested="m",
        model_used="m-1",
        target="m at u",
        error=error,
        metrics=recorder.metrics(9.0),
        quality=recorder.quality(),
        events=recorder.events(),
    )
    import dataclasses

    made = RunRecord.of(about, report, tokens=recorder.token_log())
    return dataclasses.replace(made, **texts)  # type: ignore[arg-type]


def rows(history: History, **which: object) -> list[HistoryRow]:
    found = history.rows(RunFilter(**which))  # type: ignore[arg-type]
    assert history.take_warning() is None
    return found


def test_a_run_is_there_before_it_has_ended_and_complete_after(path: Path) -> None:
    with History(path) as history:
        history.begin(facts(prompt_chars=12))
        (row,) = rows(history)
        assert (row.status, row.prompt_chars, row.exit_code) == ("running", 12, None)
        history.complete(record(facts(), "Hel", "lo"), ended_at=1009.0)
        (row,) = rows(history)
        assert (row.status, row.exit_code, row.model, row.ended_at) == ("complete", 0, "m-1", 1009.0)
        assert row.metrics["ttft_s"] == 1.0
        assert row.metrics["inter_chunk_latency_s.n"] == 1.0
        found = history.record("run1")
        assert found is not None
        assert found.tokens == TokenLog([0, 3], [1.0, 2.0], [None, None], [0.0, 0.0])
        assert found.text is None
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_no_text_is_kept_unless_it_is_given(path: Path) -> None:
    secret = "a-word-that-nobody-else-writes"
    error = ConnectionLost(f"the server said {secret}", hint=secret)
    with History(path) as history:
        history.begin(facts("one"))
        history.complete(record(facts("one"), secret, error=error), ended_at=1001.0)
    assert secret.encode() not in b"".join(file.read_bytes() for file in path.parent.iterdir())
    with History(path) as history:
        found = history.record("one")
        assert found is not None
        assert secret not in repr(found.as_json())
        assert found.report["error"]["code"] == "connection_lost"
        history.begin(facts("two"))
        history.complete(record(facts("two"), secret, text=secret, prompt="asked"), ended_at=1001.0)
        kept = history.record("two")
        assert kept is not None
        assert (kept.text, kept.prompt) == (secret, "asked")


def test_quotes_are_taken_out_wherever_they_stand() -> None:
    row = {
        "error": {"code": "x", "message": "m", "hint": "h"},
        "events": [{"type": "retrying", "cause": {"code": "c", "message": "m"}}, {"type": "fell_back", "cause": "why"}],
        "guard": {"validation": [{"reason": "found 'x'", "position": 3}]},
        "adapted": {"reason": "ours"},
    }
    assert without_quotes(row) == {
        "error": {"code": "x", "message": None, "hint": None},
        "events": [{"type": "retrying", "cause": {"code": "c", "message": None}}, {"type": "fell_back", "cause": None}],
        "guard": {"validation": [{"reason": None, "position": 3}]},
        "adapted": {"reason": "ours"},
    }


KILLED = """
import os, signal, sys
from pathlib import Path
from utils.history import History
from utils.run_record import RunFacts
history = History(Path(sys.argv[1]))
history.begin(RunFacts("killed", 2000.0, target="t"))
os.kill(os.getpid(), signal.SIGKILL)
"""


def run(program: str, *args: object) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).resolve().parents[2]
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, args)],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_run_that_was_killed_is_interrupted_and_harms_nobody(path: Path) -> None:
    assert run(KILLED, path).returncode == -9
    with History(path) as history:
        history.begin(facts())
        assert [(row.run_id, row.status) for row in rows(history)] == [("killed", "interrupted"), ("run1", "running")]
        assert [row.run_id for row in rows(history, status="interrupted")] == ["killed"]
        assert history.record("killed") is None


MANY = """
import sys
from pathlib import Path
from tests.unit.test_history import facts, record
from utils.history import History
for n in range(int(sys.argv[3])):
    with History(Path(sys.argv[1])) as history:
        about = facts(f"{sys.argv[2]}-{n}")
        history.begin(about)
        history.complete(record(about, "Hello ", "there"), ended_at=1001.0)
        assert history.take_warning() is None, history.take_warning()
"""


@pytest.mark.parametrize("count", [int(os.environ.get("HISTORY_RUNS", "10"))])
def test_eight_processes_that_write_at_once_lose_nothing(path: Path, count: int) -> None:
    root = Path(__file__).resolve().parents[2]
    writers = [
        subprocess.Popen([sys.executable, "-c", MANY, str(path), str(n), str(count)], cwd=root, stderr=subprocess.PIPE)
        for n in range(8)
    ]
    for writer in writers:
        _, errors = writer.communicate(timeout=120)
        assert writer.returncode == 0, errors
    with History(path) as history:
        found = rows(history, limit=None)
        assert len(found) == 8 * count
        assert {row.status for row in found} == {"complete"}
        assert all(row.metrics["chars"] == 11 for row in found)
        assert all(history.record(row.run_id) is not None for row in found[::17])


def test_an_older_file_is_brought_up_to_date_and_keeps_its_rows(path: Path) -> None:
    path.parent.mkdir()
    old = sqlite3.connect(path)
    old.executescript(
        f"PRAGMA journal_mode = WAL; PRAGMA application_id = {0x4B474849}; PRAGMA user_version = 1; {_FIRST}"
    )
    old.execute(
        "INSERT INTO runs VALUES "
        "(1, 'old', 1.0, 2.0, 'complete', 0, 'stop', NULL, 'm', 'm', 't', 3, 0, '0', '{}', 1, '')"
    )
    old.commit()
    old.close()
    with History(path) as history:
        history.begin(facts("new"))
        history.complete(record(facts("new"), "Hi", text="Hi"), ended_at=1001.0)
        assert [row.run_id for row in rows(history)] == ["new", "old"]
        kept = history.record("new")
        assert kept is not None
        assert kept.text == "Hi"
    assert sqlite3.connect(path).execute("PRAGMA user_version").fetchone() == (3,)


def test_a_newer_file_is_left_alone_and_told_once(path: Path) -> None:
    with History(path) as history:
        history.begin(facts())
    file = sqlite3.connect(path)
    file.execute("PRAGMA user_version = 99")
    file.close()
    with History(path) as history:
        history.begin(facts("two"))
        assert "newer version (99)" in str(history.take_warning())
        assert history.take_warning() is None


def test_a_place_that_cannot_be_used_is_one_warning(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("not a directory")
    with History(tmp_path / "state" / "history.sqlite3") as history:
        history.begin(facts())
        place = f"the history file '{tmp_path}/state/history.sqlite3' cannot be used: '{tmp_path}/state'"
        assert history.take_warning() == f"{place} is not a directory; this run is not recorded"
        history.complete(record(facts(), "Hi"), ended_at=1001.0)
        assert history.take_warning() is None


def test_a_damaged_file_is_put_aside_with_one_warning_and_a_new_one_begun(path: Path) -> None:
    with History(path) as history:
        history.begin(facts())
        history.complete(record(facts(), "Hi"), ended_at=1001.0)
    for name in ("history.sqlite3-wal", "history.sqlite3-shm"):
        (path.parent / name).unlink(missing_ok=True)
    content = bytearray(path.read_bytes())
    content[100:] = b"\xff" * (len(content) - 100)
    path.write_bytes(content)
    with History(path) as history:
        history.begin(facts("two"))
        assert "damaged" in str(history.take_warning())
        history.begin(facts("three"))
        assert [row.run_id for row in rows(history)] == ["three", "two"]
    assert (path.parent / "history.sqlite3.damaged").read_bytes() == bytes(content)


def test_runs_are_forgotten_by_age_and_number_but_not_while_they_run(path: Path) -> None:
    with History(path) as history:
        for n in range(5):
            history.begin(facts(f"run{n}", started_at=1000.0 + n))
            if n:
                history.complete(record(facts(f"run{n}"), "Hi", text="Hi"), ended_at=2000.0)
        assert history.prune(before=1002.0).runs == 1
        assert [row.run_id for row in rows(history)] == ["run4", "run3", "run2", "run0"]
        assert history.prune(keep=1).runs == 2
        assert [row.run_id for row in rows(history)] == ["run4", "run0"]
    file = sqlite3.connect(path)
    for table in ("events", "metrics", "details", "texts"):
        assert {run for (run,) in file.execute(f"SELECT run FROM {table}")} <= {5}


def test_runs_are_found_by_model_status_time_and_simulation(path: Path) -> None:
    with History(path) as history:
        for name, simulated, at in (("a", False, 1.0), ("b", True, 2.0), ("c", False, 3.0)):
            history.begin(facts(name, started_at=at, is_simulated=simulated))
            error = ConnectionLost("x") if name == "c" else None
            history.complete(record(facts(name), "Hi", error=error), ended_at=9.0)
        assert [row.run_id for row in rows(history, status="incomplete")] == ["c"]
        assert [row.run_id for row in rows(history, since=2.0)] == ["c", "b"]
        assert [row.run_id for row in rows(history, with_simulated=False)] == ["c", "a"]
        assert rows(history, model="other") == []
        assert len(rows(history, model="m-1", limit=2)) == 2


def test_reading_makes_no_file(path: Path) -> None:
    with History(path) as history:
        assert rows(history) == []
        assert history.record("x") is None
        assert history.prune(keep=0).runs == 0
    assert not path.parent.exists()


def test_the_file_lies_beside_the_state_file() -> None:
    assert history_path({"KAYGRAPH_STATE_DIR": "/s"}) == Path("/s/history.sqlite3")
    assert history_path({"XDG_STATE_HOME": "/x", "HOME": "/h"}) == Path("/x/kaygraph-streaming-llm/history.sqlite3")


def test_a_process_is_told_from_another_one_with_its_number() -> None:
    mine = os.getpid()
    assert is_running(mine, process_start(mine))
    assert not is_running(mine, "1") or not process_start(mine)
    assert is_running(mine, "")


def test_pruning_takes_what_was_put_aside_too(path: Path) -> None:
    with History(path) as history:
        history.begin(facts("a"))
    (path.parent / "history.sqlite3.damaged").write_text("kept text")
    (path.parent / "history.sqlite3.damaged-2").write_text("kept text")
    (path.parent / "other.damaged").write_text("not ours")
    with History(path) as history:
        history.prune(keep=0)
    assert sorted(file.name for file in path.parent.glob("*.damaged*")) == ["other.damaged"]


def test_a_run_is_found_by_the_beginning_of_its_id_and_the_last_is_one_that_ended(path: Path) -> None:
    with History(path) as history:
        for number, name in enumerate(("aa", "ab", "bb")):
            history.begin(facts(name, started_at=1000.0 + number))
        assert getattr(history.find("last"), "run_id", None) == "bb"
        history.complete(record(facts("aa")), ended_at=2000.0)
        found = {text: getattr(history.find(text), "run_id", None) for text in ("last", "a", "aa", "b", "c", "", "%")}
    assert found == {"last": "aa", "a": "ab", "aa": "aa", "b": "bb", "c": None, "": None, "%": None}
