"""The end of a run with simulated failures in one line: what happened, and why the answer is whole all the same."""

from __future__ import annotations

from utils.render.figures import counted
from utils.run_report import RunReport

__all__ = ["recovery_summary"]


def recovery_summary(report: RunReport, *, injected: int, doubled: int = 0) -> str | None:
    """One line about a complete answer that survived *injected* simulated failures; None if there is nothing to tell.

    *doubled* of them sent an event twice, which nobody can tell from a text that says something twice.

    Only a replay proves that nothing is missing or there twice: each repeated character was compared.
    """
    if report.outcome != "complete" or not injected:
        return None
    resumed = [event for event in report.events if event["type"] == "resumed"]
    ways = {event["strategy"] for event in resumed}
    parts = [counted(injected, "simulated failure") + " survived"]
    if fallbacks := report.metrics.get("fallbacks"):
        parts.append(counted(fallbacks, "fallback"))
    if not resumed and not report.metrics.get("retries"):
        parts.append("none of which needed another attempt")
    elif not resumed:
        parts.append("all before any text")
    else:
        parts.append(f"resumed {counted(len(resumed), 'time')}")
    if ways == {"replay"}:
        chars = sum(event["overlap_chars"] for event in resumed)
        parts.append(f"all {counted(chars, 'character')} received again were compared and left out")
    elif ways:
        parts.append("joined at the seam by its words: the server need not have written the same twice")
    if doubled:
        twice = counted(doubled, "event")
        return f"the answer has ended (finish_reason {report.finish_reason}), and {twice} of it came twice"
    whole = "whole up to the token limit" if report.finish_reason == "length" else "whole"
    return f"the answer is {whole} (finish_reason {report.finish_reason}): {', '.join(parts)}"
