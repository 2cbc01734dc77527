"""A literal text, found wherever it stands."""

from __future__ import annotations

from dataclasses import dataclass, field

from utils.guardrails.fold import fold
from utils.guardrails.scanners import NOT_LIVE, Match, Scanner

__all__ = ["LiteralPattern"]


@dataclass(frozen=True)
class LiteralPattern:
    """Every occurrence of *text*, overlapping ones too. `folded` is what is looked for.

    Source: D. Knuth, J. Morris, V. Pratt, "Fast Pattern Matching in Strings", SIAM J. Computing 6 (1977).
    """

    text: str = field(repr=False)
    folded: str = field(init=False, repr=False, compare=False)
    borders: tuple[int, ...] = field(init=False, repr=False, compare=False)
    """borders[k]: the longest proper prefix of folded[: k + 1] that is also a suffix of it, in characters."""

    def __post_init__(self) -> None:
        text = "".join(fold(self.text))
        borders = [0] * len(text)
        matched = 0
        for k in range(1, len(text)):
            while matched and text[k] != text[matched]:
                matched = borders[matched - 1]
            matched += text[k] == text[matched]
            borders[k] = matched
        object.__setattr__(self, "folded", text)
        object.__setattr__(self, "borders", tuple(borders))

    def scanner(self) -> Scanner:
        """A scanner at the start of a stream."""
        return _LiteralScanner(self)


class _LiteralScanner:
    """`_matched` is the length of the longest proper prefix of the literal with which the text so far ends."""

    __slots__ = ("_matched", "_pattern")

    def __init__(self, pattern: LiteralPattern) -> None:
        self._pattern = pattern
        self._matched = 0

    def scan(self, text: str, base: int, found: list[Match]) -> int:
        literal, borders, matched = self._pattern.folded, self._pattern.borders, self._matched
        i, length = 0, len(text)
        while i < length:
            if matched == 0:
                i = text.find(literal[0], i)
                if i < 0:
                    break
            character = text[i]
            while matched and character != literal[matched]:
                matched = borders[matched - 1]
            matched += character == literal[matched]
            i += 1
            if matched == len(literal):
                end = base + i
                found.append(Match(end - matched, end, end))
                matched = borders[matched - 1]
        self._matched = matched
        return base + length - matched if matched else NOT_LIVE

    def finish(self, length: int, found: list[Match]) -> None:
        """Nothing waits: the rule has no trailing boundary."""
