"""What breakers of several processes share, over every store: the memory and the file must behave alike."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.resilience.breaker import Breaker, BreakerState, ChangeCause, Permit, Refused, StateChange
from utils.resilience.breaker_policy import BreakerPolicy
from utils.resilience.breaker_store import BreakerStore, MemoryStore, SharedState, merged
from utils.resilience.target_states import TargetStates
from utils.run_context import EMBEDDED, Target
from utils.state_store import StateStore

POLICY = BreakerPolicy(failure_threshold=3, open_s=10.0, max_open_s=40.0, permit_s=5.0)


class Machine:
    """One machine with any number of processes: each has a breaker and a clock of its own."""

    def __init__(self, open_store: Callable[[Callable[[], float]], BreakerStore]) -> None:
        self.now = 0.0
        self._open_store = open_store
        self._offsets: dict[int, float] = {}

    def store(self) -> BreakerStore:
        return self._open_store(lambda: 1.7e9 + self.now)

    def process(self, policy: BreakerPolicy = POLICY) -> Breaker:
        breaker = Breaker(policy, store=self.store(), key="target")
        self._offsets[id(breaker)] = 1000.0 * len(self._offsets)
        return breaker

    def time(self, breaker: Breaker) -> float:
        """The instant, by the clock of that process."""
        return self.now + self._offsets[id(breaker)]

    def admit(self, breaker: Breaker) -> Permit:
        answer = breaker.admit(self.time(breaker))
        assert isinstance(answer, Permit)
        return answer

    def refusal(self, breaker: Breaker) -> Refused:
        answer = breaker.admit(self.time(breaker))
        assert isinstance(answer, Refused)
        return answer

    def fail(self, breaker: Breaker, times: int = 1) -> None:
        for _ in range(times):
            self.admit(breaker).fail(self.time(breaker))


@pytest.fixture(params=["memory", "file"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    with ExitStack() as stack:
        in_memory: list[MemoryStore] = []

        def open_store(clock: Callable[[], float]) -> BreakerStore:
            if request.param == "file":
                path = tmp_path / "state" / "state.sqlite3"
                file = stack.enter_context(StateStore(path, wall=clock, clock=lambda: 0.0))
                stack.callback(lambda: warnings.append(file.take_warning()))
                return file
            in_memory[:] = in_memory or [MemoryStore(clock)]
            return in_memory[0]

        warnings: list[str | None] = []
        yield Machine(open_store)
    assert not any(warnings)


def state(breaker: Breaker) -> str:
    return breaker.statistics().state.value


def test_a_second_process_fails_fast_while_the_target_is_open(machine: Machine) -> None:
    first, second = machine.process(), machine.process()
    machine.fail(first, 3)
    machine.now = 4.0
    assert machine.refusal(second).retry_after_s == pytest.approx(6.0, abs=1e-5)
    assert machine.refusal(machine.process()).retry_after_s == pytest.approx(6.0, abs=1e-5)


def test_failures_in_a_row_count_over_all_processes(machine: Machine) -> None:
    machine.fail(machine.process())
    machine.fail(machine.process())
    assert isinstance(machine.process().admit(0.0), Permit)
    machine.fail(machine.process())
    assert machine.refusal(machine.process()).retry_after_s == pytest.approx(10.0, abs=1e-5)


def test_a_success_in_another_process_ends_the_row(machine: Machine) -> None:
    first, second = machine.process(), machine.process()
    machine.fail(first, 2)
    machine.admit(second).succeed(machine.time(second))
    machine.fail(first)
    assert state(first) == "closed"
    assert first.statistics().failures_in_a_row == 1


def test_a_row_of_failures_is_forgotten_after_the_window(machine: Machine) -> None:
    machine.fail(machine.process(), 2)
    machine.now = 61.0
    late = machine.process()
    machine.fail(late)
    assert late.statistics().failures_in_a_row == 1


@pytest.mark.parametrize("permits", [1, 3])
def test_all_processes_together_have_no_more_probes_than_one_may_have(machine: Machine, permits: int) -> None:
    policy = BreakerPolicy(failure_threshold=1, open_s=10.0, permit_s=5.0, half_open_permits=permits)
    processes = [machine.process(policy) for _ in range(6)]
    machine.fail(processes[0])
    machine.now = 10.0
    answers = [process.admit(machine.time(process)) for process in processes for _ in range(2)]
    assert sum(isinstance(answer, Permit) for answer in answers) == permits
    assert all(0.0 < answer.retry_after_s <= 5.00001 for answer in answers if isinstance(answer, Refused))


def test_a_probe_that_died_with_its_process_expires(machine: Machine) -> None:
    first, second = machine.process(), machine.process()
    machine.fail(first, 3)
    machine.now = 10.0
    machine.admit(first)
    assert machine.refusal(second).retry_after_s == pytest.approx(5.0, abs=1e-5)
    machine.now = 15.001
    machine.admit(second).first_content(machine.time(second))
    assert state(second) == "closed"
    machine.admit(first)
    assert state(first) == "closed"


@pytest.mark.parametrize("outcome", ["release", "cool_down"])
def test_a_probe_without_a_verdict_frees_its_place_for_the_others(machine: Machine, outcome: str) -> None:
    first, second = machine.process(), machine.process()
    machine.fail(first, 3)
    machine.now = 10.0
    probe = machine.admit(first)
    assert machine.refusal(second)
    if outcome == "release":
        probe.release(machine.time(first))
    else:
        probe.cool_down(machine.time(first), 2.0)
        assert machine.refusal(second).is_cooldown
        machine.now = 12.0
    machine.admit(second)


def test_a_cooldown_holds_for_all_processes_and_is_no_failure(machine: Machine) -> None:
    first, second = machine.process(), machine.process()
    machine.admit(first).cool_down(machine.time(first), 7.0)
    machine.now = 3.0
    refusal = machine.refusal(second)
    assert (refusal.is_cooldown, refusal.retry_after_s) == (True, pytest.approx(4.0, abs=1e-5))
    machine.now = 7.0
    machine.admit(first)
    machine.admit(second)
    assert second.statistics().failures_in_a_row == 0


def test_openings_in_a_row_count_over_all_processes(machine: Machine) -> None:
    machine.fail(machine.process(), 3)
    waits = []
    for _ in range(4):
        machine.now += 10.0 if not waits else waits[-1]
        prober = machine.process()
        machine.fail(prober)
        waits.append(machine.refusal(machine.process()).retry_after_s)
    assert waits == pytest.approx([20.0, 40.0, 40.0, 40.0], abs=1e-4)


def test_late_results_of_a_process_that_slept_through_change_nothing(machine: Machine) -> None:
    sleeper, other = machine.process(), machine.process()
    late = [machine.admit(sleeper) for _ in range(4)]
    machine.fail(other, 3)
    machine.now = 10.0
    machine.admit(other).succeed(machine.time(other))
    for permit in late:
        permit.fail(machine.time(sleeper))
    assert state(sleeper) == "closed"
    assert sleeper.statistics().opened == 0
    machine.admit(other)
    assert other.statistics().failures_in_a_row == 0


def test_whoever_decides_second_believes_the_first(machine: Machine) -> None:
    first, second = machine.process(), machine.process()
    changes: list[StateChange] = []
    second.add_listener(changes.append)
    with_both = [(process, machine.admit(process)) for process in (first, second) for _ in range(2)]
    machine.fail(first)
    machine.admit(second)
    for process, permit in with_both:
        permit.fail(machine.time(process))
    assert (state(first), state(second)) == ("open", "open")
    assert [change.cause for change in changes] == [ChangeCause.OTHER_PROCESS]
    machine.now = 5.0
    assert machine.refusal(second).retry_after_s == pytest.approx(5.0, abs=1e-5)
    assert first.statistics().consecutive_opens == second.statistics().consecutive_opens == 1


def test_a_probe_that_another_process_has_overtaken_changes_nothing(machine: Machine) -> None:
    first, second = machine.process(), machine.process()
    machine.fail(first, 3)
    machine.now = 10.0
    slow_probe = machine.admit(first)
    slow_probe.keep_alive(14.0)
    machine.now = 15.5
    machine.fail(second)
    slow_probe.first_content(machine.time(first))
    assert (state(first), state(second)) == ("open", "open")
    slow_probe.fail(machine.time(first))
    assert machine.refusal(first).retry_after_s == pytest.approx(20.0, abs=1e-5)
    assert first.statistics().consecutive_opens == 2


def test_a_new_generation_frees_the_places_of_the_one_before(machine: Machine) -> None:
    policy = BreakerPolicy(failure_threshold=1, open_s=10.0, permit_s=100.0)
    first, second = machine.process(policy), machine.process(policy)
    machine.fail(first)
    machine.now = 10.0
    machine.fail(first)
    machine.now = 30.0
    machine.admit(second)


def test_a_whole_answer_anywhere_ends_the_openings_in_a_row(machine: Machine) -> None:
    first, second = machine.process(), machine.process()
    machine.fail(first, 3)
    machine.now = 10.0
    probe = machine.admit(first)
    probe.first_content(machine.time(first))
    machine.admit(second)
    probe.succeed(machine.time(first))
    machine.fail(second, 3)
    assert machine.refusal(second).retry_after_s == pytest.approx(10.0, abs=1e-5)


def test_what_a_server_asks_for_late_is_still_told_to_the_others(machine: Machine) -> None:
    first, second = machine.process(), machine.process()
    late = machine.admit(first)
    machine.fail(first, 3)
    late.fail(machine.time(first), retry_after_s=25.0)
    refusal = machine.refusal(second)
    assert (refusal.is_cooldown, refusal.retry_after_s) == (True, pytest.approx(25.0, abs=1e-5))


@pytest.mark.parametrize("report", ["429", "late failure"])
def test_what_a_server_asks_for_does_not_end_the_row_that_others_count(machine: Machine, report: str) -> None:
    first, second = machine.process(), machine.process()
    late = machine.admit(first)
    if report == "late failure":
        machine.fail(second, 3)
        machine.now = 10.0
        machine.admit(second).succeed(machine.time(second))
        machine.admit(first)
    machine.fail(second, 2)
    if report == "429":
        late.cool_down(machine.time(first), 1.0)
    else:
        late.fail(machine.time(first), retry_after_s=1.0)
    machine.now += 1.0
    machine.fail(machine.process())
    assert not machine.refusal(machine.process()).is_cooldown


def test_threads_with_one_store_have_no_more_probes_than_permitted(machine: Machine) -> None:
    store = machine.store()
    policy = BreakerPolicy(failure_threshold=1, open_s=10.0)
    breakers = [Breaker(policy, store=store, key="target") for _ in range(2)]
    permit = breakers[0].admit(0.0)
    assert isinstance(permit, Permit)
    permit.fail(0.0)
    machine.now = 10.0
    if isinstance(store, MemoryStore):  # made for one thread
        breakers = breakers[:1]
    answers: list[Permit | Refused] = []
    threads = [
        threading.Thread(target=lambda b=b: answers.append(b.admit(10.0))) for b in breakers * (20 // len(breakers))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5.0)
    assert len(answers) == 20
    assert sum(isinstance(answer, Permit) for answer in answers) == 1


def test_the_embedded_model_is_nobody_elses(machine: Machine) -> None:
    store = machine.store()
    for target, is_shared in ((Target(EMBEDDED, "m"), False), (Target("http://h/v1", "m"), True)):
        one, other = (TargetStates(BreakerPolicy(failure_threshold=1), store=store).breaker(target) for _ in range(2))
        machine.now = 0.0
        permit = one.admit(0.0)
        assert isinstance(permit, Permit)
        permit.fail(0.0)
        assert one.statistics().state is BreakerState.OPEN
        assert isinstance(other.admit(0.0), Refused) == is_shared


STATES = st.builds(
    SharedState,
    generation=st.integers(0, 4),
    is_open=st.booleans(),
    open_for_s=st.floats(0.0, 50.0),
    consecutive_opens=st.integers(0, 5),
    cooldown_for_s=st.floats(0.0, 50.0),
    failures_in_a_row=st.integers(0, 5),
    failures_for_s=st.floats(0.1, 50.0),
)


@given(STATES, STATES, st.integers(0, 4), st.booleans())
def test_only_an_offer_that_knows_what_stands_replaces_it(
    standing: SharedState, offered: SharedState, expected: int, ends_row: bool
) -> None:
    result, is_accepted = merged(standing, offered, expected, ends_row=ends_row)
    assert is_accepted == (expected == standing.generation)
    assert result.generation == (offered if is_accepted else standing).generation
    is_new = is_accepted and offered.generation != expected
    assert (result.is_open, result.open_for_s) == (
        (offered if is_new else standing).is_open,
        (offered if is_new else standing).open_for_s,
    )
    in_a_row = [(s.failures_in_a_row, s.failures_for_s, s.consecutive_opens) for s in (result, standing, offered)]
    ends_it = ends_row and is_accepted and not is_new
    assert in_a_row[0] == (in_a_row[2] if is_new else (0, 0.0, 0) if ends_it else in_a_row[1])
    assert result.cooldown_for_s == max(standing.cooldown_for_s, offered.cooldown_for_s)
    assert merged(None, offered, expected, ends_row=ends_row) == (offered, True)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("lpfar"), STATES, st.sampled_from([0.0, 1.0, 5.0, 20.0])), max_size=12))
def test_the_file_and_the_memory_answer_alike(tmp_path_factory: pytest.TempPathFactory, steps: list) -> None:
    now = [1.7e9]
    path = tmp_path_factory.mktemp("state") / "state.sqlite3"
    memory = MemoryStore(lambda: now[0])
    with StateStore(path, wall=lambda: now[0], clock=lambda: 0.0) as file:
        tokens: list[tuple[str, str]] = []
        for what, offered, wait_s in steps:
            now[0] += wait_s
            if what == "l":
                assert_alike(file.load("k"), memory.load("k"))
            elif what == "p":
                expected = offered.generation - offered.is_open
                how = {"expected": expected, "ends_row": offered.failures_in_a_row > 2}
                assert_alike(*(store.publish("k", offered, **how) for store in (file, memory)))
            elif what == "f":
                how = {"generation": offered.generation, "remembered_s": 30.0}
                assert_alike(file.add_failure("k", **how), memory.add_failure("k", **how))
            elif what == "a":
                options = {"generation": offered.generation, "limit": 2, "ttl_s": 5.0}
                one, other = file.acquire_probe("k", **options), memory.acquire_probe("k", **options)
                assert (one.token is None) == (other.token is None)
                assert one.wait_s == pytest.approx(other.wait_s, abs=1e-4)
                if one.token is not None and other.token is not None:
                    tokens.append((one.token, other.token))
            elif tokens:
                ours, theirs = tokens.pop(0)
                file.release_probe("k", ours)
                memory.release_probe("k", theirs)
        assert file.take_warning() is None


def assert_alike(one: SharedState | None, other: SharedState | None) -> None:
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        for name in SharedState.__slots__:
            assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-4), name
