"""What happens to the programs, one scenario a row, and what is stated of this project's program in each.

A scenario is a server, the way in which the program is asked, what is done to it while it runs (`drive`), and what the
server saw of it (`look`). Nothing depends on how fast a program starts: what is done waits for its request or its text.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from benchmarks.programs.judge import Expected
from tests.support import wire
from tests.support.faults import FAULTS_BY_NAME, FULL_TEXT, serve_fault
from tests.support.paced_server import PacedServer
from tests.support.scripted_server import (
    Action,
    Close,
    Connection,
    Request,
    Script,
    ScriptedServer,
    Send,
    WaitEvent,
    WaitForClientClose,
    wait_until,
)
from tests.support.terminal import CTRL_C, Program, ProgramTimeout, Stdin

__all__ = ["KEY", "MODEL", "PROMPT", "SCENARIOS", "Place", "Scenario"]

KEY = "sk-compared-0123456789abcdef"
MODEL = "gpt-x"
PROMPT = "Say the sentence about the fox."
PIPED = b"Blue is a colour."
PATIENCE_S = 5.0
"""So long a program may take to show what has been sent, before it counts as holding it back."""
THOUGHT_S = 0.5
"""From the text on the screen to the key: nobody presses it while the program is still drawing."""
SILENCE_S = 20.0
"""So long a pipe stays open and silent: longer than any program that does not wait for it takes to ask."""
START_S = 25.0

_OPENING = wire.sse(wire.role())
_WORDS = tuple(wire.sse(wire.delta(f"{word} ")) for word in FULL_TEXT.split())
_END = (wire.sse(wire.finish()), wire.sse(wire.DONE))
_ESCAPED = "Look: \x1b[31mred\x1b[0m and \x1b]0;OWNED\x07done."
_TITLE = b"\x1b]0;OWNED"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the programs are sent. *server* is None where nothing answers; *go_on* opens the gate of a script."""

    base_url: str
    server: ScriptedServer | None
    go_on: threading.Event = field(default_factory=threading.Event)

    @property
    def posts(self) -> list[Connection]:
        """The connections with a question on them, in their order; lists of models are none."""
        connections = list(self.server.connections) if self.server else []
        return [each for each in connections if each.request is not None and each.request.method == "POST"]

    @property
    def asked(self) -> list[Request]:
        return [each.request for each in self.posts if each.request is not None]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row. *answer* is what a whole answer shows: its pieces, in this order; none if there is no text at all.

    *shell* is what bash does with the command line `"$@"`. Without *judges_exit*, either exit code is a fair reading.
    """

    id: str
    title: str
    serve: Callable[[], AbstractContextManager[Place]]
    ours: Expected
    answer: tuple[str, ...] = (FULL_TEXT,)
    stdin: Stdin = "devnull"
    on_terminal: bool = False
    asks: Literal["argument", "stdin"] = "argument"
    shell: str = ""
    judges_exit: bool = True
    drive: Callable[[Program, Place], list[str]] = lambda program, place: []
    look: Callable[[Place, bytes], list[str]] = lambda place, output: []


# Servers.


def _fault(name: str) -> Callable[[], AbstractContextManager[Place]]:
    @contextmanager
    def serve() -> Iterator[Place]:
        with serve_fault(FAULTS_BY_NAME[name]) as target:
            yield Place(target.base_url, target.server)

    return serve


def _script(make: Callable[[threading.Event], Script]) -> Callable[[], AbstractContextManager[Place]]:
    @contextmanager
    def serve() -> Iterator[Place]:
        go_on = threading.Event()
        with ScriptedServer(default=make(go_on)) as server:
            yield Place(server.base_url, server, go_on)

    return serve


def _answers(*events: bytes) -> Callable[[], AbstractContextManager[Place]]:
    return _script(lambda go_on: [Send(wire.stream_response(*events)), Close()])


@contextmanager
def _paced() -> Iterator[Place]:
    with PacedServer(300, 0.02) as server:
        yield Place(server.base_url, server.server)


def _in_two_parts(go_on: threading.Event) -> Script:
    return [
        Send(wire.head() + wire.chunked(_OPENING, *_WORDS[:3], end="missing")),
        WaitEvent(go_on, 60.0),
        Send(wire.chunked(*_WORDS[3:], *_END)),
        Close(),
    ]


def _stops_in_the_middle(go_on: threading.Event) -> Script:
    return [Send(wire.head() + wire.chunked(_OPENING, *_WORDS[:3], end="missing")), WaitForClientClose()]


def _knows_another_model(go_on: threading.Event) -> Script:
    def play(connection: Connection) -> list[Action]:
        assert connection.request is not None
        if connection.request.method == "GET":
            card = {"id": f"{MODEL}-2", "object": "model", "created": 0, "owned_by": "tests"}
            return [Send(wire.json_response({"object": "list", "data": [card]})), Close()]
        message = f"The model '{MODEL}' does not exist"
        return [
            Send(wire.error_response(404, message, kind="invalid_request_error", code="model_not_found")),
            Close(),
        ]

    return play


def _repeats_the_key(go_on: threading.Event) -> Script:
    message = f"Incorrect API key provided: {KEY}."
    response = wire.error_response(401, message, kind="invalid_request_error", code="invalid_api_key")
    return [Send(response), Close()]


# What is done to a running program.


def _until_asked(program: Program, place: Place, timeout_s: float = START_S) -> None:
    with suppress(AssertionError):
        wait_until(lambda: place.posts or not program.is_running, timeout_s)


def _see_the_first_part(program: Program, place: Place) -> list[str]:
    """The rest is sent when the first part was seen, or when it is clear that the program holds it back."""
    _until_asked(program, place)
    try:
        program.wait_for(b"The", PATIENCE_S)
    except ProgramTimeout:
        return ["not before the end"]
    finally:
        place.go_on.set()
    return ["streams"]


def _interrupt(program: Program, place: Place) -> list[str]:
    _until_asked(program, place)
    with suppress(ProgramTimeout):
        program.wait_for(b"brown", PATIENCE_S)
    threading.Event().wait(THOUGHT_S)
    if program.is_running:
        program.type(CTRL_C)
        with suppress(AssertionError):
            wait_until(lambda: not place.server or not place.server.open_connections(), PATIENCE_S)
    return []


def _leave_the_pipe_silent(program: Program, place: Place) -> list[str]:
    _until_asked(program, place, SILENCE_S)
    if place.posts or not program.is_running:
        return ["does not wait for the pipe"]
    program.close_stdin()
    return [f"waits for the pipe's end ({SILENCE_S:g} s)"]


# What the server saw.


def _closed(place: Place, output: bytes) -> list[str]:
    assert place.server is not None
    with suppress(AssertionError):
        wait_until(lambda: not any(each.is_open for each in place.posts), 1.0)
    if not place.posts:
        return []
    ends = {"client": "connection closed", "close": "read to the end"}
    return [ends.get(place.posts[0].ended_by or "", "connection left open")]


def _waits(place: Place, output: bytes) -> list[str]:
    starts = [each.request_at for each in place.posts if each.request_at is not None]
    if len(starts) < 2:
        return []
    return ["Retry-After kept" if all(b - a >= 1.0 for a, b in pairwise(starts)) else "Retry-After not kept"]


def _user_text(request: Request) -> str:
    parts = []
    for message in request.json["messages"]:
        content = message["content"] if message["role"] == "user" else ""
        parts += [content] if isinstance(content, str) else [part.get("text", "") for part in content]
    return "\n".join(parts)


def _what_was_asked(place: Place, output: bytes) -> list[str]:
    if not place.asked:
        return []
    text = _user_text(place.asked[0])
    piped, typed = text.find(PIPED.decode()), text.find(PROMPT)
    if piped < 0 or typed < 0:
        return ["asked the argument alone" if piped < 0 <= typed else "asked something else"]
    return ["asked piped text, argument" if piped < typed else "asked argument, piped text"]


def _empty_prompt(place: Place, output: bytes) -> list[str]:
    return ["asked an empty prompt"] if place.asked and not _user_text(place.asked[0]).strip() else []


def _title(place: Place, output: bytes) -> list[str]:
    return ["sequence obeyed" if _TITLE in output else "sequence made harmless"]


def _count(place: Place, output: bytes) -> list[str]:
    many = len(place.posts)
    return [] if place.server is None or many == 1 else [f"{many or 'no'} requests"]


def _all(*looks: Callable[[Place, bytes], list[str]]) -> Callable[[Place, bytes], list[str]]:
    return lambda place, output: [fact for look in looks for fact in look(place, output)]


# The table.

_GOOD = _fault("none")

SCENARIOS: tuple[Scenario, ...] = (
    Scenario("good", "good answer, piped", _GOOD, Expected(0, "whole", ""), look=_count),
    Scenario(
        "streams",
        "answer in two parts, piped: is the first one there before the second is sent?",
        _script(_in_two_parts),
        Expected(0, "whole", "", ("streams",)),
        drive=_see_the_first_part,
    ),
    Scenario("401", "401", _fault("status_401"), Expected(77, "nothing", "401"), look=_count),
    Scenario(
        "401_key",
        "401 with a message that repeats the key",
        _script(_repeats_the_key),
        Expected(77, "nothing", "401: Incorrect API key"),
        look=_count,
    ),
    Scenario(
        "404",
        "404, unknown model",
        _script(_knows_another_model),
        Expected(78, "nothing", f"404(.|\n)*{MODEL}-2"),
        look=_count,
    ),
    Scenario(
        "refused", "connection refused", _fault("connection_refused"), Expected(69, "nothing", "connection refused")
    ),
    Scenario(
        "429",
        "429, Retry-After 1",
        _fault("status_429_retry_after_1"),
        Expected(75, "nothing", "429", ("Retry-After kept", "3 requests")),
        look=_all(_count, _waits),
    ),
    Scenario("500", "500", _fault("status_500"), Expected(69, "nothing", "500", ("3 requests",)), look=_count),
    Scenario(
        "cut",
        "clean cut: no finish_reason, no [DONE]",
        _fault("chunked_ends_properly_too_early"),
        Expected(3, "fragment", "incomplete"),
        look=_count,
    ),
    Scenario(
        "reset", "TCP reset", _fault("reset_mid_stream"), Expected(3, "fragment", "broke .incomplete"), look=_count
    ),
    Scenario(
        "error_event",
        "SSE error event in the answer",
        _fault("error_event"),
        Expected(3, "fragment", "Overloaded .incomplete"),
        look=_count,
    ),
    Scenario(
        "empty",
        "empty answer",
        _answers(_OPENING, *_END),
        Expected(0, "nothing", "empty"),
        answer=(),
        judges_exit=False,
        look=_count,
    ),
    Scenario(
        "no_finish_reason",
        "whole text and [DONE], no finish_reason",
        _fault("no_finish_reason"),
        Expected(3, "whole", "without a finish_reason"),
        judges_exit=False,
        look=_count,
    ),
    Scenario(
        "ctrl_c",
        "Ctrl-C in the answer, on a terminal",
        _script(_stops_in_the_middle),
        Expected(130, "fragment", "cancelled", ("connection closed",)),
        stdin="tty",
        on_terminal=True,
        drive=_interrupt,
        look=_all(_count, _closed),
    ),
    Scenario(
        "head",
        "`| head -c5`",
        _paced,
        Expected(141, "fragment", "", ("connection closed",)),
        answer=(" ".join(f"word{number}" for number in range(1, 301)),),
        shell='"$@" | head -c5; exit "${PIPESTATUS[0]}"',
        judges_exit=False,
        look=_closed,
    ),
    Scenario(
        "stdin_and_argument",
        "piped text and an argument",
        _GOOD,
        Expected(0, "whole", "", ("asked piped text, argument",)),
        stdin=PIPED,
        look=_what_was_asked,
    ),
    Scenario(
        "empty_stdin",
        "empty standard input, with `-` or no argument",
        _GOOD,
        Expected(2, "nothing", "standard input was empty", ("no requests",)),
        stdin=b"",
        asks="stdin",
        look=_all(_count, _empty_prompt),
    ),
    Scenario(
        "silent_pipe",
        "argument, and a silent pipe as standard input",
        _GOOD,
        Expected(0, "whole", "silent", ("does not wait for the pipe",)),
        stdin="silent-pipe",
        drive=_leave_the_pipe_silent,
    ),
    Scenario(
        "escape",
        "escape sequences in the answer, on a terminal",
        _answers(_OPENING, wire.sse(wire.delta(_ESCAPED)), *_END),
        Expected(0, "whole", "", ("sequence made harmless",)),
        answer=("Look:", "red", "and", "done."),
        stdin="tty",
        on_terminal=True,
        look=_title,
    ),
    Scenario(
        "full_disk",
        "standard output on a full disk (/dev/full)",
        _GOOD,
        Expected(141, "nothing", "No space left"),
        shell='exec "$@" >/dev/full',
        look=_count,
    ),
)
