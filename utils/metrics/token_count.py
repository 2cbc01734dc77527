"""How many tokens an answer has, and who says so: usage, else logprobs, else chunks; per attempt, never twice.

An answer may be written by several attempts (connections), each with at most one valid `Usage`: its latest.
What an attempt's usage covers depends on how it was joined to the text before it:

attempt          its usage covers             tokens of the answer so far
first, restart   all that it wrote            its own (a restart follows an attempt that delivered nothing)
replay           the whole answer once more   its own: what earlier attempts counted is dropped
prefill          only the continuation        earlier attempts + its own
continue         only the continuation        earlier attempts + its own

An attempt that ended without usage (interrupted ones nearly always do) counts what was seen of it: its logprobs
entries, or its chunks if there were none. A replay without usage shows only new text, so it is added. The parts
of a sum may come from different sources; `token_source` is then the least exact of them and `by_source` has all.

`prompt_tokens` are those of the original request: prefill and continue send the partial answer along as prompt,
so their figure is used for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from utils.events import ResumeStrategy, Usage
from utils.metrics.snapshot import TokenSource

__all__ = ["TokenCount", "TokenCounter"]

_LEAST_EXACT_FIRST: tuple[TokenSource, ...] = ("chunks", "logprobs", "usage")


@dataclass(frozen=True, slots=True)
class TokenCount:
    """Completion tokens of an answer.

    `prompt_tokens` and `total_tokens` are None if no server said them about the whole answer. `is_joined`: more than
    one attempt's count went into the sum.
    """

    tokens: int
    source: TokenSource
    by_source: dict[TokenSource, int]
    prompt_tokens: int | None
    total_tokens: int | None
    is_joined: bool


@dataclass(slots=True)
class _Attempt:
    """What is known of the attempt that writes now; *chunks* and *logprobs* are the totals when it began."""

    chunks: int = 0
    logprobs: int = 0
    strategy: ResumeStrategy | None = None
    usage: Usage | None = None


class TokenCounter:
    """Folds the attempts of one answer into one token count.

    Every method takes the running totals of the whole answer, *chunks* (text deltas shown) and *logprobs*
    (their logprobs entries), so that nothing has to be called per token. Memory: constant.
    """

    def __init__(self) -> None:
        self.is_reported = False
        """Whether any server reported usage."""
        self._attempt = _Attempt()
        self._parts: dict[TokenSource, int] = {}
        self._prompt_tokens: int | None = None

    def interrupt(self, chunks: int, logprobs: int) -> None:
        """The current attempt is over; what follows belongs to a new one."""
        self._parts = self._parts_with_current(chunks, logprobs)
        self._prompt_tokens = self._prompt_with_current()
        self._attempt = _Attempt(chunks, logprobs)

    def open(self, chunks: int, logprobs: int) -> None:
        """An attempt begins: close the one before it, if that one left anything to count."""
        if self._attempt.usage is not None or chunks > self._attempt.chunks:
            self.interrupt(chunks, logprobs)

    def resume(self, strategy: ResumeStrategy, chunks: int, logprobs: int) -> None:
        """The current attempt continues the answer by *strategy*."""
        if self._attempt.strategy is not None or chunks > self._attempt.chunks:
            self.interrupt(chunks, logprobs)
        self._attempt.strategy = strategy

    def report(self, usage: Usage) -> None:
        """The server reported *usage* for the current attempt; a later report replaces an earlier one."""
        self.is_reported = True
        self._attempt.usage = usage

    def count(self, chunks: int, logprobs: int) -> TokenCount:
        """The tokens of the answer as known now. The counter is not changed."""
        parts = self._parts_with_current(chunks, logprobs)
        tokens = sum(parts.values())
        prompt_tokens = self._prompt_with_current()
        is_joined = bool(self._parts) and not self._covers_everything()
        usage = self._attempt.usage
        if usage is not None and not is_joined and tokens == usage.completion_tokens:
            total_tokens: int | None = usage.total_tokens
        else:
            total_tokens = None if prompt_tokens is None else prompt_tokens + tokens
        return TokenCount(
            tokens=tokens,
            source=next((source for source in _LEAST_EXACT_FIRST if parts.get(source)), _empty_source(parts)),
            by_source=parts,
            prompt_tokens=prompt_tokens,
            total_tokens=total_tokens,
            is_joined=is_joined,
        )

    def _parts_with_current(self, chunks: int, logprobs: int) -> dict[TokenSource, int]:
        attempt = self._attempt
        parts: dict[TokenSource, int] = {} if self._covers_everything() else dict(self._parts)
        wrote = chunks > attempt.chunks
        # Some proxies report zero tokens for an answer that is plainly there.
        if attempt.usage is not None and (attempt.usage.completion_tokens > 0 or not wrote):
            parts["usage"] = parts.get("usage", 0) + attempt.usage.completion_tokens
        elif logprobs > attempt.logprobs:
            parts["logprobs"] = parts.get("logprobs", 0) + logprobs - attempt.logprobs
        elif wrote:
            parts["chunks"] = parts.get("chunks", 0) + chunks - attempt.chunks
        return parts

    def _covers_everything(self) -> bool:
        """Whether the current attempt's count stands for the whole answer."""
        attempt = self._attempt
        if attempt.strategy == "replay":
            return attempt.usage is not None and attempt.usage.completion_tokens > 0
        # Whatever a failed attempt reported about text that never arrived is no part of this answer.
        return attempt.strategy in (None, "restart") and attempt.chunks == 0

    def _prompt_with_current(self) -> int | None:
        attempt = self._attempt
        sent_original_request = attempt.strategy in (None, "replay", "restart")
        if attempt.usage is not None and sent_original_request:
            return attempt.usage.prompt_tokens
        return self._prompt_tokens


def _empty_source(parts: dict[TokenSource, int]) -> TokenSource:
    """Source of a count of zero: the server's word if it gave one."""
    return "usage" if "usage" in parts else "chunks"
