"""The JSON schema of a settings file, for editors: derived from `Settings`, so that it knows what a run accepts.

TOML has no null, a single text may stand for a list, and an editor ignores what it does not know: the schema keeps to
what draft 7 says.
"""

from __future__ import annotations

from typing import Any

from utils.settings_file import NAME_PATTERN, TARGET_ADDRESS, TARGET_SETTINGS, VARIABLE_PATTERN
from utils.settings_model import Settings, json_properties
from utils.settings_sources import LISTS
from utils.settings_table import KEY_ENV, TABLE, default_of

__all__ = ["settings_schema"]

Schema = dict[str, Any]


def settings_schema() -> Schema:
    """The schema as a JSON-ready mapping."""
    settings = {name: _of_setting(name, derived) for name, derived in json_properties().items()}
    target_name: Schema = {
        "type": "string",
        "pattern": f"^{NAME_PATTERN}$",
        "description": "The target that is asked: the NAME of a [targets.NAME] of this file.",
    }
    profile = {name: _inherited(schema) for name, schema in settings.items() if name != "profile"}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Settings of KayGraph Streaming LLM",
        "type": "object",
        "properties": {
            **settings,
            "target": target_name,
            "profiles": _by_name("Tables of settings: `--profile NAME` chooses one.", _table(profile, target_name)),
            "targets": _by_name("Models and servers with a name, for `--model NAME`.", _target(settings)),
        },
        "additionalProperties": False,
    }


def _of_setting(name: str, derived: Schema) -> Schema:
    """What pydantic *derived*, as it concerns a file."""
    schema = {key: value for key, value in derived.items() if key not in ("title", "default", "description", "anyOf")}
    for option in derived.get("anyOf", ()):
        if option != {"type": "null"}:
            schema |= option
    # How a file is found and a key is hidden is no business of an editor.
    schema.pop("format", None)
    schema.pop("writeOnly", None)
    if schema.get("type") == "array" and "maxLength" in schema:
        schema["maxItems"] = schema.pop("maxLength")
    if name in LISTS:
        schema = {"anyOf": [schema, schema["items"]]}
    demand = Settings.model_fields[name].description
    schema["description"] = f"{TABLE[name].what}. Must be {demand}."
    default = default_of(name)
    return schema if default in (None, []) else {**schema, "default": default}


def _inherited(schema: Schema) -> Schema:
    """Where a value is left out, that of another place counts, not the default."""
    return {key: value for key, value in schema.items() if key != "default"}


def _table(properties: dict[str, Schema], target_name: Schema) -> Schema:
    return {"type": "object", "properties": {**properties, "target": target_name}, "additionalProperties": False}


def _target(settings: dict[str, Schema]) -> Schema:
    properties = {name: _inherited(settings[name]) for name in (*TARGET_ADDRESS, *TARGET_SETTINGS) if name in settings}
    properties["model"] = {**properties["model"], "description": "Model to ask there."}
    properties["key_env"] = {"type": "string", "pattern": f"^{VARIABLE_PATTERN}$", "description": f"{KEY_ENV}."}
    others = [name for name in TARGET_ADDRESS if name != "gguf"]
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "anyOf": [
            {"required": ["model"], "not": {"required": ["gguf"]}},
            {"required": ["base_url"], "not": {"required": ["gguf"]}},
            {"required": ["gguf"], "not": {"anyOf": [{"required": [name]} for name in others]}},
        ],
        "not": {"required": ["key_env", "api_key"]},
    }


def _by_name(description: str, table: Schema) -> Schema:
    return {
        "type": "object",
        "description": description,
        "propertyNames": {"pattern": f"^{NAME_PATTERN}$"},
        "additionalProperties": table,
    }
