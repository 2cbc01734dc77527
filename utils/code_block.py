"""The first fenced code block of Markdown that is still being written. Pure; the blocks are those of CommonMark 0.31.

Theory of operation. Until the block is found, whole lines are judged as CommonMark's block parser does: which of the
open containers (quotes, list items) a line continues, what it opens, and whether what looks like a fence is really the
text of a paragraph, indented code or HTML. In the block a line waits only while it may still be the closing fence or
lack the indentation of its container: white space and fence characters at its start. Everything else is handed on as
it comes. So the result does not depend on how the text was cut, and time is linear in it.

Three deviations from CommonMark: a carriage return ends a line only before a newline (both are kept), NUL is kept, and
containers deeper than `DEPTH_MAX` are not looked for. A link reference definition counts as a paragraph to its end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

from utils.code_block_lines import FENCE, HTML_STARTS, ITEM, LineCursor, is_heading, is_rule, is_underline

__all__ = ["DEPTH_MAX", "CodeBlock", "first_code_block"]

DEPTH_MAX = 32
"""How deep quotes and list items may stand in each other; bounds what a held line costs."""

_QUOTE = 0
_CODE_INDENT = 4
"""Columns of indentation that make a line code, unless it goes on with a paragraph."""


@dataclass(slots=True)
class _Container:
    """A quote, or a list item whose further lines are indented by *width* columns."""

    width: int
    has_content: bool = False


class _Leaf(Enum):
    """What the newest line belongs to, as far as that matters to the next one."""

    NOTHING = auto()
    PARAGRAPH = auto()
    INDENTED = auto()
    HTML = auto()


class _State(Enum):
    SEEKING = auto()
    AT_START = auto()
    """In the block, and what has come of the line may still be no content."""
    IN_LINE = auto()
    """In the block, and the rest of the line is content."""
    OVER = auto()


class CodeBlock:
    """`feed` returns what is new of the first block's content, `finish` the rest at the end of the text.

    Invariant: all that was returned is the content of the first fenced code block of all that was fed, or a prefix of
    it before `finish`. What follows the block is ignored.
    """

    def __init__(self) -> None:
        self.is_found = False
        """Whether there is a block, however far it has come."""
        self._state = _State.SEEKING
        self._head: list[str] = []
        """What has come of a line that is not judged yet."""
        self._may_close: re.Pattern[str] | None = None
        """What keeps a line that so far is a closing fence one."""
        self._containers: list[_Container] = []
        self._leaf = _Leaf.NOTHING
        self._html_end: re.Pattern[str] | None = None
        self._fence = ""
        self._indent = 0

    @property
    def is_open(self) -> bool:
        """Whether the block has begun and may go on."""
        return self._state in (_State.AT_START, _State.IN_LINE)

    def feed(self, text: str) -> str:
        """What *text* adds to the content."""
        out: list[str] = []
        position = 0
        while position < len(text) and self._state is not _State.OVER:
            end = text.find("\n", position) + 1 or len(text)
            self._take(text[position:end], out)
            position = end
        return "".join(out)

    def finish(self) -> str:
        """The rest of the content, at the end of the text. A block that was not closed ends here, and `is_open` stays.

        Nothing is to be fed after it.
        """
        head = "".join(self._head)
        self._head.clear()
        if self._state is _State.SEEKING and head:
            self._seek(_bare(head))
        elif self._state is _State.AT_START and head:
            return self._judge(head, is_whole=True) or ""
        return ""

    def _take(self, piece: str, out: list[str]) -> None:
        """Take in *piece*, which ends with the line that it belongs to, if not before."""
        is_whole = piece[-1] == "\n"
        if self._state is _State.IN_LINE:
            out.append(piece)
            if is_whole:
                self._state = _State.AT_START
            return
        self._head.append(piece)
        if self._state is _State.SEEKING:
            if is_whole:
                self._seek(_bare("".join(self._head)))
                self._head.clear()
            return
        # Judging again and again what stays a closing fence would be quadratic in its length.
        if not is_whole and self._may_close is not None and self._may_close.fullmatch(piece):
            if piece[-1] in " \t":
                self._may_close = _BLANKS
            return
        self._may_close = None
        content = self._judge("".join(self._head), is_whole=is_whole)
        if content is not None:
            out.append(content)
            self._head.clear()
            if self._state is _State.AT_START and not is_whole:
                self._state = _State.IN_LINE

    def _judge(self, head: str, *, is_whole: bool) -> str | None:
        """The content in *head*, the start of a line of the block; None if that cannot be told yet."""
        line = _bare(head)
        cursor = LineCursor(line)
        for container in self._containers:
            indent, first = cursor.white_space()
            is_blank = first == len(line)
            if container.width == _QUOTE:
                if is_blank and not is_whole and indent < _CODE_INDENT:
                    return None
                if is_blank or indent >= _CODE_INDENT or line[first] != ">":
                    return self._over()
                cursor.go_to(first + 1)
                cursor.skip(1)
            elif indent >= container.width or (is_blank and is_whole):
                cursor.skip(container.width)
            elif is_blank:
                return None
            else:
                return self._over()
        indent, first = cursor.white_space()
        if indent < _CODE_INDENT:
            tail = line[first:].lstrip(self._fence[0])
            if not tail.strip(" \t"):
                if not is_whole:
                    if first < len(line):
                        self._may_close = _BLANKS if tail else re.compile(f"{re.escape(self._fence[0])}*[ \\t]*")
                    return None
                if len(line) - first - len(tail) >= len(self._fence):
                    return self._over()
        cursor.skip(self._indent)
        return cursor.rest_of(head)

    def _over(self) -> str:
        self._state = _State.OVER
        return ""

    def _seek(self, line: str) -> None:
        """Take in a whole line before the block."""
        cursor = LineCursor(line)
        matched = self._matched(cursor)
        goes_on = matched == len(self._containers)
        if goes_on and self._leaf is _Leaf.HTML:
            self._go_on_with_html(cursor)
            return
        is_lazy = not goes_on and self._leaf is _Leaf.PARAGRAPH
        in_paragraph = goes_on and self._leaf is _Leaf.PARAGRAPH
        has_opened = False
        while (opened := self._opens(cursor, matched, in_paragraph=in_paragraph, is_lazy=is_lazy)) is not None:
            has_opened = True
            if opened:
                return
            matched, in_paragraph, is_lazy = len(self._containers), False, False
        indent, first = cursor.white_space()
        is_blank = first == len(line)
        if is_lazy and not has_opened and not is_blank:
            return
        if not goes_on and not has_opened:
            self._close(matched)
        if is_blank:
            if self._leaf is _Leaf.PARAGRAPH:
                self._leaf = _Leaf.NOTHING
            return
        if self._leaf is not _Leaf.PARAGRAPH:
            self._begin(_Leaf.INDENTED if indent >= _CODE_INDENT else _Leaf.PARAGRAPH)

    def _matched(self, cursor: LineCursor) -> int:
        """How many of the containers the line goes on with; the cursor is behind what they took."""
        for number, container in enumerate(self._containers):
            indent, first = cursor.white_space()
            is_blank = first == len(cursor.line)
            if container.width == _QUOTE:
                if is_blank or indent >= _CODE_INDENT or cursor.line[first] != ">":
                    return number
                cursor.go_to(first + 1)
                cursor.skip(1)
            elif indent >= container.width or (is_blank and container.has_content):
                cursor.skip(container.width)
            else:
                return number
        return len(self._containers)

    def _opens(self, cursor: LineCursor, matched: int, *, in_paragraph: bool, is_lazy: bool) -> bool | None:
        """What begins at the cursor: True for something that the whole line is, False for a container, else None.

        *matched*: the containers that it stands in.
        """
        indent, first = cursor.white_space()
        rest = cursor.line[first:]
        if not rest or indent >= _CODE_INDENT:
            return None
        if rest[0] == ">":
            if matched >= DEPTH_MAX:
                return None
            self._close(matched)
            cursor.go_to(first + 1)
            cursor.skip(1)
            self._push(_Container(_QUOTE, has_content=True))
            return False
        if fence := FENCE.match(rest):
            self._close(matched)
            self._begin(_Leaf.NOTHING)
            self._fence, self._indent = fence[1] or fence[2], indent
            self.is_found = True
            self._state = _State.AT_START
            return True
        if is_heading(rest) or (in_paragraph and is_underline(rest)) or is_rule(rest):
            self._close(matched)
            self._begin(_Leaf.NOTHING)
            return True
        if rest[0] == "<":
            for number, (start, end) in enumerate(HTML_STARTS, 1):
                # The last kind cannot interrupt a paragraph.
                if start.match(rest) and not (number == len(HTML_STARTS) and (in_paragraph or is_lazy)):
                    self._close(matched)
                    ends_here = end is not None and end.search(rest)
                    self._begin(_Leaf.NOTHING if ends_here else _Leaf.HTML)
                    self._html_end = end
                    return True
        if matched < DEPTH_MAX and (item := ITEM.match(rest)):
            return self._opens_item(cursor, matched, item, indent, first, in_paragraph=in_paragraph)
        return None

    def _opens_item(
        self, cursor: LineCursor, matched: int, item: re.Match[str], indent: int, first: int, *, in_paragraph: bool
    ) -> bool | None:
        marker = item[0]
        is_empty = not cursor.line[first + len(marker) :].strip(" \t")
        if in_paragraph and (is_empty or item[1] not in (None, "1")):
            return None
        self._close(matched)
        cursor.go_to(first + len(marker))
        gap, _ = cursor.white_space()
        if is_empty or gap > _CODE_INDENT:
            gap = 1
        cursor.skip(gap)
        self._push(_Container(indent + len(marker) + gap))
        return False

    def _go_on_with_html(self, cursor: LineCursor) -> None:
        rest = cursor.rest_of(cursor.line)
        is_over = not rest.strip(" \t") if self._html_end is None else self._html_end.search(rest)
        if is_over:
            self._leaf = _Leaf.NOTHING

    def _push(self, container: _Container) -> None:
        self._begin(_Leaf.NOTHING)
        self._containers.append(container)

    def _begin(self, leaf: _Leaf) -> None:
        self._leaf = leaf
        if self._containers:
            self._containers[-1].has_content = True

    def _close(self, matched: int) -> None:
        """End the containers that the line does not go on with, and whatever stood in the last of them."""
        del self._containers[matched:]
        self._leaf = _Leaf.NOTHING


_BLANKS = re.compile(r"[ \t]*")


def _bare(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")


def first_code_block(text: str) -> str | None:
    """The content of the first fenced code block in *text*, as far as it goes; None if there is none."""
    block = CodeBlock()
    content = block.feed(text) + block.finish()
    return content if block.is_found else None
