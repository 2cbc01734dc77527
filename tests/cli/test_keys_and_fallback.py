"""A model that needs a key without one, and a key that does not open the door: said clearly, and never with the key."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.command_line import CommandLine, last_json, lines, rows
from tests.support.scripted_server import Close, ScriptedServer, Send
from tests.support.terminal import ProgramResult
from tests.support.wire import error_response, json_response, sse, stream_response

GPT_4 = ("--model", "gpt-4", "--temperature", "0.7")
LONG_KEY = "sk-proj-Zx81mQ0vTt5LwYc3"
MODES = ([], ["--json"], ["--events"], ["--quiet"])


@pytest.fixture(scope="module")
def cli(warm: CommandLine) -> CommandLine:
    """What is tested begins long after the imports."""
    return warm


# -- no key ----------------------------------------------------------------------------------------------------------


def test_without_a_key_the_embedded_model_answers_and_the_report_names_both(cli: CommandLine) -> None:
    result = cli.run(*GPT_4, "--json", env={"KAYGRAPH_MAX_TOKENS": "8"})
    report = last_json(result)
    (warning,) = [line for line in lines(result.errors) if line.startswith("warning: ")]

    assert result.exit_code == 0
    assert report["text"]
    assert (report["model_requested"], report["model_used"]) == ("gpt-4", "smollm2-135m-instruct")
    assert report["events"][0]["type"] == "fell_back"
    assert "gpt-4" in warning
    assert "smollm2-135m-instruct" in warning
    assert "key" in warning


@pytest.mark.parametrize("mode", MODES[:2], ids=" ".join)
def test_without_a_key_and_without_the_fallback_it_is_a_configuration_error(cli: CommandLine, mode: list[str]) -> None:
    result = cli.run(*GPT_4, "--no-fallback", *mode)
    error, hint = lines(result.errors)

    assert result.exit_code == 78
    assert error.startswith("error: gpt-4 needs an API key")
    assert hint.startswith("hint: ")
    assert "OPENAI_API_KEY" in hint
    if mode:
        report = last_json(result)
        assert (report["outcome"], report["exit_code"], report["model_requested"]) == ("failed", 78, "gpt-4")
        assert report["error"]["code"] == "config_error"
    else:
        assert result.stdout == b""


# -- a bad key -------------------------------------------------------------------------------------------------------


@pytest.fixture
def refusing(request: pytest.FixtureRequest) -> Iterator[ScriptedServer]:
    """A server that knows no key, and repeats the one that it was given."""
    message = f"Incorrect API key provided: {request.param}. You can find your key in your account ({request.param})."
    response = error_response(401, message, kind="invalid_request_error", code="invalid_api_key")
    with ScriptedServer(default=[Send(response), Close()]) as server:
        yield server


def _refused(cli: CommandLine, server: ScriptedServer, *args: str, key: str) -> ProgramResult:
    result = cli.run(*args, "--base-url", server.base_url, "--model", "gpt-4", "Hi.", env={"OPENAI_API_KEY": key})
    (request,) = server.requests
    assert request.headers["authorization"] == f"Bearer {key}"
    return result


@pytest.mark.parametrize("mode", MODES, ids=" ".join)
@pytest.mark.parametrize(("refusing", "key"), [("sk-bad", "sk-bad")], indirect=["refusing"])
def test_a_refused_key_is_an_error_of_two_lines_that_never_shows_it(
    cli: CommandLine, refusing: ScriptedServer, key: str, mode: list[str]
) -> None:
    result = _refused(cli, refusing, *mode, key=key)
    error, hint = lines(result.errors)

    assert result.exit_code == 77
    assert key.encode() not in result.stdout + result.stderr
    assert error.startswith("error: ")
    assert "401" in error
    assert hint.startswith("hint: ")
    assert "OPENAI_API_KEY" in hint
    if mode in (["--json"], ["--events"]):
        report = last_json(result)
        assert (report["outcome"], report["exit_code"]) == ("unavailable", 77)
        assert report["error"]["code"] == "auth_failed"
    else:
        assert result.stdout == b""


@pytest.mark.parametrize("place", ["status", "stream", "json"])
def test_a_message_that_is_cut_within_the_key_shows_no_part_of_it(cli: CommandLine, place: str) -> None:
    key = LONG_KEY
    # Messages are shown up to 300 characters.
    error = {"message": f"{'x' * 285} {key} is wrong.", "type": "invalid_request_error", "code": "invalid_api_key"}
    responses = {
        "status": json_response({"error": error}, status=401),
        "stream": stream_response(sse({"error": error})),
        "json": json_response({"error": error}),
    }
    with ScriptedServer([[Send(responses[place]), Close()]]) as server:
        result = _refused(cli, server, "--json", key=key)

    assert result.exit_code == 77
    assert key[:6].encode() not in result.stdout + result.stderr


@pytest.mark.parametrize("mode", ["text", "--events"])
def test_a_key_in_the_prompt_is_never_sent(cli: CommandLine, mode: str) -> None:
    key = LONG_KEY
    args = [] if mode == "text" else [mode]
    with ScriptedServer(default=[Close()]) as server:
        result = cli.run(*args, "--base-url", server.base_url, f"Is {key} a good key?", env={"OPENAI_API_KEY": key})
        assert server.connections == []

    assert result.exit_code == 4
    assert key.encode() not in result.stdout + result.stderr
    assert len(lines(result.errors)) <= 3
    if args:
        assert rows(result)[-1]["outcome"] == "rejected"
