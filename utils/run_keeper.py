"""What is kept of a run: its row in the history, its HTML report, its export. Nothing here may fail a run.

Everything is made from one `RunRecord`. Texts go into it only where the user asked to keep them, and then through the
packs `pii` and `secrets`, whatever guarded the answer itself.
"""

from __future__ import annotations

import dataclasses
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING

from utils.clock import monotonic
from utils.history import History, history_path
from utils.run_record import RunFacts, RunRecord
from utils.settings import Settings

if TYPE_CHECKING:
    from utils.answer_guard import GuardFigures
    from utils.metrics.recorder import Recorder
    from utils.metrics.slo import Slo, SloVerdict
    from utils.run_context import Target
    from utils.run_report import RunReport

__all__ = ["RunKeeper"]

_EXPLAINING = (
    *("temperature", "max_tokens", "seed", "timeout_s", "first_token_timeout_s", "idle_timeout_s", "retries"),
    *("rpm", "tpm", "max_tokens_per_second", "adaptive", "resume", "guardrails", "toxicity", "failure_plan"),
)
"""Settings that explain figures; none of them may hold a key or a text."""


class RunKeeper:
    """Keeps one run, as the settings say. `begin` before the request, `finish` after the answer, `close` at the end.

    *report_path*: where an HTML page is wanted, if anywhere. *conversation*: the id of the one that it is a turn of.
    *own_keys*: the keys of the user, which no kept text may hold.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        version: str,
        target: Target,
        model_requested: str,
        started_s: float,
        report_path: Path | None = None,
        conversation: str | None = None,
        own_keys: tuple[str, ...] = (),
    ) -> None:
        self._settings = settings
        self._own_keys = own_keys
        self._started_s = started_s
        self._slo: Slo | None = None
        if settings.slo is not None:
            from utils.metrics.slo import parse_slo

            self._slo = parse_slo(settings.slo)
        self._report_path = report_path
        path = history_path() if settings.log else None
        self._history = History(path) if path is not None else None
        values = {name: getattr(settings, name) for name in _EXPLAINING}
        self._facts = RunFacts(
            run_id=secrets.token_hex(6),
            version=version,
            model_requested=model_requested,
            target=target.name,
            is_simulated=settings.simulate_failures,
            settings={name: value for name, value in values.items() if value is not None},
            conversation=conversation,
        )

    @property
    def run_id(self) -> str:
        """What the run is called in the history."""
        return self._facts.run_id

    def begin(self, prompt: str) -> None:
        """Say that the run begins; whoever kills it now leaves this behind."""
        started_at = time.time() - (monotonic() - self._started_s)
        self._facts = dataclasses.replace(self._facts, prompt_chars=len(prompt), started_at=started_at)
        if self._history is not None:
            self._history.begin(self._facts)

    def finish(
        self, report: RunReport, recorder: Recorder, guard: GuardFigures, prompt: str, system: str | None = None
    ) -> list[str]:
        """Keep the run; lines about what could not be kept."""
        hold = guard.hold
        started_s = recorder.started_s
        levels = () if hold is None else tuple((now - started_s, chars) for now, chars in hold.levels())
        verdict = self._verdict(report)
        slo = verdict.as_json() if verdict is not None else None
        record = RunRecord.of(self._facts, report, tokens=recorder.token_log(hold), held=levels, slo=slo)
        notes: list[str] = []
        if self._history is not None:
            kept = self._with_texts(record, prompt, report.text, system) if self._settings.log_text else record
            self._history.complete(kept, ended_at=time.time())
            if warning := self._history.take_warning():
                notes.append(warning)
        if self._report_path is not None:
            notes += self._write_page(dataclasses.replace(record, text=report.text))
        if self._settings.otel is not None or self._settings.prometheus is not None:
            from utils.exporters.export import export_run

            notes += export_run(record, self._settings)
        return notes

    def close(self) -> None:
        """Free the history. Idempotent."""
        if self._history is not None:
            self._history.close()

    def verdict_line(self, report: RunReport) -> str | None:
        """Whether the objectives were met, for people; None without any."""
        verdict = self._verdict(report)
        if verdict is None:
            return None
        word = {True: "met", False: "missed", None: "cannot be judged"}[verdict.is_good]
        rows = [f"{name} {_number(value)} (limit {limit:g})" for name, limit, value, _ in verdict.rows]
        return f"objectives {word}: {', '.join(rows)}"

    def _verdict(self, report: RunReport) -> SloVerdict | None:
        if self._slo is None:
            return None
        return self._slo.judge(report.metrics, is_complete=report.outcome == "complete")

    def _with_texts(self, record: RunRecord, prompt: str, text: str, system: str | None) -> RunRecord:
        from utils.guardrails.policy import compile_rules
        from utils.guardrails.redactor import cleaned

        rules = compile_rules(("pii", "secrets"), own_keys=self._own_keys)
        return dataclasses.replace(
            record,
            prompt=cleaned(prompt, rules),
            text=cleaned(text, rules),
            system=cleaned(system, rules) if system else None,
        )

    def _write_page(self, record: RunRecord) -> list[str]:
        from utils.report.page import write_page

        assert self._report_path is not None
        try:
            write_page(record, self._report_path)
        except OSError as error:
            return [f"the report {str(self._report_path)!r} cannot be written: {error.strerror or error}"]
        return []


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3g}"
