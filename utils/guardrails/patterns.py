"""What a rule looks for: keywords, regular expressions, verified candidates, literal texts, e-mail and cards.

Keywords and regular expressions of all rules are compiled together (see rules.py). Addresses and cards have scanners of
their own, since these are better than what a regular form gives: an address would need some 700 states for its bounded
parts; a card counts digits and not separators, costs O(1) per candidate, and knows that nineteen digits with a wrong
sum have no future; both have boundaries of their own, or none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from utils.guardrails.automaton import check_rule
from utils.guardrails.fold import case_variants, fold, lower_text
from utils.guardrails.keywords import KeywordMatcher
from utils.guardrails.literal import LiteralPattern
from utils.guardrails.personal import CardPattern, EmailPattern
from utils.guardrails.regular import RegularMatcher
from utils.guardrails.regular_parser import parse
from utils.guardrails.regular_syntax import NOT_INSIDE_WORD, Assertion, PatternError, Regular, Sequence
from utils.guardrails.scanners import Scanner
from utils.guardrails.verified import VerifiedMatcher, bounded

__all__ = [
    "CardPattern",
    "EmailPattern",
    "KeywordsPattern",
    "LiteralPattern",
    "PatternError",
    "RegularPattern",
]


@dataclass(frozen=True)
class RegularPattern:
    """Everything that *source* matches (see regular_syntax.py for its syntax), however matches overlap.

    *whole_word*: a match never starts or ends between two word characters. With a *verifier* the pattern only finds
    candidates, whole words always, and those are matches whose folded text it accepts; it must be pure and total.
    Nothing is checked before `tree` is asked for, or the pattern is compiled into a set of rules. *is_known_good*: not
    even then, but for the syntax: checking the patterns of the built-in packs would double the time to build them.
    """

    source: str
    ignore_case: bool = False
    whole_word: bool = False
    verifier: Callable[[str], bool] | None = None
    is_known_good: bool = field(default=False, repr=False, compare=False)

    def tree(self) -> Regular:
        """The syntax tree with its boundaries. Raises: PatternError if the pattern cannot be used."""
        return self._tree

    @cached_property
    def _tree(self) -> Regular:
        tree = parse(self.source, ignore_case=self.ignore_case)
        if not self.is_known_good:
            check_rule(tree)
        if self.verifier is not None:
            return bounded(tree)
        if self.whole_word:
            outside = Assertion(NOT_INSIDE_WORD)
            tree = Sequence((outside, tree, outside))
        return tree

    def scanner(self) -> Scanner:
        """A scanner of this pattern alone, at the start of a stream. Raises: PatternError."""
        tree = self.tree()
        if self.verifier is not None:
            return VerifiedMatcher([tree], [self.verifier], [0]).scanner()
        return RegularMatcher([tree], [0]).scanner()


@dataclass(frozen=True)
class KeywordsPattern:
    """Every occurrence of one of *words*, overlapping ones too; in any case, and as whole words, unless told not to."""

    words: tuple[str, ...] = field(repr=False)
    ignore_case: bool = True
    whole_word: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", tuple(self.words))

    def folded(self) -> list[str]:
        """The keywords as the automaton knows them: without case, each in all forms that fold differently.

        Raises: PatternError if there is none, or one folds to nothing.
        """
        if not self.words:
            raise PatternError("no keyword", 0)
        folded = ["".join(fold(word)) for word in self.words]
        if "" in folded:
            raise PatternError("a keyword without a visible character", folded.index(""))
        if not self.ignore_case:
            return folded
        return list(dict.fromkeys(lower_text(form) for word in self.words for form in case_variants(word)))

    def scanner(self) -> Scanner:
        """A scanner of this pattern alone, at the start of a stream. Raises: PatternError."""
        keywords = [(word, self.whole_word, 0) for word in self.folded()]
        return KeywordMatcher(keywords, ignore_case=self.ignore_case).scanner()
