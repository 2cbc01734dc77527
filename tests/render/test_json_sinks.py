import asyncio
import json
import math
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.render.rendering import opened_pipe, report
from utils.errors import ConnectionLost
from utils.events import Event, Finished, Retrying, TextDelta, TokenLogprob
from utils.render.json_sinks import JsonLinesSink, JsonObjectSink, json_line
from utils.render.output import FdWriter

EVENTS: list[Event] = [
    Retrying(2, 0.5, ConnectionLost("lost", simulated=True)),
    TextDelta("né\n\x1b[2J\u202e", (TokenLogprob("né", -0.5),)),
    Finished("stop"),
]


def test_json_is_one_object_and_nothing_else() -> None:
    with opened_pipe() as (pipe, reader):
        sink = JsonObjectSink(FdWriter(pipe))
        for event in EVENTS:
            sink.handle(event, 1.0)
        sink.settle()
        sink.finish(report(text="né 漢\n"))
        sink.close()
        os.close(pipe)
        output = reader.text()
    assert output.count("\n") == 1
    assert '"text": "né 漢\\n"' in output
    assert json.loads(output) == report(text="né 漢\n").as_json()


def test_events_are_lines_in_order_and_the_last_is_the_report() -> None:
    with opened_pipe() as (pipe, reader):
        sink = JsonLinesSink(FdWriter(pipe), started_s=1.0)

        async def run() -> None:
            for event in EVENTS:
                sink.handle(event, 2.5)
                sink.settle()
            sink.finish(report())
            sink.close()

        asyncio.run(run())
        os.close(pipe)
        lines = [json.loads(line) for line in reader.text().splitlines()]
    assert [line["type"] for line in lines] == ["retrying", "text_delta", "finished", "report"]
    assert all(line["t_s"] == 1.5 for line in lines[:-1])
    assert lines[0]["cause"] == {"code": "connection_lost", "message": "lost", "hint": "", "simulated": True}
    assert lines[1]["text"] == "né\n\x1b[2J\u202e"
    assert lines[1]["tokens"] == [{"text": "né", "logprob": -0.5}]
    assert lines[-1]["outcome"] == "complete"
    assert not {"text", "events"} & lines[-1].keys()


def test_events_of_one_turn_are_one_write_and_nothing_is_lost_without_a_report() -> None:
    writes: list[bytes] = []

    class Recorded(FdWriter):
        def write(self, data: bytes) -> None:
            writes.append(data)

    async def run() -> None:
        sink = JsonLinesSink(Recorded(-1), 0.0)
        for event in EVENTS[:2]:
            sink.handle(event, 0.0)
        assert writes == []
        await asyncio.sleep(0)
        assert len(writes) == 1
        sink.handle(EVENTS[2], 0.0)
        sink.close()

    asyncio.run(run())
    assert [len(data.splitlines()) for data in writes] == [2, 1]


@given(st.text(st.characters()), st.booleans())
def test_any_text_is_one_harmless_line_of_json(text: str, ascii_only: bool) -> None:
    line = json_line({"text": text}, ascii_only=ascii_only)
    decoded = line.decode()
    assert json.loads(decoded) == {"text": text}
    assert decoded.endswith("\n")
    assert not {c for c in decoded[:-1] if c < " " or "\x7f" <= c <= "\x9f" or "\u202a" <= c <= "\u202e"}
    assert not ascii_only or decoded.isascii()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": math.nan, "b": [math.inf, (1.5, -math.inf)]}, {"a": None, "b": [None, [1.5, None]]}),
        ({"a": {"b": math.nan, "text": "\ud800"}}, {"a": {"b": None, "text": "\ud800"}}),
        ({"path": os}, {"path": str(os)}),
    ],
)
def test_what_json_lacks_is_replaced(value: dict[str, Any], expected: dict[str, Any]) -> None:
    assert json.loads(json_line(value)) == expected
