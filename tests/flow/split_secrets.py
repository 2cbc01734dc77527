"""Secrets that a failure cuts in two, through the whole flow: nothing of them is shown, and everything else once.

    python -m tests.flow.split_secrets [--only WORD]

One answer with an e-mail address, an API key and a card number is streamed a character at a time over real HTTP. Each
kind of failure that can break an answer comes at every place in each secret, both ends included, and the answer goes on
(in larger pieces) in each of the ways that there are: the same request again, prefill, and in words, where the server
repeats the words that it was asked for or nothing; or it does not go on at all. The rules are the built-in packs.

Printed is a table of the runs by failure and way, and the number of those that showed a part of a secret, lost or
doubled anything else, or ended in another way than they had to: none may.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.flow.harness import FlowRun, run_flow
from tests.support.seam_server import Answer, SeamServer
from utils.events import Event, Redacted, Resumed, TextDelta
from utils.failure_simulator import FaultTransport, parse_plan
from utils.guardrails.policy import compile_rules
from utils.guardrails.rules import RuleSet
from utils.resilience.continuation import Capabilities

__all__ = [
    "FAULTS",
    "SECRETS",
    "SHOWN",
    "LATE",
    "SILENT",
    "TEXT",
    "WAYS",
    "Split",
    "places",
    "problem_of",
    "splits",
    "tried",
]

SECRETS = ("anna.berg@example.com", "sk-aB3dE5gH7jK9mN1pQ4rS6tU8vW0xY2z", "4111 1111 1111 1111")
LABELS = ("[EMAIL]", "[KEY]", "[CARD]")
RULES = ("pii.email", "secrets.openai", "pii.payment_card")
_PATTERN = (
    "Write to {} before noon, she has the list of the people who are coming. The key of the account is {} and it has "
    "to be changed after the weekend. Pay with {}, then tell the others that everything is done."
)
TEXT = _PATTERN.format(*SECRETS)
SHOWN = _PATTERN.format(*LABELS)

TWICE = ", then again"
"""Behind a failure: the next attempt is reset after three pieces of text, while the seam is being looked for."""
FAULTS = (
    *("cut", "reset", "incomplete", "garbage", "null_event", "invalid_utf8", "error_object", "early_done"),
    f"reset{TWICE}",
)
"""What breaks an answer at once, at any place."""
SILENT = ("stall", "drip=10")
"""What breaks it by silence: `IDLE_S` later."""
LATE = ("no_finish",)
"""What breaks it at its very end, wherever that is."""
IDLE_S = 0.3
_FRAGMENT_CHARS = 6
"""Shorter parts of a secret may stand anywhere, say in a figure of a report."""


@dataclass(frozen=True, slots=True)
class Way:
    """How an answer goes on: what the target allows, and what the server makes of being asked in words."""

    capabilities: Capabilities | None
    behaviour: str = "exact"


WAYS = {
    "replay": Way(Capabilities(replay=True, prefill=None, continue_=False)),
    "prefill": Way(Capabilities(replay=False, prefill="trailing", continue_=False)),
    "continue, words repeated": Way(Capabilities(replay=False, prefill=None, continue_=True), "the words asked for"),
    "continue, nothing repeated": Way(Capabilities(replay=False, prefill=None, continue_=True)),
    "not at all": Way(Capabilities(replay=False, prefill=None, continue_=False)),
}


@dataclass(frozen=True, slots=True)
class Split:
    """One run: *fault* after *chars* characters of the answer, which goes on by *way*."""

    fault: str
    chars: int
    way: str

    @property
    def plan(self) -> str:
        """The failure plan. The first event of the answer has no text."""
        if self.fault in LATE:
            return f"{self.fault}, ok"
        first = f"{self.fault.removesuffix(TWICE)}@{self.chars + 1}e"
        return f"{first}, reset@4e, ok" if self.fault.endswith(TWICE) else f"{first}, ok"


def places(secret: str) -> range:
    """How many characters have come when a fault hits *secret*: before its first one, ..., after its last one."""
    start = TEXT.index(secret)
    return range(start, start + len(secret) + 1)


def splits() -> Iterator[Split]:
    """All of them."""
    for way in WAYS:
        for fault in (*FAULTS, *SILENT):
            for secret in SECRETS:
                for chars in places(secret):
                    yield Split(fault, chars, way)
        yield from (Split(fault, len(TEXT), way) for fault in LATE)


def rules() -> RuleSet:
    """The built-in ones."""
    return compile_rules(("pii", "secrets"))


def tried(split: Split, server: SeamServer) -> str:
    """What is wrong with the run of *split*; "" if nothing is."""
    way = WAYS[split.way]
    server.answer = Answer(TEXT, way.behaviour, pieces=(1, 1))
    plan = parse_plan(split.plan)
    run = run_flow(
        server.base_url,
        retries=0 if split.way == "not at all" else 2,
        deterministic=split.way == "replay",
        capabilities=way.capabilities,
        deadline_s=IDLE_S if split.fault in SILENT else 20.0,
        rules=rules(),
        wrap_transport=lambda inner: FaultTransport(inner, plan),
    )
    if plan.injected != (2 if split.fault.endswith(TWICE) and split.way != "not at all" else 1):
        return "a failure did not happen"
    return problem_of(run, split)


def problem_of(run: FlowRun, split: Split) -> str:
    """What is wrong with *run*; "" if nothing is."""
    shown = "".join(shown_by(event) for event in run.events)
    told = json.dumps(run.report.as_json()) + "".join(map(repr, run.events))
    for fragment in fragments():
        if fragment in told:
            return f"shows {fragment!r}"
    if shown != run.report.text:
        return "the report's text is not what was shown"
    error = run.report.error.code if run.report.error else None
    # A server that has nothing to add and repeats nothing writes nothing: nobody can tell that the answer was whole.
    is_silent = split.fault in LATE and split.way == "continue, nothing repeated"
    if split.way == "not at all" or is_silent:
        if run.report.exit_code != 3:
            return f"ended with {run.report.exit_code} ({error}) instead of 3"
        return "" if SHOWN.startswith(shown) else f"shows ...{shown[-60:]!r}"
    if run.report.exit_code != 0:
        return f"ended with {run.report.exit_code} ({error})"
    if shown != SHOWN:
        return f"shows {shown!r}"
    strategies = {event.strategy for event in run.events if isinstance(event, Resumed)}
    if strategies != {split.way.partition(",")[0]}:
        return f"went on by {strategies}"
    hidden = tuple(event.rule for event in run.events if isinstance(event, Redacted))
    return "" if hidden == RULES else f"hid {hidden}"


def shown_by(event: Event) -> str:
    """What a reader sees of *event*."""
    if isinstance(event, Redacted):
        return event.replacement
    return event.text if isinstance(event, TextDelta) else ""


def fragments() -> Iterator[str]:
    """All parts of the secrets that can be told from anything else."""
    for secret in SECRETS:
        for start in range(len(secret) - _FRAGMENT_CHARS + 1):
            yield secret[start : start + _FRAGMENT_CHARS]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all splits; 1 if one of them is not good."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", default="", help="splits with this word in the name of the way or of the failure")
    options = parser.parse_args(arguments)
    chosen = [split for split in splits() if options.only in f"{split.way} {split.fault}"]
    counts: dict[tuple[str, str], int] = {}
    problems: list[str] = []
    with SeamServer(Answer(TEXT)) as server:
        for split in chosen:
            problem = tried(split, server)
            if problem:
                problems.append(f"FAILED {split.plan} {split.way}: {problem}")
                print(problems[-1], flush=True)
            key = split.fault, split.way
            counts[key] = counts.get(key, 0) + 1
    faults = dict.fromkeys(split.fault for split in chosen)
    ways = dict.fromkeys(split.way for split in chosen)
    print(f"| runs | {' | '.join(ways)} |\n|---|{'---|' * len(ways)}")
    for fault in faults:
        print(f"| {fault} | {' | '.join(str(counts.get((fault, way), 0)) for way in ways)} |")
    print(f"{len(chosen)} runs, {len(problems)} of them not good")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
