"""`doctor` on the chain of targets and on what processes remember of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands.doctor_runs import findings
from utils.resilience.breaker_store import SharedState
from utils.resilience.target_states import target_key
from utils.state_store import StateStore

URL = "http://127.0.0.1:9/v1"


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("KAYGRAPH_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state" / "state.sqlite3"


def test_fallbacks_are_told_in_their_order(state: Path) -> None:
    rows = findings("-m", "embedded", KAYGRAPH_FALLBACK=f"m@{URL},http://127.0.0.1:8/v1")
    assert rows["target", "if that fails (1)"]["detail"] == f"m at {URL}; it is asked without a key"
    assert rows["target", "if that fails (2)"]["detail"] == "http://127.0.0.1:8/v1; it is asked without a key"


def test_a_name_that_is_no_target_would_end_a_run_and_so_it_does_here(state: Path) -> None:
    rows = findings(KAYGRAPH_FALLBACK="gpt-4", code=78)
    assert "gpt-4, which needs an API key" in rows["fallbacks", "problem"]["detail"]


def test_a_state_file_that_is_not_there_is_no_problem_and_is_not_made(state: Path) -> None:
    assert findings()["state", "file"]["detail"] == f"{state} does not exist yet"
    assert not state.parent.exists()


def test_a_target_that_is_left_alone_is_named_with_the_way_out(state: Path) -> None:
    with StateStore(state) as store:
        open_state = SharedState(1, is_open=True, open_for_s=14.0)
        store.publish(target_key(URL, "m"), open_state, expected=0)
    rows = findings("-m", "embedded", KAYGRAPH_FALLBACK=f"m@{URL}")
    assert rows["state", "file"]["status"] == "ok"
    assert rows["state", "breaker"]["detail"] == f"m at {URL} is left alone for 14 s more"
    assert "delete the state file" in rows["state", "breaker"]["hint"]


def test_a_file_that_is_not_ours_is_told(state: Path) -> None:
    state.parent.mkdir()
    state.write_text("something else")
    row = findings("-m", "embedded", KAYGRAPH_FALLBACK=f"m@{URL}")["state", "file"]
    assert row["status"] == "warn"
    assert "is not a state file of this program" in row["detail"]


def test_a_state_directory_that_is_none_is_told(state: Path) -> None:
    state.parent.write_text("not a directory")
    row = findings("-m", "embedded", KAYGRAPH_FALLBACK=f"m@{URL}")["state", "file"]
    assert row["status"] == "warn"
    assert f"'{state.parent}' is not a directory" in row["detail"]
