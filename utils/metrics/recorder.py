"""The recorder: one pure fold over the events of a run, the single source of every figure shown anywhere.

It is told what happened and when, and reads no clock. The hot path (`TextDelta`) only appends and compares; joining
the text, looking for loops and everything statistical happens per 50 chunks or when somebody asks.

What is measured is what the reader sees: the events come from behind the guards, so a character that a guard held
back counts when it is released.

Memory besides the text itself is bounded: the first 131,072 gaps and logprobs (6 MB; answers of 128 k tokens stay
exact, later ones are counted as left out), the newest 1,024 chunk instants, the first and the newest 512 events.
"""

from __future__ import annotations

from array import array
from dataclasses import asdict
from itertools import accumulate
from typing import Any, assert_never

from utils.events import (
    Aborted,
    Adapted,
    Blocked,
    BreakerChanged,
    Event,
    FellBack,
    Finished,
    Flagged,
    Interrupted,
    Opened,
    ReasoningDelta,
    Redacted,
    Resumed,
    Retrying,
    TerminalEvent,
    TextDelta,
    Usage,
)
from utils.guardrails.hold_log import HoldLog
from utils.metrics.confidence import ConfidenceLog
from utils.metrics.definitions import DEFINITIONS
from utils.metrics.event_log import EventLog
from utils.metrics.percentiles import summarize
from utils.metrics.quality import Repetition, has_open_fence
from utils.metrics.recent import RecentChunks
from utils.metrics.replacements import Replacements
from utils.metrics.snapshot import Snapshot, StreamState
from utils.metrics.token_count import TokenCount, TokenCounter, TokenizerFor, Written
from utils.metrics.token_log import TokenLog, token_log
from utils.metrics.transcript import Transcript

__all__ = ["DEFINITIONS", "MAX_SAMPLES", "Recorder"]

MAX_SAMPLES = 131_072
"""Gaps and logprobs kept: an answer of 128 k tokens, the longest that models offer, stays exact."""

_MAX_RESUME_GAPS = 256
_COUNTED = ("interruptions", "retries", "resumes", "fallbacks", "breaker_changes", "redactions", "flags", "adaptations")
_END_TOKENS = 2
"""Tokens without text that servers may count in usage: end of turn, end of text."""


class Recorder:
    """Folds the events of one run into figures. `handle` is the listener; all else may be read at any time.

    *started_s*: the start of the run on the clock that `handle` and the readers are given. That clock must not go
    backwards. Events after the terminal event are ignored. Not thread-safe: one run, one thread. *tokenizer_for* counts
    where no server did.
    """

    def __init__(self, started_s: float, tokenizer_for: TokenizerFor | None = None) -> None:
        self.terminal: TerminalEvent | None = None
        """The last event of the stream, once it has come."""
        self.opened: Opened | None = None
        """The newest attempt that reached its first data event."""

        self.started_s = started_s
        """The start of the run, in seconds of its clock."""
        self._state: StreamState = "waiting"
        self._target: str | None = None
        self._model: str | None = None
        self._first_chunk_s: float | None = None
        self._first_reasoning_s: float | None = None
        self._attempt_reasoning_s: float | None = None
        """First reasoning of the attempt that the answer began with: what failed before it is not in its usage."""
        self._first_text_s: float | None = None
        self._last_text_s: float | None = None
        self._first_delta_s: float | None = None
        self._last_delta_s: float | None = None
        self._ended_s: float | None = None

        self._transcript = Transcript()
        self._confidence = ConfidenceLog(MAX_SAMPLES)
        self._tokens = TokenCounter(tokenizer_for, self._transcript.since)
        self._event_log = EventLog()
        self._chunks = 0
        self._chunks_with_logprobs = 0
        self._longest_gap_s: float | None = None
        self._gaps = array("d")
        self._starts = array("q")
        """Where each chunk begins in the text shown."""
        self._recent = RecentChunks()
        self._counts = dict.fromkeys(_COUNTED, 0)
        self._replacements = Replacements()
        self._attempts = 0
        self._resume_gaps: list[float] = []
        self._reasoning_chunks = 0

    def handle(self, event: Event, now: float) -> None:
        """Take in that *event* happened at *now* (seconds)."""
        if self.terminal is not None:
            return
        if isinstance(event, TextDelta):
            self._show_text(event, now)
            return
        if isinstance(event, ReasoningDelta):
            self._reasoning_chunks += 1
            if self._first_reasoning_s is None:
                self._first_reasoning_s = now
            if self._attempt_reasoning_s is None:
                self._attempt_reasoning_s = now
            self._state = "streaming"
            return
        self._event_log.add(event, now - self.started_s)
        match event:
            case Redacted():
                before = self._transcript.chars
                self._show_replacement(event.replacement, now)
                self._replacements.add(event, shown_before=before, shown_after=self._transcript.chars)
                self._counts["redactions"] = self._replacements.count
            case Flagged():
                self._counts["flags"] += 1
            case Usage():
                self._tokens.report(event)
            case Opened():
                if self._first_chunk_s is None:
                    self._first_chunk_s = now
                self.opened = event
                self._target, self._model = event.target, event.model
                self._attempts = max(self._attempts, event.attempt)
                if self._first_text_s is None:
                    self._attempt_reasoning_s = None
                self._tokens.open(self._written(), event.model)
            case Interrupted():
                self._counts["interruptions"] += 1
                self._state = "recovering"
                self._tokens.interrupt(self._written())
            case Retrying():
                self._counts["retries"] += 1
                self._attempts = max(self._attempts, event.attempt)
                self._state = "recovering"
            case Resumed():
                self._counts["resumes"] += 1
                self._attempts = max(self._attempts, event.attempt)
                self._state = "streaming"
                if len(self._resume_gaps) < _MAX_RESUME_GAPS:
                    self._resume_gaps.append(event.gap_s)
                self._tokens.resume(event.strategy, self._written())
            case FellBack():
                self._counts["fallbacks"] += 1
                self._target, self._model = event.to_target, None
            case Adapted():
                self._counts["adaptations"] += 1
            case BreakerChanged():
                self._counts["breaker_changes"] += 1
            case Finished():
                self._end(event, "finished", now)
            case Blocked():
                self._end(event, "blocked", now)
            case Aborted():
                self._end(event, "aborted", now)
            case _:
                assert_never(event)

    def _show_text(self, event: TextDelta, now: float) -> None:
        last = self._last_delta_s
        if last is None:
            self._first_delta_s = now
            if self._first_text_s is None:
                self._first_text_s = now
        else:
            gap = now - last
            if self._longest_gap_s is None or gap > self._longest_gap_s:
                self._longest_gap_s = gap
            if self._chunks <= MAX_SAMPLES:
                self._gaps.append(gap)
        self._last_delta_s = self._last_text_s = now
        self._state = "streaming"
        transcript, tokens, chunks = self._transcript, event.tokens, self._chunks
        if chunks < MAX_SAMPLES:
            self._starts.append(transcript.chars)
        self._chunks = chunks + 1
        self._recent.at.append(now)
        self._recent.tokens.append(tokens)
        if tokens:
            self._chunks_with_logprobs += 1
            start = transcript.chars
            self._confidence.add(tokens, start, start + len(event.text))
        transcript.append(event.text)

    def _show_replacement(self, replacement: str, now: float) -> None:
        if not replacement:
            return
        if self._first_text_s is None:
            self._first_text_s = now
        self._last_text_s = now
        self._state = "streaming"
        self._transcript.append(replacement)

    def _end(self, event: TerminalEvent, state: StreamState, now: float) -> None:
        self.terminal = event
        self._state = state
        self._ended_s = now
        self._transcript.check()

    @property
    def target(self) -> str | None:
        """The target that was asked last, as far as the events tell."""
        return self._target

    @property
    def text(self) -> str:
        """What was shown: the text deltas and replacements in order. Linear in its length."""
        return self._transcript.text

    @property
    def text_shown(self) -> bool:
        """Whether any text or replacement has been shown."""
        return self._transcript.chars > 0

    @property
    def repetition(self) -> Repetition | None:
        """The loop in which the text ended at the newest check (every 50 chunks and at the end), if it did."""
        return self._transcript.loop

    def latencies(self) -> tuple[float, ...]:
        """The inter-chunk latencies in seconds, in order: the first 131,072."""
        return tuple(self._gaps)

    def token_log(self, hold: HoldLog | None = None) -> TokenLog:
        """A record for each token (each chunk, where the server named no tokens): the first 131,072.

        *hold*: the guard's log of what waited, whose positions are those of the text shown.
        """
        first_s = self._first_delta_s
        if first_s is None:
            return TokenLog()
        arrivals = accumulate(self._gaps, initial=first_s - self.started_s)
        return token_log(list(arrivals), self._starts, self._confidence.placed(), hold)

    def events(self) -> tuple[dict[str, Any], ...]:
        """All events but text and reasoning deltas as JSON rows, `t_s` since the start of the run, in order.

        At most the first 512 and the newest 512; `metrics()["events_left_out"]` counts the rest.
        """
        return self._event_log.rows()

    def usage(self) -> dict[str, Any] | None:
        """Token counts of the answer; None if no server reported any.

        One attempt: what the server said. A resumed answer: `completion_tokens` as in `metrics()["tokens"]`
        (an estimate unless `token_source` is "usage"), `prompt_tokens` and `total_tokens` None when only a
        continuation, whose prompt held part of the answer, was reported.
        """
        if not self._tokens.is_reported:
            return None
        count = self._count()
        return {
            "prompt_tokens": count.prompt_tokens,
            "completion_tokens": count.tokens,
            "total_tokens": count.total_tokens,
            "token_source": count.source,
        }

    def snapshot(self, now: float) -> Snapshot:
        """The figures at *now* (seconds). Cost: constant, whatever the length of the answer."""
        count = self._count()
        end = self._end_or(now)
        return Snapshot(
            state=self._state,
            elapsed_s=end - self.started_s,
            target=self._target,
            model=self._model,
            ttfc_s=self._since_start(self._first_chunk_s),
            ttft_s=self._since_start(self._first_text_s),
            chunks=self._chunks,
            chars=self._transcript.chars,
            tokens=count.tokens,
            token_source=count.source,
            tokens_per_s=self._rates(count)[1],
            tokens_per_s_now=self._recent.tokens_per_s(end),
            latencies_s=self._recent.latencies(),
            longest_stall_s=self._longest_gap_s,
            confidence=self._recent.confidence() if self._confidence.count else (),
            retries=self._counts["retries"],
            resumes=self._counts["resumes"],
            fallbacks=self._counts["fallbacks"],
            redactions=self._counts["redactions"],
            flags=self._counts["flags"],
        )

    def metrics(self, now: float) -> dict[str, Any]:
        """All figures at *now*, ready for JSON; `DEFINITIONS` says what each key means. None: not known."""
        count = self._count()
        tpot_s, tokens_per_s = self._rates(count)
        by_chunks = count.source == "chunks"
        return {
            "ttfc_s": self._since_start(self._first_chunk_s),
            "ttfr_s": self._since_start(self._first_reasoning_s),
            "ttft_s": self._since_start(self._first_text_s),
            "e2e_s": self._end_or(now) - self.started_s,
            "inter_chunk_latency_s": self._latency_summary(),
            "tpot_s": tpot_s,
            "tokens_per_s": tokens_per_s,
            "tokens": count.tokens,
            "token_source": count.source,
            "tokens_by_source": dict(count.by_source),
            "prompt_tokens": count.prompt_tokens,
            "chunks": self._chunks,
            "chars": self._transcript.chars,
            "tokens_per_chunk": None if by_chunks or not self._chunks else count.tokens / self._chunks,
            "reasoning_chunks": self._reasoning_chunks,
            "longest_stall_s": self._longest_gap_s,
            "attempts": self._attempts,
            **self._counts,
            "gap_s": list(self._resume_gaps),
            "events_left_out": self._event_log.left_out,
        }

    def quality(self) -> dict[str, Any]:
        """Completeness, repetition and confidence, ready for JSON; `DEFINITIONS` says what each key means."""
        return {
            "completeness": self._completeness(),
            "repetition": self._transcript.repetition_as_json(),
            "confidence": self._confidence.as_json(),
        }

    def _since_start(self, instant: float | None) -> float | None:
        return None if instant is None else instant - self.started_s

    def _end_or(self, now: float) -> float:
        return now if self._ended_s is None else self._ended_s

    def _written(self) -> Written:
        return Written(self._chunks, self._confidence.count, self._transcript.chars, self._replacements.count)

    def _count(self) -> TokenCount:
        return self._tokens.count(self._written())

    def _unaccounted(self, count: TokenCount) -> int | None:
        """Tokens in usage beyond what the text can hold, or (negative) short of the logprobs; None: cannot tell."""
        if count.source != "usage" or count.is_joined or self._counts["redactions"] or self._reasoning_chunks:
            return None
        # One logprobs entry may stand for a character of several tokens (llama.cpp reports an emoji of three tokens
        # as one entry), so each byte of a character beyond its first may be one token more.
        seen = self._confidence.count if self._chunks_with_logprobs == self._chunks else 0
        at_most = (seen or self._transcript.chars) + self._transcript.extra_bytes + _END_TOKENS
        if count.tokens > at_most:
            return count.tokens - at_most
        return min(0, count.tokens - seen)

    def _rates(self, count: TokenCount) -> tuple[float | None, float | None]:
        """Seconds per token and tokens per second after the first token; definitions in `DEFINITIONS`."""
        first = self._first_text_s
        reasoning = self._attempt_reasoning_s
        if count.source == "usage" and reasoning is not None and first is not None:
            first = min(first, reasoning)
        last = self._last_text_s
        if first is None or last is None or count.tokens < 2 or self._chunks < 2:
            return None, None
        if (self._unaccounted(count) or 0) > 0:
            return None, None
        span = last - first
        return span / (count.tokens - 1), (count.tokens - 1) / span if span > 0 else None

    def _latency_summary(self) -> dict[str, Any]:
        summary = asdict(summarize(self._gaps))
        if self._first_delta_s is not None and self._last_delta_s is not None and self._chunks > 1:
            summary["max"] = self._longest_gap_s
            # The sum of all gaps telescopes, so gaps that were left out are in it.
            summary["mean"] = (self._last_delta_s - self._first_delta_s) / (self._chunks - 1)
        summary["left_out"] = max(0, self._chunks - 1) - len(self._gaps)
        return summary

    def _completeness(self) -> dict[str, Any]:
        finish_reason = self.terminal.finish_reason if isinstance(self.terminal, Finished) else None
        open_fence = has_open_fence(self.text)
        unaccounted = self._unaccounted(self._count()) if finish_reason is not None else None
        return {
            "finish_reason": finish_reason,
            "is_complete": finish_reason not in (None, "length", "content_filter") and not open_fence,
            "open_code_fence": open_fence,
            "usage_mismatch": None if unaccounted is None else unaccounted != 0,
            "unaccounted_tokens": unaccounted,
        }
