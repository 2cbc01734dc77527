"""`chat`: a conversation, turn by turn. Only the options and the way in stand here; see `commands.chat_loop`."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from commands import options as groups

__all__ = ["command"]


@click.command(
    cls=groups.SectionedCommand, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
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
