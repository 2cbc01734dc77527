"""`--extract`: another sink that is shown nothing but the first code block of the answer."""

from __future__ import annotations

from utils.code_block import CodeBlock
from utils.events import Event, TextDelta
from utils.render.sink import Sink, shown_text
from utils.run_report import RunReport

__all__ = ["ExtractingSink"]


class ExtractingSink:
    """Hands the content of the first fenced code block to *sink*, as it comes, and nothing else of the answer.

    *sink* gets text only: what it would do at other events it cannot do.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._block = CodeBlock()
        self._is_over = False

    def handle(self, event: Event, now: float) -> None:
        """Show what *event* adds to the block."""
        if (text := shown_text(event)) and (content := self._block.feed(text)):
            self._sink.handle(TextDelta(content), now)

    def finish(self, report: RunReport) -> None:
        """Show what was held, and let the sink end."""
        self._show_rest()
        self._sink.finish(report)

    def close(self) -> None:
        """The same without a report; idempotent."""
        self._show_rest()
        self._sink.close()

    def _show_rest(self) -> None:
        if not self._is_over:
            self._is_over = True
            if rest := self._block.finish():
                self._sink.handle(TextDelta(rest), 0.0)
