"""Each fault really happens on a raw socket, and its expected outcome follows from the definitions.

`judge` is a second, independent reading of the definitions: it takes the bytes that arrived and the way they
ended, and says what a truthful client shows and reports. The table has to agree with it.
"""

from __future__ import annotations

import gzip
import json
import re
import socket
import time
import zlib
from collections.abc import Iterator
from typing import Any, Literal

import pytest

from tests.support.faults import DEADLINE_S, FAULTS, FAULTS_BY_NAME, FULL_TEXT, SHORT_STALL_S, Fault, serve_fault
from tests.support.scripted_server import ScriptedServer, SendSlowly, wait_until
from utils.errors import AppError

End = Literal["fin", "rst", "silence", "refused", "no_connection"]

QUIET_S = 0.3
RESETS = {
    "reset_before_response",
    "reset_after_headers",
    "reset_mid_stream",
    "reset_inside_event",
    "reset_after_finish",
}
SILENCES = {
    "silence_before_headers",
    "silence_after_headers",
    "silence_after_role",
    "comments_but_no_text",
    "empty_deltas_but_no_text",
    "silence_mid_stream",
    "stall_over_deadline",
    "comments_mid_stream_without_end",
    "silence_after_finish",
}


# -- a raw client ----------------------------------------------------------------------------------------------------


def meet(base_url: str) -> tuple[bytes, End]:
    """Ask as a client would, and take what comes until it ends or brings no new text for QUIET_S seconds."""
    host, port = base_url.removeprefix("http://").removesuffix("/v1").split(":")
    try:
        client = socket.create_connection((host, int(port)), timeout=QUIET_S)
    except ConnectionRefusedError:
        return b"", "refused"
    except TimeoutError:
        return b"", "no_connection"
    with client:
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        received, looked_at, text = b"", time.monotonic(), ""
        while True:
            try:
                data = client.recv(65536)
            except ConnectionResetError:
                return received, "rst"
            except TimeoutError:
                return received, "silence"
            if not data:
                return received, "fin"
            received += data
            if time.monotonic() - looked_at > QUIET_S:
                if judge(received, "silence")[1] == text:
                    return received, "silence"
                looked_at, text = time.monotonic(), judge(received, "silence")[1]


# -- the oracle ------------------------------------------------------------------------------------------------------


def judge(raw: bytes, end: End) -> tuple[str | None, str]:
    """The error code (None: complete) and the text shown, for a response that arrived as *raw* and ended so."""
    if end in ("refused", "no_connection"):
        return "unreachable", ""
    head, separator, body = raw.partition(b"\r\n\r\n")
    if not separator:
        return ("first_token_timeout" if end == "silence" else "connection_lost"), ""
    status_line, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    status = int(status_line.split()[1])
    if status != 200:
        return code_of_status(status, body), ""
    if not headers.get("content-type", "").startswith("text/event-stream"):
        return "not_a_stream", ""
    data, is_broken = undo_framing(body, headers, end)
    text, chunks = "", 0
    for name, payload in events(data):
        try:
            value = json.loads(payload.decode())
        except ValueError:
            return "protocol_error", text
        if name == "error" or (isinstance(value, dict) and "error" in value):
            return "server_failure", text
        if not isinstance(value, dict):
            return "protocol_error", text
        chunks += 1
        for choice in value.get("choices", []):
            text += choice["delta"].get("content") or ""
            if choice["finish_reason"] is not None:
                return ("server_failure" if choice["finish_reason"] == "error" else None), text
    if is_broken:
        return "connection_lost", text
    if end == "silence":
        return ("idle_timeout" if text else "first_token_timeout"), text
    return ("stream_truncated" if chunks else "not_a_stream"), text


def code_of_status(status: int, body: bytes) -> str:
    if b"insufficient_quota" in body:
        return "auth_failed"
    known = {401: "auth_failed", 403: "auth_failed", 404: "model_not_found", 408: "server_failure"}
    known |= {409: "server_failure", 429: "rate_limited"}
    return known.get(status) or ("request_refused" if status < 500 else "server_failure")


def undo_framing(body: bytes, headers: dict[str, str], end: End) -> tuple[bytes, bool]:
    """The body's bytes without chunks and compression, and whether the transport broke."""
    is_broken = end == "rst"
    if headers.get("transfer-encoding") == "chunked":
        data, is_whole = dechunk(body)
        is_broken = is_broken or (not is_whole and (end != "silence" or b"zz" in body))
    else:
        data = body
        is_broken = is_broken or len(body) < int(headers.get("content-length", 0))
    if headers.get("content-encoding") == "gzip":
        unpacker, unpacked = zlib.decompressobj(wbits=31), b""
        try:
            for byte in data:
                unpacked += unpacker.decompress(bytes([byte]))
        except zlib.error:
            is_broken = True
        return unpacked, is_broken
    return data, is_broken


def dechunk(body: bytes) -> tuple[bytes, bool]:
    data = b""
    while match := re.match(rb"([0-9a-f]+)\r\n", body):
        size, start = int(match[1], 16), match.end()
        if size == 0:
            return data, True
        data += body[start : start + size]
        body = body[start + size + 2 :]
    return data, False


def events(data: bytes) -> Iterator[tuple[str, bytes]]:
    """(event name, data) of each event before [DONE]; an event without its blank line does not count."""
    name, fields = "", []
    *lines, _unfinished = re.split(rb"\r\n|\n|\r", data.removeprefix(b"\xef\xbb\xbf"))
    for line in lines:
        field, _, value = line.partition(b":")
        if field == b"data":
            fields.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.strip().decode()
        elif not line:
            payload = b"\n".join(fields)
            if payload == b"[DONE]":
                return
            if fields:
                yield name, payload
            name, fields = "", []


# -- the table against the oracle ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_happens_as_described_and_its_outcome_follows(fault: Fault) -> None:
    with serve_fault(fault) as target:
        raw, end = meet(target.base_url)
        if target.server is not None:
            wait_until(lambda: target.server is not None and target.server.open_connections() == 0)
            check_record(target.server, end)
    code, text = judge(raw, end)
    assert (code, text) == (fault.error_code, fault.text_prefix)
    places: dict[str, End] = {"closed_port": "refused", "full_backlog": "no_connection"}
    served: End = "rst" if fault.name in RESETS else "silence" if fault.name in SILENCES else "fin"
    assert end == places.get(fault.place, served)


def check_record(server: ScriptedServer, end: End) -> None:
    (connection,) = server.connections
    assert connection.request is not None
    assert connection.ended_by == {"fin": "close", "rst": "reset", "silence": "client"}[end]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_exit_codes_are_those_of_the_error_tree(fault: Fault) -> None:
    assert fault.complete == (fault.exit_code == 0) == (fault.error_code is None)
    if fault.error_code is not None:
        error = errors_by_code()[fault.error_code]("")
        assert fault.exit_code == error.exit_code_for(text_shown=bool(fault.text_prefix))


def errors_by_code() -> dict[str, type[AppError]]:
    kinds: dict[str, type[AppError]] = {}
    waiting: list[type[AppError]] = [AppError]
    while waiting:
        kind = waiting.pop()
        kinds[kind("").code] = kind
        waiting += kind.__subclasses__()
    return kinds


def test_names_are_unique_and_the_answer_is_the_known_one() -> None:
    assert len(FAULTS_BY_NAME) == len(FAULTS)
    assert FULL_TEXT == "The quick brown fox café jumps over the lazy dog."
    assert SHORT_STALL_S < QUIET_S < DEADLINE_S


# -- what the oracle cannot tell apart -------------------------------------------------------------------------------


def body_of(name: str) -> bytes:
    with serve_fault(FAULTS_BY_NAME[name]) as target:
        return meet(target.base_url)[0].partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("status_429_retry_after_1", rb"429 .*\r\nRetry-After: 1\r\n"),
        ("status_429_retry_after_ms_300", rb"\r\nretry-after-ms: 300\r\n"),
        ("status_429_retry_after_120", rb"\r\nRetry-After: 120\r\n"),
        ("status_429_should_not_retry", rb"\r\nx-should-retry: false\r\n"),
        ("status_429_insufficient_quota", rb'^HTTP/1.1 429 .*"code":"insufficient_quota"'),
        ("status_503_html", rb"^HTTP/1.1 503 .*text/html.*<!DOCTYPE html>"),
        ("html_instead_of_stream", rb"^HTTP/1.1 200 .*text/html.*<!DOCTYPE html>"),
        ("json_instead_of_stream", rb'^HTTP/1.1 200 .*application/json.*"object":"chat.completion".*lazy dog'),
        ("empty_body", rb"^HTTP/1.1 200 OK\r\n((?!Length|Transfer).)*\r\n\r\n$"),
        ("empty_body_of_length_0", rb"Content-Length: 0\r\n\r\n$"),
        ("only_comments", rb"\r\n\r\ne\r\n: keep-alive\n\n"),
        ("only_done", rb"\r\n\r\ne\r\ndata: \[DONE\]\n\n\r\n0\r\n\r\n$"),
        ("close_inside_headers", rb"^HTTP/1.1 200 OK\r\n((?!\r\n\r\n).)*$"),
        ("close_inside_event", rb"\n\ndata: \{[^\n}]*$"),
        ("early_done", rb"brown ((?!fox).)*\[DONE\]\n\n\r\n0\r\n\r\n$"),
        ("no_finish_reason_no_done", rb"dog\.((?!stop|DONE).)*\r\n0\r\n\r\n$"),
        ("no_finish_reason", rb"dog\.((?!stop).)*\[DONE\]\n\n\r\n0\r\n\r\n$"),
        ("no_done", rb'dog\.((?!DONE).)*"stop"((?!DONE).)*\r\n0\r\n\r\n$'),
        ("chunked_ends_properly_too_early", rb"brown [^\n]*\n\n\r\n0\r\n\r\n$"),
        ("incomplete_chunked", rb"brown [^\n]*\n\n\r\n$"),
        ("bad_chunk_header", rb"brown [^\n]*\n\n\r\nzz\r\n"),
        ("content_length_not_reached", rb"Content-Length: \d+\r\n.*brown [^\n]*\n\n$"),
        ("bad_gzip", rb"Content-Encoding: gzip\r\n.*data: "),
        ("data_not_json", rb'data: \{"choices":\[\{"del\n\n.*fox'),
        ("html_as_data", rb"data: <!DOCTYPE.*fox"),
        ("json_null", rb"data: null\n\n.*fox"),
        ("invalid_utf8_in_data", rb'"content":"caf\xff".*fox'),
        ("invalid_utf8_in_comment", rb"\n: \xff\xfe\n\n.*fox"),
        ("invalid_utf8_in_unknown_field", rb"\nx-\xff: \xfe\n\n.*fox"),
        ("error_object", rb'brown .*data: \{"error":\{"message":"The server had an error"'),
        ("error_string", rb'brown .*data: \{"error":"out of memory"\}'),
        ("error_event", rb'brown .*event: error\ndata: \{"type":"error","error":'),
        ("error_event_without_error_key", rb'brown .*event: error\ndata: \{"message":"Overloaded"\}'),
        ("finish_reason_error_with_object", rb'"finish_reason":"error".*"error":\{"message":"Provider disconnected"'),
        ("finish_reason_error", rb'"finish_reason":"error"((?!"error":).)*$'),
        ("garbage_line", rb"\n!!garbage line without a colon\n\n.*fox"),
        ("unknown_json_shape", rb'data: \{"foo":1\}\n\n.*fox'),
        ("empty_choices", rb'brown .*"choices":\[\]\}\n.*fox'),
        ("usage_mid_stream", rb'brown .*"choices":\[\],"usage":.*fox'),
        ("duplicated_event", rb"(data: \{[^\n]*brown [^\n]*\n\n)\r\n[0-9a-f]+\r\n\1"),
        ("comments", rb"^[^:]*(: [^\n]*\r\n)*.*?: keep-alive\n\n.*The .*: keep-alive\n\n.*quick .*: keep-alive"),
        ("carriage_returns", rb"data: \{[^\n]*The [^\n]*\r\r"),
        ("byte_order_mark", rb"\r\n\xef\xbb\xbfdata: "),
        ("gzip", rb"Content-Encoding: gzip\r\n.*\r\n\x1f\x8b"),
    ],
)
def test_the_bytes_carry_what_the_name_says(name: str, pattern: bytes) -> None:
    with serve_fault(FAULTS_BY_NAME[name]) as target:
        raw, _end = meet(target.base_url)
    assert re.search(pattern, raw, re.DOTALL), raw


def test_one_byte_chunks_are_one_byte_each() -> None:
    assert re.fullmatch(rb"(1\r\n.\r\n)+0\r\n\r\n", body_of("one_byte_chunks"), re.DOTALL)


def test_code_points_and_line_ends_are_split_between_chunks() -> None:
    body = body_of("split_utf8_and_crlf")
    assert b"\xc3\r\n" in body
    assert "é".encode() not in body
    data, is_whole = dechunk(body)
    assert is_whole
    assert "café".encode() in data
    assert data.count(b"\n") == data.count(b"\r\n") == 2 * len(re.findall(rb"data: ", data))
    assert body.count(b"\r\r\n") == data.count(b"\r\n")  # every data CR stands at the end of its chunk


def test_gzip_bodies_are_what_they_claim() -> None:
    assert b"lazy dog" not in body_of("gzip")
    assert b"lazy" in gzip.decompress(dechunk(body_of("gzip"))[0])
    with pytest.raises(zlib.error):
        zlib.decompressobj(wbits=31).decompress(dechunk(body_of("bad_gzip_mid_stream"))[0])


def test_a_slow_drip_takes_its_time_in_small_pieces() -> None:
    drip, byte_by_byte = (FAULTS_BY_NAME[name].script()[0] for name in ("slow_drip", "one_byte_segments"))
    assert isinstance(drip, SendSlowly)
    assert (drip.size, drip.pause_s) == (7, 0.001)
    assert isinstance(byte_by_byte, SendSlowly)
    assert byte_by_byte.size == 1
    with serve_fault(FAULTS_BY_NAME["slow_drip"]) as target:
        meet(target.base_url)
        assert target.server is not None
        assert gap(target.server) >= 0.001 * (len(drip.data) // 7)


@pytest.mark.parametrize("name", ["short_stall", "short_stall_before_text"])
def test_a_short_stall_lasts_as_long_as_it_says(name: str) -> None:
    with serve_fault(FAULTS_BY_NAME[name]) as target:
        meet(target.base_url)
        assert target.server is not None
        assert gap(target.server) >= SHORT_STALL_S


def gap(server: ScriptedServer) -> float:
    first, last = server.connections[0].first_sent_at, server.connections[0].last_sent_at
    assert first is not None
    assert last is not None
    return last - first


@pytest.mark.parametrize(
    "name", ["comments_but_no_text", "empty_deltas_but_no_text", "comments_mid_stream_without_end"]
)
def test_signs_of_life_go_on_after_the_last_text(name: str) -> None:
    with serve_fault(FAULTS_BY_NAME[name]) as target:
        raw, _end = meet(target.base_url)
    sign = b'"content":""' if "deltas" in name else b": keep-alive\n\n"
    assert raw.count(sign) >= 5


def test_the_long_stall_would_go_on_for_a_client_that_bears_it() -> None:
    sent = b"".join(getattr(action, "data", b"") for action in FAULTS_BY_NAME["stall_over_deadline"].script())
    assert judge(sent, "fin") == (None, FULL_TEXT)


def test_only_the_first_connection_meets_the_fault_if_asked_so() -> None:
    with serve_fault(FAULTS_BY_NAME["reset_mid_stream"], then_good=True) as target:
        outcomes: list[Any] = [judge(*meet(target.base_url)) for _ in range(3)]
    assert outcomes == [("connection_lost", "The quick brown "), (None, FULL_TEXT), (None, FULL_TEXT)]
