"""The figures of a stream against those of an outside observer, on real sockets and a real clock.

    python -m tests.metrics.socket_observer [--runs 20] [--program]

A loopback server writes an answer with pauses: a role and a comment before the text, several deltas in one write, a
delta in two writes, a stall, a cut, and the same answer once more from its beginning. Between it and the program there
is a proxy in a process of its own (`tests/support/stream_tap.py`). From what passed there, and when, the figures are
computed a second time, with nothing of the program's; what is new in the repeated answer is told by counting.

The start of a run lies before its request, so instants are compared as such, on the clock of the machine; the table
shows them from the arrival of the request at the proxy. A difference holds the way from the proxy through the kernel,
the reader, the flow and the guards, up to the event. It says nothing of the way from the server to the proxy.

The flow runs in this process, and its guards have read the words once before: what they build for a text that is new to
them belongs to the time to the first text, but not to the question whether that time is told as it was. `--program`
leaves nothing out: it runs the program itself, each time in a new process, and takes the figures from its history.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from flow import create_streaming_graph, run_streaming_graph
from nodes import RunInput
from tests.flow.harness import ONLY_REPLAY, prompt_policy
from tests.support import wire
from tests.support.scripted_server import Action, Close, Connection, Pause, ScriptedServer, Send
from tests.support.stream_tap import Passed, StreamTap
from utils.answer_guard import AnswerPolicy
from utils.clock import monotonic
from utils.guardrails.policy import DEFAULT_PACKS, compile_rules
from utils.guardrails.redactor import cleaned
from utils.metrics.recorder import Recorder
from utils.openai_stream import OpenAIBackend
from utils.resilience.backoff import Backoff
from utils.resilience.resilient_stream import Opener
from utils.resilience.retry_policy import RetryPolicy
from utils.resilience.upstream import Upstream
from utils.run_context import RunContext, Target

__all__ = ["Figures", "Run", "answering", "differences_ms", "figures_of_the_flow", "observed", "runs"]

_ROOT = Path(__file__).resolve().parents[2]
_WORDS = tuple(f"word{number} " for number in range(1, 12))
"""They end with white space, so that the guards hold nothing: what is held, the observer cannot know."""
_TEXT = "".join(_WORDS)
_KEPT = 7
"""How many of them come before the cut."""

EACH_GAP, WORST_GAP = "each gap: median", "each gap: largest"
"""Of the differences of all gaps of a run."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one side says of a run: instants (monotonic seconds), durations (seconds), and every gap in order."""

    instants: dict[str, float]
    durations: dict[str, float]
    gaps: tuple[float, ...]

    @property
    def single(self) -> dict[str, float]:
        """All but the gaps."""
        return {**self.instants, **self.durations}


@dataclass(frozen=True, slots=True)
class Run:
    """Both sides of one run."""

    requested_s: float
    ours: Figures
    theirs: Figures


# -- the server ------------------------------------------------------------------------------------------------------


def answering(connection: Connection) -> Iterator[Action]:
    """The first attempt of every two is cut after `_KEPT` words."""
    first, second, *_, sixth, seventh = _events(_WORDS[:_KEPT])
    yield Send(wire.head() + wire.chunk(wire.sse(wire.role())))
    if connection.number % 2:
        yield Pause(0.06)
        yield Send(wire.chunk(wire.comment()))
        yield Pause(0.03)
        yield Send(wire.chunk(first))
        yield Pause(0.02)
        yield Send(wire.chunk(second))
        yield Pause(0.05)
        yield Send(wire.chunk(b"".join(_events(_WORDS[2:5]))))
        yield Pause(0.15)
        yield Send(wire.chunk(sixth[:40]))
        yield Pause(0.03)
        yield Send(wire.chunk(sixth[40:]))
        yield Pause(0.04)
        yield Send(wire.chunk(seventh))
        yield Pause(0.03)
    else:
        yield Pause(0.12)
        yield Send(wire.chunk(b"".join(_events(_WORDS[: _KEPT - 1]))))
        yield Pause(0.1)
        # The end of what was delivered and the beginning of the rest, in one delta.
        yield Send(wire.chunk(wire.sse(wire.delta("".join(_WORDS[_KEPT - 1 : _KEPT + 1])))))
        for pause_s, event in zip((0.1, 0.05, 0.12), _events(_WORDS[_KEPT + 1 :]), strict=True):
            yield Pause(pause_s)
            yield Send(wire.chunk(event))
        yield Pause(0.03)
        yield Send(wire.chunked(wire.sse(wire.finish(), wire.usage(9, len(_WORDS)), wire.DONE)))
    yield Close()


def _events(words: Sequence[str]) -> list[bytes]:
    return [wire.sse(wire.delta(word)) for word in words]


# -- their side ------------------------------------------------------------------------------------------------------


def observed(attempts: Sequence[Passed]) -> Figures:
    """The figures by what passed on the wire. The last usage is that of the whole answer, which is sent again."""
    text_s: list[float] = []
    delivered = tokens = 0
    first_data_s = done_s = None
    for attempt in attempts:
        place = 0
        for passed_s, data in attempt.events():
            first_data_s = first_data_s or passed_s
            if data == "[DONE]":
                done_s = passed_s
                continue
            tokens = (data.get("usage") or {}).get("completion_tokens", tokens)
            for choice in data["choices"]:
                place += len(choice["delta"].get("content") or "")
            if place > delivered:
                delivered = place
                text_s.append(passed_s)
    cut_s = attempts[0].closed_s
    assert first_data_s is not None
    assert done_s is not None
    assert cut_s is not None
    gaps = [later - earlier for earlier, later in pairwise(text_s)]
    return Figures(
        {"first data event": first_data_s, "first text": text_s[0], "last event": done_s},
        {
            "gap p50": statistics.median(gaps),
            "gap p90": statistics.quantiles(gaps, n=10, method="inclusive")[8],
            "gap mean": statistics.fmean(gaps),
            "longest stall": max(gaps),
            "per token": (text_s[-1] - text_s[0]) / (tokens - 1),
            "gap of the resume": min(at for at in text_s if at > cut_s) - cut_s,
        },
        tuple(gaps),
    )


# -- our side --------------------------------------------------------------------------------------------------------


def figures_of_the_flow(base_url: str) -> Figures:
    """The recorder's figures of a run of the flow in this process."""
    rules = compile_rules(DEFAULT_PACKS)
    cleaned(_TEXT, rules)

    async def main() -> Figures:
        recorder = Recorder(monotonic())
        context = RunContext(clock=monotonic, started_s=recorder.started_s, listeners=(recorder.handle,))
        target = Target(base_url, "m", is_deterministic=True)
        backend = OpenAIBackend(base_url=base_url, api_key=None)
        policy = RetryPolicy(backoff=Backoff(0.001, 0.002))
        opener = Opener([Upstream(target, backend, configured=ONLY_REPLAY)], policy)
        answer = AnswerPolicy(rules, toxicity="flag")
        graph = create_streaming_graph(opener, prompt=prompt_policy(), answer=answer)
        try:
            report = await run_streaming_graph(graph, RunInput("Say it.", context), recorder)
        finally:
            await backend.aclose()
        assert report.text == _TEXT
        return _figures(recorder.started_s, report.metrics, recorder.latencies())

    return asyncio.run(main())


def figures_of_the_program(base_url: str) -> Figures:
    """What the history has of a run of the program. It says when a run began in seconds since 1970."""
    with tempfile.TemporaryDirectory() as state:
        environment = {**os.environ, "KAYGRAPH_STATE_DIR": state, "OPENAI_API_KEY": ""}
        ask = ("--base-url", base_url, "--model", "m", "--seed", "1", "--enable-guardrails", "--quiet", "Say it.")
        row: dict[str, Any] = {}
        for arguments in (ask, ("history", "export")):
            command = [sys.executable, str(_ROOT / "main.py"), *arguments]
            done = subprocess.run(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True
            )
            row = json.loads(done.stdout) if arguments[0] == "history" else row
    started_s = row["facts"]["started_at"] - time.time() + monotonic()
    shown_s = row["tokens"]["t_s"]
    return _figures(started_s, row["report"]["metrics"], [later - earlier for earlier, later in pairwise(shown_s)])


def _figures(started_s: float, metrics: Mapping[str, Any], gaps: Sequence[float]) -> Figures:
    latency = metrics["inter_chunk_latency_s"]
    (resume_s,) = metrics["gap_s"]
    return Figures(
        {
            "first data event": started_s + metrics["ttfc_s"],
            "first text": started_s + metrics["ttft_s"],
            "last event": started_s + metrics["e2e_s"],
        },
        {
            "gap p50": latency["p50"],
            "gap p90": latency["p90"],
            "gap mean": latency["mean"],
            "longest stall": metrics["longest_stall_s"],
            "per token": metrics["tpot_s"],
            "gap of the resume": resume_s,
        },
        tuple(gaps),
    )


# -- both ------------------------------------------------------------------------------------------------------------


def runs(count: int, ours: Callable[[str], Figures] = figures_of_the_flow) -> Iterator[Run]:
    """*count* runs, each looked at from both sides."""
    with ScriptedServer(default=answering) as server, StreamTap(server.port) as tap:
        for _ in range(count):
            figures = ours(tap.base_url)
            attempts = tap.take()
            requested_s = attempts[0].requested_s
            assert requested_s is not None
            yield Run(requested_s, figures, observed(attempts))


def differences_ms(run: Run) -> dict[str, float]:
    """How far our figures are from theirs, without sign, in milliseconds."""
    ours, theirs = run.ours, run.theirs
    gaps = [abs(one - other) for one, other in zip(ours.gaps, theirs.gaps, strict=True)]
    single = {name: abs(value - theirs.single[name]) for name, value in ours.single.items()}
    return {
        name: value * 1e3 for name, value in {**single, EACH_GAP: statistics.median(gaps), WORST_GAP: max(gaps)}.items()
    }


def table(done: Sequence[Run]) -> Iterator[str]:
    """The medians of both sides and of the differences, and the largest difference, in milliseconds."""
    yield f"{'figure, ms':24}{'ours':>10}{'observer':>10}{'difference':>12}{'largest':>10}"
    found = [differences_ms(run) for run in done]
    for name in found[0]:
        sides = ["", ""]
        if name in done[0].ours.single:
            for place, figures in enumerate(("ours", "theirs")):
                values = []
                for run in done:
                    side: Figures = getattr(run, figures)
                    values.append(side.single[name] - (run.requested_s if name in side.instants else 0.0))
                sides[place] = f"{statistics.median(values) * 1e3:.2f}"
        values = [row[name] for row in found]
        yield f"{name:24}{sides[0]:>10}{sides[1]:>10}{statistics.median(values):>12.3f}{max(values):>10.3f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.metrics.socket_observer")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--program", action="store_true", help="run the program in processes of its own")
    options = parser.parse_args(arguments)
    print(
        *table(list(runs(options.runs, figures_of_the_program if options.program else figures_of_the_flow))), sep="\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
