"""An OpenAI-compatible server with one answer, which it goes on with exactly if it is asked to in words.

`POST /v1/chat/completions` streams the text; a request that ends with a part of it (assistant) and an instruction
(user) gets the words that stand at the end of the instruction once more, and what follows them. A partial answer that
is no beginning of the text, or last words that do not end it, make the script fail: the client has lost or doubled
something. `GET /v1/models` names a model that nobody knows how to prefill. The same request is always cut into the
same pieces, so a place in the stream can be counted.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from tests.support import wire
from tests.support.scripted_server import Action, Connection, ScriptedServer, Send

__all__ = ["Answer", "ContinuingServer"]

_LAST_WORDS = "The last words:\n\n"
_LAST_CHARS = 4
"""The least that the last piece has: if it is doubled, that must be seen to be no pair of equal tokens."""


@dataclass(frozen=True, slots=True)
class Answer:
    """*text* in pieces of *sizes* (least and most characters), as *seed* draws them.

    *frames*: the least and most bytes of an HTTP chunk, wherever that cuts the events; None: one event each.
    *has_usage*: whether a usage event comes before `[DONE]`.
    """

    text: str
    sizes: tuple[int, int] = (1, 12)
    frames: tuple[int, int] | None = None
    has_usage: bool = True
    seed: int = 0
    model: str = "continuing-model"

    def pieces(self, start: int = 0) -> list[str]:
        """The text from *start* on as it is cut into deltas."""
        rng = random.Random(f"{self.seed}/{start}")
        pieces: list[str] = []
        while start < len(self.text):
            size = rng.randint(*self.sizes)
            if len(self.text) - start - size < _LAST_CHARS:
                size = len(self.text) - start
            pieces.append(self.text[start : start + size])
            start += size
        return pieces

    def events(self, start: int = 0) -> list[bytes]:
        """The whole body of an answer from *start* on: the role, the pieces, the finish_reason, usage, `[DONE]`."""
        pieces = self.pieces(start)
        payloads: list[wire.Payload] = [wire.role(model=self.model)]
        payloads += [wire.delta(piece, model=self.model) for piece in pieces]
        payloads.append(wire.finish(model=self.model))
        if self.has_usage:
            payloads.append(wire.usage(completion_tokens=len(pieces), model=self.model))
        return [*map(wire.sse, payloads), wire.sse(wire.DONE)]

    def framed(self, start: int = 0) -> Iterator[bytes]:
        """The same bytes as they are put into HTTP chunks."""
        if self.frames is None:
            yield from self.events(start)
            return
        body, at = b"".join(self.events(start)), 0
        rng = random.Random(self.seed)
        while at < len(body):
            size = rng.randint(*self.frames)
            yield body[at : at + size]
            at += size


class ContinuingServer:
    """Streams *answer*, from its beginning or from where it is asked to go on."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.server = ScriptedServer(default=self._play)

    @property
    def base_url(self) -> str:
        return self.server.base_url

    @property
    def chats(self) -> int:
        """How many chat requests have come."""
        return sum(request.method == "POST" for request in self.server.requests)

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

    def _play(self, connection: Connection) -> Iterator[Action]:
        request = connection.request
        assert request is not None
        if request.method == "GET":
            card = {"id": self.answer.model, "object": "model", "created": 0, "owned_by": "tests"}
            yield Send(wire.json_response({"object": "list", "data": [card]}))
            return
        yield Send(wire.head())
        for frame in self.answer.framed(self._start(request.json["messages"])):
            yield Send(wire.chunk(frame))
        yield Send(wire.LAST_CHUNK)

    def _start(self, messages: list[dict[str, Any]]) -> int:
        """Where in the text the answer to *messages* begins."""
        if [message["role"] for message in messages[-2:]] != ["assistant", "user"]:
            return 0
        partial, (_, found, tail) = messages[-2]["content"], messages[-1]["content"].rpartition(_LAST_WORDS)
        assert found, "an instruction without the last words"
        assert tail, "no last words"
        assert self.answer.text.startswith(partial), f"no beginning of the text: {partial!r}"
        assert partial.endswith(tail), f"not the last words: {tail!r}"
        return len(partial) - len(tail)
