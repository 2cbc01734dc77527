"""A prompt as it may be shown: whatever the guard on prompts takes for a secret stands there by its shape. Pure."""

from __future__ import annotations

from utils.guardrails.prompt_hidden import Spelled, hidden_characters, spelled_out
from utils.guardrails.prompt_sample import shape
from utils.guardrails.rules import RuleSet

__all__ = ["masked"]


def masked(text: str, secrets: RuleSet) -> tuple[str, int]:
    """*text* with every match of *secrets* replaced by its shape, and how many there were.

    The actions of the rules do not matter. If what hidden characters spell is a secret, alone or together with the
    text around them, all of them and that text are replaced, too: whoever copies the result copies no secret.
    """
    spans = [(span.raw_start, span.raw_end) for span in secrets.find(text)]
    if not text.isascii():
        spans += _hidden_spans(text, secrets)
    pieces: list[str] = []
    last = 0
    joined = _joined(spans)
    for start, end in joined:
        pieces += text[last:start], shape(text[start:end])
        last = end
    return "".join((*pieces, text[last:])), len(joined)


def _hidden_spans(text: str, secrets: RuleSet) -> list[tuple[int, int]]:
    spelled = spelled_out(text)
    spans = [
        (_raw(spelled, span.raw_start), _raw(spelled, span.raw_end))
        for span in secrets.find(spelled.text)
        if any(start < span.raw_end and span.raw_start < end for start, end, _, _ in spelled.runs)
    ]
    hidden = tuple(hidden_characters(text))
    if spans or any(found.text and secrets.find(found.text) for found in hidden):
        spans += [span for found in hidden for span in found.spans]
        spans += [(start, end) for _, _, start, end in spelled.runs]
    return spans


def _raw(spelled: Spelled, offset: int) -> int:
    """The place in the text that *offset* in what is spelled out stands for; in a run, its start."""
    raw = offset
    for start, end, raw_start, raw_end in spelled.runs:
        if offset <= start:
            break
        if offset < end:
            return raw_start
        raw = raw_end + offset - end
    return raw


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined
