"""What is put together piece by piece looks as if it had been rendered whole."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.render.rendering import cut
from utils.render.blocks import Block
from utils.render.painter import Color, Painter
from utils.render.screen import Row
from utils.render.tables import GrowingTable

CLOSED = [
    *("word", "a", "some", "longer,", "end.", "漢字漢字", "e\u0301", "snake_case", "2 * 3", "[1]", "AT&T", "&amp;"),
    *("**bold**", "**bold words**", "*em*", "`code`", "`two words`", "~~gone~~", "[link](http://x.y)", "<br>", "\\*"),
]
OPEN = ["**", "*", "`", "_", "[", "]", "](", "<", "<b ", "![", "~~", "&", "\\", "[x]: ", "http://x.y", "\t"]
WRAPPED = "words that have to be wrapped"
CELLS = st.sampled_from([*CLOSED, "", "  ", "\\|", "*", "`", "longlonglonglongword", "1. x", WRAPPED])
COLORS = st.sampled_from(["color", "mono", "none"])


def looks(rows: list[Row]) -> list[list[tuple[str, str]]]:
    """(character, style) of each row; the style of a space counts only where it would be seen."""
    looked = []
    for row in rows:
        style, line = "", []
        for sequence, char in re.findall(r"\x1b\[([\d;]*m)|([^\x1b])", row.text):
            if sequence:
                style = sequence.removesuffix("m").removeprefix("0")
            else:
                line.append((char, style if char != " " or {"4", "9"} & set(style.split(";")) else ""))
        looked.append(line)
    return looked


@contextmanager
def as_rich_does_it() -> Iterator[None]:
    with (
        patch("utils.render.painter.paragraph_of", lambda tokens: None),
        patch.object(GrowingTable, "rows", lambda *arguments: None),
    ):
        yield


@settings(max_examples=80)
@given(st.lists(st.sampled_from([*CLOSED, *OPEN, "\n", "  \n"]), min_size=1, max_size=25), st.integers(3, 80), COLORS)
def test_a_paragraph_looks_as_rich_would_draw_it(pieces: list[str], width: int, color: Color) -> None:
    block = Block("item", " ".join(pieces), marker="1.")
    rows = Painter(color).rows(block, width)
    with as_rich_does_it():
        assert rows == Painter(color).rows(block, width)


@st.composite
def tables(draw: st.DrawFn) -> str:
    columns = draw(st.integers(1, 4))
    sides = draw(st.lists(st.sampled_from(["---", ":--", "--:", ":-:"]), min_size=columns, max_size=columns))
    lengths = st.sampled_from([columns] * 8 + [columns - 1, columns + 1])
    rows = [draw(st.lists(CELLS, min_size=n, max_size=n)) for n in [columns, *draw(st.lists(lengths, max_size=6))]]
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, f"|{'|'.join(sides)}|", *body])


@settings(max_examples=80)
@given(tables(), st.integers(8, 80), st.sampled_from([0, 2]), COLORS, st.sampled_from(["utf-8", "ascii"]))
def test_a_table_looks_as_rich_would_draw_it(text: str, width: int, indent: int, color: Color, encoding: str) -> None:
    block = Block("table", text, indent=indent)
    rows = Painter(color, encoding).rows(block, width)
    with as_rich_does_it():
        assert looks(rows) == looks(Painter(color, encoding).rows(block, width))


@settings(max_examples=30)
@given(tables(), st.lists(st.integers(0, 400), max_size=8), st.integers(1, 12))
def test_a_growing_table_is_the_end_of_the_one_it_becomes(text: str, positions: list[int], height: int) -> None:
    painter, so_far = Painter("color"), ""
    for piece in cut(text, [p % (len(text) + 1) for p in positions]):
        so_far += piece
        block = Block("table", so_far.removesuffix("\n"))
        if block.text.count("\n"):
            live = painter.preview(block, 120, height)
            assert looks(live) == looks(Painter("color").rows(block, 120)[-height:])
    assert painter.rows(Block("table", text), 120) == Painter("color").rows(Block("table", text), 120)


@settings(max_examples=30)
@given(
    st.lists(st.sampled_from([*CLOSED, *CLOSED, "\n"]), min_size=10, max_size=150),
    st.lists(st.integers(0, 1500), max_size=12),
    st.sampled_from([24, 40, 80]),
    st.sampled_from(["", "•"]),
)
def test_a_growing_paragraph_is_the_end_of_the_one_it_becomes(
    pieces: list[str], positions: list[int], width: int, marker: str
) -> None:
    text = re.sub(r"\s*\n\s*", "\n", " ".join(pieces)).strip().replace("\n<", "\n")
    painter, so_far = Painter("color"), ""
    for piece in cut(text, [p % (len(text) + 1) for p in positions]):
        so_far += piece
        block = Block("item", so_far, indent=2, marker=marker)
        live = painter.preview(block, width, 12)
        assert looks(live) == looks(Painter("color").rows(block, width)[-12:])


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("abcdefghij klmnopqrst " * 8, id="rows that are full to the last column"),
        pytest.param(f"start **{'bold words ' * 16}end** and on " + "words " * 20, id="what waits for many rows"),
        pytest.param(f"a **{'quitelongwords_ ' * 6}b** and more", id="what waits behind the first word"),
        pytest.param(f"see [a link of {'many words ' * 8}](http://x.y) and on", id="a link that waits"),
        pytest.param("`" + "code " * 30 + "` and on", id="code that waits"),
    ],
)
def test_a_growing_paragraph_is_right_in_every_frame(text: str) -> None:
    painter = Painter("color")
    painter.preview(Block("item", "another paragraph of many rows " * 5, marker="1."), 24, 12)  # what it knew before
    for end in range(1, len(text) + 1, 7):
        block = Block("item", text[:end], marker="1.")
        assert looks(painter.preview(block, 24, 12)) == looks(Painter("color").rows(block, 24)[-12:])


@pytest.mark.parametrize("line", ["<div>**a**</div>", "===", "---"])
def test_a_line_that_makes_something_else_of_a_paragraph_is_seen_at_once(line: str) -> None:
    painter, words = Painter("color"), "some **words** in it " * 8
    for end in range(10, len(words), 10):
        painter.preview(Block("text", words[:end]), 40, 12)
    block = Block("text", f"{words.strip()}\n{line}")
    assert looks(painter.preview(block, 40, 12)) == looks(Painter("color").rows(block, 40))


@pytest.mark.parametrize("stray", ["*stray ", "a `stray ", "[stray ", "<stray ", "**"])
def test_what_waits_for_ever_costs_no_more_than_the_screen(stray: str) -> None:
    painter, text, costs = Painter("none"), stray, []
    for _ in range(200):
        text += "twenty characters on "
        before = painter.rendered_chars
        rows = painter.preview(Block("text", text), 40, 5)
        costs.append(painter.rendered_chars - before)
        assert rows[-1].text.endswith("on")
    assert max(costs) <= 6 * 2 * 40 * 5


def test_what_is_known_of_a_table_is_not_shown_in_another_one_under_the_same_head() -> None:
    painter, head = Painter("none"), "| a |\n|---|\n"
    painter.preview(Block("table", f"{head}| a much wider cell |\n| 2 |"), 40, 9)
    other = Block("table", f"{head}| 3 |\n| 4 |\n| 5 |")
    assert [row.text.strip() for row in painter.preview(other, 40, 9)] == ["a", "─", "3", "4", "5"]


@pytest.mark.parametrize("line", ["2. no row", "<div> | x |", "> x | y"])
def test_a_line_that_ends_a_table_for_the_parser_is_left_to_it(line: str) -> None:
    block = Block("table", f"| a | b |\n|---|---|\n| 1 | 2 |\n{line}\n| 3 | 4 |")
    with as_rich_does_it():
        expected = Painter("none").rows(block, 40)
    assert Painter("none").rows(block, 40) == expected
    assert "".join(row.text for row in expected).count("3") == 1


def test_a_row_of_a_table_is_read_and_laid_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    laid: list[int] = []
    lay = GrowingTable._lay
    monkeypatch.setattr(GrowingTable, "_lay", lambda self, cells, **how: laid.append(1) or lay(self, cells, **how))
    painter, text = Painter("color"), "| name | other |\n|---|---|\n| the widest | cell of all |\n"
    for number in range(100):
        text += f"| {number} | cell |\n"
        painter.preview(Block("table", text[:-1]), 80, 12)
    painter.rows(Block("table", text[:-1]), 80)
    assert len(laid) <= 101 + 101 + 14
    assert painter.rendered_chars <= 2.5 * 102 * (len("|x|x|\n|---|---|\n") + len("| 99 | cell |\n"))
