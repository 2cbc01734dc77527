"""What a run starts from, what its nodes share, and what is left of all the runs of a flow."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypedDict

from utils.answer_guard import GuardFigures
from utils.attachments import Part
from utils.metrics.recorder import Recorder
from utils.resilience.resilient_stream import ResilientStream
from utils.run_context import Deadlines, EventStream, Message, Parameters, Request, RunContext
from utils.run_report import RunReport

__all__ = ["RunInput", "Shared", "StreamLog"]


@dataclass(frozen=True, slots=True)
class RunInput:
    """What a run starts from: the prompt as the user gave it, and everything that will go with it."""

    prompt: str = field(repr=False)
    context: RunContext = field(repr=False)
    system: str | None = field(default=None, repr=False)
    parameters: Parameters = field(default_factory=Parameters)
    deadlines: Deadlines = field(default_factory=Deadlines)
    guard_figures: GuardFigures = field(default_factory=GuardFigures, repr=False)
    """What the guards of this run report; filled while it runs."""
    earlier: tuple[Message, ...] = field(default=(), repr=False)
    """The conversation before the prompt, oldest first; it was judged when it was said."""
    parts: tuple[Part, ...] = field(default=(), repr=False)
    """The files in the prompt."""


class Shared(TypedDict, total=False):
    """The keys of the shared store. The caller puts `run_input` and `recorder`; `report` is there at the end."""

    run_input: RunInput
    recorder: Recorder
    request: Request
    stream: EventStream
    opened: ResilientStream
    guard_figures: GuardFigures
    report: RunReport


class StreamLog:
    """The figures of the streams that one flow has drained; outlives node copies because it is handed in."""

    def __init__(self) -> None:
        self._metrics: list[dict[str, Any]] = []
        self._outcomes: dict[str, int] = {}

    def add(self, report: RunReport) -> None:
        """Take in a finished run."""
        self._outcomes[report.outcome] = self._outcomes.get(report.outcome, 0) + 1
        self._metrics.append(report.metrics)

    def statistics(self) -> dict[str, Any]:
        """Runs by outcome, and the metrics of the newest run."""
        return {"runs": len(self._metrics), "outcomes": dict(self._outcomes), "last": self._last()}

    def _last(self) -> dict[str, Any]:
        return self._metrics[-1] if self._metrics else {}
