"""The first fenced code block: what CommonMark calls one, to the byte, however the text is cut."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from utils.code_block import DEPTH_MAX, CodeBlock, first_code_block
from utils.code_block_lines import LineCursor

MARKDOWN = MarkdownIt("commonmark")

PIECES = (
    *("```", "~~~", "````", "~~~~", "``", "`", "```\n", "~~~\n", "> ```\n", "- ```py\n", "  ```\n", "   ```\n"),
    *(" ", "  ", "   ", "    ", "\t", "\n", "\n", "\n", "\n\n"),
    *("- ", "* ", "+ ", "-", "1. ", "2. ", "10) ", "> ", ">"),
    *("a", "b c", "x\n", "py", "# ", "#", "---", "===", "***", "_ _ _"),
    *("<div>", "</div>", "<!--", "-->", "<pre>", "</pre>", "<b>", "<a href='x'>", "<?", "?>"),
)
"""What decides about blocks. Documents of these pieces are full of fences that are none."""

TEXTS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=25).map("".join)
TEXTS_WITH_CR = st.lists(st.sampled_from([*PIECES, "\r\n", "\r\n", "\r"]), max_size=25).map("".join)


def by_markdown_it(text: str) -> str | None:
    return next((token.content for token in MARKDOWN.parse(text) if token.type == "fence"), None)


def where_markdown_it_is_another(text: str) -> bool:
    """Where it departs from CommonMark: a last line of nothing but white space is none for it; a quote goes on where
    its `>` is indented by four and more columns; and tabs within quotes.
    """
    last = text.rpartition("\n")[2]
    is_blank_end = bool(last) and not last.strip(" \t>")
    return is_blank_end or bool(re.search(r"(?m)^[ >]*(?: {4}|\t)[ \t]*>", text)) or (">" in text and "\t" in text)


def streamed(text: str, cuts: list[int]) -> tuple[str | None, list[str]]:
    """The content, and what each piece added to it."""
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    block = CodeBlock()
    added = [block.feed(text[start:end]) for start, end in zip(edges, edges[1:], strict=False)]
    added.append(block.finish())
    return ("".join(added) if block.is_found else None), added


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_the_block_is_the_one_that_commonmark_finds(text: str) -> None:
    assume(not where_markdown_it_is_another(text))
    assert first_code_block(text) == by_markdown_it(text)


@settings(max_examples=300, deadline=None)
@given(TEXTS_WITH_CR, st.lists(st.integers(0, 200), max_size=8), st.booleans())
def test_any_cutting_gives_the_bytes_of_the_whole(text: str, cuts: list[int], one_by_one: bool) -> None:
    whole = first_code_block(text)
    content, added = streamed(text, list(range(len(text))) if one_by_one else cuts)
    assert content == whole
    shown = ""
    for piece in added:
        shown += piece
        assert (whole or "").startswith(shown)


@settings(max_examples=150, deadline=None)
@given(TEXTS)
def test_line_ends_of_two_characters_stay_and_change_nothing(text: str) -> None:
    content = first_code_block(text)
    expected = None if content is None else content.replace("\n", "\r\n")
    assert first_code_block(text.replace("\n", "\r\n")) == expected


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("Here:\n```python\nprint(1)\n```\nDone.\n```\nno\n```\n", "print(1)\n"),
        ("~~~ sh `x`\necho\n~~~", "echo\n"),
        ("```` md\n```\ninner\n```\n````\n", "```\ninner\n```\n"),
        ("```\n``\n~~~\n``` x\n`````\t \nafter", "``\n~~~\n``` x\n"),
        ("1. First:\n\n   ```c\n     int x;\n\n   ```\n", "  int x;\n\n"),
        ("- a\n  - b\n    ```\n    in\n  ```\n", "in\n"),
        ("- ```\n  in\nout\n", "in\n"),
        ("> ```\n> quoted\n>  more\nout\n", "quoted\n more\n"),
        ("  ```\n\tx\n   y\n ```", "  x\n y\n"),
        ("```\n```", ""),
        ("```", ""),
        ("```\nunclosed", "unclosed"),
        ("```\nunclosed\n``", "unclosed\n``"),
        ("```\n  ", "  "),
        ("no `code` here", None),
        ("``` not`a fence\nx", None),
        ("para\n    ```\n    no\n", None),
        ("    ```\n    no\n", None),
        ("para\n1. ```\n   yes\n", "yes\n"),
        ("para\n2. ```\n   no\n", None),
        ("- para\nlazy\n  ```\n  in\nout\n", "in\n"),
        ("<div>\n```\nhtml\n", None),
        ("<div>\n\n```\nyes\n", "yes\n"),
        ("<!-- ```\n```\n-->\n```\nyes\n```", "yes\n"),
        ("", None),
    ],
)
def test_what_is_a_block_and_what_is_not(text: str, content: str | None) -> None:
    assert first_code_block(text) == content
    assert by_markdown_it(text) == content or where_markdown_it_is_another(text)
    assert streamed(text, list(range(len(text))))[0] == content


def test_content_is_shown_as_soon_as_it_can_be_nothing_else() -> None:
    block = CodeBlock()
    steps = [
        ("Text ```", ""),
        ("\n```py", ""),
        ("thon", ""),
        ("\n", ""),
        ("d", "d"),
        ("ef f():\n", "ef f():\n"),
        ("   ", ""),
        (" ", "    "),
        (" x\n", " x\n"),
        ("``", ""),
        ("a", "``a"),
        ("\n\n", "\n\n"),
        ("```", ""),
        (" ", ""),
        ("`", "``` `"),
        ("\n", "\n"),
        ("``", ""),
        ("`", ""),
        ("` ", ""),
        ("\n", ""),
        ("after\n", ""),
    ]
    assert [block.feed(text) for text, _ in steps] == [shown for _, shown in steps]
    assert not block.is_open
    assert block.finish() == ""


def test_a_block_that_is_not_closed_stays_open() -> None:
    block = CodeBlock()
    assert block.feed("```\na\n``") == "a\n"
    assert block.finish() == "``"
    assert (block.is_found, block.is_open) == (True, True)


@pytest.mark.parametrize(("depth", "is_found"), [(DEPTH_MAX, True), (DEPTH_MAX + 1, False)])
def test_containers_are_followed_to_a_depth(depth: int, is_found: bool) -> None:
    prefix = "> " * depth
    assert (first_code_block(f"{prefix}```\n{prefix}x\n") == "x\n") is is_found


@pytest.mark.parametrize("start", ["```\n", "```\n```", "- ```\n", "> ```\n> "])
@pytest.mark.parametrize("character", ["`", " ", "\r", "\t"])
def test_what_may_become_a_closing_fence_is_judged_in_linear_time(
    start: str, character: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = 0

    class Counting(LineCursor):
        def __init__(self, line: str) -> None:
            nonlocal judged
            judged += len(line)
            super().__init__(line)

    monkeypatch.setattr("utils.code_block.LineCursor", Counting)
    content, _ = streamed(start + character * 2_000 + "x", list(range(2_100)))
    assert judged < 20 * 2_000
    assert content == first_code_block(start + character * 2_000 + "x")
