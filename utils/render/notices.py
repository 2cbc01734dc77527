"""Short lines on stderr: what happened to the run, and how it ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from utils.code_block import CodeBlock
from utils.errors import AppError, Cancelled, OutputClosed, Stopped, ValidationFailed
from utils.events import (
    Adapted,
    Blocked,
    BreakerChanged,
    Event,
    FellBack,
    Flagged,
    Interrupted,
    Resumed,
    Retrying,
    TextDelta,
)
from utils.render.figures import counted
from utils.render.harmless import one_line
from utils.render.wrapping import wrapped
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
_FLAGGED = {
    "refusal": "the model refused",
    "repetition": "the answer repeats itself",
    "unproved_seam": "the server went on without the words that it was asked to repeat: read the text behind the cut",
}


class NoticeSink:
    """Says on stderr what recovery, fallback, adaptation and the guard did, and the final status.

    *print_lines* receives the finished rows of one notice without newlines. With *quiet* only those are printed that
    explain a non-zero exit code or say that another model answers. The cause of a failure is told once, and once
    more at the end if it is what ended the run. No line contains answer text.

    *width* gives the columns of the terminal, to cut lines between words; None: no terminal, one line per notice.
    *new_start* precedes the notice of a stop: what takes the cursor to the start of a row on which the terminal may
    have echoed `^C`. *extracts*: only the first code block of the answer is shown.
    """

    def __init__(
        self,
        print_lines: Callable[[Sequence[str]], None],
        *,
        quiet: bool = False,
        color: bool = False,
        width: Callable[[], int | None] = lambda: None,
        new_start: str = "",
        extracts: bool = False,
    ) -> None:
        self._print_lines = print_lines
        self._quiet = quiet
        self._color = color
        self._width = width
        self._new_start = new_start
        self._block = CodeBlock() if extracts else None
        self._told: AppError | None = None
        self._flagged: Counter[str] = Counter()
        self._blocked_by = ""

    def handle(self, event: Event, now: float) -> None:
        """Print the line of *event* if it has one; `Flagged` is only counted until `finish`."""
        match event:
            case TextDelta():  # nearly every event: first, so that no other pattern is tried
                pass
            case Retrying(attempt=attempt, cause=ValidationFailed() as cause):
                self._note(f"asked again (attempt {attempt}){self._why(cause)}")
            case Retrying(attempt=attempt, delay_s=delay_s, cause=cause):
                self._note(f"retrying (attempt {attempt}) in {_seconds(delay_s)}{self._why(cause)}")
            case Interrupted(cause=cause, chars=chars):
                self._note(f"interrupted after {_characters(chars)}{self._why(cause)}")
            case Resumed(strategy=strategy, gap_s=gap_s, overlap_chars=overlap):
                repeated = f", {_characters(overlap)} received again and left out" if overlap else ""
                self._note(f"resumed {_STRATEGIES[strategy]} after {_seconds(gap_s)}{repeated}")
            case FellBack(from_target=before, to_target=after, cause=why):
                self._say("warning", "warning:", f"fell back from {before} to {after}: {why}", must_be_known=True)
            case BreakerChanged(target=target, after=after, reason=why, open_for_s=open_for_s):
                state = f"open for {_seconds(open_for_s)}" if open_for_s else after.replace("_", "-")
                self._note(f"circuit breaker of {target}: {state} ({why})")
            case Adapted(what=what, before=before, after=after, reason=why):
                self._note(f"adapted {what}: {before} -> {after}: {why}")
            case Flagged(rule=rule) if not rule.startswith("prompt."):  # told before the answer, each with its place
                self._flagged[rule] += 1
            case Blocked(rule=rule):
                self._blocked_by = rule
            case _:
                pass

    def finish(self, report: RunReport) -> None:
        """Print what the guard's own figures say and the final status, errors last."""
        for channel, where in (("answer", ""), ("reasoning", " in the reasoning")):
            figures = report.guard.get(channel) or {}
            if hidden := _hidden(figures):
                self._note(f"hidden{where}: {hidden}")
                if figures.get("held_max_chars"):
                    self._note(f"held{where}: {_held(figures)}")
        toxicity = report.guard.get("toxicity") or {}
        if toxicity.get("failures"):
            self._note(f"toxicity: {_judges(toxicity)}")
        if self._flagged:
            self._note(f"flagged: {_all_of(self._flagged, _flagged)}")
        block = self._block
        text = report.text if block is None else block.feed(report.text) + block.finish()
        shown = _characters(len(text))
        error = report.error
        if isinstance(error, OutputClosed):
            return
        if isinstance(error, Stopped):
            word = "cancelled" if isinstance(error, Cancelled) else error.code
            text = f"{shown} of the answer shown"
            self._say("warning", f"{word}:", text, must_be_known=True, before=self._new_start)
        elif error is not None:
            partial = f" (incomplete: {shown} of the answer shown)" if report.outcome == "incomplete" else ""
            self._say("error", "error:", _reason(error) + partial, must_be_known=True)
            if error.hint:
                self._say("hint", "hint:", error.hint, must_be_known=True)
        elif report.outcome == "blocked":
            rule = f"rule {self._blocked_by!r}" if self._blocked_by else "a rule"
            self._say("error", "blocked:", f"{rule} stopped the answer; {shown} shown", must_be_known=True)
        elif report.finish_reason == "length":
            self._note("the answer ends at the token limit (finish_reason length); --max-tokens raises it")
            if dropped := (report.guard.get("answer") or {}).get("dropped_chars"):
                self._note(f"{_characters(dropped)} of what might have become a match are not shown")
        elif not text:
            what = "answer" if block is None else "code block"
            self._say("warning", "warning:", f"the {what} is empty (finish_reason {report.finish_reason})")
        elif report.finish_reason not in ("stop", None):
            self._note(f"the answer ends with finish_reason {report.finish_reason}")
        if block is not None and block.is_open and report.outcome == "complete":
            self._note("the code block is not closed: the answer ends in it")

    def close(self) -> None:
        """Nothing to undo."""

    def _why(self, cause: AppError) -> str:
        """The cause as the end of a line: nothing if it has just been told, few words if it is the same again."""
        told, self._told = self._told, cause
        if told is cause:
            return ""
        reason = _reason(cause)
        return ": the same failure again" if told is not None and _reason(told) == reason else f": {reason}"

    def _note(self, text: str) -> None:
        self._say("note", "", text)

    def _say(self, weight: _Weight, label: str, text: str, *, must_be_known: bool = False, before: str = "") -> None:
        if self._quiet and not must_be_known:
            return
        rows = wrapped(one_line(f"{label} {text}"), self._width())
        if self._color:
            start, end = _SGR[weight], "\x1b[0m"
            if label and rows[0].startswith(label):
                rows[0] = f"{start}{label}{end}{rows[0].removeprefix(label)}"
            elif not label:
                rows = [f"{start}{row}{end}" for row in rows]
        rows[0] = before + rows[0]
        self._print_lines(rows)


def _reason(error: AppError) -> str:
    # What the simulator says of itself needs no second mark.
    is_marked = "simulated" in error.message.lower()
    return f"{error.message} (simulated)" if error.simulated and not is_marked else error.message


def _seconds(value: float) -> str:
    if value < 0.095:
        return f"{value * 1e3:.0f} ms"
    return f"{value:.1f} s" if value < 9.95 else f"{value:.0f} s"


def _characters(count: int) -> str:
    return counted(count, "character")


def _all_of(counter: Mapping[str, int], words: Callable[[str, int], str]) -> str:
    return ", ".join(words(rule, count) for rule, count in sorted(counter.items()))


def _hidden(figures: Mapping[str, Any]) -> str:
    """The rules that hid something, one finding counted once; "" if none did."""
    findings = figures.get("findings", ())
    counts = {finding["rule"]: finding["count"] for finding in findings if finding.get("action") == "hidden"}
    return _all_of(counts, _by_name)


def _held(figures: Mapping[str, Any]) -> str:
    """What hiding cost the reader: how much text waited, and for how long."""
    chars = f"{figures['held_mean_chars']:.1f} characters on average, at most {figures['held_max_chars']:,}"
    if figures.get("held_max_s") is None:
        return chars
    return f"{chars}, for {_seconds(figures['held_mean_s'])} on average, at most {_seconds(figures['held_max_s'])}"


def _judges(toxicity: Mapping[str, Any]) -> str:
    """Who judged the sentences, when the endpoint that was asked for did not judge all."""
    remotely, locally = (f"{toxicity[name]:,}" for name in ("judged_remotely", "judged_locally"))
    failed = counted(toxicity["failures"], "failed call")
    return f"{remotely} of the sentences judged by {toxicity['classifier']}, {locally} on this machine after {failed}"


def _flagged(rule: str, count: int) -> str:
    if rule == "duplicated_event":
        what = counted(count, "event") + (" like the one before it" if count == 1 else " like the one before them")
        return f"{what} (the server may have sent text twice)"
    known = _FLAGGED.get(rule)
    if known is None:
        return _by_name(rule, count)
    return known if count == 1 else f"{known} ({count:,} times)"


def _by_name(rule: str, count: int) -> str:
    return rule if count == 1 else f"{rule} ({count:,} times)"
