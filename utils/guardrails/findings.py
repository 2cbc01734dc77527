"""What a guard did: figures without any text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

__all__ = ["RANGES_MAX", "FindingAction", "Findings", "GuardStatistics", "RuleFindings"]

FindingAction = Literal["hidden", "flagged", "blocked"]
"""What a reader was shown of a finding: something else, the text and a remark, or nothing from there on."""

RANGES_MAX = 1000
"""Ranges kept per rule in the statistics: a filter may run for days, so they are bounded. Counts stay exact."""


@dataclass(frozen=True, slots=True)
class RuleFindings:
    """How many runs of text *rule* labels, and where they are (the first `RANGES_MAX`, [start, end) each).

    *action* is None where nobody saw what the findings led to.
    """

    rule: str
    count: int
    ranges: tuple[tuple[int, int], ...]
    action: FindingAction | None = None


@dataclass(frozen=True, slots=True)
class GuardStatistics:
    """What a guard did so far. Characters are code points; never contains text.

    held_max_chars, held_mean_chars: taken at the end of each feed. overflows: how often the cap on held text was
    reached. dropped_chars: held characters that a cancel or a block dropped. seen_chars: all raw characters.
    held_mean_s, held_max_s: seconds from the arrival of a character until it was shown, hidden or dropped, over all
    characters (utils/guardrails/hold_time.py); None if nobody measured.
    """

    rules: tuple[str, ...]
    findings: tuple[RuleFindings, ...]
    seen_chars: int
    held_max_chars: int
    held_mean_chars: float
    overflows: int
    dropped_chars: int
    held_mean_s: float | None = None
    held_max_s: float | None = None


class Findings:
    """Counts and places by rule. The place noted last may still grow."""

    __slots__ = ("_counts", "_last", "_ranges")

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._ranges: dict[str, list[tuple[int, int]]] = {}
        self._last: list[tuple[int, int]] | None = None

    def note(self, rule: str, start: int, end: int, *, grows: bool = False) -> None:
        """*rule* found [start, end); *grows*: it may become longer until the next one that grows."""
        self._counts[rule] = self._counts.get(rule, 0) + 1
        ranges = self._ranges.setdefault(rule, [])
        is_kept = len(ranges) < RANGES_MAX
        if is_kept:
            ranges.append((start, end))
        if grows:
            self._last = ranges if is_kept else None

    def grow(self, end: int) -> None:
        """What was noted last as growing goes on to *end*."""
        if self._last is not None and self._last[-1][1] < end:
            self._last[-1] = self._last[-1][0], end

    def snapshot(self) -> Iterable[RuleFindings]:
        """The findings so far, by first occurrence of their rule."""
        return [RuleFindings(rule, count, tuple(self._ranges[rule])) for rule, count in self._counts.items()]
