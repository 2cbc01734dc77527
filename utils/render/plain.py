"""The answer as plain text: byte-exact into pipes and files, made harmless on terminals."""

from __future__ import annotations

from utils.events import Event
from utils.render.harmless import as_utf8, encoder_for, make_harmless
from utils.render.output import Batch, FdWriter
from utils.render.sink import shown_text
from utils.run_report import RunReport

__all__ = ["PlainSink", "PlainTerminalSink"]


class PlainSink:
    """The answer as UTF-8 bytes and nothing else, for pipes and files.

    The bytes are the concatenated text of the answer, however it was cut, plus one newline at the very end if the
    answer has at least one character and does not end in a newline; also after an abort, also with `--raw`.
    *ends_line*: False leaves that newline out.
    """

    def __init__(self, writer: FdWriter, *, ends_line: bool = True) -> None:
        self._writer = writer
        self._ends_line = ends_line
        self._batch = Batch(self._write)
        self._last = ""
        self._is_ended = False

    def handle(self, event: Event, now: float) -> None:
        """Queue the text of *event*; it is written before the event loop waits again."""
        text = shown_text(event)
        if text:
            self._batch.add(text)

    def settle(self) -> None:
        """Write what is queued, so that a line on stderr comes after it."""
        self._batch.flush()

    def finish(self, report: RunReport) -> None:
        """Write the rest and the final newline."""
        self._end()

    def close(self) -> None:
        """Write the rest and the final newline, if `finish` was not called."""
        self._end()

    def _end(self) -> None:
        self._batch.flush()
        if not self._is_ended:
            self._is_ended = True
            if self._ends_line and self._last not in ("", "\n"):
                self._write("\n")

    def _write(self, text: str) -> None:
        self._last = text[-1]
        self._writer.write(self._encode(text))

    def _encode(self, text: str) -> bytes:
        return as_utf8(text)


class PlainTerminalSink(PlainSink):
    """The answer on a terminal without any layout: `--raw`, TERM=dumb, CI. Sends no escape sequence."""

    def __init__(self, writer: FdWriter, encoding: str = "utf-8") -> None:
        super().__init__(writer)
        self._to_bytes = encoder_for(encoding)

    def settle(self) -> None:
        """Write what is queued and end the line, so that a line of ours starts at the left."""
        super().settle()
        if self._last not in ("", "\n"):
            self._write("\n")

    def _encode(self, text: str) -> bytes:
        return self._to_bytes(make_harmless(text))
