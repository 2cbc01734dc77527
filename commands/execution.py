"""What is around every run: how it is started early, how it ends, and that JSON is printed whatever happens.

Little is imported here. What is of weight comes inside the `try` that turns a Ctrl-C into the object of --json.
"""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from commands.early_model import started_if_likely
from commands.packages import require_packages
from utils.clock import monotonic
from utils.errors import AppError, Cancelled, Stopped, Terminated

if TYPE_CHECKING:
    from utils.embedded_model.server import EmbeddedServer
    from utils.run_report import RunReport

__all__ = ["execute", "flags_of", "run_loop"]

_NOT_SETTINGS = (
    *("prompt", "prompt_option", "allow_secrets", "mode", "quiet", "raw", "config", "no_fallback"),
    *("no_log", "report_file", "continue_newest", "cid"),
    *("files", "template", "template_parameters", "extract", "dry_run"),
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
    started_model: EmbeddedServer | None = None
    try:
        # Before the imports of the run: the model loads while they do.
        started_model = started_if_likely(options, os.environ)
        from commands.one_run import OneRun

        return OneRun(options, started_s, started_model).execute()
    except (AppError, KeyboardInterrupt, SystemExit) as raised:
        if options["mode"] is None:
            raise
        # Scripts that asked for JSON get their object for every kind of failure.
        from utils.run_report import failed_report

        error = raised if isinstance(raised, AppError) else _stopped_by(raised)
        _print_report(options, failed_report(error, model_requested=options["model"] or ""), started_s)
        return error.exit_code
    finally:
        if started_model is not None:
            started_model.stop()


def _stopped_by(raised: BaseException) -> Stopped:
    """The cause of a run that was stopped before it had handlers of its own for that."""
    return Cancelled("cancelled") if isinstance(raised, KeyboardInterrupt) else Terminated("terminated")


def run_loop(main: Coroutine[Any, Any, int], *, leave: Callable[[], None]) -> int:
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


def flags_of(options: Mapping[str, Any]) -> dict[str, object]:
    """The settings among *options*, as `settings.load` takes them."""
    flags = {_SETTING_NAMES.get(name, name): value for name, value in options.items() if name not in _NOT_SETTINGS}
    if options.get("no_fallback"):
        flags["fallback_to_embedded"] = False
    if options.get("no_log") is not None:
        flags["log"] = not options["no_log"]
    return flags


def _print_report(options: Mapping[str, Any], report: RunReport, started_s: float) -> None:
    from utils.render.factory import create_sinks
    from utils.render.sink import RenderOptions

    sinks = create_sinks(
        RenderOptions(mode=options["mode"], quiet=options["quiet"], extract=bool(options["extract"])),
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
