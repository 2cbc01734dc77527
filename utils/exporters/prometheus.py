"""A run as a text file for Prometheus: the textfile collector of node_exporter reads it at each scrape.

A program that runs for seconds cannot be scraped, and files that every run adds to would need a lock and a counter that
survives. So the file tells of the newest run only: every value is a gauge under `kaygraph_last_run_`, and nothing in it
may be added up over time (that is what `history` and OpenTelemetry are for). Labels have few values: model, provider
of the target, outcome; no run, no address, no text.

The file is replaced in one step, so that no scrape sees half of it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from utils.exporters.values import figure, model_of, server_of
from utils.output_place import why_not
from utils.run_record import RunRecord

__all__ = ["GAUGES", "Gauge", "textfile", "why_no_textfile", "write_textfile"]

PREFIX = "kaygraph_last_run_"
_HEAD = f"# HELP {PREFIX}"
"""What every file begins with, and what tells one from another file."""
_MODE = 0o666
"""Less what the umask takes: node_exporter mostly runs as another user."""


@dataclass(frozen=True, slots=True)
class Gauge:
    """One metric: *name* without its prefix, its *help* text, and its *value* in a record (None: left out)."""

    name: str
    help: str
    value: Callable[[RunRecord], float | None]
    labels: tuple[tuple[str, str], ...] = ()


def _figure(name: str, text: str, *path: str, **labels: str) -> Gauge:
    return Gauge(name, text, lambda record: figure(record, *path), tuple(labels.items()))


_GAPS = "Percentiles of the gaps between chunks of text in seconds; 0.99 only of 100 gaps or more."

GAUGES: tuple[Gauge, ...] = (
    Gauge(
        "timestamp_seconds",
        "When the run ended, in seconds since 1970.",
        lambda record: record.facts.started_at + (figure(record, "e2e_s") or 0.0),
    ),
    Gauge("exit_code", "Exit code of the run; 0 is a complete answer.", lambda record: record.report["exit_code"]),
    Gauge("simulated", "1 if failures were simulated.", lambda record: int(record.facts.is_simulated)),
    _figure("duration_seconds", "From the start of the run to its last event.", "e2e_s"),
    _figure("time_to_first_chunk_seconds", "From the start of the run to the first data event.", "ttfc_s"),
    _figure("time_to_first_text_seconds", "From the start of the run to the first text shown.", "ttft_s"),
    _figure("time_per_output_token_seconds", "Seconds per token after the first.", "tpot_s"),
    _figure("tokens_per_second", "Tokens per second after the first.", "tokens_per_s"),
    _figure("inter_chunk_latency_seconds", _GAPS, "inter_chunk_latency_s", "p50", quantile="0.5"),
    _figure("inter_chunk_latency_seconds", _GAPS, "inter_chunk_latency_s", "p90", quantile="0.9"),
    _figure("inter_chunk_latency_seconds", _GAPS, "inter_chunk_latency_s", "p99", quantile="0.99"),
    _figure("longest_stall_seconds", "The longest gap between two chunks of text.", "longest_stall_s"),
    _figure("prompt_tokens", "Tokens of the prompt, as the server counted them.", "prompt_tokens"),
    _figure("output_tokens", "Tokens of the answer, from the best source there was.", "tokens"),
    _figure("attempts", "Number of the last connection attempt.", "attempts"),
    _figure("retries", "Attempts announced after a failure.", "retries"),
    _figure("resumes", "Times the answer went on after an interruption.", "resumes"),
    _figure("fallbacks", "Changes to another target.", "fallbacks"),
    _figure("redactions", "Replacements shown instead of hidden text.", "redactions"),
)


def textfile(record: RunRecord) -> str:
    """The text exposition format of *record*. Metrics of one name stand together, as the format demands."""
    common = (
        ("model", model_of(record)),
        ("provider", server_of(record).provider),
        ("outcome", str(record.report["outcome"])),
    )
    lines: list[str] = []
    announced = ""
    for gauge in GAUGES:
        value = gauge.value(record)
        if value is None:
            continue
        name = PREFIX + gauge.name
        if name != announced:
            lines += [f"# HELP {name} {gauge.help}", f"# TYPE {name} gauge"]
            announced = name
        labels = ",".join(f'{key}="{_escaped(text)}"' for key, text in (*common, *gauge.labels))
        lines.append(f"{name}{{{labels}}} {float(value)!r}")
    return "\n".join(lines) + "\n"


def why_no_textfile(path: Path) -> str | None:
    """Why no figures may be put at *path*, as the end of a sentence; None if they may."""
    if path.suffix != ".prom":
        return "its name does not end in .prom, so no collector would read it"
    return why_not(path, _HEAD.encode(), "file of such figures")


def write_textfile(record: RunRecord, path: Path) -> None:
    """Replace the file at *path*; a link stays, and what it points to is replaced.

    Raises OSError, also for a place where no figures may be (see `why_no_textfile`).
    """
    if (reason := why_no_textfile(path)) is not None:
        raise OSError(errno.EINVAL, reason)
    place = Path(os.path.realpath(path))
    # Beside it, for a rename works within one file system only; without `.prom` at its end nobody reads it.
    draft = place.with_name(f".{place.name}.{os.getpid()}.new")
    data = textfile(record).encode("utf-8", "replace")
    try:
        # What a killed run of the same number left behind goes first: whatever stands there is not written through.
        draft.unlink(missing_ok=True)
        with open(draft, "xb", opener=lambda name, flags: os.open(name, flags, _MODE)) as file:
            file.write(data)
        os.replace(draft, place)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
