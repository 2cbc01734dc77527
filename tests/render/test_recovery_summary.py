"""The line that ends a run with simulated failures."""

from __future__ import annotations

from typing import Any

import pytest

from utils.render.recovery import recovery_summary
from utils.run_report import Outcome, RunReport

START = "the answer is whole (finish_reason stop): "


def report(*resumed: tuple[str, int], outcome: Outcome = "complete", **metrics: Any) -> RunReport:
    rows = tuple({"type": "resumed", "strategy": strategy, "overlap_chars": chars} for strategy, chars in resumed)
    return RunReport("x", outcome, 0, "stop", "m", "m", "t", None, metrics=metrics, events=rows)


@pytest.mark.parametrize(
    ("given", "injected", "expected"),
    [
        (report(), 0, None),
        (report(("replay", 3), outcome="incomplete"), 1, None),
        (report(retries=2), 2, f"{START}2 simulated failures survived, all before any text"),
        (report(), 2, f"{START}2 simulated failures survived, none of which needed another attempt"),
        (
            report(("replay", 26), ("replay", 4)),
            3,
            f"{START}3 simulated failures survived, resumed 2 times, all 30 characters received again were compared "
            "and left out",
        ),
        (
            report(("replay", 26), ("continue", 4), fallbacks=1),
            1,
            f"{START}1 simulated failure survived, 1 fallback, resumed 2 times, joined at the seam by its words: the "
            "server need not have written the same twice",
        ),
    ],
)
def test_the_summary_claims_only_what_was_proved(given: RunReport, injected: int, expected: str | None) -> None:
    assert recovery_summary(given, injected=injected) == expected


def test_an_answer_with_a_doubled_event_is_not_called_whole() -> None:
    line = recovery_summary(report(), injected=2, doubled=1)
    assert line == "the answer has ended (finish_reason stop), and 1 event of it came twice"
