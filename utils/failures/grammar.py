"""The language of `--failure-plan`: text to a plan. `str(plan)` is such a text, and parses to an equal plan.

    refused, cut@40%, ok                     one entry per attempt; what follows the last one is left alone
    status=503*2 then reset@5e               `*N` repeats an entry; `then` is another way to write the comma
    status=429 retry-after=2 forever         the last entry for all attempts that are left
    stall=3@120b p=0.5                       with probability p, else the attempt is left alone
    random(rate=0.3, seed=7)                 from here on; `random(...)*N` for N attempts;
                                             kinds=refused+cut names what it draws from

plan    = entry { ("," | "then") entry }
entry   = ( "ok" | fault | "random(" [ name "=" value { "," ... } ] ")" ) [ "*" N | "forever" ]
fault   = KIND [ "=" value ] [ "@" N ("b" | "e" | "%") ] { setting "=" value }
setting = "p" | "retry-after" | "retry-after-ms" | "should-retry"     (all but p: of status and quota only)

Places. `@120b`: after 120 bytes of the body (what is put between events comes at the next boundary). `@5e`: after five
events, the first of which usually has no text; comments count. Neither comes if the answer is shorter; the plan's
statistics tell. `@40%`: how long an answer will be is not known while it comes, so per cent are counted in events of
an expected length: `max_tokens` if that is below 100, else 100 (of a longer answer the first 100 events). Such a fault
always comes, at the latest right before the event that finishes the answer. Guessed low on purpose: a fault that is
early is still in the middle of the answer; one that is late has degenerated into a fault at its end.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import NoReturn, cast

from utils.errors import UsageProblem
from utils.failures.faults import KINDS, OPTIONS, RECOVERABLE, At, Fault, Kind, Unit, Value
from utils.failures.plan import DEFAULT_RATE, FailurePlan, RandomFaults, Step

__all__ = ["MAX_PLAN_CHARS", "parse_plan"]

MAX_PLAN_CHARS = 4000
_MAX_TIMES = 100_000
_BLANK = re.compile(r"\s*")
_WORD = re.compile(r"[A-Za-z][\w-]*", re.ASCII)
_VALUE = re.compile(r'"([^"]*)"|([^\s,@*()"=]+)')
_NUMBER = re.compile(r"\d{1,9}(\.\d{1,6})?", re.ASCII)
_SEED = re.compile(r"-?\d{1,19}", re.ASCII)
_PLACE = re.compile(r"(\d{0,10})([A-Za-z%]*)", re.ASCII)
_TIMES = re.compile(r"\d{1,6}", re.ASCII)
_ARGUMENTS = ("rate", "seed", "kinds")


def parse_plan(text: str, *, seed: int | None = None, name: str = "--failure-plan") -> FailurePlan:
    """The plan that *text* describes; *seed* is for its draws, *name* is how messages call the text.

    Raises UsageProblem with the place (characters count from 1) and, for an unknown word, the nearest known one.
    """
    return FailurePlan(_Parser(text, name).plan(), seed=seed)


class _Parser:
    def __init__(self, text: str, name: str) -> None:
        self._text = text
        self._name = name
        self._at = 0

    def plan(self) -> list[Step]:
        if len(self._text) > MAX_PLAN_CHARS:
            self._fail(f"more than {MAX_PLAN_CHARS} characters", "repeat entries with *N")
        steps: list[Step] = []
        while True:
            start = self._skip()
            steps.append(self._step())
            if self._is_at_end():
                return steps
            if steps[-1].times is None:
                what = "random(...)*3 for three attempts" if "random" in self._text[start:] else "*3 for three attempts"
                self._fail("nothing comes after an entry for all attempts", f"give it a number: {what}")
            if not (self._took(",") or self._took_word("then")):
                found = self._text[self._at : self._at + 20]
                self._fail(f"expected a comma, not {found!r}", "entries are separated by commas: refused, cut@40%, ok")

    def _step(self) -> Step:
        start = self._skip()
        word = self._word("a failure")
        if word == "random":
            what: Fault | RandomFaults | None = self._random()
            return Step(what, self._times(default=None))
        if word == "ok":
            return Step(None, self._times(default=1))
        kind = self._kind(word, start)
        value = self._fault_value(kind)
        at = self._place(kind) if self._took("@") else None
        options, probability = self._attributes(kind)
        times = self._times(default=1)
        return Step(Fault(kind.name, value, at, options), times, probability)

    # -- parts of an entry -------------------------------------------------------------------------------------------

    def _kind(self, word: str, start: int) -> Kind:
        kind = KINDS.get(word.lower().replace("-", "_"))
        if kind is None:
            self._unknown("failure", word, [*KINDS, "ok", "random"], start)
        return kind

    def _fault_value(self, kind: Kind) -> Value | None:
        start = self._skip()
        raw = self._value() if self._took("=") else None
        value: Value | None = raw
        if raw is not None and kind.takes == "seconds":
            value = float(raw) if _NUMBER.fullmatch(raw) else raw
        elif raw is not None and kind.takes in ("status", "rate"):
            value = int(raw) if re.fullmatch(r"\d{1,9}", raw, re.ASCII) else raw
        if (problem := kind.problem_with(value)) is not None:
            said = "" if raw is None else f", not {raw[:40]!r}"
            self._fail(f"{kind.name} needs {problem}{said}", f"{kind.name}: {kind.effect}", start)
        return value

    def _place(self, kind: Kind) -> At:
        start = self._skip()
        match = _PLACE.match(self._text, start)
        digits, unit = (match.group(1), match.group(2)) if match else ("", "")
        way_out = "write @120b (bytes), @5e (events) or @40%"
        if kind.default_at is None:
            self._fail(f"{kind.name} has no place", f"{kind.name}: {kind.effect}", start)
        if not digits or unit not in ("b", "e", "%"):
            self._fail(f"{self._text[start : start + 12]!r} is no place", way_out, start)
        try:
            at = At(int(digits), cast(Unit, unit))
            Fault(kind.name, _sample_value(kind), at)
        except ValueError as error:
            self._fail(str(error), way_out, start)
        self._at = start + len(digits) + len(unit)
        return at

    def _attributes(self, kind: Kind) -> tuple[tuple[tuple[str, Value], ...], float]:
        options: dict[str, Value] = {}
        probability: float | None = None
        while True:
            start = self._skip()
            match = _WORD.match(self._text, start)
            if match is None or match.group() in ("then", "forever"):
                return tuple(options.items()), 1.0 if probability is None else probability
            name = match.group().lower()
            allowed = ("p", *OPTIONS) if kind.name in ("status", "quota") else ("p",)
            if name not in allowed and self._text[match.end() :].lstrip()[:1] != "=":
                return tuple(options.items()), 1.0 if probability is None else probability
            if name not in allowed:
                self._unknown("setting", match.group(), allowed, start, of=kind.name)
            if name in options or (name == "p" and probability is not None):
                self._fail(f"{name} is given twice", "give it once", start)
            self._at = match.end()
            if not self._took("="):
                self._fail(f"{name} needs a value", f"write {name}=...")
            if name == "p":
                probability = self._share("p")
            else:
                options[name] = self._header_value(name)

    def _header_value(self, name: str) -> Value:
        start = self._skip()
        raw = self._value()
        if name == "should-retry":
            if raw not in ("true", "false"):
                self._fail(f"should-retry is true or false, not {raw[:40]!r}", "it is the header x-should-retry", start)
            return raw
        if not _NUMBER.fullmatch(raw):
            unit = "milliseconds" if name.endswith("-ms") else "seconds"
            self._fail(f"{name} needs a number of {unit}, not {raw[:40]!r}", f"write {name}=2", start)
        return float(raw)

    def _random(self) -> RandomFaults:
        rate, seed = DEFAULT_RATE, None
        kinds: tuple[str, ...] = RECOVERABLE
        if not self._took("("):
            return RandomFaults()
        while not self._took(")"):
            start = self._skip()
            argument = self._word("rate, seed or kinds").lower()
            if argument not in _ARGUMENTS:
                self._unknown("setting", argument, _ARGUMENTS, start, of="random")
            if not self._took("="):
                self._fail(f"{argument} needs a value", "for example random(rate=0.3, seed=7)")
            start = self._skip()
            match argument:
                case "rate":
                    rate = self._share("rate")
                case "seed":
                    raw = self._value()
                    if not _SEED.fullmatch(raw):
                        self._fail(f"seed needs a whole number, not {raw[:40]!r}", "for example seed=7", start)
                    seed = int(raw)
                case _:
                    kinds = self._kinds(start)
            self._took(",")
        return RandomFaults(rate, seed, kinds)

    def _kinds(self, start: int) -> tuple[str, ...]:
        names = [self._kind(word, start).name for word in self._value().split("+")]
        for name in names:
            kind = KINDS[name]
            if kind.needs_value and kind.takes not in ("status", "rate"):
                self._fail(f"{name} cannot be drawn", f"it needs {kind.problem_with(None)}", start)
        return tuple(names)

    def _share(self, name: str) -> float:
        start = self._skip()
        raw = self._value()
        if not _NUMBER.fullmatch(raw) or float(raw) > 1:
            self._fail(f"{name} is a probability from 0 to 1, not {raw[:40]!r}", f"for example {name}=0.3", start)
        return float(raw)

    def _times(self, *, default: int | None) -> int | None:
        if self._took_word("forever"):
            return None
        if not self._took("*"):
            return default
        start = self._skip()
        match = _TIMES.match(self._text, start)
        if match is None or not 1 <= int(match.group()) <= _MAX_TIMES:
            self._fail(f"* needs a number of attempts from 1 to {_MAX_TIMES}", "for example status=503*2", start)
        self._at = match.end()
        return int(match.group())

    # -- characters --------------------------------------------------------------------------------------------------

    def _skip(self) -> int:
        blank = _BLANK.match(self._text, self._at)
        assert blank is not None
        self._at = blank.end()
        return self._at

    def _is_at_end(self) -> bool:
        return self._skip() == len(self._text)

    def _took(self, sign: str) -> bool:
        if not self._text.startswith(sign, self._skip()):
            return False
        self._at += len(sign)
        return True

    def _took_word(self, wanted: str) -> bool:
        match = _WORD.match(self._text, self._skip())
        if match is None or match.group().lower() != wanted:
            return False
        self._at = match.end()
        return True

    def _word(self, wanted: str) -> str:
        match = _WORD.match(self._text, self._skip())
        if match is None:
            found = self._text[self._at : self._at + 20]
            said = f"not {found!r}" if found else "but the text ends"
            self._fail(f"expected {wanted}, {said}", "for example: refused, cut@40%, ok")
        self._at = match.end()
        return match.group()

    def _value(self) -> str:
        match = _VALUE.match(self._text, self._skip())
        if match is None:
            self._fail("a value is missing after =", "put it in double quotes if it has blanks or signs in it")
        self._at = match.end()
        return match.group(1) if match.group(1) is not None else match.group(2)

    def _unknown(self, what: str, word: str, known: Iterable[str], start: int, *, of: str = "") -> NoReturn:
        names = list(known)
        near = difflib.get_close_matches(word.lower()[:60], names, n=1, cutoff=0.5)
        said = f"did you mean {near[0]!r}? " if near else ""
        takes = f"{of} takes" if of else "there are"
        self._fail(f"there is no {what} {word[:40]!r}", f"{said}{takes} {', '.join(names)}", start)

    def _fail(self, problem: str, hint: str, at: int | None = None) -> NoReturn:
        place = (self._at if at is None else at) + 1
        raise UsageProblem(f"{self._name}, character {place}: {problem}", hint=hint)


def _sample_value(kind: Kind) -> Value | None:
    """Any value that *kind* takes: a place is judged before the value is known to fit it."""
    samples: dict[str, Value] = {"status": 500, "rate": 1, "content type": "text/plain"}
    return samples.get(kind.takes)
