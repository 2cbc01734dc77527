"""What makes a prompt unfit to be sent, whatever it means: its size, and characters that are not text."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from utils.errors import AppError, PromptRejected, UsageProblem
from utils.guardrails.prompt_tokens import TEMPLATE_TOKENS, Tokenizer, fewest_tokens, likely_tokens

__all__ = ["PLACE_NAMES", "Place", "PromptLimits", "character_problem", "likely_overflow", "size_problem"]

Place = Literal["prompt", "system"]

PLACE_NAMES: dict[Place, str] = {"prompt": "prompt", "system": "system prompt"}


@dataclass(frozen=True, slots=True)
class PromptLimits:
    """How much the prompt and the system prompt may have together.

    *chars*: code points. *context_tokens*: what the target's context holds, prompt and answer together; None: not
    known, nothing is estimated. *max_tokens*: what the answer may take of it; at most half of the context is kept free
    for it. *tokenizer*: how well the target's tokenizer is known, which decides how early a refusal is certain.
    """

    chars: int
    context_tokens: int | None = None
    max_tokens: int | None = None
    tokenizer: Tokenizer = "unknown"

    @property
    def room_tokens(self) -> int | None:
        """What the prompt and all that goes with it may have, if the answer is to have its part; None: not known."""
        if self.context_tokens is None:
            return None
        return self.context_tokens - min(self.max_tokens or 0, self.context_tokens // 2)


_not_text = re.compile("[\x00\ud800-\udfff]")
_control = re.compile("[\x01-\x08\x0b\x0e-\x1f\x7f-\x9f]")


def size_problem(prompt: str, system: str, limits: PromptLimits) -> AppError | None:
    """UsageProblem if the prompt is empty or blank, has too many characters, or cannot fit the context for certain.

    A context that the prompt alone fills is refused by every server. One that has too little room for the whole answer
    is not: the answer ends earlier (see `likely_overflow`).
    """
    length = len(prompt) + len(system)
    what = "the prompt and the system prompt have" if system else "the prompt has"
    if length > limits.chars:
        return UsageProblem(
            f"{what} {length:,} characters; the limit is {limits.chars:,}",
            hint="shorten it, split it, or raise KAYGRAPH_PROMPT_LIMIT_CHARS",
        )
    if not prompt or prompt.isspace():
        return UsageProblem(
            "the prompt is blank" if prompt else "the prompt is empty",
            hint="give a PROMPT, or pipe text into standard input",
        )
    context = limits.context_tokens
    if context is not None and not _surely_fits(prompt, system, context):
        fewest = fewest_tokens(prompt, limits.tokenizer) + fewest_tokens(system, limits.tokenizer)
        if fewest >= context:
            return UsageProblem(
                f"{what} at least {fewest:,} tokens; the model's context holds {context:,}, its answer included",
                hint="shorten it, split it, or use a model with a larger context (--model, --base-url)",
            )
    return None


def likely_overflow(prompt: str, system: str, limits: PromptLimits) -> tuple[int, int] | None:
    """The likely tokens of both and the tokens there is room for, if that is fewer; None if not, or not known."""
    room = limits.room_tokens
    if room is None or _surely_fits(prompt, system, room):
        return None
    likely = likely_tokens(prompt) + likely_tokens(system) + TEMPLATE_TOKENS
    return (likely, room) if likely > room else None


def _surely_fits(prompt: str, system: str, tokens: int) -> bool:
    """Whether both are so short that a token for each byte would not be too many. Spares most prompts the counting."""
    return 4 * (len(prompt) + len(system)) + TEMPLATE_TOKENS <= tokens


def character_problem(place: Place, text: str, source_of: Callable[[int], str] = lambda offset: "") -> AppError | None:
    """UsageProblem: NUL, bytes that were not UTF-8. PromptRejected: control characters that are not white space.

    *source_of* says in words what an offset of *text* is in, or "".
    """
    name = PLACE_NAMES[place]
    if bad := _not_text.search(text):
        if bad.group() == "\x00":
            return UsageProblem(
                f"the {name} has a NUL character {_at(bad, source_of)}", hint="send text, not a binary file"
            )
        return UsageProblem(
            f"the {name} is not valid UTF-8: undecodable byte {_at(bad, source_of)}",
            hint="convert it to UTF-8 (for example with iconv)",
        )
    if bad := _control.search(text):
        what = "an ANSI escape" if bad.group() in "\x1b\x9b" else "a control character"
        return PromptRejected(
            f"the {name} has {what} (U+{ord(bad.group()):04X}) {_at(bad, source_of)}",
            hint="remove it; only newline, tab, form feed and carriage return are accepted",
        )
    return None


def _at(bad: re.Match[str], source_of: Callable[[int], str]) -> str:
    source = source_of(bad.start())
    return f"at offset {bad.start():,}{f' ({source})' if source else ''}"
