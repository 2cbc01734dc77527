"""`run`: ask the model and stream its answer. Only the options stand here; `commands.execution` does the work."""

from __future__ import annotations

from typing import Any

import click

from commands import options as groups

__all__ = ["command"]


@click.command(
    cls=groups.SectionedCommand, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.argument("prompt", required=False)
@groups.options(
    groups.PROMPT,
    groups.SYSTEM,
    groups.CONVERSATION,
    groups.MODEL,
    groups.GUARDRAILS,
    groups.FORM,
    groups.FAILURES,
    groups.DISPLAY,
    groups.EXPORTS,
    groups.CONFIGURATION,
)
def command(**options: Any) -> int:
    """Ask the model and stream its answer.

    The prompt is PROMPT, or -p, or piped standard input (which goes before PROMPT); `-` reads standard input only.
    With none of them a built-in demo prompt is used. Files (-f) go first; a template (-t) is a prompt with places to
    fill.

    \b
    Examples:
      python main.py "Name three rivers."
      cat notes.txt | python main.py "Summarise this in one sentence"
      python main.py -f old.py -f new.py "What has changed?"
      python main.py -x "A Python program that prints primes" > primes.py
      python main.py --simulate-failures --enable-guardrails
      python main.py --json --temperature 0 "Say hi" | jq .metrics.ttft_s
    """
    from commands.execution import execute

    return execute(options, started_s=click.get_current_context().obj)
