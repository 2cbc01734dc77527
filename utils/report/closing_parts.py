"""The parts after the answer: recovery, quality, targets, settings and environment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from utils.render.figures import counted, duration
from utils.report.event_words import event_list
from utils.report.figures import Glossary, bool_word, count, figure, items, known, na, part, rows, seconds, spread
from utils.report.markup import Html, code, joined, sentence, tag, text
from utils.report.verdict import local_time
from utils.run_record import RunRecord

__all__ = ["environment_part", "events_part", "quality_part", "targets_part"]

_MAX_GAPS = 8
_COUNTS = ("attempts", "interruptions", "retries", "resumes", "fallbacks", "breaker_changes", "adaptations")
_HEADLINES = ("admitted", "succeeded", "failed", "rate_limited", "refused", "opened")
_STATISTICS = ("breaker", "limiter", "hedging")


def events_part(record: RunRecord, glossary: Glossary) -> Html:
    """Counts of what happened, and everything that happened, in words."""
    metrics = part(record.report, "metrics")
    values = [
        (glossary.term(name, name.replace("_", " ")), count(metrics[name])) for name in _COUNTS if name in metrics
    ]
    gaps = [gap for value in items(metrics.get("gap_s")) if (gap := known(value)) is not None]
    if gaps:
        more = f" and {len(gaps) - _MAX_GAPS:,} more, at most {duration(max(gaps))}" if len(gaps) > _MAX_GAPS else ""
        shown = [sentence(", " if index else "", seconds(gap)) for index, gap in enumerate(gaps[:_MAX_GAPS])]
        values.append((glossary.term("gap_s", "gaps before resumes"), sentence(*shown, more)))
    events = rows(record.report.get("events"))
    left_out = int(known(metrics.get("events_left_out")) or 0)
    listed = event_list(events, left_out) if events else tag("p", na("no event was recorded"))
    return sentence(spread(values) if values else "", tag("h3", "Events in words"), listed)


def quality_part(record: RunRecord, glossary: Glossary) -> Html:
    """Completeness and repetition, each figure by itself: nothing here is blended into a score."""
    quality = part(record.report, "quality")
    completeness, repetition = part(quality, "completeness"), part(quality, "repetition")
    if not completeness and not repetition:
        return tag("p", na("no answer was judged"))
    unknown = "not comparable"
    values: list[tuple[Html, Html]] = []
    if completeness:

        def term(name: str, words: str) -> Html:
            return glossary.term(f"completeness.{name}", words)

        reason, structure = completeness.get("finish_reason"), completeness.get("structure")
        no_reason = "the checks refused the answer" if structure == "invalid" else "the server gave none"
        values += [
            (term("is_complete", "complete"), bool_word(completeness.get("is_complete"))),
            (term("finish_reason", "finish_reason"), code(reason) if reason else na(no_reason)),
            (term("open_code_fence", "ends inside a code block"), bool_word(completeness.get("open_code_fence"))),
            (
                term("usage_mismatch", "token count fits the text"),
                _inverted(completeness.get("usage_mismatch"), unknown),
            ),
            (
                term("unaccounted_tokens", "tokens unaccounted for"),
                count(completeness.get("unaccounted_tokens"), unknown),
            ),
            (term("structure", "structure"), text(structure) if structure else na("not asked for, or not judged")),
        ]
    if repetition:
        values.append((glossary.term("repetition.detected", "repetition"), _repetition(repetition)))
    return tag("dl", *(sentence(tag("dt", name), tag("dd", value)) for name, value in values), class_="facts")


def _inverted(value: Any, reason: str) -> Html:
    return bool_word(not value) if isinstance(value, bool) else na(reason)


def _repetition(figures: Mapping[str, Any]) -> Html:
    if figures.get("detected") is None:
        return na("not judged")
    if not figures["detected"]:
        return text("none was seen")
    where = "the answer ends in a loop" if figures.get("at_end") else "a loop was seen on the way"
    period, repeats = known(figures.get("period_chars")), known(figures.get("repeats"))
    unit = f" of {counted(int(period), 'character')}, repeated {repeats:,.1f} times" if period and repeats else ""
    first = known(figures.get("first_seen_at_char"))
    return text(where + unit + (f", first seen at character {first:,.0f}" if first is not None else ""))


def targets_part(record: RunRecord) -> Html:
    """Each target with its breaker, its limiter and its hedges, as far as it has them."""
    targets = rows(record.report.get("targets"))
    if not targets:
        breaker = part(record.report, "breaker")
        return _statistics("breaker", breaker) if breaker else tag("p", na("no target was asked"))
    parts: list[Html] = []
    for target in targets:
        breaker = part(target, "breaker")
        state = str(breaker.get("state") or "not recorded").replace("_", "-")
        values = [("circuit breaker", text(state))]
        values += [(name.replace("_", " "), count(breaker[name])) for name in _HEADLINES if name in breaker]
        parts += [tag("h3", code(target.get("target"))), spread(values)]
        for name in _STATISTICS:
            if figures := part(target, name):
                parts.append(_statistics(name, figures))
            elif name != "breaker":
                words = {"limiter": "no limit was set", "hedging": "no second request was ever allowed"}
                parts.append(tag("p", f"{name}: ", na(words[name]), class_="note"))
    return joined(parts)


def _statistics(name: str, figures: Mapping[str, Any]) -> Html:
    values = [(str(key).removesuffix("_s").replace("_", " "), _any(str(key), value)) for key, value in figures.items()]
    return tag("details", tag("summary", f"all figures of the {name}"), spread(values))


def _any(key: str, value: Any) -> Html:
    if isinstance(value, bool):
        return bool_word(value)
    if known(value) is not None:
        return seconds(value) if key.endswith("_s") else figure(value, f"{value:,.6g}")
    return text("n/a") if value is None else code(value)


def environment_part(record: RunRecord) -> Html:
    """What explains the figures: settings, versions, sizes."""
    facts = record.facts
    values: list[tuple[str, Html]] = [
        ("run", code(facts.run_id)),
        ("started", text(local_time(facts))),
        ("version", code(facts.version or None)),
        ("environment", code(facts.environment or None)),
        ("prompt", text(counted(facts.prompt_chars, "character"))),
    ]
    settings: list[tuple[str, Html]] = []
    for name, value in facts.settings.items():
        shown = value if isinstance(value, str) else json.dumps(value, default=str)
        settings.append((str(name), code(shown)))
    return sentence(
        tag("dl", *(sentence(tag("dt", name), tag("dd", value)) for name, value in values), class_="facts"),
        tag("h3", "Settings that explain figures"),
        spread(settings) if settings else tag("p", na("none was recorded")),
    )
