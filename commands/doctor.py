"""`doctor`: what works here and what does not, and what to do about it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from commands.packages import has_own_environment, require_packages

if TYPE_CHECKING:
    from utils.diagnosis.findings import Finding

__all__ = ["command"]

INDENT = 30
"""Columns before the text of a finding."""

MIN_TEXT_COLUMNS = 30


@click.command("doctor")
@click.option("-m", "--model", help="Examine a run with this model.")
@click.option("--base-url", metavar="URL", help="Examine a run against this server.")
@click.option("--api-key", metavar="KEY", help="Examine a run with this key; it is never shown in full.")
@click.option("--gguf", metavar="FILE", type=click.Path(path_type=Path), help="Examine a run with this model file.")
@click.option("--no-fallback", is_flag=True, help="No other target may stand in for the one that is asked.")
@click.option("--config", metavar="FILE", type=click.Path(path_type=Path), help="Settings file to use.")
@click.option("--deep", is_flag=True, help="Also start the embedded model and ask it for one token.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    model: str | None,
    base_url: str | None,
    api_key: str | None,
    gguf: Path | None,
    no_fallback: bool,
    config: Path | None,
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
    section = ""
    for finding in findings:
        if finding.section != section:
            section = finding.section
            _echo(f"{section}:")
        status = "" if finding.status == "info" else finding.status
        origin = f"  ({finding.origin})" if finding.origin else ""
        lines = [*finding.detail.splitlines(), *([f"-> {finding.hint}"] if finding.hint else [])] or [""]
        lines[0] += origin
        first, *more = [part for line in lines for part in _wrapped(line)]
        _echo(f"  {status:<5}{finding.name:<23}{first}")
        for line in more:
            _echo(f"{'':<{INDENT}}{line}")
    warnings = sum(finding.status == "warn" for finding in findings)
    conditions = "".join(f" {finding.condition}" for finding in findings if finding.condition)
    verdict = f"a run would work{conditions}" if exit_code == 0 else f"a run would not work (exit code {exit_code})"
    _echo(f"{verdict}{f'; {warnings} to look at' if warnings else ''}")


def _wrapped(line: str) -> list[str]:
    """*line* as it fits on the terminal; whole where it is not a terminal, so that it can be searched."""
    import shutil
    import textwrap

    if not sys.stdout.isatty():
        return [line]
    width = max(shutil.get_terminal_size().columns - 1 - INDENT, MIN_TEXT_COLUMNS)
    # Paths and commands stay whole, or they could not be copied.
    return textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]


def _echo(line: str) -> None:
    # A diagnosis must come out on the very terminals that cannot show every character.
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    click.echo(line.encode(encoding, "backslashreplace").decode(encoding))
