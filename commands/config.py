"""`config`: what the settings are and where they come from; a new settings file, and the schema of one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands import options as groups
from commands.cli import say

if TYPE_CHECKING:
    from utils.diagnosis.findings import Finding, Situation

__all__ = ["command"]


@click.group("config")
def command() -> None:
    """The settings: show them, write a file for them, or the schema of such a file.

    \b
    Examples:
      python main.py config init
      python main.py config show
      python main.py config show --profile work --json
    """


@command.command()
@groups.options(groups.MODEL, groups.CONFIGURATION)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(as_json: bool, **options: Any) -> None:
    """Tell every setting, its value and where that is from; the targets and profiles of the settings file.

    The options are those of a run: what would count there is shown. Keys are masked. Exit code 0, or that of a run
    which could not use the settings.

    \b
    Examples:
      python main.py config show
      python main.py config show -m fast
      python main.py config show --json | jq .settings.base_url
    """
    from commands.execution import flags_of
    from commands.finding_lines import print_findings
    from utils.diagnosis.examination import examine
    from utils.diagnosis.findings import Situation
    from utils.diagnosis.settings import check_names, check_settings

    config = Path(options["config"]) if options["config"] else None
    situation = Situation(flags_of(options), os.environ, config)
    findings = examine(situation, (check_settings, check_names))
    exit_code = next((finding.exit_code for finding in findings if finding.status == "fail"), 0)
    if as_json:
        _print_json(findings, situation, exit_code)
    else:
        print_findings(findings)
    click.get_current_context().exit(exit_code)


@command.command()
@click.option("--config", metavar="FILE", help="Write this file [the one that is read].")
@click.option("--force", is_flag=True, help="Overwrite what exists.")
def init(config: str | None, force: bool) -> None:
    """Write a settings file in which every setting stands as a comment, and its schema beside it, for editors.

    It changes nothing until a line is uncommented. Only you can read it (mode 0600), so it may hold keys.

    \b
    Examples:
      python main.py config init
      python main.py config init --config ./project.toml
    """
    from commands.printing import echo_path
    from utils.errors import ConfigError
    from utils.settings_file import config_path
    from utils.settings_template import write_template

    path, _ = config_path(os.environ, None if config is None else Path(config))
    if path is None:
        raise ConfigError("there is no home directory for a settings file", hint="name a file with --config FILE")
    schema = write_template(path, overwrite=force)
    echo_path(path)
    say(f"note: its schema is {schema}; `python main.py config show` tells what is in effect")


@command.command()
def schema() -> None:
    """Print the JSON schema (draft 7) of a settings file.

    `config init` writes it beside the file, whose first line tells it to editors that know TOML schemas.

    \b
    Example:
      python main.py config schema > config.schema.json
    """
    from utils.settings_template import schema_text

    click.echo(schema_text(), nl=False)


def _print_json(findings: list[Finding], situation: Situation, exit_code: int) -> None:
    import json

    from utils.diagnosis.settings import table_for_people

    loaded = situation.loaded
    tables = loaded.file if loaded is not None else None
    told = {name: {} if tables is None else getattr(tables, name) for name in ("targets", "profiles")}
    rows = [finding for finding in findings if finding.section == "settings"]
    answer = {
        "ok": exit_code == 0,
        "exit_code": exit_code,
        "file": str(loaded.config_file) if loaded is not None and loaded.config_file is not None else None,
        "target": loaded.target[0] if loaded is not None and loaded.target is not None else None,
        "settings": {
            row.name: {"value": row.detail, "origin": row.origin} for row in rows if row.origin and row.name != "target"
        },
        **{
            kind: {name: table_for_people(table, situation) for name, table in named.items()}
            for kind, named in told.items()
        },
        "problems": [row.detail for row in findings if row.status in ("warn", "fail")],
    }
    click.echo(json.dumps(answer, indent=2))
