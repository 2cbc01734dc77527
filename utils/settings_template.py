"""A new settings file: every setting as a comment, so that it changes nothing until somebody says so."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from urllib.parse import quote

from utils.errors import ConfigError
from utils.settings_schema import settings_schema
from utils.settings_table import TABLE, as_toml, default_of, sections

__all__ = ["schema_text", "template", "write_template"]

_HEAD = """\
# Settings of `python main.py`. A line counts when its `#` is taken away. What is typed wins over the environment, that
# over a profile, that over these lines. `python main.py config show` tells what is in effect and where it is from.
"""

_NAMES = """
# -- Targets: models and servers with a name, for `--model fast`, `--fallback fast` and `/model fast` in a chat.
# The key stands in an environment variable, so that this file holds none; it goes to this server only.

#[targets.fast]
#base_url = "https://api.example.com/v1"
#model = "small-model"
#key_env = "FAST_API_KEY"
#temperature = 0.2

#[targets.local]
#base_url = "http://127.0.0.1:11434/v1"
#model = "llama3.2"
#context_tokens = 8192

# -- Profiles: settings for an occasion, for `--profile work`. They win over the lines above.

#[profiles.work]
#target = "fast"
#fallback = ["local"]
#guardrails = true
"""


def template(schema: str) -> str:
    """The text of the file; *schema*: the path of its schema as seen from it."""
    lines = [f"#:schema {schema}", _HEAD]
    for section, names in sections().items():
        lines.append(f"# -- {section}")
        for name in names:
            about, default = TABLE[name], default_of(name)
            example = about.example if default in (None, []) else default
            lines += ["", f"# {about.what}.", f"#{name} = {as_toml(example)}"]
        lines.append("")
    return "\n".join(lines) + _NAMES


def schema_text() -> str:
    """The schema as it is written beside the file."""
    return json.dumps(settings_schema(), indent=2) + "\n"


def write_template(path: Path, *, overwrite: bool = False) -> Path:
    """Write the template to *path* and its schema beside it; only the user may read the former. The schema's path.

    Raises: ConfigError if one of them exists and may not be overwritten, or cannot be written.
    """
    try:
        schema = path.with_suffix(".schema.json")
        texts = {schema: schema_text(), path: template(f"./{quote(schema.name)}")}
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for place, text in texts.items():
            if not overwrite and os.path.lexists(place) and not (place == schema and _is_same(place, text)):
                raise ConfigError(
                    f"{place}: exists already", hint="--force overwrites it, or name another file with --config"
                )
        for place, text in texts.items():
            _write(place, text, mode=0o600 if place == path else 0o644, overwrite=overwrite or place == schema)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else "") or "not a usable path"
        hint = "name another file with --config"
        raise ConfigError(f"{str(path)!r}: cannot be written: {reason}", hint=hint) from None
    return schema


def _is_same(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == text
    except (OSError, UnicodeDecodeError):
        return False


def _write(path: Path, text: str, *, mode: int, overwrite: bool) -> None:
    """An old file is replaced as a whole, also behind a symbolic link; a new one must still be new."""
    target = Path(os.path.realpath(path)) if overwrite else path
    written = target.with_name(f".{target.name}.{secrets.token_hex(4)}") if overwrite else target
    # The mode from the beginning: a key may be written into it at once.
    with open(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        file.write(text)
    if overwrite:
        os.replace(written, target)
