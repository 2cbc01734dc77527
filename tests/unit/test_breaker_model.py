"""The breaker against a model of it that keeps everything and computes everything anew."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

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

    def enter(self, state: str, now: float) -> None:
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


class BreakerAgainstModel(RuleBasedStateMachine):
    """Any order of calls, contents, outcomes and pauses: both say the same."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(POLICY)
        self.model = Model()
        self.now = 1000.0
        self.calls: list[Call] = []
        self.counts = dict.fromkeys(
            ("admitted", "refused", "succeeded", "failed", "rate_limited", "released", "slow"), 0
        )

    @rule(quarters=st.integers(1, 30))
    def wait(self, quarters: int) -> None:
        self.now += quarters / 4

    @rule()
    def wait_as_told(self) -> None:
        self.now += self.model.wait(self.now)

    @precondition(lambda self: self.model.wait(self.now) == 0.0)
    @rule(outcome=st.sampled_from(["succeed", "fail"]), count=st.integers(1, 3), late=st.booleans())
    def calls_that_end_alike(self, outcome: str, count: int, late: bool) -> None:
        for _ in range(count):
            before = len(self.calls)
            self.admit(1)
            if late:
                self.now += 2.5
            if len(self.calls) > before:
                self.say_content(self.calls[-1]) if late else None
                self.say_end(self.calls.pop(), outcome, None)

    @rule(count=st.integers(1, 4))
    def admit(self, count: int) -> None:
        for _ in range(count):
            wait_s = self.model.wait(self.now)
            answer = self.breaker.admit(self.now)
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

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), is_first=st.booleans())
    def content(self, data: st.DataObject, is_first: bool) -> None:
        call = self.calls[data.draw(st.integers(0, len(self.calls) - 1))]
        if is_first or call.slow is not None:
            self.say_content(call)

    @precondition(lambda self: self.calls)
    @rule(
        data=st.data(),
        outcome=st.sampled_from(["succeed", "fail", "fail", "fail", "release", "cool_down"]),
        asked=st.sampled_from([None, None, 2.0, 100.0]),
    )
    def end(self, data: st.DataObject, outcome: str, asked: float | None) -> None:
        call = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        self.say_end(call, outcome, asked)

    def say_content(self, call: Call) -> None:
        was_slow = call.slow
        call.permit.first_content(self.now)
        call.permit.keep_alive(self.now)
        self.model.content(call, self.now)
        self.counts["slow"] += was_slow is None and call.slow is True

    def say_end(self, call: Call, outcome: str, asked: float | None) -> None:
        if outcome == "fail":
            call.permit.fail(self.now, retry_after_s=asked)
        elif outcome == "cool_down":
            call.permit.cool_down(self.now, asked)
        else:
            asked = None
            getattr(call.permit, outcome)(self.now)
        self.model.end(call, outcome, self.now, asked)
        name = {"succeed": "succeeded", "fail": "failed", "release": "released", "cool_down": "rate_limited"}[outcome]
        self.counts[name] += 1

    @precondition(lambda self: self.calls)
    @rule()
    def forget_a_permit(self) -> None:
        self.calls.pop(0)

    @invariant()
    def both_say_the_same(self) -> None:
        figures, model = self.breaker.statistics(self.now), self.model
        assert figures.state.value == model.state
        assert figures.generation == model.period
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
TestBreakerAgainstModel.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
