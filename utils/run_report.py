"""What a run leaves behind: the outcome, the figures, and the JSON object of `--json`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from utils.errors import AppError, GuardError, PromptRejected, Stopped
from utils.events import Aborted, Blocked, Finished, TerminalEvent, error_as_json

__all__ = ["Outcome", "RunReport", "exit_code_of", "failed_report", "outcome_of"]

Outcome = Literal["complete", "incomplete", "blocked", "rejected", "unavailable", "cancelled", "failed"]


def outcome_of(terminal: TerminalEvent, *, text_shown: bool) -> Outcome:
    """The one-word verdict of a run, from its last event and whether any text was shown."""
    match terminal:
        case Finished():
            return "complete"
        case Blocked():
            return "blocked"
        case Aborted(error=PromptRejected()):
            return "rejected"
        case Aborted(error=GuardError()):
            return "blocked"
        case Aborted(error=Stopped()):
            return "cancelled"
        case Aborted(error=error):
            if text_shown and error.exit_code_after_text is not None:
                return "incomplete"
            return "unavailable" if error.exit_code in (69, 75, 77) else "failed"


def exit_code_of(terminal: TerminalEvent, *, text_shown: bool) -> int:
    """The process exit code of a run (the table stands in README.md)."""
    match terminal:
        case Finished():
            return 0
        case Blocked():
            return 4
        case Aborted(error=error):
            return error.exit_code_for(text_shown=text_shown)


@dataclass(frozen=True, slots=True)
class RunReport:
    """The result of one run. `text` is what was shown; `events` are all events but text deltas, in JSON form."""

    text: str = field(repr=False)
    outcome: Outcome
    exit_code: int
    finish_reason: str | None
    model_requested: str
    model_used: str | None
    target: str | None
    error: AppError | None
    usage: dict[str, Any] | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    quality: dict[str, Any] = field(default_factory=dict)
    guard: dict[str, Any] = field(default_factory=dict)
    breaker: dict[str, Any] = field(default_factory=dict)
    """Of the target that answered, or was asked last."""
    targets: tuple[dict[str, Any], ...] = ()
    """Of every target: breaker, limiter, hedging."""
    events: tuple[dict[str, Any], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` prints; the names are fixed, so that scripts can rely on them."""
        return {
            "text": self.text,
            "outcome": self.outcome,
            "exit_code": self.exit_code,
            "finish_reason": self.finish_reason,
            "model_requested": self.model_requested,
            "model_used": self.model_used,
            "target": self.target,
            "usage": self.usage,
            "metrics": self.metrics,
            "quality": self.quality,
            "guard": self.guard,
            "breaker": self.breaker,
            "targets": list(self.targets),
            "events": list(self.events),
            "error": error_as_json(self.error) if self.error else None,
        }


def failed_report(error: AppError, *, model_requested: str) -> RunReport:
    """The report of a run that did not come about."""
    terminal = Aborted(error)
    return RunReport(
        text="",
        outcome=outcome_of(terminal, text_shown=False),
        exit_code=exit_code_of(terminal, text_shown=False),
        finish_reason=None,
        model_requested=model_requested,
        model_used=None,
        target=None,
        error=error,
    )
