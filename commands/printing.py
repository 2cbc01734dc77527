"""What commands print for people on standard output: paths and arguments in it may not act on the terminal.

Errors and notes go through `commands.cli.say`. What is piped as data (JSON, an answer) goes through neither.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

__all__ = ["echo", "echo_path"]


def echo(line: str) -> None:
    """Print *line*, whatever is in it and whatever the terminal can show."""
    from utils.render.harmless import make_harmless

    # A diagnosis must come out on the very terminals that cannot show every character.
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    click.echo(make_harmless(line).encode(encoding, "backslashreplace").decode(encoding))


def echo_path(path: Path) -> None:
    """Print *path* alone: harmless for people, and byte for byte into a pipe, where a program takes it for a path."""
    if sys.stdout.isatty():
        echo(str(path))
    else:
        click.echo(os.fsencode(path))
