import asyncio
import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.render.rendering import FakeClock, cut, report, until
from tests.render.screen_emulator import ScreenEmulator
from utils.events import Event, Redacted, TextDelta
from utils.render.blocks import BlockSplitter, LineSplitter, Splitter
from utils.render.painter import Color, Painter
from utils.render.screen import FRAME_S, Row, Screen
from utils.render.terminal import MAX_LIVE_ROWS, TerminalSink

MARKDOWN = """# Title with *emphasis*

Some **bold** text and `code`, [a link](http://e.com), <b>html</b>.
A second line.

1. one
   - nested item that is long enough to wrap around
2. two

```python
def f():
    return "```"
```

| a | b |
|---|--:|
| longwordlongwordlongword | 2 |

> quoted
> lines
"""


class Shown:
    """A sink on an emulated terminal, with a clock that makes every request a frame unless told otherwise."""

    def __init__(
        self,
        width: int = 40,
        height: int = 24,
        *,
        color: Color = "none",
        splitter: Splitter | None = None,
        reflows: bool = True,
    ) -> None:
        self.clock = FakeClock()
        self.terminal = ScreenEmulator(width, height, reflows=reflows)
        self.painter = Painter(color)
        self.screen = Screen(self.terminal.write, self.terminal.size, self.clock, reflows=reflows)
        self.sink = TerminalSink(self.screen, splitter or BlockSplitter(), self.painter)

    def feed(self, *texts: str, frame_each: bool = True) -> None:
        for text in texts:
            self.event(TextDelta(text), frame_each=frame_each)

    def event(self, event: Event, *, frame_each: bool = True) -> None:
        if frame_each:
            self.clock.now += 1
        self.sink.handle(event, self.clock.now)

    def finish(self) -> list[str]:
        self.sink.finish(report())
        self.sink.close()
        assert self.terminal.lines()[-1] == ""  # the cursor is at the start of a line
        assert self.terminal.wraps
        assert not self.terminal.sgr_open
        return self.terminal.lines()[:-1]


def test_finished_blocks_are_final_and_the_open_one_is_live() -> None:
    shown = Shown()
    shown.feed("first\n\nsec")
    assert shown.terminal.lines() == ["first", "", "sec"]
    shown.feed("ond **bo")
    assert shown.terminal.lines() == ["first", "", "second **bo"]
    shown.feed("ld**")
    assert shown.terminal.lines() == ["first", "", "second bold"]
    assert shown.finish() == ["first", "", "second bold"]


def test_a_replacement_is_shown_in_its_place() -> None:
    shown = Shown()
    shown.feed("mail ")
    shown.event(Redacted("email", "[EMAIL]", 5))
    shown.feed(" me")
    assert shown.finish() == ["mail [EMAIL] me"]


def test_a_mask_is_no_markdown() -> None:
    shown = Shown()
    shown.feed("a\n\n")
    for start in (3, 4, 5):
        shown.event(Redacted("profanity.words", "*", start))
    shown.feed("\n\nb **c**")
    assert shown.finish() == ["a", "", "\u2217\u2217\u2217", "", "b c"]


def test_an_answer_without_text_leaves_the_terminal_alone() -> None:
    shown = Shown()
    shown.sink.finish(report(text=""))
    shown.sink.close()
    assert shown.terminal.writes == 0


def test_closing_without_finishing_keeps_what_was_shown() -> None:
    shown = Shown()
    shown.feed("half a sent")
    shown.sink.close()
    shown.sink.close()
    shown.feed("late text is not shown")
    assert shown.terminal.lines() == ["half a sent", ""]


@pytest.mark.parametrize("width", [7, 20, 40, 80, 200])
def test_the_final_screen_does_not_depend_on_frames_or_cutting(width: int) -> None:
    whole = Shown(width)
    whole.feed(MARKDOWN, frame_each=False)
    expected = whole.finish()
    for size in (1, 3, 17):
        shown = Shown(width)
        shown.feed(*(MARKDOWN[at : at + size] for at in range(0, len(MARKDOWN), size)))
        assert shown.finish() == expected


def test_markdown_looks_like_this_on_twenty_columns() -> None:
    shown = Shown(20)
    shown.feed(MARKDOWN)
    assert shown.finish() == [
        "Title with emphasis",
        "",
        "Some bold text and",
        "code, a link",
        "(http://e.com),",
        "<b>html</b>.",
        "A second line.",
        "",
        "1. one",
        "   • nested item",
        "     that is long",
        "     enough to wrap",
        "     around",
        "2. two",
        "",
        "```python",
        "def f():",
        '    return "```"',
        "```",
        "",
        " a                b",
        " ──────────────────",
        " longwordlongwor  2",
        " dlongword",
        "",
        "▌ quoted",
        "▌ lines",
    ]


WORDS = st.text("abcdefghij klmnop é漢", min_size=1, max_size=30).filter(lambda line: line == line.strip() != "")


@settings(max_examples=60)
@given(
    st.lists(WORDS, min_size=1, max_size=30, unique=True),
    st.lists(st.integers(0, 100_000), max_size=25),
    st.sampled_from([30, 80]),
    st.integers(4, 24),
)
def test_each_line_of_ordinary_text_is_on_the_screen_exactly_once(
    lines: list[str], positions: list[int], width: int, height: int
) -> None:
    lines = [f"{number}x {re.sub(' +', ' ', line)}"[: width // 2] for number, line in enumerate(lines)]
    lines = [line.rstrip() for line in lines]
    text = "\n".join(lines)
    shown = Shown(width, height)
    shown.feed(*cut(text, [p % (len(text) + 1) for p in positions]))
    assert shown.finish() == lines


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from(["漢字", "abc ", "\n", "\n\n", "```\n", "- ", "| ", "e\u0301", "\t"]), max_size=60),
    st.lists(st.sampled_from([12, 20, 33, 80]), max_size=5),
)
def test_resizing_never_loses_and_never_doubles_a_final_row(pieces: list[str], widths: list[int]) -> None:
    shown = Shown(80, 60, splitter=LineSplitter())
    for index, piece in enumerate([f"line {n}: {p}" for n, p in enumerate(pieces)]):
        shown.feed(piece)
        if widths and index % 3 == 0:
            shown.terminal.resize(widths[index // 3 % len(widths)])
    shown.finish()
    everything = "".join("".join(row) for row in shown.terminal.rows)
    for number in range(len(pieces)):
        assert everything.count(f"line {number}: ") == 1


@pytest.mark.parametrize("reflows", [True, False])
def test_the_live_region_is_replaced_whole_after_the_terminal_got_narrower(reflows: bool) -> None:
    shown = Shown(40, reflows=reflows)
    shown.feed("done\n\n", "word " * 30)
    shown.terminal.resize(25)
    shown.feed("end")
    assert shown.terminal.lines() == ["done", "", *["word word word word word"] * 6, "end"]
    assert shown.finish() == ["done", "", *["word word word word word"] * 6, "end"]


@pytest.mark.parametrize("columns", range(16, 25))
@pytest.mark.parametrize(("keys", "narrower"), [("^C^Z", 0), ("", 7), ("", 13)])
def test_a_full_last_row_leaves_nothing_behind_after_the_echo_of_keys_or_a_resize(
    columns: int, keys: str, narrower: int
) -> None:
    shown = Shown(columns)
    shown.feed("done\n\none two three four five")
    shown.terminal.write(keys)
    shown.terminal.resize(columns - narrower)
    expected = Shown(columns - narrower)
    expected.feed("done\n\none two three four five")
    assert shown.finish() == expected.finish()


def test_a_resize_is_followed_by_the_new_width() -> None:
    shown = Shown(40)
    shown.feed("word " * 10)
    shown.terminal.resize(80)
    shown.feed("end")
    assert shown.finish() == ["word " * 10 + "end"]


@pytest.mark.parametrize("height", [1, 2, 3, 5, 24, 100])
def test_the_live_region_is_never_higher_than_its_limit_or_the_terminal(height: int) -> None:
    shown = Shown(20, height)
    heights = []
    for number in range(60):
        shown.feed(f"word{number} ")
        heights.append(len([line for line in shown.terminal.lines() if line]))
    assert max(heights) <= min(MAX_LIVE_ROWS, max(0, height - 1))
    assert " ".join(shown.finish()).split() == [f"word{n}" for n in range(60)]


def test_a_row_wider_than_expected_is_clipped_and_not_wrapped() -> None:
    clock, terminal = FakeClock(), ScreenEmulator(10)
    screen = Screen(terminal.write, terminal.size, clock)

    class Wide:
        tick_s = None
        is_inside = False
        rows = (Row("0123456789abc", 10), Row("second", 6))

        def commit(self, width: int) -> tuple[Row, ...]:
            return ()

        def live(self, width: int, height: int) -> tuple[Row, ...]:
            return self.rows

    wide = Wide()
    screen.add(wide)
    for _ in range(3):
        screen.draw()
    assert len(terminal.lines()) == 2
    screen.remove(wide)
    assert terminal.lines() == [""]


def test_control_sequences_never_reach_the_terminal() -> None:
    shown = Shown(60)
    shown.feed("a \x1b[2J b\u202e \x9b31m &#x202e; `\x1b]0;t\x07`\n\n```\n\x1b[1A\r\n```\n\n| \x1b |\n|---|\n")
    text = "\n".join(shown.finish())  # the emulator refuses what is not ours
    assert "a \\x1b[2J b\\u202e \\x9b31m \\u202e \\x1b]0;t\\x07" in text
    assert "\u202e" not in text


@given(st.lists(st.text(st.characters(), max_size=20), max_size=12))
@settings(max_examples=60)
def test_no_text_makes_it_raise_or_leaves_the_terminal_changed(texts: list[str]) -> None:
    chunks: list[bytes] = []
    clock = FakeClock()
    screen = Screen(lambda text: chunks.append(text.encode("ascii", "backslashreplace")), lambda: (20, 10), clock)
    sink = TerminalSink(screen, BlockSplitter(), Painter("color", "ascii"))
    for text in texts:
        clock.now += 1
        if text:
            sink.handle(TextDelta(text), clock.now)
    sink.finish(report())
    output = b"".join(chunks)
    assert output.count(b"\x1b[?7l") == output.count(b"\x1b[?7h")
    assert set(re.findall(rb"\x1b(?!\[[\d;?]*[mAJhl])", output)) == set()


def test_what_rich_cannot_render_is_shown_as_it_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("a bug in a renderer")

    monkeypatch.setattr("utils.render.reader.MarkdownReader.blocks", fail)
    shown = Shown()
    shown.feed("**two**\nlines\n\n", "| a |\n|---|\n", "| b |\n\n", "end")
    assert shown.finish() == ["**two**", "lines", "", "| a |", "|---|", "| b |", "", "end"]


class TestLooks:
    def rendered(self, text: str, color: Color) -> str:
        output: list[str] = []
        sink = TerminalSink(Screen(output.append, lambda: (40, 24), FakeClock()), BlockSplitter(), Painter(color))
        sink.handle(TextDelta(text), 0.0)
        sink.finish(report())
        return "".join(output)

    def test_colours_are_those_of_the_terminals_palette(self) -> None:
        assert "\x1b[36mcode\x1b[0m" in self.rendered("some `code`", "color")
        assert not re.search(r"[34]8;[25];", self.rendered(MARKDOWN, "color"))

    def test_without_colours_attributes_stay(self) -> None:
        output = self.rendered("**bold** `code`\n\n```python\ndef f(): pass\n```\n", "mono")
        assert "\x1b[1mbold\x1b[0m" in output
        assert not re.search(r"\x1b\[[\d;]*(3|4|9)\d", output)

    def test_never_means_no_attribute_at_all(self) -> None:
        assert not re.search(r"\x1b\[[\d;]*m", self.rendered(MARKDOWN, "none"))

    def test_code_is_highlighted_and_keeps_its_characters(self) -> None:
        code = "def f():\n\treturn {1: 'x'}   \n" + "long " * 30 + "\n"
        for language in ("python", "no-such-language", ""):
            output = self.rendered(f"```{language}\n{code}```\n", "color")
            plain = re.sub(r"\x1b\[[\d;]*[mJ]|\x1b\[\?7[lh]|\r", "", output)
            for line in code.splitlines():
                assert line.rstrip() in plain
        assert "\x1b[" in self.rendered("```python\ndef f(): pass\n```", "color").replace("\x1b[2m", "")

    def test_a_terminal_without_the_characters_gets_others(self) -> None:
        painter = Painter("none", "ascii")
        splitter = BlockSplitter()
        for block in splitter.feed("- a\n\n> b\n") + splitter.finish():
            assert all(row.text.isascii() for row in painter.rows(block, 40))

    def test_html_link_definitions_and_images_are_shown(self) -> None:
        output = self.rendered("<div>x</div>\n\n[1]: http://a.b\n\n![alt](http://c.d) <i>y</i>\n", "none")
        for piece in ("<div>x</div>", "[1]: http://a.b", "alt", "http://c.d", "<i>y</i>"):
            assert piece in output


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("one fence", "```python\n" + "    value = compute(value, 1)\n" * 600),
        ("one line", "word " * 4_000),
        ("one paragraph of many lines", "some words in a line\n" * 1_000),
        ("one list", "- an item of a list\n" * 1_000),
        ("one table", "| a | b |\n|---|---|\n" + "| cell | another |\n" * 1_000),
        ("one quote", "> a line of it\n" * 1_000),
        ("one line of code", "```\n" + "x" * 20_000),
    ],
)
def test_the_work_is_linear_in_the_text_even_with_a_frame_for_every_piece(name: str, text: str) -> None:
    work = []
    for part in (text[: len(text) // 2], text):
        shown = Shown(80, 24)
        pieces = [part[at : at + 100] for at in range(0, len(part), 100)]
        shown.feed(*pieces)
        shown.sink.finish(report())
        assert shown.screen.frames == pytest.approx(len(pieces), abs=2)
        work.append(shown.painter.rendered_chars)
    assert work[1] <= 2.2 * work[0]


def test_a_frame_is_one_write_and_comes_at_most_twelve_times_a_second() -> None:
    shown = Shown()
    for _ in range(240):
        shown.clock.now += 1 / 240
        shown.feed("word ", frame_each=False)
    assert 10 <= shown.terminal.writes <= 13
    assert shown.screen.frames == shown.terminal.writes
    assert " ".join(shown.finish()).split() == ["word"] * 240


def test_in_an_event_loop_frames_are_timers_and_close_leaves_none() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        terminal = ScreenEmulator(40)
        screen = Screen(terminal.write, terminal.size, loop.time)
        sink = TerminalSink(screen, BlockSplitter(), Painter("none"))
        started_s = loop.time()
        sink.handle(TextDelta("first"), started_s)
        assert terminal.writes == 0
        await until(lambda: terminal.writes == 1)
        assert terminal.lines() == ["first"]
        sink.handle(TextDelta(" and more"), loop.time())
        sink.handle(TextDelta(" again"), loop.time())
        await until(lambda: terminal.writes == 2)
        assert loop.time() - started_s >= FRAME_S - 0.01
        assert terminal.lines() == ["first and more again"]
        sink.handle(TextDelta("\n"), loop.time())
        sink.close()
        assert terminal.writes == 3
        await asyncio.sleep(FRAME_S + 0.03)
        assert terminal.writes == 3

    asyncio.run(run())


def test_a_note_is_printed_above_the_open_block_and_after_what_is_final() -> None:
    shown = Shown()
    shown.feed("done\n\nop")
    shown.clock.now += 1
    shown.screen.note(["retrying"])
    assert shown.terminal.lines() == ["done", "retrying", "", "op"]
    shown.feed("en")
    assert shown.finish() == ["done", "retrying", "", "open"]


def test_a_note_in_a_block_of_code_is_shown_below_it_and_printed_after_it() -> None:
    shown = Shown()
    shown.feed("```python\n")
    shown.clock.now += 1
    shown.screen.note(["interrupted", "  by something"])
    assert shown.terminal.lines() == ["```python", "interrupted", "  by something"]
    shown.feed("x = 1\ny")
    assert shown.terminal.lines() == ["```python", "x = 1", "y", "interrupted", "  by something"]
    shown.feed(" = 2\n```\nend")
    assert shown.finish() == ["```python", "x = 1", "y = 2", "```", "interrupted", "  by something", "end"]


def test_notes_in_code_that_never_ends_come_after_it() -> None:
    shown = Shown(20, 6)
    shown.feed("```\n")
    for number in range(9):
        shown.screen.note([f"note {number}"])
        shown.feed(f"line {number}\n")
    assert len(shown.terminal.lines()) == 1 + 9 + 4  # of the notes the newest
    assert shown.finish() == ["```", *(f"line {n}" for n in range(9)), *(f"note {n}" for n in range(9))]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from([0, 1, 5, 30]), st.booleans()), max_size=12), st.integers(3, 24))
def test_no_note_ever_stands_between_the_lines_of_code(steps: list[tuple[int, bool]], height: int) -> None:
    text = "intro\n\n```\na = 1\nb = 2\n```\n\nmiddle\n\n- x\n  ~~~\n  c = 3\n  ~~~\n\nend"
    shown = Shown(30, height)
    notes = 0
    for size, is_note in steps:
        piece, text = text[:size], text[size:]
        if piece:
            shown.feed(piece)
        if is_note:
            shown.screen.note([f"note {notes}"])
            notes += 1
    if text:
        shown.feed(text)
    lines = shown.finish()
    assert [line for line in lines if line.startswith("note")] == [f"note {n}" for n in range(notes)]
    for block in (["```", "a = 1", "b = 2", "```"], ["  ~~~", "  c = 3", "  ~~~"]):
        assert block in [lines[at : at + len(block)] for at in range(len(lines))]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_rules_and_fences_look_the_same_wherever_they_stand(encoding: str) -> None:
    painter = Painter("none", encoding)
    splitter = BlockSplitter()
    text = "***\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```python\nx\n```\n\n> ```python\n> x\n> ```\n"
    rows = [row.text for block in splitter.feed(text) + splitter.finish() for row in painter.rows(block, 60)]
    line, bar = ("─", "▌") if encoding == "utf-8" else ("-", ">")
    assert rows == [
        line * 40, "", " a  b", " " + line * 4, " 1  2", "", "```python", "x", "```", "",
        f"{bar} ```python", f"{bar} x", f"{bar} ```",
    ]  # fmt: skip


def test_the_emulator_is_not_fooled_by_its_own_sizes() -> None:
    terminal = ScreenEmulator(4, 3)
    terminal.write("abcdef\nx")
    assert terminal.lines() == ["abcd", "ef", "x"]
    terminal.write("\r\x1b[1A\x1b[Jy")
    assert terminal.lines() == ["abcd", "y"]
    assert os.linesep == "\n"
