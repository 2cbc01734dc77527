"""The four nodes: `prep` reads the shared store, `exec` wires or drains a stream, `post` stores and names the action.

Text is shown while the model still writes, so what travels from node to node is not the answer but a lazy stream:
PromptProcessor makes the request, StreamingLLM opens the stream, ResponseHandler wraps it, TokenAggregator pulls it.
Whatever happens after the first token is an event in that stream, never an exception between nodes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from kaygraph import AsyncNode, MetricsNode, ValidatedNode
from utils.answer_guard import AnswerGuard, GuardFigures
from utils.errors import AppError, InternalError
from utils.events import Aborted, Event, Finished, Flagged
from utils.guardrails.prompt_guard import Finding, PromptPolicy, check_prompt
from utils.resilience.resilient_stream import Opener, ResilientStream
from utils.run_context import EventStream, Request, RunContext, ended
from utils.run_input import RunInput, Shared, StreamLog
from utils.run_report import RunReport, exit_code_of, outcome_of
from utils.well_formed import well_formed

__all__ = [
    "GUARDED",
    "READY",
    "REJECTED",
    "STREAMING",
    "UNAVAILABLE",
    "PromptProcessor",
    "ResponseHandler",
    "RunInput",
    "Shared",
    "StreamLog",
    "StreamStage",
    "StreamingLLM",
    "TokenAggregator",
]

READY, REJECTED = "ready", "rejected"
STREAMING, UNAVAILABLE = "streaming", "unavailable"
GUARDED = "guarded"


class PromptProcessor(ValidatedNode[Any, Request]):
    """Guards the prompt and turns it into a request.   `ready` | `rejected`"""

    def __init__(self, policy: PromptPolicy, on_finding: Callable[[Finding], None] | None = None) -> None:
        super().__init__()
        self._policy = policy
        self._on_finding = on_finding

    def prep(self, shared: Shared) -> tuple[RunInput, GuardFigures]:
        """Read the input of the run, and where its guard figures go."""
        run_input = shared["run_input"]
        shared["guard_figures"] = run_input.guard_figures
        return run_input, run_input.guard_figures

    def validate_input(self, prep_res: tuple[RunInput, GuardFigures]) -> RunInput:
        """Raise what the prompt guard objects to; what only a reader should know becomes a figure and an event."""
        run_input, figures = prep_res
        verdict = check_prompt(run_input.prompt, run_input.system, self._policy, run_input.parts)
        figures.prompt.extend(verdict.findings)
        if verdict.rejection is not None:
            raise verdict.rejection
        for finding in verdict.findings:
            run_input.context.emit(Flagged(f"prompt.{finding.rule}", finding.start, finding.end))
            if self._on_finding is not None:
                self._on_finding(finding)
        return run_input

    def exec(self, prep_res: RunInput) -> Request:
        """Build the request."""
        return Request(
            prompt=prep_res.prompt,
            context=prep_res.context,
            system=prep_res.system,
            parameters=prep_res.parameters,
            deadlines=prep_res.deadlines,
            earlier=prep_res.earlier,
        )

    def post(self, shared: Shared, prep_res: object, exec_res: Request) -> str:
        """Hand the request on."""
        shared["request"] = exec_res
        return READY

    def on_error(self, shared: Shared, error: Exception) -> str | bool:
        """A rejected prompt is an outcome; anything else is a bug and passes."""
        return REJECTED if _ends_the_run(shared, error) else False


class StreamingLLM(MetricsNode[Request, ResilientStream], AsyncNode[Request, ResilientStream]):
    """Opens the answer, behind the circuit breaker.   `streaming` | `unavailable`

    `get_stats()` measures what this node does: opening, from the request to the first content.
    `get_stream_stats()` gives the figures of the streams after they were drained. Retries happen inside the opened
    stream, which also knows how to resume; KayGraph's own retries stay off (`max_retries=1`).
    """

    def __init__(self, opener: Opener, log: StreamLog) -> None:
        super().__init__()
        self._opener = opener
        self._log = log

    def get_stream_stats(self) -> dict[str, Any]:
        """Figures of the drained streams, from the recorder."""
        return self._log.statistics()

    async def prep_async(self, shared: Shared) -> Request:
        """Read the request."""
        return shared["request"]

    async def exec_async(self, prep_res: Request) -> ResilientStream:
        """Open the stream: it is live, and its first content has arrived."""
        stream = await self._opener.open(prep_res)
        if stream.opening_error is not None:
            await stream.aclose()
            raise stream.opening_error
        return stream

    async def post_async(self, shared: Shared, prep_res: Request, exec_res: ResilientStream) -> str:
        """Hand the open stream on; under its own name too, for whoever runs the flow to close it whatever happens."""
        shared["stream"] = shared["opened"] = exec_res
        return STREAMING

    def on_error(self, shared: Shared, error: Exception) -> str | bool:
        """No answer is an outcome; anything else is a bug and passes."""
        return UNAVAILABLE if _ends_the_run(shared, error) else False


class ResponseHandler(ValidatedNode[Any, EventStream]):
    """Puts validation and guards around the stream; nothing is pulled yet.   `guarded`"""

    def __init__(self, guard: AnswerGuard) -> None:
        super().__init__()
        self._guard = guard

    def prep(self, shared: Shared) -> tuple[EventStream, Request, GuardFigures]:
        """Read the open stream, what it answers, and where the guards' figures go."""
        return shared["stream"], shared["request"], shared["guard_figures"]

    def exec(self, prep_res: tuple[EventStream, Request, GuardFigures]) -> EventStream:
        """Wrap the stream."""
        return self._guard.around(*prep_res)

    def validate_output(self, exec_res: EventStream) -> EventStream:
        """Wrap the stream once more: whatever comes out is well-formed. Violations are events."""
        return well_formed(exec_res)

    def post(self, shared: Shared, prep_res: object, exec_res: EventStream) -> str:
        """Hand the guarded stream on."""
        shared["stream"] = exec_res
        return GUARDED


class StreamStage(AsyncNode[EventStream, EventStream]):
    """A node of somebody else's in the stream, between ours: override `transform`.   `streaming` | `guarded`

    It is wired by `create_streaming_graph`. Its events are made well-formed like those of our own stages.
    """

    def __init__(self) -> None:
        super().__init__()
        self.action = GUARDED
        """The action of the node before it, which it passes on."""

    def transform(self, stream: EventStream) -> AsyncGenerator[Event, None]:
        """An async generator over *stream*: yield its events, changed, dropped or with others between them."""
        raise NotImplementedError

    async def prep_async(self, shared: Shared) -> EventStream:
        """Read the stream."""
        return shared["stream"]

    async def exec_async(self, prep_res: EventStream) -> EventStream:
        """Wrap it; nothing is pulled yet."""
        return well_formed(_closing(self.transform(prep_res), prep_res))

    async def post_async(self, shared: Shared, prep_res: object, exec_res: EventStream) -> str:
        """Hand the wrapped stream on."""
        shared["stream"] = exec_res
        return self.action


async def _closing(outer: AsyncGenerator[Event, None], inner: EventStream) -> AsyncGenerator[Event, None]:
    """*outer*, which reads *inner*; both are closed behind it, whatever *outer* does about that."""
    async with aclosing(inner), aclosing(outer):
        async for event in outer:
            yield event


class TokenAggregator(AsyncNode[tuple[EventStream, RunContext], None]):
    """Pulls the whole chain, event by event, and writes the report. Its action is the outcome; it has no successors."""

    def __init__(self, opener: Opener, log: StreamLog, *, model_requested: str) -> None:
        super().__init__()
        self._opener = opener
        self._log = log
        self._model_requested = model_requested

    async def prep_async(self, shared: Shared) -> tuple[EventStream, RunContext]:
        """Read the stream."""
        return shared["stream"], shared["run_input"].context

    async def exec_async(self, prep_res: tuple[EventStream, RunContext]) -> None:
        """Drain: every event goes to the listeners of the run, the moment it comes."""
        stream, context = prep_res
        try:
            async for event in stream:
                context.emit(event)
        finally:
            await stream.aclose()

    async def post_async(self, shared: Shared, prep_res: object, exec_res: None) -> str:
        """Store the report."""
        report = self._report(shared)
        self._log.add(report)
        shared["report"] = report
        return report.outcome

    def _report(self, shared: Shared) -> RunReport:
        recorder, guard, context = shared["recorder"], shared["guard_figures"], shared["run_input"].context
        terminal = recorder.terminal or Aborted(InternalError("the run ended without an outcome"))
        opened = recorder.opened
        used = self._opener.upstream(recorder.target)
        text_shown = recorder.text_shown
        now = context.clock()
        quality = recorder.quality()
        quality["completeness"]["structure"] = guard.structure(is_finished=isinstance(terminal, Finished))
        return RunReport(
            text=recorder.text,
            outcome=outcome_of(terminal, text_shown=text_shown),
            exit_code=exit_code_of(terminal, text_shown=text_shown),
            finish_reason=terminal.finish_reason if isinstance(terminal, Finished) else None,
            model_requested=self._model_requested,
            model_used=(opened.model or used.target.model) if opened else None,
            target=used.target.name,
            error=terminal.error if isinstance(terminal, Aborted) else None,
            usage=recorder.usage(),
            metrics=recorder.metrics(now),
            quality=quality,
            guard=guard.as_json(),
            breaker=used.breaker.statistics().as_json(),
            targets=tuple(upstream.statistics() for upstream in self._opener.upstreams),
            events=recorder.events(),
        )


def _ends_the_run(shared: Shared, error: Exception) -> bool:
    """Turn one of our errors into a stream that says so; whether it was one."""
    if not isinstance(error, AppError):
        return False
    shared["stream"] = well_formed(ended(error))
    return True
