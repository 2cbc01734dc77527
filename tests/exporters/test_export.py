"""What is sent over real HTTP, and that no collector, however it fails, changes or holds up anything."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.exporters.records import (
    PROMPT,
    WORDS,
    collected,
    collector,
    cut_run,
    refused_run,
    run_record,
    settings,
    whole_run,
)
from tests.support.scripted_server import Close, Pause, Reset, ScriptedServer, Send, SendSlowly
from utils.errors import Unreachable
from utils.events import Finished
from utils.exporters import export
from utils.exporters.export import PIP_LINE, export_run
from utils.run_record import RunRecord

ROOT = Path(__file__).resolve().parents[2]
SLACK_S = 0.4
"""What a busy machine may add to the bound."""


def url_of(server: ScriptedServer) -> str:
    return f"http://127.0.0.1:{server.port}"


@pytest.fixture(autouse=True)
def no_otel_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "OTEL_METRICS_EXPORTER",
        "OTEL_SEMCONV_STABILITY_OPT_IN",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "OTEL_SDK_DISABLED",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True, scope="module")
def loaded() -> None:
    """The packages are loaded before anything is timed: the first load of a cold disk is not the exporter's."""
    import utils.exporters.otel  # noqa: F401


# -- what a collector gets -------------------------------------------------------------------------------------------


def test_a_collector_gets_the_span_and_the_metrics(capfd: pytest.CaptureFixture[str]) -> None:
    with collector() as server:
        assert export_run(cut_run(), settings(otel=url_of(server))) == []
        got = collected(server)
        assert [request.path for request in server.requests] == ["/v1/traces", "/v1/metrics"]
    (span,) = got.spans
    assert (span.name, span.kind, span.status.code, span.status.message) == ("chat", 3, 2, "stream_truncated")
    assert span.end_time_unix_nano - span.start_time_unix_nano == 1_500_000_000
    assert sorted(got.instruments) == [
        *("gen_ai.client.operation.duration", "gen_ai.client.operation.time_per_output_chunk"),
        *("gen_ai.client.operation.time_to_first_chunk", "gen_ai.client.token.usage"),
    ]
    assert got.instruments["gen_ai.client.token.usage"].histogram.data_points[0].explicit_bounds[:3] == [1, 4, 16]
    for word in (*PROMPT.split(), *WORDS):
        assert len(word) < 5 or word.strip().encode() not in got.raw
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("chosen", "variable", "expected"),
    [
        (None, "", "gen_ai.client.operation.duration"),
        (None, "http, gen_ai_latest_experimental", "gen_ai.client.inference.duration"),
        ("current", "gen_ai_latest_experimental", "gen_ai.client.operation.duration"),
        ("latest", "", "gen_ai.client.inference.duration"),
    ],
)
def test_the_names_are_chosen_by_setting_or_variable(
    chosen: Any, variable: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", variable)
    with collector() as server:
        assert export_run(whole_run(), settings(otel=url_of(server), otel_semconv=chosen)) == []
        assert expected in collected(server).instruments


def test_the_variables_of_the_sdk_are_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-scope=lab")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    with collector() as server:
        assert export_run(whole_run(), settings(otel=url_of(server))) == []
        (request,) = server.requests
    assert (request.path, request.headers["x-scope"]) == ("/v1/traces", "lab")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with collector() as server:
        assert export_run(whole_run(), settings(otel=url_of(server))) == []
        assert server.requests == []


def test_runs_can_be_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for preference, temporality in (("", 2), ("delta", 1)):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", preference)
        with collector() as server:
            assert export_run(whole_run(), settings(otel=url_of(server))) == []
            duration = collected(server).instruments["gen_ai.client.operation.duration"]
        assert duration.histogram.aggregation_temporality == temporality


@pytest.mark.parametrize("tail", ["", "/", "/v1/traces", "/v1/metrics"])
def test_the_url_may_be_that_of_a_signal(tail: str) -> None:
    with collector() as server:
        assert export_run(whole_run(), settings(otel=url_of(server) + tail)) == []
        assert {request.path for request in server.requests} == {"/v1/traces", "/v1/metrics"}


# -- collectors that fail --------------------------------------------------------------------------------------------


def error(status: str, *headers: str) -> Send:
    lines = [f"HTTP/1.1 {status}", "Content-Length: 0", "Connection: close", *headers]
    return Send("\r\n".join([*lines, "", ""]).encode())


DRIP = b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 400
BAD: dict[str, tuple[list[Any], str]] = {
    "500": ([error("500 Internal Server Error"), Close()], "it answered 500 Internal Server Error"),
    "503 with a wish": ([error("503 Service Unavailable", "Retry-After: 1"), Close()], "it answered 503"),
    "429": ([error("429 Too Many Requests"), Close()], "it answered 429"),
    "moved": ([error("302 Found", "Location: http://127.0.0.1:9/"), Close()], "it answered 302"),
    "says nothing": ([Pause(30.0)], "no answer in time"),
    "hangs up": ([Close()], "no connection could be made, or it broke"),
    "resets": ([Reset()], "no connection could be made, or it broke"),
    "no HTTP": ([Send(b"hello\r\n\r\n"), Close()], "no connection could be made, or it broke"),
    "drips for a minute": ([SendSlowly(DRIP, 4, 0.5)], "took more than 0.9 seconds"),
}


TAKES_ALL_ITS_TIME = ("says nothing", "drips for a minute")


@pytest.mark.parametrize("name", BAD)
def test_a_collector_that_fails_is_one_line_within_its_time(
    name: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script, reason = BAD[name]
    if name in TAKES_ALL_ITS_TIME:
        monkeypatch.setattr(export, "EXPORT_S", 0.9)
    with collector(*script) as server:
        began = time.monotonic()
        (note,) = export_run(whole_run(), settings(otel=url_of(server)))
        assert time.monotonic() - began < export.EXPORT_S + SLACK_S
        assert reason in note
        assert url_of(server) in note
        assert len(server.requests) <= 2, "a failed request is not sent again"
    assert capfd.readouterr() == ("", "")


def test_nobody_listens(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    began = time.monotonic()
    (note,) = export_run(whole_run(), settings(otel=f"http://127.0.0.1:{port}"))
    assert time.monotonic() - began < 1.0
    assert note == (
        f"the OpenTelemetry export to http://127.0.0.1:{port} failed: no connection could be made, or it broke"
    )
    assert capfd.readouterr() == ("", "")


def test_whatever_breaks_inside_is_one_line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def breaks(*args: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError(PROMPT)

    monkeypatch.setattr("utils.exporters.otel.record_span", breaks)
    (note,) = export_run(whole_run(), settings(otel="http://127.0.0.1:9"))
    assert note == "the OpenTelemetry export to http://127.0.0.1:9 failed: it failed (ZeroDivisionError)"
    assert capfd.readouterr() == ("", "")


def test_a_record_without_figures_is_exported_too() -> None:
    whole = whole_run()
    bare = RunRecord(whole.facts, {**whole.report, "metrics": {}, "events": []})
    for record in (bare, refused_run(Unreachable("no")), run_record([(0.1, Finished("stop"))], model_requested="")):
        with collector() as server:
            assert export_run(record, settings(otel=url_of(server))) == []
            assert len(collected(server).spans) == 1


def test_a_long_answer_is_exported_in_time() -> None:
    whole = whole_run()
    log = whole.tokens
    count = 20_000
    log.start_char[:] = range(count)
    log.t_s[:] = [number * 0.01 for number in range(count)]
    log.probability[:] = [None] * count
    log.held_s[:] = [0.0] * count
    with collector() as server:
        assert export_run(whole, settings(otel=url_of(server))) == []
        points = collected(server).instruments["gen_ai.client.operation.time_per_output_chunk"].histogram.data_points
    assert points[0].count == count - 1


# -- packages --------------------------------------------------------------------------------------------------------


def run_python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )


def test_missing_packages_are_one_line_with_the_way_out() -> None:
    done = run_python(
        "import sys\n"
        "sys.modules['opentelemetry'] = None\n"
        "from tests.exporters.plain_record import record\n"
        "from utils.exporters.export import export_run\n"
        "from utils.settings import Settings\n"
        "print(export_run(record(), Settings(otel='http://127.0.0.1:9')))\n"
    )
    assert done.stderr == ""
    assert (
        done.stdout
        == f"{[f'the OpenTelemetry export needs packages that are not installed, or are too old: {PIP_LINE}']}\n"
    )


def test_nothing_is_loaded_for_a_run_that_exports_nothing(tmp_path: Path) -> None:
    done = run_python(
        "import sys\n"
        "import utils.run_keeper, utils.settings\n"
        "from tests.exporters.plain_record import record\n"
        "from utils.exporters.export import export_run\n"
        "from utils.settings import Settings\n"
        f"assert export_run(record(), Settings(prometheus={str(tmp_path / 'a.prom')!r})) == []\n"
        "print([name for name in ('opentelemetry', 'requests', 'google.protobuf') if name in sys.modules])\n"
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
    assert (tmp_path / "a.prom").exists()


def test_a_file_that_cannot_be_written_does_not_keep_the_span_from_being_sent(tmp_path: Path) -> None:
    place = tmp_path / "run.prom"
    os.mkfifo(place)
    with collector() as server:
        (note,) = export_run(whole_run(), settings(otel=url_of(server), prometheus=place))
        assert len(collected(server).spans) == 1
    assert note == f"the Prometheus file {str(place)!r} cannot be written: it is not a regular file"


def test_the_bound_is_two_seconds_in_all() -> None:
    assert export.EXPORT_S == 2.0
