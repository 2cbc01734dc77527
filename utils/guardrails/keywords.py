"""All keywords of a set at once, by the automaton of Aho and Corasick.

Source: A. Aho, M. Corasick, "Efficient String Matching: An Aid to Bibliographic Search", CACM 18 (1975).

Whole words need no check of their own: the automaton reads the text with a mark at every place that is not between two
word characters, and keywords are entered with the same marks inside, and at their ends if they are whole words. So a
state is always the longest suffix of the text that some keyword starts with *and that may start there*, and what must
be held is the longest such suffix that has a continuation. Marks are read together with the character after them.

Transitions by character are kept as they are needed (the failure links are then not followed again); a full cache is
emptied, so memory is bounded by the keywords and the cap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from utils.guardrails.fold import is_word, lower_text
from utils.guardrails.scanners import NOT_LIVE, Match, Pieces

__all__ = ["TRANSITIONS_MAX", "Keyword", "KeywordMatcher"]

TRANSITIONS_MAX = 50_000
"""Transitions that are kept, about 10 MB; ordinary text needs a few thousand."""

Keyword = tuple[str, bool, int]
"""Folded text (in lower case for a matcher that ignores case), whether it is a whole word, its rule's order."""

_MARK = 0x110000  # beyond all code points
_SYMBOL_BITS = 21

_Hit = tuple[int, int, bool]
"""A rule's order, how many characters the match has, and whether it ended before the character just read."""


class _State(dict[str, "tuple[_State, tuple[_Hit, ...]]"]):
    """The transitions of one node by character; what is missing is built. `live`: how many characters are live."""

    __slots__ = ("before", "live", "matcher", "node", "pieces")

    def __init__(self, matcher: KeywordMatcher, node: int, before: bool) -> None:
        super().__init__()
        self.matcher = matcher
        self.node = node
        self.before = before  # the last character is a word character
        self.live = matcher.live[node]
        self.pieces: dict[str, _State] = {}

    def __missing__(self, character: str) -> tuple[_State, tuple[_Hit, ...]]:
        return self.matcher.transition(self, character)


class KeywordMatcher:
    """Immutable but for its cache, so many streams may share it. Node 0 is the empty text."""

    def __init__(self, keywords: Iterable[Keyword], *, ignore_case: bool) -> None:
        self.ignore_case = ignore_case
        self._goto: dict[int, int] = {}
        self._length = [0]  # of a node, in characters
        self._rules: list[tuple[int, ...]] = [()]  # that have the node's text as a keyword
        self._fail: list[int] = []
        self._output: list[int] = []  # the longest proper suffix that is a keyword, or 0
        self.live: list[int] = []
        self._states: dict[tuple[int, bool], _State] = {}
        self._transitions = 0
        self.pieces: Pieces[_State] = Pieces()
        for text, whole_word, order in keywords:
            self._enter(text, whole_word, order)
        self._link()
        self.begin = _State(self, 0, False)

    def scanner(self) -> KeywordScanner:
        """A scanner at the start of a stream."""
        return KeywordScanner(self)

    def transition(self, state: _State, character: str) -> tuple[_State, tuple[_Hit, ...]]:
        """Build and keep what *character* does in *state*."""
        if self._transitions >= TRANSITIONS_MAX:
            for known in (self.begin, *self._states.values()):
                known.clear()
                known.pieces.clear()
            self._states.clear()
            self._transitions = 0
        node, hits = state.node, []
        word = is_word(character)
        if not (state.before and word):
            node = self._next(node, _MARK)
            hits = self._hits(node, True)
        node = self._next(node, ord(character))
        hits += self._hits(node, False)
        after = self._states.get((node, word))
        if after is None:
            after = self._states[node, word] = _State(self, node, word)
        step = after, tuple(hits)
        self._transitions += 1
        state[character] = step
        return step

    def at_end(self, state: _State) -> list[_Hit]:
        """What is matched because the text ends in *state*."""
        return self._hits(self._next(state.node, _MARK), True)

    def _enter(self, text: str, whole_word: bool, order: int) -> None:
        goto, node = self._goto, 0
        before = False
        for n, character in enumerate(text):
            word = is_word(character)
            if not (before and word) and (n or whole_word):
                node = self._child(node, _MARK, 0)
            node = self._child(node, ord(character), 1)
            before = word
        if whole_word and before:
            node = self._child(node, _MARK, 0)
        if order not in self._rules[node]:
            self._rules[node] += (order,)
        assert len(goto) + 1 == len(self._length)

    def _child(self, node: int, symbol: int, characters: int) -> int:
        key = node << _SYMBOL_BITS | symbol
        child = self._goto.get(key)
        if child is None:
            child = self._goto[key] = len(self._length)
            self._length.append(self._length[node] + characters)
            self._rules.append(())
        return child

    def _link(self) -> None:
        """Failure and output links, breadth first."""
        count = len(self._length)
        children: list[list[tuple[int, int]]] = [[] for _ in range(count)]
        for key, child in self._goto.items():
            children[key >> _SYMBOL_BITS].append((key & ((1 << _SYMBOL_BITS) - 1), child))
        self._fail = [0] * count
        self._output = [0] * count
        self.live = [0] * count
        queue = deque([0])
        while queue:
            node = queue.popleft()
            fail = self._fail[node]
            self._output[node] = fail if self._rules[fail] else self._output[fail]
            self.live[node] = self._length[node] if children[node] else self.live[fail]
            for symbol, child in children[node]:
                self._fail[child] = self._next(fail, symbol) if node else 0
                queue.append(child)

    def _next(self, node: int, symbol: int) -> int:
        goto = self._goto
        while True:
            child = goto.get(node << _SYMBOL_BITS | symbol)
            if child is not None:
                return child
            if node == 0:
                return 0
            node = self._fail[node]

    def _hits(self, node: int, is_late: bool) -> list[_Hit]:
        """The longest keyword of each rule that ends at *node*: it covers the others."""
        hits: dict[int, _Hit] = {}
        while node:
            for order in self._rules[node]:
                hits.setdefault(order, (order, self._length[node], is_late))
            node = self._output[node]
        return list(hits.values())


class KeywordScanner:
    """The state of the keywords in one stream."""

    __slots__ = ("_ignore_case", "_matcher", "_state")

    def __init__(self, matcher: KeywordMatcher) -> None:
        self._matcher = matcher
        self._ignore_case = matcher.ignore_case
        self._state = matcher.begin

    def scan(self, text: str, base: int, found: list[Match]) -> int:
        """Read folded *text*, whose first character has position *base*; returns the first live position."""
        begin = state = self._state
        if (after := state.pieces.get(text)) is not None:
            self._state = after
            return NOT_LIVE
        is_quiet = True
        position = base
        for character in lower_text(text) if self._ignore_case else text:
            state, hits = state[character]
            position += 1
            for order, length, is_late in hits:
                is_quiet = False
                end = position - is_late
                found.append(Match(end - length, end, end, order, is_late))
        self._state = state
        if is_quiet and not state.live:
            self._matcher.pieces.keep(begin.pieces, text, state)
        return position - state.live if state.live else NOT_LIVE

    def finish(self, length: int, found: list[Match]) -> None:
        """The text ends at *length*: decide what waits for the end of a word."""
        for order, characters, is_late in self._matcher.at_end(self._state):
            found.append(Match(length - characters, length, length, order, is_late))
