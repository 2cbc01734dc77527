"""Paths and arguments that hold escape sequences do not act on the terminal, whichever command tells of them."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

import main
from commands import printing
from commands.turn import note

ROOT = Path(__file__).resolve().parents[2]
EVIL = "\x1b]0;evil\x07\u202e\x9b31m"
SHOWN = r"\x1b]0;evil\x07\u202e\x9b31m"
RAW = ("\x1b", "\x07", "\u202e", "\x9b")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place of its own, with a directory and files whose names act on a terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "KAYGRAPH_CONFIG", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAYGRAPH_STATE_DIR", EVIL)
    monkeypatch.setenv("KAYGRAPH_CACHE_DIR", str(tmp_path / EVIL))
    Path(EVIL).mkdir()
    Path(EVIL, "history.db").write_text("no database, and long enough to be looked at")
    Path(EVIL, "form").write_text('{"type": 3}')
    Path(EVIL, "config.toml").write_text("seed = 1\n[targets.fast]\nmodel = 'm'\n")
    Path(EVIL, "pack.toml").write_text((ROOT / "examples" / "tickets.toml").read_text())


def told(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main.main(arguments)
    out, err = capfd.readouterr()
    return code, out + err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--config", EVIL + "none", "hi"], 78),
        (["--json-schema", f"{EVIL}/form", "hi"], 78),
        (["--grammar", f"{EVIL}/form", "hi"], 78),
        (["-t", f"./{EVIL}", "hi"], 78),
        (["--report", f"{EVIL}/form", "hi"], 2),
        (["config", "show", "--config", f"{EVIL}/config.toml"], 0),
        (["config", "show", "--config", f"{EVIL}/none.toml"], 78),
        (["doctor", "--config", f"{EVIL}/config.toml"], None),
        (["model", "show"], 0),
        (["model", "verify"], 69),
        (["model", "remove"], 0),
        (["rules", "list", f"{EVIL}/pack.toml"], 0),
        (["chat", EVIL], 2),
        (["history", EVIL], 2),
        (["--dry-run", "--base-url", "http://h/v1", "-m", "m", f"Say {EVIL}"], 4),
    ],
)
def test_a_name_that_would_act_on_the_terminal_is_shown_escaped(
    arguments: list[str], code: int | None, capfd: pytest.CaptureFixture[str]
) -> None:
    ended, shown = told(arguments, capfd)
    assert code is None or ended == code
    assert "evil" in shown
    assert not [char for char in RAW if char in shown]


def test_a_new_settings_file_is_told_as_a_path_to_a_program_and_harmless_to_people(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main.main(["config", "init", "--config", f"{EVIL}/a.toml"]) == 0
    out, err = capfd.readouterr()
    assert out == f"{EVIL}/a.toml\n", "what a program reads is the very name"
    assert err.startswith(f"note: its schema is {SHOWN}/a.schema.json;")
    monkeypatch.setattr(printing, "sys", SimpleNamespace(stdout=SimpleNamespace(isatty=lambda: True, encoding="utf-8")))
    assert main.main(["config", "init", "--config", f"{EVIL}/b.toml"]) == 0
    assert capfd.readouterr().out == f"{SHOWN}/b.toml\n"


def test_a_note_beside_the_answer_is_harmless_too(capfd: pytest.CaptureFixture[str]) -> None:
    note(f"{EVIL} cannot be used", quiet=False)
    assert capfd.readouterr().err == f"note: {SHOWN} cannot be used\n"


def test_a_name_that_is_no_text_comes_out_too(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    printing.echo_path(Path(os.fsdecode(b"caf\xe9.toml")))
    assert capfdbinary.readouterr().out == b"caf\xe9.toml\n"
