"""Conversations in the history: which runs are turns of which, and what becomes of them."""

from __future__ import annotations

import dataclasses
import sqlite3
from pathlib import Path

import pytest

from commands.continued import continued
from tests.unit.test_history import facts, record, rows
from utils.conversation import Exchange
from utils.errors import ConnectionLost, UsageProblem
from utils.history import _FIRST, _TEXTS, History


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "history.sqlite3"


def keep(
    history: History,
    run: str,
    conversation: str | None,
    prompt: str,
    *parts: str,
    system: str | None = None,
    finish_reason: str = "stop",
    error: ConnectionLost | None = None,
    with_text: bool = True,
) -> None:
    about = facts(run, conversation=conversation)
    made = record(about, *parts, error=error)
    report = {**made.report, **({} if error else {"finish_reason": finish_reason})}
    texts = {"text": "".join(parts), "prompt": prompt, "system": system} if with_text else {}
    history.begin(about)
    history.complete(dataclasses.replace(made, report=report, **texts), ended_at=1009.0)  # type: ignore[arg-type]
    assert history.take_warning() is None


def test_the_newest_conversation_comes_back_in_order_with_what_was_not_whole(path: Path) -> None:
    with History(path) as history:
        assert history.conversation() is None
        keep(history, "r1", "aa11", "one", "ONE")
        keep(history, "r2", "bb22", "another", "ANOTHER")
        keep(history, "r3", "aa11", "two", "TW", error=ConnectionLost("gone"))
        keep(history, "r4", "aa11", "three", "THR", finish_reason="length", system="Be brief.")
        found = history.conversation()
        assert found is not None
        assert found[0] == "aa11"
        assert found[1].system == "Be brief."
        assert found[1].exchanges == [
            Exchange("one", "ONE"),
            Exchange("two", "TW", is_whole=False),
            Exchange("three", "THR", is_whole=False),
        ]
        assert [exchange.run_id for exchange in found[1].exchanges] == ["r1", "r3", "r4"]


def test_a_conversation_is_found_by_the_beginning_of_its_id(path: Path) -> None:
    with History(path) as history:
        for number, cid in enumerate(("aa11", "aa22", "bb_3", "bbx3")):
            keep(history, f"r{number}", cid, "p", cid)
        cases = {"aa": "aa22", "aa1": "aa11", "bb_3": "bb_3", "bb": "bbx3", "a%": None, "AA": None, "aa111": None}
        for prefix, cid in cases.items():
            found = history.conversation(prefix)
            assert (found and found[0]) == cid, prefix


def test_only_runs_with_texts_of_a_conversation_are_turns(path: Path) -> None:
    with History(path) as history:
        keep(history, "r1", None, "alone", "ALONE")
        keep(history, "r2", "aa", "p", "without text", with_text=False)
        keep(history, "r3", "aa", "unanswered")
        assert history.conversation() is None
        keep(history, "r4", "aa", "p", "kept")
        found = history.conversation()
        assert found is not None
        assert [exchange.answer for exchange in found[1].exchanges] == ["kept"]


def test_a_detached_run_is_no_turn_any_more_but_stays(path: Path) -> None:
    with History(path) as history:
        history.detach("nothing is there yet")
        assert not path.exists()
        keep(history, "r1", "aa", "one", "ONE")
        keep(history, "r2", "aa", "two", "TWO")
        history.detach("r2")
        history.detach("unknown")
        found = history.conversation("aa")
        assert found is not None
        assert [exchange.run_id for exchange in found[1].exchanges] == ["r1"]
        kept = history.record("r2")
        assert kept is not None
        assert kept.text == "TWO"
        history.detach("r1")
        assert history.conversation() is None
        assert history.take_warning() is None


def test_what_is_pruned_is_in_no_conversation_and_no_table(path: Path) -> None:
    with History(path) as history:
        for number in range(3):
            keep(history, f"r{number}", "aa", f"p{number}", f"A{number}")
        assert history.prune(keep=1).runs == 2
        found = history.conversation()
        assert found is not None
        assert [exchange.prompt for exchange in found[1].exchanges] == ["p2"]
        assert history.prune(keep=0).runs == 1
        assert history.conversation() is None
    file = sqlite3.connect(path)
    for table in ("turns", "texts", "events", "metrics", "details", "runs"):
        assert file.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
    file.close()
    assert b"A2" not in b"".join(each.read_bytes() for each in path.parent.iterdir())


@pytest.mark.parametrize(("version", "schema"), [(1, _FIRST), (2, _FIRST + ";" + _TEXTS)])
def test_files_of_earlier_versions_keep_their_rows_and_take_conversations(
    path: Path, version: int, schema: str
) -> None:
    path.parent.mkdir()
    old = sqlite3.connect(path)
    old.executescript(
        f"PRAGMA journal_mode = WAL; PRAGMA application_id = {0x4B474849}; PRAGMA user_version = {version}; {schema}"
    )
    old.execute(
        "INSERT INTO runs VALUES "
        "(1, 'old', 1.0, 2.0, 'complete', 0, 'stop', NULL, 'm', 'm', 't', 3, 0, '0', '{}', 1, '')"
    )
    if version == 2:
        old.execute("INSERT INTO texts VALUES (1, 'asked', 'answered')")
    old.commit()
    old.close()
    with History(path) as history:
        assert history.conversation() is None
        keep(history, "new", "aa", "p", "A", system="S")
        assert [row.run_id for row in rows(history)] == ["new", "old"]
        found = history.conversation()
        assert found is not None
        assert (found[1].exchanges, found[1].system) == ([Exchange("p", "A")], "S")
    now = sqlite3.connect(path)
    assert now.execute("PRAGMA user_version").fetchone() == (3,)
    if version == 2:
        assert now.execute("SELECT * FROM texts WHERE run = 1").fetchone() == (1, "asked", "answered", None)
    now.close()


# -- what the command line asks for ----------------------------------------------------------------------------------


def test_nothing_is_looked_for_unless_it_was_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KAYGRAPH_STATE_DIR", str(tmp_path / "state"))
    assert continued(newest=None, cid=None) is None
    assert continued(newest=False, cid=None) is None
    assert not (tmp_path / "state").exists()


def test_a_conversation_that_is_not_there_is_an_error_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    monkeypatch.setenv("KAYGRAPH_STATE_DIR", str(path.parent))
    cases = {None: "no conversation was kept", "zz": "no kept conversation begins with 'zz'", " ": "--cid is empty"}
    for cid, message in cases.items():
        with pytest.raises(UsageProblem, match=f"^{message}$") as refused:
            continued(newest=True, cid=cid)
        assert refused.value.hint
    with History(path) as history:
        keep(history, "r1", "aa", "p", "A")
        keep(history, "r2", "bb", "q", "B")
    for cid, expected in ((None, "bb"), ("a", "aa")):
        found = continued(newest=True, cid=cid)
        assert found is not None
        assert found[0] == expected
    path.write_bytes(b"no database at all")
    with pytest.raises(UsageProblem, match=r"^no conversation was kept \(.*is not a history file"):
        continued(newest=True, cid=None)
    monkeypatch.delenv("KAYGRAPH_STATE_DIR")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr("commands.continued.history_path", lambda: None)
    with pytest.raises(UsageProblem, match="no home directory"):
        continued(newest=True, cid=None)


def test_why_the_history_cannot_be_read_is_told_without_words_about_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a directory")
    monkeypatch.setenv("KAYGRAPH_STATE_DIR", str(tmp_path / "file"))
    with pytest.raises(UsageProblem) as caught:
        continued(newest=True, cid=None)
    place = f"the history file '{tmp_path}/file/history.sqlite3' cannot be used: '{tmp_path}/file'"
    assert caught.value.message == f"no conversation was kept ({place} is not a directory)"
