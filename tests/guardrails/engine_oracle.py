"""Random rules and texts, and what the guard must do with them by brute force.

Rules are described by small trees of this module's own; every start and every end is tried on the whole text. Nothing
is shared with the engine but the rule objects that are built from the descriptions.
"""

# ruff: noqa: RUF001  (look-alikes are the subject)

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product

from utils.errors import ConfigError
from utils.events import Blocked, Flagged, Redacted, TextDelta
from utils.guardrails.patterns import KeywordsPattern, RegularPattern
from utils.guardrails.redactor import GuardEvent, Redactor
from utils.guardrails.rules import Action, Rule, RuleSet

ASCII = "abB- "
UNICODE = "abB- éеﬁ\u200b\u0301ｂж"
FEW = "fi "
FEW_UNICODE = "fi íﬁﬀｆ\u200b\u0301"
"""Folds to FEW: with three characters every continuation can be tried."""

FOLDS = {"é": "e", "е": "e", "ﬁ": "fi", "\u200b": "", "\u0301": "", "ｂ": "b", "í": "i", "ﬀ": "ff", "ｆ": "f"}
LETTERS = set("abBefiж")

Tree = tuple[str, object, object, object]


@dataclass(frozen=True)
class Spec:
    """A rule: *words* or a *tree* with its boundaries (`begins`, `ends`, `whole`); *verified*: a name in VERIFIERS."""

    words: tuple[str, ...] = ()
    tree: Tree | None = None
    begins: bool = False
    ends: bool = False
    whole: bool = False
    ignore_case: bool = False
    verified: str = ""
    action: Action = "redact"


def even(text: str) -> bool:
    return sum(map(ord, text)) % 2 == 0


def weighted(text: str) -> bool:
    """Like the sum of a card: every second character from the right counts twice."""
    return sum(ord(c) * (1 + n % 2) for n, c in enumerate(reversed(text))) % 3 == 0


def remainder(text: str) -> bool:
    """Like the remainder of a bank account: the first two characters go to the end, the rest is read as a number."""
    number = 0
    for c in text[2:] + text[:2]:
        number = (number * 10 + ord(c)) % 7
    return number in (1, 2)


VERIFIERS: dict[str, Callable[[str], bool]] = {f.__name__: f for f in (even, weighted, remainder)}


def source(tree: Tree) -> str:
    kind, x, low, high = tree
    if kind == "class":
        assert isinstance(x, str)
        return x if len(x) == 1 and x != "-" else "[" + x.replace("-", "\\-") + "]"
    if kind == "edge":
        return "\\b" if x else "\\B"
    assert isinstance(x, tuple)
    if kind == "cat":
        return "".join(source(item) for item in x)
    if kind == "alt":
        return "(?:" + "|".join(source(item) for item in x) + ")"
    return f"(?:{source(x)}){{{low},{'' if high is None else high}}}"  # type: ignore[arg-type]


Place = tuple[int, bool]
"""Where a match may end, and whether that also depends on the character after it."""


def ends(tree: Tree, text: str, start: Place, ignore_case: bool) -> set[Place]:
    """Where matches of *tree* that begin at *start* may end."""
    kind, x, low, high = tree
    place = start[0]
    if kind == "edge":
        return {(place, True)} if boundary(text, place) is x else set()
    if kind == "class":
        assert isinstance(x, str)
        if place == len(text):
            return set()
        c = text[place]
        hit = c in x or (ignore_case and (c.lower() in x or c.upper() in x))
        return {(place + 1, False)} if hit else set()
    assert isinstance(x, tuple)
    if kind == "cat":
        places = {start}
        for item in x:
            places = {end for place in places for end in ends(item, text, place, ignore_case)}
        return places
    if kind == "alt":
        return {end for item in x for end in ends(item, text, start, ignore_case)}
    assert isinstance(low, int)
    places, seen = {start}, {start} if low == 0 else set()
    for n in range(1, (len(text) + low if high is None else int(str(high))) + 1):
        places = {end for place in places for end in ends(x, text, place, ignore_case)}  # type: ignore[arg-type]
        if n >= low:
            seen |= places
    return seen


def letter(text: str, place: int) -> bool:
    return 0 <= place < len(text) and text[place] in LETTERS


def inside(text: str, place: int) -> bool:
    return letter(text, place - 1) and letter(text, place)


def boundary(text: str, place: int) -> bool:
    return letter(text, place - 1) != letter(text, place)


def folded(text: str) -> tuple[str, list[int]]:
    """The folded text, and the raw position of each of its characters."""
    parts = [FOLDS.get(c, c) for c in text]
    return "".join(parts), [n for n, part in enumerate(parts) for _ in part]


def candidates(spec: Spec, text: str) -> Iterator[tuple[int, int, bool]]:
    """All candidates (start, end, late) of *spec* in folded *text*, whatever its verifier says."""
    for start in range(len(text)):
        if spec.tree is not None:
            all_ends = ends(spec.tree, text, (start, True), spec.ignore_case)
        else:
            words = ["".join(FOLDS.get(c, c) for c in word) for word in spec.words]
            seen = text.lower() if spec.ignore_case else text
            wanted = [word.lower() for word in words] if spec.ignore_case else words
            all_ends = {(start + len(word), False) for word in wanted if seen.startswith(word, start)}
        if (spec.begins and not boundary(text, start)) or (spec.whole and inside(text, start)):
            continue
        for end in {end for end, _ in all_ends}:
            if (spec.ends and not boundary(text, end)) or (spec.whole and inside(text, end)):
                continue
            late = (end, False) not in all_ends or spec.ends or (spec.whole and letter(text, end - 1))
            yield start, end, late


def accepts(spec: Spec, candidate: str) -> bool:
    return not spec.verified or VERIFIERS[spec.verified](candidate)


def places(spec: Spec, text: str) -> Iterator[tuple[int, int, bool]]:
    """All matches (start, end, late) of *spec* in folded *text*."""
    return (found for found in candidates(spec, text) if accepts(spec, text[found[0] : found[1]]))


def rule_set(specs: Iterable[Spec]) -> RuleSet:
    """The rules of *specs*, named r0, r1, ... Raises: ConfigError if one of them cannot be used."""
    rules = []
    for n, spec in enumerate(specs):
        if spec.tree is None:
            pattern: KeywordsPattern | RegularPattern = KeywordsPattern(spec.words, spec.ignore_case, spec.whole)
        else:
            text = source(spec.tree)
            edge = "\\b"
            text = f"{edge * spec.begins}(?:{text}){edge * spec.ends}"
            pattern = RegularPattern(text, spec.ignore_case, spec.whole, VERIFIERS.get(spec.verified))
        rules.append(Rule(f"r{n}", "#" if spec.action == "mask" else f"<{n}>", pattern, spec.action))
    return RuleSet.compile(rules)


# What must be shown -----------------------------------------------------------------------------------------------


def hidden_by(specs: Iterable[Spec], text: str) -> list[tuple[tuple[int, int, bool, int], int, int]]:
    """(label, raw start, raw end) of all matches of the redact and mask rules."""
    form, owners = folded(text)
    found = []
    for order, spec in enumerate(specs):
        if spec.action in ("redact", "mask"):
            for start, end, late in places(spec, form):
                found.append(((end, owners[start], late, order), owners[start], raw_end(text, owners[end - 1])))
    return found


def raw_end(text: str, place: int) -> int:
    place += 1
    while place < len(text) and FOLDS.get(text[place]) == "":
        place += 1
    return place


def expected(specs: list[Spec], text: str) -> str:
    """What is shown in the end, if no rule blocks."""
    found = hidden_by(specs, text)

    def replacement(begin: int, end: int) -> str:
        order = min(label for label, start, _ in found if begin <= start < end)[3]
        return "#" * (end - begin) if specs[order].action == "mask" else f"<{order}>"

    return replaced(text, ((start, end) for _, start, end in found), replacement)


def replaced(text: str, covered: Iterable[tuple[int, int]], replacement: Callable[[int, int], str]) -> str:
    """*text* with *replacement* (of its start and its end) for each maximal run of *covered* characters."""
    gone = {place for start, end in covered for place in range(start, end)}
    shown: list[str] = []
    place = 0
    while place < len(text):
        if place not in gone:
            shown.append(text[place])
            place += 1
            continue
        begin = place
        while place in gone:
            place += 1
        shown.append(replacement(begin, place))
    return "".join(shown)


def flagged(specs: list[Spec], text: str) -> set[tuple[str, int, int]]:
    """The maximal runs of the flag rules."""
    form, owners = folded(text)
    runs: set[tuple[str, int, int]] = set()
    for order, spec in enumerate(specs):
        if spec.action != "flag":
            continue
        found = [(owners[start], raw_end(text, owners[end - 1])) for start, end, _ in places(spec, form)]
        joined: list[tuple[int, int]] = []
        for start, end in sorted(found):
            if joined and start <= joined[-1][1]:
                joined[-1] = joined[-1][0], max(end, joined[-1][1])
            else:
                joined.append((start, end))
        runs.update((f"r{order}", start, end) for start, end in joined)
    return runs


def blocked_at(specs: list[Spec], text: str) -> tuple[int, int] | None:
    """(raw length by which the first block match is known, raw start of the earliest known by then), or None."""
    form, owners = folded(text)
    found = []
    for spec in specs:
        if spec.action == "block":
            for start, end, late in places(spec, form):
                known = owners[min(end + late, len(form)) - 1] + 1
                found.append((known, owners[start]))
    if not found:
        return None
    known = min(found)[0]
    return known, min(start for at, start in found if at == known)


def held(specs: list[Spec], text: str, alphabet: str, longest: int) -> tuple[int, int]:
    """How much of *text* must be held, by trying every continuation over the folded *alphabet*.

    The second figure is what may be held by the definition of verified rules: there a candidate that may go on is live,
    whether or not the verifier could ever accept what it becomes.
    """
    form, owners = folded(text)
    live: set[int] = set()
    may_go_on: set[int] = set()
    known: set[int] = set()
    for size in range(longest + 1):
        for ending in product(alphabet, repeat=size):
            whole = form + "".join(ending)
            for spec in specs:
                for start, end, late in candidates(spec, whole):
                    if start >= len(form):
                        continue
                    if spec.verified and end > len(form):
                        may_go_on.add(owners[start])
                    if not accepts(spec, whole[start:end]):
                        continue
                    if end > len(form) or (late and end == len(form)):
                        live.add(owners[start])
                    if end + late <= len(form):
                        known.update(range(owners[start], raw_end(text, owners[end - 1])))

    def uncovered_after(first: int) -> int:
        place = 0
        while place < len(text) and (place in known or place < first):
            place += 1
        return len(text) - place

    first = min(live, default=len(text))
    return uncovered_after(first), uncovered_after(min(may_go_on | {first}))


# Random rules and texts -------------------------------------------------------------------------------------------


def longest(tree: Tree) -> int:
    """How many characters a match of *tree* may have, with one round more for what is unlimited."""
    kind, x, low, high = tree
    if kind in ("class", "edge"):
        return int(kind == "class")
    assert isinstance(x, tuple)
    if kind == "rep":
        return longest(x) * int(str(high if high is not None else int(str(low)) + 1))  # type: ignore[arg-type]
    sizes = [longest(item) for item in x]
    return sum(sizes) if kind == "cat" else max(sizes)


def random_tree(rng: random.Random, letters: str, depth: int, *, bounded: bool) -> Tree:
    kind = rng.choice(("class", "class", "cat", "cat", "alt", "rep")) if depth else "class"
    if kind == "class":
        return ("class", "".join(rng.sample(letters, rng.choice((1, 1, 1, 2)))), None, None)
    if kind == "rep":
        low = rng.randint(0, 2)
        high = rng.choice((low + rng.randint(0, 2) or 1, None if not bounded else low + 1))
        return ("rep", random_tree(rng, letters, depth - 1, bounded=bounded), low, high)
    items = [random_tree(rng, letters, depth - 1, bounded=bounded) for _ in range(rng.randint(2, 3))]
    if kind == "cat" and rng.random() < 0.15:
        items.insert(rng.randint(0, len(items)), ("edge", rng.random() < 0.7, None, None))
    return (kind, tuple(items), None, None)


def random_spec(rng: random.Random, letters: str, actions: tuple[Action, ...], *, verified: float) -> Spec:
    action = rng.choice(actions)
    whole = rng.random() < 0.3
    ignore_case = rng.random() < 0.4
    if rng.random() < 0.4:
        words = tuple("".join(rng.choices(letters, k=rng.randint(1, 4))) for _ in range(rng.randint(1, 4)))
        return Spec(words=words, whole=whole, ignore_case=ignore_case, action=action)
    judge = rng.choice(sorted(VERIFIERS)) if rng.random() < verified else ""
    shapes = "".join(sorted({c for letter in letters for c in FOLDS.get(letter, letter)}))
    tree = random_tree(rng, shapes, 3, bounded=bool(judge))
    begins, finishes = rng.random() < 0.25, rng.random() < 0.25
    spec = Spec((), tree, begins, finishes, whole or bool(judge), ignore_case, judge, action)
    return replace(spec, begins=False, ends=False) if spec.whole else spec


def random_specs(
    rng: random.Random,
    letters: str = ASCII,
    actions: tuple[Action, ...] = ("redact", "redact", "mask"),
    *,
    count: int = 4,
    verified: float = 0.35,
    most: int = 1000,
) -> tuple[list[Spec], RuleSet]:
    """Rules that can be used: those that match the empty text, nothing, or over *most* characters are drawn again."""
    specs: list[Spec] = []
    wanted = rng.randint(1, count)
    while len(specs) < wanted:
        spec = random_spec(rng, letters, actions, verified=verified)
        sizes = [longest(spec.tree)] if spec.tree is not None else [len(folded(word)[0]) for word in spec.words]
        if max(sizes) > most:
            continue
        try:
            rule_set([spec])
        except ConfigError:
            continue
        specs.append(spec)
    return specs, rule_set(specs)


def random_text(rng: random.Random, letters: str, longest: int) -> str:
    return "".join(rng.choices(letters, k=rng.randint(0, longest)))


def pieces(rng: random.Random, text: str) -> list[str]:
    cuts = sorted(rng.sample(range(len(text) + 1), rng.randint(0, min(6, len(text)))))
    return [text[i:j] for i, j in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@dataclass
class Seen:
    """What came out of a redactor."""

    text: str
    flags: set[tuple[str, int, int]]
    blocked: str | None


def run(rules: RuleSet, parts: Iterable[str]) -> Seen:
    """Stream *parts* through a redactor, up to its end or a block."""
    redactor = Redactor(rules)
    events: list[GuardEvent] = []
    for part in parts:
        events += redactor.feed(part)
        if events and isinstance(events[-1], Blocked):
            break
    else:
        events += redactor.finish()
    shown, flags, blocked = [], set(), None
    for event in events:
        match event:
            case TextDelta(text):
                shown.append(text)
            case Redacted(_, replacement, _):
                shown.append(replacement)
            case Flagged(rule, start, end):
                flags.add((rule, start, end))
            case Blocked(rule):
                blocked = rule
    return Seen("".join(shown), flags, blocked)
