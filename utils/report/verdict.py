"""What became of the run: the verdict in one sentence, who was asked and who answered, objectives, key figures."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from utils.metrics.slo import OBJECTIVES
from utils.render.figures import counted, duration
from utils.report.event_words import cause_of
from utils.report.figures import Glossary, count, figure, known, na, part, rows, seconds, spread, table
from utils.report.markup import Html, code, sentence, tag, text
from utils.run_record import RunFacts, RunRecord

__all__ = ["facts_list", "key_figures", "local_time", "more_figures", "objectives", "verdict"]

_BADGES = {
    "complete": ("ok", "✓ complete"),
    "incomplete": ("warn", "◐ incomplete"),
    "blocked": ("bad", "⊘ blocked"),
    "rejected": ("bad", "⊘ rejected"),
    "unavailable": ("bad", "✕ unavailable"),
    "cancelled": ("warn", "◼ cancelled"),
    "failed": ("bad", "✕ failed"),
}
_MET, _MISSED, _UNDECIDED = ("ok", "✓ met"), ("bad", "✕ missed"), ("warn", "? not known")
_SOURCES = {
    "usage": "counted by the server",
    "logprobs": "counted by their logprobs",
    "tokenizer": "counted by the model's vocabulary",
    "estimate": "estimated by a vocabulary",
    "chunks": "estimated: one per chunk",
}
_RECOVERIES = (
    ("interruptions", ("interruption",)),
    ("retries", ("retry", "retries")),
    ("resumes", ("resume",)),
    ("fallbacks", ("fallback",)),
)


_MORE_TIMES = (
    ("ttfc_s", "first data", "none came"),
    ("ttfr_s", "first reasoning", "none sent"),
)
_MORE_COUNTS = (
    ("prompt_tokens", "prompt tokens", "not reported"),
    ("chunks", "chunks", "not recorded"),
    ("chars", "characters", "not recorded"),
    ("tokens_per_chunk", "tokens per chunk", "tokens were not counted"),
    ("reasoning_chunks", "reasoning chunks", "not recorded"),
)


def verdict(record: RunRecord) -> Html:
    """The badge and the sentence."""
    report = record.report
    outcome = str(report.get("outcome") or "unknown")
    look, badge = _BADGES.get(outcome, ("warn", outcome))
    exit_code = known(report.get("exit_code"))
    code_words = "no exit code recorded" if exit_code is None else f"exit code {exit_code:.0f}"
    said = sentence(_ending(outcome, report), _recovery(part(report, "metrics")), f"; {code_words}.")
    return tag("p", tag("span", badge, class_=f"badge {look}"), said, class_="verdict")


def _ending(outcome: str, report: Mapping[str, Any]) -> Html:
    shown = counted(int(known(part(report, "metrics").get("chars")) or 0), "character")
    error = report.get("error")
    why = sentence(": ", cause_of(error)) if error else Html("")
    match outcome:
        case "complete":
            return _complete(report, shown)
        case "incomplete":
            return sentence(f"The answer is not whole; it ends after {shown}", why)
        case "blocked":
            rules = [event.get("rule") for event in rows(report.get("events")) if event.get("type") == "blocked"]
            by = sentence(": rule ", code(rules[-1])) if rules else why
            return sentence(f"A guard stopped the answer after {shown}", by)
        case "rejected":
            return sentence("The prompt was refused and nothing was sent", why)
        case "cancelled":
            return sentence(f"The run was stopped after {shown}", why)
        case "unavailable":
            return sentence("No answer came", why)
        case _:
            return sentence(f"The run failed after {shown}", why)


def _complete(report: Mapping[str, Any], shown: str) -> Html:
    reason = report.get("finish_reason")
    end = sentence(" (finish_reason ", code(reason), ")")
    if not known(part(report, "metrics").get("chars")):
        return sentence("The server ended an answer without any text", end)
    completeness = part(report, "quality", "completeness")
    if str(reason).lower() in ("length", "max_tokens", "model_length"):
        return sentence(f"The answer ends at the token limit, after {shown}", end)
    if completeness.get("open_code_fence"):
        return sentence(f"The server ended the answer after {shown}, inside a code block", end)
    return sentence(f"The answer is whole, {shown}", end)


def _recovery(metrics: Mapping[str, Any]) -> str:
    found = [counted(int(number), *words) for key, words in _RECOVERIES if (number := known(metrics.get(key)))]
    if not found:
        return ""
    return f", with {', '.join(found[:-1])}{' and ' if found[1:] else ''}{found[-1]}"


def facts_list(record: RunRecord) -> Html:
    """Who was asked, who answered, when."""
    facts, report = record.facts, record.report
    asked = facts.model_requested or report.get("model_requested")
    values = (
        ("model asked", code(asked) if asked else text("whichever the target has")),
        ("model that answered", code(report["model_used"]) if report.get("model_used") else na("none answered")),
        ("target", code(report.get("target") or facts.target or None)),
        ("simulated", text("yes: failures were made on purpose" if facts.is_simulated else "no")),
        ("started", text(local_time(facts))),
    )
    return tag("dl", *(sentence(tag("dt", name), tag("dd", value)) for name, value in values), class_="facts")


def local_time(facts: RunFacts) -> str:
    """When the run began, in the local time zone."""
    try:
        return datetime.datetime.fromtimestamp(facts.started_at).astimezone().isoformat(" ", "seconds")
    except (OverflowError, OSError, ValueError):
        return "n/a"


def objectives(record: RunRecord, glossary: Glossary) -> Html:
    """Each objective, met or missed; n/a if there were none."""
    if record.slo is None:
        return tag("p", "Objectives: ", na("the run had none"))
    good = record.slo.get("good")
    words = "met" if good is True else "missed" if good is False else "cannot be judged"
    body = []
    all_met = True
    for row in rows(record.slo.get("objectives")):
        met = row.get("met")
        all_met = all_met and met is True
        name = str(row.get("name"))
        key = ".".join(OBJECTIVES.get(name, ()))
        is_rate = name == "tokens_per_s"
        bound = known(row.get("limit"))
        limit = "" if bound is None else f"at least {bound:g}" if is_rate else f"at most {bound:g} s"
        value = known(row.get("value"))
        shown = "" if value is None else f"{value:.1f}" if is_rate else duration(value)
        mark = _MET if met is True else _MISSED if met is False else _UNDECIDED
        body.append(
            [
                glossary.term(key, name),
                text(limit),
                figure(value, shown, "not enough to measure"),
                tag("strong", mark[1], class_=mark[0]),
            ]
        )
    head = f"Objectives {words}"
    if good is False and all_met:
        head += ": the answer is not whole, which counts as a miss"
    return table(("objective", "limit", "value", "verdict"), body, head)


def key_figures(record: RunRecord, glossary: Glossary) -> Html:
    """The six figures that people ask for first."""
    metrics = part(record.report, "metrics")
    none = "no text was shown" if metrics else "the run never began"
    source = metrics.get("token_source")
    tokens = known(metrics.get("tokens"))
    counted_by = _SOURCES.get(str(source), f"source {source}") if tokens else ""
    rate = known(metrics.get("tokens_per_s"))
    has_text = known(metrics.get("ttft_s")) is not None
    chunks = known(metrics.get("chunks")) or 0
    why = none if not has_text else "the answer came in one piece" if chunks < 2 else "tokens and text do not fit"
    cards = (
        ("ttft_s", "first token", seconds(metrics.get("ttft_s"), none), "until text was shown"),
        ("e2e_s", "total", seconds(metrics.get("e2e_s"), none), "the whole run"),
        ("tokens", "tokens", count(metrics.get("tokens"), none), counted_by),
        (
            "tokens_per_s",
            "tokens/s",
            figure(rate, "" if rate is None else f"{rate:,.1f}", why),
            "after the first token",
        ),
        ("tpot_s", "time per token", seconds(metrics.get("tpot_s"), why), "after the first token"),
        (
            "longest_stall_s",
            "longest stall",
            seconds(metrics.get("longest_stall_s"), "fewer than two chunks"),
            "between two chunks",
        ),
    )
    return tag(
        "dl", *(_card(glossary.term(key, name), value, note) for key, name, value, note in cards), class_="cards"
    )


def more_figures(record: RunRecord, glossary: Glossary) -> Html:
    """The figures that explain those."""
    metrics = part(record.report, "metrics")
    if not metrics:
        return Html("")
    values = [(glossary.term(key, name), seconds(metrics.get(key), reason)) for key, name, reason in _MORE_TIMES]
    values += [(glossary.term(key, name), count(metrics.get(key), reason)) for key, name, reason in _MORE_COUNTS]
    return spread(values)


def _card(name: str, value: str, note: str) -> Html:
    is_number = value.startswith("<data")
    return tag(
        "div",
        tag("dt", name),
        tag("dd", value, class_="value" if is_number else None),
        tag("dd", note, class_="note") if is_number and note else Html(""),
    )
