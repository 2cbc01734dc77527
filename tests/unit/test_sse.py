"""SSE decoding: the events depend on the bytes, never on where they were cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.errors import ProtocolError
from utils.sse import ServerSentEvent, SSEDecoder


def decode(chunks: list[bytes], **options: int) -> list[tuple[bytes, bytes, bool]]:
    decoder = SSEDecoder(**options)
    events: list[ServerSentEvent] = []
    for chunk in chunks:
        events += decoder.feed(chunk)
    events += decoder.finish()
    return [(event.data, event.event, event.is_terminated) for event in events]


CASES = {
    "one event": (b"data: a\n\n", [(b"a", b"", True)]),
    "no space after the colon": (b"data:a\n\n", [(b"a", b"", True)]),
    "only one space is removed": (b"data:  a\n\n", [(b" a", b"", True)]),
    "CRLF": (b"data: a\r\n\r\ndata: b\r\n\r\n", [(b"a", b"", True), (b"b", b"", True)]),
    "CR": (b"data: a\r\rdata: b\r\r", [(b"a", b"", True), (b"b", b"", True)]),
    "mixed line endings": (b"data: a\r\n\ndata: b\n\r\n", [(b"a", b"", True), (b"b", b"", True)]),
    "several data lines": (b"data: a\ndata: b\n\n", [(b"a\nb", b"", True)]),
    "several data lines with CRLF": (b"data: a\r\ndata: b\r\n\r\n", [(b"a\nb", b"", True)]),
    "a comment": (b": ping\n\ndata: a\n\n", [(b"a", b"", True)]),
    "a comment inside an event": (b"data: a\n: ping\ndata: b\n\n", [(b"a\nb", b"", True)]),
    "a named event": (b"event: error\ndata: a\n\ndata: b\n\n", [(b"a", b"error", True), (b"b", b"", True)]),
    "an event without data is nothing": (b"event: ping\n\ndata: a\n\n", [(b"a", b"", True)]),
    "unknown fields, id and retry": (b"id: 1\nretry: 5\nfoo: x\nnonsense\ndata: a\n\n", [(b"a", b"", True)]),
    "data without a colon is an empty line": (b"data\n\n", [(b"", b"", True)]),
    "a byte-order mark": (b"\xef\xbb\xbfdata: a\n\n", [(b"a", b"", True)]),
    "three newlines": (b"data: a\n\n\ndata: b\n\n\n\n", [(b"a", b"", True), (b"b", b"", True)]),
    "no empty line at the end": (b"data: a\n\ndata: b\n", [(b"a", b"", True), (b"b", b"", False)]),
    "no newline at the end": (b"data: a\n\ndata: b", [(b"a", b"", True), (b"b", b"", False)]),
    "invalid UTF-8 in a comment": (b": \xff\xfe\n\ndata: a\n\n", [(b"a", b"", True)]),
    "HTML": (b"<html>\n<body>\n\n</html>", []),
    "nothing": (b"", []),
}


@pytest.mark.parametrize("name", CASES)
def test_decodes_whole_byte_by_byte_and_with_trailing_data(name: str) -> None:
    data, expected = CASES[name]
    assert decode([data]) == expected
    assert decode([data[i : i + 1] for i in range(len(data))]) == expected
    for cut in range(len(data) + 1):
        assert decode([data[:cut], data[cut:]]) == expected


pieces = st.sampled_from(
    [b"data: ", b"data:", b"event: e", b"x", b"\xc3\xa9", b"\n", b"\r", b"\r\n", b"\n\n", b": c", b"\xef\xbb\xbf", b" "]
)


@settings(max_examples=300)
@given(st.lists(pieces, max_size=24).map(b"".join), st.lists(st.integers(0, 200), max_size=8))
def test_any_cutting_gives_the_same_events(data: bytes, cuts: list[int]) -> None:
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    chunks = [data[a:b] for a, b in zip(places, places[1:], strict=False)]
    assert decode(chunks) == decode([data]) == reference(data)


def reference(data: bytes) -> list[tuple[bytes, bytes, bool]]:
    """The standard's algorithm, line by line, on the whole input."""
    text = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events: list[tuple[bytes, bytes, bool]] = []
    lines, name = [], b""
    *terminated, last = text.split(b"\n")
    for line in terminated:
        if not line:
            if lines:
                events.append((b"\n".join(lines), name, True))
            lines, name = [], b""
        else:
            field, _, value = line.partition(b":")
            if field == b"data":
                lines.append(value.removeprefix(b" "))
            elif field == b"event":
                name = value.removeprefix(b" ")
    if last:
        field, _, value = last.partition(b":")
        if field == b"data":
            lines.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    if lines:
        events.append((b"\n".join(lines), name, False))
    return events


@pytest.mark.parametrize("chunk", [1, 7, 100, 1000])
def test_an_event_without_an_end_is_refused_at_the_bound(chunk: int) -> None:
    decoder = SSEDecoder(max_event_bytes=500)
    with pytest.raises(ProtocolError, match="more than 500 bytes"):
        for _ in range(1000):
            decoder.feed(b"x" * chunk)
    with pytest.raises(AssertionError, match="is over"):
        decoder.feed(b"data: a\n\n")


def test_a_complete_event_over_the_bound_is_refused_too() -> None:
    with pytest.raises(ProtocolError):
        decode([b"data: " + b"x" * 600 + b"\n\n"], max_event_bytes=500)
