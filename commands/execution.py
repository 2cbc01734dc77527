"""One run from options to exit code: settings, prompt, target, flow, sinks, signals.

The order matters for the first token: the embedded child is spawned before the heavy imports, so that the model loads
while they do.
"""

from __future__ import annotations

import atexit
import gc
import os
import random
import signal
from collections.abc import Callable, Coroutine, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from commands.packages import require_packages
from commands.prompt_input import DEMO_PROMPT, GUARDED_DEMO_PROMPT, PromptText, read_prompt
from utils.clock import monotonic
from utils.errors import AppError, Cancelled, OutputClosed, Stopped, Terminated
from utils.policies import Guards
from utils.run_context import RunContext, Target
from utils.run_report import RunReport, failed_report
from utils.settings import Loaded, Settings, deadlines, load
from utils.targets import TargetChoice, choose_target

if TYPE_CHECKING:
    import httpx2

    from utils.embedded_model.backend import EmbeddedBackend
    from utils.failure_simulator import FailurePlan
    from utils.openai_stream import OpenAIBackend
    from utils.render.sink import RenderOptions

__all__ = ["execute"]

_NOT_SETTINGS = (
    *("prompt", "prompt_option", "allow_secrets", "mode", "quiet", "raw", "config", "no_fallback"),
    *("no_log", "report_file"),
)
_SETTING_NAMES = {
    "timeout": "timeout_s",
    "first_token_timeout": "first_token_timeout_s",
    "idle_timeout": "idle_timeout_s",
}


def execute(options: Mapping[str, Any], *, started_s: float | None) -> int:
    """Run the flow once with the options of `run`; returns the exit code. Raises AppError if no run came about."""
    # Now rather than after standard input was read: main.py may start the program again.
    require_packages()
    # Without it the interpreter searches all that the libraries made for cycles, up to half a second on a busy machine,
    # and frees nothing that the end of the process would not.
    atexit.register(gc.freeze)
    started_s = monotonic() if started_s is None else started_s
    try:
        return _Run(options, started_s).execute()
    except (AppError, KeyboardInterrupt, SystemExit) as raised:
        if options["mode"] is None:
            raise
        # Scripts that asked for JSON get their object for every kind of failure.
        error = raised if isinstance(raised, AppError) else _stopped_by(raised)
        _print_report(options, failed_report(error, model_requested=options["model"] or ""), started_s)
        return error.exit_code


def _stopped_by(raised: BaseException) -> Stopped:
    """The cause of a run that was stopped before it had handlers of its own for that."""
    return Cancelled("cancelled") if isinstance(raised, KeyboardInterrupt) else Terminated("terminated")


class _Run:
    """The parts of one run, in the order in which they come to be."""

    def __init__(self, options: Mapping[str, Any], started_s: float) -> None:
        self._options = options
        self._started_s = started_s
        self._loaded: Loaded = load(
            _flags(options), environ=os.environ, config_file=Path(options["config"]) if options["config"] else None
        )
        self._settings: Settings = self._loaded.settings
        self._choice: TargetChoice = choose_target(self._settings, origins=self._loaded.origins)
        self._targets = (self._choice.target, *self._fallbacks())
        self._plan: FailurePlan | None = None
        total_s = self._settings.timeout_s
        self._deadline_s = None if total_s is None else started_s + total_s

    def _fallbacks(self) -> tuple[Target, ...]:
        if not self._settings.fallback:
            return ()
        from utils.fallbacks import fallback_targets

        return fallback_targets(self._settings, self._choice, origins=self._loaded.origins)

    def execute(self) -> int:
        with ExitStack() as stack:
            started = self._started_early(stack)
            # Before standard input is read: what a bad pack or schema costs is a message, and not the input.
            guards = Guards(self._loaded, self._choice, allow_secrets=bool(self._options["allow_secrets"]))
            prompt = read_prompt(
                self._options["prompt"],
                self._options["prompt_option"],
                limit_chars=self._settings.prompt_limit_chars,
                demo=GUARDED_DEMO_PROMPT if guards.rules is not None else DEMO_PROMPT,
                deadline_s=self._deadline_s,
            )

            def embedded(target: Target) -> EmbeddedBackend:
                return started if started and target == self._choice.target else self._embedded(target, stack)

            return _run_loop(self._stream(embedded, guards, prompt), leave=stack.close)

    def _started_early(self, stack: ExitStack) -> EmbeddedBackend | None:
        """The embedded backend with its child under way, if that is asked first."""
        if not self._choice.target.is_embedded:
            return None
        embedded = self._embedded(self._choice.target, stack)
        embedded.start_early()
        return embedded

    def _embedded(self, target: Target, stack: ExitStack) -> EmbeddedBackend:
        from utils.embedded_model.backend import EmbeddedBackend
        from utils.render.fetch_progress import FetchProgressBar

        embedded = EmbeddedBackend(
            gguf=self._choice.gguf if target == self._choice.target else None,
            connect_timeout_s=self._settings.connect_timeout_s,
            wrap_transport=self._faulty if self._settings.simulate_failures else None,
            progress=stack.enter_context(FetchProgressBar()),
        )
        stack.callback(embedded.kill)
        return embedded

    async def _stream(self, embedded: Callable[[Target], EmbeddedBackend], guards: Guards, prompt: PromptText) -> int:
        import asyncio

        from flow import create_streaming_graph, run_streaming_graph
        from nodes import RunInput
        from utils.answer_guard import GuardFigures
        from utils.chain import TargetChain
        from utils.metrics.recorder import Recorder
        from utils.render.factory import create_sinks
        from utils.render.output import silence_stdout
        from utils.render.prompt_notices import prompt_notice
        from utils.resilience.adapting import Adaptation
        from utils.resilience.resilient_stream import Opener
        from utils.resilience.retry_policy import RetryPolicy
        from utils.run_keeper import RunKeeper
        from utils.stage_states import stage_states
        from utils.version import VERSION
        from utils.vocabularies import tokenizer_for

        settings, choice, started_s = self._settings, self._choice, self._started_s
        loop = asyncio.get_running_loop()
        recorder = Recorder(started_s, tokenizer_for)
        context = RunContext(
            clock=monotonic,
            started_s=started_s,
            deadline_s=self._deadline_s,
            listeners=(recorder.handle,),
        )
        chain = TargetChain(
            settings,
            self._targets,
            embedded=embedded,
            wrap_transport=self._faulty if settings.simulate_failures else None,
            prompt=prompt.text,
        )
        opener = Opener(
            chain.upstreams,
            RetryPolicy(retries=settings.retries, resumes=settings.retries),
            adaptation=Adaptation() if settings.adaptive else None,
        )
        figures = GuardFigures()
        sinks = create_sinks(
            _render_options(self._options, settings, is_guarded=guards.rules is not None),
            clock=monotonic,
            started_s=started_s,
            snapshot=recorder.snapshot,
            on_broken_pipe=lambda: context.stop(OutputClosed("the reader of standard output went away")),
            stages=lambda: stage_states(opener.upstream(recorder.target), figures),
        )
        for sink in sinks:
            context.add_listener(sink.handle)
        report_file = self._options["report_file"]
        keeper = RunKeeper(
            settings,
            version=VERSION,
            target=choice.target,
            model_requested=choice.model_requested,
            started_s=started_s,
            report_path=Path(report_file) if report_file else None,
        )
        open_servers: list[TargetChain | OpenAIBackend] = [chain]
        try:
            judge = guards.judge()
            if judge is not None:
                open_servers.append(judge)
            graph = create_streaming_graph(
                opener,
                prompt=guards.prompt,
                answer=guards.answer(judge),
                model_requested=choice.model_requested,
                on_prompt_finding=lambda finding: self._note(prompt_notice(finding, guards.prompt.advisory)),
            )
            run_input = RunInput(
                prompt=prompt.text,
                context=context,
                system=settings.system,
                parameters=guards.parameters,
                deadlines=deadlines(settings),
                guard_figures=figures,
            )
            with _signals(lambda cause: loop.call_soon_threadsafe(context.stop, cause)):
                self._say_first(prompt)
                if choice.fell_back is not None:
                    context.emit(choice.fell_back)
                keeper.begin(prompt.text)
                report = await run_streaming_graph(graph, run_input, recorder)
                for sink in sinks:
                    if not (isinstance(context.stopped, OutputClosed) and report.error is None):
                        sink.finish(report)
            self._note(chain.remember(), keeper.verdict_line(report))
            self._note(*keeper.finish(report, recorder, figures, prompt.text))
        finally:
            for sink in sinks:
                sink.close()
            keeper.close()
            for server in open_servers:
                await server.aclose()
        self._say_last(report)
        if isinstance(context.stopped, OutputClosed):
            silence_stdout()
            return OutputClosed.exit_code
        return report.exit_code

    def _faulty(self, inner: httpx2.AsyncBaseTransport) -> httpx2.AsyncBaseTransport:
        """*inner* with the planned failures: one plan for all servers of the run."""
        from utils.failure_simulator import FaultTransport, demo_plan, parse_plan

        settings = self._settings
        if self._plan is None:
            if settings.failure_plan is not None:
                self._plan = parse_plan(settings.failure_plan, seed=settings.failure_seed)
            else:
                self._plan = demo_plan(random.Random(settings.failure_seed))  # noqa: S311 - a demonstration
        return FaultTransport(inner, self._plan)

    def _say_first(self, prompt: PromptText) -> None:
        """What the user should know before the answer comes."""
        self._note(*self._loaded.warnings, prompt.notice)

    def _say_last(self, report: RunReport) -> None:
        """What explains the answer that came."""
        settings, target = self._settings, self._choice.target
        is_unasked = target.is_embedded and settings.model is None and settings.gguf is None
        if is_unasked and report.text and report.exit_code == 0:
            self._note(f"{target.name} answered; OPENAI_API_KEY or --base-url asks another model")
        plan = self._plan
        if plan is None:
            return
        from utils.render.recovery import recovery_summary

        self._note(
            recovery_summary(report, injected=plan.injected, doubled=plan.statistics().by_kind.get("duplicate", 0))
        )
        if plan.injected < plan.planned:
            self._note(f"the answer ended before {plan.planned - plan.injected} of the planned failures could happen")

    def _note(self, *lines: str | None) -> None:
        if self._options["quiet"]:
            return
        import click

        from utils.render.wrapping import terminal_size, wrapped

        width = terminal_size(2)[0] if os.isatty(2) else None
        for line in filter(None, lines):
            click.echo("\n".join(wrapped(f"note: {line}", width)), err=True)


def _run_loop(main: Coroutine[Any, Any, int], *, leave: Callable[[], None]) -> int:
    """`asyncio.run`, but a thread that hangs in a name look-up, which nothing can cancel, is not waited for."""
    import asyncio
    from concurrent.futures import Future, ThreadPoolExecutor

    pending: set[Future[Any]] = set()

    class Lookups(ThreadPoolExecutor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            future = super().submit(fn, *args, **kwargs)
            pending.add(future)
            future.add_done_callback(pending.discard)
            return future

    with asyncio.Runner() as runner:
        runner.get_loop().set_default_executor(Lookups())
        code = runner.run(main)
        if pending:
            leave()
            os._exit(code)
        return code


def _flags(options: Mapping[str, Any]) -> dict[str, object]:
    flags = {_SETTING_NAMES.get(name, name): value for name, value in options.items() if name not in _NOT_SETTINGS}
    if options["no_fallback"]:
        flags["fallback_to_embedded"] = False
    if options["no_log"] is not None:
        flags["log"] = not options["no_log"]
    return flags


def _render_options(options: Mapping[str, Any], settings: Settings, *, is_guarded: bool) -> RenderOptions:
    from utils.render.sink import RenderOptions

    return RenderOptions(
        mode=options["mode"] or "text",
        quiet=options["quiet"],
        # Drawn Markdown is another text than the one that was judged: without its backslashes, asterisks and entities
        # what no rule found may be a secret, and what fits a schema may not fit it any more.
        raw=options["raw"] or is_guarded or any((settings.json_schema, settings.regex, settings.grammar)),
        color=settings.color,
        monitor=settings.monitor_performance,
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


def _print_report(options: Mapping[str, Any], report: RunReport, started_s: float) -> None:
    from utils.render.factory import create_sinks
    from utils.render.sink import RenderOptions

    sinks = create_sinks(
        RenderOptions(mode=options["mode"], quiet=options["quiet"]),
        clock=monotonic,
        started_s=started_s,
        snapshot=_no_snapshot,
        on_broken_pipe=lambda: None,
    )
    for sink in sinks:
        sink.finish(report)
        sink.close()


def _no_snapshot(now: float) -> Any:
    raise AssertionError("only a live panel asks for snapshots")
