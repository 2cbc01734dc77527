"""Where settings come from: flags, environment variables and one TOML file, read but not yet judged.

Every value is a `Given`: what was given, by which source, under which name. Values are shown to people only
through `wording.shown`, which hides keys; a key never stands in an error.
"""

from __future__ import annotations

import json
import os
import re
import select
import shlex
import stat
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from utils.embedded_model.spec import home_directory
from utils.errors import AppError, ConfigError, UsageProblem
from utils.toml_limits import TomlLimitError, toml_table
from utils.wording import mask_key_like, nearest, shown

__all__ = [
    "LISTS",
    "PATHS",
    "BadValue",
    "Given",
    "Source",
    "checked_base_url",
    "default_config_file",
    "from_environment",
    "from_file",
    "from_flags",
    "model_and_url",
    "rank",
]

Source = Literal["flag", "environment", "file"]

RESERVED_NAMES = ("KAYGRAPH_CACHE_DIR", "KAYGRAPH_CONFIG", "KAYGRAPH_DEBUG", "KAYGRAPH_STATE_DIR")
"""Environment variables that other parts of the program read."""

PREFIX = "KAYGRAPH_"
OPENAI_NAMES = {"api_key": "OPENAI_API_KEY", "base_url": "OPENAI_BASE_URL"}
"""Also read; the KAYGRAPH_ variable wins, because it was set for this program alone."""

_PIPE_S = 3.0
"""How long a pipe in the place of the file may take for its content."""
LISTS = ("stop", "guard", "validators", "fallback")
"""Settings that are lists of texts."""
PATHS = ("gguf", "json_schema", "grammar", "prometheus")

MAX_FILE_BYTES = 1 << 20
"""A settings file is some hundred bytes; the bound keeps `--config /dev/zero` from filling the memory."""

_FLAGS = {
    "first_token_timeout_s": "--first-token-timeout",
    "idle_timeout_s": "--idle-timeout",
    "connect_timeout_s": "--connect-timeout",
    "timeout_s": "--timeout",
    "guardrails": "--enable-guardrails",
    "validators": "--validate",
}
_FLAGS_WHEN_FALSE = {
    "guardrails": "--disable-guardrails",
    "fallback_to_embedded": "--no-fallback",
    "log": "--no-log",
}

_URL_HINT = "for example http://localhost:8080/v1"
_TOML_POSITION = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)\s*$")


class BadValue(ValueError):
    """A value that cannot be used: *reason* completes the sentence "NAME ...", *hint* says what to do."""

    def __init__(self, reason: str, *, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Given:
    """One value and its source. *label* is the flag, the environment variable, or the file's path."""

    name: str
    value: object = field(repr=False)
    source: Source
    label: str

    @property
    def origin(self) -> str:
        """How the source is named to people, such as `environment KAYGRAPH_SEED`."""
        return f"{self.source} {self.label}"

    @property
    def place(self) -> str:
        """How an error about this value begins."""
        match self.source:
            case "flag":
                return self.label
            case "environment":
                return f"environment variable {self.label}"
            case "file":
                return f"{self.label}: {self.name}"

    @property
    def way_out(self) -> str:
        """The general hint for a value of this source; may be empty."""
        match self.source:
            case "flag":
                return ""  # the message tells what the option takes, and the user sees what was typed
            case "environment":
                return f"correct or unset {self.label}"
            case "file":
                return "correct the file, or override the value with a flag"

    def error(self, message: str, *, hint: str = "") -> AppError:
        """The error class that fits the source: a bad flag is a usage problem, all else is configuration."""
        kind = UsageProblem if self.source == "flag" else ConfigError
        return kind(message, hint=hint or self.way_out)


def rank(origin: str) -> int:
    """Precedence of an origin: flag 3, environment 2, file 1, default 0."""
    return {"flag": 3, "environment": 2, "file": 1}.get(origin.partition(" ")[0], 0)


def checked_base_url(text: str) -> str:
    """*text* as the base URL of a server, without trailing slashes.

    Raises: BadValue if it is not http(s) with a host, or carries blanks, credentials, a query or a fragment.
    """
    url = text.strip()
    if " " in url or not url.isprintable():
        raise BadValue("must not contain blanks or control characters", hint=_URL_HINT)
    scheme, separator, rest = url.partition("://")
    if not separator:
        host_like = re.match(r"(localhost|[\w.-]+\.[\w-]+|[\w-]+:\d+|\[[\da-fA-F:]+\])(?=[:/]|$)", url)
        hint = f"did you mean http://{_without_secrets(url)}?" if host_like and "@" not in url else _URL_HINT
        raise BadValue("must start with http:// or https://", hint=hint)
    if scheme.lower() not in ("http", "https"):
        raise BadValue(f"must start with http:// or https://, not {mask_key_like(scheme[:20])}://", hint=_URL_HINT)
    if "@" in re.split(r"[/?#]", rest, maxsplit=1)[0]:
        raise BadValue("must not contain a user name or password", hint="give the key with OPENAI_API_KEY or --api-key")
    if "?" in url or "#" in url:
        raise BadValue(
            "must not contain a query (?) or fragment (#)", hint="give only the part before /chat/completions"
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = "", None
    if not host or port == 0 or re.search(r"[\\<>\"{}|^`%*]", parts.netloc):
        raise BadValue("must name a host (and a port from 1 to 65535, if any)", hint=_URL_HINT)
    url = url.rstrip("/")
    if parts.path.rstrip("/").endswith("/completions"):
        raise BadValue("must end before /chat/completions", hint=f"for example {scheme.lower()}://{parts.netloc}/v1")
    return url


def model_and_url(name: str) -> tuple[str, str]:
    """*name* of the form MODEL, URL or MODEL@URL in its two parts, "" for the one that is missing.

    The last `@` before the scheme separates them: there are models with an `@` in their names. Nothing is judged.
    """
    head, separator, rest = name.partition("://")
    if not separator:
        return name.strip(), ""
    model, _, scheme = head.rpartition("@")
    return model.strip(), f"{scheme.strip()}://{rest.strip()}"


def _without_secrets(url: str) -> str:
    return mask_key_like(re.split(r"[?#]", url, maxsplit=1)[0])


def from_flags(flags: Mapping[str, object], known: Collection[str]) -> dict[str, Given]:
    """What the user typed; None and () mean not given.

    Raises: TypeError if a name is no setting: that is a mistake in the program, not in its use.
    """
    given = {}
    for name, value in flags.items():
        if name not in known:
            raise TypeError(f"{name!r} is not a setting")
        if value is None or value == ():
            continue
        label = _FLAGS.get(name, "--" + name.replace("_", "-"))
        if value is False:
            label = _FLAGS_WHEN_FALSE.get(name, "--no-" + name.replace("_", "-"))
        given[name] = Given(name, value, "flag", label)
    return given


def from_environment(environ: Mapping[str, str], known: Collection[str]) -> tuple[dict[str, Given], tuple[str, ...]]:
    """The environment's values, and a warning for each KAYGRAPH_ variable that nothing reads.

    An empty variable counts as not set; so does a blank one, except where blanks may be meant (`system`, `stop`,
    `regex`).
    """
    given = {}
    for name in known:
        for variable in (PREFIX + name.upper(), OPENAI_NAMES.get(name, "")):
            text = environ.get(variable, "")
            if name not in ("system", "stop", "regex"):
                text = text.strip()
            if text:
                value = _texts(text, commas=name != "stop") if name in LISTS else text
                given[name] = Given(name, value, "environment", variable)
                break
    names = {PREFIX + name.upper() for name in known} | set(RESERVED_NAMES)
    unknown = sorted(v for v in environ if v.startswith(PREFIX) and v not in names and environ[v])
    return given, tuple(_unknown_variable(variable, names) for variable in unknown)


def _unknown_variable(variable: str, names: Collection[str]) -> str:
    # The common prefix would make everything look alike.
    plain = {name.removeprefix(PREFIX): name for name in names}
    guess = nearest(variable.removeprefix(PREFIX), plain)
    advice = f"did you mean {plain[guess]}?" if guess else "nothing reads it"
    return f"environment variable {shown(variable)[1:-1]} is not known; {advice}"


def _texts(text: str, *, commas: bool) -> object:
    """A variable holds one string: a JSON list of strings is that list; else one item, or with *commas* several."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, list):
        return value
    return [part.strip() for part in text.split(",")] if commas else [text]


def default_config_file(environ: Mapping[str, str]) -> Path | None:
    """`$XDG_CONFIG_HOME` or `~/.config`, then `kaygraph-streaming-llm/config.toml`; None without a home directory."""
    base = environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(base):  # the XDG specification: a relative path is to be ignored
        home = home_directory(environ)
        if home is None:
            return None
        base = os.path.join(home, ".config")
    return Path(base, "kaygraph-streaming-llm", "config.toml")


def from_file(
    path: Path, known: Collection[str], *, must_exist: bool, secrets: Iterable[str] = ()
) -> dict[str, Given] | None:
    """The values of the TOML file at *path*; None if there is none and it need not exist.

    A relative path in it is relative to the file. *secrets* are hidden in errors, as is the file's own key.
    Raises: ConfigError for everything that is wrong with the file.
    """
    content = _read(path, must_exist=must_exist)
    if content is None:
        return None
    data, mode = content
    table = _parse(path, data)
    key = table.get("api_key")
    secrets = (*secrets, key) if isinstance(key, str) else tuple(secrets)
    for name, value in table.items():
        if _is_table(value):
            raise ConfigError(
                f"{path}: [{shown(name, secrets)[1:-1]}] is a section, and a settings file has none",
                hint='settings stand at the top level without a [section], such as model = "gpt-4o-mini"',
            )
        if name not in known:
            guess = nearest(name, known)
            hint = f"did you mean {guess}?" if guess else f"known settings: {', '.join(known)}"
            raise ConfigError(f"{path}: unknown setting {shown(name, secrets)}", hint=hint)
    if "api_key" in table and os.name == "posix" and mode & 0o077:
        raise ConfigError(
            f"{path}: holds api_key, but other users may read the file (mode {mode:04o})",
            hint=f"run chmod 600 {shlex.quote(str(path))}, or remove api_key and set OPENAI_API_KEY",
        )
    for name in PATHS:
        if isinstance(value := table.get(name), str) and value:
            table[name] = _beside(path, value)
    packs = table.get("guard")
    if isinstance(packs, list | str):
        # A name without a slash or an ending is that of a built-in pack.
        table["guard"] = [
            _beside(path, pack) if isinstance(pack, str) and ("/" in pack or pack.endswith(".toml")) else pack
            for pack in ([packs] if isinstance(packs, str) else packs)
        ]
    return {name: Given(name, value, "file", str(path)) for name, value in table.items()}


def _beside(path: Path, name: str) -> str:
    return str(path.absolute().parent / os.path.expanduser(name))


def _is_table(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict) for item in value))


def _read(path: Path, *, must_exist: bool) -> tuple[bytes, int] | None:
    try:
        # Mode and content of one open file: between a check by name and the reading the file could be replaced.
        # Without O_NONBLOCK a named pipe that nobody writes to would be waited for.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            mode = stat.S_IMODE(status.st_mode)
            data = _read_pipe(path, file.fileno()) if stat.S_ISFIFO(status.st_mode) else file.read(MAX_FILE_BYTES + 1)
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
    except (OSError, ValueError) as exc:
        reason = (exc.strerror if isinstance(exc, OSError) else "") or "not a usable path"
        raise ConfigError(f"{str(path)!r}: cannot be read: {reason}", hint="name another file with --config") from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(
            f"{path}: is larger than 1 MiB, so it is no settings file", hint="name another file with --config"
        )
    return data, mode


def _read_pipe(path: Path, fd: int) -> bytes:
    """What a shell's `<(...)` holds; each piece may take `_PIPE_S` seconds."""
    data = b""
    while len(data) <= MAX_FILE_BYTES and select.select([fd], [], [], _PIPE_S)[0]:
        piece = os.read(fd, MAX_FILE_BYTES)
        if not piece:
            break
        data += piece
    if not data:
        raise ConfigError(f"{path}: is a pipe without content", hint="name another file with --config")
    return data


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
