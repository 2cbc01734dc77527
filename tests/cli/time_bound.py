"""No plan of failures makes a run last longer than its time: real processes, random plans out of all kinds of faults.

    python -m tests.cli.time_bound [--plans 50] [--timeout 10] [--seed 1]

Most plans meet the embedded model, whose answer is known from a run without failures; some runs ask a server that
hangs by itself. Two at a time. Ends with 1 if a run lasts more than a second longer than `--timeout` allows (which is
counted from the start of the process), ends with a traceback or with an exit code that the README does not name, shows
text that is not the beginning of the known answer, or calls itself complete with less than all of it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

from tests.cli.command_line import CommandLine
from tests.support.scripted_server import Action, Pause, Script, ScriptedServer, Send, WaitForClientClose
from tests.support.terminal import ProgramTimeout
from tests.support.wire import chunk, comment, delta, head, role, sse
from utils.embedded_model.fetch import fetch
from utils.failures.faults import ERROR_CODES, KINDS, At, Fault, Value
from utils.failures.plan import FailurePlan, RandomFaults, Step

__all__ = ["HANGS", "SLACK_S", "Ended", "Trial", "known_answer", "run_all", "trials", "untrue"]

SLACK_S = 1.0
_HANGS_S = 20.0
_EXIT_CODES = (0, 3, 65, 69, 75, 77, 78)
"""What the README's table allows for a failure of the server or the network."""
ASKED = ("--seed", "7", "--temperature", "0.7", "--max-tokens", "48", "Name three rivers and say where each one flows.")


@dataclass(frozen=True, slots=True)
class Trial:
    """One run: *plan* for `--failure-plan`, *options* besides; *hang* names the server instead of the embedded one."""

    plan: str
    options: tuple[str, ...] = ()
    hang: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a trial ended; *complaint* is "" if that is as it has to be."""

    trial: Trial
    exit_code: int
    seconds: float
    complaint: str


# -- servers that hang -----------------------------------------------------------------------------------------------

_OPENING = [Send(head() + chunk(sse(role())))]


def _for_ever(data: bytes, pause_s: float) -> Iterator[Action]:
    yield from _OPENING
    for _ in range(2_000):
        yield Send(chunk(data))
        yield Pause(pause_s)


HANGS: dict[str, Script] = {
    "silence before the headers": lambda connection: [WaitForClientClose()],
    "silence after the headers": lambda connection: [*_OPENING, WaitForClientClose()],
    "half of the headers": lambda connection: [Send(head()[:40]), WaitForClientClose()],
    "only comments": lambda connection: _for_ever(comment(), 0.05),
    "only empty pieces": lambda connection: _for_ever(sse(delta("")), 0.05),
    "silence after text": lambda connection: [*_OPENING, Send(chunk(sse(delta("Once upon ")))), WaitForClientClose()],
    "text without an end": lambda connection: _for_ever(sse(delta("and on ")), 0.1),
    "an error page without an end": lambda connection: [
        Send(head(503, content_type="text/html") + chunk(b"<html>")),
        WaitForClientClose(),
    ],
}


# -- plans -----------------------------------------------------------------------------------------------------------


def trials(count: int, rng: random.Random) -> Iterator[Trial]:
    """Random plans; each kind of fault begins one in turn, every sixth run meets a server that hangs."""
    kinds = itertools.cycle(rng.sample([*KINDS], len(KINDS)))
    hangs = itertools.cycle(HANGS)
    for number in range(count):
        if number % 6 == 5:
            plan = "ok" if rng.random() < 0.5 else str(_plan(rng, rng.choice(("refused", "stall", "drip", "status"))))
            fallback = ("--fallback", "embedded") if rng.random() < 0.3 else ()
            yield Trial(plan, (*_options(rng), *fallback), hang=next(hangs))
        else:
            yield Trial(str(_plan(rng, next(kinds))), _options(rng))


def _plan(rng: random.Random, first: str) -> FailurePlan:
    others = rng.choices([*KINDS], k=rng.randint(0, 2))
    steps = [Step(_fault(kind, rng), rng.choice((1, 1, 2, 3))) for kind in (first, *others)]
    match rng.randint(0, 3):
        case 0:
            drawn = tuple(rng.sample([kind for kind in KINDS if KINDS[kind].takes != "content type"], 5))
            steps.append(Step(RandomFaults(rng.choice((0.5, 0.9, 1.0)), rng.randint(0, 999), drawn), None))
        case 1:
            steps.append(Step(_fault(rng.choice((*_SLOW, *KINDS)), rng), None, rng.choice((1.0, 0.7))))
        case 2:
            steps[-1] = Step(steps[-1].what, None)
    return FailurePlan(steps)


_SLOW = ("stall", "drip", "connect_timeout", "read_timeout", "status") * 4


def _fault(kind: str, rng: random.Random) -> Fault:
    value: Value | None = None
    options: tuple[tuple[str, Value], ...] = ()
    match KINDS[kind].takes:
        case "seconds":
            value = rng.choice((None, None, 0.2, 1.5, 4, 100_000))
        case "status":
            value = rng.choice((400, 401, 404, 408, 409, 413, 429, 429, 500, 502, 503, 503, 529))
            waits = [("retry-after", 2), ("retry-after", 29), ("retry-after", 5000), ("retry-after-ms", 900)]
            options = rng.choice([(), (), *((one,) for one in waits), (("should-retry", "true"),)])
        case "rate":
            value = rng.choice((1, 20, 200, 2_000))
        case "content type":
            value = rng.choice(("text/html", "application/json", "application/octet-stream"))
        case "error code":
            value = rng.choice((None, *ERROR_CODES))
        case "none":
            pass
    at = None
    if KINDS[kind].default_at is not None:
        at = rng.choice((At(0, "b"), At(1, "e"), At(rng.randint(2, 12), "e"), At(rng.randint(5, 100), "%"), None))
    return Fault(kind, value, at, options)


def _options(rng: random.Random) -> tuple[str, ...]:
    options: list[str] = []
    if rng.random() < 0.5:
        # Short ones, so that an attempt ends and the next one begins.
        options += ["--first-token-timeout", str(rng.choice((1, 3))), "--idle-timeout", str(rng.choice((0.5, 2)))]
    options += rng.choice(([], [], ["--adaptive"], ["--monitor-performance"], ["--max-tokens-per-second", "15"]))
    return tuple(options)


# -- runs ------------------------------------------------------------------------------------------------------------


def known_answer(cli: CommandLine) -> str:
    """What the embedded model answers without failures."""
    result = cli.run(*ASKED, timeout_s=60.0)
    assert result.exit_code == 0, result.errors
    return result.text.rstrip("\n")


def run_all(
    cli: CommandLine,
    wanted: Sequence[Trial],
    *,
    timeout_s: float,
    whole: str,
    slack_s: float = SLACK_S,
    at_once: int = 2,
) -> Iterator[Ended]:
    """Run the trials, *at_once* at a time; in their order. Each may last *timeout_s* and *slack_s*."""
    with ThreadPoolExecutor(at_once) as pool:
        yield from pool.map(lambda trial: _run(cli, trial, timeout_s, whole, slack_s), wanted)


def _run(cli: CommandLine, trial: Trial, timeout_s: float, whole: str, slack_s: float) -> Ended:
    arguments = ["--timeout", f"{timeout_s:g}", "--retries", "10", "--failure-plan", trial.plan, "--json"]
    with ExitStack() as stack:
        if trial.hang:
            server = stack.enter_context(ScriptedServer(default=HANGS[trial.hang]))
            arguments += ["--base-url", server.base_url, "--model", "m"]
        program = stack.enter_context(cli.start(*arguments, *trial.options, *ASKED))
        try:
            result = program.wait(timeout_s + slack_s + _HANGS_S)
        except ProgramTimeout as hanging:
            return Ended(trial, -1, timeout_s + slack_s + _HANGS_S, f"hangs: {hanging}")
    seconds = result.ended_at - result.started_at
    complaint = ""
    if seconds > timeout_s + slack_s:
        complaint = f"lasted {seconds - timeout_s:.2f} s longer than allowed"
    elif result.exit_code not in _EXIT_CODES:
        complaint = f"exit code {result.exit_code}: {result.errors[-300:]!r}"
    elif "Traceback" in result.errors:
        complaint = f"a traceback: {result.errors[-2000:]}"
    else:
        complaint = untrue(trial, json.loads(result.stdout), result.exit_code, whole)
    return Ended(trial, result.exit_code, seconds, complaint)


def untrue(trial: Trial, report: dict[str, object], exit_code: int, whole: str) -> str:
    """What is not true of the report; "" if all is."""
    if report["exit_code"] != exit_code:
        return f"the report says exit code {report['exit_code']}"
    text = str(report["text"])
    if (exit_code == 0) != (report["outcome"] == "complete"):
        return f"exit code {exit_code} with the outcome {report['outcome']}"
    if trial.hang and "embedded" not in trial.options:
        return "" if exit_code else "complete, and the server never was"
    if trial.hang or "duplicate" in trial.plan:
        # Not the known answer: another beginning, or one with a doubled event in it.
        return "" if exit_code or len(text) > len(whole) // 2 else f"complete with {text!r}"
    if exit_code == 0 and text != whole:
        return f"complete with {text!r} instead of {whole!r}"
    return "" if whole.startswith(text) else f"{text!r} is no beginning of {whole!r}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--plans", type=int, default=50, metavar="N", help="how many plans [50]")
    parser.add_argument("--timeout", type=float, default=10.0, metavar="S", help="the time of a run [10]")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="for the plans [1]")
    options = parser.parse_args()
    cli = CommandLine(fetch().parent)
    whole = known_answer(cli)
    wanted = list(trials(options.plans, random.Random(options.seed)))
    ended = list(run_all(cli, wanted, timeout_s=options.timeout, whole=whole))
    print(f"{'exit':>4} {'s':>6}  plan")
    for one in sorted(ended, key=lambda one: -one.seconds):
        server = f" | server: {one.trial.hang}" if one.trial.hang else ""
        print(f"{one.exit_code:4} {one.seconds:6.2f}  {one.trial.plan}{server} {' '.join(one.trial.options)}".rstrip())
    print(
        f"{len(ended)} plans, --timeout {options.timeout:g}: at most {max(one.seconds for one in ended):.2f} s"
        f" ({options.timeout + SLACK_S:g} are allowed), load {os.getloadavg()[0]:.1f}"
    )
    codes = Counter(one.exit_code for one in ended)
    print("exit codes: " + ", ".join(f"{code} {times}x" for code, times in sorted(codes.items())))
    bad = [one for one in ended if one.complaint]
    for one in bad:
        print(f"VIOLATION: {one.trial}\n  {one.complaint}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
