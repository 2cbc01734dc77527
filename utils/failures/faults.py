"""The kinds of faults: their names, what they take, where they may come. One table; grammar and README read it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

__all__ = [
    "DEFAULT_PERCENT",
    "ERROR_CODES",
    "KINDS",
    "MAX_AMOUNT",
    "OPTIONS",
    "RECOVERABLE",
    "At",
    "Fault",
    "Kind",
    "Unit",
    "Value",
    "markdown_table",
    "number",
]

Unit = Literal["b", "e", "%"]
"""Bytes of the body, events (blocks that an empty line ends, comments too), share of the answer."""
Value = float | int | str
Phase = Literal["connection", "response", "body"]
ValueRule = Literal["none", "seconds", "status", "rate", "content type", "error code"]

MAX_AMOUNT = 1_000_000_000
DEFAULT_PERCENT = 50
ERROR_CODES = ("server_error", "overloaded_error", "rate_limit_exceeded", "insufficient_quota")
"""What `error_object` takes; the first one is the default."""
OPTIONS = ("retry-after", "retry-after-ms", "should-retry")
"""Headers of `status` and `quota`: seconds, milliseconds, true or false."""


def number(value: float) -> str:
    """*value* as plans write it: at most six decimals, no exponent, no trailing zero."""
    return f"{value:.6f}".rstrip("0").rstrip(".") or "0"


@dataclass(frozen=True, slots=True)
class At:
    """A place in the body of an answer: after *amount* bytes or events, or at a percentage of the answer."""

    amount: int
    unit: Unit

    def __post_init__(self) -> None:
        if not 0 <= self.amount <= (100 if self.unit == "%" else MAX_AMOUNT):
            raise ValueError(f"there is no place {self.amount}{self.unit}")

    def __str__(self) -> str:
        return f"@{self.amount}{self.unit}"


@dataclass(frozen=True, slots=True)
class Kind:
    """What is known of a kind of fault before it happens."""

    name: str
    phase: Phase
    effect: str
    """For people: what happens."""
    takes: ValueRule = "none"
    needs_value: bool = False
    default_at: At | None = None
    """Where it comes if the plan does not say; None: this kind has no place."""
    breaks: bool = True
    """Whether an error of the attempt is this fault's doing as soon as it has happened. Of delays that is true only
    while they last; what every client must bear (one-byte chunks, a missing `[DONE]`) is never to blame."""

    def problem_with(self, value: Value | None) -> str | None:
        """Why *value* cannot be this kind's, completing "KIND needs ..."; None if it can."""
        needed = _NEEDS[self.takes]
        if value is None:
            return needed if self.needs_value else None
        match self.takes:
            case "seconds":
                is_good = isinstance(value, int | float) and math.isfinite(value) and 0 <= value <= MAX_AMOUNT
            case "status":
                is_good = isinstance(value, int) and 200 <= value <= 599
            case "rate":
                is_good = isinstance(value, int) and 1 <= value <= MAX_AMOUNT
            case "content type":
                # A quote could not be written in a plan; the rest is what a header may hold.
                is_good = isinstance(value, str) and 0 < len(value) <= 200 and _is_printable(value) and '"' not in value
            case "error code":
                is_good = value in ERROR_CODES
            case "none":
                is_good = False
        return None if is_good else needed


_NEEDS: Mapping[ValueRule, str] = {
    "none": "no value",
    "seconds": "a number of seconds",
    "status": "a status from 200 to 599, such as status=503",
    "rate": "a number of bytes per second, such as drip=200",
    "content type": "a content type, such as content_type=text/plain",
    "error code": f"one of {', '.join(ERROR_CODES)}",
}


def _is_printable(text: str) -> bool:
    return all(" " <= c <= "~" for c in text)


_MIDDLE = At(DEFAULT_PERCENT, "%")
_START = At(0, "b")

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            Kind("refused", "connection", "the connection is refused"),
            Kind("dns", "connection", "the host name cannot be resolved"),
            Kind("tls", "connection", "the server's certificate is not accepted"),
            Kind(
                "connect_timeout",
                "connection",
                "no connection within the connect timeout, or within S seconds",
                "seconds",
            ),
            Kind(
                "read_timeout", "connection", "connected, then silence before the headers, for ever or S s", "seconds"
            ),
            Kind("status", "response", "an error response of status NNN; see the headers below", "status", True),
            Kind("quota", "response", "429 insufficient_quota, which no retry survives"),
            Kind("html", "response", "200 with a web page (a captive portal)"),
            Kind("json", "response", "200 with the whole answer as JSON instead of a stream"),
            Kind("empty", "response", "200 with no body at all"),
            Kind("cut", "body", "the body ends properly, too early (a proxy that gave up)", default_at=_MIDDLE),
            Kind("reset", "body", "the connection is reset", default_at=_MIDDLE),
            Kind("incomplete", "body", "the chunked body ends without its last chunk", default_at=_MIDDLE),
            Kind(
                "stall",
                "body",
                "silence, for ever or S seconds, then the rest",
                "seconds",
                False,
                _MIDDLE,
                breaks=False,
            ),
            Kind("drip", "body", "from there on at most N bytes a second", "rate", True, _START, breaks=False),
            Kind("onebyte", "body", "every byte is a chunk of its own", breaks=False),
            Kind("garbage", "body", "a data line that is not JSON", default_at=_MIDDLE),
            Kind("garbage_line", "body", "a line that is no field; to be ignored", default_at=_MIDDLE, breaks=False),
            Kind("null_event", "body", "`data: null`", default_at=_MIDDLE),
            Kind("invalid_utf8", "body", "a delta with a byte that is not UTF-8", default_at=_MIDDLE),
            Kind("duplicate", "body", "the last event once more", default_at=_MIDDLE, breaks=False),
            Kind(
                "error_object",
                "body",
                "an error object in the stream, then its end (`@0e`: before any text)",
                "error code",
                False,
                _MIDDLE,
            ),
            Kind("early_done", "body", "`[DONE]` before the answer is finished", default_at=_MIDDLE),
            Kind("no_done", "body", "`[DONE]` is left out", breaks=False),
            Kind("no_finish", "body", "every finish_reason is null"),
            Kind("content_type", "body", "the answer with another content type", "content type", True),
        )
    }
)

RECOVERABLE = ("refused", "status", "cut", "reset", "incomplete", "garbage", "error_object", "early_done", "no_finish")
"""What `random(...)` draws from: faults that another attempt survives and that nobody has to wait for."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of one attempt. *at* may be left out where the kind has a default.

    *options* are (name, value) pairs out of `OPTIONS`, for `status` and `quota`.
    Raises ValueError for what the table does not allow.
    """

    kind: str
    value: Value | None = None
    at: At | None = None
    options: tuple[tuple[str, Value], ...] = ()

    def __post_init__(self) -> None:
        kind = KINDS[self.kind]
        if (problem := kind.problem_with(self.value)) is not None:
            raise ValueError(f"{self.kind} needs {problem}")
        if self.at is None:
            object.__setattr__(self, "at", kind.default_at)
        elif kind.default_at is None:
            raise ValueError(f"{self.kind} has no place")
        elif self.kind == "duplicate" and self.at.amount == 0 and self.at.unit == "e":
            raise ValueError("duplicate needs an event before it")
        if self.options and self.kind not in ("status", "quota"):
            raise ValueError(f"{self.kind} has no headers")

    def __str__(self) -> str:
        value = ""
        if isinstance(self.value, str):
            value = f'="{self.value}"' if set(self.value) - _BARE else f"={self.value}"
        elif self.value is not None:
            value = f"={number(self.value)}"
        options = "".join(f" {name}={v if isinstance(v, str) else number(v)}" for name, v in self.options)
        return f"{self.kind}{value}{self.at or ''}{options}"


_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./+;")


def markdown_table() -> str:
    """The kinds as a Markdown table, for the README."""
    values = {
        "none": "",
        "seconds": "[=S]",
        "status": "=NNN",
        "rate": "=N",
        "content type": "=TYPE",
        "error code": "[=CODE]",
    }
    rows = ["| fault | place | what happens |", "|---|---|---|"]
    for kind in KINDS.values():
        place = {"connection": "before the request", "response": "instead of the answer", "body": "in the answer"}
        where = f"`{kind.default_at}`" if kind.default_at is not None else place[kind.phase]
        rows.append(f"| `{kind.name}{values[kind.takes]}` | {where} | {kind.effect} |")
    return "\n".join(rows) + "\n"
