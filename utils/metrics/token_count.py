"""How many tokens an answer has, and who says so; per attempt, never twice.

The best of these counts: `usage` of the server; the entries of its `logprobs`; our own `tokenizer`, if it has the
model's vocabulary; an `estimate` by another vocabulary, or of a text of which something is hidden; the `chunks`.

An answer may be written by several attempts (connections), each with at most one valid `Usage`: its latest.
What an attempt's usage covers depends on how it was joined to the text before it:

attempt          its usage covers             tokens of the answer so far
first, restart   all that it wrote            its own (a restart follows an attempt that delivered nothing)
replay           the whole answer once more   its own: what earlier attempts counted is dropped
prefill          only the continuation        earlier attempts + its own
continue         only the continuation        earlier attempts + its own

An attempt that ended without usage (interrupted ones nearly always do) counts what was seen of it. A replay without
usage shows only new text, so it is added. The parts of a sum may come from different sources; `token_source` is then
the least exact of them and `by_source` has all.

`prompt_tokens` are those of the original request: prefill and continue send the partial answer along as prompt,
so their figure is used for nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from utils.events import ResumeStrategy, Usage
from utils.metrics.snapshot import TokenSource
from utils.metrics.tokenizer import IncrementalCounter, Tokenizer

__all__ = ["TokenCount", "TokenCounter", "TokenizerFor", "Written"]

TokenizerFor = Callable[[str | None], tuple[Tokenizer, bool] | None]
"""What counts the tokens of a model, and whether that is the model's own vocabulary; None: nothing does."""

_LEAST_EXACT_FIRST: tuple[TokenSource, ...] = ("chunks", "estimate", "tokenizer", "logprobs", "usage")


class Written(NamedTuple):
    """Running totals of the whole answer: text deltas shown, their logprobs entries, characters, replacements."""

    chunks: int = 0
    logprobs: int = 0
    chars: int = 0
    redactions: int = 0


_NOTHING = Written()


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
    """What is known of the attempt that writes now; *before*: what was written when it began."""

    before: Written = _NOTHING
    strategy: ResumeStrategy | None = None
    usage: Usage | None = None
    counter: IncrementalCounter | None = None
    counted_chars: int = 0
    """How far the counter has read the text shown."""
    is_own_vocabulary: bool = False


class TokenCounter:
    """Folds the attempts of one answer into one token count.

    Nothing has to be called per token: every method takes the running totals. Memory: constant.
    *tokenizer_for* is asked only when nobody else has counted (loading a vocabulary takes time); *since* gives the
    text shown from a character on.
    """

    def __init__(
        self, tokenizer_for: TokenizerFor | None = None, since: Callable[[int], str] = lambda start: ""
    ) -> None:
        self.is_reported = False
        """Whether any server reported usage."""
        self._tokenizer_for = tokenizer_for
        self._since = since
        self._model: str | None = None
        self._attempt = _Attempt()
        self._parts: dict[TokenSource, int] = {}
        self._prompt_tokens: int | None = None

    def interrupt(self, written: Written) -> None:
        """The current attempt is over; what follows belongs to a new one."""
        self._parts = self._parts_with_current(written)
        self._prompt_tokens = self._prompt_with_current()
        self._attempt = _Attempt(written, counted_chars=written.chars)

    def open(self, written: Written, model: str | None = None) -> None:
        """An attempt of *model* begins: close the one before it, if that one left anything to count."""
        if self._attempt.usage is not None or written.chunks > self._attempt.before.chunks:
            self.interrupt(written)
        self._model = model

    def resume(self, strategy: ResumeStrategy, written: Written) -> None:
        """The current attempt continues the answer by *strategy*."""
        if self._attempt.strategy is not None or written.chunks > self._attempt.before.chunks:
            self.interrupt(written)
        self._attempt.strategy = strategy

    def report(self, usage: Usage) -> None:
        """The server reported *usage* for the current attempt; a later report replaces an earlier one."""
        self.is_reported = True
        self._attempt.usage = usage

    def count(self, written: Written) -> TokenCount:
        """The tokens of the answer as known now. No later count depends on when and how often this is asked."""
        parts = self._parts_with_current(written)
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

    def _parts_with_current(self, written: Written) -> dict[TokenSource, int]:
        attempt, before = self._attempt, self._attempt.before
        parts: dict[TokenSource, int] = {} if self._covers_everything() else dict(self._parts)
        wrote = written.chunks > before.chunks
        # Some proxies report zero tokens for an answer that is plainly there.
        if attempt.usage is not None and (attempt.usage.completion_tokens > 0 or not wrote):
            source: TokenSource = "usage"
            tokens = attempt.usage.completion_tokens
        elif written.logprobs > before.logprobs:
            source, tokens = "logprobs", written.logprobs - before.logprobs
        elif not wrote:
            return parts
        elif (counter := self._counter(written)) is not None:
            is_exact = attempt.is_own_vocabulary and counter.is_exact and written.redactions == before.redactions
            source, tokens = "tokenizer" if is_exact else "estimate", counter.count
        else:
            source, tokens = "chunks", written.chunks - before.chunks
        parts[source] = parts.get(source, 0) + tokens
        return parts

    def _counter(self, written: Written) -> IncrementalCounter | None:
        """The counter of the current attempt, which has read all that the attempt has shown."""
        attempt = self._attempt
        if attempt.counter is None:
            found = self._tokenizer_for(self._model) if self._tokenizer_for is not None else None
            if found is None:
                self._tokenizer_for = None
                return None
            attempt.counter, attempt.is_own_vocabulary = IncrementalCounter(found[0]), found[1]
        if attempt.counted_chars < written.chars:
            attempt.counter.feed(self._since(attempt.counted_chars))
            attempt.counted_chars = written.chars
        return attempt.counter

    def _covers_everything(self) -> bool:
        """Whether the current attempt's count stands for the whole answer."""
        attempt = self._attempt
        if attempt.strategy == "replay":
            return attempt.usage is not None and attempt.usage.completion_tokens > 0
        # Whatever a failed attempt reported about text that never arrived is no part of this answer.
        return attempt.strategy in (None, "restart") and attempt.before.chunks == 0

    def _prompt_with_current(self) -> int | None:
        attempt = self._attempt
        sent_original_request = attempt.strategy in (None, "replay", "restart")
        if attempt.usage is not None and sent_original_request:
            return attempt.usage.prompt_tokens
        return self._prompt_tokens


def _empty_source(parts: dict[TokenSource, int]) -> TokenSource:
    """Source of a count of zero: the server's word if it gave one."""
    return "usage" if "usage" in parts else "chunks"
