"""What a sink is, how its options look, and which part of an event is answer text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from utils.events import Event, Redacted, TextDelta
from utils.run_report import RunReport

__all__ = ["ColorChoice", "Mode", "RenderOptions", "Sink", "shown_text"]

Mode = Literal["text", "json", "events"]
ColorChoice = Literal["auto", "always", "never"]


class Sink(Protocol):
    """A consumer of one run's events that prints.

    Order of calls: `handle` any number of times, `finish` at most once, `close` at least once.
    All of them run on the event loop's thread and none of them raises: when the output cannot be written
    any more, the sink says so once through the callback it was given and stays silent from then on.
    """

    def handle(self, event: Event, now: float) -> None:
        """Show *event*, which happened at *now* (seconds of the run's clock)."""
        ...

    def finish(self, report: RunReport) -> None:
        """Show what can only be said at the end: the last newline, tables, the JSON object."""
        ...

    def close(self) -> None:
        """Stop timers and leave the terminal as it was found; idempotent, also after errors and without `finish`."""
        ...


@dataclass(frozen=True, slots=True)
class RenderOptions:
    """How the user wants a run shown.

    mode: the answer, one JSON object, or one JSON object per event on stdout.  quiet: of our own lines only
    those that explain a non-zero exit code or that another model answers; not the figures of monitor, which were
    asked for by name.  raw: no Markdown on a terminal.  monitor: performance figures, live and at the end.
    extract: of the answer only the content of its first fenced code block, as it is.
    """

    mode: Mode = "text"
    quiet: bool = False
    raw: bool = False
    color: ColorChoice = "auto"
    monitor: bool = False
    extract: bool = False


def shown_text(event: Event) -> str:
    """The characters that *event* adds to the answer on the screen; empty for events that add none."""
    if isinstance(event, TextDelta):  # asked for every token: `match` on the fields takes three times as long
        return event.text
    return event.replacement if isinstance(event, Redacted) else ""
