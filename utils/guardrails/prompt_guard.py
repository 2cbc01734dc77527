"""The guard on what goes out: checks a prompt before anything is sent; linear; tells places, never values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from utils.errors import AppError, PromptRejected, UsageProblem
from utils.guardrails.rules import Span, secret_rules

__all__ = ["Finding", "Place", "PromptVerdict", "check_prompt"]

Place = Literal["prompt", "system"]


@dataclass(frozen=True, slots=True)
class Finding:
    """*rule* noticed *count* places in the prompt or the system prompt; [start, end) is the first, in characters."""

    rule: str
    place: Place
    start: int
    end: int
    count: int


@dataclass(frozen=True, slots=True)
class PromptVerdict:
    """What was noticed, and the error to end with, or None if the prompt may be sent."""

    findings: tuple[Finding, ...]
    rejection: AppError | None


_not_text = re.compile("[\x00\ud800-\udfff]")
_control = re.compile("[\x01-\x08\x0b\x0e-\x1f\x7f-\x9f]")
# Overrides, embeddings and isolates reorder what a person reads; the plain marks (200E, 200F, 061C) are ordinary text.
_invisible = (
    ("bidi_control", re.compile("[\u202a-\u202e\u2066-\u2069]+")),
    ("unicode_tag", re.compile("[\U000e0000-\U000e007f]+")),
)
_NAMES: dict[Place, str] = {"prompt": "prompt", "system": "system prompt"}


def check_prompt(
    prompt: str, system: str | None, *, limit_chars: int, own_key: str | None, allow_secrets: bool = False
) -> PromptVerdict:
    """Judge *prompt* and *system*; both together may have *limit_chars* characters. Never raises on any text.

    UsageProblem: empty or blank prompt, over the limit, bytes that were not UTF-8 (lone surrogates) or NUL.
    PromptRejected: control characters other than newline, tab, form feed and carriage return (so ANSI escapes, too);
    API keys, and *own_key* verbatim, unless *allow_secrets*. Findings: those keys, invisible tag characters, bidi
    controls.
    """
    parts: list[tuple[Place, str]] = [("prompt", prompt)]
    if system:
        parts.append(("system", system))
    rejection = _size_problem(prompt, system or "", limit_chars)
    if rejection is None:
        rejection = next(filter(None, (_character_problem(place, text) for place, text in parts)), None)
    if rejection is not None:
        return PromptVerdict((), rejection)
    secrets = [finding for place, text in parts for finding in _secrets(place, text, own_key)]
    hidden = [finding for place, text in parts for finding in _hidden_characters(place, text)]
    if secrets and not allow_secrets:
        rejection = _secret_problem(secrets[0])
    return PromptVerdict((*secrets, *hidden), rejection)


def _size_problem(prompt: str, system: str, limit_chars: int) -> AppError | None:
    length = len(prompt) + len(system)
    if length > limit_chars:
        what = "the prompt and the system prompt have" if system else "the prompt has"
        return UsageProblem(
            f"{what} {length:,} characters; the limit is {limit_chars:,}",
            hint="shorten it, split it, or raise KAYGRAPH_PROMPT_LIMIT_CHARS",
        )
    if not prompt or prompt.isspace():
        return UsageProblem(
            "the prompt is blank" if prompt else "the prompt is empty",
            hint="give a PROMPT, or pipe text into standard input",
        )
    return None


def _character_problem(place: Place, text: str) -> AppError | None:
    name = _NAMES[place]
    if bad := _not_text.search(text):
        if bad.group() == "\x00":
            return UsageProblem(
                f"the {name} has a NUL character at offset {bad.start():,}", hint="send text, not a binary file"
            )
        return UsageProblem(
            f"the {name} is not valid UTF-8: undecodable byte at offset {bad.start():,}",
            hint="convert it to UTF-8 (for example with iconv)",
        )
    if bad := _control.search(text):
        what = "an ANSI escape" if bad.group() in "\x1b\x9b" else "a control character"
        return PromptRejected(
            f"the {name} has {what} (U+{ord(bad.group()):04X}) at offset {bad.start():,}",
            hint="remove it; only newline, tab, form feed and carriage return are accepted",
        )
    return None


def _secrets(place: Place, text: str, own_key: str | None) -> list[Finding]:
    by_rule: dict[str, list[Span]] = {}
    for span in secret_rules(own_key).find(text):
        by_rule.setdefault(span.rule, []).append(span)
    return [Finding(rule, place, spans[0].raw_start, spans[0].raw_end, len(spans)) for rule, spans in by_rule.items()]


def _secret_problem(finding: Finding) -> AppError:
    what = "your own API key" if finding.rule == "own_key" else "what looks like an API key"
    return PromptRejected(
        f"the {_NAMES[finding.place]} contains {what} (characters {finding.start:,} to {finding.end:,}); "
        "nothing was sent",
        hint="remove it, or send it anyway with --allow-secrets",
    )


def _hidden_characters(place: Place, text: str) -> list[Finding]:
    findings: list[Finding] = []
    if text.isascii():
        return findings
    for rule, pattern in _invisible:
        first = pattern.search(text)
        if first:
            count = sum(1 for _ in pattern.finditer(text))
            findings.append(Finding(rule, place, first.start(), first.end(), count))
    return findings
