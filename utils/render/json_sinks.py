"""stdout for programs: one JSON object at the end, or one JSON object per event."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from utils.code_block import first_code_block
from utils.events import Event, as_json
from utils.render.output import Batch, FdWriter
from utils.run_report import RunReport

__all__ = ["JsonLinesSink", "JsonObjectSink", "json_line", "json_text"]

# JSON escapes C0 by itself; these it lets through, and a terminal would obey them. They can only stand inside
# strings, where an escape means the same character.
_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPES = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def json_line(value: dict[str, Any], *, ascii_only: bool = False) -> bytes:
    r"""*value* as one line of strict JSON in UTF-8, newline included.

    Numbers that JSON lacks (NaN, infinities) become null, values of unknown types their str(), and characters that
    UTF-8 lacks or a terminal would obey `\u` escapes. Never raises for values made of dicts, lists and scalars.
    """
    return json_text(value, ascii_only=ascii_only).encode() + b"\n"


def json_text(value: dict[str, Any], *, ascii_only: bool = False, indent: int | None = None) -> str:
    """The same as text, without the newline; with *indent* over several lines, for people."""
    try:
        text = json.dumps(value, ensure_ascii=ascii_only, allow_nan=False, default=str, indent=indent)
    except ValueError:
        value = _finite(value)
        text = json.dumps(value, ensure_ascii=ascii_only, default=str, indent=indent)
    if _SURROGATE.search(text):
        return json.dumps(value, default=str, indent=indent)
    return text.translate(_ESCAPES)


def _finite(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: _finite(item) for key, item in value.items()}
        case list() | tuple():
            return [_finite(item) for item in value]
        case _:
            return value


class JsonObjectSink:
    """`--json`: the report as one line, after the last event, and nothing else.

    *extract* adds `extracted`: the content of the first code block of the text, null if there is none.
    """

    def __init__(self, writer: FdWriter, *, ascii_only: bool = False, extract: bool = False) -> None:
        self._writer = writer
        self._ascii_only = ascii_only
        self._extract = extract

    def handle(self, event: Event, now: float) -> None:
        """Nothing: the report holds what is to be said."""

    def settle(self) -> None:
        """Nothing is ever pending."""

    def finish(self, report: RunReport) -> None:
        """Write the object."""
        row = report.as_json()
        if self._extract:
            row["extracted"] = first_code_block(report.text)
        self._writer.write(json_line(row, ascii_only=self._ascii_only))

    def close(self) -> None:
        """Nothing to undo."""


class JsonLinesSink:
    """`--events`: each event as a line when it happens; the last line is the report without text and events.

    *extract*: see `JsonObjectSink`.
    """

    def __init__(self, writer: FdWriter, started_s: float, *, ascii_only: bool = False, extract: bool = False) -> None:
        self._writer = writer
        self._extract = extract
        self._ascii_only = ascii_only
        self._started_s = started_s
        self._batch = Batch(lambda text: self._writer.write(text.encode()))

    def handle(self, event: Event, now: float) -> None:
        """Queue the line of *event*; it is written before the event loop waits again."""
        row = as_json(event, now - self._started_s)
        self._batch.add(json_line(row, ascii_only=self._ascii_only).decode())

    def settle(self) -> None:
        """Write what is queued."""
        self._batch.flush()

    def finish(self, report: RunReport) -> None:
        """Write the rest and the line of the report."""
        self._batch.flush()
        row = {key: value for key, value in report.as_json().items() if key not in ("text", "events")}
        if self._extract:
            row["extracted"] = first_code_block(report.text)
        self._writer.write(json_line({"type": "report", **row}, ascii_only=self._ascii_only))

    def close(self) -> None:
        """Write the rest."""
        self._batch.flush()
