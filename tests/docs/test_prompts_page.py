"""The page about prompts: its commands print what it says, its template works, its options and settings exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import main
from commands.cli import cli
from tests.docs.test_readme import run_options
from utils.attachments import Attachment, assembled
from utils.settings import Settings

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "prompts.md").read_text(encoding="utf-8")
NOTES = "buy milk\ncall Anna\n"
KEYS = "DEBUG=1\n# ghp_abcdefghijklmnopqrstuvwxyz0123456789\n"


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.S)


def shown_commands() -> list[tuple[str, str]]:
    """Each command of the page that has an output, and that output."""
    commands = []
    for block in blocks("console"):
        for part in block.split("$ python main.py ")[1:]:
            command, _, output = part.partition("\n")
            commands.append((command, output))
    return commands


@pytest.mark.parametrize(("command", "output"), shown_commands(), ids=lambda text: text[:40])
def test_commands_print_what_the_page_says(
    command: str, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("KAYGRAPH_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    templates = tmp_path / "config" / "kaygraph-streaming-llm" / "templates"
    templates.mkdir(parents=True)
    (templates / "translate.toml").write_text(blocks("toml")[0], encoding="utf-8")
    Path("notes.txt").write_text(NOTES)
    Path("keys.env").write_text(KEYS)
    main.main(shlex.split(command))
    printed = capsys.readouterr()
    pattern = re.escape(output).replace(re.escape("[...]"), ".*?")
    assert re.fullmatch(pattern, printed.out + printed.err, re.S), printed.out + printed.err


def test_the_prompt_on_the_page_is_the_programs() -> None:
    assert assembled([Attachment("notes.txt", NOTES)], "Which of these is urgent?").text + "\n" == blocks("text")[0]


def test_the_other_commands_can_be_typed() -> None:
    run = cli.get_command(None, "run")  # type: ignore[arg-type]
    assert run is not None
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(lines) > 6
    for line in lines:
        typed = re.sub(r"<\(.*?\)", "FILE", line.rpartition("python main.py ")[2])
        typed = re.split(r" [|>] ", typed)[0]
        run.make_context("run", shlex.split(typed))


def test_every_option_setting_and_link_that_the_page_names_exists() -> None:
    assert set(re.findall(r"(?<![-\w])--[a-z][a-z-]+", PAGE)) - {"--oneline"} <= run_options()
    names = {name.lower() for name in re.findall(r"KAYGRAPH_([A-Z_]+[A-Z])\b", PAGE)} - {"templates"}
    settings = {"prompt_limit_chars", "context_tokens", "api_key", "base_url", "max_tokens", "json_schema"}
    assert names | settings <= set(Settings.model_fields)
    assert all(f"`{name}`" in PAGE for name in settings)
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", PAGE):
        assert (Path(__file__).resolve().parents[2] / "docs" / link).exists(), link
