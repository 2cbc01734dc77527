"""The page about chat: its tables are the program's, its file loads, its options and settings exist."""

from __future__ import annotations

import re
from pathlib import Path

import main
from commands.chat_commands import COMMANDS
from commands.chat_signals import TWICE_S
from tests.docs.test_readme import options_of, run_options
from utils import conversation
from utils.conversation import Conversation, Exchange
from utils.errors import Cancelled, ConfigError, OutputClosed, Terminated, UsageProblem
from utils.render import chat_input
from utils.settings import Settings
from utils.state_store import state_directory

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "chat.md").read_text(encoding="utf-8")


def test_the_table_of_commands_is_the_programs() -> None:
    rows = []
    for name, (argument, what) in COMMANDS.items():
        typed = f"/{name} {argument}".rstrip().replace("|", r"\|")
        rows.append(f"| `{typed}` | {what} |")
    assert "\n".join(["| command | what it does |", "|---|---|", *rows, ""]) in PAGE
    assert set(re.findall(r"`/([a-z]+)", PAGE)) - {"etc"} <= set(COMMANDS)


def test_every_option_and_setting_that_the_page_names_exists() -> None:
    command = main.cli.get_command(None, "chat")  # type: ignore[arg-type]
    named = set(re.findall(r"(?<![-\w])--[a-z][a-z-]+", PAGE))
    assert named <= options_of(command) | {"--enable-guardrails"}
    assert named <= run_options()
    assert "context_tokens" in Settings.model_fields
    assert str(state_directory({"HOME": "/h"})).replace("/h", "~") in PAGE


def test_the_saved_file_on_the_page_loads() -> None:
    example = re.search(r"```json\n(.*?)```", PAGE, re.S)
    assert example is not None
    assert Conversation.from_json(example.group(1), name="f").exchanges == [Exchange("Hi.", "Hello!")]


def test_the_numbers_on_the_page_are_the_programs() -> None:
    assert TWICE_S == 1
    assert "within a second leaves" in PAGE
    assert f"the newest {chat_input._KEPT_INPUTS:,} are read" in PAGE
    assert conversation._MAX_CORRECTION == 4
    assert "(up to four times)" in PAGE
    assert conversation._REFUSED_SHARE == 9 / 10
    assert "9/10 of what was refused" in PAGE
    for cause in (Cancelled, OutputClosed, Terminated, UsageProblem, ConfigError):
        assert re.search(rf"^\|[^|]*\b{cause.exit_code}\b", PAGE, re.M), cause
