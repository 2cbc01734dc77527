"""Cuts streaming Markdown into blocks that will not change any more, so that each is rendered once.

Theory of operation. Text comes in pieces of any size; decisions are made on complete lines only, so the blocks do
not depend on how the text was cut. A block is final when the line that ends it is complete: a blank line, the start
of another block, or, for what is one line by nature, its own end. Inside a code fence every line is final by itself,
so a long fence costs no more than its length.

Two deviations from CommonMark keep blocks small, and neither loses a character: every list item is a block of its
own, nested ones too (the list's layout is the source's indentation), and a paragraph of more than `MAX_LINES` lines
is cut between lines. Emphasis that spans such a cut shows its markers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal, Protocol

__all__ = ["MAX_LINES", "Block", "BlockKind", "BlockSplitter", "LineSplitter", "Splitter"]

MAX_LINES = 8
"""Complete lines of one paragraph that wait for its end: fewer than the rows of the live region, so that what the
reader sees grow is also what will stand there."""

BlockKind = Literal["text", "table", "item", "quote", "code", "fence", "blank"]

_FENCE = re.compile(r"( *)(?:(`{3,})([^`]*)|(~{3,})(.*))$")
_HEADING = re.compile(r" {0,3}#{1,6}(?:\s|$)")
_RULE = re.compile(r" {0,3}([-*_])(?: *\1){2,}\s*$")
_UNDERLINE = re.compile(r" {0,3}(?:=+|-+)\s*$")
_ITEM = re.compile(r"( *)([-*+]|\d{1,9}[.)])(?:( +)(.*)|\s*$)")
_QUOTE = re.compile(r" {0,3}> ?")
_TABLE_RULE = re.compile(r" *\|? *:?-+:? *(?:\| *:?-+:? *)*\|? *$")


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of the answer that is rendered by itself.

    text: Markdown without list or quote marker, or one line of code.  indent: columns it is moved to the right.
    marker: what stands before the first row of a list item.  language: of a code line.
    """

    kind: BlockKind
    text: str = ""
    indent: int = 0
    marker: str = ""
    language: str = ""


class Splitter(Protocol):
    """Turns text into blocks; `feed` after `finish` is a misuse."""

    @property
    def is_inside(self) -> bool:
        """Whether the next block belongs to the last one returned: a line of the same code."""
        ...

    def feed(self, text: str) -> list[Block]:
        """The blocks that *text* completes."""
        ...

    def finish(self) -> list[Block]:
        """The blocks that are left at the end of the answer."""
        ...

    def open(self) -> list[Block]:
        """What has been received and not been returned yet, as it would look if the answer ended here."""
        ...


class _Lines:
    """Splits at newlines; the incomplete line is kept as pieces until someone looks at it."""

    def __init__(self) -> None:
        self._pieces: list[str] = []

    def feed(self, text: str) -> list[str]:
        if "\n" not in text:
            self._pieces.append(text)
            return []
        *complete, rest = text.split("\n")
        complete[0] = self.partial() + complete[0]
        self._pieces = [rest] if rest else []
        return complete

    def partial(self) -> str:
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    def take(self) -> str:
        line = self.partial()
        self._pieces = []
        return line


class LineSplitter:
    """Every line is a block, shown as it is: for text that is not to be read as Markdown."""

    is_inside = False

    def __init__(self) -> None:
        self._lines = _Lines()

    def feed(self, text: str) -> list[Block]:
        """One block per complete line."""
        return [Block("code", line) for line in self._lines.feed(text)]

    def finish(self) -> list[Block]:
        """The last line, if it did not end."""
        line = self._lines.take()
        return [Block("code", line)] if line else []

    def open(self) -> list[Block]:
        """The line that is being written."""
        line = self._lines.partial()
        return [Block("code", line)] if line else []


class BlockSplitter:
    """Markdown to blocks; see the theory of operation above. Pure: no clock, no output."""

    def __init__(self) -> None:
        self._lines = _Lines()
        self._block: Block | None = None  # the open one, without its lines
        self._block_lines: list[str] = []
        self._fence = ""  # the marker that opened the current fence
        self._language = ""
        self._list_indent = 0  # columns at which the text of the current list item starts; 0: not in a list
        self._has_output = False
        self._blank = False  # blank lines came after the last returned block

    @property
    def is_inside(self) -> bool:
        """Whether a fence is open."""
        return bool(self._fence)

    def feed(self, text: str) -> list[Block]:
        """The blocks that *text* completes, in order."""
        done: list[Block] = []
        for line in self._lines.feed(text):
            self._line(line, done)
        return done

    def finish(self) -> list[Block]:
        """The rest; an unclosed fence or table is returned as far as it came."""
        done: list[Block] = []
        line = self._lines.take()
        if line:
            self._line(line, done)
        self._close(done)
        return done

    def open(self) -> list[Block]:
        """The open block with the line that is being written, preceded by a blank one where that will be shown."""
        partial = self._lines.partial()
        if not partial and self._block is None:
            return []
        probe = self._copy()
        blocks: list[Block] = []
        if partial:
            probe._line(partial, blocks)
        probe._close(blocks)
        return blocks

    def _copy(self) -> BlockSplitter:
        probe = BlockSplitter.__new__(BlockSplitter)
        probe.__dict__.update(self.__dict__)
        probe._block_lines = self._block_lines.copy()
        return probe

    def _line(self, line: str, done: list[Block]) -> None:
        if self._fence:
            self._fence_line(line, done)
        elif not line or line.isspace():
            self._close(done)
            self._blank = self._has_output
        elif self._starts_fence(line, done) or self._is_single(line, done) or self._starts_item(line, done):
            pass
        elif quote := _QUOTE.match(line):
            if self._block is None or self._block.kind != "quote":
                self._start(Block("quote"), done)
            self._block_lines.append(line[quote.end() :])
            self._list_indent = 0
        else:
            self._text_line(line, done)

    def _fence_line(self, line: str, done: list[Block]) -> None:
        bare = line.strip()
        if len(bare) >= len(self._fence) and not bare.strip(self._fence[0]):
            self._fence = ""
            self._emit(Block("fence", line), done)
        else:
            self._emit(Block("code", line, language=self._language), done)

    def _starts_fence(self, line: str, done: list[Block], item_text: str | None = None) -> bool:
        match = _FENCE.match(line if item_text is None else item_text)
        if match is None or (len(match[1]) > 3 and not self._list_indent):
            return False
        self._close(done)
        self._fence = match[2] or match[4]
        self._language = (match[3] or match[5] or "").strip().partition(" ")[0]
        self._emit(Block("fence", line), done)
        return True

    def _is_single(self, line: str, done: list[Block]) -> bool:
        """Headings, rules, and the underline that makes a heading of the paragraph before it."""
        is_paragraph = self._block is not None and self._block.kind == "text"
        if is_paragraph and _UNDERLINE.match(line):
            self._block_lines.append(line)
            self._close(done)
            return True
        if _HEADING.match(line) or _RULE.match(line):
            self._close(done)
            self._list_indent = 0
            self._emit(Block("text", line), done)
            return True
        return False

    def _starts_item(self, line: str, done: list[Block]) -> bool:
        match = _ITEM.match(line)
        if match is None or (len(match[1]) > 3 and not self._list_indent):
            return False
        indent, marker, gap, text = len(match[1]), match[2], match[3] or " ", match[4] or ""
        in_paragraph = self._block is not None and self._block.kind in ("text", "table")
        if in_paragraph and not self._list_indent and (not text or marker[:-1] not in ("", "1")):
            return False  # "1986. A great year" in the middle of a paragraph is no list
        self._list_indent = indent + len(marker) + len(gap)
        if self._starts_fence(line, done, text):
            return True
        self._start(Block("item", indent=indent, marker="•" if marker in "-*+" else marker), done)
        self._block_lines.append(text)
        return True

    def _text_line(self, line: str, done: list[Block]) -> None:
        indent = len(line) - len(line.lstrip(" "))
        if self._block is None or self._block.kind == "quote":
            self._close(done)
            if indent < 2 or not self._list_indent:
                self._list_indent = 0
            if indent >= 4 and not self._list_indent:
                self._emit(Block("code", line), done)
                return
            self._start(Block("text", indent=indent if self._list_indent else 0), done)
        lines = self._block_lines
        lines.append(line.lstrip(" "))
        assert self._block is not None
        if self._block.kind != "table":
            if len(lines) == 2 and "|" in lines[0] and _TABLE_RULE.match(line) and self._block.kind == "text":
                self._block = replace(self._block, kind="table")
            elif len(lines) > MAX_LINES:
                rest, self._block_lines = lines[-1], lines[:-1]
                hanging = self._block.indent + (len(self._block.marker) + 1 if self._block.marker else 0)
                self._start(Block("text", indent=hanging), done)
                self._block_lines.append(rest)

    def _start(self, block: Block, done: list[Block]) -> None:
        self._close(done)
        self._block = block

    def _close(self, done: list[Block]) -> None:
        if self._block is not None:
            block = replace(self._block, text="\n".join(self._block_lines))
            self._block, self._block_lines = None, []
            self._emit(block, done)

    def _emit(self, block: Block, done: list[Block]) -> None:
        if self._blank:
            self._blank = False
            done.append(Block("blank"))
        self._has_output = True
        done.append(block)
