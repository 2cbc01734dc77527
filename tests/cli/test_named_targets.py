"""Targets by name on the wire: each is asked with its own key, and nobody with another one's."""

from __future__ import annotations

from pathlib import Path

from tests.support.scripted_server import Close, ScriptedServer, Send
from tests.support.terminal import run_program
from tests.support.wire import delta, error_response, finish, sse, stream_response

FAST_KEY, SLOW_KEY, GENERAL_KEY = "fast-key-0123456789", "slow-key-0123456789", "general-key-0123456789"


def test_a_key_goes_to_its_target_only_and_not_along_the_chain(tmp_path: Path) -> None:
    down = [Send(error_response(503, "down")), Close()]
    answer = [Send(stream_response(sse(delta("Hello.")), sse(finish()), sse("[DONE]"))), Close()]
    with (
        ScriptedServer(default=down) as fast,
        ScriptedServer(default=down) as slow,
        ScriptedServer(default=answer) as third,
        ScriptedServer(default=answer) as exported,
    ):
        config = tmp_path / "config.toml"
        config.write_text(
            f'[targets.fast]\nbase_url = "{fast.base_url}"\nmodel = "small"\nkey_env = "FAST_KEY"\n'
            f'[targets.slow]\nbase_url = "{slow.base_url}"\nmodel = "large"\nkey_env = "SLOW_KEY"\nmax_tokens = 7\n',
            encoding="utf-8",
        )
        arguments = ["-m", "fast", "--fallback", "slow", "--fallback", f"m@{third.base_url}", "--retries", "0", "Hi."]
        result = run_program(
            ["--config", str(config), *arguments],
            env={
                "FAST_KEY": FAST_KEY,
                "SLOW_KEY": SLOW_KEY,
                "OPENAI_API_KEY": GENERAL_KEY,
                "OPENAI_BASE_URL": exported.base_url,
            },
        )
        assert (result.exit_code, result.text) == (0, "Hello.\n")
        assert [request.headers.get("authorization") for request in fast.requests] == [f"Bearer {FAST_KEY}"]
        assert {request.headers.get("authorization") for request in slow.requests} == {f"Bearer {SLOW_KEY}"}
        assert [request.headers.get("authorization") for request in third.requests] == [None]
        assert exported.requests == []
        bodies = [server.requests[0].json for server in (fast, slow, third)]
        assert [body["model"] for body in bodies] == ["small", "large", "m"]
        limits = [body.get("max_tokens", body.get("max_completion_tokens")) for body in bodies]
        assert limits == [None, 7, None]
    assert not any(key.encode() in result.stdout + result.stderr for key in (FAST_KEY, SLOW_KEY, GENERAL_KEY))
