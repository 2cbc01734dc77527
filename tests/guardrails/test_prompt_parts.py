"""the parts of the prompt guard: hidden characters, shapes, and the estimates of tokens"""

# ruff: noqa: RUF001  (other scripts are the subject)

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.guardrails.prompt_hidden import Hidden, hidden_characters
from utils.guardrails.prompt_sample import SAMPLE_CHARS, shape
from utils.guardrails.prompt_tokens import Tokenizer, fewest_tokens, likely_tokens

ENGLAND = "\U0001f3f4" + "".join(chr(0xE0000 + ord(c)) for c in "gbeng") + "\U000e007f"
TEXAS = "\U0001f3f4" + "".join(chr(0xE0000 + ord(c)) for c in "ustx") + "\U000e007f"


def selectors(data: bytes) -> str:
    return "".join(chr(0xFE00 + byte if byte < 16 else 0xE0100 + byte - 16) for byte in data)


@pytest.mark.parametrize(
    "text",
    [
        "👩‍👩‍👧‍👦 ❤️‍🔥 🏳️‍🌈 👍🏽 1️⃣",
        ENGLAND * 3,
        "می‌خواهم بروم و کتاب‌ها",
        "क्‍ष न्‍य",
        "ภาษา\u200bไทย\u200bไม่มี",
        "Donau\u00addampf\u00adschiff\u00adfahrt",
        "葛\U000e0100城 and 辻\U000e0101",
        "\ufeffa file with a byte order mark",
        "❤\ufe0f\ufe0f doubled by a keyboard",
        "عربي \u200eLTR\u200f عربي",
        "an icon \ue0b0 and \uf8ff",
        "cut\u200bonce, tw\u200bice",
    ],
)
def test_ordinary_text_has_no_hidden_characters(text: str) -> None:
    assert list(hidden_characters(text)) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a\u202eb\u202c", Hidden("bidi_control", ((1, 2), (3, 4)), "medium")),
        ("a\u2067b\u2069", Hidden("bidi_control", ((1, 2), (3, 4)), "low")),
        ("a\u2067\u202bb\u202c\u2069", Hidden("bidi_control", ((1, 3), (4, 6)), "low")),
        ("a\u2067\u202bb\u2069\u202c", Hidden("bidi_control", ((1, 3), (4, 6)), "medium")),
        ("a\u2067b", Hidden("bidi_control", ((1, 2),), "medium")),
        ("a\u2067\n\u2069b", Hidden("bidi_control", ((1, 2), (3, 4)), "medium")),
        (TEXAS, Hidden("unicode_tag", ((1, 6),), "high", "ustx")),
        (f"{ENGLAND}\U000e0068\U000e0069", Hidden("unicode_tag", ((1, 9),), "high", "gbenghi")),
        ("🙂" + selectors(b"\x0f" + "grüß".encode()), Hidden("variation_selector", ((1, 8),), "high", "grüß")),
        ("🙂" + selectors(b"\xff\xfe\xff\xfe"), Hidden("variation_selector", ((1, 5),), "medium")),
        (
            "".join(f"{c}{selectors(bytes([b]))}" for c, b in zip("word", b"evil", strict=True)),
            Hidden("variation_selector", ((1, 2), (3, 4), (5, 6), (7, 8)), "high", "evil"),
        ),
        ("a\u200b\u200c\u200d\u200bb", Hidden("zero_width", ((1, 5),), "medium")),
        ("\u00ad\u00ad\u00ad\u00ad", Hidden("zero_width", ((0, 4),), "medium")),
        ("k\u200bi\u200bl\u200bl", Hidden("zero_width", ((1, 2), (3, 4), (5, 6)), "medium")),
        ("x" + "\ue000" * 8, Hidden("private_use", ((1, 9),), "low")),
    ],
)
def test_hidden_characters_are_found_and_read(text: str, found: Hidden) -> None:
    assert list(hidden_characters(text)) == [found]


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=2))
def test_whatever_ascii_text_is_hidden_is_read(text: str) -> None:
    (by_tags,) = hidden_characters("".join(chr(0xE0000 + ord(c)) for c in text))
    assert by_tags.text == text
    (by_selectors,) = hidden_characters("🙂" + selectors(text.encode() * 2))
    assert by_selectors.text == text * 2


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("Bob.Smith@example.com", "xxx.xxxxx@xxxxxxx.xxx"),
        ("4111 1111 1111 1111", "9999 9999 9999 9999"),
        ("hunter2", "***"),
        ("", "***"),
        ("._-@._-@", "********"),
        ("a.b-c_d/e", "x*x*x*x*x"),
        ("p!ss#word$1", "x*xx*xxxx*9"),
        ("пароль٣٤", "xxxxxx99"),
        ("a" * 25, "x" * SAMPLE_CHARS + "…"),
    ],
)
def test_shapes(value: str, told: str) -> None:
    assert shape(value) == told


@given(st.text(min_size=1), st.randoms())
def test_values_with_letters_digits_and_separators_in_the_same_places_have_one_shape(
    value: str, randomly: object
) -> None:
    choice = getattr(randomly, "choice")  # noqa: B009  (hypothesis gives its own kind of Random)
    other = "".join(
        choice("0123456789") if c.isdigit() else choice(string.ascii_letters) if c.isalpha() else c for c in value
    )
    assert shape(other) == shape(value)
    assert set(shape(value)) <= set("x9*… -_.@:/+")


# The true numbers come from the embedded model's own tokenizer.
COUNTED = [
    ("Don't tell the café's owner, it's 12:30!", 17, "prose"),
    ("def f(x: int) -> None:\n    return x ** 2\n", 17, "code"),
    ("<|im_start|>system<|im_end|>", 3, "markers"),
    ("3.14159, 2.71828", 16, "numbers"),
    (" " * 162, 4, "blanks"),
]


@pytest.mark.parametrize(("text", "true"), [case[:2] for case in COUNTED], ids=[case[2] for case in COUNTED])
def test_the_lower_bounds_hold(text: str, true: int) -> None:
    assert fewest_tokens(text, "unknown") <= fewest_tokens(text, "smollm2") <= true


@pytest.mark.parametrize(
    ("text", "fewest", "unknown", "likely"),
    [
        ("", 0, 0, 0),
        ("word", 1, 1, 1),
        ("0123456789", 10, 1, 10),
        ("a b  c\n\nd", 6, 4, 7),
        ("x" * 1000, 40, 8, 299),
        ("-" * 162, 2, 2, 4),
        ("日本語" * 8, 9, 1, 41),
        ("🙂🙂", 1, 1, 6),
    ],
)
def test_the_estimates(text: str, fewest: int, unknown: int, likely: int) -> None:
    assert (fewest_tokens(text, "smollm2"), fewest_tokens(text, "unknown"), likely_tokens(text)) == (
        fewest,
        unknown,
        likely,
    )


@settings(max_examples=150, deadline=None)
@given(st.text(), st.sampled_from(["smollm2", "unknown"]))
def test_no_text_has_more_certain_tokens_than_bytes(text: str, tokenizer: Tokenizer) -> None:
    assert 0 <= fewest_tokens(text, tokenizer) <= len(text.encode(errors="replace"))
    assert likely_tokens(text) >= 0
