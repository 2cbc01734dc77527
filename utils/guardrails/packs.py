"""Rule packs: guard rules as data. A pack is a TOML file; the built-in ones stand in packs/ beside this module.

    name = "mine"
    [[rule]]
    id = "ticket"                       # "mine.ticket" in events and reports
    pattern = 'TICKET-[0-9]{6}'         # or keywords, keywords_file, scanner
    match = ["see TICKET-123456"]       # examples, checked by `rules test`

Everything is checked when a pack is loaded, and what is wrong is told with the file, the rule, the key and the place.
A file that is no pack is never quoted.
"""

from __future__ import annotations

import re
import stat
import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

from utils.errors import ConfigError
from utils.guardrails.patterns import CardPattern, EmailPattern, KeywordsPattern, PatternError, RegularPattern
from utils.guardrails.rules import MASK, Action, Rule, Severity
from utils.guardrails.scanners import Pattern
from utils.guardrails.verifiers import VERIFIERS
from utils.toml_limits import TomlLimitError, toml_table
from utils.wording import nearest

__all__ = ["BUILTIN", "FILE_BYTES_MAX", "RULES_MAX", "Pack", "PackRule", "load_pack"]

BUILTIN = ("pii", "secrets", "profanity", "injection")
"""Names of the packs that come with the program."""

FILE_BYTES_MAX = 4 << 20
"""Largest pack or keywords file."""

RULES_MAX = 10_000
"""The most rules of a pack."""

_DIRECTORY = Path(__file__).with_name("packs")
_SCANNERS: Mapping[str, Callable[[], Pattern]] = {"email": EmailPattern, "payment_card": CardPattern}
_ACTIONS: tuple[Action, ...] = get_args(Action)
_SEVERITIES: tuple[Severity, ...] = get_args(Severity)
_SOURCES = ("pattern", "keywords", "keywords_file", "scanner")
_PACK_KEYS = ("name", "description", "rule")
_REFINEMENTS = ("ignore_case", "whole_word", "verifier")
_RULE_KEYS = (
    *("id", "description", "severity", "action", "replacement"),
    *(*_SOURCES, *_REFINEMENTS, "match", "no_match"),
)
_REPLACEMENT_MAX = 200
_QUOTED_MAX = 100
_PATH_QUOTED_MAX = 200
_name = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_toml_place = re.compile(r"\(at (?:line \d+, column \d+|end of document)\)")
_quoting = re.compile(r"Cannot |Illegal |invalid character|Duplicate")


class PackRule(NamedTuple):
    """A rule with its full id (`pack.rule`), texts in which it must find something, and texts in which it must not."""

    rule: Rule
    match: tuple[str, ...]
    no_match: tuple[str, ...]


class Pack(NamedTuple):
    """A checked pack. *origin*: the name of a built-in pack, else the file as it was given."""

    name: str
    description: str
    origin: str
    rules: tuple[PackRule, ...]


def load_pack(name_or_file: str) -> Pack:
    """The built-in pack of that name, else the pack in that file.

    Raises: ConfigError if it cannot be read, is no pack, or has a rule that cannot work.
    """
    if name_or_file in BUILTIN:
        return _load_builtin(name_or_file)
    path = Path(name_or_file)
    what = f"guard pack {_quoted(name_or_file, _PATH_QUOTED_MAX)}"
    if not name_or_file or not _exists(path):
        raise ConfigError(f"{what} is neither a built-in pack nor a file", hint=_missing_hint(name_or_file))
    return _parse(_read(path, what), name_or_file, path, is_trusted=False)


@cache
def _load_builtin(name: str) -> Pack:
    path = _DIRECTORY / f"{name}.toml"
    return _parse(_read(path, f"guard pack {name!r}"), name, path, is_trusted=True)


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError:
        return True  # reading it tells what is wrong
    return True


def _missing_hint(name: str) -> str:
    near = nearest(name, BUILTIN)
    return f"did you mean {near!r}?" if near else f"built-in packs: {', '.join(BUILTIN)}"


def _quoted(value: str, longest: int = _QUOTED_MAX) -> str:
    """*value* as errors quote it: at most *longest* characters of it, from its start and its end."""
    half = longest // 2
    return repr(value if len(value) <= longest else f"{value[:half]}...{value[-half:]}")


def _read(path: Path, what: str) -> str:
    """The text of the regular file *path*; *what* names it in errors. Raises: ConfigError."""
    try:
        kind = path.stat().st_mode
        if not stat.S_ISREG(kind):
            # opening a pipe may wait for ever, and a device may have no end
            problem = "is a directory" if stat.S_ISDIR(kind) else "is not a regular file"
            raise ConfigError(f"{what} {problem}", hint="give a TOML file")
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "bad file name"
        raise ConfigError(f"{what} cannot be read: {reason}", hint="check the path and its permissions") from error
    if len(data) > FILE_BYTES_MAX:
        raise ConfigError(f"{what} is larger than {FILE_BYTES_MAX:,} bytes", hint="split it into several packs")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{what} is not UTF-8 text (byte {error.start:,})", hint="give a text file") from None


def _parse(text: str, origin: str, path: Path, *, is_trusted: bool) -> Pack:
    what = f"guard pack {_quoted(origin, _PATH_QUOTED_MAX)}"
    try:
        table = tomllib.loads(text) if is_trusted else toml_table(text)
    except TomlLimitError as error:
        raise ConfigError(f"{what} is not valid TOML: it {error}", hint=_TOML_HINT) from None
    except ValueError as error:  # also what `int` raises for a number of thousands of digits
        raise ConfigError(f"{what} is not valid TOML: {_toml_reason(error)}", hint=_TOML_HINT) from None
    entry = _Entry(table, what, path)
    entry.refuse_unknown(_PACK_KEYS)
    name = entry.name("name")
    description = entry.printable("description")
    rules: list[Any] = entry.take("rule", list, "an array of tables, [[rule]]", [])
    if not rules:
        raise entry.error("rule", "is missing: a pack needs at least one [[rule]]")
    if len(rules) > RULES_MAX:
        raise entry.error("rule", f"holds more than {RULES_MAX:,} rules", "split it into several packs")
    checked: dict[str, PackRule] = {}
    for number, value in enumerate(rules, 1):
        if not isinstance(value, dict):
            raise entry.error("rule", "is not an array of tables, [[rule]]")
        own = value.get("id")
        label = f"{what}, rule {own!r}" if isinstance(own, str) and _name.fullmatch(own) else f"{what}, rule {number}"
        rule = _rule(_Entry(value, label, path), name, is_trusted=is_trusted)
        if rule.rule.id in checked:
            raise ConfigError(f"{label}: two rules have this id", hint="give each rule an id of its own")
        checked[rule.rule.id] = rule
    return Pack(name, description, origin, tuple(checked.values()))


_TOML_HINT = "patterns stand in single quotes: pattern = 'a\\d+'"


def _toml_reason(error: Exception) -> str:
    """Without anything that the file holds: it may be any file."""
    reason = str(error)
    place = _toml_place.search(reason)
    if place is None:
        return "it cannot be parsed"
    told = reason[: place.start()].strip()
    return f"{'' if _quoting.search(told) else told} {place.group()}".strip()


_T = TypeVar("_T")


class _Entry(NamedTuple):
    """A table of a pack; *what* names it in errors."""

    table: dict[str, Any]
    what: str
    path: Path

    def error(self, key: str, problem: str, hint: str = "see `rules --help` for the format") -> ConfigError:
        return ConfigError(f"{self.what}: {key!r} {problem}", hint=hint)

    def refuse_unknown(self, known: tuple[str, ...]) -> None:
        for key in self.table:
            if key not in known:
                near = nearest(key, known)
                shown = key if len(key) <= 40 else f"{key[:40]}..."
                raise ConfigError(
                    f"{self.what}: unknown key {shown!r}",
                    hint=f"did you mean {near!r}?" if near else f"known keys: {', '.join(known)}",
                )

    def take(self, key: str, kind: type[_T], expected: str, default: _T | None) -> _T:
        """The value of *key*, or *default*; None for a key that must be there."""
        value = self.table.get(key)
        if value is None:
            if default is None:
                raise self.error(key, "is missing")
            return default
        if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
            raise self.error(key, f"is not {expected}, but {_kind(value)}")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        return self.take(key, str, "a text", default)

    def printable(self, key: str) -> str:
        """A text for the terminal, where control characters and marks of direction would act; "" if left out."""
        value = self.text(key, "")
        if not value.isprintable():
            raise self.error(key, "has a character that is not printable", "write it as one line of plain text")
        return value

    def name(self, key: str) -> str:
        value = self.text(key)
        if not _name.fullmatch(value):
            raise self.error(key, f"is {value[:64]!r}", "use a to z, 0 to 9, _ and -, a letter first, 64 at most")
        return value

    def choice(self, key: str, choices: tuple[_T, ...], default: _T) -> _T:
        value = self.text(key, str(default))
        for choice in choices:
            if value == choice:
                return choice
        near = nearest(value, tuple(map(str, choices)))
        listed = ", ".join(map(str, choices))
        raise self.error(key, f"is {value[:64]!r}", f"did you mean {near!r}?" if near else f"choose one of: {listed}")

    def flag(self, key: str, default: bool) -> bool:
        return self.take(key, bool, "true or false", default)

    def texts(self, key: str, default: list[str] | None = None) -> tuple[str, ...]:
        values: list[Any] = self.take(key, list, "a list of texts", default)
        for number, value in enumerate(values, 1):
            if not isinstance(value, str):
                raise self.error(key, f"item {number} is not a text, but {_kind(value)}")
        return tuple(values)


def _kind(value: object) -> str:
    kinds = {bool: "true or false", str: "a text", list: "a list", dict: "a table", int: "a number", float: "a number"}
    return kinds.get(type(value), "a date")


def _rule(entry: _Entry, pack: str, *, is_trusted: bool) -> PackRule:
    entry.refuse_unknown(_RULE_KEYS)
    own = entry.name("id")
    sources = [key for key in _SOURCES if key in entry.table]
    if len(sources) != 1:
        given = " and ".join(map(repr, sources)) or "nothing"
        raise ConfigError(f"{entry.what}: {given} to look for", hint=f"give exactly one of: {', '.join(_SOURCES)}")
    action = entry.choice("action", _ACTIONS, "redact")
    default = MASK if action == "mask" else f"[{re.sub('[_-]', ' ', own).upper()}]"
    replacement = entry.text("replacement", default)
    if action == "mask" and len(replacement) != 1:
        raise entry.error(
            "replacement", f"has {len(replacement)} characters", "a mask is one character for each hidden one"
        )
    if len(replacement) > _REPLACEMENT_MAX or not replacement.isprintable():
        raise entry.error("replacement", f"must be printable, {_REPLACEMENT_MAX} characters at most")
    rule = Rule(
        f"{pack}.{own}",
        replacement,
        _pattern(entry, sources[0], is_trusted=is_trusted),
        action,
        entry.printable("description"),
        entry.choice("severity", _SEVERITIES, "medium"),
    )
    return PackRule(rule, entry.texts("match", []), entry.texts("no_match", []))


def _pattern(entry: _Entry, source: str, *, is_trusted: bool) -> Pattern:
    for key in _REFINEMENTS:
        if key in entry.table and (source == "scanner" or (key == "verifier" and source != "pattern")):
            raise entry.error(key, f"does not go with {source!r}", "leave it out")
    if source == "scanner":
        return _SCANNERS[entry.choice("scanner", tuple(_SCANNERS), "")]()
    if source == "pattern":
        verifier = entry.choice("verifier", tuple(VERIFIERS), "") if "verifier" in entry.table else ""
        pattern = RegularPattern(
            entry.text("pattern"),
            ignore_case=entry.flag("ignore_case", False),
            whole_word=entry.flag("whole_word", False),
            verifier=VERIFIERS[verifier] if verifier else None,
            is_known_good=is_trusted,
        )
        if not is_trusted:
            try:
                pattern.tree()
            except PatternError as error:
                raise entry.error(source, f"has {error.reason} at position {error.position}", _PATTERN_HINT) from None
        return pattern
    words = entry.texts("keywords") if source == "keywords" else _words(entry)
    ignore_case, whole_word = entry.flag("ignore_case", True), entry.flag("whole_word", True)
    keywords = KeywordsPattern(words, ignore_case=ignore_case, whole_word=whole_word)
    if not is_trusted:
        try:
            keywords.folded()
        except PatternError as error:
            which = f" (number {error.position + 1})" if words else ""
            raise entry.error(
                source, f"has {error.reason}{which}", "each keyword needs a letter, digit or sign"
            ) from None
    return keywords


_PATTERN_HINT = (
    "text is judged while it streams: no look-around, anchors, back-references, empty matches or huge repeats"
)


def _words(entry: _Entry) -> tuple[str, ...]:
    given = entry.text("keywords_file")
    text = _read(entry.path.parent / given, f"{entry.what}: the keywords file {_quoted(given)}")
    if "\0" in text:
        raise entry.error("keywords_file", "names a binary file", "give a text file with one keyword a line")
    return tuple(line.strip() for line in text.splitlines() if line.strip())
