"""What each figure means, one line per key; consumers print these beside the values."""

from __future__ import annotations

__all__ = ["DEFINITIONS"]

DEFINITIONS: dict[str, str] = {
    # metrics
    "ttfc_s": "seconds from the start of the run to the first data event of any attempt (time to first chunk)",
    "ttfr_s": "seconds from the start of the run to the first reasoning text; null if the model sent none",
    "ttft_s": "seconds from the start of the run to the first answer text shown, behind the guards",
    "e2e_s": "seconds from the start of the run to its last event (until now while it runs)",
    "inter_chunk_latency_s": (
        "gaps between consecutive text deltas in seconds, pauses of a resume included; several deltas of one read "
        "have gaps near 0"
    ),
    "inter_chunk_latency_s.n": "number of gaps that the percentiles are made of",
    "inter_chunk_latency_s.p50": "median gap (linear interpolation)",
    "inter_chunk_latency_s.p90": "90th percentile of the gaps (linear interpolation)",
    "inter_chunk_latency_s.p99": "99th percentile of the gaps (linear interpolation); null under 100 gaps",
    "inter_chunk_latency_s.max": "longest gap of all, also of those left out of the percentiles",
    "inter_chunk_latency_s.mean": "mean of all gaps, also of those left out of the percentiles",
    "inter_chunk_latency_s.left_out": "gaps after the first 131,072, which the percentiles do not know",
    "tpot_s": (
        "seconds per output token after the first, (t_last - t_first) / (tokens - 1), pauses of a resume "
        "included; t_first is the first reasoning text if usage counts it; null if a single chunk, or more tokens "
        "than the text shown can hold (hidden reasoning)"
    ),
    "tokens_per_s": "tokens per second after the first token: 1 / tpot_s",
    "tokens": "completion tokens of the answer, from token_source; no attempt is counted twice",
    "token_source": (
        "who counted the tokens: usage (the server), else logprobs (their entries), else tokenizer (the model's "
        "vocabulary, offline), else estimate (another vocabulary, or hidden text), else chunks (text deltas, only an "
        "estimate too); the least exact one if a resumed answer needed several"
    ),
    "tokens_by_source": "the tokens split by who counted them",
    "prompt_tokens": (
        "tokens of the original prompt as the server reported them; null if only a continuation was reported"
    ),
    "chunks": "text deltas shown; a chunk is not a token",
    "chars": "characters (code points) shown, replacements included",
    "tokens_per_chunk": "tokens / chunks, unless tokens are counted by chunks",
    "reasoning_chunks": "deltas of the reasoning channel, which is no part of the answer",
    "longest_stall_s": "longest gap between two text deltas in seconds",
    "attempts": "number of the newest connection attempt; 0 if none was made",
    "interruptions": "times the upstream failed after the stream had begun",
    "retries": "attempts announced after a failure",
    "resumes": "times the answer went on after an interruption",
    "gap_s": "per resume (the first 256), the seconds from the failure to the resume",
    "fallbacks": "changes to another target",
    "breaker_changes": "changes of state of the circuit breakers of the targets that were asked",
    "redactions": "replacements shown instead of hidden text",
    "flags": "findings that stay visible",
    "adaptations": "adjustments made to the run, each with its reason in the events",
    "events_left_out": "events beyond the first 512 and the newest 512, which the event list does not have",
    # quality
    "completeness": "whether the answer is whole, as far as its end shows",
    "completeness.finish_reason": (
        "why the server ended the answer; null if it never said, or the checks of `structure` refused the answer"
    ),
    "completeness.is_complete": (
        "the stream ended with a finish_reason other than length or content_filter, and no fenced code block is open"
    ),
    "completeness.open_code_fence": "the text ends inside a fenced code block",
    "completeness.usage_mismatch": (
        "usage cannot be about this text; null if not comparable (no usage, joined attempts, hidden or reasoning "
        "text, unfinished)"
    ),
    "completeness.unaccounted_tokens": (
        "tokens in usage beyond what the text can hold (text lost, or reasoning out of sight); negative: fewer "
        "than logprobs showed; 0: plausible"
    ),
    "completeness.structure": (
        "valid: what the model wrote ended and passed the schema, regex, grammar and validators asked for; invalid: "
        "they refused it; null: none was asked for, or it ended otherwise before they could tell"
    ),
    "repetition": (
        "suffix periodicity: the last max(3 p, 60) characters (200 if only symbols) repeat with period p <= 400; "
        "looked for every 50 chunks and at the end"
    ),
    "repetition.detected": "such a loop was seen at a check or stands at the end",
    "repetition.at_end": "the text ends in such a loop now",
    "repetition.first_seen_at_char": "characters shown when a loop was first seen",
    "repetition.period_chars": "length of the repeated unit, newest loop",
    "repetition.covered_chars": "characters that repeat with that period within the last 2,000, newest loop",
    "repetition.repeats": "covered_chars / period_chars",
    "confidence": (
        "the model's own certainty from its logprobs, not the truth of the answer; null if the server sent none"
    ),
    "confidence.tokens": "tokens with a logprob that the figures are made of; none after the last text shown",
    "confidence.left_out": "tokens with a logprob after the first 131,072, which the figures do not know",
    "confidence.mean_logprob": "mean natural logarithm of the token probabilities, each at least -100",
    "confidence.perplexity": "exp(-mean_logprob): 1 is certain",
    "confidence.low_probability_share": "share of tokens with a probability under 0.5",
    "confidence.lowest_window": "the least certain 32 consecutive tokens (all, if fewer)",
    "confidence.lowest_window.mean_logprob": "mean logprob of that window",
    "confidence.lowest_window.tokens": "length of that window in tokens",
    "confidence.lowest_window.start_char": "where the delta of its first token begins in the text shown",
    "confidence.lowest_window.end_char": "where the delta of its last token ends in the text shown",
}
