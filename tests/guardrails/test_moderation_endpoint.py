"""The moderation endpoint over real sockets: what is asked, what counts as an answer, and every way to fail."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.scripted_server import (
    CloseBeforeResponse,
    Reset,
    Script,
    ScriptedServer,
    Send,
    WaitForClientClose,
    wait_until,
)
from tests.support.wire import error_response, head, json_response
from utils.errors import ConfigError, ProtocolError
from utils.events import Adapted, Blocked, Event, Finished, Flagged, TextDelta
from utils.guardrails.moderation import ModerationPolicy, ModerationStatistics
from utils.guardrails.toxicity import ToxicityMode
from utils.moderated_stream import moderated
from utils.moderation import OpenAIModeration, moderation_backend
from utils.openai_stream import OpenAIBackend
from utils.run_context import RunContext

KEY = "sk-test-0123456789abcdef"
SECRET = "zebra crossing"
JSON = "application/json"
TEXT = f"An awful {SECRET}. "
STOP = Finished("stop")


class Local:
    def score(self, text: str) -> float:
        return 0.99 if "awful" in text else 0.01


def results(*toxic: bool) -> dict[str, Any]:
    return {
        "id": "modr-1",
        "model": "omni-moderation-latest",
        "results": [
            {
                "flagged": one,
                "categories": {"harassment": one, "hate": False},
                "category_scores": {"harassment": 0.93 if one else 0.002, "hate": 0.01},
            }
            for one in toxic
        ],
    }


def answer(value: object, status: int = 200, headers: dict[str, str] | None = None) -> list[Send]:
    return [Send(json_response(value, status=status, headers=headers))]


def judge(server: ScriptedServer, *texts: str) -> list[tuple[float, bool]]:
    async def main() -> list[tuple[float, bool]]:
        backend = OpenAIBackend(base_url=server.base_url, api_key=KEY)
        try:
            return [(one.score, one.is_toxic) for one in await OpenAIModeration(backend).judge(texts)]
        finally:
            await backend.aclose()

    return asyncio.run(main())


def through(
    server: ScriptedServer, mode: ToxicityMode, text: str = TEXT, *, timeout_s: float = 5.0
) -> tuple[list[Event], ModerationStatistics]:
    figures: list[ModerationStatistics] = []

    async def stream() -> AsyncIterator[Event]:
        yield TextDelta(text)
        yield STOP

    async def main() -> list[Event]:
        backend = moderation_backend(base_url=server.base_url, api_key=KEY)
        context = RunContext(clock=asyncio.get_running_loop().time, started_s=time.monotonic())
        stage = moderated(
            stream(),  # type: ignore[arg-type]
            OpenAIModeration(backend),
            ModerationPolicy(mode, call_timeout_s=timeout_s),
            local=Local(),
            context=context,
            on_statistics=figures.append,
        )
        try:
            return [event async for event in stage]
        finally:
            await backend.aclose()

    events = asyncio.run(main())
    (one,) = figures
    return events, one


def test_the_request_names_the_model_and_holds_the_sentences() -> None:
    with ScriptedServer([answer(results(False, True))]) as server:
        assert judge(server, "One.", "Two.") == [(0.01, False), (0.93, True)]
        (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/moderations")
    assert request.json == {"model": "omni-moderation-latest", "input": ["One.", "Two."]}
    assert request.headers["authorization"] == f"Bearer {KEY}"


FULL = results(True)["results"][0]


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ([], "results"),
        ("text", "results"),
        ({}, "results"),
        ({"results": None}, "results"),
        ({"results": []}, "results"),
        (results(True, False), "results"),
        ({"results": ["flagged"]}, "results"),
        ({"results": [{**FULL, "flagged": None}]}, "flagged"),
        ({"results": [{**FULL, "flagged": 1}]}, "flagged"),
        ({"results": [{"flagged": True}]}, "category_scores"),
        ({"results": [{**FULL, "category_scores": {}}]}, "category_scores"),
        ({"results": [{**FULL, "category_scores": {"hate": "0.9"}}]}, "category_scores"),
        ({"results": [{**FULL, "category_scores": {"hate": None}}]}, "category_scores"),
        ({"results": [{**FULL, "category_scores": {"hate": True}}]}, "category_scores"),
    ],
)
def test_an_answer_without_a_judgement_for_each_sentence_is_none(value: object, field: str) -> None:
    with ScriptedServer([answer(value)]) as server, pytest.raises(ProtocolError) as raised:
        judge(server, SECRET)
    assert raised.value.message == f"the moderation endpoint sent no usable {field!r}"


def test_an_answer_that_cannot_be_decoded_is_not_kept_in_the_error() -> None:
    with ScriptedServer([[Send(head(content_type=JSON, length=len(SECRET)) + SECRET.encode())]]) as server:
        with pytest.raises(ProtocolError) as raised:
            judge(server, "x")
        assert raised.value.message == f"{server.base_url}/moderations did not answer with JSON"
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


FAULTS: list[tuple[str, Script, str]] = [
    ("401", [Send(error_response(401, f"no key for {SECRET}"))], "auth failed (401)"),
    ("429", answer({"error": {"message": SECRET}}, 429, {"retry-after": "9"}), "rate limited (429)"),
    ("500", answer({"error": {"message": SECRET}}, 500), "server failure (500)"),
    ("404", answer({"error": {"message": SECRET}}, 404), "model not found (404)"),
    ("redirect", answer({}, 307, {"location": "http://127.0.0.1:9/"}), "server failure (307)"),
    ("not JSON", [Send(head(content_type=JSON, length=9) + b"<html>oh ")], "protocol error"),
    ("not UTF-8", [Send(head(content_type=JSON, length=4) + b'"\xff"}')], "protocol error"),
    ("no judgement", answer({"results": [{"text": SECRET}]}), "protocol error"),
    ("closed", [CloseBeforeResponse()], "connection lost"),
    ("reset", [Reset()], "connection lost"),
    ("silent", [WaitForClientClose()], "no judgement within 0.2 s"),
    ("half a body", [Send(json_response(results(True))[:-9]), WaitForClientClose()], "no judgement within 0.2 s"),
]  # fmt: skip


@pytest.mark.parametrize("mode", ["flag", "stop", "hold"])
@pytest.mark.parametrize(("script", "words"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS])
def test_whatever_fails_the_local_model_judges_and_nothing_is_quoted_or_left_open(
    script: Script, words: str, mode: ToxicityMode, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with ScriptedServer([script]) as server:
        events, figures = through(server, mode, timeout_s=0.2)
        wait_until(lambda: server.open_connections() == 0)
    (adapted,) = [event for event in events if isinstance(event, Adapted)]
    assert adapted.reason == f"{words}; what the endpoint does not judge is judged on this machine"
    assert (figures.failures, figures.judged_locally, figures.judged_remotely) == (1, 1, 0)
    shown = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert shown == ("" if mode == "hold" else TEXT)
    assert events[-1] == (STOP if mode == "flag" else Blocked("toxicity"))
    quoted = repr([event for event in events if not isinstance(event, TextDelta)]) + repr(figures) + caplog.text
    assert SECRET not in quoted
    assert KEY not in quoted


@pytest.mark.parametrize("mode", ["flag", "stop", "hold"])
def test_a_judgement_of_the_endpoint_counts_whatever_the_local_model_thinks(mode: ToxicityMode) -> None:
    for text, toxic in ((TEXT, False), ("Quite fine. ", True)):
        with ScriptedServer([answer(results(toxic))]) as server:
            events, figures = through(server, mode, text)
            wait_until(lambda: server.open_connections() == 0)
        assert (figures.judged_remotely, figures.judged_locally, figures.failures) == (1, 0, 0)
        assert (Flagged("toxicity", 0, len(text) - 1) in events) == (toxic and mode == "flag")
        assert (events[-1] == Blocked("toxicity")) == (toxic and mode != "flag")


@pytest.mark.parametrize("key", [None, "", "  "])
@pytest.mark.parametrize("base_url", [None, "embedded", "http://127.0.0.1:9/v1"])
def test_without_a_key_nothing_is_sent(key: str | None, base_url: str | None) -> None:
    with pytest.raises(ConfigError) as raised:
        moderation_backend(base_url=base_url, api_key=key)
    assert raised.value.hint == "set OPENAI_API_KEY, or use --toxicity-classifier lexical"


@pytest.mark.parametrize(
    ("base_url", "used"),
    [
        (None, "https://api.openai.com/v1"),
        ("embedded", "https://api.openai.com/v1"),
        ("http://127.0.0.1:9/v1", "http://127.0.0.1:9/v1"),
    ],
)
def test_a_key_goes_to_its_own_server(base_url: str | None, used: str) -> None:
    async def main() -> str:
        backend = moderation_backend(base_url=base_url, api_key=KEY)
        await backend.aclose()
        return backend.base_url

    assert asyncio.run(main()) == used
