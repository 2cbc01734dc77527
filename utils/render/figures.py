"""The figures of a run in words: what a person wants to know at its end. Everything else stands in `--json`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from utils.render.harmless import one_line
from utils.render.wrapping import printed_width, wrapped
from utils.run_report import Outcome, RunReport

__all__ = ["NARROW_COLUMNS", "counted", "duration", "report_lines"]

NARROW_COLUMNS = 60
"""With fewer columns a figure stands behind its name instead of beside it."""

_MAX_GAPS = 3
_SOURCES = {
    "usage": "counted by the server",
    "logprobs": "counted by their logprobs",
    "tokenizer": "counted by the model's vocabulary",
    "estimate": "estimated by a vocabulary",
    "chunks": "estimated: one per chunk",
}

_Figures = Mapping[str, Any]
_Rows = Iterator[tuple[str, str]]


def report_lines(report: RunReport, width: int | None = None) -> list[str]:
    """The performance and the quality of a run, at most 14 figures, none of them zero or unknown by nature.

    A headline figure that is not known is `n/a` with the reason. *width* is that of the terminal in columns; None:
    no terminal, so no figure is wrapped. ASCII only, names from outside excepted.
    """
    rows = [
        (label, one_line(value))
        for label, value in (
            *_speed(report.metrics),
            *_events(report.metrics, report.guard),
            *_breaker(report.breaker),
            *_quality(report),
        )
    ]
    title = one_line(f"performance of {_answered_by(report)}")
    if width is not None and width < NARROW_COLUMNS:
        shorter = ((label.partition(" (")[0], value) for label, value in rows)
        return [*wrapped(title, width), *(row for name, value in shorter for row in wrapped(f"{name}: {value}", width))]
    column = max((printed_width(label) for label, _ in rows), default=0) + 4
    lines = wrapped(title, width)
    for label, value in rows:
        room = None if width is None else width - column
        first, *others = wrapped(value, room, hanging="")
        lines.append(f"  {label.ljust(column - 2)}{first}")
        lines.extend(" " * column + row for row in others)
    return lines


def duration(seconds: float | None) -> str:
    """*seconds* for people: `2.3 ms`, `412 ms`, `1.98 s`, `124 s`; None: `n/a`."""
    if seconds is None:
        return "n/a"
    if seconds < 0.00995:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.0f} ms"
    return f"{seconds:.2f} s" if seconds < 99.9 else f"{seconds:,.0f} s"


def counted(count: int, singular: str, plural: str | None = None) -> str:
    """`1 retry`, `1,234 retries`; without *plural* an s is added."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def _answered_by(report: RunReport) -> str:
    model, target = report.model_used, report.target
    if target is None:
        return model or report.model_requested or "the run"
    if model is None or model in target:
        return target
    return f"{model} {target}" if target.startswith("at ") else f"{model}, {target}"


def _speed(metrics: _Figures) -> _Rows:
    chunks = metrics.get("chunks", 0)
    first_s = metrics.get("ttft_s")
    yield "first token (ttft)", "n/a (no text came)" if first_s is None else duration(first_s)
    if metrics.get("e2e_s") is not None:
        yield "total", duration(metrics["e2e_s"])
    if tokens := metrics.get("tokens"):
        prompt = f"; {metrics['prompt_tokens']:,} in the prompt" if metrics.get("prompt_tokens") else ""
        source = metrics.get("token_source")
        yield "tokens", f"{tokens:,}, {_SOURCES.get(source or '', source)}{prompt}"
    rate = metrics.get("tokens_per_s")
    if rate is not None:
        yield "tokens/s", f"{rate:,.1f} after the first token"
    elif first_s is not None and "tokens_per_s" in metrics:
        why = "the answer came in one piece" if chunks < 2 else "more tokens were counted than shown"
        yield "tokens/s", f"n/a ({why})"
    if metrics.get("tpot_s") is not None:
        yield "time per token (tpot)", duration(metrics["tpot_s"])
    latency = metrics.get("inter_chunk_latency_s") or {}
    if latency.get("n"):
        names = [name for name in ("p50", "p90", "p99", "max") if latency.get(name) is not None]
        values = ", ".join(f"{name} {duration(latency[name])}" for name in names)
        lacking = "" if "p99" in names else "; p99 needs 100"
        yield "inter-chunk latency", f"{values} (n {latency['n']:,}{lacking})"
    if metrics.get("longest_stall_s") is not None:
        yield "longest stall", duration(metrics["longest_stall_s"])


def _events(metrics: _Figures, guard: _Figures) -> _Rows:
    parts = [
        counted(count, *words)
        for name, words in (
            ("retries", ("retry", "retries")),
            ("resumes", ("resume",)),
            ("fallbacks", ("fallback",)),
            ("breaker_changes", ("breaker change",)),
        )
        if (count := metrics.get(name))
    ]
    gaps: Sequence[float] = metrics.get("gap_s") or ()
    if len(gaps) > _MAX_GAPS:
        parts.append(f"longest gap {duration(max(gaps))}")
    elif gaps:
        parts.append(f"{'gap' if len(gaps) == 1 else 'gaps'} {', '.join(map(duration, gaps))}")
    if parts:
        yield "recovery", ", ".join(parts)
    hidden, flagged = metrics.get("redactions", 0), metrics.get("flags", 0)
    figures = guard.get("answer")
    if figures or hidden or flagged:
        done = [f"{count:,} {word}" for count, word in ((hidden, "hidden"), (flagged, "flagged")) if count]
        held = (figures or {}).get("held_max_chars")
        back = [f"at most {counted(held, 'character')} held back"] if held else []
        yield "guard", ", ".join([*(done or ["nothing hidden"]), *back])


def _breaker(breaker: _Figures) -> _Rows:
    if state := breaker.get("state"):
        failures = breaker.get("failures_in_a_row", 0)
        more = f", {counted(failures, 'failure')} in a row" if failures else ""
        yield "circuit breaker", f"{state}{more}"


def _quality(report: RunReport) -> _Rows:
    quality = report.quality
    if not report.metrics.get("chars"):
        return
    verdicts = []
    if completeness := quality.get("completeness"):
        verdicts.append(_completeness(completeness, report.outcome))
    if repetition := quality.get("repetition"):
        verdicts.append(_repetition(repetition))
    if verdicts:
        yield "quality", "; ".join(verdicts)
    if "confidence" not in quality:
        return
    confidence = quality["confidence"]
    if not confidence:
        yield "model's confidence", "n/a (the server sent no logprobs)"
        return
    mean = _probability(confidence["mean_logprob"])
    yield "model's confidence", f"mean probability {mean} (geometric), perplexity {confidence['perplexity']:,.2f}"
    if lowest := confidence.get("lowest_window"):
        place = f"characters {lowest['start_char']:,} to {lowest['end_char']:,}"
        tokens = counted(lowest["tokens"], "token")
        yield "lowest window", f"{_probability(lowest['mean_logprob'])} over {tokens}, {place}"


def _completeness(figures: _Figures, outcome: Outcome) -> str:
    if reason := figures.get("finish_reason"):
        end = f"finish_reason {reason}"
    else:
        end = outcome if outcome in ("cancelled", "blocked") else "the server gave no finish_reason"
    parts = [f"{'complete' if figures.get('is_complete') else 'not complete'} ({end})"]
    if figures.get("open_code_fence"):
        parts.append("a code block is open")
    if figures.get("usage_mismatch"):
        parts.append("its token count does not fit the text")
    if structure := figures.get("structure"):
        parts.append(f"structure {structure}")
    return ", ".join(parts)


def _repetition(figures: _Figures) -> str:
    if not figures.get("detected"):
        return "no repetition"
    where = "in a loop at its end" if figures.get("at_end") else "in a loop on the way"
    period, repeats = figures.get("period_chars"), figures.get("repeats")
    unit = f" of {counted(period, 'character')}, {repeats:,.0f} times" if period and repeats else ""
    first = figures.get("first_seen_at_char")
    return f"{where}{unit}" + (f", seen at character {first:,}" if first is not None else "")


def _probability(mean_logprob: float) -> str:
    return f"{math.exp(mean_logprob):.0%}"
