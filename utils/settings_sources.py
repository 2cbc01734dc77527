"""Where settings come from: flags, environment variables and one TOML file (see `settings_file`), not yet judged.

Every value is a `Given`: what was given, by which source, under which name. Values are shown to people only
through `wording.shown`, which hides keys; a key never stands in an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from utils.errors import AppError, ConfigError, UsageProblem
from utils.wording import mask_key_like, nearest, shown

__all__ = [
    "LISTS",
    "PATHS",
    "PREFIX",
    "BadValue",
    "Given",
    "Source",
    "checked_base_url",
    "flag_of",
    "from_environment",
    "from_flags",
    "model_and_url",
    "rank",
    "server_of",
    "variables_of",
]

Source = Literal["flag", "environment", "profile", "target", "file"]
"""`profile` and `target` are tables of the file, `file` is its top level."""

_RANKS: dict[str, int] = {"flag": 5, "environment": 4, "profile": 3, "target": 2, "file": 1}

RESERVED_NAMES = ("KAYGRAPH_TEMPLATES", "KAYGRAPH_CACHE_DIR", "KAYGRAPH_CONFIG", "KAYGRAPH_DEBUG", "KAYGRAPH_STATE_DIR")
"""Environment variables that other parts of the program read."""

PREFIX = "KAYGRAPH_"
OPENAI_NAMES = {"api_key": "OPENAI_API_KEY", "base_url": "OPENAI_BASE_URL"}
"""Also read; the KAYGRAPH_ variable wins, because it was set for this program alone."""

LISTS = ("stop", "guard", "validators", "fallback")
"""Settings that are lists of texts."""
PATHS = ("gguf", "json_schema", "grammar", "prometheus")

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
_TABLE_ORIGIN = re.compile(r": (profile|target)s\.\S+$")
_PORTS = {"http": 80, "https": 443}


class BadValue(ValueError):
    """A value that cannot be used: *reason* completes the sentence "NAME ...", *hint* says what to do."""

    def __init__(self, reason: str, *, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Given:
    """One value and its source. *label* is the flag, the variable, or the file's path (and `: profiles.NAME`)."""

    name: str
    value: object = field(repr=False)
    source: Source
    label: str

    @property
    def origin(self) -> str:
        """How the source is named to people, such as `environment KAYGRAPH_SEED` or `file PATH: profiles.work`."""
        return f"{self.source if self.source in ('flag', 'environment') else 'file'} {self.label}"

    @property
    def rank(self) -> int:
        """Its precedence: that of its origin (see `rank`)."""
        return _RANKS[self.source]

    @property
    def place(self) -> str:
        """How an error about this value begins."""
        match self.source:
            case "flag":
                return self.label
            case "environment":
                return f"environment variable {self.label}"
            case _:
                return f"{self.label}: {self.name}"

    @property
    def way_out(self) -> str:
        """The general hint for a value of this source; may be empty."""
        match self.source:
            case "flag":
                return ""  # the message tells what the option takes, and the user sees what was typed
            case "environment":
                return f"correct or unset {self.label}"
            case _:
                return "correct the file, or override the value with a flag"

    def error(self, message: str, *, hint: str = "") -> AppError:
        """The error class that fits the source: a bad flag is a usage problem, all else is configuration."""
        kind = UsageProblem if self.source == "flag" else ConfigError
        return kind(message, hint=hint or self.way_out)


def rank(origin: str) -> int:
    """Precedence of an origin: flag 5, environment 4, profile 3, a target's table 2, the file's top level 1, else 0."""
    source = origin.partition(" ")[0]
    if source == "file" and (table := _TABLE_ORIGIN.search(origin)):
        source = table[1]
    return _RANKS.get(source, 0)


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


def server_of(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of *url*: what a key may not leave. None for what is no URL of a server.

    A host that is not ASCII equals nothing but itself.
    """
    try:
        parts = urlsplit(checked_base_url(url))
        host = (parts.hostname or "") if parts.netloc.isascii() else parts.netloc
        return parts.scheme, host, parts.port or _PORTS[parts.scheme]
    except BadValue:
        return None


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
        label = flag_of(name)
        if value is False:
            label = _FLAGS_WHEN_FALSE.get(name, "--no-" + name.replace("_", "-"))
        given[name] = Given(name, value, "flag", label)
    return given


def flag_of(name: str) -> str:
    """How the option of the setting is, or would be, called."""
    return _FLAGS.get(name, "--" + name.replace("_", "-"))


def variables_of(name: str) -> tuple[str, ...]:
    """The environment variables of the setting, the one that wins first."""
    return (PREFIX + name.upper(), *([OPENAI_NAMES[name]] if name in OPENAI_NAMES else []))


def from_environment(environ: Mapping[str, str], known: Collection[str]) -> tuple[dict[str, Given], tuple[str, ...]]:
    """The environment's values, and a warning for each KAYGRAPH_ variable that nothing reads.

    An empty variable counts as not set; so does a blank one, except where blanks may be meant (`system`, `stop`,
    `regex`).
    """
    given = {}
    for name in known:
        for variable in variables_of(name):
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
