"""`doctor`: what works here and what does not, and what to do about it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from commands.finding_lines import print_findings
from commands.packages import has_own_environment, require_packages
from commands.printing import echo

if TYPE_CHECKING:
    from utils.diagnosis.findings import Finding

__all__ = ["command"]


@click.command("doctor")
@click.option("-m", "--model", help="Examine a run with this model.")
@click.option("--base-url", metavar="URL", help="Examine a run against this server.")
@click.option("--api-key", metavar="KEY", help="Examine a run with this key; it is never shown in full.")
@click.option("--gguf", metavar="FILE", type=click.Path(path_type=Path), help="Examine a run with this model file.")
@click.option("--no-fallback", is_flag=True, help="No other target may stand in for the one that is asked.")
@click.option("--config", metavar="FILE", type=click.Path(path_type=Path), help="Settings file to use.")
@click.option("--profile", metavar="NAME", help="Profile of the settings file to use.")
@click.option("--deep", is_flag=True, help="Also start the embedded model and ask it for one token.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    model: str | None,
    base_url: str | None,
    api_key: str | None,
    gguf: Path | None,
    no_fallback: bool,
    config: Path | None,
    profile: str | None,
    deep: bool,
    as_json: bool,
) -> None:
    """Tell what works here and what does not, and what to do about it.

    A server that a run would ask is asked for its list of models, for at most 5 s. Exit code 0 if a run would work;
    else the exit code that it would end with. Keys are masked, so the output can be shown to others.

    \b
    Examples:
      python main.py doctor
      python main.py doctor --deep
      python main.py doctor --base-url http://localhost:8080/v1 --json
    """
    if has_own_environment():
        require_packages()
    from utils.diagnosis.examination import examine
    from utils.diagnosis.findings import Situation

    flags: dict[str, object] = {"model": model, "base_url": base_url, "api_key": api_key, "gguf": gguf}
    flags["profile"] = profile
    if no_fallback:
        flags["fallback_to_embedded"] = False
    findings = examine(Situation(flags, os.environ, config, deep))
    exit_code = next((finding.exit_code for finding in findings if finding.status == "fail"), 0)
    if as_json:
        _print_json(findings, exit_code)
    else:
        _print_text(findings, exit_code)
    click.get_current_context().exit(exit_code)


def _print_json(findings: list[Finding], exit_code: int) -> None:
    import dataclasses
    import json

    rows = [dataclasses.asdict(finding) for finding in findings]
    click.echo(json.dumps({"ok": exit_code == 0, "exit_code": exit_code, "findings": rows}, indent=2))


def _print_text(findings: list[Finding], exit_code: int) -> None:
    print_findings(findings)
    warnings = sum(finding.status == "warn" for finding in findings)
    conditions = "".join(f" {finding.condition}" for finding in findings if finding.condition)
    verdict = f"a run would work{conditions}" if exit_code == 0 else f"a run would not work (exit code {exit_code})"
    echo(f"{verdict}{f'; {warnings} to look at' if warnings else ''}")
