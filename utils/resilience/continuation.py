"""How a target is asked to go on with an answer, and which ways it allows. Pure: requests and values, no I/O.

Replay proves the whole delivered text and needs a target that answers the same twice. Prefill sends the partial
answer as the last assistant message of a server that continues it. Continue asks in words, which any chat model
understands and some obey; it asks for the last words once more, so that the seam can be found even in the middle of a
word. What comes back from the last two goes through `stitching.Stitcher`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from utils.errors import InternalError
from utils.events import ResumeStrategy
from utils.guardrails.prompt_tokens import likely_tokens
from utils.resilience.seam_text import last_words
from utils.resilience.stitching import prefill_text
from utils.run_context import Request, Target

__all__ = [
    "MAX_QUOTED_CHARS",
    "Capabilities",
    "ContinuationRequest",
    "Detected",
    "PrefillForm",
    "RemainingTokens",
    "capabilities_of",
    "continue_request",
    "prefill_request",
    "remaining_tokens",
    "strategies",
]

PrefillForm = Literal["trailing", "continue_final_message", "prefix"]
"""How a server is told that the last assistant message is to be continued: by nothing else than its place (llama.cpp),
by a field of the request (vLLM), by a field of the message (Mistral and others)."""

MAX_QUOTED_CHARS = 12_000
"""Of a longer partial answer the model that is asked in words gets this end of it, about 3,000 tokens of English."""
_CONTINUE = """\
Your last message was cut off by a network failure{cut}. Write the rest of it now. Begin by repeating its last words, \
which stand at the end of this message, exactly as they are, and go straight on from there. Write nothing before them: \
no introduction, no apology, no quotation marks, no new code fence. Do not start over. Keep the language and the \
format. The last words:

{tail}"""
_CUT = ", and its beginning is left out above"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a target allows after a part of an answer was shown. `prefill` is the form it wants, None: it has none."""

    replay: bool = False
    prefill: PrefillForm | None = None
    continue_: bool = True


@dataclass(frozen=True, slots=True)
class Detected:
    """What a server said about itself; None: it was not asked, or did not answer."""

    owned_by: str | None = None
    """`owned_by` of the model in /models."""


@dataclass(frozen=True, slots=True)
class RemainingTokens:
    """How many tokens the rest may have; `is_estimated`: nobody counted those that were delivered."""

    tokens: int
    is_estimated: bool


@dataclass(frozen=True, slots=True)
class ContinuationRequest(Request):
    """A request for the rest of an answer: the original one with messages at its end."""

    strategy: ResumeStrategy = "continue"
    tail: tuple[Mapping[str, Any], ...] = field(default=(), repr=False, hash=False)
    """The messages that follow the prompt."""

    def messages(self) -> list[dict[str, Any]]:
        """The chat messages in the wire format."""
        return [*Request.messages(self), *(dict(message) for message in self.tail)]


def capabilities_of(
    target: Target, detected: Detected | None = None, configured: Capabilities | None = None
) -> Capabilities:
    """What *target* allows: as the user *configured* it, else by what was *detected*, else only what is harmless.

    The embedded server is llama.cpp. A server that nobody knows is asked in words: one that does not continue an
    assistant message would answer it, or refuse it.
    """
    if configured is not None:
        return configured
    if target.is_embedded:
        return Capabilities(replay=target.is_deterministic, prefill="trailing")
    form: PrefillForm | None = None
    owner = (detected.owned_by or "").lower() if detected else ""
    if owner == "llamacpp":
        form = "trailing"
    elif owner == "vllm":
        form = "continue_final_message"
    elif owner == "mistralai":
        form = "prefix"
    return Capabilities(replay=target.is_deterministic, prefill=form)


def strategies(
    capabilities: Capabilities, request: Request, shown: str, *, has_reasoned: bool = False
) -> tuple[ResumeStrategy, ...]:
    """The ways to go on after *shown*, the best first; () if there is none, `restart` if nothing was shown.

    Structured answers are only replayed: two halves that fit their schema need not fit it together. A model that has
    reasoned before it answered is not prefilled (*has_reasoned*): its reasoning would be missing.
    """
    if not shown:
        return ("restart",)
    ways: list[ResumeStrategy] = ["replay"] if capabilities.replay else []
    if request.parameters.response_format is None and shown.strip():
        if capabilities.prefill is not None and not has_reasoned:
            ways.append("prefill")
        if capabilities.continue_:
            ways.append("continue")
    return tuple(ways)


def remaining_tokens(max_tokens: int, delivered: str, counted: int | None = None) -> RemainingTokens:
    """What is left of *max_tokens* after *delivered*; *counted* are its tokens by usage or logprobs, if known.

    0 only if counted: the answer had reached its limit. An estimate leaves at least 1.
    """
    if counted is not None:
        return RemainingTokens(max(0, max_tokens - counted), False)
    return RemainingTokens(max(1, max_tokens - likely_tokens(delivered)), True)


def prefill_request(
    request: Request, partial: str, *, form: PrefillForm = "trailing", counted: int | None = None
) -> ContinuationRequest:
    """Ask for what follows *partial*, which is sent as the last message, without the white space at its end.

    That white space was delivered; the `Stitcher` takes care that it comes once. *counted*: see `remaining_tokens`.
    Raises InternalError if nothing but white space would be prefilled, or the answer has a structure to keep.
    """
    text, _ = prefill_text(partial)
    if not text or request.parameters.response_format is not None:
        raise InternalError("a structured or empty answer cannot be prefilled")
    message: dict[str, Any] = {"role": "assistant", "content": text}
    body: dict[str, Any] = {}
    if form == "prefix":
        message["prefix"] = True
    elif form == "continue_final_message":
        body = {"continue_final_message": True, "add_generation_prompt": False}
    return _continuation(request, "prefill", (message,), body, _left(request, partial, counted, 0))


def continue_request(request: Request, partial: str, *, counted: int | None = None) -> ContinuationRequest:
    """Ask in words for what follows *partial*, and for its last words once more.

    At most MAX_QUOTED_CHARS of the end of *partial* are quoted, from the beginning of a line if there is one near.
    Raises InternalError if *partial* is blank, or the answer has a structure to keep.
    """
    if not partial.strip() or request.parameters.response_format is not None:
        raise InternalError("a structured or empty answer cannot be continued in words")
    quoted = partial
    if len(partial) > MAX_QUOTED_CHARS:
        quoted = partial[-MAX_QUOTED_CHARS:]
        line = quoted.find("\n", 0, MAX_QUOTED_CHARS // 4)
        quoted = quoted[line + 1 :]
    tail = last_words(quoted.rstrip())
    instruction = _CONTINUE.format(tail=tail, cut=_CUT if len(quoted) < len(partial) else "")
    messages = ({"role": "assistant", "content": quoted.rstrip()}, {"role": "user", "content": instruction})
    return _continuation(request, "continue", messages, {}, _left(request, partial, counted, likely_tokens(tail)))


def _continuation(
    request: Request,
    strategy: ResumeStrategy,
    tail: tuple[Mapping[str, Any], ...],
    extra_body: Mapping[str, Any],
    max_tokens: int | None,
) -> ContinuationRequest:
    return ContinuationRequest(
        prompt=request.prompt,
        context=request.context,
        system=request.system,
        parameters=dataclasses.replace(request.parameters, max_tokens=max_tokens),
        deadlines=request.deadlines,
        strategy=strategy,
        tail=tail,
        extra_body=extra_body,
        earlier=request.earlier,
    )


def _left(request: Request, partial: str, counted: int | None, repeated: int) -> int | None:
    limit = request.parameters.max_tokens
    if limit is None:
        return None
    # A server refuses 0; whoever knows that the limit was reached does not ask.
    return max(1, remaining_tokens(limit, partial, counted).tokens) + repeated
