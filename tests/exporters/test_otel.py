"""The span and the metrics of a run, read back in memory: names, units, buckets, errors, and nothing of the content."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tests.exporters.records import PROMPT, WHOLE, WORDS, cut_run, refused_run, run_record, whole_run
from utils.errors import (
    AnswerBlocked,
    AppError,
    AuthFailed,
    Cancelled,
    FirstTokenTimeout,
    PromptRejected,
    RateLimited,
    Unreachable,
)
from utils.events import Blocked, Finished, Opened, TextDelta, Usage
from utils.exporters.otel import record_metrics, record_span, resource_of
from utils.exporters.semconv import Generation
from utils.run_record import RunRecord

SECONDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
TOKENS = [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864]
ALL_RUNS = {"whole": whole_run(), "cut": cut_run(), "refused": refused_run(Unreachable(f"no route for {PROMPT!r}"))}


def span_of(record: RunRecord) -> ReadableSpan:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=resource_of(record), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    record_span(record, provider)
    (span,) = exporter.get_finished_spans()
    return span


def metrics_json(record: RunRecord, generation: Generation) -> str:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], resource=resource_of(record), shutdown_on_exit=False)
    record_metrics(record, provider, generation=generation)
    data = reader.get_metrics_data()
    assert data is not None
    return data.to_json()


def metrics_of(record: RunRecord, generation: Generation = "current") -> dict[str, dict[str, Any]]:
    """Name -> unit and data points."""
    (resource,) = json.loads(metrics_json(record, generation))["resource_metrics"]
    (scope,) = resource["scope_metrics"]
    return {m["name"]: {"unit": m["unit"], "points": m["data"]["data_points"]} for m in scope["metrics"]}


def point(metrics: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    (only,) = metrics[name]["points"]
    found: dict[str, Any] = only
    return found


def filled(at: dict[str, Any]) -> dict[int, int]:
    """The buckets that are not empty, by their number."""
    return {number: count for number, count in enumerate(at["bucket_counts"]) if count}


# -- the span --------------------------------------------------------------------------------------------------------


def test_the_span_of_a_whole_answer() -> None:
    span = span_of(whole_run())
    assert span.name == "chat gpt-4o"
    assert span.kind is SpanKind.CLIENT
    assert span.parent is None
    assert span.status.status_code is StatusCode.UNSET
    assert span.start_time == 1_700_000_000_250_000_000
    assert span.end_time == 1_700_000_001_800_000_000
    attributes = dict(span.attributes or {})
    assert attributes.pop("kaygraph.tokens_per_second") == pytest.approx(11 / 1.03)
    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.request.stream": True,
        "gen_ai.request.temperature": 0.7,
        "gen_ai.request.max_tokens": 64,
        "gen_ai.request.seed": 5,
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.time_to_first_chunk": 0.3,
        "gen_ai.usage.input_tokens": 9,
        "gen_ai.usage.output_tokens": 12,
        "gen_ai.output.type": "text",
        "server.address": "api.openai.com",
        "server.port": 443,
        "kaygraph.run_id": "0123456789ab",
        "kaygraph.outcome": "complete",
        "kaygraph.exit_code": 0,
        "kaygraph.is_simulated": False,
        "kaygraph.time_to_first_text": 0.5,
        "kaygraph.longest_stall": 1.0,
        "kaygraph.token_source": "usage",
        "kaygraph.attempts": 1,
        "kaygraph.retries": 0,
        "kaygraph.resumes": 0,
        "kaygraph.fallbacks": 0,
        "kaygraph.redactions": 1,
    }
    assert [(event.name, event.timestamp) for event in span.events] == [("kaygraph.opened", 1_700_000_000_550_000_000)]


def test_a_cut_stream_is_an_error_with_what_happened_on_the_way() -> None:
    span = span_of(cut_run())
    attributes = dict(span.attributes or {})
    assert span.name == "chat"
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "stream_truncated"
    assert attributes["error.type"] == "stream_truncated"
    assert attributes["kaygraph.outcome"] == "incomplete"
    assert attributes["kaygraph.exit_code"] == 3
    assert attributes["gen_ai.provider.name"] == "openai_compatible"
    assert (attributes["server.address"], attributes["server.port"]) == ("127.0.0.1", 8080)
    # Four logprobs entries are four tokens, though no server said so.
    assert attributes["gen_ai.usage.output_tokens"] == 4
    assert not attributes.keys() & {"gen_ai.response.finish_reasons", "gen_ai.usage.input_tokens"}
    assert [event.name.removeprefix("kaygraph.") for event in span.events] == [
        *("opened", "interrupted", "retrying", "opened", "resumed")
    ]
    retrying, resumed = span.events[2], span.events[4]
    assert dict(retrying.attributes or {}) == {
        "kaygraph.attempt": 2,
        "kaygraph.delay_s": 0.5,
        "error.type": "connection_lost",
    }
    assert dict(resumed.attributes or {}) == {
        "kaygraph.strategy": "continue",
        "kaygraph.attempt": 2,
        "kaygraph.gap_s": 0.8,
        "kaygraph.overlap_chars": 3,
    }
    assert resumed.timestamp == 1_700_000_001_550_000_000


OUTCOMES: dict[str, tuple[AppError, str]] = {
    "unavailable": (Unreachable("no route"), "unreachable"),
    "rate-limited": (RateLimited("429"), "rate_limited"),
    "no key": (AuthFailed("401"), "auth_failed"),
    "too late": (FirstTokenTimeout("60 s"), "first_token_timeout"),
    "rejected": (PromptRejected("no"), "prompt_rejected"),
    "blocked before text": (AnswerBlocked("no"), "answer_blocked"),
    "cancelled": (Cancelled("Ctrl-C"), "cancelled"),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_every_outcome_that_is_not_complete_is_an_error(name: str) -> None:
    error, code = OUTCOMES[name]
    record = refused_run(error)
    span = span_of(record)
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == code
    duration = point(metrics_of(record), "gen_ai.client.operation.duration")
    assert duration["attributes"]["error.type"] == code
    assert "gen_ai.client.operation.time_to_first_chunk" not in metrics_of(record)


def test_an_answer_that_a_rule_stopped_is_an_error_too() -> None:
    record = run_record([*WHOLE[:2], (0.6, Blocked("secrets.key"))])
    span = span_of(record)
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "blocked"


def test_an_answer_that_ran_into_its_limit_is_complete_and_says_so() -> None:
    span = span_of(run_record([*WHOLE[:3], (2.0, Finished("length"))]))
    assert span.status.status_code is StatusCode.UNSET
    assert (span.attributes or {})["gen_ai.response.finish_reasons"] == ("length",)
    # Counted by chunks is estimated, and the conventions want no estimates.
    assert (span.attributes or {})["kaygraph.token_source"] == "chunks"
    assert "gen_ai.usage.output_tokens" not in (span.attributes or {})


@pytest.mark.parametrize(
    ("target", "provider", "address", "port"),
    [
        ("smollm2-135m-instruct (embedded)", "embedded", None, None),
        ("m at https://api.groq.com/openai/v1", "groq", "api.groq.com", 443),
        ("m at https://mine.openai.azure.com/v1", "azure.ai.openai", "mine.openai.azure.com", 443),
        ("m at https://notopenai.azure.com/v1", "openai_compatible", "notopenai.azure.com", 443),
        ("http://[::1]:9/v1", "openai_compatible", "::1", 9),
        ("http://box/v1", "openai_compatible", "box", 80),
        ("a at b at http://box:81/v1", "openai_compatible", "box", 81),
    ],
)
def test_the_server_is_named_by_its_address(target: str, provider: str, address: str | None, port: int | None) -> None:
    attributes = span_of(run_record([(1.0, Finished("stop"))], target=target)).attributes or {}
    found = [attributes.get(name) for name in ("gen_ai.provider.name", "server.address", "server.port")]
    assert found == [provider, address, port]


# -- the metrics -----------------------------------------------------------------------------------------------------


def test_the_metrics_of_today() -> None:
    metrics = metrics_of(whole_run())
    assert {name: metric["unit"] for name, metric in metrics.items()} == {
        "gen_ai.client.operation.duration": "s",
        "gen_ai.client.operation.time_to_first_chunk": "s",
        "gen_ai.client.operation.time_per_output_chunk": "s",
        "gen_ai.client.token.usage": "{token}",
    }
    common = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "server.address": "api.openai.com",
        "server.port": 443,
    }
    duration = point(metrics, "gen_ai.client.operation.duration")
    assert duration["attributes"] == common
    assert duration["explicit_bounds"] == SECONDS
    assert (duration["sum"], filled(duration)) == (1.55, {8: 1})
    first = point(metrics, "gen_ai.client.operation.time_to_first_chunk")
    assert (first["sum"], filled(first), first["explicit_bounds"]) == (0.3, {5: 1}, SECONDS)
    per_chunk = point(metrics, "gen_ai.client.operation.time_per_output_chunk")
    assert per_chunk["sum"] == pytest.approx(1.02)
    # 20 ms (in floating point a little more) and 1 s.
    assert (per_chunk["count"], filled(per_chunk), per_chunk["explicit_bounds"]) == (2, {2: 1, 7: 1}, SECONDS)
    usage = {at["attributes"].pop("gen_ai.token.type"): at for at in metrics["gen_ai.client.token.usage"]["points"]}
    assert {kind: (at["sum"], filled(at)) for kind, at in usage.items()} == {
        "input": (9, {2: 1}),
        "output": (12, {2: 1}),
    }
    assert all(at["attributes"] == common and at["explicit_bounds"] == TOKENS for at in usage.values())


def test_the_latest_names() -> None:
    metrics = metrics_of(whole_run(), "latest")
    assert {name: metric["unit"] for name, metric in metrics.items()} == {
        "gen_ai.client.inference.duration": "s",
        "gen_ai.client.inference.time_to_first_chunk": "s",
        "gen_ai.client.inference.time_per_output_chunk": "s",
        "gen_ai.client.inference.usage.input_tokens": "{token}",
        "gen_ai.client.inference.usage.output_tokens": "{token}",
        "gen_ai.client.inference.operation.input_tokens": "{token}",
        "gen_ai.client.inference.operation.output_tokens": "{token}",
    }
    for direction, tokens in (("input", 9), ("output", 12)):
        counter = point(metrics, f"gen_ai.client.inference.usage.{direction}_tokens")
        assert counter["value"] == tokens
        assert counter["attributes"]["gen_ai.token.modality"] == "text"
        histogram = point(metrics, f"gen_ai.client.inference.operation.{direction}_tokens")
        assert (histogram["sum"], filled(histogram), histogram["explicit_bounds"]) == (tokens, {2: 1}, TOKENS)
        assert "gen_ai.token.modality" not in histogram["attributes"]
    for name in ("duration", "time_to_first_chunk", "time_per_output_chunk"):
        assert metrics[f"gen_ai.client.inference.{name}"]["points"][0]["explicit_bounds"] == SECONDS


def test_tokens_that_nobody_counted() -> None:
    uncounted = run_record([*WHOLE[:3], (2.0, Finished("stop"))])
    assert "gen_ai.client.token.usage" not in metrics_of(uncounted)
    assert not [name for name in metrics_of(uncounted, "latest") if name.endswith("_tokens")]
    failed = metrics_of(refused_run(Unreachable("no route")), "latest")
    for direction in ("input", "output"):
        counter = point(failed, f"gen_ai.client.inference.usage.{direction}_tokens")
        assert (counter["value"], counter["attributes"]["gen_ai.token.modality"]) == (0, "unknown")
    assert not [name for name in failed if ".operation." in name]


def test_each_chunk_is_measured_once_however_many_tokens_it_has() -> None:
    # Both chunks of the cut run hold two tokens; between them lies one gap, the pause of the resume.
    per_chunk = point(metrics_of(cut_run()), "gen_ai.client.operation.time_per_output_chunk")
    assert (per_chunk["count"], per_chunk["sum"]) == (1, pytest.approx(0.8))


# -- what is not exported --------------------------------------------------------------------------------------------


def everything(record: RunRecord) -> Iterator[str]:
    yield span_of(record).to_json()
    yield metrics_json(record, "current")
    yield metrics_json(record, "latest")


@pytest.mark.parametrize("name", ALL_RUNS)
def test_nothing_of_prompt_or_answer_is_exported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Neither a variable by which other programs are told to export content, nor the SDK's own detectors change that.
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_AND_EVENT")
    monkeypatch.setenv("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "process")
    monkeypatch.setattr("sys.argv", ["main.py", PROMPT])
    for text in everything(ALL_RUNS[name]):
        assert not [word for word in (*PROMPT.split(), *WORDS) if len(word) > 4 and word.strip() in text]
        assert not [key for key in ("messages", "instructions", "process.command", "completion") if key in text]


def test_the_resource_is_this_program_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    attributes = resource_of(whole_run()).attributes
    assert (attributes["service.name"], attributes["service.version"]) == ("kaygraph-streaming-llm", "9.9.9")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "nightly")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=lab")
    attributes = resource_of(whole_run()).attributes
    assert (attributes["service.name"], attributes["deployment.environment.name"]) == ("nightly", "lab")


def test_names_that_a_server_makes_up_are_bounded() -> None:
    long = "m" * 5_000
    record = run_record(
        [
            (0.1, Opened("m at http://h/v1", long, 1)),
            (0.2, TextDelta("a")),
            (0.3, Usage(1, 1, 2)),
            (0.4, Finished("stop")),
        ],
        model_requested=long,
    )
    assert not [text for text in everything(record) if "m" * 201 in text]
    assert (span_of(record).attributes or {})["gen_ai.response.model"] == "m" * 200
