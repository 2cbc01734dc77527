"""The guard on what goes out: checks a prompt before anything is sent; linear; tells places, never values.

Refused is what cannot work (size, not text), what acts on terminals and logs (control characters), and what cannot be
taken back (keys). All else is advisory: found by wording and shape, which both miss attacks and meet honest text about
them. An empty list of findings does not say that a prompt is harmless.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from utils.attachments import Part, located
from utils.errors import AppError, PromptRejected
from utils.guardrails.prompt_characters import (
    PLACE_NAMES,
    Place,
    PromptLimits,
    character_problem,
    likely_overflow,
    size_problem,
)
from utils.guardrails.prompt_hidden import Hidden, Spelled, hidden_characters, spelled_out
from utils.guardrails.prompt_sample import shape
from utils.guardrails.rules import RuleSet, Severity, Span

__all__ = [
    "FINDINGS_MAX",
    "REVEALED_CHARS",
    "Finding",
    "Place",
    "PromptLimits",
    "PromptPolicy",
    "PromptVerdict",
    "check_prompt",
]

FINDINGS_MAX = 200
"""Findings of a verdict; the secrets come first, so they are never the ones that are left out."""

REVEALED_CHARS = 200
"""Characters shown of a text that invisible characters spell."""


@dataclass(frozen=True, slots=True)
class Finding:
    """*rule* noticed *count* places in the prompt or the system prompt; [start, end) is the first, in code points.

    *sample*: the shape of the first place (see prompt_sample.py), never its text; for `context` the two numbers.
    *revealed*: for a person's eyes only, what invisible characters spell, at most `REVEALED_CHARS` characters and each
    of them printable; "" if anything hidden there holds a secret or personal data (a rule `pii.`). It is prompt text,
    so `as_json` and `repr` leave it out.
    *part*, *source*, *line*: which file of the prompt the first place is in, its name, and the line in it, all of them
    counted from 1; 0 and "" if it is in none. The name stays out of `as_json`, too.
    """

    rule: str
    place: Place
    start: int
    end: int
    count: int
    severity: Severity = "medium"
    sample: str = ""
    revealed: str = field(default="", repr=False, compare=False)
    part: int = 0
    source: str = ""
    line: int = 0

    def as_json(self) -> dict[str, Any]:
        """What reports and logs may have."""
        figures = asdict(self)
        del figures["revealed"], figures["source"]
        if not self.part:
            del figures["part"], figures["line"]
        return figures


@dataclass(frozen=True, slots=True)
class PromptPolicy:
    """What a prompt is judged by: *secrets* of high severity are refused unless *allow_secrets*. What the others of
    them find (an assignment with a digit may be code), and *advisory*, is only told.
    """

    limits: PromptLimits
    secrets: RuleSet
    advisory: RuleSet
    allow_secrets: bool = False


@dataclass(frozen=True, slots=True)
class PromptVerdict:
    """What was noticed, and the error to end with, or None if the prompt may be sent."""

    findings: tuple[Finding, ...]
    rejection: AppError | None


def check_prompt(prompt: str, system: str | None, policy: PromptPolicy, parts: Sequence[Part] = ()) -> PromptVerdict:
    """Judge *prompt* and *system* together. Pure; linear in both; never raises on any text.

    *parts*: the files in *prompt*, for what is said about places in it.

    UsageProblem: what `size_problem` says; bytes that were not UTF-8 (lone surrogates) or NUL. PromptRejected: control
    characters other than newline, tab, form feed and carriage return (so ANSI escapes, too); matches of the
    policy's *secrets*, unless *allow_secrets*. None of the first three leaves findings.

    Findings, in this order, at most one for each rule and place: *secrets*; hidden characters (`bidi_control`,
    `unicode_tag`, `variation_selector`, `zero_width`, `private_use`); *advisory*; `context`, if the prompt and
    the whole answer probably do not fit. The actions of the rules do not matter. Text that hidden characters spell is
    judged like the prompt, alone and together with the visible text around it: what is found in it is severe, and
    stands at the characters that spell it.
    """
    limits, secrets = policy.limits, policy.secrets
    texts: list[tuple[Place, str]] = [("prompt", prompt)]
    sources = _Sources(prompt, parts)
    rejection = size_problem(prompt, system or "", limits) or character_problem("prompt", prompt, sources.of)
    if system:
        texts.append(("system", system))
        rejection = rejection or character_problem("system", system)
    if rejection is not None:
        return PromptVerdict((), rejection)
    hidden = {place: tuple(hidden_characters(text)) for place, text in texts}
    spelled = {place: spelled_out(text) for place, text in texts}
    secret = {place: _in_hidden(hidden[place], spelled[place], secrets) for place, _ in texts}
    advice = {place: _in_hidden(hidden[place], spelled[place], policy.advisory) for place, _ in texts}
    kept = [finding for place, text in texts for finding in _by_rules(place, text, secret[place], secrets)]
    severe = [finding for finding in kept if finding.severity == "high"]
    if severe and not policy.allow_secrets:
        rejection = _secret_problem(severe[0], sources)
    findings = [*kept]
    for place, _ in texts:
        is_private = bool(secret[place]) or any(rule.startswith("pii.") for rule in advice[place])
        findings += [_hidden(place, found, is_private=is_private) for found in hidden[place]]
    findings += [finding for place, text in texts for finding in _by_rules(place, text, advice[place], policy.advisory)]
    findings = [sources.named(finding) for finding in findings]
    if overflow := likely_overflow(prompt, system or "", limits):
        likely, room = overflow
        sample = f"about {likely:,} tokens, room for {room:,}"
        findings.append(Finding("context", "prompt", 0, len(prompt), 1, "low", sample))
    return PromptVerdict(tuple(findings[:FINDINGS_MAX]), rejection)


class _Sources:
    """Knows what places of a prompt are in."""

    def __init__(self, prompt: str, parts: Sequence[Part]) -> None:
        self._prompt = prompt
        self._parts = parts

    def of(self, offset: int) -> str:
        """In words: the file and the line that *offset* is in, or ""."""
        found = self._found(offset)
        return "" if found is None else f'in "{self._parts[found[0]].name}", line {found[1]:,}'

    def named(self, finding: Finding) -> Finding:
        """*finding* with the file that its first place is in."""
        found = self._found(finding.start) if finding.place == "prompt" else None
        if found is None:
            return finding
        index, line = found
        return replace(finding, part=index + 1, source=self._parts[index].name, line=line)

    def _found(self, offset: int) -> tuple[int, int] | None:
        index = located(self._parts, offset)
        return None if index is None else (index, self._prompt.count("\n", self._parts[index].start, offset) + 1)


_Places = dict[str, list[tuple[int, int, str]]]
"""By rule: [start, end) of the hidden characters, and the shape of what they spell."""


def _in_hidden(hidden: tuple[Hidden, ...], spelled: Spelled, rules: RuleSet) -> _Places:
    """What *rules* find in what hidden characters spell: each kind alone, then all together with the visible text."""
    places: _Places = {}
    if not rules.rules:
        return places
    for found in hidden:
        start, end = found.spans[0]
        for span in rules.find(found.text) if found.text else ():
            sample = shape(found.text[span.raw_start : span.raw_end])
            places.setdefault(span.rule, []).append((start, end, sample))
    if not spelled.runs:
        return places
    alone = frozenset(places)
    ends = [end for _, end, _, _ in spelled.runs]
    for span in rules.find(spelled.text):
        first = bisect_right(ends, span.raw_start)  # the first run that ends after the start of the match
        if span.rule not in alone and first < len(ends) and spelled.runs[first][0] < span.raw_end:
            _, _, start, end = spelled.runs[first]
            sample = shape(spelled.text[span.raw_start : span.raw_end])
            places.setdefault(span.rule, []).append((start, end, sample))
    return places


def _by_rules(place: Place, text: str, in_hidden: _Places, rules: RuleSet) -> Iterator[Finding]:
    """The findings of *rules*, in their order: in the text, and in what its hidden characters spell."""
    if not rules.rules:
        return
    visible = _grouped(rules.find(text))
    for rule in rules.rules:
        places = [(span.raw_start, span.raw_end, "") for span in visible.get(rule.id, ())]
        places += in_hidden.get(rule.id, ())
        if places:
            start, end, sample = min(places)
            severity: Severity = "high" if rule.id in in_hidden else rule.severity
            yield Finding(rule.id, place, start, end, len(places), severity, sample or shape(text[start:end]))


def _grouped(spans: tuple[Span, ...]) -> dict[str, list[Span]]:
    groups: dict[str, list[Span]] = {}
    for span in spans:
        groups.setdefault(span.rule, []).append(span)
    return groups


def _hidden(place: Place, found: Hidden, *, is_private: bool) -> Finding:
    start, end = found.spans[0]
    revealed = ""
    if found.text and not is_private:
        revealed = "".join(c if c.isprintable() else " " for c in found.text[:REVEALED_CHARS])
        if len(found.text) > REVEALED_CHARS:
            revealed = revealed[:-1] + "…"
    sample = shape(found.text) if found.text else ""
    return Finding(found.rule, place, start, end, len(found.spans), found.severity, sample, revealed)


def _secret_problem(finding: Finding, sources: _Sources) -> AppError:
    source = sources.of(finding.start) if finding.place == "prompt" else ""
    return PromptRejected(
        f"the {PLACE_NAMES[finding.place]} contains {_secret(finding.rule)} "
        f"({f'{source}; ' if source else ''}characters {finding.start:,} to {finding.end:,}); nothing was sent",
        hint="remove it, or start again with --allow-secrets, which sends it",
    )


def _secret(rule: str) -> str:
    name = rule.rpartition(".")[2]
    if name.startswith("own_key"):
        return "your own API key"
    return "what looks like an API key" if name == "api_key" else f"what looks like a secret ({name})"
