"""Reads one streamed answer: bytes of a response to batches of events, within the deadlines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec

from utils.chat_stream import ChatStreamDecoder
from utils.errors import (
    AppError,
    ConnectionLost,
    FirstTokenTimeout,
    IdleTimeout,
    NotAStream,
    ProviderError,
    TotalTimeout,
)
from utils.events import Aborted, Event, ReasoningDelta, TextDelta
from utils.http_body import Inflater
from utils.provider_errors import Scrub, classify_error_object, named
from utils.resilience.rate_headers import RateHeaders, read_rate_headers
from utils.run_context import Request, Target
from utils.watchdog import Watchdog

if TYPE_CHECKING:
    import httpx2

__all__ = ["ChatReader", "first_token_timeout"]

_TAIL_S = 2.0
"""How long usage and [DONE] may still take after the finish_reason: the answer is already whole."""
_DRAIN_S = 0.05
"""How long the end of the body may take behind `[DONE]`; servers send both at once."""
_MAX_FOREIGN_BODY_BYTES = 65_536
"""How much of a body that is not a stream is read, to find an error message in it."""


class ChatReader:
    """One streamed answer: batches of events, as they arrive together. Close it with `aclose`."""

    def __init__(
        self,
        response: httpx2.Response,
        request: Request,
        target: Target,
        *,
        attempt: int,
        watchdog: Watchdog,
        first_token_deadline_s: float | None,
        translate: Callable[[Exception, str], AppError],
        scrub: Scrub,
        keeps_connection: bool = True,
    ) -> None:
        self._response = response
        self._keeps_connection = keeps_connection
        self._translate = translate
        self._scrub = scrub
        self._request = request
        self._target = target
        self._watchdog = watchdog
        self._first_token_deadline_s = first_token_deadline_s
        self._has_content = False
        self._error: AppError | None = None
        self._bytes = response.aiter_raw()
        self._inflater: Inflater | None = None
        self._pieces: Iterator[bytes] = iter(())
        self._idle_left_s = request.deadlines.idle_s
        """What is left of the idle time: content fills it up, the consumer's time does not count."""
        self._tail_deadline_s: float | None = None
        self._decoder = ChatStreamDecoder(
            target=target.name,
            attempt=attempt,
            finish_reason_optional=target.finish_reason_optional,
            scrub=scrub,
        )

    async def next_batch(self) -> list[Event]:
        """The events of the next read that brought any; never empty. `Finished`, if the answer is whole, comes last.

        Raises AppError when the stream breaks, stalls or ends early; what arrived before was returned before.
        A deadline counts from the call for idle time (a slow consumer is not a slow server), from the start of the
        attempt for the first content. Comments and empty deltas are no content.
        """
        if self._error is not None:
            raise self._error
        decoder = self._decoder
        deadline_s = self._deadline_s()
        while not decoder.is_done:
            try:
                data = await self._read(deadline_s)
            except (IdleTimeout, TotalTimeout, ConnectionLost):
                # Once the server has said that the answer is finished, nothing can make it incomplete any more.
                if decoder.finish_reason is None or decoder.is_doubtful:
                    raise
                break
            if data is None:
                break
            events = decoder.feed(data)
            if decoder.failure is not None:
                self._error = decoder.failure
                if not events:
                    raise decoder.failure
            if decoder.is_doubtful:
                self._tail_deadline_s = None
            elif decoder.finish_reason is not None and self._tail_deadline_s is None:
                deadline_s = self._tail_deadline_s = self._watchdog.now() + _TAIL_S
            if events:
                self._keep_time(events, deadline_s)
                return events
        if decoder.is_done and self._keeps_connection:
            await self._drain()
        return self._concluded()

    async def _drain(self) -> None:
        """Read what ends the body behind `[DONE]`: a connection is used again only if nothing is left on it."""
        deadline_s = self._watchdog.now() + _DRAIN_S
        try:
            while await self._watchdog.wait(anext(self._bytes, None), deadline_s, self._timeout) is not None:
                if self._watchdog.now() > deadline_s:
                    return
        except Exception:
            # The answer is whole, whatever happens to the connection; that of a time-out is closed.
            return

    async def _read(self, deadline_s: float | None) -> bytes | None:
        """The next piece of the body; None at its end. Raises AppError."""
        piece = next(self._pieces, None)
        if piece is not None:
            # Let timers and signals have their turn: pieces of a compressed body come without any waiting.
            await self._watchdog.wait(asyncio.sleep(0), deadline_s, self._timeout)
            return piece
        try:
            data = await self._watchdog.wait(anext(self._bytes, None), deadline_s, self._timeout)
        except AppError:
            raise
        except Exception as error:
            raise self._translate(error, self._target.name) from error
        if self._inflater is None:
            return data
        if data is None:
            self._inflater.finish()
            return None
        self._pieces = self._inflater.feed(data)
        return b""

    @property
    def rate_headers(self) -> RateHeaders:
        """What the server says about its limits."""
        return read_rate_headers(self._response.headers, now_epoch_s=time.time())

    async def aclose(self) -> None:
        """Close the connection, so that the server stops generating; idempotent."""
        await self._response.aclose()

    async def check_content_type(self) -> None:
        """Raise unless the server says that this is an event stream, in an encoding that we can undo."""
        encoding = self._response.headers.get("content-encoding", "").strip()
        if encoding.lower() not in ("", "identity"):
            self._inflater = Inflater(encoding.lower(), shown_as=named(encoding, self._scrub))
        content_type = self._response.headers.get("content-type", "")
        if content_type.partition(";")[0].strip().lower() == "text/event-stream":
            return
        error = self._foreign_error(await self._foreign_body())
        if error is not None:
            raise error
        said = named(content_type, self._scrub) or "no content type"
        raise NotAStream(
            f"{self._target.name} answered with {said} instead of an event stream",
            hint="is --base-url the address of the API (it usually ends in /v1), and does the server stream?",
        )

    async def _foreign_body(self) -> bytes:
        body = b""
        try:
            while len(body) < _MAX_FOREIGN_BODY_BYTES:
                data = await self._read(self._first_token_deadline_s)
                if data is None:
                    break
                body += data
        except ConnectionLost:
            pass  # The content type alone already decides; the body would only have said more.
        return body

    def _foreign_error(self, body: bytes) -> ProviderError | None:
        try:
            decoded = msgspec.json.decode(body)
        except (ValueError, RecursionError):
            return None
        if isinstance(decoded, dict) and decoded.get("error") is not None:
            return classify_error_object(decoded["error"], self._scrub)
        return None

    def _concluded(self) -> list[Event]:
        events, verdict = self._decoder.finish()
        if not isinstance(verdict, Aborted):
            return [*events, verdict]
        self._error = verdict.error
        if events:
            return events
        raise verdict.error

    def _deadline_s(self) -> float | None:
        """The instant by which the next content must have come, from now."""
        if self._tail_deadline_s is not None:
            return self._tail_deadline_s
        if not self._has_content:
            return self._first_token_deadline_s
        return None if self._idle_left_s is None else self._watchdog.now() + self._idle_left_s

    def _keep_time(self, events: list[Event], deadline_s: float | None) -> None:
        """Content fills the idle time up; events without content (usage, flags) only keep what is left of it."""
        for event in events:
            if type(event) is TextDelta or type(event) is ReasoningDelta:
                self._has_content = True
                self._idle_left_s = self._request.deadlines.idle_s
                return
        if self._has_content and deadline_s is not None:
            self._idle_left_s = deadline_s - self._watchdog.now()

    def _timeout(self) -> ProviderError:
        if not self._has_content and self._decoder.finish_reason is None:
            return first_token_timeout(self._request, self._target)
        limit_s = self._request.deadlines.idle_s or 0.0
        return IdleTimeout(
            f"{self._target.name} sent nothing more for {limit_s:g} s", hint="run again, or raise --idle-timeout"
        )


def first_token_timeout(request: Request, target: Target) -> FirstTokenTimeout:
    """The error for a server that let the first-token deadline pass."""
    limit_s = request.deadlines.first_token_s or 0.0
    return FirstTokenTimeout(
        f"{target.name} sent no text within {limit_s:g} s", hint="run again, or raise --first-token-timeout"
    )
