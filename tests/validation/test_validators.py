"""Length, control characters, scripts, loops: the place of the cut does not depend on how the text was cut before."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.validation.feeding import CUTS, in_every_size, judged, split
from utils.errors import UsageProblem
from utils.validation.plan import ValidatorFactory, parse_spec, plan_of
from utils.validation.validators import (
    LOOP_CHARS,
    SCRIPTS,
    ControlValidator,
    LengthValidator,
    RepetitionValidator,
    ScriptValidator,
    ValidatorStateError,
)

CASES: list[tuple[str, str, int | None]] = [
    ("max-chars=5", "12345", None),
    ("max-chars=5", "123456", 5),
    ("max-chars=3", "\U0001f600\U0001f600\U0001f600", None),
    ("max-chars=1", "", None),
    ("no-control", "a\tb\r\nc \u00e9 \u202e", None),
    ("no-control", "ab\x1b[31m", 2),
    ("no-control", "abc\x7f", 3),
    ("no-control", "\x85", 0),
    ("no-control", "a\x00", 1),
    ("script=latin", "caf\u00e9 na\u0131ve 12 \u20ac \U0001f600 5 \u00b5m \u00aa \uff21 \U0001d400 \u02bc", None),
    ("script=latin", "abc \u0434", 4),
    ("script=latin", "abc \u4f60", 4),
    ("script=latin", "\u10d0", 0),
    ("script=cyrillic", "\u0434\u0430 12!", None),
    ("script=cyrillic", "\u0434\u0430 yes", 3),
    ("script=latin+cyrillic", "da \u0434\u0430 \u03b1", 6),
    ("script=greek", "\u03b1\u1f00\u03a9", None),
    ("script=han", "\u4f60\u3005\u597d\u3002", None),
    ("script=hiragana+katakana+han", "\u3072\u30ab\u30fc\u6f22", None),
    ("script=arabic", "\u0645\u0631\u062d\u0628\u0627 \u064b", None),
    ("script=hangul", "\ud55c\uad6d", None),
    ("no-repetition", "An answer that says something new all the time, word by word, until its end.", None),
    ("no-repetition", "ha " * 40, None),
    ("no-repetition", "ha " * 400, LOOP_CHARS),
    ("no-repetition", "The same sentence. " * 30, LOOP_CHARS),
    ("no-repetition", "-" * 150, None),
]


@pytest.mark.parametrize(("spec", "text", "position"), CASES)
def test_the_first_place_that_cannot_be_valid_is_found(spec: str, text: str, position: int | None) -> None:
    for pieces in in_every_size(text):
        violation = judged(parse_spec(spec)(), pieces)
        assert (violation and violation.position) == position


FACTORIES: list[ValidatorFactory] = [
    lambda: LengthValidator(7),
    ControlValidator,
    lambda: ScriptValidator(("latin", "greek")),
    lambda: ScriptValidator(("cyrillic",)),
    RepetitionValidator,
]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(FACTORIES), st.text(alphabet="ab \n\x00\u0434\u03b1", max_size=12), st.integers(1, 60), CUTS)
def test_the_verdict_depends_on_the_text_alone(
    factory: ValidatorFactory, unit: str, repeats: int, cuts: list[int]
) -> None:
    text = unit * repeats
    whole, cut = judged(factory(), [text] if text else []), judged(factory(), split(text, cuts) if text else [])
    assert whole == cut
    if whole is not None:
        assert 0 <= whole.position <= len(text)


@pytest.mark.parametrize("factory", FACTORIES)
def test_a_validator_is_not_used_after_its_end(factory: ValidatorFactory) -> None:
    validator = factory()
    assert validator.finish() is None
    with pytest.raises(ValidatorStateError):
        validator.feed("x")
    with pytest.raises(ValidatorStateError):
        validator.finish()


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_has_letters_of_its_own(script: str) -> None:
    own = [c for c in map(chr, range(0x10000)) if unicodedata.name(c, "").startswith(f"{SCRIPTS[script][0]} ")]
    letter = next(c for c in own if unicodedata.category(c) in ("Lo", "Lu", "Ll"))
    assert judged(ScriptValidator((script,)), [letter]) is None
    other = "latin" if script != "latin" else "greek"
    assert judged(ScriptValidator((other,)), [letter]) is not None


def test_the_memory_of_a_long_answer_is_bounded() -> None:
    validator = RepetitionValidator()
    for n in range(20_000):
        assert validator.feed(f"word {n} and another {n * 7} ") is None
    assert len(validator._window) <= 2_100


BAD_SPECS = [
    ("max-chars", "has no number"),
    ("max-chars=", "has no number"),
    ("max-chars=0", "has no number"),
    ("max-chars=-1", "has no number"),
    ("max-chars=1e3", "has no number"),
    ("max-chars=\u0661", "has no number"),
    ("no-control=1", "takes no value"),
    ("no-repetition=", "takes no value"),
    ("script=", "there is no script ''"),
    ("script=latin+klingon", "there is no script 'klingon'"),
    ("", "there is no validator ''"),
    ("length=5", "there is no validator 'length'"),
]


@pytest.mark.parametrize(("spec", "message"), BAD_SPECS)
def test_a_spec_that_means_nothing_is_a_usage_problem_with_a_way_out(spec: str, message: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        parse_spec(spec)
    assert message in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("spec", "near"), [("max-char=5", "max-chars"), ("no-controls", "no-control"), ("script=cyrilic", "cyrillic")]
)
def test_a_misspelt_spec_is_answered_with_the_nearest_name(spec: str, near: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        parse_spec(spec)
    assert f"did you mean {near!r}?" in caught.value.hint


def test_specs_may_be_written_with_blanks_and_in_capitals() -> None:
    assert judged(parse_spec(" Max-Chars = 3 ")(), ["abcd"]) is not None
    assert judged(parse_spec("SCRIPT=Latin + Greek")(), ["a\u03b1"]) is None


def test_a_plan_holds_what_was_asked_for_and_nothing_is_no_plan() -> None:
    assert plan_of() is None
    plan = plan_of(regex="[a-z]+", specs=["max-chars=5", "no-control"], retries=2)
    assert plan is not None
    assert [make().name for make in plan.factories] == ["regex", "max-chars", "no-control"]
    assert (plan.retries, plan.response_format) == (2, None)
    assert all(make() is not make() for make in plan.factories)
    for wrong in ({"regex": "a", "retries": 1, "json_schema": "s.json"}, {"retries": 1}, {"regex": ""}):
        with pytest.raises(UsageProblem):
            plan_of(**wrong)  # type: ignore[arg-type]
