"""A chat server that has one answer in mind, breaks it off once, and goes on with it the way some model does.

It knows what a real server knows: the messages. A request that ends with an assistant message is a prefill, one that
ends with an assistant message and an instruction that quotes the last words is a request to go on in words; both are
answered by the behaviour that was chosen. Any other request gets the answer from its beginning.

One event loop in one thread serves all connections; leaving the context ends them and joins the thread.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

from tests.support import wire

__all__ = ["ANNOUNCEMENT", "BEHAVIOURS", "Answer", "Continuation", "REWORDED", "Ending", "SeamServer"]

REWORDED = "from the top, in other words"
ANNOUNCEMENT = "Sure, here is the continuation:"
_LAST_WORDS = "The last words:\n\n"
_EVENTS_PER_WRITE = 16
_JOIN_S = 5.0

Ending = Literal["end", "reset"]


@dataclass(frozen=True, slots=True)
class Continuation:
    """What a server sends when it is asked to go on: something *before* the rest, the *rest*, a mark *behind* it."""

    before: str
    rest: str
    behind: str = ""

    @property
    def text(self) -> str:
        """All of it."""
        return self.before + self.rest + self.behind


@dataclass(frozen=True, slots=True)
class _Place:
    """What a model sees of its own answer, and what it has in mind."""

    partial: str
    """The answer so far; its white space at the end was not sent."""
    asked: str
    """The last words that it was asked to repeat."""
    rest: str
    """What it would have written next, white space in front included."""
    rng: random.Random


# -- how servers go on -----------------------------------------------------------------------------------------------


def _last_word(partial: str) -> str:
    """The last word and the points behind it; of a language without spaces, two characters."""
    match = re.search(r"[^\W_]+[^\w\s]*\Z", partial)
    if match is None:
        return partial[-1:]
    return partial[-2:] if match[0][0] >= "\u2e80" else match[0]


def _last_sentence(partial: str) -> str:
    ends = [match.end() for match in re.finditer(r"[.!?。！？;:]\s+|[。！？]|\n+", partial)]  # noqa: RUF001
    return partial[ends[-1] :] if ends else partial


def _with_capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _capital(place: _Place) -> Continuation:
    """A new turn begins with a capital letter, if it begins with a word."""
    rest = place.rest.lstrip()
    is_inside_word = rest == place.rest and place.partial[-1:].isalnum()
    return Continuation("", rest if is_inside_word else _with_capital(rest))


def _other_space(place: _Place) -> Continuation:
    piece = place.partial[-place.rng.randint(30, 90) :]
    return Continuation(re.sub(r"\s+", lambda run: place.rng.choice((" ", "\n", "  ", run[0])), piece), place.rest)


def _other_words(place: _Place) -> Continuation:
    """All of it once more, word for word only at first."""
    head, again = place.partial[:200], place.partial[200:]
    again = re.sub(r"\w+", lambda word: "other" if place.rng.random() < 0.05 else word[0], again)
    return Continuation(head + again, place.rest)


def _reopened_fence(place: _Place) -> Continuation:
    """Another fence before the words asked for: of the code that is being written, or around all of it."""
    fences = re.findall(r"^```(\w*)$", place.partial, re.MULTILINE)
    if len(fences) % 2:
        return Continuation(f"```{fences[-1]}\n{place.asked}", place.rest)
    return Continuation(f"```\n{place.asked}", place.rest, "\n```")


BEHAVIOURS: dict[str, Callable[[_Place], Continuation]] = {
    "exact": lambda place: Continuation("", place.rest),
    "exact, no white space first": lambda place: Continuation("", place.rest.lstrip()),
    "exact, capital first": _capital,
    "the words asked for": lambda place: Continuation(place.asked, place.rest),
    "the words asked for, capital first": lambda place: Continuation(_with_capital(place.asked), place.rest),
    "the last word": lambda place: Continuation(_last_word(place.partial), place.rest),
    "the last sentence": lambda place: Continuation(_last_sentence(place.partial), place.rest),
    "from the top": lambda place: Continuation(place.partial, place.rest),
    REWORDED: _other_words,
    "announcement, the words asked for": lambda place: Continuation(f"{ANNOUNCEMENT}\n\n{place.asked}", place.rest),
    "announcement, exact": lambda place: Continuation(f"{ANNOUNCEMENT}\n\n", place.rest.lstrip("\n")),
    "a repeat, other white space": _other_space,
    "in quotation marks": lambda place: Continuation(f'{ANNOUNCEMENT}\n\n"{place.asked}', place.rest, '"'),
    "fence reopened": _reopened_fence,
}
"""How servers go on when they are asked to, by a name for a table."""


# -- the server ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server writes, and where it stops the first time: after *cut_at* characters, None: nowhere.

    *ending*: how it stops, with a proper end of the body or with RST. *pieces*: the least and the greatest number of
    characters in a chunk, drawn with *seed*; *later_pieces*: the same for every request but the first.
    """

    text: str
    behaviour: str = "exact"
    cut_at: int | None = None
    ending: Ending = "end"
    seed: int = 0
    pieces: tuple[int, int] = (1, 6)
    later_pieces: tuple[int, int] = (1, 6)


class SeamServer:
    """Answers with what `answer` says at the time of the request; a context manager.

    `bodies` are the requests since `answer` was set, `continuation` is the last one that was sent. Leaving raises what
    went wrong in a handler.
    """

    def __init__(self, answer: Answer) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.continuation: Continuation | None = None
        self._answer = answer
        self._is_cut = False
        self._errors: list[Exception] = []
        self._loop = asyncio.new_event_loop()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.base_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)

    @property
    def answer(self) -> Answer:
        """What is written now; set it between two runs."""
        return self._answer

    @answer.setter
    def answer(self, answer: Answer) -> None:
        self._answer, self._is_cut = answer, False
        self.bodies, self.continuation = [], None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(_JOIN_S)
        assert not self._thread.is_alive(), "the server's thread did not end"
        self._loop.close()
        if self._errors and error is None:
            raise self._errors[0]

    async def _serve(self) -> None:
        handlers: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = self._loop.create_task(self._handle(reader, writer))
            handlers.add(task)
            task.add_done_callback(handlers.discard)

        server = await asyncio.start_server(accept, sock=self._listener)
        await self._over.wait()
        server.close()
        for task in handlers:
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = re.search(r"^content-length: *(\d+)", head, re.IGNORECASE | re.MULTILINE)
            body = json.loads(await reader.readexactly(int(length[1]) if length else 0))
            await self._reply(body, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has gone
        except Exception as error:
            self._errors.append(error)
        finally:
            writer.close()

    async def _reply(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        self.bodies.append(body)
        answer = self._answer
        rng = random.Random(answer.seed + len(self.bodies))
        sizes = answer.pieces if len(self.bodies) == 1 else answer.later_pieces
        # What was written must have left for the client before a reset, or nobody knows how much it got.
        writer.transport.set_write_buffer_limits(0)
        continuation = _continuation(answer, body["messages"], rng)
        if continuation is not None:
            self.continuation = continuation
            await _stream(writer, _pieces(continuation.text, sizes, rng))
        elif answer.cut_at is None or self._is_cut:
            await _stream(writer, _pieces(answer.text, sizes, rng))
        else:
            self._is_cut = True
            await _stream(writer, _pieces(answer.text[: answer.cut_at], sizes, rng), answer.ending)


async def _stream(writer: asyncio.StreamWriter, pieces: list[str], ending: Ending | None = None) -> None:
    events = [wire.sse(wire.role()), *(wire.sse(wire.delta(piece)) for piece in pieces)]
    if ending is None:
        events += [wire.sse(wire.finish()), wire.sse(wire.DONE)]
    writer.write(wire.head())
    for place in range(0, len(events), _EVENTS_PER_WRITE):
        writer.write(b"".join(wire.chunk(event) for event in events[place : place + _EVENTS_PER_WRITE]))
        await writer.drain()
    if ending == "reset":
        client = writer.get_extra_info("socket")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        return
    writer.write(wire.LAST_CHUNK)
    await writer.drain()


def _continuation(answer: Answer, messages: list[dict[str, Any]], rng: random.Random) -> Continuation | None:
    """How *answer* goes on after *messages*; None if they ask for it from the beginning."""
    last = messages[-1]
    asked = str(last["content"]).partition(_LAST_WORDS)[2] if last["role"] == "user" else ""
    if last["role"] != "assistant" and not asked:
        return None
    partial = str(messages[-2 if asked else -1]["content"])
    if not answer.text.startswith(partial):
        raise AssertionError(f"asked to go on after a text that was never written: ...{partial[-60:]!r}")
    if not partial.endswith(asked):
        raise AssertionError(f"asked to repeat {asked!r}, which is not how the answer ends: ...{partial[-60:]!r}")
    place = _Place(partial, asked, answer.text[len(partial) :], rng)
    return BEHAVIOURS[answer.behaviour](place)


def _pieces(text: str, sizes: tuple[int, int], rng: random.Random) -> list[str]:
    pieces: list[str] = []
    position = 0
    while position < len(text):
        size = rng.randint(*sizes)
        pieces.append(text[position : position + size])
        position += size
    return pieces
