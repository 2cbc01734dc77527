"""What a scripted connection does, action by action, and the record of what happened on it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = [
    "Action",
    "Close",
    "CloseBeforeResponse",
    "Connection",
    "EndedBy",
    "Pause",
    "Request",
    "Reset",
    "Script",
    "ScriptError",
    "Send",
    "SendSlowly",
    "Signal",
    "WaitEvent",
    "WaitForClientClose",
    "WaitUntilRead",
]


# -- actions ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Send *data* in one piece."""

    data: bytes


@dataclass(frozen=True, slots=True)
class SendSlowly:
    """Send *data* in pieces of *size* bytes with *pause_s* seconds after each but the last."""

    data: bytes
    size: int
    pause_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Pause:
    """Say nothing for *seconds*; over at once when the client goes or the server stops."""

    seconds: float


@dataclass(frozen=True, slots=True)
class WaitUntilRead:
    """Wait until the client has taken all that was sent out of its socket.

    Before a `Reset` this makes certain what the client saw: not every kernel keeps unread bytes when RST comes.
    Where the kernel does not tell (no /proc/net/tcp), it waits 50 ms instead.
    """

    timeout_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Signal:
    """Set *event*: tell the test that the script got here."""

    event: threading.Event


@dataclass(frozen=True, slots=True)
class WaitEvent:
    """Wait until the test sets *event*; a `ScriptError` if it does not come in time."""

    event: threading.Event
    timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class WaitForClientClose:
    """Stay silent until the client closes; the script goes on only if it has not after *timeout_s*."""

    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Reset:
    """End with RST."""


@dataclass(frozen=True, slots=True)
class Close:
    """End with FIN."""


@dataclass(frozen=True, slots=True)
class CloseBeforeResponse:
    """End with FIN, and insist that not one byte has been sent."""


Action = (
    Send
    | SendSlowly
    | Pause
    | WaitUntilRead
    | Signal
    | WaitEvent
    | WaitForClientClose
    | Reset
    | Close
    | CloseBeforeResponse
)


# -- records ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request as it arrived; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The decoded body. Raises ValueError if it is not JSON."""
        return json.loads(self.body)


EndedBy = Literal["client", "close", "reset", "server_stop", "error"]


@dataclass(slots=True)
class Connection:
    """What happened on one accepted connection, in the order of acceptance from 1; filled in while it happens."""

    number: int
    accepted_at: float
    request: Request | None = None
    request_at: float | None = None
    first_sent_at: float | None = None
    last_sent_at: float | None = None
    bytes_sent: int = 0
    client_closed_at: float | None = None
    closed_at: float | None = None
    ended_by: EndedBy | None = None

    @property
    def is_open(self) -> bool:
        return self.closed_at is None


Script = Sequence[Action] | Callable[[Connection], Iterable[Action]]
"""Actions, or a function that makes them once the request is known; a generator runs code between its actions."""


class ScriptError(AssertionError):
    """A script could not be played as written: the test is wrong, not the program."""
