"""The breaker against a model of it that keeps everything and computes everything anew."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.support.exhaustive import exhaustive
from utils.resilience.breaker import Breaker, Permit, Refused
from utils.resilience.breaker_policy import BreakerPolicy

POLICY = BreakerPolicy(
    failure_threshold=3,
    failure_rate=0.5,
    slow_rate=0.6,
    slow_after_s=2.0,
    minimum_calls=4,
    window_calls=6,
    window_s=12.0,
    open_s=4.0,
    max_open_s=9.0,
    half_open_permits=2,
    permit_s=6.0,
)


@dataclass
class Call:
    """One admitted call, as the model remembers it."""

    permit: Permit
    at: float
    period: int
    is_probe: bool
    seen: float
    slow: bool | None = None


@dataclass
class Model:
    """States by name; a period lies between two changes of state."""

    state: str = "closed"
    period: int = 0
    until: float = 0.0
    cooldown: float = 0.0
    opens: int = 0
    history: list[tuple[float, bool, bool]] = field(default_factory=list)
    probes: list[Call] = field(default_factory=list)
    changes: list[tuple[str, str, int]] = field(default_factory=list)

    def enter(self, state: str, now: float) -> None:
        self.changes.append((self.state, state, self.period + 1))
        self.state, self.period, self.probes = state, self.period + 1, []
        if state == "closed":
            self.history = []
        if state == "open":
            self.until = now + min(9.0, 4.0 * 2**self.opens)
            self.opens += 1

    def wait(self, now: float) -> float:
        """0 if a call would be admitted."""
        if now < self.cooldown or (self.state == "open" and now < self.until):
            return max(self.cooldown, self.until if self.state == "open" else 0.0) - now
        if self.state == "half_open":
            alive = [call.seen + 6.0 for call in self.probes if now < call.seen + 6.0]
            if len(alive) >= 2:
                return min(alive) - now
        return 0.0

    def admit(self, permit: Permit, now: float) -> Call:
        if self.state == "open":
            self.enter("half_open", now)
        call = Call(permit, now, self.period, self.state == "half_open", now)
        self.probes = [probe for probe in self.probes if now < probe.seen + 6.0]
        if call.is_probe:
            self.probes.append(call)
        return call

    def holds_place(self, call: Call, now: float) -> bool:
        return call in self.probes and now < call.seen + 6.0

    def content(self, call: Call, now: float) -> None:
        if call.slow is None:
            call.slow = now - call.at > 2.0
            if self.holds_place(call, now):
                self.enter("open" if call.slow else "closed", now)
                if self.state == "closed":
                    call.period, call.is_probe = self.period, False
        self.sign_of_life(call, now)

    def sign_of_life(self, call: Call, now: float) -> None:
        if now < call.seen + 6.0:
            call.seen = now

    def end(self, call: Call, outcome: str, now: float, asked: float | None) -> None:
        if asked is not None:
            self.cooldown = max(self.cooldown, now + min(asked, 9.0))
        if outcome in ("release", "cool_down"):
            self.probes = [probe for probe in self.probes if probe is not call]
        elif self.holds_place(call, now):
            self.opens = 0 if outcome == "succeed" else self.opens
            self.enter("closed" if outcome == "succeed" else "open", now)
        elif call.period == self.period and self.state == "closed":
            self.opens = 0 if outcome == "succeed" else self.opens
            self.history.append((now, outcome == "fail", bool(call.slow)))
            if self.must_open(now):
                self.enter("open", now)

    def recent(self, now: float) -> list[tuple[float, bool, bool]]:
        return [entry for entry in self.history[-6:] if entry[0] > now - 12.0]

    def must_open(self, now: float) -> bool:
        recent = self.recent(now)
        _, failed, slow = self.history[-1]
        if failed and [entry[1] for entry in self.history[-3:]] == [True] * 3:
            return True
        if len(recent) < 4:
            return False
        failures, slow_ones = sum(entry[1] for entry in recent), sum(entry[2] for entry in recent)
        return (failed and failures >= 0.5 * len(recent)) or (slow and slow_ones >= 0.6 * len(recent))


STATES = ("closed", "open", "half_open")
SAID = st.sampled_from(
    (
        *("content", "sign of life", "succeed", "release", "fail", "fail, asking for 2.0", "fail, asking for 100.0"),
        *("cool_down", "cool_down, asking for 2.0", "cool_down, asking for 100.0"),
    )
)


class BreakerAgainstModel(RuleBasedStateMachine):
    """Any order of calls, contents, outcomes and pauses: both say the same."""

    visited: ClassVar[Counter[tuple[str, str, str]]] = Counter()
    """State, signal, and on whose permit it came: see `PAIRS`."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = 0
        self.forgotten: list[Call] = []
        self.breaker = Breaker(POLICY)
        self.model = Model()
        self.now = 1000.0
        self.calls: list[Call] = []
        self.counts = dict.fromkeys(
            ("admitted", "refused", "succeeded", "failed", "rate_limited", "released", "slow"), 0
        )

    @rule(quarters=st.integers(1, 30))
    def wait(self, quarters: int) -> None:
        self.pass_time(quarters / 4)

    @rule()
    def wait_as_told(self) -> None:
        self.pass_time(self.model.wait(self.now))

    def pass_time(self, seconds: float) -> None:
        before, self.now = self.now, self.now + seconds
        self.visit("time passes")
        for call in (*self.calls, *self.forgotten):
            if before < call.seen + 6.0 <= self.now:
                self.visit("expiry", call)

    def visit(self, signal: str, call: Call | None = None) -> None:
        whose = "nobody's"
        if call is not None:
            is_expired = call.is_probe and signal != "expiry" and not self.model.holds_place(call, self.now)
            whose = "a late" if call.period != self.model.period else "an expired" if is_expired else "a present"
        self.visited[self.model.state, signal, whose] += 1

    @precondition(lambda self: self.model.wait(self.now) == 0.0)
    @rule(outcome=st.sampled_from(["succeed", "fail"]), count=st.integers(1, 3), late=st.booleans())
    def calls_that_end_alike(self, outcome: str, count: int, late: bool) -> None:
        for _ in range(count):
            before = len(self.calls)
            self.admit(1)
            if late:
                self.pass_time(2.5)
            if len(self.calls) > before:
                self.say_content(self.calls[-1]) if late else None
                self.say_end(self.calls.pop(), outcome, None)

    @rule(count=st.integers(1, 4))
    def admit(self, count: int) -> None:
        for _ in range(count):
            wait_s = self.model.wait(self.now)
            answer = self.breaker.admit(self.now)
            self.visit("refused" if isinstance(answer, Refused) else "admitted")
            if isinstance(answer, Refused):
                assert answer.retry_after_s == pytest.approx(wait_s)
                assert answer.retry_after_s > 0.0
                self.counts["refused"] += 1
                if self.model.state == "open" and max(self.model.until, self.model.cooldown) <= self.now:
                    self.model.enter("half_open", self.now)
            else:
                assert wait_s == 0.0
                self.calls.append(self.model.admit(answer, self.now))
                self.counts["admitted"] += 1

    @rule(
        state=st.sampled_from(STATES),
        whose=st.sampled_from(["a present", "a late", "another probe's", "an expired"]),
        said=SAID,
    )
    def say_where_chance_seldom_leads(self, state: str, whose: str, said: str) -> None:
        self.pass_time(self.model.wait(self.now))
        self.admit(1)
        call = self.calls[-1]
        while self.model.state != "open":
            self.pass_time(self.model.wait(self.now))
            self.admit(1)
            self.say_end(self.calls.pop(), "fail", None)
        if state != "open":
            self.pass_time(self.model.wait(self.now))
            self.admit(2 if whose == "another probe's" else 1)
            call = {"a late": call, "another probe's": self.calls[-2]}.get(whose, self.calls[-1])
            if whose == "an expired":
                self.pass_time(6.0)
            elif state == "closed":
                self.say_content(self.calls[-1])
        self.say([(said, self.calls.index(call))])

    @precondition(lambda self: self.calls)
    @rule(said=st.lists(st.tuples(SAID, st.integers(0, 4)), min_size=1, max_size=3))
    def say(self, said: list[tuple[str, int]]) -> None:
        for what, which in said:
            if not self.calls:
                return
            outcome, _, asked = what.partition(", asking for ")
            place = which % len(self.calls)
            if what == "content":
                self.say_content(self.calls[place])
            elif what == "sign of life":
                self.say_sign_of_life(self.calls[place])
            else:
                self.say_end(self.calls.pop(place), outcome, float(asked) if asked else None)

    def say_sign_of_life(self, call: Call) -> None:
        self.visit("sign of life", call)
        call.permit.keep_alive(self.now)
        self.model.sign_of_life(call, self.now)

    def say_content(self, call: Call) -> None:
        was_slow = call.slow
        if was_slow is None:
            self.visit("slow first content" if self.now - call.at > 2.0 else "first content", call)
        call.permit.first_content(self.now)
        call.permit.keep_alive(self.now)
        self.model.content(call, self.now)
        self.counts["slow"] += was_slow is None and call.slow is True

    def say_end(self, call: Call, outcome: str, asked: float | None) -> None:
        self.visit(outcome if asked is None else f"{outcome}, asking for time", call)
        if outcome == "fail":
            call.permit.fail(self.now, retry_after_s=asked)
        elif outcome == "cool_down":
            call.permit.cool_down(self.now, asked)
        else:
            getattr(call.permit, outcome)(self.now)
        self.model.end(call, outcome, self.now, asked)
        name = {"succeed": "succeeded", "fail": "failed", "release": "released", "cool_down": "rate_limited"}[outcome]
        self.counts[name] += 1

    @precondition(lambda self: self.calls)
    @rule()
    def forget_a_permit(self) -> None:
        self.forgotten.append(self.calls.pop(0))

    @invariant()
    def both_say_the_same(self) -> None:
        figures, model = self.breaker.statistics(self.now), self.model
        assert figures.state.value == model.state
        assert figures.generation == model.period == self.breaker.generation
        changes = self.breaker.changes_since(self.heard)
        told = [(change.before.value, change.after.value, change.generation) for change in changes]
        assert told == [change for change in model.changes if change[2] > self.heard]
        self.heard = self.breaker.generation
        assert figures.consecutive_opens == model.opens
        assert {name: getattr(figures, name) for name in self.counts} == self.counts
        if model.state == "closed":
            recent = model.recent(self.now)
            assert figures.window_calls == len(recent)
            assert figures.window_failures == sum(entry[1] for entry in recent)
            assert figures.window_slow == sum(entry[2] for entry in recent)
        assert figures.probes == sum(self.now < probe.seen + 6.0 for probe in model.probes)
        assert figures.probes <= 2


TestBreakerAgainstModel = BreakerAgainstModel.TestCase
TestBreakerAgainstModel.settings = settings(
    max_examples=200 if exhaustive([True]) else 60, stateful_step_count=50, deadline=None
)

ON_A_PERMIT = (
    *("first content", "slow first content", "sign of life", "succeed", "release", "expiry"),
    *("fail", "fail, asking for time", "cool_down", "cool_down, asking for time"),
)
PAIRS = {
    *((state, signal, "nobody's") for state in STATES for signal in ("admitted", "refused", "time passes")),
    # An open breaker gives no permits, so whatever is said on one then is late.
    *((state, signal, "a present") for state in ("closed", "half_open") for signal in ON_A_PERMIT),
    *((state, signal, "a late") for state in STATES for signal in ON_A_PERMIT),
    *(("half_open", signal, "an expired") for signal in ON_A_PERMIT),
} - {
    # What has become late by way of an opening, or has expired, is no longer in time; and it expires once.
    *(("half_open", "first content", whose) for whose in ("a late", "an expired")),
    ("half_open", "expiry", "an expired"),
}


def test_the_model_has_been_through_every_pair_of_state_and_signal() -> None:
    BreakerAgainstModel.visited.clear()
    alike_each_time = settings(max_examples=400, stateful_step_count=30, deadline=None, derandomize=True, database=None)
    run_state_machine_as_test(BreakerAgainstModel, settings=alike_each_time)
    assert set(BreakerAgainstModel.visited) == PAIRS
