"""Rules compiled together: one matcher for all keywords, one for all regular rules, one for all verified rules."""

from __future__ import annotations

from collections.abc import Iterable

from utils.errors import ConfigError
from utils.guardrails.keywords import Keyword, KeywordMatcher
from utils.guardrails.patterns import KeywordsPattern, PatternError, RegularPattern
from utils.guardrails.regular import RegularMatcher
from utils.guardrails.regular_syntax import Regular
from utils.guardrails.scanners import NOT_LIVE, Match, Pattern, Scanner
from utils.guardrails.verified import VerifiedMatcher, Verifier

__all__ = ["Compiled", "Reader"]


class Compiled:
    """*rules*: number in the set, id, pattern. Patterns that are not compiled with others have scanners of their own.

    Raises: ConfigError with the id of the rule, the place and the reason.
    """

    def __init__(self, rules: Iterable[tuple[int, str, Pattern]]) -> None:
        self._own: list[tuple[int, Pattern]] = []
        self._shared: list[RegularMatcher | VerifiedMatcher | KeywordMatcher] = []
        plain: dict[int, Regular] = {}
        verified: dict[int, tuple[Regular, Verifier]] = {}
        keywords: dict[bool, list[Keyword]] = {True: [], False: []}
        for order, rule, pattern in rules:
            try:
                if isinstance(pattern, KeywordsPattern):
                    keywords[pattern.ignore_case] += [(word, pattern.whole_word, order) for word in pattern.folded()]
                elif not isinstance(pattern, RegularPattern):
                    self._own.append((order, pattern))
                elif pattern.verifier is None:
                    plain[order] = pattern.tree()
                else:
                    verified[order] = pattern.tree(), pattern.verifier
            except PatternError as error:
                raise ConfigError(
                    f"the guard rule {rule!r} has {error.reason} at position {error.position}", hint=_HINT
                ) from error
        if plain:
            try:
                self._shared.append(RegularMatcher(plain.values(), plain))
            except PatternError as error:
                raise ConfigError(f"the guard rules need {error.reason}", hint=_HINT) from error
        if verified:
            trees, verifiers = zip(*verified.values(), strict=True)
            self._shared.append(VerifiedMatcher(trees, verifiers, verified))
        for ignore_case, words in keywords.items():
            if words:
                self._shared.append(KeywordMatcher(words, ignore_case=ignore_case))

    def scanners(self) -> list[tuple[int | None, Scanner]]:
        """Scanners at the start of a stream, each with its rule's number, or None if its matches carry it."""
        own: list[tuple[int | None, Scanner]] = [(order, pattern.scanner()) for order, pattern in self._own]
        return own + [(None, matcher.scanner()) for matcher in self._shared]


_HINT = "text is judged while it streams: no look-around, anchors, back-references, empty matches or huge repeats"


class Reader:
    """The scanners of some rules in one stream."""

    __slots__ = ("_own", "_scanners", "_shared")

    def __init__(self, compiled: Compiled) -> None:
        self._scanners = compiled.scanners()
        self._shared = [scanner.scan for order, scanner in self._scanners if order is None]
        self._own = [(order, scanner.scan) for order, scanner in self._scanners if order is not None]

    def __bool__(self) -> bool:
        return bool(self._scanners)

    def scan(self, text: str, base: int, found: list[Match]) -> int:
        """Like a scanner's; what is found carries the rules' numbers in the set."""
        live = NOT_LIVE
        for scan in self._shared:
            position = scan(text, base, found)
            if position < live:
                live = position
        for order, scan in self._own:
            known = len(found)
            position = scan(text, base, found)
            if position < live:
                live = position
            if len(found) > known:
                found[known:] = [match._replace(rule=order) for match in found[known:]]
        return live

    def finish(self, length: int, found: list[Match]) -> None:
        """The text ends at *length*: decide trailing boundaries."""
        for order, scanner in self._scanners:
            known = len(found)
            scanner.finish(length, found)
            if order is not None:
                found[known:] = [match._replace(rule=order) for match in found[known:]]
