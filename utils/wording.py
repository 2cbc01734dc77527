"""How names and values may appear in a message: short, printable, and never with a key in them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path

__all__ = ["MAX_SHOWN_CHARS", "MIN_KEY_CHARS", "mask_key", "mask_key_like", "nearest", "shown", "url_for_people"]

MIN_KEY_CHARS = 12
"""Shorter keys are never shown in part: four characters would be too much of them."""

MAX_SHOWN_CHARS = 60

_KEY_LIKE = re.compile(
    r"""\b(?:
        (?: sk | pk | rk )[-_][A-Za-z0-9_-]{8,}
      | (?: gh[a-z]_ | github_pat_ | glpat- | hf_ | gsk_ | xox[a-z]- | AKIA | ASIA | AIza | eyJ )[A-Za-z0-9._-]{8,}
      | [A-Za-z0-9]{32,}
    )""",
    re.VERBOSE,
)
_BEARER = re.compile(r"(?i)\b(bearer\s+)\S+")


def nearest(name: str, known: Collection[str]) -> str | None:
    """The known name that *name* may have been meant to be, or None if none is close."""
    import difflib  # costs milliseconds and is needed only to explain a mistake

    by_plain = {k.casefold().replace("-", "_"): k for k in known}
    matches = difflib.get_close_matches(name.casefold().replace("-", "_")[:100], by_plain, n=1, cutoff=0.7)
    return by_plain[matches[0]] if matches else None


def mask_key(key: str) -> str:
    """A key as people may see it: its last four characters, and only of a key of 12 characters or more."""
    if len(key) < MIN_KEY_CHARS:
        return "…"
    prefix = "sk-" if key.startswith("sk-") else ""
    return f"{prefix}…{key[-4:]}"


def mask_key_like(text: str, secrets: Iterable[str] = ()) -> str:
    """*text* with every one of *secrets*, and all that looks like a key, masked.

    A secret under 8 characters is hidden only where it is the whole text: replacing every `a` hides nothing.
    """
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        if text == secret:
            return mask_key(text)
        if len(secret) >= 8:
            text = text.replace(secret, mask_key(secret))
    return _KEY_LIKE.sub(lambda m: mask_key(m[0]), _BEARER.sub(r"\1…", text))


def shown(value: object, secrets: Iterable[str] = ()) -> str:
    """*value* for an error or a table: one short printable line without keys."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            hidden = mask_key_like(value, secrets)
            return repr(hidden if len(hidden) <= MAX_SHOWN_CHARS else f"{hidden[: MAX_SHOWN_CHARS - 1]}…")
        case Path():  # whole: its end is what tells files apart
            return repr(mask_key_like(str(value), secrets))
        case int():
            return str(value) if abs(value) < 10**30 else "a very large number"
        case float() | None:
            return str(value)
        case list() | tuple():
            return f"a list of {len(value)}"
        case dict():
            return "a table"
        case _:
            return f"a {type(value).__name__}"


def url_for_people(url: str) -> str:
    """*url* with its credentials and query left out; both may hold a key."""
    head, at, tail = url.rpartition("@")
    if at:
        scheme, separator, _ = head.partition("://")
        url = f"{scheme}{separator}…@{tail}" if separator else f"…@{tail}"
    for mark in "?#":
        before, found, after = url.partition(mark)
        url = f"{before}{mark}…" if found and after else url
    return url
