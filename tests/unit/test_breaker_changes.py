"""What a breaker tells of its changes of state: to whoever asks after its own calls, and to listeners."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from utils.resilience.breaker import Breaker, BreakerState, ChangeCause, Permit, StateChange
from utils.resilience.breaker_policy import BreakerPolicy
from utils.state_store import StateStore

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
POLICY = BreakerPolicy(failure_threshold=1, open_s=1.0, max_open_s=1.0)


def admitted(breaker: Breaker, now: float) -> Permit:
    permit = breaker.admit(now)
    assert isinstance(permit, Permit)
    return permit


def circled(breaker: Breaker, now: float) -> None:
    """Three changes: open, half-open, closed."""
    admitted(breaker, now).fail(now)
    admitted(breaker, now + 1.0).succeed(now + 1.0)


@contextmanager
def stores(path: Path, wall: Callable[[], float]) -> Iterator[tuple[StateStore, StateStore]]:
    """Those of two processes."""
    with (
        StateStore(path, wall=wall, clock=lambda: 0.0) as here,
        StateStore(path, wall=wall, clock=lambda: 0.0) as there,
    ):
        yield here, there


def test_whoever_drives_an_attempt_learns_what_its_own_calls_have_changed() -> None:
    breaker = Breaker(POLICY)
    seen = breaker.generation
    assert seen == 0
    permit = admitted(breaker, 0.0)
    assert breaker.changes_since(seen) == ()
    permit.fail(0.5)
    opened = StateChange(CLOSED, OPEN, ChangeCause.FAILURES_IN_A_ROW, 0.5, 1, 1.0)
    assert breaker.changes_since(seen) == (opened,)
    assert breaker.changes_since(seen) == (opened,), "asking takes nothing away"
    seen = breaker.generation
    assert seen == opened.generation
    assert breaker.changes_since(seen) == ()
    probe = admitted(breaker, 1.5)
    probe.first_content(1.75)
    probe.succeed(2.0)
    assert breaker.changes_since(seen) == (
        StateChange(OPEN, HALF_OPEN, ChangeCause.OPEN_TIME_PASSED, 1.5, 2, 0.0),
        StateChange(HALF_OPEN, CLOSED, ChangeCause.PROBE_SUCCEEDED, 1.75, 3, 0.0),
    )
    assert [change.generation for change in breaker.changes_since(0)] == [1, 2, 3]
    assert breaker.changes_since(99) == ()


def test_only_the_newest_sixteen_changes_are_kept() -> None:
    breaker = Breaker(POLICY)
    for i in range(7):
        circled(breaker, 10.0 * i)
    assert breaker.generation == 21
    assert [change.generation for change in breaker.changes_since(0)] == list(range(6, 22))
    assert [change.generation for change in breaker.changes_since(18)] == [19, 20, 21]


def test_a_change_that_another_process_made_is_learned_at_the_next_admission(tmp_path: Path) -> None:
    now = [0.0]
    path = tmp_path / "state.sqlite3"
    with stores(path, lambda: 1.7e9 + now[0]) as (here, there):
        ours, theirs = (Breaker(POLICY, store=store, key="k") for store in (here, there))
        admitted(theirs, 0.0).fail(0.0)
        now[0] = 0.25
        assert ours.changes_since(0) == ()
        ours.admit(0.25)
        (change,) = ours.changes_since(0)
        assert (change.before, change.after, change.cause, change.at_s) == (
            CLOSED,
            OPEN,
            ChangeCause.OTHER_PROCESS,
            0.25,
        )
        assert change.open_for_s == pytest.approx(0.75, abs=1e-5)
        now[0] = 1.25
        admitted(theirs, 1.25).succeed(1.25)
        ours.admit(1.5)
        (change,) = ours.changes_since(change.generation)
        assert (change.before, change.after, change.cause) == (OPEN, CLOSED, ChangeCause.OTHER_PROCESS)


def test_a_late_report_learns_that_another_process_has_decided(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    with stores(path, lambda: 1.7e9) as (here, there):
        ours, theirs = (Breaker(POLICY, store=store, key="k") for store in (here, there))
        late = admitted(ours, 0.0)
        admitted(theirs, 0.0).fail(0.0)
        late.fail(0.0)
        assert [change.cause for change in ours.changes_since(0)] == [ChangeCause.OTHER_PROCESS]


def test_a_listener_is_removed_again_and_no_other_with_it() -> None:
    breaker = Breaker(POLICY)
    heard: dict[str, list[int]] = {"first": [], "twice": [], "last": []}

    def twice(change: StateChange) -> None:
        heard["twice"].append(change.generation)

    remove_first = breaker.add_listener(lambda change: heard["first"].append(change.generation))
    remove_one, remove_other = breaker.add_listener(twice), breaker.add_listener(twice)
    breaker.add_listener(lambda change: heard["last"].append(change.generation))
    admitted(breaker, 0.0).fail(0.0)
    remove_one()
    remove_one()
    admitted(breaker, 1.0)
    remove_other()
    remove_first()
    circled(breaker, 1000.0)
    assert heard["first"] == [1, 2]
    assert heard["twice"] == [1, 1, 2]
    assert heard["last"] == list(range(1, breaker.generation + 1))


def test_a_listener_may_remove_itself_while_it_listens() -> None:
    breaker = Breaker(POLICY)
    heard: list[int] = []

    def once(change: StateChange) -> None:
        heard.append(change.generation)
        remove()

    remove = breaker.add_listener(once)
    circled(breaker, 0.0)
    assert heard == [1]
    assert [change.generation for change in breaker.changes_since(0)] == [1, 2, 3]


class Interrupted(int):
    """A generation; while it is asked whether a change came after it, another thread changes the state or must wait."""

    interrupt: Callable[[], None]

    def __lt__(self, other: int) -> bool:  # what `change.generation > generation` asks
        self.interrupt()
        return int(self) < int(other)


class WatchedLock:
    """Tells when somebody has to wait for it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.stopped = threading.Event()

    def __enter__(self) -> None:
        if not self.lock.acquire(blocking=False):
            self.stopped.set()
            self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def test_a_thread_that_changes_the_state_waits_for_one_that_asks() -> None:
    breaker, lock = Breaker(POLICY), WatchedLock()
    breaker._lock = breaker._log._lock = lock  # type: ignore[assignment]

    def change() -> None:
        circled(breaker, 10.0)
        lock.stopped.set()

    def interrupt() -> None:
        if not other.ident:
            other.start()
        assert lock.stopped.wait(10.0)

    circled(breaker, 0.0)
    other, seen = threading.Thread(target=change), Interrupted(0)
    seen.interrupt = interrupt
    assert [change.generation for change in breaker.changes_since(seen)] == [1, 2, 3]
    other.join(10.0)
    assert [change.generation for change in breaker.changes_since(3)] == [4, 5, 6]
