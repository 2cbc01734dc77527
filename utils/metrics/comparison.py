"""Runs side by side: what each model did over many runs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from utils.metrics.percentiles import Summary, summarize
from utils.metrics.slo import Slo

__all__ = ["COMPARED", "ComparedRun", "ModelFigures", "compared"]

COMPARED = ("ttft_s", "tpot_s", "tokens_per_s", "e2e_s", "longest_stall_s")
"""The figures that are summarised, by their names in the metrics of a run."""


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """What a comparison reads of a run; *metrics* are flat: `inter_chunk_latency_s.p50`."""

    model: str
    status: str
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """The runs of one model. *by_status* counts outcomes; *figures* are of whole answers only.

    *good* of *judged* runs met the objectives (see `slo`); both 0 without any.
    """

    model: str
    runs: int
    by_status: Mapping[str, int]
    figures: Mapping[str, Summary]
    resumes: int
    good: int
    judged: int

    @property
    def complete_share(self) -> float:
        """The share of runs that ended with a whole answer."""
        return self.by_status.get("complete", 0) / self.runs

    def as_json(self) -> dict[str, Any]:
        """JSON-ready form."""
        figures = {
            name: {"n": s.n, "p50": s.p50, "p90": s.p90, "p99": s.p99, "max": s.max, "mean": s.mean}
            for name, s in self.figures.items()
        }
        return {
            "model": self.model,
            "runs": self.runs,
            "by_status": dict(self.by_status),
            "complete_share": self.complete_share,
            "figures": figures,
            "resumes": self.resumes,
            "goodput": {"good": self.good, "judged": self.judged},
        }


def compared(runs: Iterable[ComparedRun], slo: Slo | None = None) -> list[ModelFigures]:
    """The figures of each model, those with most runs first. Runs that have not ended are left out."""
    by_model: dict[str, list[ComparedRun]] = {}
    for run in runs:
        if run.status != "running":
            by_model.setdefault(run.model, []).append(run)
    figures = [_figures(model, group, slo) for model, group in by_model.items()]
    return sorted(figures, key=lambda one: (-one.runs, one.model))


def _figures(model: str, runs: list[ComparedRun], slo: Slo | None) -> ModelFigures:
    by_status: dict[str, int] = {}
    for run in runs:
        by_status[run.status] = by_status.get(run.status, 0) + 1
    whole = [run.metrics for run in runs if run.status == "complete"]
    verdicts = [_verdict(run, slo) for run in runs] if slo is not None else []
    return ModelFigures(
        model,
        len(runs),
        by_status,
        {name: summarize(metrics[name] for metrics in whole if name in metrics) for name in COMPARED},
        int(sum(run.metrics.get("resumes", 0) for run in runs)),
        sum(verdict is True for verdict in verdicts),
        sum(verdict is not None for verdict in verdicts),
    )


def _verdict(run: ComparedRun, slo: Slo) -> bool | None:
    nested: dict[str, Any] = {}
    for name, value in run.metrics.items():
        top, _, rest = name.partition(".")
        if rest:
            nested.setdefault(top, {})[rest] = value
        else:
            nested[top] = value
    return slo.judge(nested, is_complete=run.status == "complete").is_good
