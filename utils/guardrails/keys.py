"""API keys: a known prefix at a boundary, then a body of key characters.

A key is complete as soon as its body has the fewest characters that the shape asks for, and grows with every further
body character, so nothing of a long key is ever waited for. Several keys may be read at once (a key inside the body of
another one); of two that are in the same part of the same shape the earlier start dominates, so their number is bounded
by the number of parts of all shapes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from utils.guardrails.scanners import NOT_LIVE, Match, Scanner, run_end

__all__ = ["KEY_SHAPES", "KeyPattern", "KeyShape", "Part"]


@dataclass(frozen=True, slots=True)
class Part:
    """*literal*, then at least *fewest* characters of the class *body* (written as in a regular expression)."""

    literal: str
    body: str
    fewest: int


@dataclass(frozen=True, slots=True)
class KeyShape:
    """One of *prefixes* at a boundary, then *parts*; complete when part number *complete_from* (from 0) is.

    The first part's literal is empty: the prefixes take its place. A body class never has the first character of the
    next part's literal, so reading is deterministic.
    """

    prefixes: tuple[str, ...]
    parts: tuple[Part, ...]
    complete_from: int = 0


def _simple(prefixes: tuple[str, ...], body: str, fewest: int) -> KeyShape:
    return KeyShape(prefixes, (Part("", body, fewest),))


_BASE64URL = "A-Za-z0-9_-"

KEY_SHAPES = (
    _simple(("sk-",), _BASE64URL, 16),  # OpenAI (sk-proj-, sk-svcacct-), Anthropic (sk-ant-), OpenRouter (sk-or-)
    _simple(("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), "A-Za-z0-9", 20),
    _simple(("github_pat_",), "A-Za-z0-9_", 20),
    _simple(("AKIA", "ASIA"), "A-Z0-9", 16),  # AWS access key ids
    _simple(("AIza",), _BASE64URL, 30),  # Google
    _simple(("xoxa-", "xoxb-", "xoxe-", "xoxp-", "xoxr-", "xoxs-"), "A-Za-z0-9-", 10),  # Slack
    _simple(("hf_",), "A-Za-z0-9", 20),  # Hugging Face
    # JSON Web Token: header and payload are base64url of text that starts with {" ; the signature may be missing.
    KeyShape(
        ("eyJ",),
        (Part("", _BASE64URL, 10), Part(".eyJ", _BASE64URL, 10), Part(".", _BASE64URL, 1)),
        complete_from=1,
    ),
)
"""Shapes of the keys that are hidden by default. The shortest bodies are below what is issued: a cut key counts too."""


@dataclass(frozen=True)
class KeyPattern:
    """All of *shapes*, each at a boundary: no ASCII letter or digit directly before the prefix.

    Prefixes have two characters or more, and none starts at a boundary inside another one.
    """

    shapes: tuple[KeyShape, ...] = KEY_SHAPES
    prefix: re.Pattern[str] = field(init=False, repr=False, compare=False)
    """Group number n + 1 is a prefix of shape n. The boundary is checked apart: it would slow the search down."""
    open_prefix: re.Pattern[str] = field(init=False, repr=False, compare=False)
    """A proper prefix of a prefix, at a boundary and at the end of the text."""
    longest_prefix: int = field(init=False, repr=False, compare=False)
    bodies: tuple[tuple[re.Pattern[str], ...], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        prefixes = [prefix for shape in self.shapes for prefix in shape.prefixes]
        opened = sorted({prefix[:k] for prefix in prefixes for k in range(1, len(prefix))}, key=len, reverse=True)
        groups = "|".join(f"({'|'.join(map(re.escape, shape.prefixes))})" for shape in self.shapes)
        set_once = object.__setattr__
        set_once(self, "prefix", re.compile(groups))
        set_once(self, "open_prefix", re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(map(re.escape, opened))})\Z"))
        set_once(self, "longest_prefix", max(map(len, prefixes)))
        set_once(self, "bodies", tuple(tuple(re.compile(f"[{p.body}]*") for p in s.parts) for s in self.shapes))

    def scanner(self) -> Scanner:
        """A scanner at the start of a stream."""
        return _KeyScanner(self)


class _Candidate:
    """A key that is being read: in part number `part` of its shape, `literal` and `body` characters of it read."""

    __slots__ = ("body", "literal", "part", "shape", "start")

    def __init__(self, shape: int, start: int) -> None:
        self.shape = shape
        self.start = start
        self.part = 0
        self.literal = 0
        self.body = 0


class _KeyScanner:
    """`_tail` keeps the open prefix with which the text ends, after the one character that tells its boundary."""

    __slots__ = ("_candidates", "_pattern", "_tail")

    def __init__(self, pattern: KeyPattern) -> None:
        self._pattern = pattern
        self._tail = "\n"  # the start of the text is a boundary
        self._candidates: list[_Candidate] = []

    def scan(self, text: str, base: int, found: list[Match]) -> int:
        pattern = self._pattern
        old = len(self._tail)
        text = self._tail + text
        base -= old
        i = old
        for prefix in pattern.prefix.finditer(text, 1):
            start, end = prefix.span()
            if text[start - 1].isascii() and text[start - 1].isalnum():
                continue
            self._advance(text, i, end, base, found)
            i = end
            shape = (prefix.lastindex or 1) - 1
            if not any(c.shape == shape and c.part == 0 for c in self._candidates):
                self._candidates.append(_Candidate(shape, base + start))
        self._advance(text, i, len(text), base, found)
        opened = pattern.open_prefix.search(text, max(1, len(text) - pattern.longest_prefix + 1))
        start = opened.start() if opened else len(text)
        self._tail = text[start - 1 :]
        if self._candidates:
            return self._candidates[0].start
        return base + start if opened else NOT_LIVE

    def finish(self, length: int, found: list[Match]) -> None:
        """Nothing waits: the rule has no trailing boundary."""

    def _advance(self, text: str, i: int, stop: int, base: int, found: list[Match]) -> None:
        """Let every candidate read text[i:stop]; drop the dead and the dominated. Order: earliest start first."""
        if not self._candidates or i == stop:
            return
        alive: dict[tuple[int, int], _Candidate] = {}
        for candidate in self._candidates:
            if self._read(candidate, text, i, stop, base, found):
                alive.setdefault((candidate.shape, candidate.part), candidate)
        self._candidates = list(alive.values())

    def _read(self, candidate: _Candidate, text: str, i: int, stop: int, base: int, found: list[Match]) -> bool:
        """Whether *candidate* is still live after text[i:stop]."""
        shape = self._pattern.shapes[candidate.shape]
        while i < stop:
            part = shape.parts[candidate.part]
            if candidate.literal < len(part.literal):
                if text[i] != part.literal[candidate.literal]:
                    return False
                candidate.literal += 1
                i += 1
                continue
            body = self._pattern.bodies[candidate.shape][candidate.part]
            end = run_end(body, text, i, stop)
            before = candidate.body
            candidate.body += end - i
            if end > i and candidate.part >= shape.complete_from and candidate.body >= part.fewest:
                first_end = base + i + max(1, part.fewest - before)
                found.append(Match(candidate.start, first_end, base + end))
            i = end
            if i == stop:
                break
            has_next = candidate.body >= part.fewest and candidate.part + 1 < len(shape.parts)
            if not has_next or text[i] != shape.parts[candidate.part + 1].literal[0]:
                return False
            candidate.part += 1
            candidate.literal, candidate.body = 1, 0
            i += 1
        return True
