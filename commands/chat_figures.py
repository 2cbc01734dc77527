"""What `/stats` shows: the figures of a chat's answers, and the state of the targets that were asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from statistics import median
from typing import TYPE_CHECKING

from utils.render.figures import counted, duration

if TYPE_CHECKING:
    from utils.resilience.resilient_stream import Opener
    from utils.run_report import RunReport

__all__ = ["ChatFigures"]


class ChatFigures:
    """Adds up the answers of one chat."""

    def __init__(self) -> None:
        self._outcomes: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self._prompt_tokens = 0
        self._first_text_s: list[float] = []
        self._rates: list[float] = []
        self._counts: Counter[str] = Counter()

    def add(self, report: RunReport) -> None:
        """Take in the report of one answer."""
        metrics = report.metrics
        self._outcomes[report.outcome] += 1
        self._tokens[metrics["token_source"]] += metrics["tokens"]
        self._prompt_tokens += metrics["prompt_tokens"] or 0
        if metrics["ttft_s"] is not None:
            self._first_text_s.append(metrics["ttft_s"])
        if metrics["tokens_per_s"] is not None:
            self._rates.append(metrics["tokens_per_s"])
        for name in ("retries", "resumes", "fallbacks", "redactions"):
            self._counts[name] += metrics[name]

    def lines(self, openers: Iterable[Opener]) -> list[str]:
        """For people."""
        if not self._outcomes:
            return ["no answer yet"]
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in self._outcomes.items())
        tokens = ", ".join(f"{count:,} by {source}" for source, count in self._tokens.items() if count) or "none"
        lines = [
            f"answers      {self._outcomes.total()}: {outcomes}",
            f"tokens       {self._tokens.total():,} in answers ({tokens}); {self._prompt_tokens:,} in prompts",
        ]
        if self._first_text_s:
            first = f"median {duration(median(self._first_text_s))}, longest {duration(max(self._first_text_s))}"
            lines.append(f"first token  {first} (n {len(self._first_text_s)})")
        if self._rates:
            lines.append(f"tokens/s     median {median(self._rates):.1f} (n {len(self._rates)})")
        names = (("retries", "retry", "retries"), ("resumes", "resume", None), ("fallbacks", "fallback", None))
        recovered = [counted(self._counts[name], one, many) for name, one, many in names if self._counts[name]]
        if recovered:
            lines.append(f"recovery     {', '.join(recovered)}")
        if hidden := self._counts["redactions"]:
            lines.append(f"guard        {hidden:,} hidden")
        for opener in openers:
            for upstream in opener.upstreams:
                limiter = upstream.limiter.statistics() if upstream.limiter else None
                state = upstream.breaker.statistics().state.value
                limit = f"; {counted(limiter.granted, 'request')} granted, {limiter.waited:,} waited" if limiter else ""
                lines.append(f"target       {upstream.target.name}: breaker {state}{limit}")
        return lines
