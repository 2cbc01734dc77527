"""The flow: names and edges.

PromptProcessor --ready--> StreamingLLM --streaming--> ResponseHandler --guarded--> TokenAggregator
      \\--rejected--> TokenAggregator    \\--unavailable--> TokenAggregator
"""

from __future__ import annotations

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
    ToxicityPolicy,
)
from utils.guardrails.rules import RuleSet
from utils.metrics.recorder import Recorder
from utils.resilience.resilient_stream import Opener
from utils.run_report import RunReport

__all__ = ["create_streaming_graph", "run_streaming_graph"]


def create_streaming_graph(
    opener: Opener,
    *,
    rules: RuleSet | None = None,
    toxicity: ToxicityPolicy = "off",
    model_requested: str = "",
    prompt_limit_chars: int = 1_000_000,
    own_key: str | None = None,
    allow_secrets: bool = False,
) -> AsyncGraph:
    """The flow of one target, for any number of runs with `run_streaming_graph`.

    *rules* switches the redactor on, *toxicity* the judgement of sentences; the prompt guard is always on. *own_key* is
    the user's own API key, which must never be sent as text.
    """
    log = StreamLog()
    prompt = PromptProcessor(limit_chars=prompt_limit_chars, own_key=own_key, allow_secrets=allow_secrets)
    llm = StreamingLLM(opener, log)
    handler = ResponseHandler(rules, toxicity)
    aggregator = TokenAggregator(opener, log, model_requested=model_requested or opener.target.model)

    prompt - READY >> llm
    prompt - REJECTED >> aggregator
    llm - STREAMING >> handler
    llm - UNAVAILABLE >> aggregator
    handler - GUARDED >> aggregator
    return AsyncGraph(start=prompt)


async def run_streaming_graph(graph: AsyncGraph, run_input: RunInput, recorder: Recorder) -> RunReport:
    """One run. *recorder* must be a listener of the run's context; the connection is closed whatever happens."""
    shared: Shared = {"run_input": run_input, "recorder": recorder}
    try:
        await graph.run_async(shared)
        return shared["report"]
    finally:
        if "opened" in shared:
            await shared["opened"].aclose()
