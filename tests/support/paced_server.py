"""An OpenAI-compatible server that writes on a schedule and remembers when it sent what.

`POST /v1/chat/completions` streams the given pieces of text, one per chunk, *interval_s* apart; `GET /v1/models`
names the one model. One piece counts as one token: `max_tokens` (or `max_completion_tokens`) limits the pieces,
`stop` cuts the text before the first stop sequence. The text depends on nothing else, so tests can predict it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from tests.support import wire
from tests.support.scripted_server import Action, Connection, Pause, Request, ScriptedServer, Send

__all__ = ["PacedServer", "PacedStream", "numbered_words"]

PROMPT_TOKENS = 9


def numbered_words(count: int) -> tuple[str, ...]:
    """`"word1 "`, `"word2 "`, ...: *count* pieces of text, each told apart from every other."""
    return tuple(f"word{number} " for number in range(1, count + 1))


@dataclass(slots=True)
class PacedStream:
    """One streamed answer. *sent_at* holds the monotonic second just before each piece of text was sent."""

    request: Request
    sent_at: list[float] = field(default_factory=list)
    is_whole: bool = False
    disconnected_after: int | None = None
    """Pieces that had been sent when the client went away; None if it did not."""


class PacedServer:
    """Streams *pieces* (default: `numbered_words(n_chunks)`), the first after *first_delay_s* seconds."""

    def __init__(
        self,
        n_chunks: int = 10,
        interval_s: float = 0.0,
        *,
        pieces: Sequence[str] | None = None,
        first_delay_s: float = 0.0,
        model: str = "paced-model",
    ) -> None:
        self.pieces = numbered_words(n_chunks) if pieces is None else tuple(pieces)
        self.interval_s = interval_s
        self.first_delay_s = first_delay_s
        self.model = model
        self.streams: list[PacedStream] = []
        self.server = ScriptedServer(default=self._answer)

    @property
    def base_url(self) -> str:
        return self.server.base_url

    @property
    def text(self) -> str:
        """The whole answer to a request without limits."""
        return "".join(self.pieces)

    def open_connections(self) -> int:
        """Connections that are not closed on both sides."""
        return self.server.open_connections()

    def __enter__(self) -> Self:
        self.server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.__exit__(kind, error, trace)

    def _answer(self, connection: Connection) -> Iterator[Action]:
        request = connection.request
        assert request is not None
        match request.method, request.path.partition("?")[0]:
            case "GET", "/v1/models":
                card = {"id": self.model, "object": "model", "created": 0, "owned_by": "tests"}
                yield Send(wire.json_response({"object": "list", "data": [card]}))
            case "POST", "/v1/chat/completions":
                body: dict[str, Any] = request.json
                pieces, reason = _limited(self.pieces, body)
                if body.get("stream"):
                    yield from self._stream(connection, request, pieces, reason)
                else:
                    yield Send(wire.json_response(self._whole(pieces, reason)))
            case _:
                yield Send(wire.error_response(404, f"no such path: {request.path}", kind="invalid_request_error"))

    def _whole(self, pieces: Sequence[str], reason: str) -> wire.Json:
        counts = wire.usage(PROMPT_TOKENS, len(pieces))["usage"]
        return {**wire.completion("".join(pieces), finish_reason=reason, model=self.model), "usage": counts}

    def _stream(self, connection: Connection, request: Request, pieces: Sequence[str], reason: str) -> Iterator[Action]:
        stream = PacedStream(request)
        self.streams.append(stream)
        sent = 0
        try:
            yield Send(wire.head() + wire.chunk(wire.sse(wire.role(model=self.model))))
            first_at = time.monotonic() + self.first_delay_s
            for number, piece in enumerate(pieces):
                # Against the schedule, not the last chunk: a late chunk must not make all later ones late.
                yield Pause(max(0.0, first_at + number * self.interval_s - time.monotonic()))
                stream.sent_at.append(time.monotonic())
                yield Send(wire.chunk(wire.sse(wire.delta(piece, model=self.model))))
                sent += 1
            end = [wire.sse(wire.finish(reason, model=self.model))]
            if (request.json.get("stream_options") or {}).get("include_usage"):
                end.append(wire.sse(wire.usage(PROMPT_TOKENS, sent, model=self.model)))
            yield Send(wire.chunked(*end, wire.sse(wire.DONE)))
            stream.is_whole = True
        finally:
            del stream.sent_at[sent:]
            if connection.client_closed_at is not None and not stream.is_whole:
                stream.disconnected_after = sent


def _limited(pieces: Sequence[str], body: dict[str, Any]) -> tuple[tuple[str, ...], str]:
    """The pieces that a request gets, and the finish_reason."""
    stop = body.get("stop") or []
    stops = [stop] if isinstance(stop, str) else list(stop)
    text = "".join(pieces)
    end = min((at for at in (text.find(sequence) for sequence in stops) if at >= 0), default=len(text))
    cut: list[str] = []
    for piece in pieces:
        if end <= 0:
            break
        cut.append(piece[:end])
        end -= len(piece)
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    if limit is not None and len(cut) > limit:
        return tuple(cut[:limit]), "length"
    return tuple(cut), "stop"
