"""A server that has one answer for each chat request, in their order, and remembers what it was told before."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self

from tests.support import wire
from tests.support.scripted_server import Action, Connection, ScriptedServer, Send, WaitForClientClose, wait_until

__all__ = ["TalkingServer", "cut", "interrupted", "refused", "said", "too_long"]

Answer = str | Callable[[], Iterable[Action]]


class TalkingServer:
    """Answers request number n with the n-th of *answers*, then with `answer n.`"""

    def __init__(self, *answers: Answer) -> None:
        self._answers = answers
        self.server = ScriptedServer(default=self._script)

    @property
    def base_url(self) -> str:
        return self.server.base_url

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """What the requests asked for."""
        return [request.json for request in self.server.requests if request.path.endswith("/chat/completions")]

    @property
    def talks(self) -> list[list[str]]:
        """The messages of each request, one word for their role before each."""
        return [[f"{each['role']}: {each['content']}" for each in body["messages"]] for body in self.bodies]

    @property
    def keys(self) -> list[str | None]:
        """The key that each request came with."""
        return [request.headers.get("authorization") for request in self.server.requests]

    def __enter__(self) -> Self:
        self.server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.__exit__(kind, error, trace)

    def _script(self, connection: Connection) -> Iterator[Action]:
        number = len(self.bodies)
        answer = self._answers[number - 1] if number <= len(self._answers) else f"answer {number}."
        yield from (said(answer) if isinstance(answer, str) else answer)()


def said(*pieces: str, finish: str = "stop", prompt_tokens: int = 9) -> Callable[[], Iterable[Action]]:
    """A whole answer."""
    events = [wire.sse(wire.delta(piece)) for piece in pieces]
    ends = wire.sse(wire.finish(finish), wire.usage(prompt_tokens, len(pieces)), wire.DONE)
    return lambda: [Send(wire.stream_response(*events, ends))]


def cut(text: str) -> Callable[[], Iterable[Action]]:
    """An answer that ends without an end."""
    return lambda: [Send(wire.stream_response(wire.sse(wire.delta(text))))]


def refused(status: int, message: str = "", **how: Any) -> Callable[[], Iterable[Action]]:
    """An error instead of an answer."""
    return lambda: [Send(wire.error_response(status, message, **how))]


def too_long() -> Callable[[], Iterable[Action]]:
    """What a server says to a conversation that its model cannot hold."""
    return refused(
        400, "This model's maximum context length is 100 tokens.", kind="invalid_request_error",
        code="context_length_exceeded",
    )  # fmt: skip


def interrupted(text: str, number: signal.Signals = signal.SIGINT) -> Callable[[], Iterator[Action]]:
    """*text*, and when it has been written to this process's standard output (a file), a signal; then silence."""

    def script() -> Iterator[Action]:
        before = os.fstat(1).st_size
        yield Send(wire.head() + wire.chunk(wire.sse(wire.delta(text))))
        wait_until(lambda: os.fstat(1).st_size >= before + len(text))
        os.kill(os.getpid(), number)
        yield WaitForClientClose()

    return script
