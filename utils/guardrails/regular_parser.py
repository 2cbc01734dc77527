"""The regular expressions of rules: a parser for the part of the syntax that can be matched while text streams.

Literals, `.`, classes, groups, `|`, `* + ? {n} {n,} {,m} {n,m}` (a lazy `?` after them changes nothing: all matches
count), `\\d \\w \\s` and their capitals, `\\b \\B`, `(?i)` at the start. Everything is matched against folded text (see
fold.py), so the characters of a pattern are folded, too. `\\d` is 0 to 9, `\\w` a character for which `fold.is_word`
holds.

Why not the parser of the standard library's `re`: it is private and differs between versions, it knows no positions
once it has parsed, and more than half of what it accepts must be refused here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from utils.guardrails.fold import case_variants, fold_character
from utils.guardrails.regular_syntax import (
    NOT_BOUNDARY,
    RANGE_MAX,
    WORD_BOUNDARY,
    Alternatives,
    Assertion,
    CharSet,
    PatternError,
    Regular,
    Repeat,
    Sequence,
    Text,
    literal,
)

__all__ = ["PATTERN_MAX", "REPEAT_MAX", "parse"]

PATTERN_MAX = 10_000
"""The most characters of a pattern."""

REPEAT_MAX = 1000
"""The highest count of a repeat; the cap on automaton states refuses products of repeats."""

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a", "0": "\0"}
_HEX_DIGITS = {"x": 2, "u": 4, "U": 8}
_DEPTH_MAX = 50
_QUANTIFIERS = frozenset("*+?{")
_ENDS = frozenset(("", "|", ")"))

# Most of a pattern is words: runs of characters that stand for themselves, and groups of nothing but such runs.
_PLAIN = r"[\0-#%-',\-/->@-Z\]_-z}-\x7f]"  # all of ASCII but $ ( ) * + . ? [ \ ^ { |
_plain = re.compile(f"{_PLAIN}+").match
_plain_group = re.compile(rf"(?:\?:)?({_PLAIN}+(?:\|{_PLAIN}+)*)\)").match
_counts = re.compile(r"\{([0-9]*)(?:(,)([0-9]*))?\}").match
_class = re.compile(r"\[\^?\]?(?:[^\]\\]|\\.)*\]", re.DOTALL).match
_CLASSES_MAX = 4096
_classes: dict[tuple[str, bool], CharSet] = {}  # of classes that were read without a mistake


def parse(source: str, *, ignore_case: bool = False) -> Regular:
    """The syntax tree of *source*.

    Raises: PatternError if it is not valid, or uses what cannot be matched while text streams.
    """
    if len(source) > PATTERN_MAX:
        raise PatternError(f"more than {PATTERN_MAX:,} characters", PATTERN_MAX)
    return _Parser(source, ignore_case).parse()


class _Parser:
    def __init__(self, source: str, ignore_case: bool) -> None:
        self.source = source
        self.ignore_case = ignore_case
        self.i = 0
        self.depth = 0
        if source.startswith("(?i)"):
            self.ignore_case = True
            self.i = 4

    def parse(self) -> Regular:
        tree = self.alternatives()
        if self.i < len(self.source):
            raise PatternError("an unmatched `)`", self.i)
        return tree

    def peek(self) -> str:
        return self.source[self.i : self.i + 1]

    def take(self, what: str) -> str:
        if self.i >= len(self.source):
            raise PatternError(f"{what} is not finished", len(self.source))
        self.i += 1
        return self.source[self.i - 1]

    def alternatives(self) -> Regular:
        items = [self.sequence()]
        source = self.source
        while source[self.i : self.i + 1] == "|":
            self.i += 1
            items.append(self.sequence())
        return items[0] if len(items) == 1 else Alternatives(tuple(items))

    def sequence(self) -> Regular:
        items: list[Regular] = []
        source = self.source
        while True:
            start = self.i
            run = _plain(source, start)
            if run is not None:
                end = run.end()
                if source[end : end + 1] in _QUANTIFIERS:
                    end -= 1  # the last character is repeated
                if end > start:
                    items.append(self.text(source[start:end]))
                    self.i = end
            if (character := source[self.i : self.i + 1]) in _ENDS:
                return items[0] if len(items) == 1 else Sequence(tuple(items))
            space = _SPACES.get(source[self.i : self.i + 3]) if character == "\\" else None
            if space is not None and source[self.i + 3 : self.i + 4] not in _QUANTIFIERS:
                items.append(space)
                self.i += 3
                continue
            item = self.atom()
            items.append(self.repeats(item) if source[self.i : self.i + 1] in _QUANTIFIERS else item)

    def text(self, folded: str) -> Regular:
        return literal(folded, self.ignore_case) if len(folded) == 1 else Text(folded, self.ignore_case)

    def repeats(self, item: Regular) -> Regular:
        at = self.i
        bounds = self.quantifier()
        if bounds is None:
            return item
        if isinstance(item, Assertion):
            raise PatternError("a repeated boundary", at)
        low, high = bounds
        if high is not None and low > high:
            raise PatternError(f"a repeat from {low} to {high}", at)
        if max(low, high or 0) > REPEAT_MAX:
            raise PatternError(f"a repeat of more than {REPEAT_MAX:,} (oversized)", at)
        if self.peek() in _QUANTIFIERS:
            if self.peek() == "?":
                self.i += 1
            after = self.i
            if self.peek() == "+":
                raise PatternError("a possessive repeat", after)
            if self.quantifier() is not None:
                raise PatternError("a repeat of a repeat", after)
        return Repeat(item, low, high)

    def quantifier(self) -> tuple[int, int | None] | None:
        c = self.peek()
        if c not in _QUANTIFIERS:
            return None
        if c != "{":
            self.i += 1
            return (1, None) if c == "+" else (0, None if c == "*" else 1)
        counts = _counts(self.source, self.i)
        low, comma, high = counts.groups("") if counts else ("", "", "")
        if counts is None or not (low or high):
            return None  # a brace that stands for itself
        if len(low) > 9 or len(high) > 9:
            raise PatternError(f"a repeat of more than {REPEAT_MAX:,} (oversized)", self.i)
        self.i = counts.end()
        least = int(low or 0)
        return least, least if not comma else int(high) if high else None

    def atom(self) -> Regular:
        at = self.i
        c = self.source[at]
        self.i += 1
        if c == "(":
            return self.group(at)
        if c == "[":
            return self.char_class(at)
        if c == "\\":
            return self.escape(at)
        if c == ".":
            return _ANY
        if c in "^$":
            raise PatternError(f"the anchor `{c}`", at)
        if c in "*+?":
            raise PatternError(f"nothing to repeat before `{c}`", at)
        return self.literal(c, at)

    def group(self, at: int) -> Regular:
        if self.depth < _DEPTH_MAX and (plain := _plain_group(self.source, self.i)):
            self.i = plain.end()
            words = [self.text(word) for word in plain[1].split("|")]
            return words[0] if len(words) == 1 else Alternatives(tuple(words))
        if self.peek() == "?":
            self.group_kind(at)
        self.depth += 1
        if self.depth > _DEPTH_MAX:
            raise PatternError(f"more than {_DEPTH_MAX} groups inside each other", at)
        tree = self.alternatives()
        if self.peek() != ")":
            raise PatternError("a group without its `)`", at)
        self.i += 1
        self.depth -= 1
        return tree

    def group_kind(self, at: int) -> None:
        rest = self.source[self.i : self.i + 100]
        if rest.startswith("?:"):
            self.i += 2
        elif rest.startswith("?P<") and (end := self.source.find(">", self.i)) >= 0:
            self.i = end + 1
        elif rest.startswith(("?=", "?!")):
            raise PatternError("look-ahead", at)
        elif rest.startswith(("?<=", "?<!")):
            raise PatternError("look-behind", at)
        elif rest.startswith(("?P=", "?(")):
            raise PatternError("a back-reference", at)
        elif rest.startswith("?>"):
            raise PatternError("an atomic group", at)
        else:
            raise PatternError(f"the unknown group `({rest[:3]}`", at)

    def literal(self, character: str, at: int) -> Regular:
        folded = fold_character(character)
        if not folded:
            raise PatternError(f"U+{ord(character):04X}, which is dropped before matching,", at)
        if not self.ignore_case or character.isascii():
            return self.text(folded)
        forms = case_variants(character)
        singles = {(ord(form), ord(form)) for form in forms if len(form) == 1}
        items: list[Regular] = [Text(form, True) for form in forms if len(form) > 1]
        if singles:
            items.append(CharSet(tuple(sorted(singles)), ignore_case=True))
        return items[0] if len(items) == 1 else Alternatives(tuple(items))

    def escape(self, at: int) -> Regular:
        c = self.peek()
        if c in ("b", "B"):
            self.i += 1
            return Assertion(WORD_BOUNDARY if c == "b" else NOT_BOUNDARY)
        if c and c in "AZz":
            raise PatternError(f"the anchor `\\{c}`", at)
        if c and c in "123456789":
            raise PatternError("a back-reference", at)
        kind, character = self.escaped(at)
        return _of_kind(kind) if kind else self.literal(character, at)

    def escaped(self, at: int) -> tuple[str, str]:
        """The kind (`d`, `W`, ...) or the character after a backslash."""
        c = self.take("an escape")
        if c in "dDwWsS":
            return c, ""
        if c in _HEX_DIGITS:
            digits = self.source[self.i : self.i + _HEX_DIGITS[c]]
            self.i += len(digits)
            if len(digits) < _HEX_DIGITS[c] or not all(d in "0123456789abcdefABCDEF" for d in digits):
                raise PatternError(f"`\\{c}` without its {_HEX_DIGITS[c]} hexadecimal digits", at)
            if int(digits, 16) > 0x10FFFF:
                raise PatternError("a character beyond Unicode", at)
            return "", chr(int(digits, 16))
        if c.isascii() and c.isalnum():
            if c not in _ESCAPES:
                raise PatternError(f"the unknown escape `\\{c}`", at)
            return "", _ESCAPES[c]
        return "", c

    def char_class(self, at: int) -> CharSet:
        """The class that starts at *at*; classes are written the same again and again, so those read are kept."""
        whole = _class(self.source, at)
        known = _classes.get((whole[0], self.ignore_case)) if whole else None
        if known is not None:
            assert whole is not None
            self.i = whole.end()
            return known
        chars = self.new_class()
        if len(_classes) >= _CLASSES_MAX:
            _classes.clear()
        _classes[self.source[at : self.i], self.ignore_case] = chars
        return chars

    def new_class(self) -> CharSet:
        negated = self.peek() == "^"
        self.i += negated
        ranges: set[tuple[int, int]] = set()
        kinds = ""
        is_first = True
        while is_first or self.peek() != "]":
            is_first = False
            place = self.i
            kind, low = self.class_member()
            if kind:
                kinds += kind
                continue
            if self.peek() == "-" and self.source[self.i + 1 : self.i + 2] not in ("]", ""):
                self.i += 1
                kind, high = self.class_member()
                if kind or low > high:
                    raise PatternError("a bad range in a class", place)
                ranges.update(_folded_range(ord(low), ord(high), self.ignore_case))
                continue
            folded = fold_character(low)
            if len(folded) != 1:
                raise PatternError(f"U+{ord(low):04X}, which does not fold to one character, in a class", place)
            ranges.update(_folded(low, self.ignore_case))
        self.i += 1
        return CharSet(tuple(sorted(ranges)), kinds, negated, self.ignore_case)

    def class_member(self) -> tuple[str, str]:
        at = self.i
        c = self.take("a class")
        if c != "\\":
            return "", c
        if self.peek() == "b":
            self.i += 1
            return "", "\b"
        return self.escaped(at)


_ANY = CharSet(((10, 10),), negated=True)
_SPACES = {r"\s+": Repeat(CharSet(kinds="s"), 1, None), r"\s*": Repeat(CharSet(kinds="s"), 0, None)}
"""Between the words of a phrase; shared, since no other part of the packs is as frequent."""


@lru_cache(maxsize=8)
def _of_kind(kind: str) -> CharSet:
    return CharSet(kinds=kind)


def _folded(character: str, ignore_case: bool) -> Iterator[tuple[int, int]]:
    """What *character* folds to, and its other forms if their case does not matter; only single characters."""
    folds = case_variants(character) if ignore_case and not character.isascii() else (fold_character(character),)
    yield from ((ord(fold), ord(fold)) for fold in folds if len(fold) == 1)


def _folded_range(low: int, high: int, ignore_case: bool) -> Iterator[tuple[int, int]]:
    if low < 128:
        yield low, min(high, 127)
    start = max(low, 128)
    if high - start >= RANGE_MAX:
        yield start, high
    elif high >= start:
        for code in range(start, high + 1):
            yield from _folded(chr(code), ignore_case)
