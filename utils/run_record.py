"""Everything that is kept of a run for later: what history stores, the HTML report shows and exporters send.

By default it holds no text: neither prompt nor answer, and of errors and causes only their codes, because servers quote
what they were sent. `with_text` adds what the user asked to keep.
"""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from utils.metrics.token_log import TokenLog
from utils.run_report import RunReport

__all__ = ["RunFacts", "RunRecord", "without_quotes"]

_QUOTING = ("message", "hint", "cause")
"""Keys whose values may hold words of the prompt, the answer, or a server that repeats them."""
_HIDDEN_IN = {"validation": (*_QUOTING, "reason")}
"""The reason of an `Adapted` is ours; that of a violation may name what stood in the answer."""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What is known before the request is sent. Times are seconds since 1970.

    *settings*: the ones that explain figures (sampling parameters, deadlines, packs), JSON-ready, no key and no text.
    """

    run_id: str
    started_at: float = field(default_factory=time.time)
    version: str = ""
    model_requested: str = ""
    target: str = ""
    prompt_chars: int = 0
    is_simulated: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    conversation: str | None = None
    """The id of the conversation that this run is a turn of."""
    environment: str = field(default_factory=lambda: f"Python {platform.python_version()}, {platform.system()}")

    def as_json(self) -> dict[str, Any]:
        """JSON-ready form."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A finished run. *report* is that of `--json` without the text and without quotes; *slo* a `SloVerdict` as JSON.

    *tokens*: a record per token.  *held*: (seconds from the start of the run, characters held from then on).
    *text*, *prompt*, *system*: only for whoever asked to keep them, as the guards showed them.
    """

    facts: RunFacts
    report: Mapping[str, Any]
    tokens: TokenLog = field(default_factory=TokenLog)
    held: tuple[tuple[float, int], ...] = ()
    slo: Mapping[str, Any] | None = None
    text: str | None = field(default=None, repr=False)
    prompt: str | None = field(default=None, repr=False)
    system: str | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls,
        facts: RunFacts,
        report: RunReport,
        *,
        tokens: TokenLog,
        held: tuple[tuple[float, int], ...] = (),
        slo: Mapping[str, Any] | None = None,
    ) -> RunRecord:
        """The record of *report*, without any text."""
        row = report.as_json()
        del row["text"]
        return cls(facts, without_quotes(row), tokens, held, slo)

    def as_json(self) -> dict[str, Any]:
        """JSON-ready form, which `from_json` reads."""
        return {
            "facts": self.facts.as_json(),
            "report": dict(self.report),
            "tokens": self.tokens.as_json(),
            "held": [list(row) for row in self.held],
            "slo": self.slo,
            "text": self.text,
            "prompt": self.prompt,
            "system": self.system,
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> RunRecord:
        """What `as_json` wrote. Raises: KeyError, TypeError or ValueError for anything else."""
        return cls(
            RunFacts(**row["facts"]),
            row["report"],
            TokenLog.from_json(row["tokens"]),
            tuple((float(t_s), int(chars)) for t_s, chars in row["held"]),
            row["slo"],
            row.get("text"),
            row.get("prompt"),
            row.get("system"),
        )


def without_quotes(value: Any, hidden: tuple[str, ...] = _QUOTING) -> Any:
    """*value* (JSON-ready) without the texts of errors and causes: they may quote the prompt or the answer."""
    if isinstance(value, Mapping):
        return {
            key: None if key in hidden and isinstance(item, str) else without_quotes(item, _HIDDEN_IN.get(key, hidden))
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [without_quotes(item, hidden) for item in value]
    return value
