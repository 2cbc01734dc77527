"""Processes that share a target, whatever they do and whenever the file rests: no herd, and always a way back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.resilience.breaker import Breaker, BreakerState, Permit, Refused
from utils.resilience.breaker_policy import BreakerPolicy
from utils.resilience.breaker_store import BreakerStore, MemoryStore, ProbePlace, SharedState

POLICY = BreakerPolicy(
    failure_threshold=2,
    minimum_calls=4,
    window_calls=6,
    slow_after_s=2.0,
    open_s=4.0,
    max_open_s=9.0,
    permit_s=6.0,
    half_open_permits=2,
)


class Resting:
    """A store that is of no use to one process while it rests, like a file that has been locked for too long."""

    def __init__(self, store: BreakerStore) -> None:
        self._store = store
        self.is_resting = False

    def load(self, key: str) -> SharedState | None:
        return None if self.is_resting else self._store.load(key)

    def publish(self, key: str, state: SharedState, *, expected: int, ends_row: bool = False) -> SharedState | None:
        return None if self.is_resting else self._store.publish(key, state, expected=expected, ends_row=ends_row)

    def add_failure(self, key: str, *, generation: int, remembered_s: float) -> SharedState | None:
        if self.is_resting:
            return None
        return self._store.add_failure(key, generation=generation, remembered_s=remembered_s)

    def acquire_probe(self, key: str, *, generation: int, limit: int, ttl_s: float) -> ProbePlace:
        if self.is_resting:
            return ProbePlace("")
        return self._store.acquire_probe(key, generation=generation, limit=limit, ttl_s=ttl_s)

    def release_probe(self, key: str, token: str) -> None:
        if not self.is_resting:
            self._store.release_probe(key, token)


class Machine:
    """Three processes, each with a clock of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.memory = MemoryStore(lambda: self.now)
        self.stores = [Resting(self.memory) for _ in range(3)]
        self.breakers = [Breaker(POLICY, store=store, key="target") for store in self.stores]
        self.calls: list[tuple[int, Permit]] = []
        self.probes: list[tuple[float, int, Permit]] = []

    def time(self, which: int) -> float:
        return self.now + 1000.0 * which

    def admit(self, which: int) -> Permit | Refused:
        answer = self.breakers[which].admit(self.time(which))
        if isinstance(answer, Refused):
            assert 0.0 < answer.retry_after_s <= 9.0
            return answer
        self.calls.append((which, answer))
        if answer.place:
            generation = self.generation
            self.probes = [(s, g, probe) for s, g, probe in self.probes if self.holds(s, g, probe)]
            self.probes.append((self.now, generation, answer))
        return answer

    def fail(self, which: int) -> bool:
        """Whether there was a call that could fail."""
        answer = self.admit(which)
        if isinstance(answer, Permit):
            answer.fail(self.time(which))
        return isinstance(answer, Permit)

    @property
    def generation(self) -> int:
        known = self.memory.load("target")
        return 0 if known is None else known.generation

    def holds(self, since_s: float, generation: int, probe: Permit) -> bool:
        return probe.is_open and self.now < since_s + 6.0 and generation == self.generation

    def say(self, what: str, place: int) -> None:
        if not self.calls:
            return
        which, permit = self.calls[place % len(self.calls)]
        now = self.time(which)
        match what:
            case "first_content" | "keep_alive" | "succeed" | "release":
                getattr(permit, what)(now)
            case "failed":
                permit.fail(now)
            case "failed, asking for 3":
                permit.fail(now, retry_after_s=3.0)
            case "429":
                permit.cool_down(now, None)
            case "429, asking for 100":
                permit.cool_down(now, 100.0)


SAID = st.sampled_from(
    (
        *("first_content", "keep_alive", "succeed", "release"),
        *("failed", "failed, asking for 3", "429", "429, asking for 100"),
    )
)
STEPS = st.one_of(
    st.tuples(st.just("admit"), st.integers(0, 2)),
    st.tuples(st.just("fail"), st.integers(0, 2)),
    st.tuples(st.just("fail until it opens, and wait"), st.integers(0, 2)),
    st.tuples(st.just("all admit"), st.integers(1, 2)),
    st.tuples(st.just("wait"), st.sampled_from([1, 3, 4, 6, 9])),
    st.tuples(st.just("rest or not"), st.integers(0, 2)),
    st.tuples(SAID, st.integers(0, 9)),
)


def played(steps: list[tuple[str, int]], *, with_rests: bool) -> Machine:
    machine = Machine()
    for what, number in steps:
        if what == "admit":
            machine.admit(number)
        elif what == "fail":
            machine.fail(number)
        elif what == "fail until it opens, and wait":
            while machine.fail(number):
                pass
            machine.now += 9.0
        elif what == "all admit":
            for which in (0, 1, 2) * number:
                machine.admit(which)
        elif what == "wait":
            machine.now += number
        elif what == "rest or not":
            machine.stores[number].is_resting ^= with_rests
        else:
            machine.say(what, number)
        if not with_rests:
            assert len([probe for probe in machine.probes if machine.holds(*probe)]) <= POLICY.half_open_permits
    return machine


@settings(max_examples=300, deadline=None)
@given(st.lists(STEPS, max_size=60))
def test_no_more_probes_are_out_than_permitted_whatever_happens(steps: list[tuple[str, int]]) -> None:
    played(steps, with_rests=False)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEPS, max_size=60))
def test_there_is_a_way_back_from_everything(steps: list[tuple[str, int]]) -> None:
    """After the longest open time every process may try again, and whole answers close the breakers of all."""
    machine = played(steps, with_rests=True)
    for store in machine.stores:
        store.is_resting = False
    machine.now += 9.0
    for _ in range(2):  # the first may learn here what another one has decided just before
        for which in range(3):
            answer = machine.admit(which)
            if isinstance(answer, Refused):
                machine.now += answer.retry_after_s
                answer = machine.admit(which)
            assert isinstance(answer, Permit)
            answer.first_content(machine.time(which))
            answer.succeed(machine.time(which))
    for which, breaker in enumerate(machine.breakers):
        assert isinstance(machine.admit(which), Permit)
        figures = breaker.statistics()
        assert (figures.state, figures.failures_in_a_row, figures.consecutive_opens) == (BreakerState.CLOSED, 0, 0)


def test_an_opening_of_the_same_number_elsewhere_is_believed() -> None:
    """Here the file rested, and the target was lost and found again; elsewhere it was lost twice meanwhile."""
    machine = Machine()
    here, there = machine.breakers[:2]
    machine.stores[0].is_resting = True
    assert all(machine.fail(which) for which in (0, 0, 1, 1))
    machine.now = 4.0
    probe = machine.admit(0)
    assert isinstance(probe, Permit)
    probe.succeed(machine.time(0))
    assert machine.fail(1)
    assert (here.statistics().state, there.statistics().state) == (BreakerState.CLOSED, BreakerState.OPEN)
    machine.stores[0].is_resting = False
    refusal = machine.admit(0)
    assert isinstance(refusal, Refused)
    assert refusal.retry_after_s == pytest.approx(8.0)
    assert here.statistics().state is BreakerState.OPEN
