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
    from utils.guardrails.findings import FindingAction
    from utils.guardrails.rules import Action, RuleSet

__all__ = ["command"]

_STDIN, _STDOUT = 0, 1
_READ_BYTES = 1 << 14
"""The first line of a block is shown when the whole block was read by the rules: 5 ms at 3 MB/s. From 4 kB to 256 kB
the throughput is the same within the noise."""

_KEY_VARIABLES = ("KAYGRAPH_API_KEY", "OPENAI_API_KEY")

_DEFAULT_PACKS = ("pii", "secrets")
"""Not profanity: a filter for logs and dumps has to leave words alone."""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--stats",
    is_flag=False,
    flag_value="json",
    type=click.Choice(["json", "text"]),
    help="At the end, figures on stderr: one line of JSON (also without a value), or text.",
)
@click.option(
    "--guard",
    "packs",
    multiple=True,
    metavar="PACK_OR_FILE",
    help="Rules instead of pii and secrets: one of pii, secrets, profanity, injection, or a TOML file. Repeatable.",
)
@click.option(
    "--guard-action",
    "action",
    type=click.Choice(["redact", "mask", "block", "flag"]),
    help="What to do with what is found, instead of what each rule says.",
)
@click.option("-q", "--quiet", is_flag=True, help="Nothing on stderr but errors, and the figures of --stats.")
def command(packs: tuple[str, ...], action: Action | None, stats: str | None, quiet: bool) -> int:
    """Hide personal data and secrets in any stream, while it flows.

    Bytes from standard input go to standard output as soon as no rule can still hide them; what a rule matches is
    replaced. Everything else stays as it is, bytes that are not UTF-8 too. A key of 12 characters or more in
    KAYGRAPH_API_KEY or OPENAI_API_KEY is hidden verbatim. `rules list` shows the packs.

    At the end of the input the rest is decided and shown. After Ctrl-C or SIGTERM what is still held is dropped,
    because the input did not end.

    \b
    Examples:
      tail -f app.log | python main.py guard
      python main.py guard < dump.sql > shareable.sql
      python main.py guard --guard secrets --guard my-rules.toml --guard-action block < answer.txt
      make 2>&1 | python main.py guard --stats text | tee build.log
      python main.py guard --stats < app.log 2>&1 >/dev/null | jq .guard.findings

    \b
    Exit codes: 0 the input ended, 4 a rule blocked the stream, 78 a pack cannot be used, 130 Ctrl-C,
    141 the reader went away, 143 SIGTERM.
    """
    from utils.byte_guard import ByteGuard
    from utils.errors import AnswerBlocked
    from utils.guardrails.redactor import Redactor

    rules = _rules(packs, action, os.environ)
    guard = ByteGuard(Redactor(rules))
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
        figures = _with_actions(guard.statistics(), rules)
        if stats is not None:
            _say(_as_json(figures) if stats == "json" else _as_text(figures))
        elif not quiet:
            _say(_summary(figures))
    if guard.blocked_by is not None:
        raise AnswerBlocked(
            f"the rule {guard.blocked_by!r} blocked the stream", hint="what came before the match was shown"
        )
    return 0


def _rules(packs: tuple[str, ...], action: Action | None, environ: Mapping[str, str]) -> RuleSet:
    """The rules of *packs*, and every key of the environment verbatim: both, if both variables are set."""
    from utils.guardrails.policy import compile_rules

    own_keys = (environ.get(name, "").strip() for name in _KEY_VARIABLES)
    return compile_rules(packs or _DEFAULT_PACKS, action=action, own_keys=own_keys)


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


def _with_actions(figures: ByteGuardStatistics, rules: RuleSet) -> ByteGuardStatistics:
    """*figures* with what each rule's findings led to."""
    import dataclasses

    led_to: dict[str, FindingAction] = {"flag": "flagged", "block": "blocked"}
    actions = {rule.id: led_to.get(rule.action, "hidden") for rule in rules.rules}
    findings = tuple(
        dataclasses.replace(finding, action=actions.get(finding.rule, "hidden")) for finding in figures.guard.findings
    )
    return dataclasses.replace(figures, guard=dataclasses.replace(figures.guard, findings=findings))


def _as_text(figures: ByteGuardStatistics) -> str:
    guard = figures.guard
    read = f"{figures.read_bytes:,} bytes read, {figures.shown_bytes:,} shown"
    invalid = f", {figures.invalid_bytes:,} of them not UTF-8" if figures.invalid_bytes else ""
    flagged = _counts(figures, "flagged")
    lines = [
        f"bytes   {read}{invalid}",
        f"hidden  {_counts(figures, 'hidden') or 'nothing'}",
        *([f"flagged {flagged}"] if flagged else []),
        f"held    {guard.held_mean_chars:.1f} characters on average, at most {guard.held_max_chars:,}",
    ]
    if figures.blocked_by:
        lines.append(f"cut     blocked by {figures.blocked_by}; {guard.dropped_chars:,} characters read and not shown")
    elif not figures.is_complete:
        lines.append(f"cut     the input did not end; {guard.dropped_chars:,} held characters dropped")
    return "\n".join(lines)


def _summary(figures: ByteGuardStatistics) -> str:
    """The note at the end; "" if there is nothing that the output does not say."""
    counts = [(what, _counts(figures, what)) for what in ("hidden", "flagged")]
    lines = [f"note: {what}: {found}" for what, found in counts if found]
    if figures.guard.dropped_chars and figures.blocked_by is None:
        lines.append(f"note: {figures.guard.dropped_chars:,} held characters dropped, because the input did not end")
    return "\n".join(lines)


def _counts(figures: ByteGuardStatistics, action: str) -> str:
    found = [finding for finding in figures.guard.findings if finding.action == action]
    return ", ".join(f"{finding.rule} {finding.count:,}" for finding in found)


def _say(text: str) -> None:
    try:
        if text:
            click.echo(text, err=True)
    except OSError:
        return
