"""Servers that lie, stall or flood: the answer stays true, the deadlines hold, the key stays inside."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest

from tests.flow.harness import FlowRun, run_flow
from tests.support.sample_rules import sample_rules
from tests.support.scripted_server import Close, Connection, Pause, ScriptedServer, Send, WaitForClientClose
from tests.support.wire import DONE, delta, error_response, finish, head, json_response, sse, stream_response, usage
from utils.events import Flagged, TextDelta

KEY = "sk-proj-ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnop0123456789"


def play(*events: bytes, response_head: bytes | None = None, **options: Any) -> FlowRun:
    body = (response_head or head()) + b"".join(events)
    if response_head is None:
        body = stream_response(*events)
    with ScriptedServer([[Send(body), Close()]]) as server:
        return run_flow(server.base_url, **options)


@pytest.mark.parametrize("reason", ["abort", "insufficient_system_resource", "cancelled", "ERROR", "timeout"])
def test_a_finish_reason_that_is_no_completion_is_incomplete(reason: str) -> None:
    report = play(sse(delta("hello wor")), sse(finish(reason)), sse(DONE)).report
    assert (report.text, report.exit_code, report.outcome) == ("hello wor", 3, "incomplete")


@pytest.mark.parametrize("reason", ["", " ", "null", "None"])
def test_a_finish_reason_that_says_nothing_is_none(reason: str) -> None:
    report = play(sse(delta("hello wor")), sse(finish(reason)), sse(DONE)).report
    assert report.error is not None
    assert report.error.code == "stream_truncated"


@pytest.mark.parametrize("reason", ["stop", "STOP", "eos", "end_turn", "length", "model_length", "tool_calls"])
def test_finish_reasons_in_the_spellings_of_servers_are_complete(reason: str) -> None:
    assert play(sse(delta("hello")), sse(finish(reason)), sse(DONE)).report.exit_code == 0


def test_text_after_a_finish_reason_takes_it_back() -> None:
    run = play(sse(delta("hello")), sse(finish("stop")), sse(delta(" more te")), b'data: {"cho')
    assert (run.report.text, run.report.exit_code) == ("hello more te", 3)
    whole = play(sse(delta("hello")), sse(finish("stop")), sse(delta(" more")), sse(finish("stop")), sse(DONE))
    assert whole.report.exit_code == 0
    assert [e.rule for e in whole.events if isinstance(e, Flagged)] == ["text_after_finish"]


@pytest.mark.parametrize("interval_s", [0.0, 0.12])
def test_a_finish_reason_on_every_chunk_proves_nothing(interval_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utils.chat_reader._TAIL_S", 0.3)
    words = [f"w{n} " for n in range(5)]

    def script(end: bytes) -> Any:
        yield Send(head(length="until_close"))
        for word in words:
            yield Send(sse(delta(word) | {"choices": [{**delta(word)["choices"][0], "finish_reason": "stop"}]}))
            yield Pause(interval_s)
        yield Send(end) if end else WaitForClientClose()

    with ScriptedServer([lambda connection: script(sse(DONE))]) as server:
        whole = run_flow(server.base_url, deadline_s=2.0)
    assert (whole.report.text, whole.report.exit_code) == ("".join(words), 0)
    with ScriptedServer([lambda connection: script(b"")]) as server:
        silent = run_flow(server.base_url, deadline_s=0.8)
    assert (silent.report.text, silent.report.exit_code) == ("".join(words), 3)


@pytest.mark.parametrize(
    "choice",
    [
        {"index": 0, "message": {"role": "assistant", "content": "whole answer"}, "finish_reason": "stop"},
        {"index": 0, "text": "whole answer", "finish_reason": "stop"},
    ],
)
def test_text_in_the_place_of_deltas_is_not_lost(choice: dict[str, Any]) -> None:
    report = play(sse({"choices": [choice]}), sse(DONE)).report
    assert (report.text, report.exit_code) == ("whole answer", 0)


def test_a_compressed_body_of_several_members_is_whole() -> None:
    body = b"".join(gzip.compress(part) for part in (sse(delta("hel")), sse(delta("lo")), sse(finish("stop"))))
    run = play(response_head=head(length="until_close", headers={"Content-Encoding": "gzip"}) + body)
    assert (run.report.text, run.report.exit_code) == ("hello", 0)


def test_an_error_after_the_finish_is_said() -> None:
    run = play(sse(delta("hi")), sse(finish("stop")), sse({"error": {"message": "out of memory"}}))
    assert run.report.exit_code == 0
    assert [e.rule for e in run.events if isinstance(e, Flagged)] == ["error_after_finish"]


def dripping(*events: bytes, drip: bytes) -> list[Any]:
    def script(connection: Connection) -> Any:
        yield Send(head(length="until_close") + b"".join(events))
        while True:
            yield Pause(0.02)
            yield Send(drip)

    return [script]


@pytest.mark.parametrize("drip", [sse(usage()), sse(delta("")), b": ping\n\n", sse({"choices": []})])
def test_what_is_no_content_does_not_extend_the_idle_time(drip: bytes) -> None:
    with ScriptedServer(dripping(sse(delta("hello")), drip=drip)) as server:
        run = run_flow(server.base_url, deadline_s=0.4)
    assert run.report.error is not None
    assert run.report.error.code == "idle_timeout"
    assert run.seconds < 2.0


@pytest.mark.parametrize("drip", [sse(usage()), sse(delta("")), b": ping\n\n"])
def test_after_the_finish_reason_nothing_keeps_the_run_waiting(drip: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utils.chat_reader._TAIL_S", 0.3)
    with ScriptedServer(dripping(sse(delta("hello")), sse(finish("stop")), drip=drip)) as server:
        run = run_flow(server.base_url, deadline_s=30.0)
        short = run_flow(server.base_url, deadline_s=30.0, total_s=0.5)
    assert (run.report.text, run.report.exit_code) == ("hello", 0)
    assert run.seconds < 2.0
    assert (short.report.exit_code, short.seconds < 2.0) == (0, True)


def test_a_compressed_flood_keeps_neither_the_deadline_nor_the_memory() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    flood = b"".join(packer.compress(b"\n" * (1 << 20)) for _ in range(256)) + packer.flush()
    with ScriptedServer(
        [[Send(head(length="until_close", headers={"Content-Encoding": "gzip"}) + flood), WaitForClientClose()]]
    ) as server:
        run = run_flow(server.base_url, deadline_s=0.3)
    assert run.report.error is not None
    assert run.report.error.code == "first_token_timeout"
    assert run.seconds < 3.0


def test_another_compression_is_refused_with_its_name() -> None:
    run = play(response_head=head(length=0, headers={"Content-Encoding": "br"}))
    assert run.report.error is not None
    assert run.report.error.code == "not_a_stream"
    assert "'br'" in run.report.error.message


@pytest.mark.parametrize("status", [400, 500, 200])
def test_a_body_without_an_end_is_read_only_so_far(status: int) -> None:
    sent: list[int] = []

    def script(connection: Connection) -> Any:
        yield Send(head(status, content_type="application/json", length="until_close"))
        while True:
            yield Send(b"x" * 65_536)
            sent.append(65_536)

    with ScriptedServer([script]) as server:
        run = run_flow(server.base_url, deadline_s=5.0)
    assert run.report.exit_code in (65, 69)
    assert run.seconds < 4.0
    assert sum(sent) < 32 << 20  # what the kernel's buffers take


LEAKS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "content type": (head(length=0, content_type=f"text/html; k={KEY}"), {}),
    "error event without its empty line": (
        head(length="until_close") + sse({"error": {"message": f"bad {KEY}"}})[:-2],
        {},
    ),
    "finish_reason": (stream_response(sse(delta("hi")), sse(finish(KEY))), {}),
    "model field": (stream_response(sse(delta("hi", model=KEY)), sse(finish("stop"))), {}),
    "percent-encoded": (error_response(401, "bad " + KEY.replace("-", "%2D")), {}),
    **{
        f"broken by U+{ord(c):04X}": (stream_response(sse({"error": {"message": f"x {KEY[:20]}{c}{KEY[20:]}"}})), {})
        for c in "\x00\x1b\x7f\u061c\u180e\u2066\ufe0f\u034f\u3164\U000e0041\U000e0100"
    },
    "in pieces": (stream_response(sse({"error": {"message": [KEY[:20], KEY[20:]]}})), {}),
    "a model broken by NUL": (
        stream_response(sse(delta("hi", model=f"{KEY[:9]}\x00{KEY[9:]}")), sse(finish("stop"))),
        {},
    ),
    "content encoding": (head(length=0, headers={"Content-Encoding": KEY}), {}),
    "broken by a newline": (error_response(401, f"bad {KEY[:20]}\n{KEY[20:]}"), {}),
    "broken by an invisible character": (error_response(401, f"bad {KEY[:20]}\u200b{KEY[20:]}"), {}),
    **{f"cut at {n}": (error_response(401, "x" * n + " " + KEY), {}) for n in (240, 260, 280, 298)},
    **{
        f"in the stream, cut at {n}": (stream_response(sse({"error": {"message": "x" * n + " " + KEY}})), {})
        for n in (240, 290)
    },
}


@pytest.mark.parametrize("name", LEAKS)
def test_the_key_is_in_no_message(name: str) -> None:
    response, options = LEAKS[name]
    with ScriptedServer([[Send(response), Close()]]) as server:
        run = run_flow(server.base_url, api_key=KEY, **options)
    report = json.dumps(run.report.as_json(), ensure_ascii=False).replace("%2D", "-")
    visible = "".join(c for c in report if "!" <= c <= "~").lower()
    for length in range(len(KEY), 11, -1):
        assert KEY[:length].lower() not in visible


def test_a_key_in_the_list_of_models_is_not_suggested() -> None:
    missing = [Send(error_response(404, "no such model")), Close()]
    with ScriptedServer([missing, [Send(json_response({"data": [{"id": KEY}]})), Close()]]) as server:
        run = run_flow(server.base_url, api_key=KEY)
    assert run.report.error is not None
    assert KEY not in run.report.error.hint


def test_a_redirect_is_not_followed() -> None:
    with ScriptedServer([[Send(stream_response(sse(delta("not for you")), sse(finish("stop")))), Close()]]) as other:
        to = head(307, headers={"Location": f"{other.base_url}/chat/completions"}, length=0)
        with ScriptedServer([[Send(to), Close()]]) as server:
            run = run_flow(server.base_url, retries=2)
            assert len(server.requests) == 1
        assert not other.requests
    assert run.report.exit_code == 69
    assert run.report.error is not None
    assert "redirect" in run.report.error.hint


MALFORMED: dict[str, bytes] = {
    "usage with strings": b'{"choices": [], "usage": {"prompt_tokens": "three"}}',
    "enormous usage": b'{"choices": [], "usage": {"completion_tokens": ' + b"9" * 400 + b"}}",
    "negative usage": b'{"choices": [], "usage": {"completion_tokens": -5}}',
    "usage is a list": b'{"choices": [], "usage": [1]}',
    "logprobs with strings": b'{"choices": [{"delta": {}, "logprobs": {"content": [{"logprob": "x"}]}}]}',
    "model is a list": b'{"model": ["m"], "choices": []}',
    "deeply nested unknown": b'{"x": ' + b"[" * 900 + b"]" * 900 + b"}",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_extra_costs_the_answer_nothing(name: str) -> None:
    report = play(sse(delta("hello")), b"data: " + MALFORMED[name] + b"\n\n", sse(finish("stop")), sse(DONE)).report
    assert (report.text, report.exit_code) == ("hello", 0)


@pytest.mark.parametrize("name", [b"", b"event: error\n"])
@pytest.mark.parametrize("key", [b"x", b"error"])
def test_endless_nesting_is_a_protocol_error_not_a_bug(name: bytes, key: bytes) -> None:
    nested = name + b'data: {"' + key + b'": ' + b"[" * 20_000 + b"]" * 20_000 + b"}\n\n"
    report = play(sse(delta("hello")), nested).report
    assert (report.text, report.exit_code) == ("hello", 3)


@pytest.mark.parametrize("variable", ["http_proxy", "ALL_PROXY", "all_proxy"])
def test_a_server_on_this_machine_is_never_asked_through_a_proxy(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    assert play(sse(delta("hello")), sse(finish("stop")), sse(DONE)).report.text == "hello"


@pytest.mark.parametrize(
    ("variable", "value"), [("ALL_PROXY", "socks5://127.0.0.1:1"), ("ALL_PROXY", "foo://x"), ("SSL_CERT_FILE", "/no")]
)
def test_a_proxy_or_certificate_setting_that_cannot_work_is_a_configuration_error(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from utils.errors import ConfigError
    from utils.openai_stream import OpenAIBackend

    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match="no HTTP client can be made"):
        OpenAIBackend(base_url="https://example.invalid/v1", api_key=None)


def test_tokens_that_differ_from_the_text_do_not_pass_the_guard() -> None:
    ahead = delta("Mail ", logprobs=[("bob@example.com", -1.0)])
    run = play(sse(ahead), sse(delta("bob@example.com ok")), sse(finish("stop")), sse(DONE), rules=sample_rules())
    assert run.report.text == "Mail [EMAIL] ok"
    assert "bob" not in "".join(t.text for e in run.events if isinstance(e, TextDelta) for t in e.tokens)


@pytest.mark.parametrize("told", [20, 16, 12])
def test_the_beginning_of_a_key_in_an_error_is_not_shown(told: int) -> None:
    from utils.provider_errors import key_scrubber

    key = "sk-test-SECRETSECRET12345678"
    scrub = key_scrubber(key)
    assert scrub(f"bad key {key[:told]}... given") == "bad key [key]... given"
    assert scrub(f"bad key {key} given") == "bad key [key] given"
    assert scrub("sk-test- is a prefix") == "sk-test- is a prefix"


@pytest.mark.parametrize("part", [slice(4, None), slice(-12, None), slice(6, 20), slice(None, 13)])
@pytest.mark.parametrize("around", ["{}", "tail {}!", "'{}'", "&#115;{}", "…{}…"])
def test_no_long_part_of_a_key_in_an_error_is_shown(part: slice, around: str) -> None:
    from utils.provider_errors import key_scrubber

    key = "sk-test-SECRETSECRET12345678"
    scrub = key_scrubber(key)
    shown = scrub(around.format(key[part]))
    assert "[key]" in shown
    assert "SECRET" not in shown
    assert "45678" not in shown
    assert scrub(around.format(key[part].swapcase())) == shown
    assert scrub("SECRETSECRE is too short to tell") == "SECRETSECRE is too short to tell"


def test_a_message_without_end_is_cut_before_anybody_searches_it() -> None:
    from utils.provider_errors import key_scrubber

    assert len(key_scrubber("sk-test-SECRETSECRET12345678")("x" * 10_000_000)) < 100_000
