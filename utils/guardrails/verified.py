"""Verified rules: a regular rule finds candidates, a function decides which of them are matches.

Candidates start and end where no word is cut, and have a bounded length. Each is judged on its own, so unlike in other
regular rules no start may stand for a later one: one candidate per start is followed, at most as many as the longest
candidate has characters. In ordinary text there is none, and a search for the next possible first letter skips on.

A candidate that cannot go on is judged before its boundary is known: if it is refused there is nothing to wait for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from utils.guardrails.automaton import Automaton
from utils.guardrails.fold import is_word
from utils.guardrails.regular_syntax import NOT_INSIDE_WORD, Assertion, PatternError, Regular, Sequence, widths
from utils.guardrails.scanners import NOT_LIVE, Match, Pieces

__all__ = ["CANDIDATE_MAX", "STATES_MAX", "VerifiedMatcher", "Verifier", "bounded"]

CANDIDATE_MAX = 256
"""Longest candidate that may be verified, in folded characters: it bounds the work per character."""

STATES_MAX = 2_000
_TRANSITIONS_MAX = 20_000

Verifier = Callable[[str], bool]
"""Judges the folded text of a candidate."""


def bounded(tree: Regular) -> Regular:
    """*tree* between two boundaries. Raises: PatternError if its matches may be longer than `CANDIDATE_MAX`."""
    most = widths(tree)[1]
    if most is None or most > CANDIDATE_MAX:
        raise PatternError(
            f"candidates for a verifier of {most or 'unlimited'} characters (at most {CANDIDATE_MAX})", 0
        )
    return Sequence((Assertion(NOT_INSIDE_WORD), tree, Assertion(NOT_INSIDE_WORD)))


class _Place(dict[str, "tuple[_Place | None, tuple[int, ...], tuple[int, ...]]"]):
    """Where a candidate stands. By the next character: where it stands then, rules that end before it, and after it.

    *ends* are the rules that match if the text ends here, *waits* those that match if some other character follows, or
    none; *can_go_on*: it may also become longer.
    """

    __slots__ = ("before", "can_go_on", "ends", "matcher", "nodes", "waits")

    def __init__(self, matcher: VerifiedMatcher, nodes: frozenset[int], before: bool) -> None:
        super().__init__()
        self.matcher = matcher
        self.nodes = nodes
        self.before = before
        self.ends, self.waits, self.can_go_on = matcher.outlook(nodes, before)

    def __missing__(self, character: str) -> tuple[_Place | None, tuple[int, ...], tuple[int, ...]]:
        return self.matcher.transition(self, character)


class VerifiedMatcher:
    """The bounded rules *trees* with their *verifiers*, numbered by *orders* in what is found."""

    def __init__(self, trees: Iterable[Regular], verifiers: Iterable[Verifier], orders: Iterable[int]) -> None:
        self._automaton = Automaton(trees)
        self.verifiers = tuple(verifiers)
        self.orders = tuple(orders)
        self._places: dict[tuple[frozenset[int], bool], _Place] = {}
        self._transitions = 0
        self.pieces: Pieces[bool] = Pieces()
        self.quiet: tuple[dict[str, bool], dict[str, bool]] = {}, {}
        """By what stands before: pieces after which no candidate lives, and whether they end in a word."""
        self.begins = self._begin(False), self._begin(True)
        # Most letters of a word stand behind another one, where hardly anything starts.
        anywhere, in_word = self._automaton.starters(False), self._automaton.starters(True)
        self.starter = re.compile(f"(?<![0-9A-Za-z_]){_one_of(anywhere | in_word)}|{_one_of(in_word)}")

    def scanner(self) -> VerifiedScanner:
        """A scanner at the start of a stream."""
        return VerifiedScanner(self)

    def outlook(self, nodes: frozenset[int], before: bool) -> tuple[tuple[int, ...], tuple[int, ...], bool]:
        """What `_Place` knows of *nodes*: its `ends`, `waits` and `can_go_on`."""
        ends = self._automaton.has_end(nodes, before)
        waits = ends | self._automaton.decide(nodes, before, True).rules
        return tuple(sorted(ends)), tuple(sorted(waits)), self._automaton.can_go_on(nodes, before)

    def transition(self, place: _Place, character: str) -> tuple[_Place | None, tuple[int, ...], tuple[int, ...]]:
        """Build and keep what *character* does in *place*."""
        if len(self._places) >= STATES_MAX or self._transitions >= _TRANSITIONS_MAX:
            for known in (*self._places.values(), *self.begins):
                known.clear()
            self._places.clear()
            self._transitions = 0
        word = is_word(character)
        if place is self.begins[place.before]:
            late: frozenset[int] = frozenset()
            reached = self._automaton.start(place.before, character)
        else:
            decided = self._automaton.decide(place.nodes, place.before, word)
            late = decided.rules
            reached = self._automaton.step(decided.nodes, character, word)
        step = self._place(reached.nodes, word), tuple(sorted(late)), tuple(sorted(reached.rules))
        self._transitions += 1
        place[character] = step
        return step

    def _begin(self, before: bool) -> _Place:
        return _Place(self, frozenset(), before)

    def _place(self, nodes: frozenset[int], before: bool) -> _Place | None:
        if not nodes:
            return None
        key = nodes, before
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = _Place(self, nodes, before)
        return place


def _one_of(starters: int) -> str:
    """An expression for one of the ASCII characters in the bits of *starters*, or any character beyond ASCII."""
    others = re.escape("".join(chr(code) for code in range(128) if not starters >> code & 1))
    return f"[^{others}]" if others else "(?s:.)"


class VerifiedScanner:
    """The candidates in one stream: (start, place), oldest first. `_kept`: the text from the oldest start on."""

    __slots__ = ("_before", "_candidates", "_kept", "_matcher")

    def __init__(self, matcher: VerifiedMatcher) -> None:
        self._matcher = matcher
        self._before = False
        self._candidates: list[tuple[int, _Place]] = []
        self._kept = ""

    def scan(self, text: str, base: int, found: list[Match]) -> int:
        """Read folded *text*, whose first character has position *base*; returns the first live position."""
        if not text:
            return self._candidates[0][0] if self._candidates else NOT_LIVE
        matcher = self._matcher
        i = 0
        quiet: dict[str, bool] | None = None
        if not self._candidates:
            quiet = matcher.quiet[self._before]
            if (after := quiet.get(text)) is not None:
                self._before = after
                return NOT_LIVE
            first = matcher.starter.search(text)
            if first is None:
                self._before = is_word(text[-1])
                return NOT_LIVE
            i = first.start()
        known = len(found)
        origin = base - len(self._kept)
        buffer = self._kept + text
        before = is_word(text[i - 1]) if i else self._before
        while i < len(text):
            if not self._candidates:
                first = matcher.starter.search(text, i)
                if first is None:
                    break
                if first.start() > i:
                    i = first.start()
                    before = is_word(text[i - 1])
            position = base + i
            candidates = self._candidates
            self._candidates = []
            for start, place in (*candidates, (position, matcher.begins[before])):
                step, late, now = place[text[i]]
                self._judge(late, start, position, True, buffer, origin, found)
                self._judge(now, start, position + 1, False, buffer, origin, found)
                if step is not None and (
                    step.can_go_on or self._accepts(step.waits, buffer[start - origin : position + 1 - origin])
                ):
                    self._candidates.append((start, step))
            before = is_word(text[i])
            i += 1
        self._before = is_word(text[-1])
        if not self._candidates:
            self._kept = ""
            if quiet is not None and len(found) == known:
                matcher.pieces.keep(quiet, text, self._before)
            return NOT_LIVE
        live = self._candidates[0][0]
        self._kept = buffer[live - origin :]
        return live

    def finish(self, length: int, found: list[Match]) -> None:
        """The text ends at *length*: that is a boundary."""
        origin = length - len(self._kept)
        for start, place in self._candidates:
            self._judge(place.ends, start, length, True, self._kept, origin, found)

    def _accepts(self, rules: tuple[int, ...], candidate: str) -> bool:
        return any(self._matcher.verifiers[rule](candidate) for rule in rules)

    def _judge(
        self, rules: tuple[int, ...], start: int, end: int, is_late: bool, buffer: str, origin: int, found: list[Match]
    ) -> None:
        for rule in rules:
            if self._matcher.verifiers[rule](buffer[start - origin : end - origin]):
                found.append(Match(start, end, end, self._matcher.orders[rule], is_late))
