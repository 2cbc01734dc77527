import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.render.harmless import as_utf8, encoder_for, make_harmless, one_line

CASES = [
    ("plain text, ünïcode, 漢字, emoji 👩‍👩‍👧", "plain text, ünïcode, 漢字, emoji 👩‍👩‍👧"),
    ("newline\nand\ttab", "newline\nand\ttab"),
    ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
    ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
    ("\x1b]52;c;aGk=\x1b\\", "\\x1b]52;c;aGk=\\x1b\\"),
    ("\x9b31m and \x90", "\\x9b31m and \\x90"),
    ("\x00\x08\x0b\x0c\x7f", "\\x00\\x08\\x0b\\x0c\\x7f"),
    ("line\r\nline", "line \nline"),
    ("shown\rhidden", "shown hidden"),
    ("\u202eevil\u202c \u2066x\u2069", "\\u202eevil\\u202c \\u2066x\\u2069"),
    ("\u200e\u200f marks stay, \u200d joiners too", "\u200e\u200f marks stay, \u200d joiners too"),
    ("\ud800 alone", "\ud800 alone"),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_what_a_terminal_would_obey_becomes_visible(text: str, expected: str) -> None:
    assert make_harmless(text) == expected


@given(st.text(), st.text())
def test_each_character_is_judged_alone(first: str, second: str) -> None:
    assert make_harmless(first + second) == make_harmless(first) + make_harmless(second)


@given(st.text(st.characters(max_codepoint=0x2070)))
def test_no_control_character_but_newline_and_tab_is_left(text: str) -> None:
    harmless = make_harmless(text)
    assert not {c for c in harmless if c not in "\n\t" and (c < " " or "\x7f" <= c <= "\x9f")}
    assert make_harmless(harmless) == harmless


@given(st.text(st.characters()), st.sampled_from(["utf-8", "ascii", "latin-1", "cp437", "no-such-encoding"]))
def test_nothing_fails_to_encode_for_a_terminal(text: str, encoding: str) -> None:
    assert isinstance(encoder_for(encoding)(text), bytes)


def test_a_character_that_the_terminal_lacks_is_shown_as_an_escape() -> None:
    assert encoder_for("ascii")("né 漢") == b"n\\xe9 \\u6f22"


@given(st.text(), st.text())
def test_utf8_is_exact_where_it_can_be_and_never_fails(first: str, second: str) -> None:
    data = as_utf8(first + second)
    assert data == as_utf8(first) + as_utf8(second)
    assert data.decode() == "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in first + second)


def test_a_line_of_ours_is_one_line() -> None:
    assert one_line("two\nlines\x1b[2J\r\nand\tmore ") == "two lines\\x1b[2J and more"
