"""Findings as lines for people: `doctor` and `config show`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from commands.printing import echo

if TYPE_CHECKING:
    from utils.diagnosis.findings import Finding

__all__ = ["print_findings"]

INDENT = 30
"""Columns before the text of a finding."""

MIN_TEXT_COLUMNS = 30


def print_findings(findings: Iterable[Finding]) -> None:
    """Every finding, by section."""
    section = ""
    for finding in findings:
        if finding.section != section:
            section = finding.section
            echo(f"{section}:")
        status = "" if finding.status == "info" else finding.status
        origin = f"  ({finding.origin})" if finding.origin else ""
        lines = [*finding.detail.splitlines(), *([f"-> {finding.hint}"] if finding.hint else [])] or [""]
        lines[0] += origin
        first, *more = [part for line in lines for part in _wrapped(line)]
        echo(f"  {status:<5}{finding.name:<23}{first}")
        for line in more:
            echo(f"{'':<{INDENT}}{line}")


def _wrapped(line: str) -> list[str]:
    """*line* as it fits on the terminal; whole where it is not a terminal, so that it can be searched."""
    import shutil
    import textwrap

    if not sys.stdout.isatty():
        return [line]
    width = max(shutil.get_terminal_size().columns - 1 - INDENT, MIN_TEXT_COLUMNS)
    # Paths and commands stay whole, or they could not be copied.
    return textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]
