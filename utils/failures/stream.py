"""What a fault does to the bytes of an answer, sans I/O.

A transformer is told what the server sent (`start()` before the first byte, `feed(bytes)`, `finish()` at the end) and
answers with actions in order: send bytes, wait, end, break. Laws: the actions depend only on the concatenated bytes
(adjacent sends taken together; `onebyte` sends every byte alone), and without a fault what is sent is what came in.
Held at any time is at most one unfinished event, and only by faults that look at events: a client cannot use an
unfinished event anyway, so nothing reaches it later than it would have.

An event is what an empty line ends; line ends are LF, CR LF or CR (WHATWG HTML, "Server-sent events").
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Literal, Protocol

from utils.failures.answers import error_body
from utils.failures.faults import Fault

__all__ = [
    "EXPECTED_EVENTS",
    "MAX_HELD_BYTES",
    "Action",
    "Break",
    "End",
    "Place",
    "Send",
    "Transformer",
    "Wait",
    "expected_events",
    "transformer_of",
]

EXPECTED_EVENTS = 100
"""The length of an answer of which nothing is known: one per cent is one event."""
MAX_HELD_BYTES = 1 << 20
"""Of one event. What is longer is no event stream, and is passed on unseen from there on."""
_DRIPS_PER_S = 10
_EVENT_END = re.compile(rb"(?<=[^\r\n])(?:\r\n|\n|\r(?=[^\n]))(?:\r\n|\n|\r(?=[^\n]))")
"""A CR at the very end is left for the next read: whether an LF belongs to it is not known before."""
_LONGEST_END = 5
"""Bytes of an event's end: the byte before it and two CR LF."""
_FINISH = re.compile(rb'("finish_reason"\s*:\s*)"[^"]*"')
"""Not in an answer's text: there the quotes are escaped, and the backslash stands before the second one too."""
_DONE = re.compile(rb"^data:[ ]?\[DONE\][ \t]*$", re.MULTILINE)


# -- actions ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Give these bytes to the client; never empty."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Wait:
    """Be silent this long; None: for ever."""

    seconds: float | None


@dataclass(frozen=True, slots=True)
class End:
    """End the body properly, whatever the server would still send."""


@dataclass(frozen=True, slots=True)
class Break:
    """Fail as a connection does."""

    how: Literal["reset", "incomplete"]


Action = Send | Wait | End | Break


@dataclass(frozen=True, slots=True)
class Place:
    """Bytes and whole events of the server's body that had been passed on when the fault happened.

    *events* is None for faults that do not look at events.
    """

    bytes: int
    events: int | None


class Transformer(Protocol):
    """One fault at work on one body."""

    happened: Place | None
    """Where the fault happened; None while it has not."""
    is_spent: bool
    """Nothing is held and nothing will be changed any more: the rest may pass without being looked at."""

    def start(self) -> list[Action]:
        """What comes before the first byte."""
        ...

    def feed(self, data: bytes) -> list[Action]:
        """What becomes of *data*. Nothing after `End` or `Break`."""
        ...

    def finish(self) -> list[Action]:
        """What was held, now that the server's body is over (or broken)."""
        ...


def transformer_of(fault: Fault, expected: int = EXPECTED_EVENTS) -> Transformer | None:
    """The transformer of *fault* for an answer of *expected* events; None if the fault leaves the body alone."""
    match fault.kind:
        case "onebyte":
            return _OneByte()
        case "no_done" | "no_finish":
            return _Rewriter(fault.kind)
        case _ if fault.at is None:
            return None
        case _:
            return _Once(fault, expected)


def expected_events(request_body: bytes) -> int:
    """How many events the answer to *request_body* is taken to have: `max_tokens`, but at most 100; at least 1."""
    try:
        body = json.loads(request_body)
    except (ValueError, RecursionError):
        return EXPECTED_EVENTS
    limits = [body.get(name) for name in ("max_tokens", "max_completion_tokens")] if isinstance(body, dict) else []
    known = [limit for limit in limits if isinstance(limit, int) and limit > 0]
    return min([EXPECTED_EVENTS, *known])


# -- events ----------------------------------------------------------------------------------------------------------


class _Blocks:
    """Cuts a body into events: blocks of bytes, their empty line included. No byte is searched twice."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._searched = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The blocks that *data* completes."""
        held = self._held
        if not held and data.find(b"\n\n") == len(data) - 2 > 0 and b"\r" not in data:
            return [data]  # One event as it stands: what nearly every read of every server brings.
        held += data
        blocks: list[bytes] = []
        start = 0
        for match in _EVENT_END.finditer(held, self._searched):
            blocks.append(bytes(held[start : match.end()]))
            start = match.end()
        del held[:start]
        self._searched = max(0, len(held) - _LONGEST_END)
        return blocks

    def rest(self) -> bytes:
        """What belongs to no whole event yet; it is not held any more."""
        rest = bytes(self._held)
        self._held.clear()
        self._searched = 0
        return rest

    @property
    def size(self) -> int:
        """Bytes held."""
        return len(self._held)


def _is_done(block: bytes) -> bool:
    return b"[DONE]" in block and _DONE.search(block.replace(b"\r", b"\n")) is not None


def _is_finishing(block: bytes) -> bool:
    return _FINISH.search(block) is not None or _is_done(block)


# -- transformers ----------------------------------------------------------------------------------------------------


class _OneByte:
    def __init__(self) -> None:
        self.happened: Place | None = None
        self.is_spent = False

    def start(self) -> list[Action]:
        return []

    def feed(self, data: bytes) -> list[Action]:
        if data:
            self.happened = self.happened or Place(0, None)
        return [Send(data[at : at + 1]) for at in range(len(data))]

    def finish(self) -> list[Action]:
        return []


class _Rewriter:
    """Leaves `[DONE]` out, or empties every finish_reason."""

    def __init__(self, kind: Literal["no_done", "no_finish"]) -> None:
        self.happened: Place | None = None
        self.is_spent = False
        self._drops_done = kind == "no_done"
        self._blocks = _Blocks()
        self._bytes = 0
        self._events = 0

    def start(self) -> list[Action]:
        return []

    def feed(self, data: bytes) -> list[Action]:
        sent = b"".join(map(self._rewritten, self._blocks.feed(data)))
        if self._blocks.size > MAX_HELD_BYTES:
            sent += self._blocks.rest()
            self.is_spent = True
        return [Send(sent)] if sent else []

    def finish(self) -> list[Action]:
        sent = self._rewritten(self._blocks.rest())
        return [Send(sent)] if sent else []

    def _rewritten(self, block: bytes) -> bytes:
        after = b"" if self._drops_done and _is_done(block) else block
        if not self._drops_done:
            after = _FINISH.sub(rb"\1null", block)
        if after != block and self.happened is None:
            self.happened = Place(self._bytes, self._events)
        self._bytes += len(block)
        self._events += 1
        return after


class _Once:
    """A fault that happens once, at its place; the rest passes unchanged, slowly, or not at all."""

    def __init__(self, fault: Fault, expected: int) -> None:
        assert fault.at is not None
        self.happened: Place | None = None
        self.is_spent = False
        self._fault = fault
        self._amount = fault.at.amount
        self._is_share = fault.at.unit == "%"
        if self._is_share:
            self._amount = -(-expected * self._amount // 100)
        self._counts_bytes = fault.at.unit == "b"
        # Only what leaves the events whole must look for their ends.
        self._sees_events = not self._counts_bytes or fault.kind not in _ANYWHERE
        self._blocks = _Blocks()
        self._last = b""
        self._bytes = 0
        self._events = 0
        self._is_over = False
        self._drip: _Drip | None = None

    def start(self) -> list[Action]:
        return self._fire() if self._amount == 0 and self._fault.kind != "duplicate" else []

    def feed(self, data: bytes) -> list[Action]:
        if self.happened is not None or self.is_spent:
            return self._passed(data)
        if not self._sees_events:
            room = self._amount - self._bytes
            before = data[:room]
            self._bytes += len(before)
            sent: list[Action] = [Send(before)] if before else []
            return sent if self._bytes < self._amount else [*sent, *self._fire(), *self._passed(data[room:])]
        return self._feed_events(data)

    def finish(self) -> list[Action]:
        return self._passed(self._blocks.rest())

    def _feed_events(self, data: bytes) -> list[Action]:
        blocks = self._blocks.feed(data)
        for index, block in enumerate(blocks):
            is_late = (
                self._is_share and _is_finishing(block) and not (self._fault.kind == "duplicate" and not self._last)
            )
            if not is_late:
                self._bytes += len(block)
                self._events += 1
                self._last = block
            if is_late or (self._bytes if self._counts_bytes else self._events) >= self._amount:
                passed = index if is_late else index + 1
                sent = b"".join(blocks[:passed])
                rest = b"".join(blocks[passed:]) + self._blocks.rest()
                return [*([Send(sent)] if sent else []), *self._fire(), *self._passed(rest)]
        sent = b"".join(blocks)
        if self._blocks.size > MAX_HELD_BYTES:
            sent += self._blocks.rest()
            self.is_spent = True
        return [Send(sent)] if sent else []

    def _passed(self, data: bytes) -> list[Action]:
        if self._is_over or not data:
            return []
        return [Send(data)] if self._drip is None else self._drip.feed(data)

    def _fire(self) -> list[Action]:
        fault = self._fault
        self.happened = Place(self._bytes, self._events if self._sees_events else None)
        self._is_over = fault.kind in _ENDING
        self.is_spent = fault.kind != "drip"
        match fault.kind:
            case "cut":
                return [End()]
            case "reset":
                return [Break("reset")]
            case "incomplete":
                return [Break("incomplete")]
            case "stall":
                return [Wait(None if fault.value is None else float(fault.value))]
            case "drip":
                assert isinstance(fault.value, int)
                self._drip = _Drip(fault.value)
                return []
            case "duplicate":
                return [Send(self._last)]
            case "error_object":
                return [Send(b"data: " + error_body(str(fault.value or "server_error")) + b"\n\n"), End()]
            case "early_done":
                return [Send(b"data: [DONE]\n\n"), End()]
            case _:
                return [Send(_INSERTED[fault.kind])]


class _Drip:
    """At most *rate* bytes a second: a pause after every piece. Pieces count from where the drip began."""

    def __init__(self, rate: int) -> None:
        self._piece = max(1, rate // _DRIPS_PER_S)
        self._pause = Wait(self._piece / rate)
        self._room = self._piece

    def feed(self, data: bytes) -> list[Action]:
        actions: list[Action] = []
        at = 0
        while at < len(data):
            piece = data[at : at + self._room]
            actions.append(Send(piece))
            at += len(piece)
            self._room -= len(piece)
            if not self._room:
                actions.append(self._pause)
                self._room = self._piece
        return actions


_ANYWHERE = ("cut", "reset", "incomplete", "stall", "drip")
_ENDING = ("cut", "reset", "incomplete", "error_object", "early_done")
_INSERTED = {
    "garbage": b'data: {"choices":[{"index":0,"delta":{"con\n\n',
    "garbage_line": b"%% not a field of an event %%\n\n",
    "null_event": b"data: null\n\n",
    "invalid_utf8": b'data: {"choices":[{"index":0,"delta":{"content":"\xff"},"finish_reason":null}]}\n\n',
}
