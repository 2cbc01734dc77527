"""The flow: names and edges.

PromptProcessor --ready--> StreamingLLM --streaming--> ResponseHandler --guarded--> TokenAggregator
      \\--rejected--> TokenAggregator    \\--unavailable--> TokenAggregator
"""

from __future__ import annotations

from collections.abc import Callable

from kaygraph import AsyncGraph
from nodes import (
    GUARDED,
    READY,
    REJECTED,
    STREAMING,
    UNAVAILABLE,
    PromptProcessor,
    ResponseHandler,
    RunInput,
    Shared,
    StreamingLLM,
    StreamLog,
    TokenAggregator,
)
from utils.answer_guard import AnswerGuard, AnswerPolicy
from utils.guardrails.prompt_guard import Finding, PromptPolicy
from utils.metrics.recorder import Recorder
from utils.resilience.resilient_stream import Opener
from utils.run_report import RunReport

__all__ = ["create_streaming_graph", "run_streaming_graph"]


def create_streaming_graph(
    opener: Opener,
    *,
    prompt: PromptPolicy,
    answer: AnswerPolicy | None = None,
    model_requested: str = "",
    on_prompt_finding: Callable[[Finding], None] | None = None,
) -> AsyncGraph:
    """The flow of one target, for any number of runs with `run_streaming_graph`.

    The prompt guard is always on; *on_prompt_finding* is told what it noticed before anything is sent. *answer*: what
    an answer must be and must not hold (nothing, if it is None).
    """
    log = StreamLog()
    processor = PromptProcessor(prompt, on_prompt_finding)
    llm = StreamingLLM(opener, log)
    handler = ResponseHandler(AnswerGuard(answer or AnswerPolicy(), opener.open))
    aggregator = TokenAggregator(opener, log, model_requested=model_requested or opener.target.model)

    processor - READY >> llm
    processor - REJECTED >> aggregator
    llm - STREAMING >> handler
    llm - UNAVAILABLE >> aggregator
    handler - GUARDED >> aggregator
    return AsyncGraph(start=processor)


async def run_streaming_graph(graph: AsyncGraph, run_input: RunInput, recorder: Recorder) -> RunReport:
    """One run. *recorder* must be a listener of the run's context; the connection is closed whatever happens."""
    shared: Shared = {"run_input": run_input, "recorder": recorder}
    try:
        await graph.run_async(shared)
        return shared["report"]
    finally:
        if "opened" in shared:
            await shared["opened"].aclose()
