"""Templates: a prompt with places to fill, and the settings that go with it, in a TOML file. Nothing here is printed.

    prompt = "Translate into $language:\n$input"      # $input: PROMPT and piped text; $$ is a dollar
    system = "You translate $style texts."
    temperature = 0                                    # any setting but the key
    extract = true                                     # as -x
    [defaults]
    style = "technical"

A name stands for a file in the directory of templates and cannot lead out of it; what has a slash or ends in `.toml`
is a path. What is filled in is not looked through again, so a text with a `$` stays as it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from utils.errors import ConfigError, UsageProblem
from utils.named_file import EmptyPipe, read_named
from utils.settings_file import default_config_file
from utils.settings_sources import PATHS
from utils.toml_limits import TomlLimitError, toml_table
from utils.wording import mask_key_like, nearest, shown

__all__ = [
    "VARIABLE",
    "Filled",
    "FilledPrompt",
    "Template",
    "load_template",
    "parameter_values",
    "template_names",
    "templates_directory",
]

VARIABLE = "KAYGRAPH_TEMPLATES"
"""The environment variable that names the directory of templates."""

MAX_FILE_BYTES = 1 << 20
INPUT = "input"

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DOLLAR = re.compile(rf"\$(?:(?P<dollar>\$)|(?P<plain>{_PARAMETER.pattern})|\{{(?P<braced>{_PARAMETER.pattern})\}}|)")
_POSITION = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)\s*$")
_OWN_KEYS = ("prompt", "system", "defaults", "extract")
_LISTED = 20


@dataclass(frozen=True, slots=True)
class FilledPrompt:
    """The prompt of template *name*, all of it filled in but the input."""

    name: str
    pieces: tuple[str, ...] = field(repr=False)
    """What stands between the places of the input."""
    default: str | None = field(default=None, repr=False)
    """The input if none is given."""

    @property
    def takes_input(self) -> bool:
        """Whether the input has a place in it."""
        return len(self.pieces) > 1

    @property
    def needs_input(self) -> bool:
        """Whether there is nothing to ask without input."""
        return self.takes_input and self.default is None

    def text(self, given: str) -> str:
        """The prompt with *given* for the input."""
        return (given if given.strip() or self.default is None else self.default).join(self.pieces)


@dataclass(frozen=True, slots=True)
class Filled:
    """What a run takes from a template: its prompt (None: it has none), its settings, whether code is extracted."""

    prompt: FilledPrompt | None
    settings: Mapping[str, object] = field(repr=False)
    extract: bool | None


@dataclass(frozen=True, slots=True)
class Template:
    """A checked template. *label* names it to people; *prompt* and *system*: literals and names by turns."""

    label: str
    path: Path
    prompt: tuple[str, ...] | None = field(repr=False)
    system: tuple[str, ...] | None = field(repr=False)
    defaults: Mapping[str, str] = field(repr=False)
    settings: Mapping[str, object] = field(repr=False)
    extract: bool | None

    @property
    def parameters(self) -> list[str]:
        """The names to fill in, in the order of their first places; without `input`."""
        names = [*(self.prompt or ())[1::2], *(self.system or ())[1::2]]
        return [name for name in dict.fromkeys(names) if name != INPUT]

    def filled(self, values: Mapping[str, str]) -> Filled:
        """With *values* for the parameters. Raises UsageProblem for one that is missing or that there is not."""
        wanted = self.parameters
        for name in values:
            if name == INPUT:
                raise UsageProblem("-P input=... cannot be given", hint="the input is PROMPT, or what is piped")
            if name not in wanted:
                guess = nearest(name, wanted)
                known = f"it takes {', '.join(wanted)}" if wanted else "it takes none"
                hint = f"did you mean {guess}?" if guess else known
                raise UsageProblem(f"the template {self.label!r} has no parameter {shown(name)}", hint=hint)
        everything = {**self.defaults, **values}
        if missing := [name for name in wanted if name not in everything]:
            raise UsageProblem(
                f"the template {self.label!r} needs a value for {', '.join(missing)}",
                hint=" ".join(f"-P {name}=VALUE" for name in missing),
            )
        settings = dict(self.settings)
        if self.system is not None:
            settings["system"] = "".join(_fill(self.system, everything))
        prompt = None
        if self.prompt is not None:
            prompt = FilledPrompt(self.label, tuple(_between_inputs(self.prompt, everything)), self.defaults.get(INPUT))
        return Filled(prompt, settings, self.extract)


def templates_directory(environ: Mapping[str, str]) -> Path | None:
    """`$KAYGRAPH_TEMPLATES`, else `templates` beside the settings file in its usual place; None without a home."""
    if named := environ.get(VARIABLE, "").strip():
        return Path(os.path.expanduser(named))
    file = default_config_file(environ)
    return None if file is None else file.parent / "templates"


def load_template(name: str, *, environ: Mapping[str, str], known: Collection[str]) -> Template:
    """The template called *name*, or in the file *name*; *known*: the names of the settings.

    Raises: UsageProblem if there is none, ConfigError for everything that is wrong with its file.
    """
    if "/" in name or os.sep in name or name.endswith(".toml"):
        path = Path(os.path.expanduser(name))
        data = _read(path)
        if data is None:
            raise UsageProblem(f"the template {name!r} does not exist", hint=_path_hint(name, environ))
    else:
        directory = templates_directory(environ)
        if directory is None:
            raise UsageProblem("there is no directory of templates: no home directory", hint=f"set {VARIABLE}")
        if not _NAME.fullmatch(name):
            hint = "a name has letters, digits, `_`, `-` and dots; a path has a slash"
            raise UsageProblem(f"{shown(name)} is no name of a template", hint=hint)
        path = directory / f"{name}.toml"
        data = _read(path)
        if data is None:
            raise UsageProblem(f"there is no template {name!r} in {directory}", hint=_unknown_hint(name, directory))
    return _checked(name, path, _table(path, data), known)


def parameter_values(texts: Sequence[str]) -> dict[str, str]:
    """`name=value` each. Raises UsageProblem for what has another form, and for a name that is there twice."""
    values: dict[str, str] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not _PARAMETER.fullmatch(name):
            raise UsageProblem(f"--param {shown(text)} is not of the form name=value", hint="for example -P lang=Welsh")
        if name in values:
            raise UsageProblem(f"--param {name} was given twice", hint="give one value")
        values[name] = value
    return values


def template_names(directory: Path | None) -> list[str]:
    """The names of the templates in *directory*, sorted; none if it cannot be read."""
    try:
        files = [] if directory is None else os.listdir(directory)
    except OSError:
        return []
    stems = (file.removesuffix(".toml") for file in files if file.endswith(".toml"))
    return sorted(stem for stem in stems if _NAME.fullmatch(stem))


def _unknown_hint(name: str, directory: Path) -> str:
    names = template_names(directory)
    if not names:
        return f"write {directory / f'{name}.toml'}; there is none in that directory yet"
    guess = nearest(name, names)
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    listed = f"templates there: {', '.join(names[:_LISTED])}{more}"
    return f"did you mean {guess}? {listed}" if guess else listed


def _path_hint(name: str, environ: Mapping[str, str]) -> str:
    directory = templates_directory(environ)
    if "/" not in name and directory is not None and (directory / name).is_file():
        return f"-t {name.removesuffix('.toml')} takes it from {directory}"
    return "check the path, or give a name"


def _read(path: Path) -> bytes | None:
    try:
        data, _ = read_named(path, MAX_FILE_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a directory, not a template", hint="name the TOML file in it") from None
    except EmptyPipe:
        raise ConfigError(f"{path}: is a pipe without content", hint="name another template") from None
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else "") or "not a usable path"
        raise ConfigError(f"{str(path)!r}: cannot be read: {reason}", hint="name another template") from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: is larger than 1 MiB, so it is no template", hint="name another template")
    return data


def _table(path: Path, data: bytes) -> dict[str, object]:
    try:
        return toml_table(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text", hint="save it as UTF-8") from None
    except TomlLimitError as error:
        raise ConfigError(f"{path}: {error}", hint="a template is a flat list of `name = value`") from None
    except ValueError as error:
        found = _POSITION.search(str(error))
        reason = mask_key_like(str(error)[: found.start()]) if found else "a value cannot be used"
        where = f", line {found[1]}, column {found[2]}" if found and found[1] else ""
        hint = 'each line is `name = value`; a text of several lines stands in """three quotes"""'
        raise ConfigError(f"{path}{where}: not TOML: {reason}", hint=hint) from None


_SENDS, _KEEPS = "where prompts, keys and figures are sent", "what is written down"
_NOT_HERE = {
    "base_url": _SENDS,
    "fallback": _SENDS,
    "otel": _SENDS,
    "prometheus": _KEEPS,
    "log": _KEEPS,
    "log_text": _KEEPS,
    "gguf": "which file runs as a model",
}
"""What a template from somebody else must not decide: your keys would follow it."""


def _checked(label: str, path: Path, table: dict[str, object], known: Collection[str]) -> Template:
    allowed = [*_OWN_KEYS, *(name for name in known if name not in (*_OWN_KEYS, *_NOT_HERE, "api_key"))]
    for name, value in table.items():
        if name == "api_key":
            raise ConfigError(f"{path}: a template holds no key", hint="remove api_key and set OPENAI_API_KEY")
        if name in _NOT_HERE:
            hint = f"remove {name}; give it as a flag, or in the settings file"
            raise ConfigError(f"{path}: a template cannot say {_NOT_HERE[name]}", hint=hint)
        if name not in allowed:
            guess = nearest(name, allowed)
            hint = f"did you mean {guess}?" if guess else f"a template has {', '.join(_OWN_KEYS)}, and settings by name"
            raise ConfigError(f"{path}: unknown key {shown(name)}", hint=hint)
        if name != "defaults" and isinstance(value, dict):
            raise ConfigError(f"{path}: {name} must not be a section", hint="[defaults] is the only one")
    extract = table.get("extract")
    if not isinstance(extract, bool | None):
        raise ConfigError(f"{path}: extract must be true or false, not {shown(extract)}", hint="correct it")
    template = Template(
        label,
        path,
        _parsed(path, "prompt", table.get("prompt")),
        _parsed(path, "system", table.get("system")),
        _defaults(path, table.get("defaults", {})),
        {name: _beside(path, name, value) for name, value in table.items() if name not in _OWN_KEYS},
        extract,
    )
    if INPUT in (template.system or ())[1::2]:
        raise ConfigError(f"{path}: system: $input has its place in the prompt", hint="name a parameter")
    wanted = [*template.parameters, *([INPUT] if INPUT in (template.prompt or ())[1::2] else [])]
    for name in template.defaults:
        if name not in wanted:
            guess = nearest(name, wanted)
            hint = f"did you mean {guess}?" if guess else "remove it, or name it in the prompt with a $"
            raise ConfigError(f"{path}: defaults: nothing in the template is called {shown(name)}", hint=hint)
    return template


def _parsed(path: Path, key: str, value: object) -> tuple[str, ...] | None:
    """Literals and names by turns, beginning and ending with a literal."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise ConfigError(f"{path}: {key} must be a text, not {shown(value)}", hint="put it in quotes")
    pieces: list[str] = []
    literal, last = "", 0
    for found in _DOLLAR.finditer(value):
        literal += value[last : found.start()]
        last = found.end()
        name = found["plain"] or found["braced"]
        if found["dollar"]:
            literal += "$"
        elif name:
            pieces += literal, name
            literal = ""
        else:
            line = value.count("\n", 0, found.start()) + 1
            raise ConfigError(
                f"{path}: {key}, line {line}: a $ without a name behind it", hint="write $$ for a dollar, $name else"
            )
    return (*pieces, literal + value[last:])


def _defaults(path: Path, value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: defaults must be a section", hint='[defaults], and lines such as name = "value"')
    for name, default in value.items():
        if isinstance(default, bool) or not isinstance(default, str | int | float):
            hint = f'write it as a text: {name} = "..."'
            raise ConfigError(f"{path}: defaults: {name} must be a text, not {shown(default)}", hint=hint)
    return {name: str(default) for name, default in value.items()}


def _fill(pieces: tuple[str, ...], values: Mapping[str, str]) -> list[str]:
    return [values[piece] if index % 2 else piece for index, piece in enumerate(pieces)]


def _between_inputs(pieces: tuple[str, ...], values: Mapping[str, str]) -> list[str]:
    texts = [""]
    for index, piece in enumerate(pieces):
        if index % 2 and piece == INPUT:
            texts.append("")
        else:
            texts[-1] += values[piece] if index % 2 else piece
    return texts


def _beside(path: Path, name: str, value: object) -> object:
    """A relative path is relative to the template, as in the settings file."""

    def absolute(file: str) -> str:
        return str(path.absolute().parent / os.path.expanduser(file))

    if name in PATHS and isinstance(value, str) and value:
        return absolute(value)
    if name == "guard" and isinstance(value, str | list):
        packs = [value] if isinstance(value, str) else value
        return [
            absolute(pack) if isinstance(pack, str) and ("/" in pack or pack.endswith(".toml")) else pack
            for pack in packs
        ]
    return value
