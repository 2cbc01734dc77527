"""Short lines on stderr: what happened to the run, and how it ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Literal

from utils.errors import AppError, Cancelled, OutputClosed, Stopped
from utils.events import Adapted, Blocked, Event, FellBack, Flagged, Interrupted, Redacted, Resumed, Retrying
from utils.render.harmless import one_line
from utils.run_report import RunReport

__all__ = ["NoticeSink"]

_Weight = Literal["error", "hint", "warning", "note"]
_SGR: dict[_Weight, str] = {"error": "\x1b[1;31m", "hint": "\x1b[36m", "warning": "\x1b[33m", "note": "\x1b[2m"}
_STRATEGIES = {
    "replay": "by replaying the request",
    "prefill": "by prefilling the answer",
    "continue": "by asking to continue",
    "restart": "by starting again",
}


class NoticeSink:
    """Says on stderr what recovery, fallback, adaptation and the guard did, and the final status.

    *print_line* receives one finished line without its newline. With *quiet* only lines that explain a non-zero
    exit code are printed. No line contains answer text.
    """

    def __init__(self, print_line: Callable[[str], None], *, quiet: bool = False, color: bool = False) -> None:
        self._print_line = print_line
        self._quiet = quiet
        self._color = color
        self._flagged: Counter[str] = Counter()
        self._hidden: Counter[str] = Counter()
        self._blocked_by = ""

    def handle(self, event: Event, now: float) -> None:
        """Print the line of *event* if it has one; guard events are only counted until `finish`."""
        match event:
            case Retrying(attempt=attempt, delay_s=delay_s, cause=cause):
                self._note(f"retrying: attempt {attempt} in {_seconds(delay_s)}: {_reason(cause)}")
            case Interrupted(cause=cause, chars=chars):
                self._note(f"interrupted after {_characters(chars)}: {_reason(cause)}")
            case Resumed(strategy=strategy, gap_s=gap_s, overlap_chars=overlap):
                repeated = f", {_characters(overlap)} received again and left out" if overlap else ""
                self._note(f"resumed {_STRATEGIES[strategy]} after {_seconds(gap_s)}{repeated}")
            case FellBack(from_target=before, to_target=after, cause=why):
                self._say("warning", "warning:", f"fell back from {before} to {after}: {why}")
            case Adapted(what=what, before=before, after=after, reason=why):
                self._note(f"adapted {what}: {before} -> {after}: {why}")
            case Flagged(rule=rule):
                self._flagged[rule] += 1
            case Redacted(rule=rule):
                self._hidden[rule] += 1
            case Blocked(rule=rule):
                self._blocked_by = rule
            case _:
                pass

    def finish(self, report: RunReport) -> None:
        """Print the counts of the guard and the final status, errors last."""
        if self._hidden:
            self._note(f"hidden: {_counts(self._hidden)}")
        if self._flagged:
            self._note(f"flagged: {_counts(self._flagged)}")
        shown = _characters(len(report.text))
        error = report.error
        if isinstance(error, OutputClosed):
            return
        if isinstance(error, Stopped):
            word = "cancelled" if isinstance(error, Cancelled) else error.code
            self._say("warning", f"{word}:", f"{shown} of the answer shown", changes_exit_code=True)
        elif error is not None:
            partial = f" (incomplete: {shown} of the answer shown)" if report.outcome == "incomplete" else ""
            self._say("error", "error:", _reason(error) + partial, changes_exit_code=True)
            if error.hint:
                self._say("hint", "hint:", error.hint, changes_exit_code=True)
        elif report.outcome == "blocked":
            rule = f"rule {self._blocked_by!r}" if self._blocked_by else "a rule"
            self._say("error", "blocked:", f"{rule} stopped the answer; {shown} shown", changes_exit_code=True)
        elif report.finish_reason == "length":
            self._note("the answer ends at the token limit (finish_reason length); --max-tokens raises it")
        elif not report.text:
            self._say("warning", "warning:", f"the answer is empty (finish_reason {report.finish_reason})")
        elif report.finish_reason not in ("stop", None):
            self._note(f"the answer ends with finish_reason {report.finish_reason}")

    def close(self) -> None:
        """Nothing to undo."""

    def _note(self, text: str) -> None:
        self._say("note", "", text)

    def _say(self, weight: _Weight, label: str, text: str, *, changes_exit_code: bool = False) -> None:
        if self._quiet and not changes_exit_code:
            return
        text = one_line(text)
        if self._color:
            start, end = _SGR[weight], "\x1b[0m"
            self._print_line(f"{start}{label}{end} {text}" if label else f"{start}{text}{end}")
        else:
            self._print_line(f"{label} {text}" if label else text)


def _reason(error: AppError) -> str:
    return f"{error.message} (simulated)" if error.simulated else error.message


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value < 10 else f"{value:.0f} s"


def _characters(count: int) -> str:
    return f"{count:,} character" if count == 1 else f"{count:,} characters"


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{rule} {count}" for rule, count in sorted(counter.items()))
