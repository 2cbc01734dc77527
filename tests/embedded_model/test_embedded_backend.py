"""What the embedded model is asked, seen in what it sends."""

from __future__ import annotations

import json
from typing import Any

from tests.flow.embedded_runs import EmbeddedRuns
from tests.flow.kept_bodies import Bodies
from utils.failure_simulator import FailurePlan
from utils.run_context import Parameters


def entries_of(body: bytes | bytearray) -> list[Any]:
    choices = [
        choice
        for line in body.splitlines()
        if line.startswith(b"data: {")
        for choice in json.loads(line[6:])["choices"]
    ]
    return [entry for choice in choices for entry in (choice.get("logprobs") or {}).get("content", ())]


def test_logprobs_come_only_if_asked_for_and_without_twenty_alternatives_that_nobody_reads() -> None:
    with EmbeddedRuns() as runs:
        for wanted in (True, False):
            bodies = Bodies()
            parameters = Parameters(temperature=0.0, max_tokens=4, seed=1, logprobs=wanted)
            report = runs.run("Hello", parameters, FailurePlan([]), below=bodies.keep, system="Copy.").report
            assert report.outcome == "complete"
            entries = entries_of(bodies.kept[-1])
            assert bool(entries) == bool(report.quality["confidence"]) == wanted
            assert {len(entry["top_logprobs"]) for entry in entries} <= {1}
