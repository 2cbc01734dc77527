"""The settings file, the variables, the value in effect and origin of every setting; the names that the file has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from utils.diagnosis.findings import Finding, Situation

if TYPE_CHECKING:
    from utils.settings_file import SettingsFile, Table

__all__ = ["check_names", "check_settings", "table_for_people"]


def check_settings(situation: Situation) -> Iterator[Finding]:
    """The settings file, the variables, and the value in effect and origin of every setting."""
    from utils.errors import AppError
    from utils.settings import Settings, in_effect, load
    from utils.settings_file import default_config_file
    from utils.targets import choose_target

    loaded = load(situation.flags, environ=situation.environ, config_file=situation.config_file)
    situation.loaded = loaded
    if loaded.config_file is not None:
        yield Finding("settings", "file", "ok", str(loaded.config_file))
    else:
        default = default_config_file(situation.environ)
        yield Finding("settings", "file", "info", f"none (looked for {default})" if default else "none")
    for warning in loaded.warnings:
        yield Finding("settings", "environment", "warn", warning)
    try:
        target = choose_target(loaded.settings, origins=loaded.origins).target
    except AppError:  # told by the check of the target
        target = None
    if loaded.target is not None:
        name, origin = loaded.target
        yield Finding("settings", "target", "info", name, origin=origin)
    for name in Settings.model_fields:
        value, origin = in_effect(loaded, name, target=target)
        yield Finding("settings", name, "info", value, origin=origin)


def check_names(situation: Situation) -> Iterator[Finding]:
    """The targets and profiles of the file, also those that are not used; what is wrong with one is a warning."""
    if situation.loaded is None or situation.loaded.file is None:
        return
    from utils.settings import problems_of

    file = situation.loaded.file
    for section, tables in (("targets", file.targets), ("profiles", file.profiles)):
        for name, table in tables.items():
            rows = table_for_people(table, situation)
            detail = ", ".join(f"{key} {value}" for key, value in rows.items()) or "nothing"
            problems = [*problems_of(table, situation.secrets), *_unknown_target(file, table)]
            if problems:
                yield Finding(section, name, "warn", "\n".join((detail, *problems)))
            else:
                yield Finding(section, name, "info", detail)


def table_for_people(table: Table, situation: Situation) -> dict[str, str]:
    """The values of a target or a profile, by name: keys masked, the system prompt only by its length."""
    from utils.wording import mask_key, mask_key_like, url_for_people

    rows = {}
    for name, given in table.items():
        value, told = given.value, str(given.value)
        if name == "api_key":
            told = mask_key(told.strip())
        elif name == "key_env":
            key = situation.environ.get(told, "").strip()
            told += f" ({mask_key(key) if key else 'not set'})"
        elif name == "system":
            told = f"{len(told)} characters"
        elif isinstance(value, bool):
            told = told.lower()
        elif isinstance(value, list):
            told = " + ".join(map(str, value)) or "none"
        rows[name] = mask_key_like(url_for_people(told) if name in ("base_url", "otel") else told, situation.secrets)
    return rows


def _unknown_target(file: SettingsFile, table: Table) -> list[str]:
    given = table.get("target")
    if given is None or given.value in file.targets:
        return []
    return [f"{given.place} names no target of this file"]
