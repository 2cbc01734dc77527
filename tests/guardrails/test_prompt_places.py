"""Which file of a prompt a finding is in, never a wrong one; and prompts that may be shown, without their secrets."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.attachments import Assembled, Attachment, assembled
from utils.guardrails.policy import compile_rules
from utils.guardrails.prompt_guard import Finding, PromptLimits, PromptPolicy, PromptVerdict, check_prompt
from utils.guardrails.prompt_mask import masked
from utils.guardrails.rules import RuleSet
from utils.render.prompt_notices import prompt_notice

OWN_KEY = "my-very-own-key-0123"
TOKEN = "ghp_" + "abcdefghij0123456789ABCDEFGHIJ456789"
ADDRESS = "bob@example.com"
SECRETS = compile_rules(("secrets",), own_keys=(OWN_KEY,))
ADVISORY = compile_rules(("pii", "injection"), action="flag")
POLICY = PromptPolicy(PromptLimits(1_000_000), SECRETS, ADVISORY)


def tags(text: str) -> str:
    return "".join(chr(0xE0000 + ord(character)) for character in text)


def judged(prompt: Assembled, system: str | None = None, policy: PromptPolicy = POLICY) -> PromptVerdict:
    return check_prompt(prompt.text, system, policy, prompt.parts)


def files(*texts: str, ask: str = "What?") -> Assembled:
    return assembled([Attachment(f"{n}.txt", text) for n, text in enumerate(texts)], ask)


@pytest.mark.parametrize(
    ("prompt", "where"),
    [
        (files("a\n", f"b\nmail {ADDRESS}\n"), (2, "1.txt", 2)),
        (files(f"{ADDRESS}", "b"), (1, "0.txt", 1)),
        (files("a", ask=f"Write to {ADDRESS}"), (0, "", 0)),
        (assembled([Attachment(f"of {ADDRESS}", "a")], "What?"), (0, "", 0)),
        (assembled([], f"Write to {ADDRESS}"), (0, "", 0)),
    ],
)
def test_a_finding_names_the_file_and_the_line_of_its_first_place(
    prompt: Assembled, where: tuple[int, str, int]
) -> None:
    (finding,) = judged(prompt).findings
    assert (finding.part, finding.source, finding.line) == where
    assert prompt.text[finding.start : finding.end] == ADDRESS


def test_the_marks_themselves_are_never_found() -> None:
    for number in range(50):
        assert judged(files(f"text {number}", "more")) == PromptVerdict((), None)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["text\n", f"see {ADDRESS}\n", "\n", "é\n"]), max_size=6), st.integers(0, 3))
def test_the_line_named_is_the_one_that_holds_it(rows: list[str], before: int) -> None:
    texts = [*["other\n"] * before, "".join(rows)]
    findings = judged(files(*texts)).findings
    expected = [n for n, row in enumerate(rows, 1) if ADDRESS in row]
    assert [(finding.source, finding.line) for finding in findings] == [(f"{before}.txt", n) for n in expected[:1]]
    assert [finding.count for finding in findings] == ([len(expected)] if expected else [])


def test_what_the_system_prompt_holds_is_in_no_file() -> None:
    (finding,) = judged(files("x" * 300), f"{'s' * 200} {ADDRESS}").findings
    assert (finding.place, finding.part, finding.source) == ("system", 0, "")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"x\n\ntoken {TOKEN}", 'github) (in "1.txt", line 3; characters '),
        ("x\n\x1b[1m", 'an ANSI escape (U+001B) at offset {at} (in "1.txt", line 2)'),
        ("a\0b", 'a NUL character at offset {at} (in "1.txt", line 1)'),
    ],
)
def test_a_refusal_names_the_file(text: str, says: str) -> None:
    prompt = files("first", text)
    rejection = judged(prompt).rejection
    assert rejection is not None
    bad = next((n for n, character in enumerate(prompt.text) if character in "\x1b\0"), 0)
    assert says.format(at=bad) in rejection.message
    assert TOKEN not in rejection.message


@pytest.mark.parametrize(
    ("count", "line"),
    [
        (1, 'the prompt matches pii.email (in "a.txt", line 1,200): e-mail address'),
        (3, 'the prompt matches pii.email (first in "a.txt", line 1,200, 3 times): e-mail address'),
    ],
)
def test_the_line_for_people(count: int, line: str) -> None:
    assert (
        prompt_notice(Finding("pii.email", "prompt", 9, 20, count, part=1, source="a.txt", line=1_200), ADVISORY)
        == line
    )


def test_names_of_files_stay_out_of_reports() -> None:
    found = Finding("pii.email", "prompt", 9, 20, 1, part=2, source="a.txt", line=3).as_json()
    assert (found["part"], found["line"]) == (2, 3)
    assert "a.txt" not in str(found)
    assert not {"part", "line", "source"} & Finding("pii.email", "prompt", 9, 20, 1).as_json().keys()


@pytest.mark.parametrize(
    ("text", "shown", "count"),
    [
        ("nothing here", "nothing here", 0),
        (f"a {TOKEN} b {OWN_KEY}", "a xxx_xxxxxxxxxx9999999999… b xx-xxxx-xxx-xxx-9999", 2),
        (f"é {TOKEN}", "é xxx_xxxxxxxxxx9999999999…", 1),
    ],
)
def test_secrets_are_shown_by_their_shape(text: str, shown: str, count: int) -> None:
    assert masked(text, SECRETS) == (shown, count)


@pytest.mark.parametrize(
    "text",
    [
        f"a{tags(f'see {TOKEN}')}b",
        f"a{tags(TOKEN[:20])}b{tags(TOKEN[20:])}",
        f"see {TOKEN[:20]}{tags(TOKEN[20:])} there",
        f"see {tags(TOKEN[:20])}{TOKEN[20:]} there {tags('more')}",
    ],
)
def test_what_hidden_characters_spell_cannot_be_copied(text: str) -> None:
    assert judged(assembled([], text)).rejection is not None, "the guard sees it"
    shown, count = masked(text, SECRETS)
    assert count
    assert not any(0xE0000 <= ord(character) < 0xE0080 for character in shown)
    assert not any(TOKEN[n : n + 8] in shown for n in range(len(TOKEN) - 8))


def test_what_stands_around_a_secret_stays() -> None:
    text = f"{chr(0xE0001) * 5}{tags('hi')} some words {TOKEN[:20]}{tags(TOKEN[20:])} there {TOKEN}."
    shown, count = masked(text, SECRETS)
    assert shown == "*** some words xxx_xxxxxxxxxx999999****… there xxx_xxxxxxxxxx9999999999…."
    assert count == 3


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["x ", f"{TOKEN} ", OWN_KEY, tags("hi"), "é", tags(TOKEN), " ", "\u200b"]), max_size=8))
def test_whatever_is_shown_the_guard_finds_nothing_in_it(pieces: list[str]) -> None:
    text = "".join(pieces)
    shown, count = masked(text, SECRETS)
    verdict = check_prompt(f"? {shown}", None, PromptPolicy(PromptLimits(10_000), SECRETS, RuleSet.compile(())))
    assert verdict.rejection is None
    assert (shown == text) is (count == 0)
