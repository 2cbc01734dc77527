"""The one place where an error becomes an exit code; every error ends here, in one or two lines on stderr."""

from __future__ import annotations

import errno
import os
import signal
import sys
from io import StringIO

import click

from commands.cli import cli, say
from commands.startup import use_own_environment

__all__ = ["run_command_line"]


def run_command_line(args: list[str], started_s: float) -> int:
    """Run the program; the exit code. Every error ends here, in one or two lines on stderr."""
    _handle_signals()
    try:
        if request := os.environ.get("_KAYGRAPH_COMPLETE"):
            from click.shell_completion import shell_complete

            return shell_complete(cli, {}, "kaygraph", "_KAYGRAPH_COMPLETE", request)
        return _invoke(args, started_s)
    except click.ClickException as error:
        text = StringIO()
        error.show(text)
        say(text.getvalue().removesuffix("\n"))
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        say("cancelled")
        return 130
    except BrokenPipeError:
        _forget_stdout()
        return 141
    except OSError as error:
        if error.filename is not None or error.errno not in _OUTPUT_ERRORS:
            return _exit_code_of(error)
        _forget_stdout()
        say(f"error: cannot write to standard output: {error.strerror}")
        return 141
    except Exception as error:
        return _exit_code_of(error)


_PACKAGES = {"click", "httpx2", "msgspec", "openai", "prompt_toolkit", "pydantic", "rich"}
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}
_OUTPUT_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}


def _invoke(args: list[str], started_s: float) -> int:
    # Not `cli.main()`: it has exit codes of its own for Ctrl-C and for a closed pipe.
    try:
        with cli.make_context("python main.py", list(args), obj=started_s) as context:
            code = cli.invoke(context)
    except click.exceptions.Exit as ended:
        code = ended.exit_code
    if sys.stdout is not None:
        sys.stdout.flush()
    return code if isinstance(code, int) else 0


def _handle_signals() -> None:
    """Ctrl-C raises KeyboardInterrupt again, SIGTERM raises SystemExit(143), so that every `finally` runs."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))


def _forget_stdout() -> None:
    # The interpreter flushes stdout once more at exit; that must not fail again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _exit_code_of(error: Exception) -> int:
    from utils.errors import AppError

    if isinstance(error, AppError):
        say(f"error: {error.message}")
        if error.hint:
            say(f"hint: {error.hint}")
        return error.exit_code
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in _PACKAGES:
        use_own_environment(error)
    if isinstance(error, OSError) and error.errno in _EXHAUSTED:
        say(f"error: the system refuses: {error.strerror}")
        say("hint: raise the limits (ulimit), or end other programs")
        return 69
    if os.environ.get("KAYGRAPH_DEBUG"):
        raise error
    say(f"error: a bug in this program ({type(error).__name__}); KAYGRAPH_DEBUG=1 shows where")
    return 1
