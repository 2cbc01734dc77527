"""Runs of the whole flow on the embedded model as the program has it, all in one event loop and with one child."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import httpx2

from flow import create_streaming_graph, run_streaming_graph
from nodes import RunInput
from tests.flow.harness import FlowRun, prompt_policy
from utils.answer_guard import AnswerPolicy
from utils.embedded_model.backend import EmbeddedBackend
from utils.embedded_model.spec import PINNED
from utils.events import Event
from utils.failure_simulator import FailurePlan, FaultTransport, MarkingBackend
from utils.guardrails.rules import RuleSet
from utils.metrics.recorder import Recorder
from utils.openai_stream import TransportWrapper
from utils.resilience.backoff import Backoff
from utils.resilience.resilient_stream import Opener
from utils.resilience.retry_policy import RetryPolicy
from utils.resilience.upstream import ChatSource, Upstream
from utils.run_context import EMBEDDED, Deadlines, Parameters, Request, RunContext, Target
from utils.watchdog import Watchdog

__all__ = ["EmbeddedRuns"]

PATIENCE_S = 20.0
SPARE_RETRIES = 2
"""On top of one per planned failure, for a machine that is too busy."""


def _as_it_is(inner: httpx2.AsyncBaseTransport) -> httpx2.AsyncBaseTransport:
    return inner


class EmbeddedRuns:
    """One run after the other, each with its own failures. A context manager: its end is the end of the child.

    An attempt that is to stall gets *stall_s* seconds for its first text and for silence, every other one PATIENCE_S.
    Waits before attempts are cut to 1-2 ms.
    """

    def __init__(self, *, stall_s: float = 1.0) -> None:
        self.stall_s = stall_s
        self._runner = asyncio.Runner()
        self._plan = FailurePlan([])
        self._wrap: TransportWrapper = _as_it_is
        self._backend = EmbeddedBackend(wrap_transport=lambda inner: _Switch(inner, lambda: self._wrap))

    def __enter__(self) -> Self:
        self._runner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.run(self._backend.aclose())
        self._runner.__exit__(kind, error, trace)

    def run(
        self,
        prompt: str,
        parameters: Parameters,
        plan: FailurePlan,
        *,
        system: str | None = None,
        rules: RuleSet | None = None,
        below: TransportWrapper = _as_it_is,
        above: TransportWrapper = _as_it_is,
    ) -> FlowRun:
        """The answer to *prompt* with the failures of *plan*; *below* and *above* put more around the server."""
        self._plan = plan
        self._wrap = lambda inner: above(FaultTransport(below(inner), plan))
        return self._runner.run(self._run(prompt, parameters, len(plan.steps) + SPARE_RETRIES, system, rules))

    async def _run(
        self, prompt: str, parameters: Parameters, retries: int, system: str | None, rules: RuleSet | None
    ) -> FlowRun:
        started_s = time.monotonic()
        recorder = Recorder(started_s)
        events: list[Event] = []
        context = RunContext(
            clock=time.monotonic,
            started_s=started_s,
            listeners=(recorder.handle, lambda event, now: events.append(event)),
        )
        # As in `utils.targets`.
        target = Target(EMBEDDED, PINNED.name, is_deterministic=True)
        upstream = Upstream(target, MarkingBackend(_Impatient(self._backend, self._limit_s)))
        policy = RetryPolicy(retries=retries, resumes=retries, backoff=Backoff(0.001, 0.002))
        graph = create_streaming_graph(
            Opener([upstream], policy, random.Random(1)),
            prompt=prompt_policy(),
            answer=AnswerPolicy(rules, "off", None, None),
        )
        run_input = RunInput(
            prompt=prompt,
            context=context,
            system=system,
            parameters=parameters,
            deadlines=Deadlines(PATIENCE_S, PATIENCE_S, None, PATIENCE_S),
        )
        report = await run_streaming_graph(graph, run_input, recorder)
        return FlowRun(report, events, time.monotonic() - started_s, context)

    def _limit_s(self) -> float | None:
        """What the attempt that comes now may wait, if it is to stall."""
        steps = self._plan.steps[self._plan.attempts :]
        return self.stall_s if steps and str(steps[0]).startswith("stall@") else None


class _Impatient:
    """The backend with other deadlines where *limit_s* says so."""

    def __init__(self, inner: EmbeddedBackend, limit_s: Callable[[], float | None]) -> None:
        self._inner = inner
        self._limit_s = limit_s
        self.detect = inner.detect

    async def open_chat(
        self,
        request: Request,
        target: Target,
        *,
        attempt: int,
        watchdog: Watchdog,
        first_token_deadline_s: float | None,
    ) -> ChatSource:
        limit_s = self._limit_s()
        if limit_s is not None:
            deadlines = dataclasses.replace(request.deadlines, first_token_s=limit_s, idle_s=limit_s)
            request = dataclasses.replace(request, deadlines=deadlines)
            first_token_deadline_s = watchdog.now() + limit_s
        return await self._inner.open_chat(
            request, target, attempt=attempt, watchdog=watchdog, first_token_deadline_s=first_token_deadline_s
        )


class _Switch(httpx2.AsyncBaseTransport):
    """The one transport of the client, with whatever belongs around it now."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, wrap: Callable[[], TransportWrapper]) -> None:
        self._inner = inner
        self._wrap = wrap

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return await self._wrap()(self._inner).handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()
