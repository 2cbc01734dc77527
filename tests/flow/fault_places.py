"""Every kind of fault at every place of an answer, on real sockets: complete and exact, or a typed error in time.

    python -m tests.flow.fault_places [--seeds 5]

Kinds: `utils.failures.faults`. Places: before the headers, before the first content, mid-stream, at the end. Targets:
one that repeats itself, one that is asked in words to go on, one with a good fallback. Once in the first attempt, once
in all of them, and, where it can come before any content, once while an answer that was cut goes on. What has to come
of each stands in `fault_cases`. Ends with 1 at the first run that ends otherwise, hangs, leaves a connection open or
a traceback.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import queue
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from tests.flow.fault_cases import NOT_APPLICABLE, PLACES, VARIANTS, WAIT_S, Case, Ending, cases
from tests.flow.harness import FlowRun, run_flow
from tests.support.continuing_server import ContinuingServer
from tests.support.scripted_server import wait_until
from utils.errors import FirstTokenTimeout, IdleTimeout, InternalError, Unreachable
from utils.events import FellBack, Flagged, Interrupted, Retrying, TerminalEvent, TextDelta
from utils.failure_simulator import FailurePlan, FaultTransport, MarkingBackend, parse_plan
from utils.failures.faults import KINDS
from utils.openai_stream import OpenAIBackend
from utils.resilience.continuation import Capabilities
from utils.resilience.upstream import Upstream
from utils.run_context import Parameters, Target

__all__ = ["BEGUN_AGAIN", "Violation", "play", "play_all"]

KEY = "sk-test-0123456789"
SLACK_S = 1.5
"""For the work itself, on a machine that does other things too. No deadline is as long."""
HANGS_S = 30.0
BEGUN_AGAIN = "begun again, as the machine was late"
_AGAIN = 2
"""A run that is late for no reason of its plan is begun again so often: what is wrong is wrong each time."""
_TIMES_OUT = (FirstTokenTimeout, IdleTimeout, Unreachable)
_WORKING, _WAITING = 3, 8
"""Runs at the same time: of those that have to do, and of those that wait. Apart, or who has much to do would make
others late whose deadlines are short."""


class Violation(AssertionError):
    """A run did not end as it has to."""


class _MachineLate(Violation):
    """A deadline passed that no fault is to blame for, or more time than allowed: this machine may have been busy."""


class _Backend(OpenAIBackend):
    """The backend with the plan in its transport, as the program puts it together. Closes *behind* it, too."""

    def __init__(self, case: Case, base_url: str, plan: FailurePlan, behind: OpenAIBackend | None) -> None:
        super().__init__(
            base_url=base_url,
            api_key=KEY,
            connect_timeout_s=case.deadline_s / 2,
            wrap_transport=lambda inner: FaultTransport(inner, plan),
        )
        self._behind = behind
        inner: Any = SimpleNamespace(open_chat=super().open_chat)
        self._marking = MarkingBackend(inner)

    async def open_chat(self, *args: Any, **options: Any) -> Any:
        return await self._marking.open_chat(*args, **options)

    async def aclose(self) -> None:
        await super().aclose()
        if self._behind is not None:
            await self._behind.aclose()


def play(case: Case) -> tuple[str, int]:
    """Run *case*; how it ended, in words for the count, and how often it was begun again because the machine was late.

    Raises Violation, or whatever the run raised.
    """
    for again in range(_AGAIN):
        try:
            return _played_once(case), again
        except _MachineLate:
            pass
    return _played_once(case), _AGAIN


def _played_once(case: Case) -> str:
    plan = parse_plan(case.plan)
    with ExitStack() as stack:
        target = stack.enter_context(ContinuingServer(case.answer))
        fallbacks: list[Upstream] = []
        behind: OpenAIBackend | None = None
        servers = [target]
        if case.mode == "fallback":
            other = stack.enter_context(ContinuingServer(case.answer))
            servers.append(other)
            behind = OpenAIBackend(base_url=other.base_url, api_key=KEY)
            fallbacks.append(Upstream(Target(other.base_url, "other-model", api_key=KEY), behind))
        run = run_flow(
            target.base_url,
            retries=case.retries,
            deterministic=case.is_deterministic,
            deadline_s=case.deadline_s,
            api_key=KEY,
            parameters=Parameters(max_tokens=case.max_tokens),
            backend=_Backend(case, target.base_url, plan, behind),
            capabilities=Capabilities(replay=True, prefill=None, continue_=not case.is_deterministic),
            fallbacks=fallbacks,
        )
        wait_until(lambda: not any(server.open_connections() for server in servers))
        _check(case, run, plan, asked=sum(server.chats for server in servers))
    return _ending(case, run)


def _check(case: Case, run: FlowRun, plan: FailurePlan, *, asked: int) -> None:
    report, error = run.report, run.report.error
    causes = [*(event.cause for event in run.events if isinstance(event, Retrying | Interrupted)), error]
    late = [cause for cause in causes if isinstance(cause, _TIMES_OUT) and not cause.simulated]
    if late:
        raise _MachineLate(f"no fault is to blame for this: {late[0].message}")
    limit_s = case.limit_s + SLACK_S
    if run.seconds > limit_s:
        raise _MachineLate(f"took {run.seconds:.2f} s, {limit_s:.2f} s are allowed")
    whole = case.answer.text
    happened = Ending(report.exit_code, error.code if error else "", report.text)
    if not any(_is_met(happened, ending, whole) for ending in case.endings):
        wanted = " or ".join(map(str, case.endings))
        raise Violation(f"ended with {happened}\n  instead of {wanted}")
    events = run.events
    _demand(plan.injected > 0, "the fault did not happen")
    shown = "".join(event.text for event in events if isinstance(event, TextDelta))
    _demand(shown == report.text, f"shown was another text than reported: {shown!r}")
    _demand(sum(isinstance(event, TerminalEvent) for event in events) == 1, "not exactly one terminal event")
    doubled = [event for event in events if isinstance(event, Flagged) and event.rule == "duplicated_event"]
    _demand(len(doubled) == case.duplicates, f"{len(doubled)} doubled events were flagged")
    _demand((error is None) == (report.outcome == "complete"), f"the outcome is {report.outcome}")
    if error is not None:
        _demand(bool(error.message) and "\n" not in error.message, f"the message is {error.message!r}")
        _demand(KEY not in f"{error.message} {error.hint}", "the key stands in the message")
        _demand(error.simulated or error.code == "resume_diverged", "the error does not say that it was asked for")
        _demand(not isinstance(error, InternalError), "a bug of ours")
    recovered = sum(isinstance(event, Retrying | FellBack) for event in events)
    attempts = 1 + recovered
    _demand(not case.is_borne or attempts == 1, f"{attempts} attempts for what one has to bear")
    _demand(asked <= attempts, f"{asked} requests in {attempts} attempts")
    _demand(case.is_borne or error is not None or recovered > 0, "complete without another attempt")
    _demand(
        case.is_borne or not report.text or any(isinstance(e, Interrupted) for e in events) or not _was_cut(case, run),
        "text was shown before the failure, and no event tells of the interruption",
    )


def _was_cut(case: Case, run: FlowRun) -> bool:
    """Whether the first failure came after text."""
    first = next((n for n, event in enumerate(run.events) if isinstance(event, Retrying | FellBack)), len(run.events))
    return any(isinstance(event, TextDelta) for event in run.events[:first])


def _is_met(happened: Ending, ending: Ending, whole: str) -> bool:
    if (happened.exit_code, happened.code) != (ending.exit_code, ending.code):
        return False
    if ending.text is not None:
        return happened.text == ending.text
    return bool(happened.text) and whole.startswith(happened.text or "")


def _demand(is_so: bool, complaint: str) -> None:
    if not is_so:
        raise Violation(complaint)


def _ending(case: Case, run: FlowRun) -> str:
    error = run.report.error
    if error is not None:
        return f"exit {run.report.exit_code} {error.code}"
    return "complete, one event doubled and flagged" if case.duplicates else "complete and exact"


# -- all of them -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Played:
    case: Case
    ending: str = ""
    again: int = 0
    error: Exception | None = None


def play_all(wanted: Iterable[Case]) -> Counter[str]:
    """Run the cases, a few at a time; how often each ending came, and `BEGUN_AGAIN`. Raises Violation at the first one
    that ends as it must not.
    """
    working: list[Case] = []
    waiting: list[Case] = []
    for case in wanted:
        (waiting if case.deadline_s == WAIT_S else working).append(case)
    with _no_traceback() as tracebacks:
        return _played(working, _WORKING, tracebacks) + _played(waiting, _WAITING, tracebacks)


def _played(wanted: list[Case], workers: int, tracebacks: list[str]) -> Counter[str]:
    todo: queue.SimpleQueue[Case | None] = queue.SimpleQueue()
    done: queue.SimpleQueue[_Played] = queue.SimpleQueue()
    begun: dict[int, tuple[Case, float]] = {}
    for case in wanted:
        todo.put(case)

    def work(number: int) -> None:
        while (case := todo.get()) is not None:
            begun[number] = case, time.monotonic()
            try:
                done.put(_Played(case, *play(case)))
            except Exception as error:
                done.put(_Played(case, error=error))
            del begun[number]

    # Daemons: a run that hangs must not keep the process.
    for number in range(workers):
        threading.Thread(target=work, args=(number,), daemon=True).start()
    endings: Counter[str] = Counter()
    try:
        for _ in wanted:
            played = _next(done, begun)
            if played.error is not None:
                complaint = f"{type(played.error).__name__}: {played.error}"
                raise Violation(_told(played.case, complaint)) from played.error
            if tracebacks:
                raise Violation(_told(played.case, f"or one that ran beside it left a traceback:\n{tracebacks[0]}"))
            endings[played.ending] += 1
            endings[BEGUN_AGAIN] += played.again
    finally:
        for _ in range(workers):
            todo.put(None)
    return endings


def _next(done: queue.SimpleQueue[_Played], begun: dict[int, tuple[Case, float]]) -> _Played:
    while True:
        try:
            return done.get(timeout=1.0)
        except queue.Empty:
            for case, since_s in list(begun.values()):
                if time.monotonic() - since_s > case.limit_s + HANGS_S:
                    raise Violation(_told(case, f"hangs: no end after {HANGS_S:g} s more than allowed")) from None


def _told(case: Case, complaint: str) -> str:
    return f"{case.name}\n  plan: {case.plan}\n  retries: {case.retries}\n  {complaint}"


@contextmanager
def _no_traceback() -> Iterator[list[str]]:
    """Collects what would have been printed as a traceback by somebody who swallows exceptions."""
    seen: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(self.format(record))

    handler = Handler(logging.ERROR)
    hooks = sys.unraisablehook, threading.excepthook
    logging.getLogger().addHandler(handler)
    sys.unraisablehook = lambda raised: seen.append(f"{raised.exc_value!r} in {raised.object!r}")
    threading.excepthook = lambda raised: seen.append(f"{raised.exc_value!r} in a thread")
    try:
        yield seen
    finally:
        logging.getLogger().removeHandler(handler)
        sys.unraisablehook, threading.excepthook = hooks


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="so many texts, places and values [5]")
    seeds = parser.parse_args().seeds
    assert VARIANTS.keys() == KINDS.keys(), "a kind of fault is missing here"
    warnings.simplefilter("error")
    started_s = time.monotonic()
    wanted = list(itertools.chain.from_iterable(cases(seed) for seed in range(seeds)))
    try:
        endings = play_all(wanted)
    except Violation as violation:
        print(f"VIOLATION: {violation}", file=sys.stderr)
        return 1
    print(f"{len(KINDS)} kinds of faults, {seeds} seeds, {time.monotonic() - started_s:.0f} s")
    pairs = {(case.kind, case.place) for case in wanted}
    for place in PLACES:
        runs = sum(case.place == place for case in wanted)
        print(f"  {place:20} {sum(where == place for _, where in pairs):3} kinds {runs:5} runs")
    begun_again = endings.pop(BEGUN_AGAIN, 0)
    for ending, times in sorted(endings.items(), key=lambda row: (row[0].startswith("exit"), row[0])):
        print(f"  {ending:40} {times:5}")
    print(f"  {'all runs, as they have to end':40} {endings.total():5}")
    print(f"  {BEGUN_AGAIN:40} {begun_again:5}")
    print(f"not applicable: {sum(map(len, NOT_APPLICABLE.values()))} of {len(KINDS) * len(PLACES)} pairs")
    by_places = {
        places: [kind for kind in KINDS if NOT_APPLICABLE[kind] == places] for places in NOT_APPLICABLE.values()
    }
    for places, kinds in by_places.items():
        print(f"  {', '.join(kinds)}: not {', '.join(places)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
