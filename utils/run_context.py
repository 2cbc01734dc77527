"""What one run carries through the flow: targets, request, and the context that every stage shares."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from utils.clock import Clock
from utils.errors import AppError, Stopped
from utils.events import Aborted, Event

__all__ = [
    "EMBEDDED",
    "Deadlines",
    "EventStream",
    "Listener",
    "Message",
    "Parameters",
    "Request",
    "RunContext",
    "Target",
    "ended",
]

Listener = Callable[[Event, float], None]
"""Receives every event of a run and the instant (seconds of the run's clock) at which it happened."""

EMBEDDED = "embedded"
"""The base URL of the model that runs in our own child process."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """Sampling parameters as the user gave them; None or () means: do not send."""

    temperature: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: bool = False
    response_format: Mapping[str, Any] | None = field(default=None, repr=False, hash=False)
    """The structure that a server which can constrain its answers is asked for, in OpenAI's form."""

    def filled(self, defaults: Parameters) -> Parameters:
        """With *defaults* for the temperature, the limit and the seed where the user gave none."""
        wanted = {
            name: getattr(defaults, name)
            for name in ("temperature", "max_tokens", "seed")
            if getattr(self, name) is None and getattr(defaults, name) is not None
        }
        return dataclasses.replace(self, **wanted) if wanted else self


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Time limits in seconds; None is no limit. `total_s` counts from the start of the run."""

    first_token_s: float | None = 60.0
    idle_s: float | None = 30.0
    total_s: float | None = 600.0
    connect_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where an answer comes from. `base_url` is a URL or the word `embedded`; a target is (base_url, model)."""

    base_url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    is_deterministic: bool = False
    """The same request with the same seed gives the same text, so an answer can be resumed by replay."""
    finish_reason_optional: bool = False
    """`[DONE]` alone completes an answer (Ollama may send no finish_reason)."""

    @property
    def is_embedded(self) -> bool:
        """Whether the embedded model answers."""
        return self.base_url == EMBEDDED

    @property
    def name(self) -> str:
        """How the target is shown to people: `model at base_url` (no model: the server chooses), never with the key."""
        if self.is_embedded:
            return f"{self.model} (embedded)"
        return f"{self.model} at {self.base_url}" if self.model else self.base_url


class RunContext:
    """The one way from a run to its listeners, and the one way to stop it.

    Invariants: `emit` is called from the run's own thread; listeners are called in order and must not raise.
    `stop` may be called any number of times; the first cause stays.
    """

    def __init__(
        self, *, clock: Clock, started_s: float, deadline_s: float | None = None, listeners: tuple[Listener, ...] = ()
    ) -> None:
        self.clock = clock
        self.started_s = started_s
        self.deadline_s = deadline_s
        """Instant at which the whole run must end, or None."""
        self.stopped: Stopped | None = None
        self._listeners = list(listeners)
        self._on_stop: list[Callable[[], None]] = []

    def add_listener(self, listener: Listener) -> None:
        """Add a consumer of events; it sees what is emitted from now on."""
        self._listeners.append(listener)

    def emit(self, event: Event) -> None:
        """Tell every listener that *event* happened now."""
        now = self.clock()
        for listener in self._listeners:
            listener(event, now)

    def stop(self, cause: Stopped) -> None:
        """End the run as soon as possible: whoever waits is woken by its `on_stop` callback."""
        if self.stopped is not None:
            return
        self.stopped = cause
        for callback in tuple(self._on_stop):
            callback()

    def on_stop(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call *callback* when the run is stopped (at once if it already is); returns a function that unregisters."""
        self._on_stop.append(callback)
        if self.stopped is not None:
            callback()

        def remove() -> None:
            if callback in self._on_stop:
                self._on_stop.remove(callback)

        return remove


@dataclass(frozen=True, slots=True)
class Message:
    """What was said earlier in the conversation."""

    role: Literal["user", "assistant"]
    content: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Request:
    """A validated, guarded prompt on its way to the model. Immutable; `with_parameters` returns a changed copy."""

    prompt: str = field(repr=False)
    context: RunContext = field(repr=False)
    system: str | None = field(default=None, repr=False)
    parameters: Parameters = field(default_factory=Parameters)
    deadlines: Deadlines = field(default_factory=Deadlines)
    extra_body: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Fields for the body of the request besides the usual ones."""
    earlier: tuple[Message, ...] = field(default=(), repr=False)
    """The conversation before the prompt, oldest first."""

    def messages(self) -> list[dict[str, Any]]:
        """The chat messages in the wire format."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        earlier = ({"role": message.role, "content": message.content} for message in self.earlier)
        return [*system, *earlier, {"role": "user", "content": self.prompt}]

    def with_parameters(self, parameters: Parameters) -> Request:
        """The same request with other sampling parameters."""
        return dataclasses.replace(self, parameters=parameters)


class EventStream(Protocol):
    """An async iterator of events that ends after one terminal event and can be closed at any time.

    `aclose` is idempotent, frees the connection, and must be called by whoever drains the stream:
    an async generator that was never started runs no `finally`.
    """

    def __aiter__(self) -> AsyncIterator[Event]: ...

    def __anext__(self) -> Awaitable[Event]: ...

    async def aclose(self) -> None:
        """Free everything the stream holds; may be called more than once."""
        ...


async def ended(error: AppError) -> AsyncGenerator[Event, None]:
    """A stream that is over before it began."""
    yield Aborted(error)
