"""The paced server keeps its schedule, its limits and its records."""

from __future__ import annotations

import http.client
import itertools
import json
import time
from typing import Any

import pytest

from tests.support.paced_server import PacedServer
from tests.support.scripted_server import wait_until


def ask(server: PacedServer, method: str, path: str, body: dict[str, Any] | None = None) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", server.server.port, timeout=5)
    connection.request(method, path, json.dumps(body) if body is not None else None)
    return connection.getresponse()


def stream(server: PacedServer, **body: Any) -> list[dict[str, Any]]:
    """The chunks of a streamed answer; checks that it ends with [DONE]."""
    with ask(server, "POST", "/v1/chat/completions", {"stream": True, "messages": [], **body}) as response:
        events = response.read().decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]


def answer(chunks: list[dict[str, Any]]) -> tuple[str, str]:
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    return "".join(choice["delta"].get("content", "") for choice in choices), choices[-1]["finish_reason"]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, ("word1 word2 word3 word4 ", "stop")),
        ({"max_tokens": 2}, ("word1 word2 ", "length")),
        ({"max_completion_tokens": 1}, ("word1 ", "length")),
        ({"max_tokens": 4}, ("word1 word2 word3 word4 ", "stop")),
        ({"stop": "rd3"}, ("word1 word2 wo", "stop")),
        ({"stop": ["word4", " word3"]}, ("word1 word2", "stop")),
        ({"stop": ["2 w"], "max_tokens": 1}, ("word1 ", "length")),
        ({"stop": "absent"}, ("word1 word2 word3 word4 ", "stop")),
        ({"stop": "word1"}, ("", "stop")),
        ({"stop": None, "max_tokens": None}, ("word1 word2 word3 word4 ", "stop")),
    ],
)
def test_the_text_is_known_and_limits_are_honoured(limits: dict[str, Any], expected: tuple[str, str]) -> None:
    with PacedServer(4) as server:
        assert answer(stream(server, **limits)) == expected


def test_the_pieces_can_be_given() -> None:
    with PacedServer(pieces=["ca", "fé", "!"]) as server:
        assert answer(stream(server)) == (server.text, "stop") == ("café!", "stop")


def test_usage_comes_only_if_asked_for_and_after_the_finish_reason() -> None:
    with PacedServer(3) as server:
        assert all("usage" not in chunk for chunk in stream(server))
        *_, last = stream(server, stream_options={"include_usage": True})
    assert last["choices"] == []
    assert last["usage"] == {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


def test_each_piece_is_sent_on_schedule_and_its_time_is_known() -> None:
    with PacedServer(4, 0.03, first_delay_s=0.05) as server:
        asked_at = time.monotonic()
        stream(server)
        done_at = time.monotonic()
        (record,) = server.streams
    assert record.is_whole
    assert record.disconnected_after is None
    assert len(record.sent_at) == 4
    assert all(at >= asked_at + 0.05 + number * 0.03 for number, at in enumerate(record.sent_at))
    assert all(early <= late for early, late in itertools.pairwise([*record.sent_at, done_at]))


def test_a_client_that_leaves_is_noticed_with_the_pieces_it_got() -> None:
    with PacedServer(10_000, interval_s=0.01) as server:
        with ask(server, "POST", "/v1/chat/completions", {"stream": True}) as response:
            while b"word2 " not in response.readline():
                pass
        wait_until(lambda: server.open_connections() == 0)
        (record,) = server.streams
    assert record.disconnected_after is not None
    assert 2 <= record.disconnected_after == len(record.sent_at) < 10_000
    assert not record.is_whole


def test_stopping_the_server_is_not_mistaken_for_a_client_that_leaves() -> None:
    with PacedServer(3, 60) as server:
        response = ask(server, "POST", "/v1/chat/completions", {"stream": True})
        wait_until(lambda: server.streams and server.streams[0].sent_at)
    response.close()
    assert not server.streams[0].is_whole
    assert server.streams[0].disconnected_after is None


def test_a_request_without_stream_gets_one_object() -> None:
    with PacedServer(2) as server, ask(server, "POST", "/v1/chat/completions", {"messages": []}) as response:
        whole = json.load(response)
        assert whole["choices"][0]["message"] == {"role": "assistant", "content": server.text}
        assert whole["usage"]["completion_tokens"] == 2


def test_the_model_is_listed_and_other_paths_are_404() -> None:
    with PacedServer(model="m1") as server:
        with ask(server, "GET", "/v1/models") as response:
            assert [card["id"] for card in json.load(response)["data"]] == ["m1"]
        with ask(server, "GET", "/nothing") as response:
            assert response.status == 404
            assert "no such path" in json.load(response)["error"]["message"]
