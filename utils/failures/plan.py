"""Plans: which attempt meets which fault, by order, by repetition, by chance; and what really happened.

Attempts are numbered from 1 in the order of their requests. The fault of attempt n depends on the plan, the seed and n
alone, never on what earlier draws were used for: the same seed gives the same faults.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from utils.failures.faults import KINDS, RECOVERABLE, At, Fault, number

__all__ = ["DEFAULT_RATE", "FailurePlan", "FailureStatistics", "Injected", "Injection", "RandomFaults", "Step"]

DEFAULT_RATE = 0.3
_STATUSES = (429, 500, 502, 503, 529)
_RECENT = 256
"""How many injections are remembered one by one; the counters know them all."""


@dataclass(frozen=True, slots=True)
class RandomFaults:
    """With probability *rate* a fault of one of *kinds* at a random place.

    *seed* None: the plan's. `status` draws one of 429, 500, 502, 503 and 529.
    """

    rate: float = DEFAULT_RATE
    seed: int | None = None
    kinds: tuple[str, ...] = RECOVERABLE

    def __str__(self) -> str:
        seed = "" if self.seed is None else f", seed={self.seed}"
        kinds = "" if self.kinds == RECOVERABLE else f", kinds={'+'.join(self.kinds)}"
        return f"random(rate={number(self.rate)}{seed}{kinds})"

    def draw(self, rng: random.Random) -> Fault | None:
        """The fault of one attempt."""
        if rng.random() >= self.rate:
            return None
        kind = KINDS[rng.choice(self.kinds)]
        # In per cent, because such a place comes before the end of every answer.
        at = None if kind.default_at is None else At(rng.randint(5, 95), "%")
        value = rng.choice(_STATUSES) if kind.takes == "status" else None
        if kind.takes == "rate":
            value = rng.choice((100, 1000))
        return Fault(kind.name, value, at)


@dataclass(frozen=True, slots=True)
class Step:
    """What the next *times* attempts meet (None: all that are left): a fault, random ones, or nothing (None).

    *probability*: of the fault in each attempt. Raises ValueError where there is no fault for it.
    """

    what: Fault | RandomFaults | None
    times: int | None = 1
    probability: float = 1.0

    def __post_init__(self) -> None:
        if self.probability != 1 and not isinstance(self.what, Fault):
            raise ValueError("only a fault has a probability")

    def __str__(self) -> str:
        what = "ok" if self.what is None else str(self.what)
        chance = "" if self.probability == 1 else f" p={number(self.probability)}"
        if self.times is None:
            times = "" if isinstance(self.what, RandomFaults) else " forever"
        else:
            times = f"*{self.times}" if self.times != 1 or isinstance(self.what, RandomFaults) else ""
        return f"{what}{chance}{times}"

    def draw(self, seed: int, attempt: int) -> Fault | None:
        """The fault of *attempt* in a plan of this *seed*."""
        match self.what:
            case RandomFaults():
                return self.what.draw(_rng(seed if self.what.seed is None else self.what.seed, attempt))
            case Fault() if self.probability < 1 and _rng(seed, attempt).random() >= self.probability:
                return None
            case _:
                return self.what


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault that has happened: in which attempt, after how many bytes and events of the server's body.

    Both are None for faults that come before the body.
    """

    attempt: int
    fault: Fault
    at_byte: int | None = None
    at_event: int | None = None


@dataclass(frozen=True, slots=True)
class FailureStatistics:
    """What a plan has come to so far."""

    attempts: int
    planned: int
    """Faults given to attempts, and those that are certain to come if there are enough of them."""
    injected: int
    by_kind: Mapping[str, int]
    """Injected faults by kind."""
    recent: tuple[Injected, ...]
    """The last 256 of them."""
    seed: int


@dataclass(slots=True)
class Injection:
    """The fault of one attempt, and what has become of it."""

    plan: FailurePlan = field(repr=False)
    attempt: int
    fault: Fault
    has_happened: bool = False
    is_to_blame: bool = False
    """Whether an error of this attempt is the fault's doing."""

    def happen(self, at_byte: int | None = None, at_event: int | None = None) -> None:
        """Count the fault, once."""
        if not self.has_happened:
            self.has_happened = True
            self.is_to_blame = KINDS[self.fault.kind].breaks
            self.plan.record(Injected(self.attempt, self.fault, at_byte, at_event))


class FailurePlan:
    """Hands out one fault per attempt and counts what happened. Shared by all targets of a run.

    Without *seed* one is drawn; `seed` tells it, so that a run can be repeated. A fault or None among the steps is a
    step of one attempt. Raises ValueError if anything follows a step for all attempts.
    """

    def __init__(self, steps: Iterable[Step | Fault | None] = (), *, seed: int | None = None) -> None:
        self.steps = tuple(step if isinstance(step, Step) else Step(step) for step in steps)
        if any(step.times is None for step in self.steps[:-1]):
            raise ValueError("nothing comes after a step for all attempts")
        self.seed = random.SystemRandom().randrange(2**32) if seed is None else seed
        self.attempts = 0
        self.injected = 0
        """How many faults have really happened."""
        self._handed_out = 0
        self._by_kind: Counter[str] = Counter()
        self._recent: deque[Injected] = deque(maxlen=_RECENT)

    def __str__(self) -> str:
        return ", ".join(map(str, self.steps)) or "ok"

    @property
    def planned(self) -> int:
        """Faults given to attempts so far, and those that are certain to come if there are enough attempts."""
        done = self.attempts
        certain = 0
        for step in self.steps:
            if step.times is None:
                break
            ahead = step.times - min(done, step.times)
            done -= step.times - ahead
            if isinstance(step.what, Fault) and step.probability == 1:
                certain += ahead
        return self._handed_out + certain

    def next_fault(self) -> Fault | None:
        """The fault of the next attempt; None if it is to be left alone, as all are behind the end of the plan."""
        self.attempts += 1
        step = self._step_of(self.attempts)
        if step is None:
            return None
        fault = step.draw(self.seed, self.attempts)
        self._handed_out += fault is not None
        return fault

    def next_injection(self) -> Injection | None:
        """`next_fault` with a place to say what became of it."""
        fault = self.next_fault()
        return None if fault is None else Injection(self, self.attempts, fault)

    def record(self, injected: Injected) -> None:
        """Count a fault that has happened."""
        self.injected += 1
        self._by_kind[injected.fault.kind] += 1
        self._recent.append(injected)

    def statistics(self) -> FailureStatistics:
        """A snapshot."""
        by_kind = MappingProxyType(dict(self._by_kind))
        return FailureStatistics(self.attempts, self.planned, self.injected, by_kind, tuple(self._recent), self.seed)

    def _step_of(self, attempt: int) -> Step | None:
        for step in self.steps:
            if step.times is None or attempt <= step.times:
                return step
            attempt -= step.times
        return None


def _rng(seed: int, attempt: int) -> random.Random:
    return random.Random(f"{seed}/{attempt}")  # noqa: S311 - faults, not keys
