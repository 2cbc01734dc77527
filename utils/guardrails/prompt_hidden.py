"""Characters that a person does not see and a model reads: what they are, where, and the text that they carry.

Ordinary text uses most of them: joiners in emoji, in Persian and in Indic scripts, zero-width spaces between Thai
words, soft hyphens, one variation selector after a character, isolates around names in right-to-left text, tags in the
flags of England, Scotland and Wales. What is noticed here is what such text does not have.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from utils.guardrails.rules import Severity

__all__ = ["Hidden", "Spelled", "hidden_characters", "spelled_out"]


class Hidden(NamedTuple):
    """*rule* noticed the places *spans* ([start, end) each, in order); *text* is what their characters spell, or ""."""

    rule: str
    spans: tuple[tuple[int, int], ...]
    severity: Severity
    text: str = ""


class Spelled(NamedTuple):
    """*text* with each run of hidden characters in the place of which stands what it spells.

    *runs*: (start, end) in *text*, (start, end) of the hidden characters; in order, and only runs that spell something.
    """

    text: str
    runs: tuple[tuple[int, int, int, int], ...]


_TAGS = re.compile("[\U000e0000-\U000e007f]+")
_TAG_BASE = 0xE0000
_FLAG = "\U0001f3f4"
_FLAG_TAGS = {"".join(chr(_TAG_BASE + ord(c)) for c in region) + "\U000e007f" for region in ("gbeng", "gbsct", "gbwls")}

_SELECTOR = "\ufe00-\ufe0f\U000e0100-\U000e01ef"
_JOINER = "\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2060-\u2065\u206a-\u206f\u3164\ufeff\uffa0"
# Legal is one after a character that has variants; no ASCII character has but digits, `#` and `*` (keycaps).
_SELECTORS = re.compile(
    f"[{_SELECTOR}](?:[{_JOINER}]*+[{_SELECTOR}]){{3,}}|(?<=[A-Za-z .,;:!?'\"()\n-])[{_SELECTOR}]{{1,3}}"
)
_SELECTORS_MIN = 4
_RUN = re.compile(f"[\U000e0000-\U000e007f]+|[{_SELECTOR}](?:[{_JOINER}]*+[{_SELECTOR}])*+")

_UNASSIGNED = "\ufff0-\ufff8\U000e0080-\U000e00ff\U000e01f0-\U000e0fff"
_ZERO_WIDTH = re.compile(f"[\u00ad{_JOINER}{_UNASSIGNED}]{{4,}}")
_IN_WORD = re.compile("(?<=[A-Za-z0-9])[\u200b-\u200d\u2060\ufeff]{1,3}(?=[A-Za-z0-9])")
_IN_WORD_MIN = 3

_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]+")
_OVERRIDES = "\u202d\u202e"
_EMBEDDINGS = "\u202a\u202b\u202d\u202e"
_ISOLATES = "\u2066\u2067\u2068"
_POP_EMBEDDING, _POP_ISOLATE = "\u202c", "\u2069"
_BIDI_OR_PARAGRAPH = re.compile("[\u202a-\u202e\u2066-\u2069\n\r\u2029]")

_PRIVATE = re.compile("[\ue000-\uf8ff\U000f0000-\U000ffffd\U00100000-\U0010fffd]{8,}")


def hidden_characters(text: str) -> Iterator[Hidden]:
    """What is noticed in *text*, one for each rule, in a fixed order. Linear; never raises."""
    if text.isascii():
        return
    if spans := _spans(_BIDI, text):
        is_bad = any(c in text for c in _OVERRIDES) or not _is_balanced(text)
        yield Hidden("bidi_control", spans, "medium" if is_bad else "low")
    if spans := tuple(span for span in _spans(_TAGS, text) if not _is_flag(text, span)):
        yield Hidden("unicode_tag", spans, "high", "".join(_tag_text(text[start:end]) for start, end in spans))
    if spans := _spans(_SELECTORS, text):
        selectors = "".join(text[start:end] for start, end in spans)
        if sum(_number(c) is not None for c in selectors) >= _SELECTORS_MIN:
            hidden = _selector_text(selectors)
            yield Hidden("variation_selector", spans, "high" if hidden else "medium", hidden)
    if spans := _zero_width(text):
        yield Hidden("zero_width", spans, "medium")
    if spans := _spans(_PRIVATE, text):
        yield Hidden("private_use", spans, "low")


def spelled_out(text: str) -> Spelled:
    """What a model that reads hidden characters as letters may read. Linear; never raises."""
    parts: list[str] = []
    runs: list[tuple[int, int, int, int]] = []
    last = length = 0
    for match in () if text.isascii() else _RUN.finditer(text):
        start, end = match.span()
        run = match.group()
        if 0 <= ord(run[0]) - _TAG_BASE < 0x80:
            spelled = "" if _is_flag(text, (start, end)) else _tag_text(run)
        else:
            spelled = _selector_text(run)
        if spelled:
            parts += text[last:start], spelled
            length += start - last
            runs.append((length, length + len(spelled), start, end))
            length += len(spelled)
            last = end
    return Spelled("".join((*parts, text[last:])), tuple(runs))


def _spans(pattern: re.Pattern[str], text: str) -> tuple[tuple[int, int], ...]:
    return tuple(match.span() for match in pattern.finditer(text))


def _is_flag(text: str, span: tuple[int, int]) -> bool:
    start, end = span
    return start > 0 and text[start - 1] == _FLAG and text[start:end] in _FLAG_TAGS


def _tag_text(tags: str) -> str:
    return "".join(chr(ord(tag) - _TAG_BASE) for tag in tags if 0x20 <= ord(tag) - _TAG_BASE < 0x7F)


def _number(character: str) -> int | None:
    """Which of the 256 variation selectors *character* is."""
    code = ord(character)
    if 0xFE00 <= code <= 0xFE0F:
        return code - 0xFE00
    return code - 0xE0100 + 16 if 0xE0100 <= code <= 0xE01EF else None


def _selector_text(selectors: str) -> str:
    """The bytes that *selectors* number, as text: what is no text, as a selector that only styles, is left out."""
    numbers = bytes(number for number in map(_number, selectors) if number is not None)
    return "".join(c for c in numbers.decode(errors="ignore") if c.isprintable() or c in "\n\t\r")


def _zero_width(text: str) -> tuple[tuple[int, int], ...]:
    """Runs of four and more; and where words of ASCII letters are cut, from three places on."""
    runs = _spans(_ZERO_WIDTH, text)
    cuts = _spans(_IN_WORD, text)
    return tuple(sorted({*runs, *cuts})) if len(cuts) >= _IN_WORD_MIN else runs


def _is_balanced(text: str) -> bool:
    """Whether every embedding and isolate is closed by its own mark, in order, within its paragraph."""
    opened: list[str] = []
    for match in _BIDI_OR_PARAGRAPH.finditer(text):
        mark = match.group()
        if mark in _EMBEDDINGS:
            opened.append(_POP_EMBEDDING)
        elif mark in _ISOLATES:
            opened.append(_POP_ISOLATE)
        elif mark in (_POP_EMBEDDING, _POP_ISOLATE):
            if not opened or opened.pop() != mark:
                return False
        elif opened:
            return False
    return not opened
