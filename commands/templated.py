"""`-t`: what a template adds to what was typed. Its settings rank right below flags, above environment and file."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from utils.errors import ConfigError, UsageProblem
from utils.run_context import EMBEDDED
from utils.settings import Loaded, Settings, load
from utils.settings_sources import from_flags
from utils.templates import Filled, Template, load_template, parameter_values

__all__ = ["load_with_template"]

_OVERRULES: Mapping[str, tuple[str, ...]] = {
    "gguf": ("model",),
    "fallback": ("fallback_to_embedded",),
    "guard": ("guardrails",),
    "failure_plan": ("simulate_failures",),
    "json_schema": ("regex", "grammar"),
    "regex": ("json_schema", "grammar"),
    "grammar": ("json_schema", "regex"),
}
"""What of a template a typed flag takes the place of, besides the setting of its own name: they exclude each other."""


def load_with_template(
    flags: Mapping[str, object],
    *,
    environ: Mapping[str, str],
    config_file: Path | None,
    template: str | None,
    parameters: Sequence[str],
) -> tuple[Loaded, Filled | None]:
    """The settings of a run, and what else it takes from *template*, filled with *parameters* (`name=value` each).

    Raises as `settings.load` and `utils.templates` do; what is wrong with a setting of the template is said of it, as a
    ConfigError.
    """
    if template is None:
        if parameters:
            raise UsageProblem("--param has no template to fill", hint="add -t NAME")
        return load(flags, environ=environ, config_file=config_file), None
    values = parameter_values(parameters)
    found = load_template(template, environ=environ, known=tuple(Settings.model_fields))
    filled = found.filled(values)
    added = _not_overruled(filled.settings, {name: v for name, v in flags.items() if v is not None and v != ()})
    try:
        loaded = load({**flags, **added}, environ=environ, config_file=config_file)
    except UsageProblem as error:
        raise _of_template(error, found, added) from None
    # "flag" is how near it is to the run.
    origins = {**loaded.origins, **dict.fromkeys(added, f"flag --template {found.label}")}
    return dataclasses.replace(loaded, origins=origins), filled


def _not_overruled(settings: Mapping[str, object], typed: Mapping[str, object]) -> dict[str, object]:
    """The *settings* of a template that hold beside what was *typed*."""
    dropped = {*typed, *(name for flag in typed for name in _OVERRULES.get(flag, ()))}
    if typed.get("guardrails") is False:
        dropped.add("guard")
    if "base_url" in typed and _is_embedded(settings.get("model")):
        dropped.add("model")
    return {name: value for name, value in settings.items() if name not in dropped}


def _is_embedded(model: object) -> bool:
    return isinstance(model, str) and model.strip().casefold() == EMBEDDED


def _of_template(error: UsageProblem, template: Template, added: Mapping[str, object]) -> UsageProblem | ConfigError:
    """*error*, which may name flags that nobody typed, with the lines of the template that they stand for."""
    message = error.message
    for name, given in from_flags(added, tuple(Settings.model_fields)).items():
        message = re.sub(rf"(?<![\w-]){re.escape(given.label)}(?![\w-])", f"{template.path}: {name}", message)
    if message == error.message:
        return error
    return ConfigError(message, hint=error.hint or "correct the template, or override the value with a flag")
