"""Bytes to server-sent events, sans I/O (WHATWG HTML, "Server-sent events", parsing an event stream).

The decoder works on bytes: text is decoded where JSON is, so a code point may be cut anywhere. Line endings
(LF, CRLF, CR) are normalised to LF as the bytes come in, after which an event is what stands before an empty line.
Two deliberate differences from the standard: `id` and `retry` are ignored (we never reconnect by event id), and an
event that the end of the body leaves unterminated is handed out, marked so, because servers exist that omit the
last empty line.
"""

from __future__ import annotations

from utils.errors import ProtocolError

__all__ = ["MAX_EVENT_BYTES", "SSEDecoder", "ServerSentEvent"]

MAX_EVENT_BYTES = 1 << 20
"""Bound of one event. The largest honest ones (a first chunk with long reasoning, logprobs with 20 alternatives)
stay under 64 KiB; without a bound a server that never sends an empty line fills the memory."""

_BOM = b"\xef\xbb\xbf"


class ServerSentEvent:
    """One event: its `data` lines joined by LF, its `event` name, and whether an empty line ended it."""

    __slots__ = ("data", "event", "is_terminated")

    def __init__(self, data: bytes, event: bytes = b"", is_terminated: bool = True) -> None:
        self.data = data
        self.event = event
        self.is_terminated = is_terminated

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ServerSentEvent) and (
            (self.data, self.event, self.is_terminated) == (other.data, other.event, other.is_terminated)
        )

    __hash__ = None  # type: ignore[assignment]  # mutable by construction, never a key

    def __repr__(self) -> str:
        return f"ServerSentEvent({self.data!r}, {self.event!r}, {self.is_terminated})"


class SSEDecoder:
    """`feed(bytes)` returns the events that became complete, `finish()` the one that was left open, if any.

    Law: the events depend only on the concatenated bytes, not on where they were cut.
    Raises ProtocolError when an event outgrows *max_event_bytes*; the decoder stays failed after it.
    """

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._pending = bytearray()
        self._searched = 0
        """No empty line ends before this index of `_pending`: no byte is searched twice."""
        self._at_start = True
        self._skip_lf = False
        """The last byte was a CR, already turned into LF: an LF right after it belongs to it."""
        self._is_over = False

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """The events completed by *chunk*."""
        if self._is_over:
            raise AssertionError("feed() after finish() or a failure: this decoder is over")
        if b"\r" in chunk or self._skip_lf:
            chunk = self._normalised(chunk)
        pending = self._pending
        if not pending and not self._at_start and chunk.endswith(b"\n\n"):
            block = chunk[:-2]  # whole events, as servers send them: nothing has to be kept
        else:
            pending += chunk
            if self._at_start and not self._passed_bom():
                return []
            end = pending.rfind(b"\n\n", self._searched)
            if end < 0:
                self._searched = max(0, len(pending) - 1)
                self._check_size(len(pending))
                return []
            block = bytes(pending[:end])
            del pending[: end + 2]
            self._searched = max(0, len(pending) - 1)
            self._check_size(len(pending))
        events: list[ServerSentEvent] = []
        for raw in block.split(b"\n\n"):
            # The shape that nearly every chunk of every server has: one `data: ` line.
            if raw.startswith(b"data: ") and b"\n" not in raw:
                self._check_size(len(raw))
                events.append(ServerSentEvent(raw[6:]))
            else:
                events.extend(self._parsed(raw))
        return events

    def finish(self) -> list[ServerSentEvent]:
        """The event that the end of the body left without its empty line; [] if there is none."""
        raw, self._pending = bytes(self._pending).removesuffix(b"\n"), bytearray()
        self._is_over = True
        return self._parsed(raw, is_terminated=False)

    def _normalised(self, chunk: bytes) -> bytes:
        if self._skip_lf and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._skip_lf = False
        if chunk.endswith(b"\r"):
            self._skip_lf = True
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _passed_bom(self) -> bool:
        if len(self._pending) < len(_BOM) and _BOM.startswith(self._pending):
            return False
        if self._pending.startswith(_BOM):
            del self._pending[: len(_BOM)]
        self._at_start = False
        return True

    def _check_size(self, size: int) -> None:
        if size > self._max_event_bytes:
            self._is_over = True
            self._pending.clear()
            raise ProtocolError(
                f"the server sent an event of more than {self._max_event_bytes} bytes without an end",
                hint="run again; if it stays, the server or a proxy before it is broken",
            )

    def _parsed(self, raw: bytes, *, is_terminated: bool = True) -> list[ServerSentEvent]:
        """The events in a run of lines; an empty line inside it (of `\\n\\n\\n`) is a boundary too."""
        events: list[ServerSentEvent] = []
        data: list[bytes] = []
        name = b""
        for line in [*raw.split(b"\n"), b""]:
            if not line:
                if data:
                    events.append(ServerSentEvent(b"\n".join(data), name, is_terminated))
                data, name = [], b""
                continue
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                data.append(value)
            elif field == b"event":
                name = value
        return events
