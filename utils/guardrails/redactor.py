"""Shows text while it streams and never shows a character that a match on the whole text covers.

Theory of operation. Every character of the raw text is in one of three places: *decided* (shown, or hidden behind a
replacement), *held*, or not received. The boundary between the first two, `_decided`, moves over a stretch of text

- that a known match covers: at once; its run is replaced once, and what touches a shown run is swallowed;
- that no known match covers: as far as the first live position, since from there on a match may still start.

So a character is held only if a live position lies at or before it (see utils/guardrails/scanners.py). Runs are
maximal: touching matches are one run. Its label is the match that ends first, then starts first, then is known without
the character after it, then stands first in the rules. No match that becomes known later can win by that order, so the
label does not depend on how the text was cut.

The cap: with more than `HELD_CHARS_MAX` held characters the held text is replaced by `[held text too long]`, and
everything is swallowed up to the first character after which nothing is live. A feed is read in pieces that cannot
cross the cap unseen, so this, too, depends on the text alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from utils.events import Blocked, Flagged, Redacted, TextDelta
from utils.guardrails.rules import RuleSet, Span
from utils.guardrails.scanners import NOT_LIVE, Match

__all__ = [
    "HELD_CHARS_MAX",
    "HELD_TEXT_LIMIT",
    "RANGES_MAX",
    "Guard",
    "GuardEvent",
    "GuardStateError",
    "GuardStatistics",
    "Redactor",
    "RuleFindings",
]

GuardEvent = TextDelta | Redacted | Flagged | Blocked

HELD_CHARS_MAX = 4096
"""Longest text that may be held, in characters; ordinary text holds a word, a domain or a token header."""

HELD_TEXT_LIMIT = "held_text_limit"
"""The rule id of text that was replaced because too much of it was held."""

RANGES_MAX = 1000
"""Ranges kept per rule in the statistics: a filter may run for days, so they are bounded. Counts stay exact."""

_TOO_LONG = "[held text too long]"


class GuardStateError(AssertionError):
    """A guard was used after its end, or found that it broke its own promise. A bug of ours, never the user's."""


@dataclass(frozen=True, slots=True)
class RuleFindings:
    """How many runs of hidden text *rule* labels, and where they are (the first `RANGES_MAX`, [start, end) each)."""

    rule: str
    count: int
    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class GuardStatistics:
    """What a guard did so far. Characters are code points; never contains text.

    held_max_chars, held_mean_chars: taken at the end of each feed. overflows: how often the cap on held text was
    reached. dropped_chars: held characters that a cancel dropped. seen_chars: all raw characters.
    """

    rules: tuple[str, ...]
    findings: tuple[RuleFindings, ...]
    seen_chars: int
    held_max_chars: int
    held_mean_chars: float
    overflows: int
    dropped_chars: int


class Guard(Protocol):
    """What stands between a stream of text and its reader; one per stream.

    `feed` and `finish` return what may be shown now. After `finish`, `cancel` or a `Blocked` only `cancel` (again) and
    the figures may be asked for.
    """

    def feed(self, text: str) -> list[GuardEvent]:
        """Read the next piece of raw text."""
        ...

    def finish(self) -> list[GuardEvent]:
        """The text is whole: decide trailing boundaries and release the tail."""
        ...

    def cancel(self) -> int:
        """The text is not whole: drop what is held; returns how many characters were dropped."""
        ...

    @property
    def held_chars(self) -> int:
        """Characters received, neither shown nor hidden yet."""
        ...

    def statistics(self) -> GuardStatistics:
        """A snapshot of the figures."""
        ...


class _Run:
    """A maximal run [start, end) of covered characters that is not decided yet, with its label."""

    __slots__ = ("end", "label", "rule", "start")

    def __init__(self, start: int, end: int, label: tuple[int, int, bool, int], rule: int) -> None:
        self.start = start
        self.end = end
        self.label = label
        self.rule = rule


class Redactor:
    """The guard that replaces what the rules of *rules* match. Cheap to create: the set is compiled already.

    Invariant: the shown text with each replacement put back is the raw text. Time is linear, memory is bounded by
    `HELD_CHARS_MAX` and the state of the rules.
    """

    def __init__(self, rules: RuleSet) -> None:
        self._rules = rules.rules
        self._scanners = [(n, r.pattern.decides_late, r.pattern.scanner()) for n, r in enumerate(self._rules)]
        self._held = ""
        self._decided = 0
        self._runs: list[_Run] = []
        self._in_shown_run = False  # what was decided last is hidden: text that touches it belongs to the same run
        self._is_swallowing = False
        self._is_ended = False
        self._text: list[str] = []
        self._events: list[GuardEvent] = []
        self._counts: dict[str, int] = {}
        self._ranges: dict[str, list[tuple[int, int]]] = {}
        self._shown: Span | None = None  # the run that was replaced last; it may still grow
        self._feeds = self._held_sum = self._held_max = self._overflows = self._dropped = 0

    @property
    def held_chars(self) -> int:
        """Characters received, neither shown nor hidden yet."""
        return len(self._held)

    def feed(self, text: str) -> list[GuardEvent]:
        """Read *text*, the next piece of the raw stream; returns what may be shown now.

        Raises: GuardStateError after `finish` or `cancel`; any error of a rule. State after a raise: ended, the held
        text dropped, so that nothing more can be shown.
        """
        if self._is_ended:
            raise GuardStateError("feed() after the end of the stream")
        try:
            i = 0
            while i < len(text):
                room = 1 if self._is_swallowing else max(1, HELD_CHARS_MAX - len(self._held))
                self._read(text[i : i + room])
                i += room
        except BaseException:
            self.cancel()
            raise
        held = len(self._held)
        self._feeds += 1
        self._held_sum += held
        self._held_max = max(self._held_max, held)
        return self._take_events()

    def finish(self) -> list[GuardEvent]:
        """The stream is whole: decide what waits for a trailing boundary and release the tail.

        Raises: GuardStateError if the stream has ended already; any error of a rule. State afterwards: ended.
        """
        if self._is_ended:
            raise GuardStateError("finish() after the end of the stream")
        try:
            found: list[Match] = []
            for order, is_late, scanner in self._scanners:
                scanner.finish(self._decided + len(self._held), found)
                self._add(found, order, is_late)
            self._release(NOT_LIVE)
        except BaseException:
            self.cancel()
            raise
        self._is_ended = True
        return self._take_events()

    def cancel(self) -> int:
        """The stream is not whole: drop what is held; the number of characters dropped. May be called again (0)."""
        dropped = len(self._held)
        self._held = ""
        self._runs.clear()
        self._text.clear()
        self._events.clear()
        self._decided += dropped
        self._dropped += dropped
        self._is_ended = True
        return dropped

    def statistics(self) -> GuardStatistics:
        """A snapshot of the figures."""
        ranges = {rule: list(kept) for rule, kept in self._ranges.items()}
        if self._shown is not None and len(ranges[self._shown.rule]) < RANGES_MAX:
            ranges[self._shown.rule].append((self._shown.raw_start, self._shown.raw_end))
        return GuardStatistics(
            rules=tuple(rule.id for rule in self._rules),
            findings=tuple(RuleFindings(rule, n, tuple(ranges[rule])) for rule, n in self._counts.items()),
            seen_chars=self._decided + len(self._held),
            held_max_chars=self._held_max,
            held_mean_chars=self._held_sum / self._feeds if self._feeds else 0.0,
            overflows=self._overflows,
            dropped_chars=self._dropped,
        )

    def _read(self, piece: str) -> None:
        base = self._decided + len(self._held)
        self._held += piece
        live = NOT_LIVE
        found: list[Match] = []
        for order, is_late, scanner in self._scanners:
            position = scanner.scan(piece, base, found)
            live = min(live, position)
            if found:
                self._add(found, order, is_late)
        if self._is_swallowing:
            self._is_swallowing = live != NOT_LIVE
            if self._is_swallowing:  # if not, this piece, a single character, is the first that is not swallowed
                self._hide_until(base + len(piece))
            self._runs = [run for run in self._runs if run.end > self._decided]
        self._release(live)
        if len(self._held) > HELD_CHARS_MAX:
            self._overflows += 1
            end = self._decided + len(self._held)
            self._replace(HELD_TEXT_LIMIT, _TOO_LONG, self._decided)
            self._hide_until(end)
            self._runs.clear()
            self._is_swallowing = True

    def _add(self, found: list[Match], order: int, is_late: bool) -> None:
        """Join the matches of rule number *order* with the runs that are not decided; empties *found*."""
        for start, first_end, end in found:
            run = _Run(start, end, (first_end, start, is_late, order), order)
            after: list[_Run] = []
            while self._runs and self._runs[-1].end >= run.start:
                other = self._runs.pop()
                if other.start > run.end:
                    after.append(other)
                    continue
                run.start, run.end = min(run.start, other.start), max(run.end, other.end)
                if other.label < run.label:
                    run.label, run.rule = other.label, other.rule
            self._runs.append(run)
            self._runs.extend(reversed(after))
        found.clear()

    def _release(self, live: int) -> None:
        """Decide everything that can be decided when *live* is the first live position."""
        for run in self._runs:
            if run.start > self._decided:
                self._show_until(min(live, run.start))
                if self._decided < run.start:
                    break
            if run.start < self._decided and not self._in_shown_run:
                raise GuardStateError("a match covers text that was released")
            if not self._in_shown_run:
                rule = self._rules[run.rule]
                self._replace(rule.id, rule.replacement, run.start)
            self._hide_until(run.end)
        if self._runs:
            self._runs = [run for run in self._runs if run.end > self._decided]
        if not self._runs:
            self._show_until(min(live, self._decided + len(self._held)))

    def _show_until(self, end: int) -> None:
        shown = end - self._decided
        if shown > 0:
            self._text.append(self._held[:shown])
            self._held = self._held[shown:]
            self._decided = end
            self._in_shown_run = False

    def _hide_until(self, end: int) -> None:
        hidden = end - self._decided
        if hidden > 0:
            self._held = self._held[hidden:]
            self._decided = end
        if self._shown is not None and self._shown.raw_end < self._decided:
            self._shown = Span(self._shown.rule, self._shown.raw_start, self._decided)

    def _replace(self, rule: str, replacement: str, start: int) -> None:
        self._flush_text()
        self._events.append(Redacted(rule, replacement, start))
        self._in_shown_run = True
        if self._shown is not None and len(self._ranges[self._shown.rule]) < RANGES_MAX:
            self._ranges[self._shown.rule].append((self._shown.raw_start, self._shown.raw_end))
        self._ranges.setdefault(rule, [])
        self._counts[rule] = self._counts.get(rule, 0) + 1
        self._shown = Span(rule, start, start)

    def _flush_text(self) -> None:
        if self._text:
            self._events.append(TextDelta("".join(self._text)))
            self._text.clear()

    def _take_events(self) -> list[GuardEvent]:
        self._flush_text()
        events, self._events = self._events, []
        return events
