"""What the names of targets and profiles stand for, before any value is judged.

A profile is a table of settings between the environment and the file's top level. A target is a unit: where to ask
(`base_url` or `gguf`), for which model, with which key. The unit has the rank of the place that names it, so that a
base URL of lower rank cannot send a target's prompt or key elsewhere; a base URL of higher rank replaces the unit as
a whole. A typed `--profile` names its target as `--model` would.

Keys: a target's key goes to its server only. A target without a key gets another one only if that is meant for the
same server. A key that stands in one table with a base URL is meant for that server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from utils.embedded_model.spec import PINNED
from utils.errors import ConfigError
from utils.run_context import EMBEDDED
from utils.settings_file import NO_PROFILE, TARGET_SETTINGS, SettingsFile, Table, did_you_mean
from utils.settings_sources import PREFIX, Given, server_of
from utils.targets import OPENAI_URL
from utils.wording import shown, url_for_people

__all__ = ["ADDRESS", "Resolved", "Sources"]

ADDRESS = ("model", "base_url", "gguf", "api_key")
"""The settings that a target brings as a unit."""

_NOTHING: Table = {}


@dataclass(frozen=True, slots=True)
class Resolved:
    """The values that count: `given` for the run, by setting."""

    given: dict[str, Given] = field(repr=False)
    target: Given | None = None
    """What named the target that is asked, if one is; its value is the name."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Place:
    """One place that may say where to ask."""

    values: Mapping[str, Given]
    is_file: bool = False

    def target(self, known: Mapping[str, Table]) -> Given | None:
        """What names a target here."""
        if "target" in self.values:
            return self.values["target"]
        model = self.values.get("model")
        return model if model is not None and _text(model) in known else None

    def means_target(self, known: Mapping[str, Table]) -> bool:
        """Whether the model's name stands for a target: beside a server it is a model's name."""
        return self.address() is None and self.target(known) is self.values.get("model")

    def address(self) -> Given | None:
        """What says without a target's name where to ask."""
        model = self.values.get("model")
        is_embedded = model is not None and _text(model).casefold() in (EMBEDDED, PINNED.name)
        return self.values.get("base_url") or self.values.get("gguf") or (model if is_embedded else None)


class Sources:
    """Everything that was given, by where it was given. *secrets* stand in no message."""

    def __init__(
        self,
        flags: Table,
        environment: Table,
        file: SettingsFile | None,
        *,
        environ: Mapping[str, str],
        looked_for: str,
        secrets: Sequence[str],
    ) -> None:
        """*looked_for*: where a settings file would be, for people.

        Raises: UsageProblem or ConfigError for a profile or a target that is none.
        """
        self._flags, self._environment, self._file = flags, environment, file
        self._environ, self._secrets = environ, secrets
        self._top = file.top if file is not None else _NOTHING
        self._targets: Mapping[str, Table] = file.targets if file is not None else {}
        chosen = flags.get("profile") or environment.get("profile") or self._top.get("profile")
        self._profile = self._profile_of(chosen, looked_for) if chosen is not None else _NOTHING
        self._places = self._ordered(chosen)
        self._overruled: tuple[str, ...] = ()
        self._named, self._plain = self._named_target()

    def resolve(self) -> Resolved:
        """What counts for the target that is asked first. Raises: ConfigError if it lacks its key."""
        if self._named is None:
            address, warnings = self._general()
            return Resolved({**self._settings(_NOTHING), **address}, None, self._overruled + warnings)
        name = _text(self._named)
        address, warnings = self._unit(name, typed_key=self._flags.get("api_key"), model=self._plain)
        return Resolved({**self._settings(self._targets[name]), **address}, self._named, warnings)

    def general(self) -> dict[str, Given]:
        """What counts where a target that `resolve` found does not: its own part of the settings is left out."""
        return {**self._settings(_NOTHING), **self._general()[0]}

    def home(self) -> tuple[str, str | None]:
        """The server that counts without a target, as it was written, and the key for it."""
        general, _ = self._general()
        url, key = (_text(general[name]) if name in general else "" for name in ("base_url", "api_key"))
        return url or OPENAI_URL, key or None

    def fallback(self, name: str) -> dict[str, Given]:
        """What counts for the target *name* behind another one. Raises: ConfigError if it lacks its key."""
        address, _ = self._unit(name, typed_key=None, model=None)
        return {**self._settings(self._targets[name]), **address}

    # -- profiles and places -----------------------------------------------------------------------------------------

    def _profile_of(self, given: Given, looked_for: str) -> Table:
        name = _text(given)
        if not name or name == NO_PROFILE:  # what is no name is judged as a setting
            return _NOTHING
        profiles = self._file.profiles if self._file is not None else {}
        if name in profiles:
            return profiles[name]
        told = shown(name, self._secrets)
        if self._file is None:
            raise given.error(
                f"{given.place} names the profile {told}, but there is no settings file",
                hint=f"`python main.py config init` writes one ({looked_for})",
            )
        hint = did_you_mean(name, profiles, none="it has no [profiles.NAME]")
        raise given.error(f"{given.place} names the profile {told}, which {self._file.path} does not have", hint=hint)

    def _ordered(self, profile_from: Given | None) -> tuple[_Place, ...]:
        """The places from the highest to the lowest."""
        ours = {name: given for name, given in self._environment.items() if given.label.startswith(PREFIX)}
        theirs = {name: given for name, given in self._environment.items() if name not in ours}
        profile = _Place(self._profile, is_file=True)
        by = profile_from.source if profile_from is not None and profile.target(self._targets) is not None else None
        return (
            _Place(self._flags),
            *([profile] if by == "flag" else []),
            _Place(ours),
            *([profile] if by == "environment" else []),
            _Place(theirs),
            profile,
            _Place(self._top, is_file=True),
        )

    def _settings(self, table: Table) -> dict[str, Given]:
        """Everything but the address, with the settings of a target's *table*."""
        own = {name: given for name, given in table.items() if name in TARGET_SETTINGS}
        merged = {**self._top, **own, **self._profile, **self._environment, **self._flags}
        return {name: given for name, given in merged.items() if name not in (*ADDRESS, "target")}

    # -- targets -----------------------------------------------------------------------------------------------------

    def _named_target(self) -> tuple[Given | None, Given | None]:
        """What names the target to ask, and the model to ask it for instead of its own; (None, None): none is named."""
        plain: Given | None = None
        for place in self._places:
            named, address = place.target(self._targets), place.address()
            if address is not None:
                if named is not None and place.is_file:
                    hint = "drop one of them; a server with a name of its own is a [targets.NAME]"
                    raise named.error(f"{named.place} names a target, and {address.place} another one", hint=hint)
                self._note_overruled(address)
                return None, None
            model = place.values.get("model")
            if named is not None:
                table = self._table(named)
                if model is not None and _text(model) != _text(named):
                    if _text(model) in self._targets:
                        raise named.error(f"{named.place} and {model.place} name two targets", hint="drop one of them")
                    plain = plain or model
                if plain is not None and not _is_server(table):
                    return None, None  # it can answer for itself only
                return named, plain
            plain = plain or model
        return None, None

    def _note_overruled(self, address: Given) -> None:
        """A variable that is there for all programs sends elsewhere what the file has for a target: that is told."""
        if address.source != "environment" or address.label.startswith(PREFIX):
            return
        lower = (_Place(self._profile, is_file=True), _Place(self._top, is_file=True))
        named = next(filter(None, (place.target(self._targets) for place in lower)), None)
        if named is not None:
            self._overruled = (
                f"{address.place} decides who is asked, not {named.place}; -m {_text(named)} asks the target",
            )

    def _table(self, named: Given) -> Table:
        name = _text(named)
        if name in self._targets:
            return self._targets[name]
        if not name:
            raise named.error(f"{named.place} must be the name of a target, not {shown(named.value, self._secrets)}")
        assert self._file is not None
        hint = did_you_mean(name, self._targets, none="it has no [targets.NAME]")
        told = shown(name, self._secrets)
        raise named.error(f"{named.place} names the target {told}, which {self._file.path} does not have", hint=hint)

    def _unit(
        self, name: str, *, typed_key: Given | None, model: Given | None
    ) -> tuple[dict[str, Given], tuple[str, ...]]:
        """The address of a target."""
        table = self._targets[name]
        if not _is_server(table):
            return {part: table[part] for part in ("gguf", "model") if part in table}, ()
        unit: dict[str, Given] = {}
        general, warnings = self._general()
        key = typed_key or self._own_key(name, table)
        if "base_url" in table:
            unit["base_url"] = table["base_url"]
        elif "key_env" in table or "api_key" in table:
            place = table.get("key_env") or table["api_key"]
            unit["base_url"] = Given("base_url", OPENAI_URL, place.source, place.label)
        elif "base_url" in general:
            unit["base_url"] = general["base_url"]
        if key is None and _same_server(unit.get("base_url"), general.get("base_url")):
            key = general.get("api_key")
        else:
            warnings = ()
        if key is not None:
            unit["api_key"] = key
        model = model or table.get("model")
        if model is not None:
            unit["model"] = model
        return unit, warnings

    def _own_key(self, name: str, table: Table) -> Given | None:
        if "key_env" not in table:
            return table.get("api_key")
        variable = _text(table["key_env"])
        key = self._environ.get(variable, "").strip()
        if not key:
            place = table["key_env"].place
            hint = f"export {variable} with the key of this server, or drop key_env if it needs none"
            raise ConfigError(f"{place} names the variable {variable}, which is not set", hint=hint)
        return Given("api_key", key, "environment", variable)

    def _general(self) -> tuple[dict[str, Given], tuple[str, ...]]:
        """The address that the settings give without a target; and what should be said about it."""
        # Where a target is asked, what was typed is meant for it.
        places = self._places if self._named is None else self._places[1:]
        found: dict[str, Given] = {}
        for place in places:
            for name in ("model", "base_url", "gguf"):
                given = place.values.get(name)
                # What was meant as a target and does not count is no model's name either.
                if given is not None and (name != "model" or not place.means_target(self._targets)):
                    found.setdefault(name, given)
        url, withheld = found.get("base_url"), None
        for place in places:
            key, home = place.values.get("api_key"), place.values.get("base_url")
            if key is None:
                continue
            if place.is_file and home is not None and not _same_server(home, url):
                withheld = withheld or (key, home)
                continue
            return {**found, "api_key": key}, ()
        if withheld is None or url is None:
            return found, ()
        key, home = withheld
        return found, (f"{key.place} is meant for {_url(home)}, so {_url(url)} is asked without it",)


def _is_server(table: Table) -> bool:
    """Whether the target is asked over the network."""
    if "gguf" in table:
        return False
    return (
        "base_url" in table
        or "model" not in table
        or _text(table["model"]).casefold()
        not in (
            EMBEDDED,
            PINNED.name,
        )
    )


def _same_server(one: Given | None, other: Given | None) -> bool:
    """Whether a key may travel to both: no URL is the OpenAI API."""
    first = server_of(_text(one) if one is not None else OPENAI_URL)
    return first is not None and first == server_of(_text(other) if other is not None else OPENAI_URL)


def _text(given: Given) -> str:
    """The value, if it is a text."""
    return given.value.strip() if isinstance(given.value, str) else ""


def _url(given: Given) -> str:
    return url_for_people(_text(given))
