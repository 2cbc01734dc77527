"""From nothing to a base URL: fetch if missing, start, wait, and repair a corrupt file once."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from utils.embedded_model.server import EmbeddedServer, ModelFileCorrupt
from utils.embedded_model.spec import CONTEXT_TOKENS, PINNED, ModelSpec, model_path
from utils.errors import EmbeddedModelError

if TYPE_CHECKING:
    from utils.embedded_model.fetch import ProgressCallback

__all__ = ["Ready", "ensure_ready", "start_early"]


@dataclass(frozen=True, slots=True)
class Ready:
    """A running server. *fetch_s* is the time spent on fetching the model, in seconds; no deadline should count it."""

    server: EmbeddedServer
    base_url: str
    fetch_s: float


def start_early(
    gguf: Path | None = None,
    *,
    model: ModelSpec = PINNED,
    directory: Path | None = None,
    slots: int = 1,
    context_tokens: int = CONTEXT_TOKENS,
    api_key: str | None = None,
) -> EmbeddedServer | None:
    """Start the server now if its file is there, else return None; cheap, meant to run before the heavy imports.

    *gguf* is the user's own file; it is always started, so that what is wrong with it is told by `ensure_ready`.
    Hand the result to `ensure_ready`, or stop it.
    Raises: EmbeddedModelError if no process can be made; ConfigError if there is no place for a cache.
    """
    path = model_path(model, directory) if gguf is None else gguf
    if gguf is None and not os.path.exists(path):
        return None
    server = EmbeddedServer(
        path,
        expected_sha256=model.sha256 if gguf is None else None,
        model_name=model.name if gguf is None else gguf.stem,
        slots=slots,
        context_tokens=context_tokens,
        api_key=api_key,
    )
    server.start()
    return server


async def ensure_ready(
    started: EmbeddedServer | None = None,
    *,
    gguf: Path | None = None,
    progress: ProgressCallback | None = None,
    model: ModelSpec = PINNED,
    directory: Path | None = None,
    slots: int = 1,
    context_tokens: int = CONTEXT_TOKENS,
    api_key: str | None = None,
) -> Ready:
    """Return a server that is ready, fetching the pinned model first if it is missing, or anew if it is corrupt.

    *started* is what `start_early` returned for the same arguments. *progress* is called in a worker thread.
    The caller stops the returned server.
    Raises: EmbeddedModelError, ConfigError (the user's own file, or the cache directory). After a raise or a
    cancellation nothing runs any more, neither a fetch nor a server.
    """

    def start() -> EmbeddedServer | None:
        return start_early(
            gguf, model=model, directory=directory, slots=slots, context_tokens=context_tokens, api_key=api_key
        )

    server, fetch_s = started, 0.0
    for is_last in (False, True):
        if server is None:
            server = start()
        if server is None:
            fetch_s += await _fetch(progress, model, directory)
            server = start()
        if server is None:
            break
        try:
            return Ready(server, await server.wait_ready(), fetch_s)
        except EmbeddedModelError as error:
            if is_last or not await _is_corrupt(error, server, model):
                raise
            # `fetch` verifies under its lock: if another process has repaired the file meanwhile, nothing is fetched.
            fetch_s += await _fetch(progress, model, directory)
            server = None
        except BaseException:
            server.stop()
            raise
    raise EmbeddedModelError("the embedded model's file was removed while it was being started", hint="run it again")


async def _is_corrupt(error: EmbeddedModelError, server: EmbeddedServer, model: ModelSpec) -> bool:
    """Whether the pinned model's file is to blame; a damaged one may also crash the child before it can say so."""
    import asyncio

    from utils.embedded_model.store import ModelState, verify

    if isinstance(error, ModelFileCorrupt):
        return True
    return server.is_pinned and await asyncio.to_thread(verify, server.gguf, model) is ModelState.CORRUPT


async def _fetch(progress: ProgressCallback | None, model: ModelSpec, directory: Path | None) -> float:
    """Fetch in a worker thread, which has ended when this returns or raises; returns the seconds it took."""
    import asyncio
    import threading

    from utils.embedded_model.fetch import fetch

    started_s, stop = time.monotonic(), threading.Event()
    work = asyncio.ensure_future(asyncio.to_thread(fetch, progress, model=model, directory=directory, stop=stop.is_set))
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([work])
        if not work.cancelled():
            # Retrieved, so that nobody reports it as lost.
            work.exception()
        raise
    return time.monotonic() - started_s
