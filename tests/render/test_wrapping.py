import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.render.wrapping import DEFAULT_SIZE, printed_width, terminal_size, wrapped

WORDS = st.lists(st.text("abc漢é,.", min_size=1, max_size=9), min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("text", "columns"),
    [("", 0), ("abc", 3), ("漢字", 4), ("e\u0301", 1), ("\x1b[1;31merror:\x1b[0m no", 9), ("\r\x1b[Jabc", 3)],
)
def test_a_width_counts_columns_and_no_escape_sequence(text: str, columns: int) -> None:
    assert printed_width(text) == columns


@pytest.mark.parametrize(
    ("text", "width", "rows"),
    [
        ("one two three", None, ["one two three"]),
        ("one two three", 13, ["one two three"]),
        ("one two three", 12, ["one two", "  three"]),
        ("one two three", 8, ["one two", "  three"]),
        ("retry in 12 ms now", 12, ["retry in", "  12 ms now"]),
        ("see /a/very/long/path now or later", 10, ["see", "  /a/very/long/path", "  now or", "  later"]),
        ("see /a/very/long/path it", 11, ["see", "  /a/very/long/path it"]),
    ],
)
def test_a_line_is_cut_like_this(text: str, width: int | None, rows: list[str]) -> None:
    assert wrapped(text, width) == rows


@given(WORDS, st.integers(1, 60))
def test_no_word_is_cut_and_none_is_lost(words: list[str], width: int) -> None:
    text = " ".join(words)
    rows = wrapped(text, width)
    assert " ".join([rows[0], *(row.removeprefix("  ") for row in rows[1:])]) == text
    longest = max(map(printed_width, words)) + 2
    assert all(printed_width(row) <= width for row in rows) or longest > width


def test_what_is_no_terminal_has_the_usual_size() -> None:
    assert terminal_size(-1) == DEFAULT_SIZE
