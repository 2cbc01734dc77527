"""What `doctor` says about the server that a run would ask: it is really asked for its models."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.commands.doctor_runs import KEY, findings, run
from tests.support.scripted_server import Action, CloseBeforeResponse, ScriptedServer, Send, WaitForClientClose
from tests.support.wire import error_response, head, json_response
from utils.diagnosis import models


def models_response(*names: str) -> Send:
    return Send(json_response({"object": "list", "data": [{"id": name} for name in names]}))


@pytest.mark.parametrize(
    ("listed", "model", "status", "detail", "hint"),
    [
        (["a"], None, "ok", "a run would ask a, the only model that it lists", ""),
        (["a", "b"], None, "ok", "a run would ask a, the first of the 2 models that it lists", "--model NAME chooses"),
        (["a\x1b[2J\nb"], None, "ok", "a run would ask a [2J b, the only model that it lists", ""),
        (["a", "b"], "b", "ok", "b is listed (2 models)", ""),
        (["llama3.2:latest"], "llama3.2", "ok", "llama3.2 is listed (1 model)", ""),
        (
            ["qwen3", "llama3.2:1b", "llama3.2:3b"],
            "lama3.2",
            "warn",
            "lama3.2 is not among the 3 models that {url} lists",
            "it has llama3.2:3b, llama3.2:1b and more: --model NAME",
        ),
        (
            ["a", "b", "c", "d"],
            "xyz",
            "warn",
            "xyz is not among the 4 models that {url} lists",
            "it has a, b, c and more: --model NAME",
        ),
        (["a"], "xyz", "warn", "xyz is not among the 1 model that {url} lists", "it has a: --model NAME"),
        ([], "xyz", "warn", "xyz is not among the 0 models that {url} lists", "a run may end with exit code 78"),
    ],
)
def test_the_model_of_a_run_is_looked_up_in_the_list(
    listed: list[str], model: str | None, status: str, detail: str, hint: str
) -> None:
    with ScriptedServer([[models_response(*listed)]]) as server:
        arguments = ["--base-url", server.base_url, *(["-m", model] if model else [])]
        row = findings(*arguments)["server", "models"]
    assert (row["status"], row["hint"]) == (status, hint)
    assert row["detail"] == detail.replace("{url}", server.base_url)
    [request] = server.requests
    assert (request.method, request.path) == ("GET", "/v1/models")


def test_the_key_is_sent_and_never_shown() -> None:
    refusal = Send(error_response(401, f"Incorrect API key provided: {KEY}", code="invalid_api_key"))
    for form in ((), ("--json",)):
        with ScriptedServer([[refusal]]) as server:
            result = run("--base-url", server.base_url, "--api-key", KEY, *form)
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
        assert result.exit_code == 77
        assert "Incorrect API key provided" in result.stdout
        assert KEY not in result.stdout
        assert KEY[3:-4] not in result.stdout


NOT_LISTED = "m may answer all the same; if not, check --base-url and --model"
NAME_ONE = "name a model with --model; if it is not found either, check --base-url"
CHECK_KEY = "check OPENAI_API_KEY or --api-key, and that the key belongs to this server"


@pytest.mark.parametrize(
    ("action", "said", "code", "hint"),
    [
        (Send(error_response(404, "no such path")), "{url} answered 404: no such path", 78, NAME_ONE),
        (Send(error_response(405, "not allowed")), "{url} answered 405: not allowed", 65, NAME_ONE),
        (Send(error_response(501, "not built")), "{url} answered 501: not built", 69, NAME_ONE),
        (Send(json_response({"hello": "there"})), "{url}/models did not list any models", 69, NAME_ONE),
        (
            Send(head(content_type="text/html", length=2) + b"hi"),
            "{url}/models did not list any models",
            69,
            NAME_ONE,
        ),
        (WaitForClientClose(), "{url}/models did not answer in time", 69, NAME_ONE),
        (Send(error_response(403, "scope missing")), "{url} answered 403: scope missing", 77, CHECK_KEY),
        (Send(error_response(429, "slow down")), "{url} answered 429: slow down", 75, "wait and run again"),
    ],
)
def test_a_server_without_a_list_is_a_warning_unless_a_run_needs_the_list(
    monkeypatch: pytest.MonkeyPatch, action: Action, said: str, code: int, hint: str
) -> None:
    monkeypatch.setattr(models, "SERVER_TIMEOUT_S", 0.3)
    with ScriptedServer([[action]]) as server:
        said = said.replace("{url}", server.base_url)
        row = findings("--base-url", server.base_url, "-m", "m")["server", "models"]
        assert (row["status"], row["detail"], row["hint"]) == ("warn", f"not listed: {said}", NOT_LISTED)
        row = findings("--base-url", server.base_url, code=code)["server", "problem"]
        assert (row["status"], row["detail"]) == ("fail", said)
        assert row["hint"].startswith(hint)


def test_an_empty_list_stops_a_run_that_names_no_model() -> None:
    with ScriptedServer([[models_response()]]) as server:
        row = findings("--base-url", server.base_url, code=78)["server", "problem"]
    assert (row["detail"], row["hint"]) == (f"{server.base_url} lists no models", "name one with --model")


@contextmanager
def speaking(answer: bytes) -> Iterator[int]:
    """The port of a server that says *answer* to one connection, whatever it is sent."""

    def serve() -> None:
        client, _ = listener.accept()
        with client:
            client.sendall(answer)
            client.recv(65536)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(5)
        assert not thread.is_alive()


def refuse_name(*arguments: object, **options: object) -> list[object]:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def test_a_server_that_nobody_reaches_fails_as_a_run_would(monkeypatch: pytest.MonkeyPatch) -> None:
    for model in ((), ("-m", "m")):
        with socket.create_server(("127.0.0.1", 0)) as unused:
            port = unused.getsockname()[1]
        row = findings("--base-url", f"http://127.0.0.1:{port}/v1", *model, code=69)["server", "problem"]
        assert row["detail"] == f"cannot reach http://127.0.0.1:{port}/v1: connection refused"
        assert row["hint"]

        with speaking(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
            row = findings("--base-url", f"https://127.0.0.1:{port}/v1", *model, code=69)["server", "problem"]
        assert row["detail"].startswith(f"cannot reach https://127.0.0.1:{port}/v1: TLS: ")

        with ScriptedServer([[CloseBeforeResponse()]]) as server:
            row = findings("--base-url", server.base_url, *model, code=69)["server", "problem"]
        assert row["detail"] == f"the connection to {server.base_url} broke"

        with ScriptedServer([[Send(error_response(503, "loading"))]]) as server:
            row = findings("--base-url", server.base_url, *model, code=69)["server", "problem"]
        assert row["detail"] == f"{server.base_url} answered 503: loading"

        with monkeypatch.context() as patch:
            patch.setattr(socket, "getaddrinfo", refuse_name)
            row = findings("--base-url", "http://no.such.host.test/v1", *model, code=69)["server", "problem"]
        assert row["detail"] == "cannot reach http://no.such.host.test/v1: the host name cannot be resolved"


def test_a_run_against_the_embedded_model_asks_no_server() -> None:
    assert not [section for section, _ in findings() if section == "server"]
