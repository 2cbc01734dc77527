"""`report RUN`: where the page goes, and what is said when it cannot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import main
from tests.report.records import Page, answered
from utils.history import History, history_path
from utils.render.history_table import local_time
from utils.run_record import RunFacts, RunRecord


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunRecord:
    monkeypatch.setenv("KAYGRAPH_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    kept = answered(["kept ", "text"], [-0.1, -0.2])
    path = history_path()
    assert path is not None
    path.parent.mkdir()
    with History(path) as history:
        history.begin(kept.facts)
        history.complete(kept, ended_at=kept.facts.started_at + 1)
    return kept


def about(record: RunRecord) -> str:
    facts = record.facts
    return f"{facts.run_id} ({local_time(facts.started_at)}, {record.report['model_used']})"


def test_the_page_is_written_beside_the_user_and_its_place_is_told(
    record: RunRecord, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["report", "0cce"]) == 0
    out, err = capfd.readouterr()
    assert (out, err) == ("", f"report of the run {about(record)} written to run-0cce8a8eeb91.html\n")
    assert Page(Path("run-0cce8a8eeb91.html").read_text(encoding="utf-8")).answers == ["kept text"]


@pytest.mark.parametrize("run", ["last", "0cce8a8eeb91"])
def test_a_dash_is_standard_output(record: RunRecord, capfd: pytest.CaptureFixture[str], run: str) -> None:
    assert main.main(["report", run, "-o", "-"]) == 0
    out, err = capfd.readouterr()
    assert err == f"report of the run {about(record)} written to stdout\n"
    assert Page(out).values["tokens"] == ["2"]
    assert not list(Path().glob("*.html"))


@pytest.mark.parametrize(
    ("seconds_later", "is_alive", "told"),
    [
        (5.0, False, "was interrupted and left no record"),
        (5.0, True, "is still running"),
        (-5.0, False, None),
    ],
)
def test_a_newer_run_that_left_nothing_is_told(
    record: RunRecord,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    seconds_later: float,
    is_alive: bool,
    told: str | None,
) -> None:
    path = history_path()
    assert path is not None
    started_at = record.facts.started_at + seconds_later
    with History(path) as history:
        history.begin(RunFacts("newer", started_at, model_requested="killed\nmodel"))
    monkeypatch.setattr("utils.history.is_running", lambda pid, start: is_alive)
    for words in (["report", "last"], ["history", "show", "last"]):
        assert main.main(words) == 0
        err = capfd.readouterr().err
        lines = [line for line in err.splitlines() if "newest run" in line]
        if told is None:
            assert lines == []
        else:
            assert lines == [f"the newest run, newer ({local_time(started_at)}, killed model), {told}"]
    assert main.main(["report", "0cce"]) == 0
    assert "newest run" not in capfd.readouterr().err


def test_a_run_that_is_not_there_is_a_usage_error_with_the_way_out(
    record: RunRecord, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["report", "ffff"]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert "there is no run 'ffff'" in err
    assert "hint: `python main.py history list`" in err


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("no/such/place.html", "there is no directory"),
        ("pipe", "it is not a regular file"),
        ("notes.txt", "it is there and is no report"),
    ],
)
def test_a_place_where_no_page_may_be_is_an_error_with_the_way_out(
    record: RunRecord, capfd: pytest.CaptureFixture[str], place: str, reason: str
) -> None:
    os.mkfifo("pipe")
    Path("notes.txt").write_text("mine")
    assert main.main(["report", "last", "-o", place]) == 2
    err = capfd.readouterr().err
    assert f"error: the report '{place}' cannot be written: {reason}" in err
    assert "hint: name another file with -o, or - for stdout" in err
    assert Path("notes.txt").read_text() == "mine"


def test_what_goes_wrong_at_the_writing_is_told(
    record: RunRecord, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert main.main(["report", "last", "-o", "run.html"]) == 78
    assert "error: the report 'run.html' cannot be written: No space left" in capfd.readouterr().err


def test_a_page_of_an_earlier_time_is_replaced(record: RunRecord, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert main.main(["report", "last", "-o", "run.html"]) == 0
    assert Page(Path("run.html").read_text(encoding="utf-8")).answers == ["kept text"]
