"""Every fault of a stream on a real socket, through the whole flow: a complete answer, or a typed error in time."""

from __future__ import annotations

import pytest

from tests.flow.harness import run_flow
from tests.support.exhaustive import exhaustive
from tests.support.faults import DEADLINE_S, FAULTS, FULL_TEXT, Fault, serve_fault
from tests.support.scripted_server import wait_until
from utils.events import Flagged


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_ends_in_a_complete_answer_or_in_a_typed_error(fault: Fault) -> None:
    with serve_fault(fault) as target:
        run = run_flow(target.base_url, deadline_s=DEADLINE_S)
        report = run.report
        assert report.text == fault.text_prefix
        assert report.exit_code == fault.exit_code
        assert (report.error.code if report.error else None) == fault.error_code
        assert (report.outcome == "complete") is fault.complete
        assert run.seconds < DEADLINE_S + 3.5
        if report.error is not None:
            assert report.error.message
            assert "\n" not in report.error.message
            assert "sk-test" not in report.error.message + report.error.hint
            assert getattr(report.error, "retry_after_s", None) == pytest.approx(fault.retry_after_s)
        if target.server is not None:
            wait_until(lambda: target.server.open_connections() == 0)


AGAIN = [
    fault
    for fault in FAULTS
    # That one is two seconds of silence, after which the answer is complete and nothing is asked again: see above.
    if fault.place == "server" and (fault.name != "silence_after_finish" or exhaustive([True]))
]


@pytest.mark.parametrize("fault", AGAIN, ids=lambda fault: fault.name)
def test_after_a_fault_a_good_server_gives_the_whole_answer_exactly_once(fault: Fault) -> None:
    with serve_fault(fault, then_good=True) as target:
        run = run_flow(target.base_url, deadline_s=DEADLINE_S, retries=2, deterministic=True)
        is_final = fault.exit_code in (65, 77, 78) or "should_not_retry" in fault.name
        if fault.complete:
            assert run.report.text == fault.text_prefix
        elif is_final or (fault.retry_after_s or 0) > 30:
            assert run.report.exit_code == fault.exit_code
        else:
            assert (run.report.text, run.report.exit_code) == (FULL_TEXT, 0)
            assert run.report.metrics["resumes"] == (1 if fault.text_prefix else 0)


def test_a_duplicated_event_is_shown_and_flagged() -> None:
    fault = next(fault for fault in FAULTS if "duplicat" in fault.name)
    with serve_fault(fault) as target:
        run = run_flow(target.base_url, deadline_s=DEADLINE_S)
    assert len(run.report.text) > len(FULL_TEXT)
    assert [event.rule for event in run.events if isinstance(event, Flagged)] == ["duplicated_event"]


AIOHTTP_SAYS = {
    # Its errors do not tell a connection that was never made from one that ended before the answer.
    "reset_before_response": "unreachable",
    "close_before_response": "unreachable",
    "close_inside_headers": "unreachable",
}
QUICK = [
    fault
    for fault in FAULTS
    if not any(word in f"{fault.error_code} {fault.name}" for word in ("timeout", "after_finish", "bad_chunk_header"))
]
"""Not those that wait for a deadline, which is ours and the same; aiohttp 3.14 never tells of a bad chunk header."""


@pytest.mark.parametrize("fault", QUICK, ids=lambda fault: fault.name)
def test_over_the_other_transport_a_fault_ends_the_same_way(fault: Fault) -> None:
    with serve_fault(fault) as target:
        report = run_flow(target.base_url, deadline_s=DEADLINE_S, uses_aiohttp=True).report
        assert report.text == fault.text_prefix
        assert report.exit_code == fault.exit_code
        assert (report.error.code if report.error else None) == AIOHTTP_SAYS.get(fault.name, fault.error_code)
        if target.server is not None:
            wait_until(lambda: target.server.open_connections() == 0)
