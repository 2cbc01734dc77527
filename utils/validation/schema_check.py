"""What is looked at in a JSON schema before it is compiled: its size, its depth, and keywords that are misspelt.

The compiler recurses over the schema and its local references, so size and depth decide how much stack it needs;
objects with thousands of members cost it seconds. And like every schema library it ignores keywords that it does not
know, as the specification wants it: a misspelt `requierd` would silently enforce nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping

__all__ = ["MAX_DEPTH", "MAX_MEMBERS", "MAX_SCHEMAS", "SchemaProblem", "check_schema"]

MAX_DEPTH = 64
MAX_SCHEMAS = 20_000
MAX_MEMBERS = 1_000
"""Of one object: the compiler's time is quadratic in them (0.2 s for 1,000, 5 s for 5,000)."""

_ONE = (
    *("additionalProperties", "items", "additionalItems", "not", "if", "then", "else", "contains", "propertyNames"),
    *("unevaluatedItems", "unevaluatedProperties", "contentSchema"),
)
_LIST = ("anyOf", "allOf", "oneOf", "prefixItems", "items")
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_OTHER = (
    *("$ref", "$id", "$schema", "$anchor", "$dynamicRef", "$dynamicAnchor", "$vocabulary", "$comment"),
    *("type", "enum", "const", "multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum"),
    *("maxLength", "minLength", "pattern", "format", "maxItems", "minItems", "uniqueItems", "maxContains"),
    *("minContains", "maxProperties", "minProperties", "required", "dependentRequired", "title", "description"),
    *("default", "deprecated", "readOnly", "writeOnly", "example", "examples", "contentEncoding", "contentMediaType"),
)
_KNOWN = frozenset((*_ONE, *_LIST, *_NAMED, *_OTHER))


class SchemaProblem(ValueError):
    """Why a schema cannot be used, in one line."""


def check_schema(schema: object) -> None:
    """Raise SchemaProblem for a schema that is too large or too deep, or that has a misspelt keyword."""
    pending: list[tuple[object, str, int]] = [(schema, "", 1)]
    count = 0
    while pending:
        part, place, depth = pending.pop()
        count += 1
        if depth > MAX_DEPTH:
            raise SchemaProblem(f"is nested more than {MAX_DEPTH} levels deep")
        if count > MAX_SCHEMAS:
            raise SchemaProblem(f"holds more than {MAX_SCHEMAS:,} schemas")
        if not isinstance(part, Mapping):
            continue
        for keyword in part:
            if keyword not in _KNOWN:
                _check_spelling(str(keyword), place)
        for keyword, child in _children(part):
            pending.append((child, f"{place}/{keyword}", depth + 1))


def _check_spelling(keyword: str, place: str) -> None:
    near = difflib.get_close_matches(keyword[:40], _KNOWN, n=1, cutoff=0.8)
    if near:
        at = f" at #{place}" if place else ""
        raise SchemaProblem(f"has the unknown keyword {keyword[:40]!r}{at} (did you mean {near[0]!r}?)")


def _children(schema: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for keyword in _ONE:
        if isinstance(schema.get(keyword), Mapping):
            yield keyword, schema[keyword]
    for keyword in _LIST:
        items = schema.get(keyword)
        if isinstance(items, list):
            yield from ((f"{keyword}/{n}", item) for n, item in enumerate(items))
    for keyword in _NAMED:
        named = schema.get(keyword)
        if isinstance(named, Mapping):
            if len(named) > MAX_MEMBERS and keyword in ("properties", "patternProperties"):
                raise SchemaProblem(f"has an object with more than {MAX_MEMBERS:,} members")
            yield from ((f"{keyword}/{name}", item) for name, item in named.items())
