"""One nondeterministic automaton for many regular rules, with boundaries that know both of their neighbours.

Sources: K. Thompson, "Regular Expression Search Algorithm", CACM 11 (1968), for the construction; R. Cox, "Regular
Expression Matching in the Wild" (2010), for deciding boundaries when the next character is known.

A node consumes a character of a class, asserts a boundary, accepts a rule, or leads on without either. What is asserted
depends on the character before (`before`: it is a word character) and the one after; the start and the end of the text
count as no word character. Nodes from which no text leads to a match are never entered, so that whatever is in a state
is live by definition.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from utils.guardrails.fold import is_word
from utils.guardrails.regular_syntax import (
    NOT_BOUNDARY,
    NOT_INSIDE_WORD,
    WORD_BOUNDARY,
    Alternatives,
    Assertion,
    CharSet,
    PatternError,
    Regular,
    Repeat,
    Sequence,
    widths,
)

__all__ = ["RULE_STATES_MAX", "SET_STATES_MAX", "Automaton", "CharClass", "Reached", "check_rule"]

RULE_STATES_MAX = 5_000
"""States of the automaton of one rule: counted repeats multiply them."""

SET_STATES_MAX = 20_000
"""States of all regular rules of a set."""

_CHAR_CLASSES_MAX = 50_000


class Reached(NamedTuple):
    """Where an automaton stands at a place in the text: live *nodes*, and the *rules* that are matched there."""

    nodes: frozenset[int]
    rules: frozenset[int]


class CharClass(NamedTuple):
    """All characters that no rule tells apart: the indexes of the sets they are in, and whether they form words."""

    sets: frozenset[int]
    is_word: bool


_NOTHING = Reached(frozenset(), frozenset())


def states_of(regular: Regular) -> int:
    """How many nodes *regular* becomes."""
    match regular:
        case CharSet() | Assertion():
            return 1
        case Sequence(items):
            return sum(map(states_of, items))
        case Alternatives(items):
            return 1 + sum(map(states_of, items))
        case Repeat(item, low, high):
            each = states_of(item)
            return 1 + each * max(low, 1) if high is None else each * high + high - low


def check_rule(regular: Regular) -> None:
    """Raises: PatternError if *regular* matches the empty text, matches nothing, or is too large."""
    states = states_of(regular)
    if states > RULE_STATES_MAX:
        raise PatternError(f"{states:,} automaton states (the limit is {RULE_STATES_MAX:,}: oversized repeats)", 0)
    if widths(regular)[0] == 0:
        raise PatternError("a match of the empty text", 0)
    if not Automaton([regular]).can_start():
        raise PatternError("a condition that no text meets (it can never match)", 0)


class Automaton:
    """The rules *trees*, by their index. Immutable but for caches, so many streams may use one."""

    def __init__(self, trees: Iterable[Regular]) -> None:
        self._sets: list[CharSet] = []
        self._set_numbers: dict[CharSet, int] = {}
        self._consumes: list[int] = []  # the index of a set, or -1
        self._asserts: list[str] = []
        self._accepts: list[int] = []  # the index of a rule, or -1
        self._after: list[list[int]] = []
        self._classes: dict[str, CharClass] = {}
        self._targets: dict[tuple[int, bool], Reached] = {}
        self._starts: dict[tuple[bool, bool], tuple[int, ...]] = {}
        self._is_live: dict[tuple[int, bool], bool] = {}
        begins: list[int] = []
        for rule, tree in enumerate(trees):
            first = len(self._after)
            begins.append(self._build(tree, self._node(accepts=rule)))
            self._find_live(range(first, len(self._after)))
        self._begins = tuple(begins)

    @property
    def size(self) -> int:
        """How many nodes there are."""
        return len(self._after)

    def class_of(self, character: str) -> CharClass:
        """The class of a folded *character*."""
        known = self._classes.get(character)
        if known is None:
            sets = frozenset(n for n, chars in enumerate(self._sets) if chars.has(character))
            known = CharClass(sets, is_word(character))
            if len(self._classes) >= _CHAR_CLASSES_MAX:
                self._classes.clear()
            self._classes[character] = known
        return known

    def can_start(self) -> bool:
        """Whether any text at all is matched."""
        return any(self._start_nodes(before, after) for before in (False, True) for after in (False, True))

    def start(self, before: bool, char_class: CharClass) -> Reached:
        """Where matches stand that start with a character of *char_class*."""
        return self._consume(self._start_nodes(before, char_class.is_word), char_class)

    def decide(self, nodes: Iterable[int], before: bool, after: bool) -> Reached:
        """*nodes* once the next character (or the end: *after* is false) is known: what consumes, and late matches."""
        return self._close(nodes, before, after)

    def step(self, nodes: Iterable[int], char_class: CharClass) -> Reached:
        """Where decided *nodes* stand after a character of *char_class*; the rules are matched at once."""
        return self._consume(nodes, char_class)

    def can_go_on(self, nodes: Iterable[int], before: bool) -> bool:
        """Whether a match that stands at *nodes* may still consume a character, at once or behind a boundary."""
        return any(
            self._sets[self._consumes[node]].can_be(word=after) and any(self._target(node, after))
            for after in (False, True)
            for node in self._close(nodes, before, after).nodes
        )

    def has_end(self, nodes: Iterable[int], before: bool) -> frozenset[int]:
        """The rules that are matched if the text ends here or goes on with no word character."""
        return self._close(nodes, before, False).rules

    def _consume(self, nodes: Iterable[int], char_class: CharClass) -> Reached:
        reached: set[int] = set()
        rules: set[int] = set()
        consumes, sets, word = self._consumes, char_class.sets, char_class.is_word
        for node in nodes:
            if consumes[node] in sets:
                target = self._targets.get((node, word)) or self._target(node, word)
                reached |= target.nodes
                rules |= target.rules
        return Reached(frozenset(reached), frozenset(rules)) if reached or rules else _NOTHING

    def _target(self, node: int, word: bool) -> Reached:
        closed = self._close(self._after[node], word, None)
        live = frozenset(n for n in closed.nodes if self._is_live.get((n, word), True))
        target = Reached(live, closed.rules)
        self._targets[node, word] = target
        return target

    def _start_nodes(self, before: bool, after: bool) -> tuple[int, ...]:
        known = self._starts.get((before, after))
        if known is None:
            closed = self._close(self._begins, before, after)
            known = tuple(n for n in sorted(closed.nodes) if self._is_live.get((n, before), True))
            self._starts[before, after] = known
        return known

    def _close(self, seeds: Iterable[int], before: bool, after: bool | None) -> Reached:
        """Follow *seeds* without consuming; with *after* unknown, boundaries that need it stay as they are."""
        nodes: set[int] = set()
        rules: set[int] = set()
        seen = set(seeds)
        stack = list(seen)
        while stack:
            node = stack.pop()
            if self._consumes[node] >= 0:
                nodes.add(node)
                continue
            if self._accepts[node] >= 0:
                rules.add(self._accepts[node])
                continue
            if self._asserts[node]:
                holds = _holds(self._asserts[node], before, after)
                if holds is None:
                    nodes.add(node)
                if not holds:
                    continue
            for target in self._after[node]:
                if target not in seen:
                    seen.add(target)
                    stack.append(target)
        return Reached(frozenset(nodes), frozenset(rules))

    def _find_live(self, nodes: range) -> None:
        """Note the nodes of one rule from which no text leads to a match (only boundaries make some)."""
        if not any(self._asserts[node] for node in nodes):
            return
        places = [(n, before) for n in nodes if self._consumes[n] >= 0 or self._asserts[n] for before in (False, True)]
        self._is_live.update(dict.fromkeys(places, False))
        kinds = [(s.can_be(word=False), s.can_be(word=True)) for s in self._sets]
        closed = {(n, b, a): self._close([n], b, a) for n, b in places for a in (False, True)}
        targets = {(n, w): self._close(self._after[n], w, None) for n, w in places if self._consumes[n] >= 0}
        changed = True
        while changed:
            changed = False
            for node, before in places:
                if not self._is_live[node, before] and any(
                    closed[node, before, after].rules
                    or any(
                        kinds[self._consumes[n]][after]
                        and (targets[n, after].rules or any(self._is_live[m, after] for m in targets[n, after].nodes))
                        for n in closed[node, before, after].nodes
                    )
                    for after in (False, True)
                ):
                    self._is_live[node, before] = True
                    changed = True

    def _node(self, after: Iterable[int] = (), *, consumes: int = -1, asserts: str = "", accepts: int = -1) -> int:
        self._after.append(list(after))
        self._consumes.append(consumes)
        self._asserts.append(asserts)
        self._accepts.append(accepts)
        return len(self._after) - 1

    def _build(self, tree: Regular, after: int) -> int:
        """Add *tree* before node *after*; returns its first node."""
        match tree:
            case CharSet():
                number = self._set_numbers.setdefault(tree, len(self._sets))
                if number == len(self._sets):
                    self._sets.append(tree)
                return self._node([after], consumes=number)
            case Assertion(kind):
                return self._node([after], asserts=kind)
            case Sequence(items):
                for item in reversed(items):
                    after = self._build(item, after)
                return after
            case Alternatives(items):
                return self._node([self._build(item, after) for item in items])
            case Repeat(item, low, high):
                if high is None:
                    loop = self._node([after])
                    self._after[loop].append(self._build(item, loop))
                    after = loop if low == 0 else self._after[loop][1]
                    low = max(low - 1, 0)
                else:
                    end = after
                    for _ in range(high - low):
                        after = self._node([self._build(item, after), end])
                for _ in range(low):
                    after = self._build(item, after)
                return after


def _holds(kind: str, before: bool, after: bool | None) -> bool | None:
    """Whether the boundary *kind* holds; None if that depends on the next character."""
    if kind == NOT_INSIDE_WORD:
        return True if not before else None if after is None else not after
    if after is None:
        return None
    is_boundary = before is not after
    assert kind in (WORD_BOUNDARY, NOT_BOUNDARY)
    return is_boundary if kind == WORD_BOUNDARY else not is_boundary
