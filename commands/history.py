"""`history`: what earlier runs were like: list, show, compare, export, forget."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from utils.history import History, HistoryRow, RunFilter

__all__ = ["command"]

F = TypeVar("F", bound=Callable[..., Any])
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_STATUSES = (
    *("complete", "incomplete", "blocked", "rejected", "unavailable", "cancelled", "failed"),
    *("running", "interrupted"),
)


class _Age(click.ParamType[float]):
    """`30d`, `12h`, `90m`: a time span in seconds."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number, unit = (value[:-1], value[-1:]) if isinstance(value, str) else ("", "")
        if not (number.isascii() and number.isdecimal() and unit in _UNITS_S):
            self.fail(f"{value!r} is no time span; write 30d, 12h or 90m", param, ctx)
        return int(number) * _UNITS_S[unit]


def _selected(function: F) -> F:
    options = (
        click.option("--model", metavar="NAME", help="Only runs that this model answered."),
        click.option("--status", type=click.Choice(_STATUSES), help="Only runs that ended so."),
        click.option("--since", type=_Age(), metavar="AGE", help="Only runs of the last 30d, 12h, 90m, ..."),
        click.option("--no-simulated", is_flag=True, help="Leave out runs with simulated failures."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.group("history")
def command() -> None:
    """Runs of the past: figures, events and outcomes; texts only where they were asked for (--log-text).

    \b
    Examples:
      python main.py history list
      python main.py history show 3f2a
      python main.py history stats --since 7d --slo ttft=0.5,tpot=0.05
      python main.py history export --since 1d > runs.jsonl
      python main.py history prune --older-than 30d
    """


@command.command("list")
@_selected
@click.option("-n", "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def list_runs(*, limit: int, as_json: bool, **which: Any) -> None:
    """List runs, newest first. A run that was killed is `interrupted`."""
    import dataclasses

    from utils.render.history_table import run_lines

    with _history() as history:
        chosen = _filter(limit, **which)
        rows = history.rows(chosen)
        # Whoever was given fewer than the limit has them all.
        count = history.count(chosen) if len(rows) == limit else len(rows)
        _check(history)
    if as_json:
        for row in rows:
            click.echo(json.dumps(dataclasses.asdict(row)))
    elif rows:
        _print(run_lines(rows, _width()))
    else:
        click.echo("no runs", err=True)
    if count > len(rows):
        click.echo(f"{len(rows):,} of {count:,} runs are shown; -n {count} shows all", err=True)


@command.command()
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="The whole record as one JSON object.")
def show(run: str, *, as_json: bool) -> None:
    """Show the figures and events of RUN (an id, or its first characters; `last` for the newest that has ended)."""
    from utils.render.record_lines import record_lines

    record = find_record(run)
    if as_json:
        click.echo(json.dumps(record.as_json()))
    else:
        _print(record_lines(record))


@command.command()
@_selected
@click.option("--slo", metavar="SPEC", help="Count the runs that met this, such as ttft=0.5,tpot=0.05.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def stats(*, slo: str | None, as_json: bool, **which: Any) -> None:
    """Compare models over their runs: how they ended, and percentiles of their whole answers, with n."""
    from utils.metrics.comparison import ComparedRun, compared
    from utils.metrics.slo import parse_slo
    from utils.render.history_table import comparison_lines

    objectives = parse_slo(slo) if slo is not None else None
    with _history() as history:
        rows = history.rows(_filter(None, **which))
        _check(history)
    models = compared((ComparedRun(row.model, row.status, row.metrics) for row in rows), objectives)
    if as_json:
        for model in models:
            click.echo(json.dumps(model.as_json()))
    elif models:
        _print(comparison_lines(models, _width()))
    else:
        click.echo("no runs", err=True)


@command.command()
@_selected
def export(**which: Any) -> None:
    """Print whole records as JSON lines, oldest first: facts, report, tokens; texts where they were kept."""
    with _history() as history:
        for row in reversed(history.rows(_filter(None, **which))):
            record = history.record(row.run_id)
            if record is not None:
                click.echo(json.dumps(record.as_json()))
        _check(history)


@command.command()
@click.option("--older-than", type=_Age(), metavar="AGE", help="Forget runs older than 30d, 12h, ...")
@click.option("--keep", type=click.IntRange(min=0), metavar="N", help="Forget all but the newest N.")
def prune(*, older_than: float | None, keep: int | None) -> None:
    """Forget runs, their events and their texts for good; and files that were set aside as damaged."""
    from utils.render.figures import counted

    if older_than is None and keep is None:
        raise click.UsageError("say which runs to forget: --older-than 30d, or --keep 100")
    before = None if older_than is None else time.time() - older_than
    with _history() as history:
        forgotten = history.prune(before=before, keep=keep)
        for file in forgotten.damaged:
            click.echo(
                f"deleted {str(file.path)!r}, set aside as damaged: {counted(file.size_bytes, 'byte')}", err=True
            )
        _check(history)
    click.echo(f"{counted(forgotten.runs, 'run')} forgotten", err=True)


def find_record(run: str) -> Any:
    """The record of the run whose id begins with *run*, or of the newest that has ended (`last`). Raises UsageProblem.

    If a newer one has not ended, a line on stderr says so.
    """
    from utils.errors import UsageProblem
    from utils.history import RunFilter

    with _history() as history:
        row = history.find(run)
        record = None if row is None else history.record(row.run_id)
        newest = history.rows(RunFilter(limit=1)) if run == "last" and record is not None else []
        _check(history)
    if record is not None:
        if newest and newest[0].ended_at is None:
            click.echo(_left_nothing(newest[0]), err=True)
        return record
    hint = "`python main.py history list` shows what there is"
    if row is None:
        raise UsageProblem(f"there is no run {run!r} in the history", hint=hint)
    raise UsageProblem(f"the run {row.run_id} is {row.status}: it has left no figures", hint=hint)


def _left_nothing(row: HistoryRow) -> str:
    from utils.render.harmless import one_line
    from utils.render.history_table import local_time

    state = "was interrupted and left no record" if row.status == "interrupted" else "is still running"
    return one_line(f"the newest run, {row.run_id} ({local_time(row.started_at)}, {row.model}), {state}")


def _history() -> History:
    from utils.errors import ConfigError
    from utils.history import History, history_path

    path = history_path()
    if path is None:
        raise ConfigError("there is no home directory to keep a history in", hint="set KAYGRAPH_STATE_DIR")
    return History(path)


def _filter(
    limit: int | None, *, model: str | None, status: str | None, since: float | None, no_simulated: bool
) -> RunFilter:
    from utils.history import RunFilter

    instant = None if since is None else time.time() - since
    return RunFilter(limit, model, status, instant, with_simulated=not no_simulated)


def _check(history: History) -> None:
    """Raise ConfigError if the file could not be used: what was read of it is not what there is."""
    from utils.errors import ConfigError

    if warning := history.take_warning():
        hint = (
            "`history prune` removes what was set aside"
            if "damaged" in warning
            else "KAYGRAPH_STATE_DIR names another directory"
        )
        raise ConfigError(warning.removesuffix("; this run is not recorded"), hint=hint)


def _width() -> int | None:
    import os

    from utils.render.wrapping import terminal_size

    return terminal_size(1)[0] if os.isatty(1) else None


def _print(lines: list[str]) -> None:
    click.echo("\n".join(lines))
