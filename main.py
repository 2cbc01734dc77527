"""KayGraph Streaming LLM: the command line, and the one place where an error becomes an exit code.

Only click is imported here, so that `--help` and usage errors answer at once; a command's own module is imported when
the command is used, and the heavy libraries when it runs.
"""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
import time

STARTED_S = time.monotonic()
"""The start of the process, as near as Python code can see it: what `--timeout` counts from."""


def _prepare_process() -> None:
    """Make the process safe for the imports that follow.

    Ctrl-C during an import ends it silently instead of with a traceback. A standard stream that was closed is opened
    on /dev/null, or the next file or socket would take its number and receive what is printed; standard output in a
    way that makes writing fail, because an answer that goes nowhere is no success.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    for number, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)
            if number == 2:
                sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - lives as long as we do


def _use_own_environment(error: ModuleNotFoundError) -> None:
    """Start again with the Python of `make run`'s environment; without one, say how to make it and end (78)."""
    own = os.path.join(os.path.dirname(os.path.abspath(__file__)), ".venv", "bin", "python")
    if os.path.exists(own) and sys.prefix != os.path.dirname(os.path.dirname(own)):
        os.execv(own, [own, *sys.argv])  # noqa: S606 - our own interpreter, our own arguments
    sys.stderr.write(
        f"error: the package {error.name!r} is not installed for {sys.executable}\n"
        "hint: `make run`, or the two lines of the README with pip, install everything\n"
    )
    sys.exit(78)


if __name__ == "__main__":
    _prepare_process()

try:
    import click
except ModuleNotFoundError as error:  # pragma: no cover - needs a Python without the packages
    _use_own_environment(error)
    raise

__all__ = ["cli", "main"]

VERSION = "0.1.0"
DEFAULT_COMMAND = "run"
COMMANDS = {
    "run": ("commands.run", "Ask the model and stream its answer (the default command)."),
    "chat": ("commands.chat", "Talk with the model: turns with a memory, commands inside."),
    "guard": ("commands.guard", "Filter any stream of bytes: hide keys and personal data while it flows."),
    "rules": ("commands.rules", "List guard packs and what each rule costs; test rules."),
    "history": ("commands.history", "List, show, compare, export or forget earlier runs."),
    "report": ("commands.report", "Write the HTML page of an earlier run."),
    "model": ("commands.model", "Show, fetch, verify or remove the embedded model."),
    "doctor": ("commands.doctor", "Show what works here, what does not, and what to do about it."),
}


class LazyGroup(click.Group):
    """Imports a command's module when the command is used; without a command's name, `run` is meant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module and take its `command`."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default command's name where the user left it out."""
        if not args or (args[0] not in COMMANDS and args[0] not in ("--help", "-h", "--version")):
            if len(args) > 1 and not args[0].startswith("-") and not args[1].startswith("-"):
                _refuse_two_words(args)
            elif len(args) == 1:
                _note_near_command(args[0])
            args = [DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The default command first: it is what nearly everybody wants."""
        formatter.write_usage(ctx.command_path, "[run] [OPTIONS] [PROMPT]")
        formatter.write_usage(ctx.command_path, "COMMAND [ARGS]...", prefix="       ")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands, then the options of the default command, so that one page tells the whole."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in COMMANDS.items()])
        run = self.get_command(ctx, DEFAULT_COMMAND)
        assert run is not None
        run.format_options(click.Context(run, info_name=DEFAULT_COMMAND), formatter)


def _near_command(word: str) -> str:
    import difflib

    return "".join(difflib.get_close_matches(word, COMMANDS, n=1, cutoff=0.7))


def _note_near_command(word: str) -> None:
    near = _near_command(word) if word.isalpha() else ""
    if near:
        _say(f"note: asking {word!r} as a prompt; the command is called {near!r}")


def _refuse_two_words(args: list[str]) -> None:
    near = _near_command(args[0])
    hint = f"Did you mean the command '{near}'?" if near else "Put a prompt of several words in quotes."
    raise click.UsageError(f"Got more than one prompt ({args[0]!r}, {args[1]!r}). {hint}")


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 complete, 2 usage, 3 incomplete, 4 blocked, 65 request refused, 69 unreachable, "
    "75 rate-limited, 77 key refused, 78 configuration, 130 Ctrl-C, 141 broken pipe, 143 SIGTERM. "
    "Without a key and a base URL the embedded model answers.",
)
@click.version_option(VERSION, prog_name="kaygraph-streaming-llm")
def cli() -> None:
    """Stream an answer from an LLM through a flow that guards, measures and recovers, and tells the truth about it.

    \b
    Examples:
      python main.py "What is a circuit breaker?"
      git diff | python main.py "Write a commit message for this"
      python main.py --enable-guardrails --monitor-performance
      python main.py --base-url http://127.0.0.1:11434/v1 --model llama3.2 "Hello"
    """


def main(args: list[str] | None = None) -> int:
    """Run the program; the exit code. Every error ends here, in one or two lines on stderr."""
    _handle_signals()
    try:
        return _invoke(sys.argv[1:] if args is None else args)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        _say("cancelled")
        return 130
    except BrokenPipeError:
        _forget_stdout()
        return 141
    except OSError as error:
        if error.filename is not None or error.errno not in _OUTPUT_ERRORS:
            return _exit_code_of(error)
        _forget_stdout()
        _say(f"error: cannot write to standard output: {error.strerror}")
        return 141
    except Exception as error:
        return _exit_code_of(error)


_PACKAGES = {"click", "httpx2", "msgspec", "openai", "pydantic", "rich"}
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}
_OUTPUT_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}


def _invoke(args: list[str]) -> int:
    # Not `cli.main()`: it has exit codes of its own for Ctrl-C and for a closed pipe.
    try:
        with cli.make_context("python main.py", list(args), obj=STARTED_S) as context:
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
        _say(f"error: {error.message}")
        if error.hint:
            _say(f"hint: {error.hint}")
        return error.exit_code
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in _PACKAGES:
        _use_own_environment(error)
    if isinstance(error, OSError) and error.errno in _EXHAUSTED:
        _say(f"error: the system refuses: {error.strerror}")
        _say("hint: raise the limits (ulimit), or end other programs")
        return 69
    if os.environ.get("KAYGRAPH_DEBUG"):
        raise error
    _say(f"error: a bug in this program ({type(error).__name__}); KAYGRAPH_DEBUG=1 shows where")
    return 1


def _say(line: str) -> None:
    try:
        click.echo(line, err=True)
    except OSError:
        return


if __name__ == "__main__":
    sys.exit(main())
