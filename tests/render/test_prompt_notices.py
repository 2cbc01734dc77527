"""The lines about what the prompt guard noticed."""

from __future__ import annotations

import pytest

from utils.guardrails.literal import LiteralPattern
from utils.guardrails.prompt_guard import Finding
from utils.guardrails.rules import Rule, RuleSet
from utils.render.prompt_notices import prompt_notice

ADVISORY = RuleSet.compile([Rule("pii.email", "", LiteralPattern("x"), action="flag", description="e-mail address")])


@pytest.mark.parametrize(
    ("finding", "line"),
    [
        (Finding("pii.email", "prompt", 50, 70, 1), "the prompt matches pii.email (at character 50): e-mail address"),
        (
            Finding("pii.email", "system", 1_050, 1_070, 3),
            "the system prompt matches pii.email (at character 1,050, 3 times): e-mail address",
        ),
        (Finding("own_key", "prompt", 0, 12, 1), "the prompt matches own_key (at character 0)"),
        (
            Finding("unicode_tag", "prompt", 3, 9, 1, revealed='say "hi"\u00a0now'),
            "the prompt has invisible tag characters that spell 'say \"hi\"\\xa0now' (at character 3)",
        ),
        (
            Finding("zero_width", "prompt", 3, 9, 2),
            "the prompt has a run of zero-width characters (at character 3, 2 times)",
        ),
        (
            Finding("context", "prompt", 0, 9, 1, sample="about 4,055 tokens, room for 3,584"),
            "the prompt may not leave room for the whole answer (about 4,055 tokens, room for 3,584)",
        ),
    ],
)
def test_each_finding_is_one_line_with_its_place(finding: Finding, line: str) -> None:
    assert prompt_notice(finding, ADVISORY) == line


def test_the_shape_of_a_value_is_left_to_the_report() -> None:
    finding = Finding("pii.email", "prompt", 50, 70, 1, sample="xxx@xxx.xxx")
    assert "xxx" not in prompt_notice(finding, ADVISORY)
