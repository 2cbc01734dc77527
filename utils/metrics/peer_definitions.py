"""What five other tools report of one and the same stream, beside what we do. Pure.

The same words mean different things. This module computes every definition from one recorded stream, so that a figure
of ours can be compared with one of theirs, and the difference explained:

    vLLM             `vllm bench serve`
    aiperf           NVIDIA's successor of genai-perf
    guidellm         the tool of the vLLM project for capacity
    llmperf          Anyscale's, archived, much quoted
    OpenTelemetry    the conventions for generative AI, as instrumentations measure them

All read the stream of chat completions: chunks with `choices` (a role or an empty delta first, then text, at the end an
empty delta with the finish_reason), perhaps a chunk with usage and no choices, then `[DONE]`. Times are seconds from
the sending of the request, which is the zero of every one of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

__all__ = [
    "EXAMPLE",
    "FORMULAS",
    "TOOLS",
    "Chunk",
    "ChunkKind",
    "Figures",
    "Tool",
    "all_figures",
    "figures_table",
    "formulas_table",
    "stream_table",
]

ChunkKind = Literal["empty", "text", "usage", "end"]
"""empty: with choices and without text (the role, the finish_reason); usage: without choices; end: `[DONE]`."""
Tool = Literal["ours", "vLLM", "aiperf", "guidellm", "llmperf", "OpenTelemetry"]
TOOLS: tuple[Tool, ...] = ("ours", "vLLM", "aiperf", "guidellm", "llmperf", "OpenTelemetry")


@dataclass(frozen=True, slots=True)
class Chunk:
    """An event that came *at_s* seconds after the request; *tokens* are those of its text."""

    at_s: float
    kind: ChunkKind
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Figures:
    """What a tool reports of one stream, in seconds and tokens per second; None is nothing.

    *ttft_s*: time to the first token, as it is called.  *gap_s*: mean of the gaps that it lists one by one.
    *per_token_s*: its one figure for the seconds per token.  *with_first_s*: a second one that counts the first token.
    """

    ttft_s: float | None
    gap_s: float | None
    per_token_s: float | None
    with_first_s: float | None
    tokens_per_s: float | None
    e2e_s: float | None


FORMULAS: dict[Tool, tuple[str, str, str, str, str]] = {
    "ours": (
        "first text (`ttft_s`); first data event apart (`ttfc_s`)",
        "text to text (`inter_chunk_latency_s`)",
        "`tpot_s` = (last text - first text) / (n - 1)",
        "(n - 1) / (last text - first text)",
        "end of the stream (`e2e_s`)",
    ),
    "vLLM": (
        "first chunk with choices, the role too",
        "ITL: chunk with choices to the next, empty ones too",
        "TPOT = (e2e - TTFT) / (n - 1)",
        "n / duration of the benchmark (here: e2e)",
        "last chunk with choices, usage excluded",
    ),
    "aiperf": (
        "first chunk with content",
        "ICL: content to content",
        "ITL = (e2e - TTFT) / (n - tokens of the first chunk; 1 unless the server counts each chunk)",
        "per user: 1 / ITL",
        "last chunk with content",
    ),
    "guidellm": (
        "first chunk with content",
        "-",
        "ITL = (last text - first text) / (n - 1); TPOT = last text / n, the first token included",
        "n / e2e, the wait for the first token included",
        "`[DONE]`",
    ),
    "llmperf": (
        "first chunk with content",
        "content to content, the wait for the first one too",
        "-",
        "lines / e2e: every chunk with choices is a token",
        "end of the stream",
    ),
    "OpenTelemetry": (
        "time_to_first_chunk: first chunk of any kind",
        "time_per_output_chunk: chunk to chunk of any kind",
        "-",
        "-",
        "duration: end of the stream",
    ),
}
"""Time to the first token; gaps; seconds per token; tokens per second; end to end. n: tokens as usage counts them."""

EXAMPLE: tuple[Chunk, ...] = (
    Chunk(0.12, "empty"),
    Chunk(0.30, "text", 1),
    Chunk(0.34, "text", 3),
    Chunk(0.38, "text", 2),
    Chunk(1.38, "text", 1),
    Chunk(1.42, "text", 4),
    Chunk(1.46, "text", 1),
    Chunk(1.50, "empty"),
    Chunk(1.54, "usage"),
    Chunk(1.58, "end"),
)
"""The stream of the page: a role, chunks of several tokens, a stall of a second, a finish_reason, usage."""


def all_figures(stream: Sequence[Chunk], *, tokens: int | None = None) -> dict[Tool, Figures]:
    """What each tool reports of *stream*; *tokens*: as usage counts them, else those of the chunks.

    Raises: ValueError if the instants go backwards.
    """
    if any(later.at_s < earlier.at_s for earlier, later in pairwise(stream)):
        raise ValueError("a chunk cannot come before the one before it")
    n = sum(chunk.tokens for chunk in stream) if tokens is None else tokens
    return {
        "ours": _ours(stream, n),
        "vLLM": _vllm(stream, n),
        "aiperf": _aiperf(stream, n),
        "guidellm": _guidellm(stream, n),
        "llmperf": _llmperf(stream),
        "OpenTelemetry": _opentelemetry(stream),
    }


def _ours(stream: Sequence[Chunk], n: int) -> Figures:
    texts = _instants(stream, "text")
    # One chunk says nothing about the time that its tokens took.
    per_token_s = _ratio(texts[-1] - texts[0], n - 1) if len(texts) > 1 else None
    return Figures(_first(texts), _mean_gap(texts), per_token_s, None, _ratio(1.0, per_token_s), _end(stream))


def _vllm(stream: Sequence[Chunk], n: int) -> Figures:
    choices = _instants(stream, "empty", "text")
    if not choices:
        return Figures(None, None, None, None, None, None)
    latency_s = choices[-1]
    per_token_s = _ratio(latency_s - choices[0], n - 1)
    return Figures(choices[0], _mean_gap(choices), per_token_s, None, _ratio(n, latency_s), latency_s)


def _aiperf(stream: Sequence[Chunk], n: int) -> Figures:
    texts = _instants(stream, "text")
    if not texts:
        return Figures(None, None, None, None, None, None)
    per_token_s = _ratio(texts[-1] - texts[0], n - 1)
    return Figures(texts[0], _mean_gap(texts), per_token_s, None, _ratio(1.0, per_token_s), texts[-1])


def _guidellm(stream: Sequence[Chunk], n: int) -> Figures:
    texts = _instants(stream, "text")
    latency_s = _end(stream)
    per_token_s = _ratio(texts[-1] - texts[0], n - 1) if texts else None
    with_first_s = _ratio(texts[-1], n) if texts else None
    return Figures(_first(texts), None, per_token_s, with_first_s, _ratio(n, latency_s), latency_s)


def _llmperf(stream: Sequence[Chunk]) -> Figures:
    texts = _instants(stream, "text")
    # It does not ask for usage, so it never sees such a chunk.
    lines = len(_instants(stream, "empty", "text"))
    gaps = [*texts[:1], *_gaps(texts)]
    latency_s = _end(stream)
    return Figures(_first(texts), _ratio(math.fsum(gaps), len(gaps)), None, None, _ratio(lines, latency_s), latency_s)


def _opentelemetry(stream: Sequence[Chunk]) -> Figures:
    chunks = _instants(stream, "empty", "text", "usage")
    return Figures(_first(chunks), _mean_gap(chunks), None, None, None, _end(stream))


def _instants(stream: Sequence[Chunk], *kinds: ChunkKind) -> list[float]:
    return [chunk.at_s for chunk in stream if chunk.kind in kinds]


def _first(instants: Sequence[float]) -> float | None:
    return instants[0] if instants else None


def _end(stream: Sequence[Chunk]) -> float | None:
    """The instant of the last event of any kind: a stream that was cut has no `[DONE]`."""
    return stream[-1].at_s if stream else None


def _gaps(instants: Sequence[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(instants)]


def _mean_gap(instants: Sequence[float]) -> float | None:
    gaps = _gaps(instants)
    return _ratio(math.fsum(gaps), len(gaps))


def _ratio(value: float, by: float | None) -> float | None:
    return value / by if by is not None and by > 0 else None


# -- as Markdown, for the page ---------------------------------------------------------------------------------------


def stream_table(stream: Sequence[Chunk]) -> str:
    """The stream, a row per chunk."""
    names = {"empty": "choices without text", "text": "text", "usage": "usage, no choices", "end": "`[DONE]`"}
    rows = [(f"{chunk.at_s:.2f}", names[chunk.kind], str(chunk.tokens or "-")) for chunk in stream]
    return _table(("seconds", "chunk", "tokens"), rows)


def formulas_table() -> str:
    """How each tool defines its figures."""
    header = ("", "time to first token", "list of gaps", "seconds per token", "tokens per second", "end to end")
    return _table(header, [(tool, *FORMULAS[tool]) for tool in TOOLS])


def figures_table(stream: Sequence[Chunk]) -> str:
    """What each tool reports of *stream*, in milliseconds and tokens per second."""
    header = ("", "first token ms", "mean gap ms", "ms per token", "with the first ms", "tokens/s", "end to end ms")
    rows = []
    for tool, figures in all_figures(stream).items():
        times = (figures.ttft_s, figures.gap_s, figures.per_token_s, figures.with_first_s)
        shown = [_number(None if value is None else 1e3 * value) for value in times]
        e2e_s = figures.e2e_s
        rows.append((tool, *shown, _number(figures.tokens_per_s), _number(None if e2e_s is None else 1e3 * e2e_s)))
    return _table(header, rows)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}".rstrip("0").rstrip(".")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
