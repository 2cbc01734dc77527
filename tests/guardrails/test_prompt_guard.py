"""the prompt guard: what it refuses, what it only notices, and that it tells places and never values"""

from __future__ import annotations

import time

import pytest

from utils.errors import PromptRejected, UsageProblem
from utils.guardrails.prompt_guard import Finding, PromptVerdict, check_prompt

OWN_KEY = "my-own-key-0123"
KEY = "sk-proj-0123456789abcdef"


def check(prompt: str, system: str | None = None, *, allow_secrets: bool = False) -> PromptVerdict:
    return check_prompt(prompt, system, limit_chars=1000, own_key=OWN_KEY, allow_secrets=allow_secrets)


@pytest.mark.parametrize(
    ("prompt", "system", "error", "message"),
    [
        ("", None, UsageProblem, "the prompt is empty"),
        (" \n\t\u3000", None, UsageProblem, "the prompt is blank"),
        ("x" * 1001, None, UsageProblem, "the prompt has 1,001 characters; the limit is 1,000"),
        (
            "x" * 600,
            "y" * 500,
            UsageProblem,
            "the prompt and the system prompt have 1,100 characters; the limit is 1,000",
        ),
        ("abc\udcff", None, UsageProblem, "the prompt is not valid UTF-8: undecodable byte at offset 3"),
        ("x", "ab\ud800", UsageProblem, "the system prompt is not valid UTF-8: undecodable byte at offset 2"),
        ("abcd\x00", None, UsageProblem, "the prompt has a NUL character at offset 4"),
        ("ab\x1b[31mred", None, PromptRejected, "the prompt has an ANSI escape (U+001B) at offset 2"),
        ("ab\x9b31mred", None, PromptRejected, "the prompt has an ANSI escape (U+009B) at offset 2"),
        ("a\x07", None, PromptRejected, "the prompt has a control character (U+0007) at offset 1"),
        ("a\x7f", None, PromptRejected, "the prompt has a control character (U+007F) at offset 1"),
        ("x", "a\x0b", PromptRejected, "the system prompt has a control character (U+000B) at offset 1"),
        (
            f"use {KEY} now",
            None,
            PromptRejected,
            "the prompt contains what looks like an API key (characters 4 to 28); nothing was sent",
        ),
        (
            f"use {OWN_KEY}",
            None,
            PromptRejected,
            "the prompt contains your own API key (characters 4 to 19); nothing was sent",
        ),
        (
            "x",
            f"{KEY}",
            PromptRejected,
            "the system prompt contains what looks like an API key (characters 0 to 24); nothing was sent",
        ),
    ],
)
def test_what_is_refused(prompt: str, system: str | None, error: type[Exception], message: str) -> None:
    rejection = check(prompt, system).rejection
    assert type(rejection) is error
    assert rejection is not None
    assert rejection.message == message
    assert rejection.hint


@pytest.mark.parametrize(
    ("error", "code"), [(check("").rejection, 2), (check("\x00").rejection, 2), (check("\x01").rejection, 4)]
)
def test_the_exit_codes(error: object, code: int) -> None:
    assert getattr(error, "exit_code", None) == code


@pytest.mark.parametrize(
    "prompt",
    [
        "hello",
        "two\nlines\r\n\tand a tab",
        "Grüße, 日本 🙂",
        "x" * 1000,
        "task-list-0123456789abcdef",
        "a\u200eb",
        "c@d.com",
    ],
)
def test_ordinary_prompts_pass_without_findings(prompt: str) -> None:
    assert check(prompt) == PromptVerdict((), None)


def test_allow_secrets_lets_keys_pass_and_still_notices_them() -> None:
    verdict = check(f"{KEY} {KEY} {OWN_KEY}", allow_secrets=True)
    assert verdict.rejection is None
    assert verdict.findings == (Finding("own_key", "prompt", 50, 65, 1), Finding("api_key", "prompt", 0, 24, 2))


def test_the_way_out_is_named_and_the_value_never_is() -> None:
    verdict = check(f"use {KEY}")
    assert "--allow-secrets" in getattr(verdict.rejection, "hint", "")
    assert "0123456789" not in repr(verdict) + str(verdict.rejection)


def test_a_short_own_key_may_stand_in_a_prompt() -> None:
    assert check_prompt("ask ollama", None, limit_chars=100, own_key="ollama").rejection is None


def test_invisible_characters_are_noticed_and_pass() -> None:
    verdict = check("a\u202eb\u202c \U000e0041\U000e0042", "\u2066x")
    assert verdict.rejection is None
    assert verdict.findings == (
        Finding("bidi_control", "prompt", 1, 2, 2),
        Finding("unicode_tag", "prompt", 5, 7, 1),
        Finding("bidi_control", "system", 0, 1, 1),
    )


@pytest.mark.parametrize("unit", ["word and word ", "a", "sk-", "eyJ-", "\U000e0041a", "é", OWN_KEY[:-1]])
def test_a_megabyte_is_checked_in_linear_time(unit: str) -> None:
    prompt = unit * (1_000_000 // len(unit))
    started = time.process_time()
    check_prompt(prompt, None, limit_chars=2_000_000, own_key=OWN_KEY)
    assert time.process_time() - started < 5  # a quadratic scan would need minutes
