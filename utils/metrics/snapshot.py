"""The state of a stream and of the stages around it at one instant, for the monitor and the nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Snapshot", "StageStates", "StreamState", "TokenSource"]

StreamState = Literal["waiting", "streaming", "recovering", "finished", "blocked", "aborted"]
TokenSource = Literal["usage", "logprobs", "tokenizer", "estimate", "chunks"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Figures of one stream; None means not known (yet). Times in seconds; `DEFINITIONS` has the full definitions.

    ttfc_s: start of the run to the first data event.  ttft_s: start of the run to the first text shown.
    target, model: of the newest attempt; after a fallback the model is None until the new target has answered.
    tokens: completion tokens, counted by `token_source`.  tokens_per_s: (tokens - 1) / (t_last - t_first).
    tokens_per_s_now: tokens of the last two seconds (less if the first or the oldest of 1,024 remembered chunks is
    younger; that chunk itself is left out) per second of that time, so a stall brings it down to 0; a chunk without
    logprobs counts as one token; at the end of the stream it stands still.  latencies_s: the newest inter-chunk
    latencies, oldest first, at most 64.  longest_stall_s: the largest inter-chunk latency; a silence that still
    lasts is not in it.  confidence: the newest token probabilities (0..1), oldest first, at most 64, of the newest
    1,024 chunks; empty if the server sent no logprobs.
    """

    state: StreamState
    elapsed_s: float
    target: str | None
    model: str | None
    ttfc_s: float | None
    ttft_s: float | None
    chunks: int
    chars: int
    tokens: int
    token_source: TokenSource
    tokens_per_s: float | None
    tokens_per_s_now: float | None
    latencies_s: tuple[float, ...]
    longest_stall_s: float | None
    confidence: tuple[float, ...]
    retries: int
    resumes: int
    fallbacks: int
    redactions: int
    flags: int


@dataclass(frozen=True, slots=True)
class StageStates:
    """What the stages around a stream say of themselves; None: there is no such stage.

    breaker: state of the circuit breaker of the target that is asked.  queued: requests that wait for the rate limit.
    requests_left, tokens_left: what the limiter would grant at once, as of its last operation; negative: a debt.
    held_chars: characters that the guard holds back now.
    """

    breaker: str | None = None
    queued: int | None = None
    requests_left: float | None = None
    tokens_left: float | None = None
    held_chars: int | None = None
