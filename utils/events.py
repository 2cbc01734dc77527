"""The closed union of stream events: pure values, no methods with effects, never subclassed.

A stream is any number of events followed by exactly one terminal event (`Finished`, `Blocked`, `Aborted`).
Consumers receive `(event, now)`; events carry no clock. Dispatch with `match` and end with `assert_never`.

Offsets and lengths count code points of the raw text (what the model wrote, before any redaction).

Structs of msgspec instead of dataclasses: one of them is made per chunk and stage, in a third of the time, and their
classes come to be in a tenth of it. *gc=False*: they hold texts and numbers only, which the collector need not search.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from utils.errors import AppError, ProviderError

__all__ = [
    "Aborted",
    "Adapted",
    "Blocked",
    "BreakerChanged",
    "Event",
    "FellBack",
    "Finished",
    "Flagged",
    "Interrupted",
    "Opened",
    "ReasoningDelta",
    "Redacted",
    "ResumeStrategy",
    "Resumed",
    "Retrying",
    "TerminalEvent",
    "TextDelta",
    "TokenLogprob",
    "Usage",
    "as_json",
    "error_as_json",
    "event_type",
]

ResumeStrategy = Literal["replay", "prefill", "continue", "restart"]


class TokenLogprob(msgspec.Struct, frozen=True, gc=False):
    """One token as the server reported it: its text and natural-log probability (0 = certain)."""

    text: str
    logprob: float


class Opened(msgspec.Struct, frozen=True, gc=False):
    """The first data event of an attempt arrived from *target*; *model* is the name the server reports."""

    target: str
    model: str
    attempt: int


class TextDelta(msgspec.Struct, frozen=True, gc=False):
    """Text to show; never empty. *tokens* are this delta's tokens if the server sent logprobs, else ()."""

    text: str
    tokens: tuple[TokenLogprob, ...] = ()


class ReasoningDelta(msgspec.Struct, frozen=True, gc=False):
    """Text of the model's reasoning channel; never part of the answer. Never empty."""

    text: str


class Redacted(msgspec.Struct, frozen=True, gc=False):
    """A *replacement* is shown instead of text that *rule* hides. Carries no removed text."""

    rule: str
    replacement: str
    raw_start: int


class Flagged(msgspec.Struct, frozen=True, gc=False):
    """*rule* noticed something in [raw_start, raw_end) that stays visible."""

    rule: str
    raw_start: int
    raw_end: int


class Interrupted(msgspec.Struct, frozen=True):
    """The upstream failed after *chars* characters of the answer; recovery may follow."""

    cause: ProviderError
    chars: int


class Retrying(msgspec.Struct, frozen=True):
    """Attempt number *attempt* (2 is the first retry) will start after *delay_s* seconds.

    The *cause* is a failure of the provider, or ValidationFailed: an answer that nobody has seen is asked for again.
    """

    attempt: int
    delay_s: float
    cause: AppError


class Resumed(msgspec.Struct, frozen=True, gc=False):
    """The answer goes on after an interruption; *gap_s* without text, *overlap_chars* received again and dropped."""

    strategy: ResumeStrategy
    attempt: int
    gap_s: float
    overlap_chars: int


class FellBack(msgspec.Struct, frozen=True, gc=False):
    """Another target answers; if text was shown, it goes on with the same answer (`Resumed` follows)."""

    from_target: str
    to_target: str
    cause: str


class BreakerChanged(msgspec.Struct, frozen=True, gc=False):
    """The circuit breaker of *target* changed its state (`closed`, `open`, `half_open`) for *reason*.

    An open one leaves the target alone for *open_for_s* seconds (else 0).
    """

    target: str
    before: str
    after: str
    reason: str
    open_for_s: float


class Adapted(msgspec.Struct, frozen=True, gc=False):
    """Something was adjusted, and why. Nothing is ever adjusted without one of these."""

    what: str
    before: str
    after: str
    reason: str


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Token counts as the server reported them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Finished(msgspec.Struct, frozen=True, gc=False):
    """The answer is whole (or ends where the server says it ends): `stop`, `length`, ..."""

    finish_reason: str

    @property
    def is_cut(self) -> bool:
        """Whether the token limit ended the answer, wherever it was."""
        return self.finish_reason.lower() in ("length", "max_tokens", "model_length")


class Blocked(msgspec.Struct, frozen=True, gc=False):
    """A rule stopped the answer; what was safe stays."""

    rule: str


class Aborted(msgspec.Struct, frozen=True):
    """The answer is not whole, and this is why."""

    error: AppError


TerminalEvent = Finished | Blocked | Aborted
Event = (
    Opened
    | TextDelta
    | ReasoningDelta
    | Redacted
    | Flagged
    | Interrupted
    | Retrying
    | Resumed
    | FellBack
    | BreakerChanged
    | Adapted
    | Usage
    | TerminalEvent
)


def event_type(event: Event) -> str:
    """The event's class name in snake case, as it stands in JSON."""
    name = type(event).__name__
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


def error_as_json(error: AppError) -> dict[str, Any]:
    """The stable JSON form of an error."""
    row: dict[str, Any] = {"code": error.code, "message": error.message, "hint": error.hint}
    if error.simulated:
        row["simulated"] = True
    return row


def as_json(event: Event, t_s: float) -> dict[str, Any]:
    """A JSON-ready dict `{"type": ..., "t_s": seconds since the start of the run, ...fields}`."""
    row: dict[str, Any] = {"type": event_type(event), "t_s": round(t_s, 6)}
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if isinstance(value, AppError):
            value = error_as_json(value)
        elif isinstance(value, tuple):
            value = [msgspec.structs.asdict(item) for item in value]
        row[name] = value
    return row
