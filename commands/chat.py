"""`chat`: a conversation, turn by turn. Only the options and the way in stand here; see `commands.chat_loop`."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from commands import options as groups

__all__ = ["command"]


class _Chat(groups.SectionedCommand):
    """Says what to do with a prompt on the command line."""

    allow_extra_args = True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse what is left over in words of our own."""
        super().parse_args(ctx, args)
        if ctx.args and not ctx.resilient_parsing:
            more = f" and {len(ctx.args) - 1} more" if len(ctx.args) > 1 else ""
            raise click.UsageError(
                f"chat takes no prompt, and got {ctx.args[0]!r}{more}. `python main.py run PROMPT` answers one; "
                "in a chat it is typed, or comes through a pipe.",
                ctx,
            )
        return ctx.args


@click.command(cls=_Chat, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@groups.options(
    groups.SYSTEM,
    groups.CONVERSATION,
    groups.MODEL,
    groups.GUARDRAILS,
    groups.FAILURES,
    groups.DISPLAY,
    groups.CONFIGURATION,
)
def command(**options: Any) -> int:
    """Talk with the model: every prompt takes the conversation before it along.

    Ctrl-C stops an answer, which stays as far as it came; twice leaves. Ctrl-D leaves. `/help` lists the commands.
    Lines from a pipe are prompts and commands, too. Nothing of the conversation is kept unless --log-text (or the
    setting log_text) says so, or `/save` writes it into a file.

    \b
    Examples:
      python main.py chat
      python main.py chat --enable-guardrails --log-text
      python main.py chat --continue
    """
    from commands.chat_loop import ChatLoop
    from commands.execution import flags_of, run_loop
    from commands.packages import require_packages
    from utils.render.fetch_progress import FetchProgressBar
    from utils.session import Session
    from utils.settings import load

    require_packages()
    config = Path(options["config"]) if options["config"] else None
    flags = flags_of(options)
    loaded = load(flags, environ=os.environ, config_file=config)
    with ExitStack() as stack:
        progress = stack.enter_context(FetchProgressBar())
        session = Session(loaded, allow_secrets=bool(options["allow_secrets"]), progress=progress)
        stack.callback(session.kill)
        session.start_early()
        chat = ChatLoop(session, flags=flags, options=options, config=config, progress=progress)
        return run_loop(chat.run(), leave=stack.close)
