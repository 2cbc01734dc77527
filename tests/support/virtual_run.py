"""One answer through the whole flow in virtual time: bodies whose bytes arrive at the instants that a test has chosen.

Real are the reader of a body, its decoder, the ways to go on, the guards, the four nodes and the recorder; made up are
the connection and the clock. Instants are seconds since the start of the run, which is not the zero of the clock. The
clock stands still while anybody works, so an event is told at the very instant at which its bytes were read.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import httpx2

import kaygraph.metrics
from flow import create_streaming_graph, run_streaming_graph
from nodes import RunInput, StreamingLLM
from tests.support.virtual_time import virtually
from utils.answer_guard import AnswerPolicy, GuardFigures
from utils.chat_reader import ChatReader
from utils.errors import Stopped
from utils.guardrails.policy import compile_rules
from utils.guardrails.prompt_guard import PromptLimits, PromptPolicy
from utils.guardrails.rules import RuleSet
from utils.metrics.recorder import Recorder
from utils.resilience.continuation import Capabilities, Detected
from utils.resilience.resilient_stream import Opener
from utils.resilience.retry_policy import RetryPolicy
from utils.resilience.upstream import Upstream
from utils.run_context import Parameters, Request, RunContext, Target
from utils.run_report import RunReport
from utils.transport_errors import error_of_transport
from utils.watchdog import Watchdog

__all__ = ["Body", "VirtualRun", "run_virtually"]

_STARTS_S = 8.0
"""What the clock shows when a run starts."""


@dataclass(frozen=True, slots=True)
class Body:
    """One answer: (instant, bytes) of every read. It ends after them, or its connection breaks at *breaks_s*."""

    reads: tuple[tuple[float, bytes], ...]
    breaks_s: float | None = None


@dataclass(frozen=True, slots=True)
class VirtualRun:
    """What is left of a run. *opening*, *streams*: `get_stats()`, `get_stream_stats()` of the node that opened."""

    report: RunReport
    recorder: Recorder = field(repr=False)
    guard: GuardFigures = field(repr=False)
    opening: dict[str, Any]
    streams: dict[str, Any]


def run_virtually(
    bodies: Sequence[Body],
    *,
    rules: RuleSet,
    capabilities: Capabilities,
    retries: int = 1,
    stop: tuple[float, Stopped] | None = None,
) -> VirtualRun:
    """The run whose requests are answered by *bodies*, in order, behind *rules* and the flags of toxicity.

    *retries*: further attempts, before text and after it. *stop*: at which instant the run is stopped, and why.
    """

    async def main() -> VirtualRun:
        loop = asyncio.get_running_loop()
        await _until(_STARTS_S)
        recorder = Recorder(_STARTS_S)
        context = RunContext(clock=loop.time, started_s=_STARTS_S, listeners=(recorder.handle,))
        target = Target("http://known/v1", "known-model", is_deterministic=capabilities.replay)
        opener = Opener(
            [Upstream(target, _Backend(bodies), configured=capabilities)],
            RetryPolicy(retries=retries, resumes=retries),
            random.Random(1),
        )
        prompt = PromptPolicy(PromptLimits(1_000), compile_rules(("secrets",)), RuleSet.compile(()), False)
        graph = create_streaming_graph(opener, prompt=prompt, answer=AnswerPolicy(rules, toxicity="flag"))
        guard = GuardFigures()
        run_input = RunInput("Say it.", context, parameters=Parameters(logprobs=True), guard_figures=guard)
        timer = None if stop is None else loop.call_at(_STARTS_S + stop[0], context.stop, stop[1])
        # The node times itself by the machine's clock; here it is given the one that everybody else has.
        with patch.object(kaygraph.metrics, "time", SimpleNamespace(perf_counter=loop.time)):
            report = await run_streaming_graph(graph, run_input, recorder)
        if timer is not None:
            timer.cancel()
        node = next(node for node in graph.nodes() if isinstance(node, StreamingLLM))
        return VirtualRun(report, recorder, guard, node.get_stats(), node.get_stream_stats())

    return virtually(main)


class _Backend:
    """Answers every request at once, with the next body."""

    def __init__(self, bodies: Sequence[Body]) -> None:
        self._bodies = iter(bodies)

    async def open_chat(
        self,
        request: Request,
        target: Target,
        *,
        attempt: int,
        watchdog: Watchdog,
        first_token_deadline_s: float | None,
    ) -> ChatReader:
        headers = {"Content-Type": "text/event-stream"}
        return ChatReader(
            httpx2.Response(200, headers=headers, stream=_Stream(next(self._bodies))),
            request,
            target,
            attempt=attempt,
            watchdog=watchdog,
            first_token_deadline_s=first_token_deadline_s,
            translate=error_of_transport,
            scrub=str,
        )

    async def detect(self, target: Target, watchdog: Watchdog) -> Detected:
        return Detected()


class _Stream(httpx2.AsyncByteStream):
    """Plays a body."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._reads = iter(body.reads)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        read = next(self._reads, None)
        if read is not None:
            await _until(_STARTS_S + read[0])
            return read[1]
        if self._body.breaks_s is None:
            raise StopAsyncIteration
        await _until(_STARTS_S + self._body.breaks_s)
        raise httpx2.ReadError("the connection was reset")


async def _until(instant: float) -> None:
    """Wait for the *instant* of the loop's clock itself: the sum of a delay might be rounded to another one."""
    loop = asyncio.get_running_loop()
    assert instant >= loop.time(), "the script asks for an instant that has passed"
    reached = loop.create_future()
    timer = loop.call_at(instant, lambda: None if reached.done() else reached.set_result(None))
    try:
        await reached
    finally:
        timer.cancel()
