"""One answer from prompt to report: recorder, sinks, signals, history. `run` has one turn, `chat` has many."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from flow import create_streaming_graph, run_streaming_graph
from nodes import RunInput
from utils.answer_guard import GuardFigures
from utils.attachments import Part
from utils.clock import monotonic
from utils.errors import Cancelled, OutputClosed, Stopped, Terminated
from utils.guardrails.redactor import warm
from utils.metrics.recorder import Recorder
from utils.policies import Guards
from utils.render.factory import create_sinks
from utils.render.prompt_notices import prompt_notice
from utils.render.sink import Mode, RenderOptions
from utils.resilience.resilient_stream import Opener
from utils.run_context import Message, Parameters, RunContext
from utils.run_keeper import RunKeeper
from utils.run_report import RunReport
from utils.session import Session
from utils.settings import Settings, deadlines
from utils.stage_states import stage_states
from utils.version import VERSION
from utils.vocabularies import tokenizer_for

__all__ = ["Turn", "note", "render_options"]


@dataclass(slots=True)
class Turn:
    """What one answer is made of, besides its session. Times are instants of the monotonic clock, in seconds."""

    prompt: str = field(repr=False)
    started_s: float
    deadline_s: float | None
    render: RenderOptions
    earlier: tuple[Message, ...] = field(default=(), repr=False)
    parts: tuple[Part, ...] = ()
    """The files in the prompt."""
    system: str | None = field(default=None, repr=False)
    report_path: Path | None = None
    notes: Iterable[str | None] = ()
    """What the user should know before the answer comes."""
    conversation: str | None = None
    """The id of the conversation that it belongs to."""
    parameters: Parameters | None = None
    """Instead of those of the session."""
    output_closed: bool = False
    """Whether standard output went away meanwhile."""
    run_id: str = ""
    """What the history calls it."""

    async def run(self, session: Session, opener: Opener) -> RunReport:
        """Ask, show, keep. The sinks are closed whatever happens; the session stays open."""
        settings, guards, loop = session.settings, session.guards, asyncio.get_running_loop()
        recorder = Recorder(self.started_s, tokenizer_for)
        context = RunContext(
            clock=monotonic,
            started_s=self.started_s,
            deadline_s=self.deadline_s,
            listeners=(recorder.handle,),
        )
        figures = GuardFigures()
        sinks = create_sinks(
            self.render,
            clock=monotonic,
            started_s=self.started_s,
            snapshot=recorder.snapshot,
            on_broken_pipe=lambda: context.stop(OutputClosed("the reader of standard output went away")),
            stages=lambda: stage_states(opener.upstream(recorder.target), figures),
        )
        for sink in sinks:
            context.add_listener(sink.handle)
        keeper = RunKeeper(
            settings,
            version=VERSION,
            target=opener.target,
            model_requested=session.choice.model_requested,
            started_s=self.started_s,
            report_path=self.report_path,
            conversation=self.conversation,
            own_keys=session.own_keys,
        )
        self.run_id = keeper.run_id
        try:
            graph = create_streaming_graph(
                opener,
                prompt=guards.prompt,
                answer=dataclasses.replace(session.answer_policy(), needs_code_block=self.render.extract),
                model_requested=session.choice.model_requested,
                on_prompt_finding=lambda finding: self._note(prompt_notice(finding, guards.prompt.advisory)),
            )
            run_input = RunInput(
                prompt=self.prompt,
                context=context,
                system=self.system,
                parameters=self.parameters or guards.parameters,
                deadlines=deadlines(settings),
                guard_figures=figures,
                earlier=self.earlier,
                parts=self.parts,
            )
            if guards.rules is not None:
                # At the first pause: while the server is waited for, and not when its first word is there.
                loop.call_soon(warm, guards.rules)
            with _signals(lambda cause: loop.call_soon_threadsafe(context.stop, cause)):
                self._note(*self.notes)
                if session.choice.fell_back is not None:
                    context.emit(session.choice.fell_back)
                keeper.begin(self.prompt)
                report = await run_streaming_graph(graph, run_input, recorder)
                self.output_closed = isinstance(context.stopped, OutputClosed)
                for sink in sinks:
                    if not (self.output_closed and report.error is None):
                        sink.finish(report)
            self._note(session.remember(), keeper.verdict_line(report))
            self._note(*keeper.finish(report, recorder, figures, self.prompt, self.system))
        finally:
            for sink in sinks:
                sink.close()
            keeper.close()
        return report

    def _note(self, *lines: str | None) -> None:
        note(*lines, quiet=self.render.quiet)


def note(*lines: str | None, quiet: bool = False) -> None:
    """Say *lines* on stderr, those that are any, unless *quiet*."""
    if quiet:
        return
    import click

    from utils.render.harmless import make_harmless
    from utils.render.wrapping import terminal_size, wrapped

    width = terminal_size(2)[0] if os.isatty(2) else None
    for line in filter(None, lines):
        click.echo("\n".join(wrapped(make_harmless(f"note: {line}"), width)), err=True)


def render_options(
    settings: Settings, guards: Guards, *, mode: Mode | None, quiet: bool, raw: bool, extract: bool = False
) -> RenderOptions:
    """How the answers of a session are drawn."""
    return RenderOptions(
        mode=mode or "text",
        quiet=quiet,
        # Drawn Markdown is another text than the one that was judged: without its backslashes, asterisks and entities
        # what no rule found may be a secret, and what fits a schema may not fit it any more.
        raw=raw or extract or guards.rules is not None or any((settings.json_schema, settings.regex, settings.grammar)),
        color=settings.color,
        monitor=settings.monitor_performance,
        extract=extract,
    )


def _signals(stop: Callable[[Stopped], object]) -> ExitStack:
    """Handle SIGINT and SIGTERM while the returned stack is open; a signal that is ignored stays ignored.

    Handlers of the `signal` module and not of the loop: they run even while a write to a slow reader blocks the loop.
    The first signal stops the run, which keeps its partial answer and writes its report; the second leaves at once,
    without another write: no terminal mode is left on between frames, and a blocked pipe would block again.
    """
    is_stopping = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal is_stopping
        cause = Cancelled("cancelled") if number == signal.SIGINT else Terminated("terminated")
        if is_stopping:
            os._exit(cause.exit_code)
        is_stopping = True
        stop(cause)

    stack = ExitStack()
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            stack.callback(signal.signal, number, signal.signal(number, handle))
    return stack
