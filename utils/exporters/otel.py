"""A run as an OpenTelemetry span and metrics, sent over OTLP/HTTP. The only importer of opentelemetry (and requests).

Both are made from a finished `RunRecord`: nothing is measured here, and a run without `--otel` loads nothing of it.
Content is not supported: what is exported are figures, names and codes. That is also why the resource is made here and
not by the detectors of the SDK, one of which reports the command line of the process, and with it the prompt.

Every request is sent once. A run is over and its user waits: the SDK's own retries would make that longer, and what
they log would stand between the answers on stderr.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Mapping
from time import monotonic
from typing import Any

import requests
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import Histogram, Meter, MeterProvider
from opentelemetry.sdk.metrics import MeterProvider as SdkMeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanLimits
from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.version import __version__ as sdk_version
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider

from utils.exporters.semconv import OPERATION, Attribute, Generation, Instrument, Own, Quantity, instruments
from utils.exporters.values import MAX_NAME_CHARS, chunk_gaps, counted_tokens, error_type, figure, model_of, server_of
from utils.run_record import RunRecord

__all__ = ["record_metrics", "record_span", "resource_of", "send"]

_SERVICE = "kaygraph-streaming-llm"
_MAX_EVENTS = 128
_LEAST_TIMEOUT_S = 0.05

_REQUEST_SETTINGS = {
    Attribute.REQUEST_TEMPERATURE: "temperature",
    Attribute.REQUEST_MAX_TOKENS: "max_tokens",
    Attribute.REQUEST_SEED: "seed",
}
_OWN_FIGURES = {
    Own.TIME_TO_FIRST_TEXT: "ttft_s",
    Own.TOKENS_PER_SECOND: "tokens_per_s",
    Own.LONGEST_STALL: "longest_stall_s",
    Own.ATTEMPTS: "attempts",
    Own.RETRIES: "retries",
    Own.RESUMES: "resumes",
    Own.FALLBACKS: "fallbacks",
    Own.REDACTIONS: "redactions",
}
_EVENT_FIELDS = ("attempt", "delay_s", "strategy", "gap_s", "overlap_chars", "after")
"""Fields of events that hold numbers or words of our own."""
_EVENTS = ("opened", "interrupted", "retrying", "resumed", "fell_back", "breaker_changed")

Attributes = dict[str, str | bool | int | float | list[str]]


def send(record: RunRecord, url: str, *, generation: Generation, deadline_s: float) -> str | None:
    """Send *record* to the collector at *url* before *deadline_s* (monotonic seconds); why that failed, or None."""
    _silence()
    session = _Session(deadline_s)
    resource = resource_of(record)
    limits = SpanLimits(max_attribute_length=MAX_NAME_CHARS, max_events=_MAX_EVENTS)
    tracers = SdkTracerProvider(resource=resource, span_limits=limits, shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=f"{url}/v1/traces", session=session)))
    record_span(record, tracers)
    # The variable by which every other program is told that its collector takes traces only.
    if os.environ.get("OTEL_METRICS_EXPORTER", "").strip() != "none" and monotonic() < deadline_s:
        exporter = OTLPMetricExporter(endpoint=f"{url}/v1/metrics", session=session)
        # An interval without end starts no thread: the one collection is ours.
        reader = PeriodicExportingMetricReader(exporter, export_interval_millis=math.inf)
        meters = SdkMeterProvider([reader], resource=resource, shutdown_on_exit=False)
        record_metrics(record, meters, generation=generation)
        meters.force_flush(max(1.0, 1000.0 * (deadline_s - monotonic())))
    return session.trouble


def resource_of(record: RunRecord) -> Resource:
    """Who sends: this program, unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` say otherwise."""
    ours = {
        "service.name": _SERVICE,
        "service.version": record.facts.version,
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.sdk.version": sdk_version,
    }
    return Resource(ours).merge(OTELResourceDetector().detect())


def record_span(record: RunRecord, provider: TracerProvider) -> None:
    """The run as one span, which ends with this call. An outcome that is not complete is an error, a cut too."""
    facts, report = record.facts, record.report
    model = facts.model_requested[:MAX_NAME_CHARS]
    tracer = provider.get_tracer(_SERVICE, facts.version)
    span = tracer.start_span(
        f"{OPERATION} {model}".rstrip(),
        # Not whatever span the calling program may be in.
        context=Context(),
        kind=SpanKind.CLIENT,
        attributes={**_common(record), **_of_the_span(record)},
        start_time=_nanoseconds(facts.started_at),
    )
    _add_events(span, report.get("events") or (), facts.started_at)
    error = error_type(record)
    if error is not None:
        span.set_status(Status(StatusCode.ERROR, error))
    span.end(_nanoseconds(facts.started_at + (figure(record, "e2e_s") or 0.0)))


def record_metrics(record: RunRecord, provider: MeterProvider, *, generation: Generation) -> None:
    """The run as measurements in the instruments of the name set *generation*."""
    meter = provider.get_meter(_SERVICE, record.facts.version)
    rows = instruments(generation)
    common = _common(record)
    error = error_type(record)

    _histogram(meter, rows, "duration", generation).record(
        figure(record, "e2e_s") or 0.0, {**common, **({str(Attribute.ERROR_TYPE): error} if error else {})}
    )
    if (first_chunk_s := figure(record, "ttfc_s")) is not None:
        _histogram(meter, rows, "time_to_first_chunk", generation).record(first_chunk_s, common)
    per_chunk = _histogram(meter, rows, "time_per_output_chunk", generation)
    for gap_s in chunk_gaps(record.tokens):
        per_chunk.record(gap_s, common)
    _record_tokens(record, meter, rows, common, generation=generation)


def _record_tokens(
    record: RunRecord,
    meter: Meter,
    rows: Mapping[Quantity, Instrument],
    common: Attributes,
    *,
    generation: Generation,
) -> None:
    prompt, answer = counted_tokens(record)
    directions: tuple[tuple[str, int | None, Quantity, Quantity], ...] = (
        ("input", prompt, "input_tokens", "input_tokens_total"),
        ("output", answer, "output_tokens", "output_tokens_total"),
    )
    for direction, tokens, each, total in directions:
        if generation == "current":
            if tokens is not None:
                usage = _histogram(meter, rows, "token_usage", generation)
                usage.record(tokens, {**common, str(Attribute.TOKEN_TYPE): direction})
            continue
        if tokens is not None:
            _histogram(meter, rows, each, generation).record(tokens, common)
        elif error_type(record) is None:
            continue
        # A failure counts as 0 of an unknown modality, so that the series exists.
        modality = "unknown" if tokens is None else "text"
        row = rows[total]
        counter = meter.create_counter(str(row.name_in(generation)), unit=row.unit, description=row.description)
        counter.add(tokens or 0, {**common, str(Attribute.TOKEN_MODALITY): modality})


def _histogram(
    meter: Meter, rows: Mapping[Quantity, Instrument], quantity: Quantity, generation: Generation
) -> Histogram:
    row = rows[quantity]
    return meter.create_histogram(
        str(row.name_in(generation)),
        unit=row.unit,
        description=row.description,
        explicit_bucket_boundaries_advisory=row.buckets,
    )


def _common(record: RunRecord) -> Attributes:
    """What spans and metrics have alike: few values each, so that metrics stay few series."""
    server = server_of(record)
    values: dict[str, str | int | None] = {
        Attribute.OPERATION_NAME: OPERATION,
        Attribute.PROVIDER_NAME: server.provider,
        Attribute.REQUEST_MODEL: record.facts.model_requested[:MAX_NAME_CHARS] or None,
        Attribute.RESPONSE_MODEL: model_of(record) if record.report.get("model_used") else None,
        Attribute.SERVER_ADDRESS: server.address,
        Attribute.SERVER_PORT: server.port,
    }
    return {str(name): value for name, value in values.items() if value is not None}


def _of_the_span(record: RunRecord) -> Attributes:
    facts, report = record.facts, record.report
    prompt, answer = counted_tokens(record)
    finish_reason: str | None = report.get("finish_reason")
    values: dict[str, str | bool | int | float | list[str] | None] = {
        Attribute.REQUEST_STREAM: True,
        Attribute.OUTPUT_TYPE: "text",
        Attribute.RESPONSE_FINISH_REASONS: None if finish_reason is None else [finish_reason],
        Attribute.RESPONSE_TIME_TO_FIRST_CHUNK: figure(record, "ttfc_s"),
        Attribute.USAGE_INPUT_TOKENS: prompt,
        Attribute.USAGE_OUTPUT_TOKENS: answer,
        Attribute.ERROR_TYPE: error_type(record),
        Own.RUN_ID: facts.run_id,
        Own.OUTCOME: report["outcome"],
        Own.EXIT_CODE: report["exit_code"],
        Own.IS_SIMULATED: facts.is_simulated,
        Own.TOKEN_SOURCE: (report.get("metrics") or {}).get("token_source"),
        **{name: facts.settings.get(key) for name, key in _REQUEST_SETTINGS.items()},
        **{name: figure(record, key) for name, key in _OWN_FIGURES.items()},
    }
    return {str(name): value for name, value in values.items() if value is not None}


def _add_events(span: Span, events: Iterable[Mapping[str, Any]], started_at: float) -> None:
    """What happened to the stream, with the codes of its causes."""
    for event in events:
        if event["type"] not in _EVENTS:
            continue
        attributes: Attributes = {f"kaygraph.{name}": event[name] for name in _EVENT_FIELDS if name in event}
        if isinstance(cause := event.get("cause"), Mapping):
            attributes[str(Attribute.ERROR_TYPE)] = str(cause["code"])
        span.add_event(f"kaygraph.{event['type']}", attributes, _nanoseconds(started_at + event["t_s"]))


def _nanoseconds(seconds: float) -> int:
    # A float of so many seconds knows microseconds and no more.
    return round(seconds * 1e6) * 1_000


def _silence() -> None:
    """Nothing of the SDK on stderr: what went wrong is one line of ours."""
    for name in ("opentelemetry", "requests", "urllib3"):
        logger = logging.getLogger(name)
        logger.propagate = False
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())


class _NotSent(Exception):
    """Not one of the errors that the exporters try again."""


class _Session(requests.Session):
    """Sends each request once, before *deadline_s* (monotonic seconds), and keeps the first trouble."""

    def __init__(self, deadline_s: float) -> None:
        super().__init__()
        self.trouble: str | None = None
        self._deadline_s = deadline_s

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        """As that of requests, with our deadline; raises `_NotSent` for whatever is no success."""
        # Elsewhere is not where the user wants it sent, nor its headers.
        kwargs["allow_redirects"] = False
        kwargs["timeout"] = max(_LEAST_TIMEOUT_S, self._deadline_s - monotonic())
        try:
            response = super().request(*args, **kwargs)
        except requests.RequestException as error:
            raise self._failed(_in_words(error)) from error
        if not 200 <= response.status_code < 300:
            raise self._failed(f"it answered {response.status_code} {response.reason}".rstrip())
        return response

    def _failed(self, trouble: str) -> _NotSent:
        self.trouble = self.trouble or trouble
        return _NotSent(trouble)


def _in_words(error: requests.RequestException) -> str:
    match error:
        case requests.Timeout():
            return "no answer in time"
        case requests.exceptions.SSLError():
            return "no secure connection could be made"
        case requests.ConnectionError():
            return "no connection could be made, or it broke"
        case _:
            return f"the request failed ({type(error).__name__})"
