"""The page about configuration: its tables are the program's, its file loads, what it names exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

import main
from tests.docs.test_readme import options_of, run_options
from utils.settings import Settings, load
from utils.settings_table import TABLE, markdown_table, markdown_target_table, sections
from utils.targets import choose_target

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")


def test_the_tables_are_the_programs() -> None:
    assert f"\n\n{markdown_table()}\n\n" in PAGE
    assert f"\n\n{markdown_target_table()}\n" in PAGE


def test_every_setting_has_its_row_and_every_section_stands_together() -> None:
    assert TABLE.keys() == Settings.model_fields.keys()
    assert list(TABLE) == [name for names in sections().values() for name in names]


def test_the_options_of_the_table_are_those_that_set_the_setting() -> None:
    from commands.execution import flags_of

    command: Any = main.cli.get_command(None, "run")  # type: ignore[arg-type]
    unset = {parameter.name: None for parameter in command.params}
    found: dict[str, set[str]] = {}
    for parameter in command.params:
        for option in (*parameter.opts, *parameter.secondary_opts):
            value = option not in parameter.secondary_opts
            changed = {
                name for name, set_to in flags_of({**unset, parameter.name: value}).items() if set_to is not None
            }
            if option.startswith("--") and changed:
                [name] = changed
                found.setdefault(name, set()).add(option)
    assert found == {name: set(about.flag.split(", ")) for name, about in TABLE.items() if about.flag}


def test_the_file_on_the_page_asks_whom_the_page_says(tmp_path: Path) -> None:
    example = re.search(r"```toml\n(.*?)```", PAGE, re.S)
    assert example is not None
    path = tmp_path / "config.toml"
    path.write_text(example.group(1), encoding="utf-8")
    environ = {"FAST_API_KEY": "fast-0123456789"}
    for flags, model in (({}, "llama3.2"), ({"model": "fast"}, "small-model"), ({"profile": "work"}, "small-model")):
        loaded = load(flags, environ=environ, config_file=path)
        assert choose_target(loaded.settings, origins=loaded.origins).target.model == model
        assert loaded.warnings == ()


def test_every_option_and_variable_that_the_page_names_exists() -> None:
    group: Any = main.cli.get_command(None, "config")  # type: ignore[arg-type]
    assert isinstance(group, click.Group)
    of_config = {option for command in group.commands.values() for option in options_of(command)}
    named = set(re.findall(r"(?<![-\w])--[a-z][a-z-]+", PAGE))
    assert named <= run_options() | of_config
    names = set(re.findall(r"KAYGRAPH_([A-Z_]+[A-Z])\b", PAGE)) - {"CACHE_DIR", "STATE_DIR", "CONFIG", "DEBUG"}
    assert {name.lower() for name in names} == set(Settings.model_fields)
