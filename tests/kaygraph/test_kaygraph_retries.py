"""Node: attempts, waiting, fallback; the same for synchronous and asynchronous nodes."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from kaygraph import AsyncNode, Graph, MetricsNode, Node


class Flaky:
    """Fails the first `failures` calls of exec; writes down what happens."""

    failures = 0

    def note(self, what: Any) -> None:
        self.log = [*getattr(self, "log", []), what]

    def attempt(self, prep_res: Any) -> str:
        self.note(self.cur_retry)  # type: ignore[attr-defined]
        if len(self.log) <= self.failures:
            raise ConnectionError(f"failure {len(self.log)}")
        return "result"

    def exec(self, prep_res: Any) -> str:
        return self.attempt(prep_res)

    async def exec_async(self, prep_res: Any) -> str:
        return self.attempt(prep_res)

    def post(self, shared: Any, prep_res: Any, exec_res: Any) -> None:
        shared["result"] = exec_res

    async def post_async(self, shared: Any, prep_res: Any, exec_res: Any) -> None:
        shared["result"] = exec_res


class Fallback:
    def exec_fallback(self, prep_res: Any, exc: Exception) -> str:
        self.note(("fallback", prep_res, str(exc), self.cur_retry))  # type: ignore[attr-defined]
        return "fallback"

    async def exec_fallback_async(self, prep_res: Any, exc: Exception) -> str:
        return Fallback.exec_fallback(self, prep_res, exc)


both = pytest.mark.parametrize("base", [Node, AsyncNode])


def build(base: type, *mixins: type, failures: int, **arguments: Any) -> Any:
    return type("Probe", (*mixins, Flaky, base), {"failures": failures})(**arguments)


def run(node: Any, shared: Any) -> Any:
    return asyncio.run(node.run_async(shared)) if isinstance(node, AsyncNode) else node.run(shared)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds waited, without waiting."""
    slept: list[float] = []

    async def sleep_async(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("time.sleep", slept.append)
    monkeypatch.setattr("asyncio.sleep", sleep_async)
    return slept


@both
@pytest.mark.parametrize(("failures", "attempts"), [(0, [0]), (1, [0, 1]), (2, [0, 1, 2])])
def test_the_first_success_wins_and_cur_retry_keeps_its_index(base: type, failures: int, attempts: list[int]) -> None:
    node, shared = build(base, failures=failures, max_retries=3), {}
    run(node, shared)
    assert node.log == attempts
    assert shared == {"result": "result"}
    assert node.cur_retry == attempts[-1]


@both
def test_max_retries_is_the_total_number_of_attempts_and_the_last_error_goes_on(base: type) -> None:
    node = build(base, failures=9, max_retries=3)
    with pytest.raises(ConnectionError, match="failure 3"):
        run(node, {})
    assert node.log == [0, 1, 2]
    assert node.cur_retry == 2


@both
def test_the_default_fallback_raises_the_same_error_object(base: type) -> None:
    error = ConnectionError("the one")

    def fail(self: Any, prep_res: Any) -> None:
        raise error

    async def fail_async(self: Any, prep_res: Any) -> None:
        raise error

    with pytest.raises(ConnectionError) as caught:
        run(type("Probe", (base,), {"exec": fail} if base is Node else {"exec_async": fail_async})(), {})
    assert caught.value is error


@both
def test_the_fallback_is_called_once_with_the_last_error_and_its_result_counts(base: type) -> None:
    node, shared = build(base, Fallback, failures=9, max_retries=2), {}
    run(node, shared)
    assert node.log == [0, 1, ("fallback", None, "failure 2", 1)]
    assert shared == {"result": "fallback"}


@both
def test_an_error_of_the_fallback_reaches_on_error(base: type) -> None:
    class Bad:
        def exec_fallback(self, prep_res: Any, exc: Exception) -> None:
            raise LookupError("fallback failed")

        async def exec_fallback_async(self, prep_res: Any, exc: Exception) -> None:
            raise LookupError("fallback failed")

        def on_error(self, shared: Any, error: Exception) -> bool:
            shared["error"] = error
            return True

    shared: dict[str, Any] = {}
    run(build(base, Bad, failures=9), shared)
    assert isinstance(shared["error"], LookupError)
    assert isinstance(shared["error"].__context__, ConnectionError)


@both
@pytest.mark.parametrize(("wait", "expected"), [(0, []), (-1, []), (2, [2, 2]), (0.25, [0.25, 0.25])])
def test_the_wait_between_attempts_is_constant(base: type, wait: float, expected: list[float], waits: Any) -> None:
    run(build(base, Fallback, failures=9, max_retries=3, wait=wait), {})
    assert waits == expected


@both
@pytest.mark.parametrize("max_retries", [0, -1])
def test_no_allowed_attempt_is_a_runtime_error_and_calls_nothing(base: type, max_retries: int) -> None:
    node = build(base, Fallback, failures=0, max_retries=max_retries)
    with pytest.raises(RuntimeError, match="write max_retries=1 for one"):
        run(node, {})
    assert not hasattr(node, "log")


@both
@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_what_ends_the_program_is_not_retried(base: type, stop: type[BaseException]) -> None:
    calls = []

    def fail(self: Any, prep_res: Any) -> None:
        calls.append(1)
        raise stop

    async def fail_async(self: Any, prep_res: Any) -> None:
        fail(self, prep_res)

    with pytest.raises(stop):
        run(type("Probe", (base,), {"exec": fail} if base is Node else {"exec_async": fail_async})(max_retries=3), {})
    assert calls == [1]


@both
@pytest.mark.parametrize("phase", ["before_prep", "prep", "after_exec", "post"])
def test_only_exec_is_retried(base: type, phase: str) -> None:
    calls = []

    def fail(self: Any, *_: Any) -> None:
        calls.append(phase)
        raise ConnectionError(phase)

    async def fail_async(self: Any, *_: Any) -> None:
        fail(self)

    is_awaited = base is AsyncNode and phase in ("prep", "post")
    name, function = (f"{phase}_async", fail_async) if is_awaited else (phase, fail)
    with pytest.raises(ConnectionError, match=phase):
        run(type("Probe", (base,), {name: function})(max_retries=3), {})
    assert calls == [phase]


def test_each_node_counts_its_own_attempts_when_one_runs_inside_another() -> None:
    class Inner(Node):
        def exec(self, prep_res: Any) -> None:
            if self.cur_retry < 2:
                raise ConnectionError

    seen = []

    class Outer(Node):
        def exec(self, prep_res: Any) -> None:
            before = self.cur_retry
            inner = Inner(max_retries=3)
            inner.run({})
            seen.append((before, self.cur_retry, inner.cur_retry))
            if self.cur_retry < 1:
                raise ConnectionError

    Outer(max_retries=2).run({})
    assert seen == [(0, 0, 2), (1, 1, 2)]


def test_cur_retry_can_be_set_by_a_node_that_drives_its_own_attempts() -> None:
    class Own(Node):
        def _exec(self, prep_res: Any) -> Any:
            self.cur_retry = self.max_retries - 1
            return self.exec(prep_res)

        def exec(self, prep_res: Any) -> int:
            return self.cur_retry

        def post(self, shared: Any, prep_res: Any, exec_res: Any) -> str:
            return str(exec_res)

    assert Own(max_retries=3).run({}) == "2"


def test_a_closed_coroutine_does_not_disturb_the_counters_of_its_closer() -> None:
    class Waiting(AsyncNode):
        async def exec_async(self, prep_res: Any) -> None:
            await asyncio.Event().wait()

    class Closer(Node):
        def exec(self, prep_res: Any) -> int:
            if self.cur_retry == 0:
                raise ConnectionError
            abandoned.close()
            return self.cur_retry

        def post(self, shared: Any, prep_res: Any, exec_res: Any) -> str:
            return str(exec_res)

    async def begin() -> Any:
        coroutine = Waiting().run_async({})
        coroutine.send(None)
        return coroutine

    abandoned = asyncio.run(begin())
    assert Closer(max_retries=2).run({}) == "1"


@both
def test_cur_retry_starts_again_at_zero_in_the_next_run(base: type) -> None:
    node = build(base, failures=1, max_retries=2)
    run(node, {})
    assert node.cur_retry == 1
    run(node, {})
    assert node.cur_retry == 0


@pytest.mark.parametrize("bases", [(Node,), (AsyncNode,), (MetricsNode, Node), (MetricsNode, AsyncNode)])
@pytest.mark.parametrize("failures", [0, 9])
def test_nothing_keeps_a_node_alive_after_its_run(bases: tuple[type, ...], failures: int) -> None:
    class Probe(Fallback, Flaky, *bases):  # type: ignore[misc]
        pass

    def run_and_forget() -> weakref.ref[Any]:
        node = Probe()
        node.failures = failures
        if isinstance(node, AsyncNode):
            # Driven by hand, so that the run happens in the context of this test and not in one of its own.
            with pytest.raises(StopIteration):
                node.run_async({}).send(None)
        else:
            node.run({})
        return weakref.ref(node)

    forgotten = run_and_forget()
    gc.collect()
    assert forgotten() is None


def test_attempts_made_in_a_graph_do_not_change_the_original() -> None:
    node = build(Node, failures=1, max_retries=2)
    Graph(start=node).run({})
    assert node.cur_retry == 0
