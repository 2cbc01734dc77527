"""Runs the whole flow in this process, against whatever server a test has prepared."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from flow import create_streaming_graph, run_streaming_graph
from nodes import RunInput
from utils.answer_guard import AnswerPolicy, ToxicityPolicy
from utils.errors import Stopped
from utils.events import Event
from utils.guardrails.moderation import RemoteClassifier
from utils.guardrails.policy import compile_rules
from utils.guardrails.prompt_guard import PromptLimits, PromptPolicy
from utils.guardrails.rules import RuleSet
from utils.metrics.recorder import Recorder
from utils.openai_stream import OpenAIBackend
from utils.resilience.adapting import Adaptation
from utils.resilience.backoff import Backoff
from utils.resilience.breaker import Breaker
from utils.resilience.continuation import Capabilities
from utils.resilience.resilient_stream import Opener
from utils.resilience.retry_policy import RetryPolicy
from utils.resilience.upstream import Backend, Upstream
from utils.run_context import Deadlines, Parameters, RunContext, Target
from utils.run_report import RunReport
from utils.validation.plan import ValidationPlan

ONLY_REPLAY = Capabilities(replay=True, prefill=None, continue_=False)
"""What most tests want: a target that is deterministic may be replayed, and nothing else is tried."""


def prompt_policy(*own_keys: str | None, allow_secrets: bool = False) -> PromptPolicy:
    """What the program judges a prompt by, without its packs of advice."""
    secrets = compile_rules(("secrets",), own_keys=filter(None, own_keys))
    return PromptPolicy(PromptLimits(1_000_000), secrets, RuleSet.compile(()), allow_secrets)


def _replaying(capabilities: Capabilities | None, deterministic: bool) -> Capabilities | None:
    if capabilities is None:
        return None
    return dataclasses.replace(capabilities, replay=capabilities.replay and deterministic)


@dataclass
class FlowRun:
    """What a run of the flow left behind."""

    report: RunReport
    events: list[Event]
    seconds: float
    context: RunContext = field(repr=False)


def run_flow(
    base_url: str,
    *,
    retries: int = 0,
    deterministic: bool = False,
    deadline_s: float = 5.0,
    total_s: float | None = None,
    rules: RuleSet | None = None,
    toxicity: ToxicityPolicy = "off",
    endpoint: RemoteClassifier | None = None,
    validation: ValidationPlan | None = None,
    prompt: str = "Say it.",
    system: str | None = None,
    api_key: str | None = "sk-test-0123456789",
    model: str = "test-model",
    parameters: Parameters | None = None,
    wrap_transport: Any = None,
    uses_aiohttp: bool = False,
    finish_reason_optional: bool = False,
    breaker: Breaker | None = None,
    backend: Backend | None = None,
    capabilities: Capabilities | None = ONLY_REPLAY,
    fallbacks: Sequence[Upstream] = (),
    upstreams: Sequence[Upstream] | None = None,
    adaptation: Adaptation | None = None,
    on_event: Callable[[Event, RunContext], Stopped | None] | None = None,
) -> FlowRun:
    """One run of the flow; *on_event* may stop it by returning the cause."""

    async def main() -> FlowRun:
        started_s = time.monotonic()
        recorder = Recorder(started_s)
        events: list[Event] = []
        context = RunContext(
            clock=time.monotonic,
            started_s=started_s,
            deadline_s=None if total_s is None else started_s + total_s,
            listeners=(recorder.handle, lambda event, now: events.append(event)),
        )

        def watch(event: Event, now: float) -> None:
            cause = on_event(event, context) if on_event else None
            if cause is not None:
                context.stop(cause)

        context.add_listener(watch)
        target = Target(
            base_url,
            model,
            api_key=api_key,
            is_deterministic=deterministic,
            finish_reason_optional=finish_reason_optional,
        )
        used = backend or OpenAIBackend(
            base_url=base_url,
            api_key=api_key,
            connect_timeout_s=deadline_s / 2,
            wrap_transport=wrap_transport,
            uses_aiohttp=uses_aiohttp,
        )
        upstream = Upstream(target, used, breaker or Breaker(), configured=_replaying(capabilities, deterministic))
        policy = RetryPolicy(retries=retries, resumes=retries, backoff=Backoff(0.001, 0.002))
        opener = Opener(upstreams or [upstream, *fallbacks], policy, random.Random(1), adaptation)
        answer = AnswerPolicy(rules, toxicity, endpoint, validation)
        graph = create_streaming_graph(opener, prompt=prompt_policy(api_key), answer=answer)
        run_input = RunInput(
            prompt=prompt,
            context=context,
            system=system,
            parameters=parameters or Parameters(),
            deadlines=Deadlines(deadline_s, deadline_s, total_s, deadline_s),
        )
        try:
            report = await run_streaming_graph(graph, run_input, recorder)
        finally:
            if isinstance(used, OpenAIBackend):
                await used.aclose()
        return FlowRun(report, events, time.monotonic() - started_s, context)

    return asyncio.run(main())
