"""One nondeterministic automaton for many regular rules, with boundaries that know both of their neighbours.

Sources: K. Thompson, "Regular Expression Search Algorithm", CACM 11 (1968), for the construction; R. Cox, "Regular
Expression Matching in the Wild" (2010), for deciding boundaries when the next character is known.

A node consumes a character of a class, asserts a boundary, accepts a rule, or leads on without either. What is asserted
depends on the character before (`before`: it is a word character) and the one after; the start and the end of the text
count as no word character. Nodes from which no text leads to a match are never entered, so that whatever is in a state
is live by definition.

Nodes are built when they are first reached: of the thousands that the packs have, a text meets a few hundred. Threads
may build at the same time: numbers of nodes come from one counter, and of two results for one node the first counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count
from typing import NamedTuple

from utils.guardrails.fold import is_word
from utils.guardrails.regular_syntax import (
    ASCII_WORDS,
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
    Text,
    literal,
    widths,
)

__all__ = ["RULE_STATES_MAX", "SET_STATES_MAX", "Automaton", "Reached", "check_rule"]

RULE_STATES_MAX = 5_000
"""States of the automaton of one rule: counted repeats multiply them."""

SET_STATES_MAX = 40_000
"""States of all regular rules of a set."""

_CHARACTERS_MAX = 50_000


class _Node(NamedTuple):
    """What is done at a node, then where it leads. *may_be_dead*: its rule has a boundary."""

    consumes: CharSet | None
    asserts: str
    accepts: int  # the index of a rule, or -1
    after: tuple[int, ...]
    may_be_dead: bool


class Reached(NamedTuple):
    """Where an automaton stands at a place in the text: live *nodes*, and the *rules* that are matched there."""

    nodes: frozenset[int]
    rules: frozenset[int]


_NONE: frozenset[int] = frozenset()
_NOTHING = Reached(_NONE, _NONE)


def check_rule(regular: Regular) -> None:
    """Raises: PatternError if *regular* matches the empty text, matches nothing, or is too large."""
    if regular.states > RULE_STATES_MAX:
        raise PatternError(
            f"{regular.states:,} automaton states (the limit is {RULE_STATES_MAX:,}: oversized repeats)", 0
        )
    if widths(regular)[0] == 0:
        raise PatternError("a match of the empty text", 0)
    if not Automaton([regular]).can_start():
        raise PatternError("a condition that no text meets (it can never match)", 0)


class Automaton:
    """The rules *trees*, by their index. Immutable but for what is built and kept, so many streams may use one.

    A place is a node and whether the character before it is a word character, as one number: node * 2 + before.
    """

    def __init__(self, trees: Iterable[Regular]) -> None:
        self._nodes: dict[int, _Node] = {}
        self._new: dict[
            int, tuple[Regular, int, int, bool]
        ] = {}  # tree, how much of it is behind, what follows, boundary
        self._numbers = count()
        self._sets: dict[CharSet, CharSet] = {}  # one object for all that are equal
        self._targets: dict[int, Reached] = {}  # by place
        self._same: dict[Reached, Reached] = {}
        self._is_live: dict[int, bool] = {}  # by place
        self._starts: dict[tuple[bool, bool], list[tuple[CharSet, list[int]]]] = {}
        self._started: dict[tuple[bool, str], Reached] = {}
        self._starts_known: dict[tuple[bool, bool, tuple[int, ...]], Reached] = {}
        begins: list[int] = []
        self.size = 0
        """How many nodes there are when all are built, but for those that only lead on inside of sequences."""
        for rule, tree in enumerate(trees):
            end = next(self._numbers)
            self._nodes[end] = _Node(None, "", rule, (), tree.has_assertion)
            begins.append(self._later(tree, 0, end, tree.has_assertion))
            self.size += 1 + tree.states
        self._begins = tuple(begins)

    def can_start(self) -> bool:
        """Whether any text at all is matched."""
        return any(self._start_nodes(before, after) for before in (False, True) for after in (False, True))

    def start(self, before: bool, character: str) -> Reached:
        """Where matches stand that start with *character*; one object for all characters that do the same."""
        known = self._started.get((before, character))
        if known is None:
            word = is_word(character)
            starts = self._start_nodes(before, word)
            numbers = tuple([number for number, start in enumerate(starts) if start[0].has(character)])
            key = before, word, numbers
            known = self._starts_known.get(key)
            if known is None:
                known = self.step([node for number in numbers for node in starts[number][1]], character, word)
                known = self._starts_known.setdefault(key, known)
            if len(self._started) >= _CHARACTERS_MAX:
                self._started.clear()
                self._starts_known.clear()
            self._started[before, character] = known
        return known

    def decide(self, nodes: frozenset[int], before: bool, after: bool) -> Reached:
        """*nodes* once the next character (or the end: *after* is false) is known: what consumes, and late matches."""
        if not any(self._nodes[node].asserts for node in nodes):
            return Reached(nodes, _NONE)
        return self._close(nodes, before, after)

    def sets_of(self, groups: Iterable[Reached]) -> list[CharSet]:
        """What the decided nodes of *groups* consume."""
        return list({id(chars): chars for group in groups for chars in map(self._consumed, group.nodes)}.values())

    def step(self, nodes: Iterable[int], character: str, word: bool) -> Reached:
        """Where decided *nodes* stand after *character* (*word*: it forms words); the rules are matched at once."""
        targets = [
            self._targets.get(node * 2 + word) or self._target(node, word)
            for node in nodes
            if self._consumed(node).has(character)
        ]
        if len(targets) < 2:
            return targets[0] if targets else _NOTHING
        return Reached(_NONE.union(*[t.nodes for t in targets]), _NONE.union(*[t.rules for t in targets]))

    def can_go_on(self, nodes: Iterable[int], before: bool) -> bool:
        """Whether a match that stands at *nodes* may still consume a character, at once or behind a boundary."""
        return any(
            self._consumed(node).can_be(word=after) and any(self._target(node, after))
            for after in (False, True)
            for node in self._close(nodes, before, after).nodes
        )

    def has_end(self, nodes: Iterable[int], before: bool) -> frozenset[int]:
        """The rules that are matched if the text ends here or goes on with no word character."""
        return self._close(nodes, before, False).rules

    def starters(self, before: bool) -> int:
        """Bit n is set if a match may start with chr(n), for ASCII; *before*: behind a character of a word."""
        found = 0
        for after in (False, True):
            for chars, nodes in self._start_nodes(before, after):
                if any(any(self._target(node, after)) for node in nodes):
                    found |= chars.ascii_members & (ASCII_WORDS if after else ~ASCII_WORDS)
        return found

    # Where a text leads ----------------------------------------------------------------------------------------------

    def _target(self, node: int, word: bool) -> Reached:
        place = node * 2 + word
        known = self._targets.get(place)
        if known is None:
            closed = self._close(self._nodes[node].after, word, None)
            known = self._one(Reached(self._living(closed.nodes, word), closed.rules))
            self._targets[place] = known
        return known

    def _one(self, reached: Reached) -> Reached:
        """One object for all that are equal: the ends of many alternatives lead to the same nodes."""
        return self._same.setdefault(reached, reached)

    def _start_nodes(self, before: bool, after: bool) -> list[tuple[CharSet, list[int]]]:
        """The nodes with which a match may start, by what they consume."""
        known = self._starts.get((before, after))
        if known is None:
            nodes: dict[int, tuple[CharSet, list[int]]] = {}
            for node in self._living(self._close(self._begins, before, after).nodes, before):
                chars = self._consumed(node)
                nodes.setdefault(id(chars), (chars, []))[1].append(node)
            known = self._starts[before, after] = list(nodes.values())
        return known

    def _close(self, seeds: Iterable[int], before: bool, after: bool | None) -> Reached:
        """Follow *seeds* without consuming; with *after* unknown, boundaries that need it stay as they are."""
        nodes: set[int] = set()
        rules: set[int] = set()
        seen = set(seeds)
        stack = list(seen)
        while stack:
            node = stack.pop()
            consumes, asserts, accepts, targets, _ = self._nodes.get(node) or self._build(node)
            if consumes is not None:
                nodes.add(node)
                continue
            if accepts >= 0:
                rules.add(accepts)
                continue
            if asserts:
                holds = _holds(asserts, before, after)
                if holds is None:
                    nodes.add(node)
                if not holds:
                    continue
            for target in targets:
                if target not in seen:
                    seen.add(target)
                    stack.append(target)
        return Reached(frozenset(nodes), frozenset(rules))

    def _consumed(self, node: int) -> CharSet:
        consumes = self._nodes[node].consumes
        assert consumes is not None
        return consumes

    # Which nodes have a future: only boundaries make some that have none ---------------------------------------------

    def _living(self, nodes: frozenset[int], before: bool) -> frozenset[int]:
        if not any(self._nodes[node].may_be_dead for node in nodes):
            return nodes
        return frozenset([n for n in nodes if not self._nodes[n].may_be_dead or self._lives(n * 2 + before)])

    def _lives(self, place: int) -> bool:
        verdict = self._is_live.get(place)
        if verdict is None:
            self._judge(place)
            verdict = self._is_live[place]
        return verdict

    def _judge(self, root: int) -> None:
        """Search a match from *root*, depth first; whatever was seen on the way is then known to live or not."""
        came_from: dict[int, list[int]] = {root: []}
        live: list[int] = []
        path = [(root, self._successors(root))]
        while path and not live:
            place, successors = path[-1]
            for target in successors:
                verdict = target is None or self._is_live.get(target)
                if verdict:
                    live.append(place)
                    break
                if verdict is None and target is not None:
                    if target in came_from:
                        came_from[target].append(place)
                        continue
                    came_from[target] = [place]
                    path.append((target, self._successors(target)))
                    break
            else:
                path.pop()
        found = set(live)
        while live:
            for place in came_from[live.pop()]:
                if place not in found:
                    found.add(place)
                    live.append(place)
        for place in came_from:
            self._is_live[place] = place in found

    def _successors(self, place: int) -> Iterator[int | None]:
        """The places that one character more leads to; None: a match."""
        node, before = place >> 1, bool(place & 1)
        for after in (False, True):
            closed = self._close([node], before, after)
            if closed.rules:
                yield None
            for consuming in closed.nodes:
                if self._consumed(consuming).can_be(word=after):
                    target = self._close(self._nodes[consuming].after, after, None)
                    if target.rules:
                        yield None
                    for reached in target.nodes:
                        yield reached * 2 + after

    # Building --------------------------------------------------------------------------------------------------------

    def _later(self, tree: Regular, done: int, after: int, may_be_dead: bool) -> int:
        """A node for *tree*, whose first *done* parts are behind it, before node *after*."""
        node = next(self._numbers)
        self._new[node] = tree, done, after, may_be_dead
        return node

    def _build(self, number: int) -> _Node:
        tree, done, after, may_be_dead = self._new[number]

        def later(tree: Regular, done: int) -> int:
            return self._later(tree, done, after, may_be_dead)

        def keep(targets: tuple[int, ...], consumes: CharSet | None = None, asserts: str = "") -> _Node:
            if consumes is not None:
                consumes = self._sets.setdefault(consumes, consumes)
            return self._nodes.setdefault(number, _Node(consumes, asserts, -1, targets, may_be_dead))

        while True:
            match tree:
                case CharSet():
                    return keep((after,), tree)
                case Text():
                    rest = after if done + 1 == tree.states else later(tree, done + 1)
                    return keep((rest,), literal(tree.characters[done], tree.ignore_case))
                case Assertion():
                    return keep((after,), asserts=tree.kind)
                case Alternatives():
                    return keep(tuple([later(item, 0) for item in tree.items]))
                case Sequence():
                    if not tree.items:
                        return keep((after,))
                    if done + 1 < len(tree.items):
                        after = later(tree, done + 1)
                    tree, done = tree.items[done], 0
                case Repeat(item=item, low=low, high=None):
                    if low == 0:
                        return keep((after, self._later(item, 0, number, may_be_dead)))
                    if done + 1 < low:
                        after = later(tree, done + 1)
                    else:  # the last copy that must be there is also the one that may come again
                        loop = next(self._numbers)
                        self._nodes[loop] = _Node(None, "", -1, (after, number), may_be_dead)
                        after = loop
                    tree, done = item, 0
                case Repeat(item=item, low=low, high=high):
                    if high == 0:
                        return keep((after,))
                    rest = after if done + 1 == high else later(tree, done + 1)
                    if done >= low:
                        return keep((self._later(item, 0, rest, may_be_dead), after))
                    tree, done, after = item, 0, rest


def _holds(kind: str, before: bool, after: bool | None) -> bool | None:
    """Whether the boundary *kind* holds; None if that depends on the next character."""
    if kind == NOT_INSIDE_WORD:
        return True if not before else None if after is None else not after
    if after is None:
        return None
    is_boundary = before is not after
    assert kind in (WORD_BOUNDARY, NOT_BOUNDARY)
    return is_boundary if kind == WORD_BOUNDARY else not is_boundary
