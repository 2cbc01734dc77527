"""The regular expressions of rules: a parser for the part of the syntax that can be matched while text streams.

Literals, `.`, classes, groups, `|`, `* + ? {n} {n,} {,m} {n,m}` (a lazy `?` after them changes nothing: all matches
count), `\\d \\w \\s` and their capitals, `\\b \\B`, `(?i)` at the start. Everything is matched against folded text (see
fold.py), so the characters of a pattern are folded, too. `\\d` is 0 to 9, `\\w` a character for which `fold.is_word`
holds.

Why not the parser of the standard library's `re`: it is private and differs between versions, it knows no positions
once it has parsed, and more than half of what it accepts must be refused here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from utils.guardrails.fold import fold_character, is_word

__all__ = [
    "NOT_BOUNDARY",
    "NOT_INSIDE_WORD",
    "WORD_BOUNDARY",
    "Alternatives",
    "Assertion",
    "CharSet",
    "PatternError",
    "Regular",
    "Repeat",
    "Sequence",
    "parse",
    "widths",
]

REPEAT_MAX = 1000
"""The highest count of a repeat; the cap on automaton states refuses products of repeats."""

_RANGE_MAX = 2000
"""Non-ASCII ranges up to this size are folded member by member; larger ones match folded characters as they are."""


class PatternError(ValueError):
    """A pattern cannot be used: *reason*, at *position* (from 0) of its source."""

    def __init__(self, reason: str, position: int) -> None:
        super().__init__(f"{reason} at position {position}")
        self.reason = reason
        self.position = position


@dataclass(frozen=True, slots=True)
class CharSet:
    """A class of folded characters: *ranges* of code points and *kinds* (`d`, `w`, `s`, `D`, `W`, `S`)."""

    ranges: tuple[tuple[int, int], ...] = ()
    kinds: str = ""
    negated: bool = False
    ignore_case: bool = False

    def has(self, character: str) -> bool:
        """Whether *character* is in the class."""
        if self._listed(character):
            return not self.negated
        if self.ignore_case and any(self._listed(v) for v in (character.lower(), character.upper()) if len(v) == 1):
            return not self.negated
        return self.negated

    def can_be(self, *, word: bool) -> bool:
        """Whether the class has a member that is a word character (*word*), or one that is not."""
        return _can_be(self, word)

    def _listed(self, character: str) -> bool:
        code = ord(character)
        return any(low <= code <= high for low, high in self.ranges) or any(
            _KINDS[kind.lower()](character) is kind.islower() for kind in self.kinds
        )

    def _samples(self) -> Iterator[str]:
        yield from map(chr, range(128))
        yield from "ж日—"
        for low, high in self.ranges:
            yield from (chr(code) for code in range(low, min(high, low + _RANGE_MAX) + 1))
        if self.negated or any(map(str.isupper, self.kinds)):
            yield from (chr(code) for low, high in self.ranges for code in (low - 1, high + 1) if 0 <= code <= _LAST)
            yield from _OF_ALL_SCRIPTS


@lru_cache(maxsize=4096)
def _can_be(chars: CharSet, word: bool) -> bool:
    return any(is_word(c) is word and chars.has(c) for c in chars._samples())


_LAST = 0x10FFFF
_OF_ALL_SCRIPTS = "".join(map(chr, (*range(0x80, 0x2000, 7), *range(0x2000, 0x30000, 257))))
"""What a class may contain that says which characters it does not have: a rule must not be taken for impossible."""

_KINDS = {"d": lambda c: "0" <= c <= "9", "w": is_word, "s": str.isspace}

WORD_BOUNDARY, NOT_BOUNDARY, NOT_INSIDE_WORD = "b", "B", "outside"
"""`\\b`; `\\B`; and what whole-word rules ask for at their ends: not between two word characters."""


@dataclass(frozen=True, slots=True)
class Assertion:
    """One of `WORD_BOUNDARY`, `NOT_BOUNDARY`, `NOT_INSIDE_WORD` at a place between two characters."""

    kind: str


@dataclass(frozen=True, slots=True)
class Sequence:
    """*items* one after the other."""

    items: tuple[Regular, ...]


@dataclass(frozen=True, slots=True)
class Alternatives:
    """One of *items*."""

    items: tuple[Regular, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """*item* at least *low* and at most *high* times (None: no limit)."""

    item: Regular
    low: int
    high: int | None


Regular = CharSet | Assertion | Sequence | Alternatives | Repeat


def widths(regular: Regular) -> tuple[int, int | None]:
    """The fewest and the most folded characters of a match (None: no limit)."""
    match regular:
        case CharSet():
            return 1, 1
        case Assertion():
            return 0, 0
        case Repeat(item, low, high):
            fewest, most = widths(item)
            return fewest * low, 0 if most == 0 or high == 0 else None if most is None or high is None else most * high
        case Sequence(items) | Alternatives(items):
            both = [widths(item) for item in items]
            tops = [most for _, most in both if most is not None]
            is_bounded = len(tops) == len(both)
            if isinstance(regular, Sequence):
                return sum(fewest for fewest, _ in both), sum(tops) if is_bounded else None
            return min(fewest for fewest, _ in both), max(tops) if is_bounded else None


def parse(source: str, *, ignore_case: bool = False) -> Regular:
    """The syntax tree of *source*.

    Raises: PatternError if it is not valid, or uses what cannot be matched while text streams.
    """
    return _Parser(source, ignore_case).parse()


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a", "0": "\0"}
_HEX_DIGITS = {"x": 2, "u": 4, "U": 8}
_DEPTH_MAX = 50


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
        while self.peek() == "|":
            self.i += 1
            items.append(self.sequence())
        return items[0] if len(items) == 1 else Alternatives(tuple(items))

    def sequence(self) -> Regular:
        items: list[Regular] = []
        while self.peek() not in ("", "|", ")"):
            items.append(self.repeats(self.atom()))
        return items[0] if len(items) == 1 else Sequence(tuple(items))

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
        if c and c in "*+?":
            self.i += 1
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[c]
        if c != "{":
            return None
        end = self.source.find("}", self.i)
        low, comma, high = self.source[self.i + 1 : max(end, 0)].partition(",")
        if end < 0 or not (low or high) or not all((n.isascii() and n.isdigit()) or not n for n in (low, high)):
            return None  # a brace that stands for itself
        if len(low) > 9 or len(high) > 9:
            raise PatternError(f"a repeat of more than {REPEAT_MAX:,} (oversized)", self.i)
        self.i = end + 1
        least = int(low or 0)
        return least, least if not comma else int(high) if high else None

    def atom(self) -> Regular:
        at = self.i
        c = self.take("the pattern")
        if c == "(":
            return self.group(at)
        if c == "[":
            return self.char_class(at)
        if c == "\\":
            return self.escape(at)
        if c == ".":
            return CharSet(((10, 10),), negated=True)
        if c in "^$":
            raise PatternError(f"the anchor `{c}`", at)
        if c in "*+?":
            raise PatternError(f"nothing to repeat before `{c}`", at)
        return self.literal(c, at)

    def group(self, at: int) -> Regular:
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
        rest = self.source[self.i :]
        if rest.startswith("?:"):
            self.i += 2
        elif rest.startswith("?P<") and ">" in rest:
            self.i += rest.index(">") + 1
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
        sets = tuple(CharSet(((ord(c), ord(c)),), ignore_case=self.ignore_case) for c in folded)
        return sets[0] if len(sets) == 1 else Sequence(sets)

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
        return CharSet(kinds=kind) if kind else self.literal(character, at)

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
                ranges.update(_folded_range(ord(low), ord(high)))
                continue
            folded = fold_character(low)
            if len(folded) != 1:
                raise PatternError(f"U+{ord(low):04X}, which does not fold to one character, in a class", place)
            ranges.add((ord(folded), ord(folded)))
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


def _folded_range(low: int, high: int) -> Iterator[tuple[int, int]]:
    if low < 128:
        yield low, min(high, 127)
    start = max(low, 128)
    if high - start >= _RANGE_MAX:
        yield start, high
    elif high >= start:
        folds = {fold_character(chr(code)) for code in range(start, high + 1)}
        yield from ((ord(c), ord(c)) for c in folds if len(c) == 1)
