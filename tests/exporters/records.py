"""Finished runs for the tests of the exporters, and a collector that remembers what it is sent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.scripted_server import Close, Script, ScriptedServer, Send
from utils.errors import AppError, ConnectionLost, StreamTruncated
from utils.events import (
    Aborted,
    Event,
    Finished,
    Interrupted,
    Opened,
    Redacted,
    Resumed,
    Retrying,
    TerminalEvent,
    TextDelta,
    TokenLogprob,
    Usage,
)
from utils.metrics.recorder import Recorder
from utils.run_record import RunFacts, RunRecord
from utils.run_report import RunReport, exit_code_of, outcome_of
from utils.settings import Settings

__all__ = [
    "PROMPT",
    "WHOLE",
    "Collected",
    "collected",
    "collector",
    "cut_run",
    "refused_run",
    "run_record",
    "settings",
    "whole_run",
]

PROMPT = "what is the wavelength of sodium light"
WORDS = ("Yellowish ", "cantaloupe ", "photons ")
OK = Send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

WHOLE: list[tuple[float, Event]] = [
    (0.30, Opened("gpt-4o at https://api.openai.com/v1", "gpt-4o-2024-08-06", 1)),
    (0.50, TextDelta(WORDS[0])),
    (0.52, TextDelta(WORDS[1])),
    (1.52, TextDelta(WORDS[2])),
    (1.53, Redacted("pii.email", "[EMAIL]", 30)),
    (1.54, Usage(9, 12, 21)),
    (1.55, Finished("stop")),
]
CUT: list[tuple[float, Event]] = [
    (0.30, Opened("m at http://127.0.0.1:8080/v1", "m", 1)),
    (0.50, TextDelta(WORDS[0], (TokenLogprob("Yellow", -0.1), TokenLogprob("ish ", -0.2)))),
    (0.60, Interrupted(ConnectionLost(f"lost after {WORDS[0]!r}"), 10)),
    (0.60, Retrying(2, 0.5, ConnectionLost(f"lost after {WORDS[0]!r}"))),
    (1.20, Opened("m at http://127.0.0.1:8080/v1", "m", 2)),
    (1.30, Resumed("continue", 2, 0.8, 3)),
    (1.30, TextDelta(WORDS[1], (TokenLogprob("canta", -0.1), TokenLogprob("loupe ", -0.3)))),
    (1.50, Aborted(StreamTruncated(f"ended after {WORDS[1]!r}", hint=f"you asked {PROMPT!r}"))),
]


def run_record(
    events: Iterable[tuple[float, Event]],
    *,
    target: str = "gpt-4o at https://api.openai.com/v1",
    model_requested: str = "gpt-4o",
    with_text: bool = False,
) -> RunRecord:
    """The record of a run of these events, as the program makes it."""
    recorder = Recorder(0.0)
    now = 0.0
    for now, event in events:
        recorder.handle(event, now)
    terminal = recorder.terminal
    assert isinstance(terminal, TerminalEvent)
    error: AppError | None = terminal.error if isinstance(terminal, Aborted) else None
    report = RunReport(
        text=recorder.text,
        outcome=outcome_of(terminal, text_shown=recorder.text_shown),
        exit_code=exit_code_of(terminal, text_shown=recorder.text_shown),
        finish_reason=terminal.finish_reason if isinstance(terminal, Finished) else None,
        model_requested=model_requested,
        model_used=recorder.opened.model if recorder.opened else None,
        target=recorder.target or target,
        error=error,
        usage=recorder.usage(),
        metrics=recorder.metrics(now),
        quality=recorder.quality(),
        events=recorder.events(),
    )
    facts = RunFacts(
        "0123456789ab",
        started_at=1_700_000_000.25,
        version="9.9.9",
        model_requested=model_requested,
        target=target,
        prompt_chars=len(PROMPT),
        settings={"temperature": 0.7, "max_tokens": 64, "seed": 5, "retries": 2},
    )
    record = RunRecord.of(facts, report, tokens=recorder.token_log())
    if with_text:
        record = RunRecord(facts, record.report, record.tokens, text=recorder.text, prompt=PROMPT)
    return record


def whole_run() -> RunRecord:
    """A complete answer of OpenAI: 3 chunks of text, 12 tokens."""
    return run_record(WHOLE, with_text=True)


def cut_run() -> RunRecord:
    """An answer that was cut, continued, and cut again: 4 tokens in 2 chunks, and no usage."""
    return run_record(CUT, target="m at http://127.0.0.1:8080/v1", model_requested="", with_text=True)


def refused_run(error: AppError) -> RunRecord:
    """A run that never got a first event."""
    return run_record([(0.20, Aborted(error))])


# -- the collector -----------------------------------------------------------------------------------------------------


def collector(*script: Any) -> ScriptedServer:
    """A server that answers every request by *script* (200 and nothing else without one)."""
    answer: Script = list(script) or [OK, Close()]
    return ScriptedServer(default=answer)


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collector was sent, decoded, and as bytes."""

    traces: ExportTraceServiceRequest
    metrics: ExportMetricsServiceRequest
    raw: bytes

    @property
    def spans(self) -> list[Any]:
        return [span for r in self.traces.resource_spans for s in r.scope_spans for span in s.spans]

    @property
    def instruments(self) -> dict[str, Any]:
        return {m.name: m for r in self.metrics.resource_metrics for s in r.scope_metrics for m in s.metrics}


def collected(server: ScriptedServer) -> Collected:
    """The requests that *server* received."""
    traces, metrics, raw = ExportTraceServiceRequest(), ExportMetricsServiceRequest(), b""
    for request in server.requests:
        raw += request.body
        if request.path.endswith("/v1/traces"):
            traces.MergeFromString(request.body)
        elif request.path.endswith("/v1/metrics"):
            metrics.MergeFromString(request.body)
        else:
            raise AssertionError(request.path)
    return Collected(traces, metrics, raw)


def settings(**values: Any) -> Settings:
    """Settings of a run with these."""
    return Settings.model_validate({name: str(v) if isinstance(v, Path) else v for name, v in values.items()})
