"""TOML from people, within limits: `tomllib` needs memory by the square of a dotted key's parts, and recurses.

A dotted key of 80 kB would take gigabytes before anything could be refused, so the text is looked through first: one
pass, which knows strings and comments and counts dots and brackets outside of them.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

__all__ = ["DEPTH_MAX", "PARTS_MAX", "TomlLimitError", "toml_table"]

PARTS_MAX = 100
"""The most parts of a dotted key."""

DEPTH_MAX = 100
"""How deep arrays and inline tables may stand inside each other."""

_token = re.compile(
    r"""
      "{3} (?: [^"\\]++ | \\. | "(?!"") )*+ "{3,5}
    | '{3} (?: [^']++ | '(?!'') )*+ '{3,5}
    | (?P<unfinished> "{3} | '{3} )
    | " (?: [^"\\\n]++ | \\[^\n] )*+ "
    | ' [^'\n]*+ '
    | (?P<quote> ["'] )
    | \#[^\n]*+
    | (?P<dot> \. )
    | (?P<open> [\[{] )
    | (?P<close> [\]}] )
    | (?P<end> [\n=,] )
    """,
    re.VERBOSE | re.DOTALL,
)


class TomlLimitError(ValueError):
    """TOML that is too deep or too large to be read; the message completes "the file ..."."""


def toml_table(text: str) -> dict[str, Any]:
    """The table that *text* holds.

    Raises: TomlLimitError for what is beyond the limits; else what `tomllib.loads` raises for what is no TOML
    (ValueError, usually tomllib.TOMLDecodeError).
    """
    _check(text)
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise TomlLimitError("is nested too deeply") from None
    except MemoryError:
        raise TomlLimitError("is too large") from None


def _check(text: str) -> None:
    dots = depth = 0
    for token in _token.finditer(text):
        kind = token.lastgroup
        if kind is None:
            continue  # a string or a comment
        if kind == "dot":
            dots += 1
            if dots >= PARTS_MAX:
                raise TomlLimitError(f"has a dotted key of more than {PARTS_MAX} parts")
            continue
        dots = 0
        if kind == "open":
            depth += 1
            if depth > DEPTH_MAX:
                raise TomlLimitError("is nested too deeply")
        elif kind == "close":
            depth = max(0, depth - 1)
        elif kind != "end":
            return  # a string that does not end: `tomllib` reads no further either
