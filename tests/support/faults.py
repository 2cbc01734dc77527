"""Every way a stream can go wrong, with what a truthful client makes of it.

Each `Fault` is a script for a `ScriptedServer` (so the failure is a real one on a real socket) or a place where
no server answers, and the outcome of a run that neither retries nor resumes. The expectations follow from:

- an answer is complete only if a finish_reason was seen; what breaks after that does not matter any more;
- another content type than text/event-stream, or not a single chunk, is not a stream;
- data that is not UTF-8 or not a JSON object is a protocol error; whatever is not data is ignored;
- `{"error": ...}`, `event: error` and finish_reason `error` are the server's own failure;
- a broken transport is a lost connection; an orderly end without a finish_reason is a truncated stream;
- silence is a first-token time-out before the first text, an idle time-out after it;
- once text was shown, the exit code is 3.

Silences last until the client gives up: run these with both deadlines at `DEADLINE_S`. Stalls that a client has
to bear are `SHORT_STALL_S` long.
"""

from __future__ import annotations

import socket
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

from tests.support import wire
from tests.support.scripted_server import (
    Action,
    Close,
    CloseBeforeResponse,
    Pause,
    Reset,
    ScriptedServer,
    Send,
    SendSlowly,
    WaitForClientClose,
    WaitUntilRead,
)
from tests.support.wire import DONE, LAST_CHUNK, chunk, chunked, comment, delta, finish, head, role, sse

__all__ = [
    "DEADLINE_S",
    "FAULTS",
    "FAULTS_BY_NAME",
    "FULL_TEXT",
    "SHORT_STALL_S",
    "Fault",
    "FaultyTarget",
    "good_answer",
    "serve_fault",
]

DEADLINE_S = 0.4
SHORT_STALL_S = 0.12
WORDS = ("The ", "quick ", "brown ", "fox ", "café ", "jumps ", "over ", "the ", "lazy ", "dog.")
FULL_TEXT = "".join(WORDS)
THREE_WORDS = "".join(WORDS[:3])

_OPENING = sse(role())
_WORD_EVENTS = tuple(sse(delta(word)) for word in WORDS)
_STOP = sse(finish("stop"))
_DONE = sse(DONE)
_ANSWER = (_OPENING, *_WORD_EVENTS, _STOP, _DONE)
_BEGINNING = (_OPENING, *_WORD_EVENTS[:3])
_REST = (*_WORD_EVENTS[3:], _STOP, _DONE)
_TO_FINISH = (_OPENING, *_WORD_EVENTS, _STOP)

Script = Callable[[], list[Action]]
Place = Literal["server", "closed_port", "full_backlog"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault and the outcome of a run that meets it, without retries and without resume.

    *text_prefix* is all that reaches stdout; *error_code* the `AppError.code`, None if the answer is *complete*.
    *retry_after_s* is the wait that the server asks for. A *place* other than `server` needs no script.
    """

    name: str
    script: Script
    complete: bool
    exit_code: int
    error_code: str | None
    text_prefix: str
    retry_after_s: float | None = None
    place: Place = "server"


# -- scripts ---------------------------------------------------------------------------------------------------------


def good_answer() -> list[Action]:
    """The whole answer, well-formed."""
    return _play(*_ANSWER)


def _play(*events: bytes) -> list[Action]:
    """*events* as a well-formed chunked stream."""
    return [Send(head()), *(Send(chunk(event)) for event in events), Send(LAST_CHUNK), Close()]


def _until_close(*parts: bytes, content_type: str | None = wire.EVENT_STREAM) -> list[Action]:
    """A body without a length: for the client every end is an orderly one."""
    return [Send(head(content_type=content_type, length="until_close") + b"".join(parts)), Close()]


def _broken(*events: bytes, by: Action | bytes) -> list[Action]:
    """*events*, then the chunked body breaks: by an ending, or by bytes that are no chunk."""
    last: list[Action] = [Send(by), Close()] if isinstance(by, bytes) else [by]
    return [Send(head() + b"".join(chunk(event) for event in events)), WaitUntilRead(), *last]


def _then(*events: bytes, wait: Action, rest: tuple[bytes, ...] = ()) -> list[Action]:
    """*events*, a silence, and the *rest* for a client that bears it."""
    return [Send(head() + chunked(*events, end="missing")), wait, *_play(*rest)[1:]]


def _kept_alive(*events: bytes, by: bytes) -> list[Action]:
    """*events*, then only signs of life, for about ten seconds."""
    signs: list[Action] = [Send(chunk(by)), Pause(0.05)]
    return [Send(head() + chunked(*events, end="missing")), *signs * 200, WaitForClientClose()]


def _respond(response: bytes) -> Script:
    return lambda: [Send(response), Close()]


def _gzip_cut() -> list[Action]:
    """A gzip body whose first half decodes and whose second half is not deflate data (block type 3)."""
    packer = zlib.compressobj(wbits=31)
    good = packer.compress(b"".join(_BEGINNING)) + packer.flush(zlib.Z_SYNC_FLUSH)
    start = head(headers={"Content-Encoding": "gzip"}) + chunk(good)
    return [Send(start), WaitUntilRead(), Send(chunk(b"\x07" * 64) + LAST_CHUNK), Close()]


def _gzip_answer() -> list[Action]:
    packer = zlib.compressobj(wbits=31)
    packed = packer.compress(b"".join(_ANSWER)) + packer.flush()
    return [Send(head(headers={"Content-Encoding": "gzip"}) + chunked(packed)), Close()]


def _split_utf8_and_crlf() -> list[Action]:
    """CR LF line ends, with a cut inside every code point and between every CR and LF."""
    payloads: list[wire.Payload] = [role(), *map(delta, WORDS), finish(), DONE]
    body = sse(*payloads, newline="\r\n")
    cuts = [at for at in range(1, len(body)) if body[at] & 0xC0 == 0x80 or body[at - 1 : at + 1] == b"\r\n"]
    parts = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    return [Send(head()), *(Send(chunk(part)) for part in parts), Send(LAST_CHUNK), Close()]


_HTML = b"<!DOCTYPE html><html><body><h1>Sign in to the network</h1></body></html>"
_BAD_UTF8_DELTA = sse(delta("caf\x00")).replace(b"\\u0000", b"\xff")
_PROVIDER_ERROR = {"error": {"message": "Provider disconnected", "type": "server_error", "code": 502}}
_SERVER_ERROR = {"error": {"message": "The server had an error", "type": "server_error", "param": None, "code": None}}
_OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
_SHORT_BODY = b"".join(_BEGINNING)
_HALF_EVENT = _WORD_EVENTS[2][: len(_WORD_EVENTS[2]) // 2]
_RESPONSE_HEAD_CUT = head()[:40]


# -- the table -------------------------------------------------------------------------------------------------------


def _whole(name: str, script: Script, *, text: str = FULL_TEXT) -> Fault:
    return Fault(name, script, complete=True, exit_code=0, error_code=None, text_prefix=text)


def _cut(name: str, error_code: str, script: Script, *, text: str = THREE_WORDS) -> Fault:
    """Text was shown, the answer is not whole."""
    return Fault(name, script, complete=False, exit_code=3, error_code=error_code, text_prefix=text)


def _nothing(
    name: str,
    error_code: str,
    script: Script = list,
    *,
    exit_code: int = 69,
    retry_after_s: float | None = None,
    place: Place = "server",
) -> Fault:
    """Not a character was shown."""
    return Fault(name, script, False, exit_code, error_code, "", retry_after_s, place)


def _status(status: int, exit_code: int, error_code: str) -> Fault:
    return _nothing(f"status_{status}", error_code, _respond(wire.error_response(status)), exit_code=exit_code)


def _busy(name: str, headers: Mapping[str, str], retry_after_s: float | None = None) -> Fault:
    response = wire.error_response(429, kind="requests", code="rate_limit_exceeded", headers=headers)
    return _nothing(name, "rate_limited", _respond(response), exit_code=75, retry_after_s=retry_after_s)


_NO_CONNECTION = (
    _nothing("connection_refused", "unreachable", place="closed_port"),
    _nothing("connect_timeout", "unreachable", place="full_backlog"),
    _nothing("reset_before_response", "connection_lost", lambda: [Reset()]),
    _nothing("close_before_response", "connection_lost", lambda: [CloseBeforeResponse()]),
    _nothing("close_inside_headers", "connection_lost", _respond(_RESPONSE_HEAD_CUT)),
    _nothing("silence_before_headers", "first_token_timeout", lambda: [WaitForClientClose()]),
)

_STATUS = (
    *(_status(status, 69, "server_failure") for status in (408, 409, 500, 502, 503, 504, 529)),
    *(_status(status, 65, "request_refused") for status in (400, 413, 422)),
    *(_status(status, 77, "auth_failed") for status in (401, 403)),
    _status(404, 78, "model_not_found"),
    _busy("status_429", {}),
    _busy("status_429_retry_after_1", {"Retry-After": "1"}, 1.0),
    _busy("status_429_retry_after_ms_300", {"retry-after-ms": "300"}, 0.3),
    _busy("status_429_retry_after_120", {"Retry-After": "120"}, 120.0),
    _busy("status_429_should_not_retry", {"x-should-retry": "false"}),
    _nothing(
        "status_429_insufficient_quota",
        "auth_failed",
        _respond(
            wire.error_response(
                429, "You exceeded your current quota", kind="insufficient_quota", code="insufficient_quota"
            )
        ),
        exit_code=77,
    ),
    _nothing(
        "status_503_html",
        "server_failure",
        _respond(head(503, content_type="text/html", length=len(_HTML)) + _HTML),
    ),
)

_NOT_A_STREAM = (
    _nothing("html_instead_of_stream", "not_a_stream", lambda: _until_close(_HTML, content_type="text/html")),
    _nothing("json_instead_of_stream", "not_a_stream", _respond(wire.json_response(wire.completion(FULL_TEXT)))),
    _nothing("empty_body", "not_a_stream", _until_close),
    _nothing("empty_body_of_length_0", "not_a_stream", _respond(head(length=0))),
    _nothing("only_comments", "not_a_stream", lambda: _play(comment(), comment())),
    _nothing("only_done", "not_a_stream", lambda: _play(_DONE)),
)

_TRUNCATED = (
    _cut(
        "close_inside_event", "stream_truncated", lambda: _until_close(*_BEGINNING[:3], _HALF_EVENT), text="The quick "
    ),
    _cut("close_between_events", "stream_truncated", lambda: _until_close(*_BEGINNING)),
    _cut("chunked_ends_properly_too_early", "stream_truncated", lambda: _play(*_BEGINNING)),
    _cut("early_done", "stream_truncated", lambda: _play(*_BEGINNING, _DONE)),
    _cut("no_finish_reason", "stream_truncated", lambda: _play(_OPENING, *_WORD_EVENTS, _DONE), text=FULL_TEXT),
    _cut("no_finish_reason_no_done", "stream_truncated", lambda: _play(_OPENING, *_WORD_EVENTS), text=FULL_TEXT),
    _nothing("truncated_before_text", "stream_truncated", lambda: _play(_OPENING)),
)

_CONNECTION_LOST = (
    _nothing("reset_after_headers", "connection_lost", lambda: _broken(by=Reset())),
    _nothing("close_after_headers", "connection_lost", lambda: _broken(by=Close())),
    _cut("incomplete_chunked", "connection_lost", lambda: _broken(*_BEGINNING, by=Close())),
    _cut("reset_mid_stream", "connection_lost", lambda: _broken(*_BEGINNING, by=Reset())),
    _cut(
        "reset_inside_event",
        "connection_lost",
        lambda: _broken(*_BEGINNING[:3], _HALF_EVENT, by=Reset()),
        text="The quick ",
    ),
    _cut("bad_chunk_header", "connection_lost", lambda: _broken(*_BEGINNING, by=chunked(end="bad_header"))),
    _cut(
        "content_length_not_reached",
        "connection_lost",
        lambda: [Send(head(length=len(_SHORT_BODY) + 100) + _SHORT_BODY), WaitUntilRead(), Close()],
    ),
    _nothing("bad_gzip", "connection_lost", _respond(head(headers={"Content-Encoding": "gzip"}) + chunked(*_ANSWER))),
    _cut("bad_gzip_mid_stream", "connection_lost", _gzip_cut),
)

_SILENCE = (
    _nothing("silence_after_headers", "first_token_timeout", lambda: _then(wait=WaitForClientClose())),
    _nothing("silence_after_role", "first_token_timeout", lambda: _then(_OPENING, wait=WaitForClientClose())),
    _nothing("comments_but_no_text", "first_token_timeout", lambda: _kept_alive(by=comment())),
    _nothing("empty_deltas_but_no_text", "first_token_timeout", lambda: _kept_alive(_OPENING, by=sse(delta("")))),
    _cut("silence_mid_stream", "idle_timeout", lambda: _then(*_BEGINNING, wait=WaitForClientClose())),
    _cut("stall_over_deadline", "idle_timeout", lambda: _then(*_BEGINNING, wait=Pause(30.0), rest=_REST)),
    _cut("comments_mid_stream_without_end", "idle_timeout", lambda: _kept_alive(*_BEGINNING, by=comment())),
)

_PROTOCOL = (
    _cut("data_not_json", "protocol_error", lambda: _play(*_BEGINNING, b'data: {"choices":[{"del\n\n', *_REST)),
    _cut("html_as_data", "protocol_error", lambda: _play(*_BEGINNING, sse(_HTML), *_REST)),
    _cut("json_null", "protocol_error", lambda: _play(*_BEGINNING, sse("null"), *_REST)),
    _cut("invalid_utf8_in_data", "protocol_error", lambda: _play(*_BEGINNING, _BAD_UTF8_DELTA, *_REST)),
    _nothing("first_data_not_json", "protocol_error", lambda: _play(sse("oops"), *_ANSWER)),
)

_IN_BAND = (
    _cut("error_object", "server_failure", lambda: _play(*_BEGINNING, sse(_SERVER_ERROR), _DONE)),
    _cut("error_string", "server_failure", lambda: _play(*_BEGINNING, sse({"error": "out of memory"}), _DONE)),
    _cut("error_event", "server_failure", lambda: _play(*_BEGINNING, sse(_OVERLOADED, name="error"))),
    _cut(
        "error_event_without_error_key",
        "server_failure",
        lambda: _play(*_BEGINNING, sse({"message": "Overloaded"}, name="error")),
    ),
    _cut(
        "finish_reason_error_with_object",
        "server_failure",
        lambda: _play(*_BEGINNING, sse({**finish("error"), **_PROVIDER_ERROR}), _DONE),
    ),
    _cut("finish_reason_error", "server_failure", lambda: _play(*_BEGINNING, sse(finish("error")), _DONE)),
    _nothing("error_object_first", "server_failure", lambda: _play(sse(_SERVER_ERROR), _DONE)),
)

_HARMLESS = (
    _whole("none", good_answer),
    _whole("short_stall", lambda: _then(*_BEGINNING, wait=Pause(SHORT_STALL_S), rest=_REST)),
    _whole(
        "short_stall_before_text", lambda: _then(_OPENING, wait=Pause(SHORT_STALL_S), rest=(*_WORD_EVENTS, *_REST[-2:]))
    ),
    _whole("slow_drip", lambda: [SendSlowly(head() + chunked(b"".join(_ANSWER)), 7, 0.001), Close()]),
    _whole("one_byte_chunks", lambda: [Send(head() + chunked(*(bytes([b]) for b in b"".join(_ANSWER)))), Close()]),
    _whole("one_byte_segments", lambda: [SendSlowly(head() + chunked(*_ANSWER), 1), Close()]),
    _whole("garbage_line", lambda: _play(*_BEGINNING, b"!!garbage line without a colon\n\n", *_REST)),
    _whole("unknown_json_shape", lambda: _play(*_BEGINNING, sse({"foo": 1}), *_REST)),
    _whole("empty_choices", lambda: _play(*_BEGINNING, sse(wire.deltas({})), *_REST)),
    _whole("usage_mid_stream", lambda: _play(*_BEGINNING, sse(wire.usage()), *_REST)),
    _whole("invalid_utf8_in_comment", lambda: _play(*_BEGINNING, b": \xff\xfe\n\n", *_REST)),
    _whole("invalid_utf8_in_unknown_field", lambda: _play(*_BEGINNING, b"x-\xff: \xfe\n\n", *_REST)),
    _whole(
        "duplicated_event",
        lambda: _play(*_BEGINNING, _WORD_EVENTS[2], *_REST),
        text=FULL_TEXT.replace("brown ", "brown brown "),
    ),
    _whole("comments", lambda: _play(comment(), *(part for event in _ANSWER for part in (event, comment())))),
    _whole("no_done", lambda: _play(*_TO_FINISH)),
    _whole("split_utf8_and_crlf", _split_utf8_and_crlf),
    _whole("carriage_returns", lambda: _play(*(event.replace(b"\n", b"\r") for event in _ANSWER))),
    _whole("byte_order_mark", lambda: _play(sse(role(), bom=True), *_ANSWER[1:])),
    _whole("gzip", _gzip_answer),
    _whole("reset_after_finish", lambda: _broken(*_TO_FINISH, by=Reset())),
    _whole("incomplete_chunked_after_finish", lambda: _broken(*_TO_FINISH, by=Close())),
    _whole("bad_chunk_header_after_finish", lambda: _broken(*_TO_FINISH, by=chunked(end="bad_header"))),
    _whole("silence_after_finish", lambda: _then(*_TO_FINISH, wait=WaitForClientClose())),
)

FAULTS: tuple[Fault, ...] = (
    *_NO_CONNECTION,
    *_STATUS,
    *_NOT_A_STREAM,
    *_TRUNCATED,
    *_CONNECTION_LOST,
    *_SILENCE,
    *_PROTOCOL,
    *_IN_BAND,
    *_HARMLESS,
)
FAULTS_BY_NAME: dict[str, Fault] = {fault.name: fault for fault in FAULTS}


# -- serving ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FaultyTarget:
    """Where a fault can be met. *server* is None where nothing answers."""

    base_url: str
    server: ScriptedServer | None


@contextmanager
def serve_fault(fault: Fault, *, then_good: bool = False) -> Iterator[FaultyTarget]:
    """Let *fault* wait for clients: every connection meets it, or with *then_good* only the first one."""
    with ExitStack() as stack:
        if fault.place == "server":
            default = good_answer() if then_good else None
            server = stack.enter_context(ScriptedServer([fault.script()], default=default))
            yield FaultyTarget(server.base_url, server)
            return
        # A bound port that does not listen refuses connections and cannot be taken by another process.
        holder = stack.enter_context(socket.socket())
        holder.bind(("127.0.0.1", 0))
        if fault.place == "full_backlog":
            holder.listen(0)
            _fill_backlog(holder, stack)
        yield FaultyTarget(f"http://127.0.0.1:{holder.getsockname()[1]}/v1", None)


def _fill_backlog(listener: socket.socket, stack: ExitStack) -> None:
    """Connect until the kernel stops to answer: whoever comes next waits for a handshake that does not happen."""
    for _ in range(16):
        client = stack.enter_context(socket.socket())
        client.settimeout(0.1)
        with suppress(TimeoutError):
            client.connect(listener.getsockname())
            continue
        return
    raise AssertionError("the backlog could not be filled")
