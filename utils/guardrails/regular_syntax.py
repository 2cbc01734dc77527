"""The syntax trees of regular rules: what matches one folded character, a boundary, or several of these.

Built by regular_parser.py, run by automaton.py. A tree is immutable and shared by all sets of rules that have its rule.
The classes are plain: what `dataclass` generates for them would take as long as reading a pack.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

from utils.guardrails.fold import is_word

__all__ = [
    "ASCII_WORDS",
    "NOT_BOUNDARY",
    "NOT_INSIDE_WORD",
    "RANGE_MAX",
    "WORD_BOUNDARY",
    "Alternatives",
    "Assertion",
    "CharSet",
    "PatternError",
    "Regular",
    "Repeat",
    "Sequence",
    "Text",
    "literal",
    "widths",
]

RANGE_MAX = 2000
"""Non-ASCII ranges up to this size are folded member by member; larger ones match folded characters as they are."""


class PatternError(ValueError):
    """A pattern cannot be used: *reason*, at *position* (from 0) of its source."""

    def __init__(self, reason: str, position: int) -> None:
        super().__init__(f"{reason} at position {position}")
        self.reason = reason
        self.position = position


_KINDS: dict[str, Callable[[str], bool]] = {"d": lambda c: "0" <= c <= "9", "w": is_word, "s": str.isspace}
_ASCII = (1 << 128) - 1
_ASCII_KINDS = {kind: sum([1 << code for code in range(128) if has(chr(code))]) for kind, has in _KINDS.items()}
ASCII_WORDS = _ASCII_KINDS["w"]
"""Bit n is set if chr(n) is a word character."""

_CAPITALS = ((1 << 26) - 1) << ord("A")
_LAST = 0x10FFFF

_OF_ALL_SCRIPTS = (*range(0x80, 0x2000, 7), *range(0x2000, 0x30000, 257))
"""What a class may contain that says which characters it does not have: a rule must not be taken for impossible."""


class CharSet:
    """A class of folded characters: *ranges* of code points and *kinds* (`d`, `w`, `s`, `D`, `W`, `S`).

    Two sets are equal if they are written with the same members. Bit n of *ascii_members* is set if chr(n) is one.
    """

    __slots__ = ("_hash", "ascii_members", "ignore_case", "kinds", "negated", "ranges")
    states = 1
    has_assertion = False

    def __init__(
        self,
        ranges: tuple[tuple[int, int], ...] = (),
        kinds: str = "",
        negated: bool = False,
        ignore_case: bool = False,
    ) -> None:
        self.ranges = ranges
        self.kinds = kinds
        self.negated = negated
        self.ignore_case = ignore_case
        self._hash = hash((ranges, kinds, negated, ignore_case))
        members = 0
        for low, high in ranges:
            if low < 128:
                members |= (1 << min(high, 127) + 1) - (1 << low)
        for kind in kinds:
            listed = _ASCII_KINDS[kind.lower()]
            members |= listed if kind.islower() else _ASCII ^ listed
        if ignore_case:
            members |= (members & _CAPITALS) << 32 | (members >> 32) & _CAPITALS
        self.ascii_members = _ASCII ^ members if negated else members

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CharSet) and (self.ranges, self.kinds, self.negated, self.ignore_case) == (
            other.ranges,
            other.kinds,
            other.negated,
            other.ignore_case,
        )

    def __hash__(self) -> int:
        return self._hash

    def has(self, character: str) -> bool:
        """Whether *character* is in the class."""
        code = ord(character)
        if code < 128:
            return self.ascii_members >> code & 1 == 1
        if self._listed(character):
            return not self.negated
        if self.ignore_case and any(self._listed(v) for v in (character.lower(), character.upper()) if len(v) == 1):
            return not self.negated
        return self.negated

    def can_be(self, *, word: bool) -> bool:
        """Whether the class has a member that is a word character (*word*), or one that is not."""
        if self.ascii_members & (ASCII_WORDS if word else ~ASCII_WORDS):
            return True
        return _has_other(self, word)

    def _listed(self, character: str) -> bool:
        code = ord(character)
        return any(low <= code <= high for low, high in self.ranges) or any(
            _KINDS[kind.lower()](character) is kind.islower() for kind in self.kinds
        )

    def _samples(self) -> Iterator[int]:
        yield from map(ord, "ж日—")
        for low, high in self.ranges:
            yield from range(low, min(high, low + RANGE_MAX) + 1)
        if self.negated or any(map(str.isupper, self.kinds)):
            yield from (code for low, high in self.ranges for code in (low - 1, high + 1) if 0 <= code <= _LAST)
            yield from _OF_ALL_SCRIPTS


@lru_cache(maxsize=4096)
def _has_other(chars: CharSet, word: bool) -> bool:
    return any(is_word(c) is word and chars.has(c) for c in map(chr, chars._samples()))


WORD_BOUNDARY, NOT_BOUNDARY, NOT_INSIDE_WORD = "b", "B", "outside"
"""`\\b`; `\\B`; and what whole-word rules ask for at their ends: not between two word characters."""


class Assertion:
    """One of `WORD_BOUNDARY`, `NOT_BOUNDARY`, `NOT_INSIDE_WORD` at a place between two characters."""

    __slots__ = ("kind",)
    states = 1
    has_assertion = True

    def __init__(self, kind: str) -> None:
        self.kind = kind


class Text:
    """Folded *characters*, one after the other."""

    __slots__ = ("characters", "ignore_case", "states")
    has_assertion = False

    def __init__(self, characters: str, ignore_case: bool) -> None:
        self.characters = characters
        self.ignore_case = ignore_case
        self.states = len(characters)


class Sequence:
    """*items* one after the other."""

    __slots__ = ("has_assertion", "items", "states")

    def __init__(self, items: tuple[Regular, ...]) -> None:
        self.items = items
        self.states: int = sum([item.states for item in items])
        self.has_assertion: bool = any(item.has_assertion for item in items)


class Alternatives:
    """One of *items*."""

    __slots__ = ("has_assertion", "items", "states")

    def __init__(self, items: tuple[Regular, ...]) -> None:
        self.items = items
        self.states: int = 1 + sum([item.states for item in items])
        self.has_assertion: bool = any(item.has_assertion for item in items)


class Repeat:
    """*item* at least *low* and at most *high* times (None: no limit)."""

    __slots__ = ("has_assertion", "high", "item", "low", "states")

    def __init__(self, item: Regular, low: int, high: int | None) -> None:
        self.item = item
        self.low = low
        self.high = high
        each: int = item.states
        self.states: int = 1 + each * max(low, 1) if high is None else each * high + high - low
        self.has_assertion: bool = item.has_assertion


Regular = CharSet | Assertion | Text | Sequence | Alternatives | Repeat
"""`states`: how many states of an automaton the tree becomes; `has_assertion`: whether a boundary is in it."""


@lru_cache(maxsize=4096)
def literal(character: str, ignore_case: bool) -> CharSet:
    """The class of one folded *character*."""
    code = ord(character)
    return CharSet(((code, code),), ignore_case=ignore_case)


def widths(regular: Regular) -> tuple[int, int | None]:
    """The fewest and the most folded characters of a match (None: no limit)."""
    match regular:
        case CharSet():
            return 1, 1
        case Assertion():
            return 0, 0
        case Text():
            return regular.states, regular.states
        case Repeat():
            low, high = regular.low, regular.high
            fewest, most = widths(regular.item)
            return fewest * low, 0 if most == 0 or high == 0 else None if most is None or high is None else most * high
        case Sequence() | Alternatives():
            both = [widths(item) for item in regular.items]
            tops = [most for _, most in both if most is not None]
            is_bounded = len(tops) == len(both)
            if isinstance(regular, Sequence):
                return sum(fewest for fewest, _ in both), sum(tops) if is_bounded else None
            return min(fewest for fewest, _ in both), max(tops) if is_bounded else None
