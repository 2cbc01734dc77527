"""Every command that a text of the program names exists."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"python main\.py +([a-z][\w-]*)(?: +([a-z][\w-]*))?")


def texts() -> Iterator[tuple[str, str]]:
    """Every string literal of the sources, docstrings and the parts of f-strings included, with its place."""
    for name in ("main.py", "flow.py", "nodes.py", "commands", "kaygraph", "utils"):
        for path in sorted((ROOT / name).rglob("*.py")) or [ROOT / name]:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node.value


def missing(text: str) -> list[str]:
    """What *text* names after `python main.py` and is no command, or no subcommand of its group."""
    wrong = []
    for match in NAMED.finditer(text):
        first, second = match.groups()
        if first not in COMMANDS:
            wrong.append(first)
            continue
        command = importlib.import_module(COMMANDS[first][0]).command
        if isinstance(command, click.Group) and second is not None and second not in command.commands:
            wrong.append(f"{first} {second}")
    return wrong


def test_every_command_that_a_text_names_exists() -> None:
    found = list(texts())
    named = [(place, wrong) for place, text in found for wrong in missing(text)]
    assert named == []
    assert sum(bool(NAMED.search(text)) for _, text in found) > 5, "texts that name commands were found"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("`python main.py konfig init` writes one", ["konfig"]),
        ("run `python main.py model fetsch`", ["model fetsch"]),
        ("`python main.py model fetch` or python main.py doctor now", []),
        ('python main.py "What is it?"\npython main.py --json', []),
    ],
)
def test_a_command_that_does_not_exist_is_found(text: str, wrong: list[str]) -> None:
    assert missing(text) == wrong
