"""Validation, judges of toxicity and rules together, through all four nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.flow.harness import run_flow
from tests.flow.test_flow import OPENED, STOP, MockBackend, text, types
from tests.support.sample_rules import sample_rules
from utils.events import Redacted, Retrying
from utils.guardrails.moderation import Judgement
from utils.validation.plan import ValidationPlan
from utils.validation.structured import compile_regex

URL = "http://x/v1"
ADDRESS = ValidationPlan((compile_regex(r"mail [a-z@.]+\.").validator,), retries=1)


@dataclass
class Judge:
    """An endpoint that finds *bad* toxic, and remembers what it was sent."""

    bad: str
    name: str = "judge"
    sent: list[str] = field(default_factory=list)

    async def judge(self, texts: Sequence[str]) -> Sequence[Judgement]:
        self.sent += texts
        return [Judgement(1.0, True) if self.bad in text else Judgement(0.0, False) for text in texts]


def test_an_invalid_answer_is_asked_for_again_and_the_valid_one_is_guarded() -> None:
    backend = MockBackend(
        [[OPENED], text("call ", "bob@example.com"), [STOP]],
        [[OPENED], text("mail bob@exam", "ple.com."), [STOP]],
    )
    run = run_flow(URL, backend=backend, rules=sample_rules(), validation=ADDRESS)
    # Nothing of the first answer; the second one was judged as the model wrote it, and is shown as a reader may see it.
    assert run.report.text == "mail [EMAIL]."
    assert (run.report.outcome, run.report.exit_code) == ("complete", 0)
    assert [event.attempt for event in run.events if isinstance(event, Retrying)] == [2]
    assert run.report.guard["validation"] == [
        {"validator": "regex", "reason": "expected 'm'", "position": 0, "byte_position": 0}
    ]
    assert run.report.guard["answer"]["findings"][0]["count"] == 1
    assert backend.is_all_closed


def test_what_is_invalid_ends_a_guarded_answer_and_drops_what_is_held() -> None:
    plan = ValidationPlan(ADDRESS.factories)
    backend = MockBackend([[OPENED], text("mail bob@exam", "PLE.com."), [STOP]])
    run = run_flow(URL, backend=backend, rules=sample_rules(), validation=plan)
    assert (run.report.text, run.report.outcome, run.report.exit_code) == ("mail ", "blocked", 4)
    assert backend.is_all_closed


def test_an_endpoint_judges_what_the_model_wrote_and_the_rules_hide_it() -> None:
    judge = Judge("idiot")
    backend = MockBackend([[OPENED], text("Mail bob@example.com. ", "You idiot. ", "Bye."), [STOP]])
    run = run_flow(URL, backend=backend, rules=sample_rules(), toxicity="hold", endpoint=judge)
    assert run.report.text == "Mail [EMAIL]. "
    assert (run.report.outcome, run.report.exit_code) == ("blocked", 4)
    assert judge.sent[:2] == ["Mail bob@example.com.", "You idiot."]
    assert run.report.guard["toxicity"]["judged_remotely"] >= 2
    assert types(run.events)[-1] == "Blocked"
    assert sum(isinstance(event, Redacted) for event in run.events) == 1
    assert backend.is_all_closed
