"""`report`: the HTML page of an earlier run."""

from __future__ import annotations

from pathlib import Path

import click

from commands.cli import say

__all__ = ["command"]


@click.command("report")
@click.argument("run")
@click.option("-o", "--output", metavar="FILE", help="Write here; - is stdout [run-ID.html in this directory].")
def command(run: str, *, output: str | None) -> None:
    """Write the page of RUN (an id, or its first characters; `last` for the newest that has ended).

    It is one file, without script, and shows the answer only if the run was kept with --log-text.

    \b
    Examples:
      python main.py report last
      python main.py report 3f2a -o run.html
      python main.py report last -o - | ssh desk 'cat > run.html'
    """
    from commands.history import find_record
    from utils.errors import ConfigError, UsageProblem
    from utils.render.harmless import one_line
    from utils.render.history_table import local_time
    from utils.report.page import page_html, write_page
    from utils.report.place import why_no_page

    record = find_record(run)
    facts = record.facts
    model = record.report["model_used"] or facts.model_requested or "?"
    what = one_line(f"report of the run {facts.run_id} ({local_time(facts.started_at)}, {model})")
    if output == "-":
        click.echo(page_html(record).encode(), nl=False)
        click.echo(f"{what} written to stdout", err=True)
        return
    path = Path(output if output is not None else f"run-{facts.run_id}.html")
    refused = f"the report {str(path)!r} cannot be written"
    hint = "name another file with -o, or - for stdout"
    if (reason := why_no_page(path)) is not None:
        raise UsageProblem(f"{refused}: {reason}", hint=hint)
    try:
        write_page(record, path)
    except OSError as error:
        raise ConfigError(f"{refused}: {error.strerror or error}", hint=hint) from error
    say(f"{what} written to {path}")
