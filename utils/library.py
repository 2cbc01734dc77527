"""The flow for other programs: a session from settings by name; for each run a context, a recorder and listeners."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from utils.clock import monotonic
from utils.descriptors import check_descriptors
from utils.events import Event
from utils.metrics.recorder import Recorder
from utils.render.sink import shown_text
from utils.run_context import Listener, RunContext
from utils.run_input import RunInput
from utils.session import Session
from utils.settings import Settings, load
from utils.vocabularies import tokenizer_for
from utils.wording import nearest

__all__ = ["new_run", "session_of"]

_MANY = 10
"""From so many streams on, what aiohttp saves per chunk is more than what importing it costs."""
_BESIDES = ("allow_secrets", "config_file")
_READ_VARIABLES = ("KAYGRAPH_", "OPENAI_")


def session_of(
    settings: Mapping[str, Any], *, max_streams: int = 1, environ: Mapping[str, str] = os.environ
) -> Session:
    """A session of *settings*, which rank like flags; `config_file` among them names a file to read.

    *max_streams*: how many answers will come at once. Many are read through aiohttp, if that is installed.

    A library reads no file that nobody named, and of *environ* only what is meant for it. Raises AppError for values
    that cannot be used, TypeError for names that are none.
    """
    for name in settings.keys() - {*Settings.model_fields, *_BESIDES}:
        near = nearest(name, Settings.model_fields)
        raise TypeError(f"{name!r} is no setting{f'; did you mean {near!r}?' if near else ''}")
    chosen = dict(settings)
    allow_secrets = bool(chosen.pop("allow_secrets", False))
    named = chosen.pop("config_file", None)
    variables = {name: value for name, value in environ.items() if name.startswith(_READ_VARIABLES)}
    loaded = load(chosen, environ=variables, config_file=None if named is None else Path(named), key_environ=environ)
    check_descriptors(max_streams)
    uses_aiohttp = max_streams >= _MANY and importlib.util.find_spec("aiohttp") is not None
    return Session(loaded, allow_secrets=allow_secrets, uses_aiohttp=uses_aiohttp)


def new_run(
    prompt: str,
    *,
    on_text: Callable[[str], object] | None = None,
    on_event: Listener | None = None,
    timeout_s: float | None = None,
    **request: Any,
) -> tuple[RunInput, Recorder]:
    """The input of a run that begins now and may last *timeout_s* seconds (None: for ever), and its recorder.

    *on_text* is called with each piece of the answer as it is shown, *on_event* with every event and its instant.
    *request*: the other fields of `RunInput`.
    """
    started_s = monotonic()
    recorder = Recorder(started_s, tokenizer_for)
    context = RunContext(
        clock=monotonic,
        started_s=started_s,
        deadline_s=None if timeout_s is None else started_s + timeout_s,
        listeners=(recorder.handle,),
    )
    if on_event is not None:
        context.add_listener(on_event)
    if on_text is not None:
        show = on_text

        def listen(event: Event, now: float) -> None:
            if text := shown_text(event):
                show(text)

        context.add_listener(listen)
    return RunInput(prompt, context, **request), recorder
