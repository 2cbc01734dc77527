"""All regular rules of a set at once: a lazily built deterministic automaton that knows where its matches started.

Theory of operation. A state is an ordered list of groups; a group holds the nodes (see automaton.py) of the matches
that started at one position, and has a register with that position. Groups are in the order of their starts, and a node
that is in an earlier group is left out of the later ones: whatever the later match becomes, the earlier one covers it.
So groups are disjoint, their number is bounded by the number of nodes, and the first register is the first live
position. A transition says which registers to keep (the current position is appended to them before) and what matched.
A table look-up per character is all that remains of it; states and transitions are built when they are first needed.

When the caches are full they are emptied and fill again: time stays linear in the text, memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import NamedTuple

from utils.guardrails.automaton import SET_STATES_MAX, Automaton, Reached
from utils.guardrails.fold import is_word
from utils.guardrails.regular_syntax import CharSet, PatternError, Regular
from utils.guardrails.scanners import NOT_LIVE, Match, Pieces

__all__ = ["PARTS_MAX", "STATES_MAX", "TRANSITIONS_MAX", "RegularMatcher"]

STATES_MAX = 4_000
TRANSITIONS_MAX = 50_000
PARTS_MAX = 200_000
"""Caps on the caches of a set (about 30 MB at most); ordinary text needs a few hundred states.

Parts are the groups of all states and the nodes in them: a rule with a long counted repeat has hundreds in a state.
"""

_Registers = tuple[int, ...]


class _Hit(NamedTuple):
    """Rule number *rule* is matched from the position in register *register*; *late*: up to the character before."""

    rule: int
    register: int
    late: bool


_Action = tuple[Callable[[Sequence[int]], _Registers], tuple[_Hit, ...]]
_Groups = tuple[frozenset[int], ...]


class _Decided(NamedTuple):
    """The groups of a state once the next character is known to form words, or not to, and what they consume."""

    groups: list[Reached]
    sets: list[CharSet]


_CharClass = tuple[bool, Reached, tuple[bool, ...]]
"""Characters that do the same in a state: they form words, they start the same matches, they are in the same sets."""


class _State(dict[str, "tuple[_State, _Action | None]"]):
    """The transitions of one state by character; what is missing is built."""

    __slots__ = ("before", "by_class", "decided", "groups", "matcher", "pieces")

    def __init__(self, matcher: RegularMatcher, before: bool, groups: _Groups) -> None:
        super().__init__()
        self.matcher = matcher
        self.before = before  # the last character is a word character
        self.groups = groups
        self.by_class: dict[_CharClass, tuple[_State, _Action | None]] = {}
        self.decided: dict[bool, _Decided] = {}
        self.pieces: dict[str, _State] = {}

    def __missing__(self, character: str) -> tuple[_State, _Action | None]:
        return self.matcher.transition(self, character)


class RegularMatcher:
    """The rules *trees*, numbered by *orders* in what is found. Shared by streams: the caches only save work."""

    def __init__(self, trees: Iterable[Regular], orders: Iterable[int]) -> None:
        self._automaton = Automaton(trees)
        if self._automaton.size > SET_STATES_MAX:
            raise PatternError(
                f"{self._automaton.size:,} automaton states in all rules (the limit is {SET_STATES_MAX:,})", 0
            )
        self._orders = tuple(orders)
        self._states: dict[tuple[bool, _Groups], _State] = {}
        self._transitions = 0
        self._parts = 0
        self.pieces: Pieces[_State] = Pieces()
        self.begin = self._state(False, ())

    def scanner(self) -> RegularScanner:
        """A scanner at the start of a stream."""
        return RegularScanner(self)

    def transition(self, state: _State, character: str) -> tuple[_State, _Action | None]:
        """Build and keep what *character* does in *state*."""
        word = is_word(character)
        decided = state.decided.get(word) or self._decide(state, word)
        started = self._automaton.start(state.before, character)
        char_class = word, started, tuple([chars.has(character) for chars in decided.sets])
        step = state.by_class.get(char_class)
        if step is None:
            if len(self._states) >= STATES_MAX or self._parts >= PARTS_MAX:
                self._forget()
            step = self._step(decided, started, character, word)
            state.by_class[char_class] = step
        if self._transitions >= TRANSITIONS_MAX:
            self._forget()
        self._transitions += 1
        state[character] = step
        return step

    def at_end(self, state: _State) -> list[_Hit]:
        """What is matched because the text ends in *state*."""
        ended = [self._automaton.has_end(group, state.before) for group in state.groups]
        return self._hits((rules, register, True) for register, rules in enumerate(ended))

    def _state(self, before: bool, groups: _Groups) -> _State:
        key = before, groups
        state = self._states.get(key)
        if state is None:
            state = self._states[key] = _State(self, before, groups)
            self._parts += len(groups) + sum(map(len, groups))
        return state

    def _decide(self, state: _State, word: bool) -> _Decided:
        groups = [self._automaton.decide(group, state.before, word) for group in state.groups]
        decided = state.decided[word] = _Decided(groups, self._automaton.sets_of(groups))
        return decided

    def _step(self, decided: _Decided, started: Reached, character: str, word: bool) -> tuple[_State, _Action | None]:
        automaton = self._automaton
        taken: set[int] = set()
        groups: list[frozenset[int]] = []
        registers: list[int] = []
        late: list[tuple[frozenset[int], int, bool]] = []
        now: list[tuple[frozenset[int], int, bool]] = []
        here = len(decided.groups)
        for register in range(here + 1):
            if register < here:
                group = decided.groups[register]
                if group.rules:
                    late.append((group.rules, register, True))
                reached = automaton.step(group.nodes, character, word)
            else:
                reached = started
            if reached.rules:
                now.append((reached.rules, register, False))
            nodes = reached.nodes
            if not taken.isdisjoint(nodes):
                nodes -= taken
            if nodes:
                taken |= nodes
                groups.append(nodes)
                registers.append(register)
        hits = tuple(self._hits([*late, *now]))
        target = self._state(word, tuple(groups))
        if registers == list(range(here)) and not hits:
            return target, None
        return target, (_select(registers), hits)

    def _hits(self, matched: Iterable[tuple[frozenset[int], int, bool]]) -> list[_Hit]:
        """The earliest start for each rule: of matches with one end it covers the others."""
        hits: dict[tuple[int, bool], _Hit] = {}
        for rules, register, is_late in matched:
            for rule in sorted(rules):
                hits.setdefault((rule, is_late), _Hit(self._orders[rule], register, is_late))
        return list(hits.values())

    def _forget(self) -> None:
        for state in list(self._states.values()):  # other threads may add some
            state.clear()
            state.by_class.clear()
            state.pieces.clear()
        self._states.clear()
        self._transitions = 0
        self._parts = 0
        self._states[self.begin.before, self.begin.groups] = self.begin


def _select(registers: list[int]) -> Callable[[Sequence[int]], _Registers]:
    """A function that returns the items number *registers* of a tuple, as a tuple."""
    if len(registers) > 1:
        return itemgetter(*registers)
    return itemgetter(slice(registers[0], registers[0] + 1) if registers else slice(0, 0))


class RegularScanner:
    """The state of the regular rules in one stream."""

    __slots__ = ("_matcher", "_registers", "_state")

    def __init__(self, matcher: RegularMatcher) -> None:
        self._matcher = matcher
        self._state = matcher.begin
        self._registers: _Registers = ()

    def scan(self, text: str, base: int, found: list[Match]) -> int:
        """Read folded *text*, whose first character has position *base*; returns the first live position."""
        begin = state = self._state
        registers = self._registers
        is_quiet = not registers
        if is_quiet and (after := state.pieces.get(text)) is not None:
            self._state = after
            return NOT_LIVE
        position = base
        for character in text:
            state, action = state[character]
            if action is not None:
                is_quiet = False
                known = (*registers, position)
                registers = action[0](known)
                for rule, register, is_late in action[1]:
                    end = position if is_late else position + 1
                    found.append(Match(known[register], end, end, rule, is_late))
            position += 1
        self._state = state
        self._registers = registers
        if is_quiet:
            self._matcher.pieces.keep(begin.pieces, text, state)
        return registers[0] if registers else NOT_LIVE

    def finish(self, length: int, found: list[Match]) -> None:
        """The text ends at *length*: decide trailing boundaries."""
        for rule, register, is_late in self._matcher.at_end(self._state):
            found.append(Match(self._registers[register], length, length, rule, is_late))
