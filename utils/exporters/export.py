"""Sends a finished run to where the settings say. Nothing that fails here changes the answer or the exit code.

It is told in one line, and takes 2 seconds at most: all of the network happens in a thread that is left behind when
its time is over. Neither a name that is looked up for minutes nor a collector that sends a byte per second can hold the
program.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from utils.exporters.semconv import Generation, generation_in
from utils.run_record import RunRecord
from utils.wording import url_for_people

if TYPE_CHECKING:
    from utils.settings import Settings

__all__ = ["EXPORT_S", "PIP_LINE", "export_run"]

EXPORT_S = 2.0
"""How long the export of a run may take in all, loading the packages included."""
_REASON_S = 0.2
"""So much earlier a request gives up, so that it can say why."""

PIP_LINE = "pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"


def export_run(record: RunRecord, settings: Settings) -> list[str]:
    """Export *record* as the settings say; a line about whatever failed. Raises nothing."""
    notes: list[str | None] = []
    if settings.prometheus is not None:
        from utils.exporters.prometheus import write_textfile

        path = settings.prometheus
        try:
            write_textfile(record, path)
        except OSError as error:
            notes.append(f"the Prometheus file {str(path)!r} cannot be written: {error.strerror or error}")
        except Exception as error:
            notes.append(f"the Prometheus file {str(path)!r} was not written ({type(error).__name__})")
    if settings.otel is not None:
        url, generation = settings.otel, settings.otel_semconv or generation_in(os.environ)
        place = f"to {url_for_people(url)}"
        deadline_s = monotonic() + EXPORT_S - _REASON_S
        notes.append(
            _within(
                EXPORT_S,
                lambda: _send(record, url, generation, deadline_s, place),
                otherwise=f"the OpenTelemetry export {place} took more than {EXPORT_S:g} seconds and was given up",
            )
        )
    return [note for note in notes if note is not None]


def _send(record: RunRecord, url: str, generation: Generation, deadline_s: float, place: str) -> str | None:
    try:
        from utils.exporters.otel import send

        trouble = send(record, url, generation=generation, deadline_s=deadline_s)
    except ImportError:
        return f"the OpenTelemetry export needs packages that are not installed, or are too old: {PIP_LINE}"
    except Exception as error:
        # The SDK reads a dozen variables, each of which may hold what it cannot use; protobuf looks at its own version.
        trouble = f"it failed ({type(error).__name__})"
    return None if trouble is None else f"the OpenTelemetry export {place} failed: {trouble}"


def _within(seconds: float, work: Callable[[], str | None], *, otherwise: str) -> str | None:
    """What *work* returns; *otherwise* if that takes longer than *seconds*. It then goes on until the program ends."""
    results: list[str | None] = []
    # A daemon: the interpreter does not wait for it at the end.
    thread = threading.Thread(target=lambda: results.append(work()), name="exporter", daemon=True)
    thread.start()
    thread.join(seconds)
    return results[0] if results else otherwise
