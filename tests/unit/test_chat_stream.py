"""What chunks mean, and when an answer is whole."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.chat_stream import ChatStreamDecoder
from utils.errors import AnswerTooLong, ProviderError
from utils.events import Aborted, Event, Finished, Flagged, Opened, ReasoningDelta, TextDelta, TokenLogprob, Usage


def sse(*payloads: Any) -> bytes:
    return b"".join(
        b"data: " + (p if isinstance(p, bytes) else json.dumps(p, ensure_ascii=False).encode()) + b"\n\n"
        for p in payloads
    )


def delta(text: str | None = None, *, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"model": "m", "choices": [{"index": 0, "delta": {"content": text, **more}, "finish_reason": finish}]}


USAGE = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "new_field": {}}}
DONE = b"[DONE]"


def run(data: bytes, cut: int | None = None, **options: Any) -> tuple[str, list[Event], Finished | Aborted]:
    decoder = ChatStreamDecoder(target="t", attempt=1, **options)
    events: list[Event] = []
    for chunk in [data] if cut is None else [data[i : i + cut] for i in range(0, len(data), cut)]:
        events += decoder.feed(chunk)
    last, verdict = decoder.finish()
    events += last
    return "".join(e.text for e in events if isinstance(e, TextDelta)), events, verdict


def verdict_name(verdict: Finished | Aborted) -> str:
    return verdict.finish_reason if isinstance(verdict, Finished) else verdict.error.code


WHOLE = {
    "plain": sse(delta("Hel"), delta("lo"), delta(finish="stop"), USAGE, DONE),
    "text and finish in one chunk": sse(delta("Hel"), delta("lo", finish="stop"), DONE),
    "no [DONE]": sse(delta("Hello"), delta(finish="stop")),
    "no empty line at the end": sse(delta("Hello"), delta(finish="stop"))[:-2],
    "role chunk first": sse(delta("", role="assistant"), delta("Hello"), delta(finish="stop"), DONE),
    "no choices": sse({"choices": []}, delta("Hello"), delta(finish="stop"), DONE),
    "choices null": sse({"choices": None}, delta("Hello"), delta(finish="stop"), DONE),
    "unknown shape": sse({"foo": 1}, delta("Hello"), delta(finish="stop"), DONE),
    "obfuscation padding": sse({**delta("Hello"), "obfuscation": "xyz"}, delta(finish="stop"), DONE),
    "several deltas in one chunk": sse(
        {"choices": [delta("Hel")["choices"][0], delta("lo")["choices"][0]]}, delta(finish="stop"), DONE
    ),
    "another choice is not ours": sse(
        delta("Hello"),
        {"choices": [{"index": 1, "delta": {"content": "NO"}, "finish_reason": "stop"}]},
        delta(finish="stop"),
        DONE,
    ),
    "comments": b": ping\n\n" + sse(delta("Hello")) + b": ping\n\n" + sse(delta(finish="stop"), DONE),
    "garbage field lines": b"garbage\n\n" + sse(delta("Hello"), delta(finish="stop"), DONE),
    "bad usage after the finish": sse(delta("Hello"), delta(finish="stop")) + b"data: {\n\n",
    "an error after the finish": sse(delta("Hello"), delta(finish="stop"), {"error": "late"}),
    "cut usage after the finish": sse(delta("Hello"), delta(finish="stop")) + b'data: {"usage": {"prompt',
    "bytes after [DONE]": sse(delta("Hello"), delta(finish="stop"), DONE, delta(" NO")),
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("cut", [None, 1, 7])
def test_whole_answers(name: str, cut: int | None) -> None:
    text, events, verdict = run(WHOLE[name], cut)
    assert text == "Hello"
    assert verdict == Finished("stop")
    assert sum(isinstance(event, Opened) for event in events) == 1


NOT_WHOLE = {
    "clean end between events": (sse(delta("Hel")), "Hel", "stream_truncated"),
    "clean end inside an event": (sse(delta("Hel"), delta("lo"))[:-20], "Hel", "stream_truncated"),
    "early [DONE]": (sse(delta("Hel"), DONE), "Hel", "stream_truncated"),
    "nothing": (b"", "", "not_a_stream"),
    "only [DONE]": (sse(DONE), "", "not_a_stream"),
    "HTML": (b"<html>\n\n</html>", "", "not_a_stream"),
    "null": (sse(delta("Hel"), None), "Hel", "protocol_error"),
    "not JSON": (sse(delta("Hel"), b"{nonsense"), "Hel", "protocol_error"),
    "wrong type": (sse(delta("Hel"), {"choices": [{"delta": {"content": 5}}]}), "Hel", "protocol_error"),
    "invalid UTF-8 in a string": (sse(delta("Hel"), b'{"model": "\xff"}'), "Hel", "protocol_error"),
    "invalid UTF-8 in the text": (
        sse(delta("Hel"), b'{"choices":[{"delta":{"content":"\xff"}}]}'),
        "Hel",
        "protocol_error",
    ),
    "error object": (sse(delta("Hel"), {"error": {"message": "broke"}}), "Hel", "server_failure"),
    "error string": (sse(delta("Hel"), {"error": "broke"}), "Hel", "server_failure"),
    "event: error": (sse(delta("Hel")) + b'event: error\ndata: {"message": "x"}\n\n', "Hel", "server_failure"),
    "event: error, not JSON": (sse(delta("Hel")) + b"event: error\ndata: overloaded\n\n", "Hel", "server_failure"),
    "finish_reason error": (sse(delta("Hel"), delta(finish="error")), "Hel", "server_failure"),
    "quota": (sse({"error": {"code": "insufficient_quota"}}), "", "auth_failed"),
    "rate limit": (sse({"error": {"type": "rate_limit_error"}}), "", "rate_limited"),
    "context too long": (sse({"error": {"type": "exceed_context_size_error"}}), "", "request_refused"),
    "content filter": (sse(delta("Hel"), delta(finish="content_filter"), DONE), "Hel", "content_filtered"),
}


@pytest.mark.parametrize("name", NOT_WHOLE)
@pytest.mark.parametrize("cut", [None, 1, 7])
def test_answers_that_are_not_whole_keep_their_text_and_say_why(name: str, cut: int | None) -> None:
    data, expected_text, expected = NOT_WHOLE[name]
    text, _, verdict = run(data, cut)
    assert text == expected_text
    assert verdict_name(verdict) == expected


def test_done_alone_completes_only_where_that_is_declared() -> None:
    data = sse(delta("Hello"), DONE)
    assert run(data, finish_reason_optional=True)[2] == Finished("stop")
    assert verdict_name(run(data)[2]) == "stream_truncated"
    assert verdict_name(run(sse(delta("Hello")), finish_reason_optional=True)[2]) == "stream_truncated"


def test_logprobs_usage_reasoning_and_refusal_are_decoded() -> None:
    logprobs = {"content": [{"token": "Hel", "logprob": -0.5, "bytes": [1], "top_logprobs": []}]}
    chunk = delta("Hel")
    chunk["choices"][0]["logprobs"] = logprobs
    data = sse(delta(None, reasoning_content="hm"), chunk, delta(None, refusal="no"), delta(finish="stop"), USAGE, DONE)
    _, events, _ = run(data)
    assert events == [
        Opened("t", "m", 1),
        ReasoningDelta("hm"),
        TextDelta("Hel", (TokenLogprob("Hel", -0.5),)),
        TextDelta("no"),
        Flagged("refusal", 3, 5),
        Usage(3, 2, 5),
    ]


def named(content: str | None, *logprobs: float, **more: Any) -> dict[str, Any]:
    """A chunk with as many tokens of the name t."""
    chunk = delta(content, **more)
    chunk["choices"][0]["logprobs"] = {"content": [{"token": "t", "logprob": value} for value in logprobs]}
    return chunk


STOP = delta(finish="stop")
AHEAD: dict[str, tuple[list[Any], list[tuple[int, ...]]]] = {
    "they wait for the next text": ([named("", -1), named("", -2), named("a", -3), STOP], [(-1, -2, -3)]),
    "which may have none": ([named("", -1), delta("a"), delta("b"), STOP], [(-1,), ()]),
    "what comes between does not matter": (
        [named("", -1), {"choices": []}, delta(""), USAGE, named("a", -2)],
        [(-1, -2)],
    ),
    "without text after them they are none": ([named("a", -1), named("", -2, finish="stop"), DONE], [(-1,)]),
    "those of a reasoning are none": (
        [named("", -1), delta(None, reasoning="r"), named("", -2, reasoning="r"), named("a", -3), STOP],
        [(-3,)],
    ),
    "those of a tool call are none": ([named(None, -1, tool_calls=[{}]), named("a", -2), STOP], [(-2,)]),
    "the newest 256 wait": (
        [named("", -9, -9), *(named("", -n) for n in range(300)), named("a", 1)],
        [(*range(-44, -300, -1), 1)],
    ),
    "malformed ones are left out": ([named("", "x"), named("a", -1), STOP], [(-1,)]),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", AHEAD)
@pytest.mark.parametrize("cut", [None, 7])
def test_logprobs_may_come_ahead_of_their_text(name: str, cut: int | None) -> None:
    chunks, expected = AHEAD[name]
    _, events, _ = run(sse(*chunks), cut)
    deltas = [event for event in events if isinstance(event, TextDelta)]
    assert [tuple(token.logprob for token in found.tokens) for found in deltas] == expected


def test_a_repeated_event_is_flagged_and_kept_but_not_a_short_repeated_token() -> None:
    _, events, _ = run(sse(delta("brown "), delta("brown "), delta("ha"), delta("ha"), delta(finish="stop")))
    assert [e for e in events if isinstance(e, Flagged)] == [Flagged("duplicated_event", 6, 12)]
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "brown brown haha"


@given(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=12), st.integers(1, 40))
def test_the_text_does_not_depend_on_the_cutting(texts: list[str], cut: int) -> None:
    encodable = [t.encode("utf-8", "ignore").decode() or "x" for t in texts]
    data = sse(*map(delta, encodable), delta(finish="stop"), DONE)
    text, _, verdict = run(data, cut)
    assert text == "".join(encodable)
    assert verdict == Finished("stop")


def test_text_behind_a_finish_reason_is_named_as_what_is_wrong() -> None:
    _, _, verdict = run(sse(delta("a", finish="stop"), delta("b"), DONE))
    assert isinstance(verdict, Aborted)
    assert verdict.error.message == "the stream ended after 2 characters, of which some came behind its finish_reason"
    assert "FINISH_REASON_OPTIONAL" not in verdict.error.hint


@pytest.mark.parametrize("cut", [None, 7])
def test_an_answer_without_end_is_an_error_that_nothing_follows(cut: int | None) -> None:
    data = sse(*(delta("1234567890") for _ in range(10)), delta("", finish="stop"), DONE)
    text, _, verdict = run(data, cut, max_answer_chars=100)
    assert (len(text), verdict) == (100, Finished("stop"))
    with pytest.raises(AnswerTooLong, match="t has written more than 99 characters") as caught:
        run(data, cut, max_answer_chars=99)
    assert not isinstance(caught.value, ProviderError)
