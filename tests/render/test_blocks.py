import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.render.rendering import cut
from utils.render.blocks import MAX_LINES, Block, BlockSplitter, LineSplitter, Splitter

BLANK = Block("blank")


def split(text: str, splitter: Splitter | None = None) -> list[Block]:
    splitter = splitter or BlockSplitter()
    return splitter.feed(text) + splitter.finish()


CASES: list[tuple[str, str, list[Block]]] = [
    ("nothing", "", []),
    ("blank lines alone", "\n \n\n", []),
    ("one line", "a", [Block("text", "a")]),
    ("a paragraph keeps its lines", "a\nb\n", [Block("text", "a\nb")]),
    (
        "blank lines count once, and not at the ends",
        "\n\na\n\n\nb\n\n",
        [Block("text", "a"), BLANK, Block("text", "b")],
    ),
    ("a heading ends a paragraph", "a\n# b\nc", [Block("text", "a"), Block("text", "# b"), Block("text", "c")]),
    ("an underlined heading", "a\n---\nb\n===\n", [Block("text", "a\n---"), Block("text", "b\n===")]),
    ("a rule", "a\n\n---\n***\n", [Block("text", "a"), BLANK, Block("text", "---"), Block("text", "***")]),
    (
        "a fence is a block per line",
        "```py x\na\n\n# b\n```\nc",
        [
            Block("fence", "```py x"),
            Block("code", "a", language="py"),
            Block("code", "", language="py"),
            Block("code", "# b", language="py"),
            Block("fence", "```"),
            Block("text", "c"),
        ],
    ),
    (
        "a longer fence holds a shorter one",
        "````\n```\n````\n",
        [Block("fence", "````"), Block("code", "```"), Block("fence", "````")],
    ),
    ("an unclosed fence", "~~~\na", [Block("fence", "~~~"), Block("code", "a")]),
    ("inline code is no fence", "```a``` b", [Block("text", "```a``` b")]),
    (
        "items and nested items",
        "- a\n  more\n  - b\n10. c",
        [
            Block("item", "a\nmore", marker="•"),
            Block("item", "b", indent=2, marker="•"),
            Block("item", "c", marker="10."),
        ],
    ),
    (
        "a paragraph of an item, and its end",
        "1. a\n\n   b\n\nc",
        [Block("item", "a", marker="1."), BLANK, Block("text", "b", indent=3), BLANK, Block("text", "c")],
    ),
    (
        "a fence in an item keeps its indentation",
        "- a\n  ```\n  x\n  ```\n  b",
        [
            Block("item", "a", marker="•"),
            Block("fence", "  ```"),
            Block("code", "  x"),
            Block("fence", "  ```"),
            Block("text", "b", indent=2),
        ],
    ),
    (
        "an item that is a fence",
        "1. ```\n   x\n   ```",
        [Block("fence", "1. ```"), Block("code", "   x"), Block("fence", "   ```")],
    ),
    ("a number in a paragraph is no list", "It was\n1986. Yes", [Block("text", "It was\n1986. Yes")]),
    ("a dash in a paragraph is a list", "Two:\n- a", [Block("text", "Two:"), Block("item", "a", marker="•")]),
    ("emphasis is no item", "*a*\n**b**", [Block("text", "*a*\n**b**")]),
    ("quotes", "> a\n>b\nc", [Block("quote", "a\nb"), Block("text", "c")]),
    (
        "a table is one block",
        "| a |\n|---|\n" + "| b |\n" * 20,
        [Block("table", "| a |\n|---|\n" + "| b |\n" * 19 + "| b |")],
    ),
    ("indented code", "a\n\n    b\n    c", [Block("text", "a"), BLANK, Block("code", "    b"), Block("code", "    c")]),
    (
        "a long paragraph is cut between lines",
        "\n".join("abcdefghij"),
        [Block("text", "\n".join("abcdefgh")), Block("text", "i\nj")],
    ),
]


@pytest.mark.parametrize(("text", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_text_becomes_these_blocks(text: str, expected: list[Block]) -> None:
    assert split(text) == expected
    assert MAX_LINES == 8


PIECES = st.sampled_from(
    ["a", " ", "  ", "\n", "\n\n", "```", "~~~", "- ", "1. ", "> ", "# ", "|", "---", "=", "*", "b c", "    ", "`", "é"]
)
TEXTS = st.lists(PIECES, max_size=40).map("".join)


@given(TEXTS, st.lists(st.integers(0, 1000), max_size=20))
def test_blocks_do_not_depend_on_the_cutting(text: str, positions: list[int]) -> None:
    whole = split(text)
    for pieces in (cut(text, [p % (len(text) + 1) for p in positions]), list(text)):
        splitter = BlockSplitter()
        blocks = [block for piece in pieces for block in splitter.feed(piece)]
        assert blocks + splitter.finish() == whole


@given(TEXTS, TEXTS)
def test_what_is_open_is_what_would_come_if_the_answer_ended_here(text: str, more: str) -> None:
    splitter = BlockSplitter()
    done = splitter.feed(text)
    opened = splitter.open()
    assert done + opened == split(text)
    assert splitter.open() == opened
    assert done + splitter.feed(more) + splitter.finish() == split(text + more)


@given(TEXTS)
def test_no_character_is_lost_but_bullets_quote_marks_and_blanks(text: str) -> None:
    shown = "".join(block.marker + block.text for block in split(text))
    for char in "abcé`~#=|1":
        assert shown.count(char) == text.count(char)


def test_lines_are_blocks_where_markdown_is_not_wanted() -> None:
    splitter = LineSplitter()
    assert splitter.feed("# a\n\n- b") == [Block("code", "# a"), Block("code", "")]
    assert splitter.open() == [Block("code", "- b")]
    assert splitter.feed("c\n") == [Block("code", "- bc")]
    assert splitter.open() == []
    assert splitter.finish() == []
    assert split("x", LineSplitter()) == [Block("code", "x")]
