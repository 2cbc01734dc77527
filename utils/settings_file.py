"""The settings file: its top level, its `[profiles.NAME]` and its `[targets.NAME]`, read but not yet judged.

What is wrong with the file as a whole (no TOML, a name that nothing reads, a key that other users may read) is an
error even if nothing of it counts: whoever wrote it means something by it. Values are judged only where they count.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from utils.embedded_model.spec import PINNED, home_directory
from utils.errors import ConfigError
from utils.named_file import EmptyPipe, read_named
from utils.settings_sources import PATHS, Given, Source
from utils.toml_limits import TomlLimitError, toml_table
from utils.wording import mask_key_like, nearest, shown

__all__ = [
    "NAME_PATTERN",
    "NO_PROFILE",
    "TARGET_ADDRESS",
    "TARGET_SETTINGS",
    "VARIABLE_PATTERN",
    "SettingsFile",
    "Table",
    "config_path",
    "default_config_file",
    "did_you_mean",
    "read_settings_file",
]

Table = Mapping[str, Given]

TARGET_ADDRESS = ("base_url", "model", "key_env", "api_key", "gguf")
"""Where a target is and who is asked there."""
TARGET_SETTINGS = ("temperature", "max_tokens", "context_tokens", "finish_reason_optional", "resume", "rpm", "tpm")
"""Settings that a target may have of its own."""

NO_PROFILE = "none"
"""The name of no profile: `--profile none` switches off the one that the file or a variable names."""

MAX_FILE_BYTES = 1 << 20
"""A settings file is some hundred bytes; the bound keeps `--config /dev/zero` from filling the memory."""

NAME_PATTERN = "[A-Za-z0-9](?:[A-Za-z0-9_.:+-]|/(?!/)){0,99}"
"""Names of targets and profiles: what can be typed, and is no URL and no MODEL@URL."""
VARIABLE_PATTERN = "[A-Za-z_][A-Za-z0-9_]*"

_TOML_POSITION = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)\s*$")
_NAME, _VARIABLE = re.compile(NAME_PATTERN), re.compile(VARIABLE_PATTERN)
_RESERVED = {"targets": ("embedded", PINNED.name), "profiles": (NO_PROFILE,)}
_SECTIONS = (
    "sections are [targets.NAME] and [profiles.NAME]; settings stand above them, "
    'without a section, such as model = "gpt-4o-mini"'
)


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """One file. Its top level and its profiles may also name a `target`."""

    path: Path
    top: Table = field(repr=False)
    profiles: Mapping[str, Table] = field(repr=False)
    targets: Mapping[str, Table] = field(repr=False)

    def tables(self) -> Iterable[Table]:
        """The top level and every section."""
        return (self.top, *self.profiles.values(), *self.targets.values())

    def keys(self, environ: Mapping[str, str]) -> tuple[str, ...]:
        """Every key that stands in the file or in a variable that it names."""
        stated = (table["api_key"].value for table in self.tables() if "api_key" in table)
        named = (environ.get(str(table["key_env"].value), "") for table in self.targets.values() if "key_env" in table)
        return tuple(key.strip() for key in (*stated, *named) if isinstance(key, str) and key.strip())


def default_config_file(environ: Mapping[str, str]) -> Path | None:
    """`$XDG_CONFIG_HOME` or `~/.config`, then `kaygraph-streaming-llm/config.toml`; None without a home directory."""
    base = environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(base):  # the XDG specification: a relative path is to be ignored
        home = home_directory(environ)
        if home is None:
            return None
        base = os.path.join(home, ".config")
    return Path(base, "kaygraph-streaming-llm", "config.toml")


def config_path(environ: Mapping[str, str], named: Path | None) -> tuple[Path | None, bool]:
    """The settings file's path, and whether it must exist; *named* is what the user typed."""
    if named is not None:
        return named, True
    if variable := environ.get("KAYGRAPH_CONFIG", "").strip():
        return Path(os.path.expanduser(variable)), True
    return default_config_file(environ), False


def read_settings_file(
    path: Path, known: Collection[str], *, must_exist: bool, secrets: Iterable[str] = ()
) -> SettingsFile | None:
    """The TOML file at *path*; None if there is none and it need not exist. *known*: the names of all settings.

    A relative path in it is relative to the file. *secrets* are hidden in errors, as are the file's own keys.
    Raises: ConfigError for everything that is wrong with the file as a whole.
    """
    content = _read(path, must_exist=must_exist)
    if content is None:
        return None
    data, mode = content
    root = _parse(path, data)
    secrets = (*secrets, *_stated_keys(root))
    sections = {
        kind: _sections(path, kind, root.pop(kind), secrets) if kind in root else {} for kind in ("profiles", "targets")
    }
    in_profile = [name for name in known if name != "profile"]
    file = SettingsFile(
        path,
        _table(path, "", root, (*known, "target"), "file", secrets),
        _tables(path, "profiles", sections["profiles"], (*in_profile, "target"), secrets),
        _tables(path, "targets", sections["targets"], (*TARGET_ADDRESS, *TARGET_SETTINGS), secrets),
    )
    for name, table in file.targets.items():
        _check_target(f"{path}: [targets.{name}]", table, secrets)
    _check_mode(file, mode)
    return file


def did_you_mean(name: str, names: Collection[str], *, none: str) -> str:
    """The hint about a *name* that is not among *names*: the nearest and the list; *none* if there are no names."""
    if not names:
        return none
    guess = nearest(name, names)
    listed = f"it has {', '.join(names)}"
    return f"did you mean {guess}? {listed}" if guess else listed


# -- sections --------------------------------------------------------------------------------------------------------


def _sections(path: Path, kind: str, tables: object, secrets: Iterable[str]) -> dict[str, dict[str, object]]:
    """The tables under *kind*, by name."""
    example = f"write [{kind}.NAME], and below it lines such as model = 'gpt-4o-mini'"
    if not isinstance(tables, dict):
        raise ConfigError(f"{path}: {kind} is no section with a name", hint=example)
    for name, table in tables.items():
        place = f"{path}: [{kind}.{shown(name, secrets)[1:-1]}]"
        if not isinstance(table, dict):
            raise ConfigError(f"{place} is no section", hint=example)
        if not _NAME.fullmatch(name) or name.casefold() in _RESERVED[kind]:
            reason = "has a name that means something else" if _NAME.fullmatch(name) else "has an unusable name"
            raise ConfigError(f"{place} {reason}", hint="choose another one, of letters, digits and . _ : + / -")
    return tables


def _tables(
    path: Path, kind: str, sections: Mapping[str, dict[str, object]], known: Collection[str], secrets: Iterable[str]
) -> Mapping[str, Table]:
    source: Source = "profile" if kind == "profiles" else "target"
    return MappingProxyType(
        {name: _table(path, f"{kind}.{name}", table, known, source, secrets) for name, table in sections.items()}
    )


def _table(
    path: Path,
    section: str,
    table: Mapping[str, object],
    known: Collection[str],
    source: Source,
    secrets: Iterable[str],
) -> Table:
    """The values of one table, with paths as seen from the file. Raises: ConfigError for a name that nothing reads."""
    given = {}
    for name, value in table.items():
        if _is_table(value):
            raise _no_section(path, section, name, secrets)
        if name not in known:
            raise _unknown(path, section, name, known, secrets)
        if name in PATHS and isinstance(value, str) and value:
            value = _beside(path, value)
        if name == "guard" and isinstance(value, list | str):
            # A name without a slash or an ending is that of a built-in pack.
            value = [
                _beside(path, pack) if isinstance(pack, str) and ("/" in pack or pack.endswith(".toml")) else pack
                for pack in ([value] if isinstance(value, str) else value)
            ]
        given[name] = Given(name, value, source, f"{path}: {section}" if section else str(path))
    return MappingProxyType(given)


def _no_section(path: Path, section: str, name: str, secrets: Iterable[str]) -> ConfigError:
    told = shown(name, secrets)[1:-1]
    if not section:
        guess = nearest(name, ("targets", "profiles"))
        hint = f"did you mean [{guess}.NAME]?" if guess else _SECTIONS
        return ConfigError(f"{path}: unknown section [{told}]", hint=hint)
    kind, _, head = section.partition(".")
    hint = f'a name with a dot stands in quotes: [{kind}."{head}.{told}"]'
    return ConfigError(f"{path}: unknown section [{section}.{told}]", hint=hint)


def _unknown(path: Path, section: str, name: str, known: Collection[str], secrets: Iterable[str]) -> ConfigError:
    where = f" in [{section}]" if section else ""
    guess = nearest(name, known)
    hint = f"did you mean {guess}?" if guess else f"known settings: {', '.join(known)}"
    if section and name == "profile":
        hint = "a profile names no other; set it at the top level, or type --profile"
    elif section.startswith("targets.") and not guess:
        hint = f"a target has {', '.join(known)}; other settings stand above the first section, or in a profile"
    return ConfigError(f"{path}: unknown setting {shown(name, secrets)}{where}", hint=hint)


def _check_target(place: str, table: Table, secrets: Iterable[str]) -> None:
    """Raises: ConfigError for what no target can be."""
    if not table.keys() & {"base_url", "model", "gguf"}:
        raise ConfigError(f"{place} names nothing to ask", hint="give it a model, a base_url, or both; or a gguf file")
    others = [name for name in ("base_url", "model", "key_env", "api_key") if name in table]
    if "gguf" in table and others:
        hint = "drop one of them; a file runs here, without a server, a key and another name"
        raise ConfigError(f"{place}: gguf and {others[0]} exclude each other", hint=hint)
    if "key_env" in table and "api_key" in table:
        raise ConfigError(f"{place}: key_env and api_key exclude each other", hint="drop one of them")
    if "key_env" in table:
        variable = table["key_env"].value
        # Whoever writes the key itself there must not see it on the screen.
        if not isinstance(variable, str) or not _VARIABLE.fullmatch(variable) or mask_key_like(variable) != variable:
            hint = 'write its name, such as key_env = "FAST_API_KEY", and export the key under that name'
            raise ConfigError(f"{place}: key_env must be the name of an environment variable", hint=hint)


def _check_mode(file: SettingsFile, mode: int) -> None:
    if os.name != "posix" or not mode & 0o077 or not any("api_key" in table for table in file.tables()):
        return
    instead = "remove api_key and set OPENAI_API_KEY"
    if "api_key" not in file.top:
        instead = "name an environment variable with key_env in [targets.NAME]"
    raise ConfigError(
        f"{file.path}: holds api_key, but other users may read the file (mode {mode:04o})",
        hint=f"run chmod 600 {shlex.quote(str(file.path))}, or {instead}",
    )


def _stated_keys(root: Mapping[str, object]) -> list[str]:
    """Every text under the name api_key, wherever it stands."""
    tables: list[object] = [root]
    for kind in ("profiles", "targets"):
        section = root.get(kind)
        tables += section.values() if isinstance(section, dict) else []
    keys = (table.get("api_key") for table in tables if isinstance(table, dict))
    return [key.strip() for key in keys if isinstance(key, str) and key.strip()]


def _beside(path: Path, name: str) -> str:
    return str(path.absolute().parent / os.path.expanduser(name))


def _is_table(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict) for item in value))


# -- bytes -----------------------------------------------------------------------------------------------------------


def _read(path: Path, *, must_exist: bool) -> tuple[bytes, int] | None:
    try:
        data, mode = read_named(path, MAX_FILE_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        if not must_exist:
            return None
        raise ConfigError(
            f"{path}: no such file",
            hint='correct the path or leave it out; a settings file has lines such as model = "gpt-4o-mini"',
        ) from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a directory, not a settings file", hint="name the TOML file in it") from None
    except PermissionError:
        raise ConfigError(
            f"{path}: cannot be read: permission denied", hint=f"check ls -l {shlex.quote(str(path))}"
        ) from None
    except EmptyPipe:
        raise ConfigError(f"{path}: is a pipe without content", hint="name another file with --config") from None
    except (OSError, ValueError) as exc:
        reason = (exc.strerror if isinstance(exc, OSError) else "") or "not a usable path"
        raise ConfigError(f"{str(path)!r}: cannot be read: {reason}", hint="name another file with --config") from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(
            f"{path}: is larger than 1 MiB, so it is no settings file", hint="name another file with --config"
        )
    return data, mode


def _parse(path: Path, data: bytes) -> dict[str, object]:
    try:
        text = data.decode("utf-8-sig")  # some editors put a byte order mark there
    except UnicodeDecodeError as exc:
        raise ConfigError(
            f"{path}: is not UTF-8 text (byte 0x{data[exc.start]:02x} at offset {exc.start})",
            hint="save it as UTF-8, or name another file with --config",
        ) from None
    if "\0" in text:
        raise ConfigError(f"{path}: is a binary file, not TOML", hint="name another file with --config")
    try:
        return toml_table(text)
    except TomlLimitError as exc:
        raise ConfigError(f"{path}: {exc}", hint="a settings file is a flat list of `name = value`") from None
    except ValueError as exc:  # also what `int` raises for a number of thousands of digits
        found = _TOML_POSITION.search(str(exc))
        reason = mask_key_like(str(exc)[: found.start()] if found else "a value cannot be used")
        line, column = (found[1], found[2]) if found and found[1] else _end_of(text)
        where = f", line {line}, column {column}" if found else ""
        raise ConfigError(
            f"{path}{where}: not TOML: {reason}",
            hint='each line is `name = value`; text stands in quotes: model = "gpt-4o"',
        ) from None


def _end_of(text: str) -> tuple[int, int]:
    return text.count("\n") + 1, len(text) - text.rfind("\n")
