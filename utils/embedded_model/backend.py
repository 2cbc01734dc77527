"""The embedded model as a backend: the OpenAI wrapper over a server that is started (and first fetched) on demand."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from utils.chat_body import for_embedded
from utils.embedded_model.ready import ensure_ready, start_early
from utils.embedded_model.server import EmbeddedServer
from utils.embedded_model.spec import model_path
from utils.errors import ConnectionLost, EmbeddedModelDied, EmbeddedModelError, ProviderError, Unreachable
from utils.events import Event
from utils.run_context import Request, Target
from utils.watchdog import Watchdog

if TYPE_CHECKING:
    import asyncio

    from utils.chat_reader import ChatReader
    from utils.embedded_model.fetch import ProgressCallback
    from utils.openai_stream import OpenAIBackend, TransportWrapper
    from utils.resilience.continuation import Detected
    from utils.resilience.rate_headers import RateHeaders

__all__ = ["EmbeddedBackend"]

_DEATH_POLL_S = 0.02
_DEATH_POLLS = 10
"""A dying process closes its sockets before its parent can see that it is dead."""


class EmbeddedBackend:
    """Opens answers of the embedded model. `start_early` spawns the child before the heavy imports, if it can.

    *gguf* is the user's own model file; without it the pinned model is used, and fetched if it is missing.
    *progress* is told about a fetch, in a worker thread. *started*: the child, if somebody has spawned it already, with
    a key and for the same file. Stop the child with `aclose` (or `kill` from anywhere).
    """

    def __init__(
        self,
        *,
        gguf: Path | None = None,
        connect_timeout_s: float = 10.0,
        wrap_transport: TransportWrapper | None = None,
        progress: ProgressCallback | None = None,
        started: EmbeddedServer | None = None,
    ) -> None:
        self._gguf = gguf
        self._connect_timeout_s = connect_timeout_s
        self._wrap_transport = wrap_transport
        self._progress = progress
        # Keeps other users of the machine out of the loopback port.
        self._key = (started and started.api_key) or secrets.token_urlsafe(24)
        self._server = started
        self._http: OpenAIBackend | None = None
        self._making_ready: asyncio.Lock | None = None
        """Several runs may need the server at once; one of them starts it."""
        self._has_been_ready = False

    def start_early(self) -> None:
        """Spawn the child if its file is there; returns at once. Raises AppError."""
        if self._server is None:
            self._server = start_early(self._gguf, api_key=self._key)

    def kill(self) -> None:
        """End the child, synchronously; idempotent."""
        if self._server is not None:
            self._server.stop()

    async def aclose(self) -> None:
        """End the child and close the connections; idempotent."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()
        self.kill()

    async def open_chat(
        self,
        request: Request,
        target: Target,
        *,
        attempt: int,
        watchdog: Watchdog,
        first_token_deadline_s: float | None,
    ) -> _EmbeddedStream:
        """Make the server ready and ask it. Time spent on fetching the model counts for no deadline.

        A child that has died is started anew: the attempt that met its death has raised EmbeddedModelDied.
        """
        http, server, fetch_s = await self._ready(request, watchdog)
        request = for_embedded(request)
        if first_token_deadline_s is not None:
            first_token_deadline_s += fetch_s
        try:
            stream = await http.open_chat(
                request, target, attempt=attempt, watchdog=watchdog, first_token_deadline_s=first_token_deadline_s
            )
        except (ConnectionLost, Unreachable) as error:
            await _raise_if_dead(server, error, watchdog)
            raise
        return _EmbeddedStream(stream, server, watchdog)

    async def detect(self, target: Target, watchdog: Watchdog) -> Detected:
        """Nothing: what llama.cpp allows is known."""
        from utils.resilience.continuation import Detected

        return Detected()

    async def _ready(self, request: Request, watchdog: Watchdog) -> tuple[OpenAIBackend, EmbeddedServer, float]:
        """A running server, its client, and the seconds that fetching the model took."""
        if not self._is_running:
            if self._making_ready is None:
                # Not before: the child is spawned before this import.
                import asyncio

                self._making_ready = asyncio.Lock()
            await watchdog.wait(self._making_ready.acquire(), None, _no_timeout)
            try:
                if not self._is_running:
                    return await self._make_ready(request, watchdog)
            finally:
                self._making_ready.release()
        assert self._http is not None
        assert self._server is not None
        return self._http, self._server, 0.0

    @property
    def _is_running(self) -> bool:
        return self._http is not None and self._server is not None and self._server.is_alive

    async def _make_ready(self, request: Request, watchdog: Watchdog) -> tuple[OpenAIBackend, EmbeddedServer, float]:
        from utils.openai_stream import OpenAIBackend

        http, self._http = self._http, None
        if http is not None:
            await http.aclose()
            # The child that it talked to is dead; its successor listens elsewhere.
            self.kill()
            self._server = None
        context = request.context
        deadline_s = context.deadline_s
        must_fetch = self._gguf is None and not os.path.exists(model_path())  # noqa: ASYNC240 - one stat
        if must_fetch:
            context.deadline_s = None
        fetch_s = 0.0
        try:
            ready = await watchdog.wait(
                ensure_ready(self._server, gguf=self._gguf, progress=self._progress, api_key=self._key),
                None,
                _no_timeout,
            )
            fetch_s = ready.fetch_s
        except EmbeddedModelError as error:
            if not self._has_been_ready:
                raise
            # It could be started before, so what keeps it from starting now may pass.
            raise EmbeddedModelDied(error.message, hint=error.hint) from error
        finally:
            context.deadline_s = None if deadline_s is None else deadline_s + fetch_s
        self._server = ready.server
        self._has_been_ready = True
        self._http = http = OpenAIBackend(
            base_url=ready.base_url,
            api_key=self._key,
            connect_timeout_s=self._connect_timeout_s,
            wrap_transport=self._wrap_transport,
            closes_connections=True,
        )
        return http, ready.server, fetch_s


class _EmbeddedStream:
    """A ChatReader that tells a dead child from a broken connection."""

    def __init__(self, stream: ChatReader, server: EmbeddedServer, watchdog: Watchdog) -> None:
        self._stream = stream
        self._server = server
        self._watchdog = watchdog

    async def next_batch(self) -> list[Event]:
        """See ChatReader. Raises EmbeddedModelDied if the child has."""
        try:
            return await self._stream.next_batch()
        except ConnectionLost as error:
            await _raise_if_dead(self._server, error, self._watchdog)
            raise

    @property
    def rate_headers(self) -> RateHeaders:
        """None: it has no limits."""
        from utils.resilience.rate_headers import RateHeaders

        return RateHeaders()

    async def aclose(self) -> None:
        """Close the connection; the server's slot is free within some 40 ms."""
        await self._stream.aclose()


async def _raise_if_dead(server: EmbeddedServer, error: ProviderError, watchdog: Watchdog) -> None:
    if error.simulated:
        return
    for _ in range(_DEATH_POLLS):
        if not server.is_alive:
            raise server.died_error(was_ready=True) from error
        await watchdog.sleep(_DEATH_POLL_S)


def _no_timeout() -> ConnectionLost:
    raise AssertionError("getting ready has its own deadlines")
