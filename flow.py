"""The flow: names and edges, and the flow as a library.

PromptProcessor --ready--> StreamingLLM --streaming--> ResponseHandler --guarded--> TokenAggregator
      \\--rejected--> TokenAggregator    \\--unavailable--> TokenAggregator
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, Self

from kaygraph import AsyncGraph, BaseNode
from nodes import (
    GUARDED,
    READY,
    REJECTED,
    STREAMING,
    UNAVAILABLE,
    PromptProcessor,
    ResponseHandler,
    StreamingLLM,
    StreamStage,
    TokenAggregator,
)
from utils.answer_guard import AnswerGuard, AnswerPolicy
from utils.events import Aborted, Event
from utils.guardrails.prompt_guard import Finding, PromptPolicy
from utils.guardrails.redactor import warm
from utils.library import new_run, session_of
from utils.metrics.recorder import Recorder
from utils.render.sink import shown_text
from utils.resilience.resilient_stream import Opener
from utils.run_context import EventStream, Listener, Message, RunContext
from utils.run_input import RunInput, Shared, StreamLog
from utils.run_report import RunReport
from utils.settings import deadlines
from utils.text_stream import TextStream, left

__all__ = ["StreamingFlow", "ask", "create_streaming_graph", "run_streaming_graph"]


def create_streaming_graph(
    opener: Opener,
    *,
    prompt: PromptPolicy,
    answer: AnswerPolicy | None = None,
    model_requested: str = "",
    on_prompt_finding: Callable[[Finding], None] | None = None,
    before_guards: Sequence[StreamStage] = (),
    after_guards: Sequence[StreamStage] = (),
) -> AsyncGraph:
    """The flow of one chain of targets, for any number of runs with `run_streaming_graph`.

    The prompt guard is always on; *on_prompt_finding* is told what it noticed before anything is sent. *answer*: what
    an answer must be and must not hold (nothing, if it is None). *before_guards* and *after_guards*: nodes of your own
    in the stream; what stands after the guards can show what they have not seen.
    """
    log = StreamLog()
    processor = PromptProcessor(prompt, on_prompt_finding)
    llm = StreamingLLM(opener, log)
    handler = ResponseHandler(AnswerGuard(answer or AnswerPolicy(), opener.open))
    aggregator = TokenAggregator(opener, log, model_requested=model_requested or opener.target.model)

    processor - READY >> llm
    processor - REJECTED >> aggregator
    _chain(llm, STREAMING, before_guards, handler)
    llm - UNAVAILABLE >> aggregator
    _chain(handler, GUARDED, after_guards, aggregator)
    return AsyncGraph(start=processor)


def _chain(first: BaseNode[Any, Any], action: str, stages: Sequence[StreamStage], last: BaseNode[Any, Any]) -> None:
    for stage in stages:
        stage.action = action
        first - action >> stage
        first = stage
    first - action >> last


async def run_streaming_graph(graph: AsyncGraph, run_input: RunInput, recorder: Recorder) -> RunReport:
    """One run. *recorder* must be a listener of the run's context; the connection is closed whatever happens."""
    shared: Shared = {"run_input": run_input, "recorder": recorder}
    try:
        await graph.run_async(shared)
        return shared["report"]
    finally:
        if "opened" in shared:
            await shared["opened"].aclose()


_STARTS = 32
"""Runs that may begin in one turn of the event loop; each takes 1 to 3 ms until it waits for its server."""


class StreamingFlow:
    """The whole flow for a program of your own; the arguments are settings by their names (see docs/configuration.md).

        async with StreamingFlow(model="llama3.2", base_url="http://127.0.0.1:11434/v1", guard=("pii",)) as flow:
            report = await flow.run("Hello", on_text=lambda text: print(text, end=""))

    Breakers, limits, connections and the embedded model's process live from `async with` to its end. *max_streams* runs
    may go on at once, further ones wait for a place. Of the environment only OPENAI_* and KAYGRAPH_* are read, and no
    file of settings but *config_file*. Raises AppError for settings that cannot be used, and if there are too few file
    descriptors; what goes wrong in a run stands in its report.
    """

    def __init__(
        self,
        *,
        before_guards: Sequence[StreamStage] = (),
        after_guards: Sequence[StreamStage] = (),
        answer: AnswerPolicy | None = None,
        max_streams: int = 100,
        **settings: Any,
    ) -> None:
        self._before_guards, self._after_guards = before_guards, after_guards
        self._answer = answer
        self._session = session_of(settings, max_streams=max_streams)
        self._places = asyncio.Semaphore(max_streams)
        self._turnstile = asyncio.Semaphore(_STARTS)
        self._opener: Opener | None = None

    async def __aenter__(self) -> Self:
        self._opener = self._session.opener()
        if (rules := (self._answer or self._session.answer_policy()).rules) is not None:
            warm(rules)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.aclose()

    async def run(
        self,
        prompt: str,
        *,
        system: str | None = None,
        earlier: Sequence[Message] = (),
        on_text: Callable[[str], object] | None = None,
        on_event: Listener | None = None,
    ) -> RunReport:
        """One answer. *on_text* is called with each piece as it is shown, *on_event* with every event and its instant.

        Cancelling the task ends the answer and closes its connection.
        """
        async with self._places:
            await self._turn()
            run, _ = self._begin(prompt, system, earlier, self._after_guards, on_text, on_event)
            return await run

    def stream(self, prompt: str, *, system: str | None = None, earlier: Sequence[Message] = ()) -> TextStream:
        """One answer as an async iterator of text, inside `async with`; it waits for its reader."""

        def begin(text: TextStream) -> tuple[Awaitable[RunReport], Callable[[], None]]:
            run, context = self._begin(prompt, system, earlier, (*self._after_guards, _Tap(text)))
            return self._placed(run), lambda: context.stop(left())

        return TextStream(begin)

    async def _placed(self, run: Awaitable[RunReport]) -> RunReport:
        async with self._places:
            await self._turn()
            return await run

    async def _turn(self) -> None:
        """Wait until few runs begin in this turn of the event loop.

        Thousands that began in one would keep the first ones' connections waiting for their last lines, beyond the
        time that a connection may take.
        """
        await self._turnstile.acquire()
        asyncio.get_running_loop().call_soon(self._turnstile.release)

    def _begin(
        self,
        prompt: str,
        system: str | None,
        earlier: Sequence[Message],
        after_guards: Sequence[StreamStage],
        on_text: Callable[[str], object] | None = None,
        on_event: Listener | None = None,
    ) -> tuple[Awaitable[RunReport], RunContext]:
        assert self._opener is not None, "`async with` opens the flow"
        session = self._session
        graph = create_streaming_graph(
            self._opener,
            prompt=session.guards.prompt,
            answer=self._answer or session.answer_policy(),
            model_requested=session.choice.model_requested,
            before_guards=self._before_guards,
            after_guards=after_guards,
        )
        run_input, recorder = new_run(
            prompt,
            on_text=on_text,
            on_event=on_event,
            timeout_s=session.settings.timeout_s,
            system=session.settings.system if system is None else system,
            parameters=session.guards.parameters,
            deadlines=deadlines(session.settings),
            earlier=tuple(earlier),
        )
        return run_streaming_graph(graph, run_input, recorder), run_input.context


class _Tap(StreamStage):
    """Hands what is shown to whoever pulls."""

    def __init__(self, text: TextStream) -> None:
        super().__init__()
        self._text = text

    async def transform(self, stream: EventStream) -> AsyncGenerator[Event, None]:
        async for event in stream:
            yield event
            if (text := shown_text(event)) and not await self._text.put(text):
                yield Aborted(left())
                return


def ask(prompt: str, *, on_text: Callable[[str], object] | None = None, **settings: Any) -> RunReport:
    """`StreamingFlow.run` for programs without an event loop: one answer in a loop of its own. Blocks until it ends."""

    async def main() -> RunReport:
        async with StreamingFlow(max_streams=1, **settings) as flow:
            return await flow.run(prompt, on_text=on_text)

    return asyncio.run(main())
