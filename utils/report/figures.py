"""Figures on the page: rounded for people, exact in the markup (`<data value>`), with the way to their definitions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from utils.metrics.definitions import DEFINITIONS
from utils.render.figures import duration
from utils.report.markup import Html, code, sentence, tag, text

__all__ = [
    "Glossary",
    "bool_word",
    "count",
    "figure",
    "items",
    "known",
    "na",
    "part",
    "rows",
    "seconds",
    "spread",
    "table",
]


def part(value: Any, *names: str) -> Mapping[str, Any]:
    """The mapping at *names* in *value*; an empty one if there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def items(value: Any) -> list[Any]:
    """What is in the list *value*; nothing if it is no list."""
    return list(value) if isinstance(value, list | tuple) else []


def rows(value: Any) -> list[Mapping[str, Any]]:
    """The mappings in the list *value*."""
    return [row for row in items(value) if isinstance(row, Mapping)]


def known(value: Any) -> float | None:
    """*value* if it is a finite number."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if is_number else None


def na(reason: str) -> Html:
    """What stands in the place of a figure that nobody knows, and why."""
    return sentence(tag("span", "n/a", class_="na"), f" ({reason})")


def figure(value: Any, shown: str, reason: str = "not recorded") -> Html:
    """*shown*, with the exact *value* in the markup; n/a with the *reason* if *value* is no number."""
    number = known(value)
    return na(reason) if number is None else tag("data", shown, value=repr(number))


def seconds(value: Any, reason: str = "not recorded") -> Html:
    """A duration."""
    number = known(value)
    return figure(number, duration(number), reason)


def count(value: Any, reason: str = "not recorded") -> Html:
    """A number of things, or a mean of such numbers."""
    number = known(value)
    is_whole = number is not None and number == int(number)
    return figure(number, "" if number is None else f"{number:,.{0 if is_whole else 1}f}", reason)


def bool_word(value: Any, reason: str = "not recorded") -> Html:
    """yes or no."""
    return text("yes" if value else "no") if isinstance(value, bool) else na(reason)


def table(heading: Sequence[str], body: Sequence[Sequence[str]], label: str) -> Html:
    """A table that scrolls by itself where it is too wide; *label* names it for those who do not see it."""
    head = tag("tr", *(tag("th", cell, scope="col") for cell in heading))
    lines = [tag("tr", *(tag("td", cell) for cell in row)) for row in body]
    inner = tag("table", tag("caption", label), tag("thead", head), tag("tbody", *lines))
    return tag("div", inner, class_="scroll")


def spread(values: Sequence[tuple[str, str]]) -> Html:
    """Names and figures in as many columns as there is room for."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in values), class_="spread")


class Glossary:
    """The definitions that the page refers to: `term` makes the reference, `section` lists what was referred to."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def term(self, key: str, label: str) -> Html:
        """*label* as a reference to the definition of *key*; plain where there is none."""
        if key not in DEFINITIONS:
            return text(label)
        self._used.add(key)
        return tag("a", label, href=f"#def-{key}")

    def section(self) -> Html:
        """The definitions of all terms so far, in the order in which the figures are computed."""
        return tag(
            "dl",
            *(
                sentence(tag("dt", code(key), id=f"def-{key}"), tag("dd", meaning))
                for key, meaning in DEFINITIONS.items()
                if key in self._used
            ),
            class_="definitions",
        )
