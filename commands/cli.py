"""The command line: the table of commands, each imported when it is used, and the help of the whole. Only click."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import click

from utils.version import VERSION

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["COMMANDS", "DEFAULT_COMMAND", "LazyGroup", "cli", "say"]

DEFAULT_COMMAND = "run"
COMMANDS = {
    "run": ("commands.run", "Ask the model and stream its answer (the default command)."),
    "chat": ("commands.chat", "Talk with the model: turns with a memory, commands inside."),
    "guard": ("commands.guard", "Filter any stream of bytes: hide keys and personal data while it flows."),
    "rules": ("commands.rules", "List guard packs and what each rule costs; test rules."),
    "history": ("commands.history", "List, show, compare, export or forget earlier runs."),
    "report": ("commands.report", "Write the HTML page of an earlier run."),
    "model": ("commands.model", "Show, fetch, verify or remove the embedded model."),
    "config": ("commands.config", "Show the settings and their origins; write a settings file."),
    "completion": ("commands.completion", "Print what lets bash, zsh or fish complete all this."),
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
        if ctx.resilient_parsing and not args:  # a shell that completes the first word
            return super().parse_args(ctx, args)
        if not args or (args[0] not in COMMANDS and args[0] not in ("--help", "-h", "--version")):
            if len(args) > 1 and not args[0].startswith("-") and not args[1].startswith("-"):
                _refuse_two_words(args)
            elif len(args) == 1:
                _note_near_command(args[0])
            args = [DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """What the first word may be: a command, or an option of the default one."""
        run = self.get_command(ctx, DEFAULT_COMMAND)
        assert run is not None
        return [*super().shell_complete(ctx, incomplete), *run.shell_complete(click.Context(run), incomplete)]

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
        say(f"note: asking {word!r} as a prompt; the command is called {near!r}")


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


def say(line: str) -> None:
    """Print *line* on standard error, if there still is one; paths and arguments in it may not act on the terminal."""
    from utils.render.harmless import make_harmless

    try:
        click.echo(make_harmless(line), err=True)
    except OSError:
        return
