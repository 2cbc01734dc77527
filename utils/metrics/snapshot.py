"""The state of a stream at one instant, as the recorder hands it to the monitor and the nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Snapshot", "StreamState", "TokenSource"]

StreamState = Literal["waiting", "streaming", "recovering", "finished", "blocked", "aborted"]
TokenSource = Literal["usage", "logprobs", "chunks"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Figures of one stream; None means not known (yet). Times in seconds, definitions in DESIGN terms below.

    ttfc_s: start of the run to the first data event.  ttft_s: start of the run to the first non-empty content.
    tokens: completion tokens, counted from `token_source`.  tokens_per_s: (tokens - 1) / (t_last - t_first).
    tokens_per_s_now: the same over the last two seconds.  latencies_s: the newest inter-chunk latencies, oldest
    first, at most 64.  longest_stall_s: the largest inter-chunk latency.  confidence: the newest token
    probabilities (0..1), oldest first, at most 64; empty if the server sent no logprobs.
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
