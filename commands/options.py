"""The options of `run` and `chat`, by section of the help page. Importing this costs no more than click."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from commands import completing

__all__ = [
    "CONFIGURATION",
    "CONVERSATION",
    "FAILURES",
    "FORM",
    "GUARDRAILS",
    "MODEL",
    "PROMPT",
    "SYSTEM",
    "SectionedCommand",
    "options",
]

F = TypeVar("F", bound=Callable[..., Any])


_SECTIONS = ("Prompt", "Model", "Guardrails", "Form of the answer", "Failures and limits", "Output", "Configuration")


class _Option(click.Option):
    """An option that knows its section of the help page."""

    def __init__(self, *args: Any, section: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


class SectionedCommand(click.Command):
    """Shows its options by section."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The sections that have any option, in their order."""
        rows: dict[str, list[tuple[str, str]]] = {section: [] for section in _SECTIONS}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Argument):
                rows["Prompt"].append((record[0], "What to ask. Several words need quotes."))
            elif record is not None:
                rows[getattr(parameter, "section", "Configuration")].append(record)
        for section, records in rows.items():
            if records:
                with formatter.section(section):
                    formatter.write_dl(records)


def options(*groups: Iterable[Callable[[F], F]]) -> Callable[[F], F]:
    """A decorator that adds the options of *groups* in their order."""

    def decorate(command: F) -> F:
        for option in reversed([option for group in groups for option in group]):
            command = option(command)
        return command

    return decorate


def _option(section: str, *args: Any, **kwargs: Any) -> Callable[[F], F]:
    if kwargs.get("metavar") == "FILE":
        kwargs["shell_complete"] = completing.files
    return click.option(*args, cls=_Option, section=section, **kwargs)


def _flag(section: str, *args: Any, **kwargs: Any) -> Callable[[F], F]:
    # No default: a flag that was not typed must not hide the environment or the file.
    return _option(section, *args, is_flag=True, default=None, **kwargs)


PROMPT: tuple[Callable[[Any], Any], ...] = (
    _option("Prompt", "-p", "--prompt", "prompt_option", metavar="TEXT", help="The prompt, instead of PROMPT."),
    _option(
        "Prompt",
        "-f",
        "--file",
        "files",
        multiple=True,
        metavar="FILE",
        help="A text file that goes with the prompt, marked as data; `-` is standard input. Repeatable.",
    ),
    _option(
        "Prompt",
        "-t",
        "--template",
        metavar="NAME",
        shell_complete=completing.templates,
        help="Prompt and settings from the template NAME, or from a TOML file.",
    ),
    _option(
        "Prompt",
        "-P",
        "--param",
        "template_parameters",
        multiple=True,
        metavar="NAME=VALUE",
        help="Put VALUE in the place of $NAME in the template. Repeatable.",
    ),
)
SYSTEM: tuple[Callable[[Any], Any], ...] = (_option("Prompt", "-s", "--system", metavar="TEXT", help="System prompt."),)
CONVERSATION: tuple[Callable[[Any], Any], ...] = (
    _flag("Prompt", "-c", "--continue", "continue_newest", help="Go on with the newest conversation that was kept."),
    _option("Prompt", "--cid", metavar="ID", help="Go on with the conversation whose id begins like this."),
)
MODEL: tuple[Callable[[Any], Any], ...] = (
    _option(
        "Model",
        "-m",
        "--model",
        metavar="NAME",
        shell_complete=completing.targets,
        help="Model, or target of the settings file [what the target offers].",
    ),
    _option("Model", "--base-url", metavar="URL", help="OpenAI-compatible server [OPENAI_BASE_URL]."),
    _option("Model", "--api-key", metavar="KEY", help="Key of the server; better set OPENAI_API_KEY."),
    _option("Model", "--gguf", metavar="FILE", help="Run this GGUF file as the embedded model."),
    _option(
        "Model",
        "--fallback",
        multiple=True,
        metavar="NAME",
        shell_complete=completing.targets,
        help="Ask this one next if a target fails: a target, MODEL, URL, MODEL@URL or embedded. Repeatable.",
    ),
    _flag("Model", "--no-fallback", help="Fail instead of letting another target stand in."),
    _option("Model", "--temperature", type=float, metavar="T", help="Sampling temperature, 0 to 2."),
    _option("Model", "--max-tokens", type=int, metavar="N", help="Longest answer, in tokens."),
    _option("Model", "--seed", type=int, metavar="N", help="Sampling seed: the same seed gives the same answer."),
    _option("Model", "--stop", multiple=True, metavar="TEXT", help="End the answer before TEXT (up to 4 times)."),
)
GUARDRAILS: tuple[Callable[[Any], Any], ...] = (
    _flag(
        "Guardrails",
        "--enable-guardrails/--disable-guardrails",
        "guardrails",
        help="Hide personal data and secrets, mask profanity, flag toxic sentences, while the answer streams.",
    ),
    _option(
        "Guardrails",
        "--guard",
        multiple=True,
        metavar="PACK",
        shell_complete=completing.packs,
        help="Guard with this rule pack: pii, secrets, profanity, injection, or a TOML file. Repeatable.",
    ),
    _option(
        "Guardrails",
        "--guard-action",
        type=click.Choice(["redact", "mask", "block", "flag"]),
        help="Do this with whatever a rule finds [each rule's own action].",
    ),
    _option(
        "Guardrails",
        "--toxicity",
        type=click.Choice(["off", "flag", "stop", "hold"]),
        help="Judge sentences: flag them, stop after a toxic one, or hold each until it is judged "
        "[flag with guardrails].",
    ),
    _option(
        "Guardrails",
        "--toxicity-classifier",
        type=click.Choice(["lexical", "openai"]),
        help="Judge here by words, or send sentences to the server's moderation endpoint [lexical].",
    ),
    _flag("Guardrails", "--allow-secrets", help="Send the prompt even if it holds something that looks like a key."),
)
FORM: tuple[Callable[[Any], Any], ...] = (
    _option(
        "Form of the answer", "--json-schema", metavar="FILE", help="The answer must be JSON that fits this schema."
    ),
    _option("Form of the answer", "--regex", metavar="RE", help="The whole answer must match this regular expression."),
    _option("Form of the answer", "--grammar", metavar="FILE", help="The answer must follow this Lark grammar."),
    _option(
        "Form of the answer",
        "--validate",
        "validators",
        multiple=True,
        metavar="CHECK",
        help="max-chars=N, no-control, script=latin or no-repetition. Repeatable.",
    ),
    _option(
        "Form of the answer",
        "--validate-retries",
        type=int,
        metavar="N",
        help="Ask again, N times at most, and show only a valid answer [0: show it until it is invalid].",
    ),
)
FAILURES: tuple[Callable[[Any], Any], ...] = (
    _flag(
        "Failures and limits", "--simulate-failures", help="Refuse the first connection, cut the second one; recover."
    ),
    _option(
        "Failures and limits",
        "--failure-plan",
        metavar="SPEC",
        help="Simulate these failures, one per attempt, such as 'refused, cut@40%, ok'.",
    ),
    _option(
        "Failures and limits",
        "--failure-seed",
        type=int,
        metavar="N",
        help="Choose the place of the cut, and what a plan leaves to chance.",
    ),
    _option("Failures and limits", "--retries", type=int, metavar="N", help="Further attempts after a failure [2]."),
    _option(
        "Failures and limits", "--timeout", type=float, metavar="S", help="Time for the whole run, 0 for none [600]."
    ),
    _option(
        "Failures and limits", "--first-token-timeout", type=float, metavar="S", help="Time to the first text [60]."
    ),
    _option("Failures and limits", "--idle-timeout", type=float, metavar="S", help="Longest pause in the answer [30]."),
    _option("Failures and limits", "--rpm", type=int, metavar="N", help="Requests per minute, to each target."),
    _option("Failures and limits", "--tpm", type=int, metavar="N", help="Tokens per minute, to each target."),
    _option(
        "Failures and limits",
        "--max-tokens-per-second",
        type=float,
        metavar="R",
        help="Show the answer no faster than this.",
    ),
    _flag(
        "Failures and limits",
        "--adaptive",
        help="Let deadlines, hedging, the order of targets and the cutting of loops follow what was observed.",
    ),
)
DISPLAY: tuple[Callable[[Any], Any], ...] = (
    _flag("Output", "--monitor-performance", help="Show latency, throughput and quality, live and at the end."),
    _flag("Output", "--no-log/--log", "no_log", help="Leave no row in the history."),
    _flag("Output", "--log-text", help="Keep prompt and answer in the history, cleaned of personal data and keys."),
    _option("Output", "-q", "--quiet", is_flag=True, help="Only the answer, errors, and who answers instead."),
    _option("Output", "--raw", is_flag=True, help="No Markdown on a terminal."),
    _option("Output", "--color", type=click.Choice(["auto", "always", "never"]), help="When to use colour [auto]."),
)
EXPORTS: tuple[Callable[[Any], Any], ...] = (
    _option("Output", "--slo", metavar="SPEC", help="Say whether the run met objectives such as ttft=0.5,tpot=0.05."),
    _option("Output", "--report", "report_file", metavar="FILE", help="Write an HTML page about the run."),
    _option(
        "Output", "--otel", metavar="URL", help="Send a span and metrics to this OpenTelemetry collector (OTLP/HTTP)."
    ),
    _option("Output", "--otel-semconv", type=click.Choice(["current", "latest"]), help="Names of both [current]."),
    _option("Output", "--prometheus", metavar="FILE", help="Write figures for node_exporter (FILE: *.prom)."),
    _flag(
        "Output",
        "-x",
        "--extract/--no-extract",
        "extract",
        help="Print only the content of the first fenced code block; without one, nothing and exit 4.",
    ),
    _option(
        "Output", "--dry-run", is_flag=True, help="Print what would be sent and what the guard says; send nothing."
    ),
    _option("Output", "--json", "mode", flag_value="json", help="Print one JSON object at the end."),
    _option("Output", "--events", "mode", flag_value="events", help="Print every event as a JSON line."),
)
CONFIGURATION: tuple[Callable[[Any], Any], ...] = (
    _option("Configuration", "--config", metavar="FILE", help="TOML file with settings."),
    _option(
        "Configuration",
        "--profile",
        metavar="NAME",
        shell_complete=completing.profiles,
        help="Use this profile of the settings file; none: no profile.",
    ),
)
