"""`--report`: a place that cannot be written is told before anything is asked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

import main
from tests.support.scripted_server import ScriptedServer
from utils.errors import UsageProblem


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("none/page.html", "there is no directory"),
        ("dir", "it is a directory"),
        ("locked/page.html", "permission denied"),
        ("pipe", "it is not a regular file"),
        ("/dev/null", "it is not a regular file"),
        ("mine.py", "it is there and is no report"),
        ("link.html", "it is there and is no report"),
        ("-", "- is no file"),
    ],
)
def test_a_report_that_cannot_be_written_costs_no_answer(
    place: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("KAYGRAPH_STATE_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    Path("dir").mkdir()
    os.mkfifo("pipe")
    Path("mine.py").write_text("pass\n")
    Path("link.html").symlink_to("mine.py")
    Path("locked").mkdir(mode=0o500)
    if reason == "permission denied":  # to root, who may write everywhere, too
        monkeypatch.setattr(os, "access", lambda *_: False)
    with ScriptedServer(default=()) as server:
        found = CliRunner().invoke(main.cli, ["--base-url", server.base_url, "--report", place, "Hi"])
        assert server.requests == []
    assert isinstance(found.exception, UsageProblem)
    assert reason in found.exception.message
    assert "name" in found.exception.hint
    assert Path("mine.py").read_text() == "pass\n"
    assert found.stdout == ""
