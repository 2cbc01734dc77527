"""`guard`: a filter between any two programs: bytes from stdin, the bytes that are proved safe to stdout, at once."""

from __future__ import annotations

import errno
import os
import select
import stat
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from utils.byte_guard import ByteGuard, ByteGuardStatistics
    from utils.guardrails.rules import RuleSet

__all__ = ["command"]

_STDIN, _STDOUT = 0, 1
_READ_BYTES = 1 << 14
"""The first line of a block is shown when the whole block was read by the rules: 5 ms at 3 MB/s. From 4 kB to 256 kB
the throughput is the same within the noise."""

_KEY_VARIABLES = ("KAYGRAPH_API_KEY", "OPENAI_API_KEY")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--stats",
    is_flag=False,
    flag_value="json",
    type=click.Choice(["json", "text"]),
    help="At the end, figures on stderr: one line of JSON (also without a value), or text.",
)
@click.option("-q", "--quiet", is_flag=True, help="Nothing on stderr but errors, and the figures of --stats.")
def command(stats: str | None, quiet: bool) -> int:
    """Hide e-mail addresses, card numbers and keys in any stream, while it flows.

    Bytes from standard input go to standard output as soon as no rule can still hide them; what a rule matches is
    replaced. Everything else stays as it is, bytes that are not UTF-8 too. A key of 12 characters or more in
    KAYGRAPH_API_KEY or OPENAI_API_KEY is hidden verbatim.

    At the end of the input the rest is decided and shown. After Ctrl-C or SIGTERM what is still held is dropped,
    because the input did not end.

    \b
    Examples:
      tail -f app.log | python main.py guard
      python main.py guard < dump.sql > shareable.sql
      make 2>&1 | python main.py guard --stats text | tee build.log
      python main.py guard --stats < app.log 2>&1 >/dev/null | jq .guard.findings

    \b
    Exit codes: 0 the input ended, 4 a rule blocked the stream, 130 Ctrl-C, 141 the reader went away,
    143 SIGTERM.
    """
    from utils.byte_guard import ByteGuard
    from utils.errors import AnswerBlocked
    from utils.guardrails.redactor import Redactor

    guard = ByteGuard(Redactor(_rules(os.environ)))
    if not quiet and os.isatty(_STDIN) and os.isatty(2):
        _say("note: reading from the terminal; Ctrl-D on an empty line ends the input")
    try:
        _filter(guard)
    except BrokenPipeError:
        quiet = True  # nobody reads on: nothing to tell
        raise
    except KeyboardInterrupt:
        # Ctrl-C is how people end `tail -f`: nothing to announce, and the JSON stays the only line
        return 130
    finally:
        guard.cancel()
        figures = guard.statistics()
        if stats is not None:
            _say(_as_json(figures) if stats == "json" else _as_text(figures))
        elif not quiet:
            _say(_summary(figures))
    if guard.blocked_by is not None:
        raise AnswerBlocked(
            f"the rule {guard.blocked_by!r} blocked the stream", hint="what came before the match was shown"
        )
    return 0


def _rules(environ: Mapping[str, str]) -> RuleSet:
    """The default rules, and every key of the environment verbatim: both, if both variables are set."""
    import dataclasses

    from utils.guardrails.rules import RuleSet, default_rules, secret_rules

    first, second = (environ.get(name, "").strip() for name in _KEY_VARIABLES)
    rules = default_rules(first or second or None)
    if first and second and first != second:
        known = {rule.id for rule in secret_rules(None).rules}
        more = [rule for rule in secret_rules(second).rules if rule.id not in known]
        return RuleSet.compile((*(dataclasses.replace(rule, id=f"{rule.id}_2") for rule in more), *rules.rules))
    return rules


# -- input and output --------------------------------------------------------------------------------------------------


def _filter(guard: ByteGuard) -> None:
    """Pump until the input ends or a rule blocks. Each block is written before the next one is waited for."""
    waiting = select.poll()
    waiting.register(_STDIN, select.POLLIN)
    if stat.S_ISFIFO(os.fstat(_STDOUT).st_mode):
        waiting.register(_STDOUT, 0)  # tells only that the reader went away
    while guard.blocked_by is None:
        data = _read(waiting)
        _write(guard.feed(data) if data else guard.finish())
        if not data:
            return


def _read(waiting: select.poll) -> bytes:
    """The next bytes, b"" at the end of the input.

    Raises: BrokenPipeError if the reader of stdout goes away meanwhile: behind `tail -f` the next write may be hours
    away. UsageProblem if stdin cannot be read.
    """
    while True:
        ready = [fd for fd, _ in waiting.poll()]
        if _STDIN not in ready:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        try:
            return os.read(_STDIN, _READ_BYTES)
        except BlockingIOError:
            continue  # another process that shares stdin was faster
        except OSError as error:
            from utils.errors import UsageProblem

            raise UsageProblem(
                f"standard input cannot be read: {error.strerror}", hint="pipe or redirect a stream into the filter"
            ) from error


def _write(data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(_STDOUT, rest) :]
        except BlockingIOError:  # another process made the shared pipe non-blocking
            select.select([], [_STDOUT], [])


# -- figures -----------------------------------------------------------------------------------------------------------


def _as_json(figures: ByteGuardStatistics) -> str:
    import dataclasses
    import json

    return json.dumps(dataclasses.asdict(figures))


def _as_text(figures: ByteGuardStatistics) -> str:
    guard = figures.guard
    read = f"{figures.read_bytes:,} bytes read, {figures.shown_bytes:,} shown"
    invalid = f", {figures.invalid_bytes:,} of them not UTF-8" if figures.invalid_bytes else ""
    lines = [
        f"bytes   {read}{invalid}",
        f"hidden  {_hidden(figures) or 'nothing'}",
        f"held    {guard.held_mean_chars:.1f} characters on average, at most {guard.held_max_chars:,}",
    ]
    if not figures.is_complete:
        why = f"blocked by {figures.blocked_by}" if figures.blocked_by else "the input did not end"
        lines.append(f"cut     {why}; {guard.dropped_chars:,} held characters dropped")
    return "\n".join(lines)


def _summary(figures: ByteGuardStatistics) -> str:
    """The note at the end; "" if there is nothing that the output does not say."""
    hidden = _hidden(figures)
    lines = [f"note: hidden: {hidden}"] if hidden else []
    if figures.guard.dropped_chars:
        lines.append(f"note: {figures.guard.dropped_chars:,} held characters dropped, because the input did not end")
    return "\n".join(lines)


def _hidden(figures: ByteGuardStatistics) -> str:
    return ", ".join(f"{finding.rule} {finding.count:,}" for finding in figures.guard.findings)


def _say(text: str) -> None:
    try:
        if text:
            click.echo(text, err=True)
    except OSError:
        return
