"""One target, many flow runs, real processes: what a breaker has found out outlives copies of nodes, and is shared."""

from __future__ import annotations

import asyncio
import copy
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from kaygraph import AsyncGraph, AsyncNode
from utils.resilience.breaker import Breaker, Permit, Refused
from utils.resilience.breaker_policy import BreakerPolicy
from utils.resilience.breaker_store import SharedState
from utils.resilience.target_states import TargetStates
from utils.run_context import Target
from utils.state_store import StateStore

ROOT = Path(__file__).resolve().parents[2]
POLICY = BreakerPolicy(failure_threshold=5, open_s=10.0, permit_s=5.0)
TARGET = Target("https://api.example/v1", "m")

# Reads commands, answers each with one line. The instant is told, so nobody waits for a clock; and a busy machine makes
# nobody give the file up.
CHILD = """
import sys
from pathlib import Path
from utils.resilience.breaker import Permit
from utils.resilience.breaker_policy import BreakerPolicy
from utils.resilience.target_states import TargetStates
from utils.run_context import Target
from utils.state_store import StateStore

now, held = 0.0, []
store = StateStore(Path(sys.argv[1]), wall=lambda: 1.7e9 + now, clock=lambda: 0.0, busy_s=10.0)
policy = BreakerPolicy(failure_threshold=5, open_s=10.0, permit_s=5.0, half_open_permits=int(sys.argv[2]))
breaker = TargetStates(policy, store=store).breaker(Target("https://api.example/v1", "m"))
for line in sys.stdin:
    what, number = line.split()
    seen, mine = breaker.generation, 5000.0 + now
    if what == "at":
        now = float(number)
    for _ in range(int(number)):
        if what in ("admit", "fail"):
            held.append(breaker.admit(mine))
        if what == "fail":
            held.pop().fail(mine)
        if what == "succeed":
            held.pop(0).succeed(mine)
        if what == "hold":
            try:
                print("holding", flush=True)
                sys.stdin.readline()
            except KeyboardInterrupt:
                held.pop().release(mine)
    held = [permit for permit in held if isinstance(permit, Permit)]
    causes = [change.cause.value for change in breaker.changes_since(seen)]
    print(len(held), breaker.statistics().state.value, *causes, flush=True)
assert store.take_warning() is None, store.take_warning()
store.close()
"""


# Takes a place for a probe, and says what it is about to do; having counted the places, it waits to be told to go on.
TAKER = """
import os, sys
from pathlib import Path
from utils.database_file import DatabaseFile
from utils.state_store import StateStore

def counted(size):
    print("counted", flush=True)
    sys.stdin.readline()
    return bytes(range(size))

def connected(self, path, connect=DatabaseFile._connect):
    connection = connect(self, path)
    connection.set_trace_callback(lambda sql: sql.startswith("BEGIN") and print("begins", flush=True))
    return connection

DatabaseFile._connect = connected
with StateStore(Path(sys.argv[1]), wall=lambda: 1.7e9, clock=lambda: 0.0, busy_s=10.0) as store:
    os.urandom = counted
    place = store.acquire_probe("k", generation=1, limit=int(sys.argv[2]), ttl_s=5.0)
    print("no place" if place.token is None else "a place", store.take_warning(), flush=True)
"""


class Process:
    """A process of its own, with a store of its own at the same state file."""

    def __init__(self, code: str, path: Path, permits: int) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-c", code, str(path), str(permits)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.limit = threading.Timer(60.0, self.popen.kill)
        """So that a process that says nothing fails its test."""
        self.limit.daemon = True
        self.limit.start()

    def say(self, command: str) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(f"{command}\n")
        self.popen.stdin.flush()

    def answer(self) -> str:
        assert self.popen.stdout is not None
        return self.popen.stdout.readline().strip()

    def ask(self, command: str) -> str:
        self.say(command)
        return self.answer()

    def end(self) -> None:
        self.limit.cancel()
        self.popen.communicate(timeout=20)


@contextmanager
def processes(path: Path, count: int, permits: int = 1, code: str = CHILD) -> Iterator[list[Process]]:
    with ExitStack() as stack:
        children = [Process(code, path, permits) for _ in range(count)]
        for child in children:
            stack.callback(child.end)
        yield children
    assert [child.popen.returncode for child in children] == [0] * count


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "state.sqlite3"


class Machine:
    """The instant, and the server, that the runs of a flow meet."""

    def __init__(self) -> None:
        self.now = 0.0
        self.is_down = True
        self.requests = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> Machine:
        return self

    def opened(self, path: Path) -> StateStore:
        return StateStore(path, wall=lambda: 1.7e9 + self.now, clock=lambda: 0.0)

    async def answer(self) -> str:
        self.requests += 1
        if self.is_down:
            raise ConnectionError
        return "an answer"


class Ask(AsyncNode[Any, str]):
    """Asks the server, if its breaker lets it."""

    def __init__(self, breaker: Breaker, machine: Machine) -> None:
        super().__init__()
        self.breaker = breaker
        self.machine = machine

    async def exec_async(self, prep_res: Any) -> str:
        permit = self.breaker.admit(self.machine.now)
        if isinstance(permit, Refused):
            return "refused"
        try:
            await self.machine.answer()
        except ConnectionError:
            permit.fail(self.machine.now)
            return "failed"
        permit.succeed(self.machine.now)
        return "answered"

    async def post_async(self, shared: Any, prep_res: Any, exec_res: str) -> str:
        shared["nodes"].append(self)
        return exec_res


class Note(AsyncNode[Any, None]):
    """Where every outcome ends."""

    def __init__(self, outcome: str) -> None:
        super().__init__()
        self.outcome = outcome

    async def post_async(self, shared: Any, prep_res: Any, exec_res: None) -> None:
        shared["outcomes"].append(self.outcome)


def flow(breaker: Breaker, machine: Machine) -> AsyncGraph:
    ask = Ask(breaker, machine)
    for outcome in ("answered", "failed", "refused"):
        ask - outcome >> Note(outcome)
    return AsyncGraph(start=ask)


def run(graph: AsyncGraph, times: int, copied: Callable[[AsyncGraph], AsyncGraph] = lambda graph: graph) -> list[str]:
    shared: dict[str, list[Any]] = {"outcomes": [], "nodes": []}
    for _ in range(times):
        asyncio.run(copied(graph).run_async(shared))
    assert len({id(node) for node in (graph.start_node, *shared["nodes"])}) == times + 1, "each run has its own copy"
    assert {id(node.breaker) for node in shared["nodes"]} == {id(graph.start_node.breaker)}
    return shared["outcomes"]


@pytest.mark.parametrize("copied", [lambda graph: graph, copy.copy, copy.deepcopy], ids=["same", "copy", "deepcopy"])
def test_ten_runs_of_a_flow_share_the_state_through_all_copies_of_its_nodes(
    copied: Callable[[AsyncGraph], AsyncGraph],
) -> None:
    machine, breaker = Machine(), Breaker(POLICY)
    graph = flow(breaker, machine)
    assert run(graph, 10, copied) == ["failed"] * 5 + ["refused"] * 5
    assert machine.requests == 5
    machine.now, machine.is_down = 10.0, False
    assert run(graph, 10, copied) == ["answered"] * 10
    assert [change.after.value for change in breaker.changes_since(0)] == ["open", "half_open", "closed"]


def test_what_ten_runs_of_a_flow_have_found_is_seen_by_a_second_process(path: Path) -> None:
    machine = Machine()
    with machine.opened(path) as store, processes(path, 1) as (second,):
        graph = flow(TargetStates(POLICY, store=store).breaker(TARGET), machine)
        assert second.ask("admit 0") == "0 closed"
        assert run(graph, 10) == ["failed"] * 5 + ["refused"] * 5
        assert second.ask("admit 1") == "0 open other_process"
        machine.now, machine.is_down = 10.0, False
        second.ask("at 10")
        assert second.ask("admit 1") == "1 half_open open_time_passed"
        assert run(graph, 1) == ["refused"], "the probe of the second process is out"
        assert second.ask("succeed 1") == "0 closed probe_succeeded"
        assert run(graph, 2) == ["answered"] * 2


def test_a_flow_sees_what_a_second_process_has_found(path: Path) -> None:
    machine = Machine()
    with machine.opened(path) as store, processes(path, 1) as (second,):
        graph = flow(TargetStates(POLICY, store=store).breaker(TARGET), machine)
        assert second.ask("fail 3") == "0 closed"
        assert run(graph, 1) == ["failed"]
        assert second.ask("fail 1") == "0 open failures_in_a_row"
        assert run(graph, 10) == ["refused"] * 10
        assert machine.requests == 1
        machine.now, machine.is_down = 10.0, False
        second.ask("at 10")
        assert run(graph, 1) == ["answered"]
        assert second.ask("admit 1") == "1 closed other_process"


@pytest.mark.parametrize("permits", [1, 2])
def test_three_processes_at_half_open_have_together_no_more_probes_than_permitted(path: Path, permits: int) -> None:
    with processes(path, 3, permits) as children:
        answers = [child.ask(f"fail {times}") for child, times in zip(children, (2, 2, 1), strict=True)]
        assert answers == ["0 closed", "0 closed", "0 open failures_in_a_row"]
        for i in range(10):
            now = 10 + 5 * i  # the open time has passed, later the probes that never reported have expired
            for child in children:
                child.ask(f"at {now}")
            before = [int(child.ask("admit 0").split()[0]) for child in children]
            for child in children:
                child.say("admit 5")
            after = [int(child.answer().split()[0]) for child in children]
            assert sum(after) - sum(before) == permits
        assert {child.ask("admit 0").split()[1] for child in children} == {"half_open"}


def test_a_process_that_looks_for_a_place_waits_for_another_that_is_about_to_take_it(path: Path) -> None:
    with StateStore(path, wall=lambda: 1.7e9) as store:
        store.publish("k", SharedState(1, is_open=True), expected=0)
    with processes(path, 1, code=TAKER) as (first,):
        assert first.answer() == "begins"
        assert first.answer() == "counted"
        with processes(path, 1, code=TAKER) as (second,):
            assert second.answer() == "begins"
            assert first.ask("go on") == "a place None"
            assert second.answer() == "no place None"


def test_ctrl_c_gives_the_place_of_a_probe_to_another_process_at_once_and_is_no_failure(path: Path) -> None:
    machine = Machine()
    with machine.opened(path) as store, processes(path, 1) as (second,):
        second.ask("fail 5")
        second.ask("at 10")
        machine.now = 10.0
        second.ask("admit 1")
        second.say("hold 1")
        assert second.answer() == "holding"
        breaker = TargetStates(POLICY, store=store).breaker(TARGET)
        assert isinstance(breaker.admit(10.0), Refused)
        second.popen.send_signal(signal.SIGINT)
        assert second.answer() == "0 half_open"
        probe = breaker.admit(10.0)
        assert isinstance(probe, Permit)
        assert breaker.statistics().consecutive_opens == 1
