"""A finished run without any other package: for programs in which those are missing."""

from __future__ import annotations

from utils.run_record import RunFacts, RunRecord


def record() -> RunRecord:
    """A complete answer without figures."""
    report = {"outcome": "complete", "exit_code": 0, "target": "m at http://h/v1", "model_used": "m"}
    return RunRecord(RunFacts("0123456789ab", target="m at http://h/v1", model_requested="m"), report)
