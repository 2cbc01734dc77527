"""What a shell is offered as the value of an option: names of files, packs, templates, targets and profiles.

Asked at every press of a key, so it imports little; a settings file that cannot be read offers nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click
    from click.shell_completion import CompletionItem

__all__ = ["files", "packs", "profiles", "targets", "templates"]


def files(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Files, which the shell itself knows best."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def packs(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Built-in packs, else files."""
    from utils.guardrails.packs import BUILTIN

    return _beginning(BUILTIN, incomplete) or files(ctx, parameter, incomplete)


def templates(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The user's templates, else files."""
    from utils.templates import template_names, templates_directory

    return _beginning(template_names(templates_directory(os.environ)), incomplete) or files(ctx, parameter, incomplete)


def targets(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Targets of the settings file, and the embedded model."""
    return _beginning((*_sections("targets", ctx), "embedded"), incomplete)


def profiles(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Profiles of the settings file."""
    return _beginning((*_sections("profiles", ctx), "none"), incomplete)


def _beginning(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _sections(kind: str, ctx: click.Context) -> tuple[str, ...]:
    """The names of the sections [*kind*.NAME] of the settings file that the command line means."""
    import tomllib

    from utils.settings_file import config_path

    named = ctx.params.get("config")
    path, _ = config_path(os.environ, Path(named) if named else None)
    if path is None or not path.is_file():
        return ()
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get(kind)
    except (OSError, ValueError, RecursionError):
        return ()
    return tuple(table) if isinstance(table, dict) else ()
