"""What becomes of an answer that goes on at a server without prefill and without determinism, over real HTTP.

    python -m tests.flow.continuation_table [--cuts 400] [--only NAME] [--examples N]

Each of N runs of a case is the whole flow against `SeamServer`, which breaks the answer off at a random place
(half of the times with a proper end, half of the times with RST) and goes on with it in that case's way. The texts are
those of `benchmarks/bench_stitching.py` that its rules were not tuned on, in turn. Printed is a Markdown table of the
runs whose shown text is exactly the answer as the server wrote it, those in which only white space differs, those with
characters twice or lost (and how many, white space aside), those that the flow refused to join (exit code 3), and,
where nothing was repeated, how many per cent lost text. The exit code is 1 if more than 1.1 % of the runs of a case are
reported complete with a character lost, if a run ended in another way than these, or if the flow shows anything else
than the stitcher alone makes of the same characters.
"""

from __future__ import annotations

import argparse
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.bench_stitching import FALSE_DELETIONS_MAX, load_texts
from tests.flow.harness import FlowRun, run_flow
from tests.support.seam_server import BEHAVIOURS, Answer, Continuation, SeamServer
from utils.errors import ResumeDiverged
from utils.events import Interrupted, Resumed, TextDelta
from utils.resilience.continuation import Capabilities
from utils.resilience.stitching import Stitcher

__all__ = ["CASES", "Seam", "Tally", "joined", "judged", "main", "run_case", "tallied", "texts"]

CASES = tuple(BEHAVIOURS)
IN_WORDS = Capabilities(replay=False, prefill=None, continue_=True)
_MARGIN_CHARS = 20
"""So far from both ends of a text it is cut: before that there is nothing to recognise."""


@dataclass(frozen=True, slots=True)
class Seam:
    """One run, judged. Counts are characters that are no white space."""

    exact: bool = False
    space_only: bool = False
    duplicated: int = 0
    lost: int = 0
    refused: bool = False
    problem: str = ""
    """What must not be, whatever the server did."""
    example: str = ""


@dataclass(slots=True)
class Tally:
    """The runs of one case."""

    seams: list[Seam] = field(default_factory=list)

    @property
    def false_deletions(self) -> float:
        """The share of runs that were reported complete with a character lost; those that were refused lost none."""
        return sum(seam.lost > 0 for seam in self.seams) / len(self.seams)

    def problems(self, case: str) -> list[str]:
        """Why the table is not good."""
        problems = [f"{case}: {seam.problem}" for seam in self.seams if seam.problem]
        if self.false_deletions > FALSE_DELETIONS_MAX:
            problems.append(f"{case}: text lost in {self.false_deletions:.2%} of the runs")
        return problems

    def row(self, case: str) -> str:
        """The case's line of the table."""
        seams = self.seams
        counts = [sum(seam.exact for seam in seams), sum(seam.space_only for seam in seams)]
        cells = [case, str(len(seams)), *map(str, counts)]
        for kind in ("duplicated", "lost"):
            chars = [getattr(seam, kind) for seam in seams if getattr(seam, kind)]
            cells.append(f"{len(chars)} ({sum(chars)})" if chars else "0")
        cells.append(str(sum(seam.refused for seam in seams)))
        cells.append(f"{self.false_deletions:.2%}" if case.startswith("exact") else "")
        return f"| {' | '.join(cells)} |"


HEAD = (
    "| the server goes on with | runs | exact | only white space | duplicated: runs (characters) "
    "| lost: runs (characters) | refused | false deletions |\n|---|---|---|---|---|---|---|---|"
)


def texts() -> list[str]:
    """The texts that are cut."""
    return list(load_texts("report").values())


def bare(text: str) -> str:
    """*text* without white space."""
    return "".join(text.split())


def judged(run: FlowRun, text: str, continuation: Continuation | None) -> Seam:
    """What the flow made of *text*, cut and gone on with by *continuation*."""
    delivered = "".join(_texts_until_interrupted(run))
    if continuation is None:
        return Seam(problem="the server was not asked to go on")
    if not text.startswith(delivered):
        return Seam(problem=f"what was shown before the cut is not the answer's beginning: {delivered[-60:]!r}")
    example = f"{delivered[-30:]!r} + {continuation.text[:60]!r} -> "
    alone = _stitched(delivered, continuation.text)
    shown = run.report.text
    if alone is None or run.report.outcome != "complete":
        error, code = run.report.error, run.report.exit_code
        if alone is None and shown == delivered and code == 3 and isinstance(error, ResumeDiverged):
            return Seam(refused=True, example=f"{example}refused")
        return Seam(problem=f"ended with {code}, {error.code if error else 'no error'}: {example}{shown[-60:]!r}")
    if shown != delivered + alone:
        return Seam(problem=f"the stitcher alone makes {alone[:40]!r} of it, the flow {shown[len(delivered) :][:40]!r}")
    if [event.strategy for event in run.events if isinstance(event, Resumed)] != ["continue"]:
        return Seam(problem="the answer was not gone on with in words, once")
    return tallied(shown, as_written(text, continuation), continuation.behind, f"{example}{alone[:40]!r}")


def as_written(text: str, continuation: Continuation) -> str:
    """*text* as the server would have it: with the rest as it wrote it, say with a capital letter in front."""
    rest = continuation.rest.lstrip()
    return text[: len(text) - len(rest)] + rest


def tallied(shown: str, wanted: str, behind: str, example: str) -> Seam:
    """How *shown* differs from *wanted*: in one place, the seam, and by the mark *behind* if that was shown."""
    if shown == wanted:
        return Seam(exact=True, example=example)
    got, good, mark = bare(shown), bare(wanted), bare(behind)
    kept_mark = bool(mark) and got.endswith(mark) and not good.endswith(mark)
    if kept_mark:
        got = got[: -len(mark)]
    start = shared_chars(got, good)
    rest, missing = got[start:], good[start:]
    end = shared_chars(rest[::-1], missing[::-1])
    duplicated = len(rest) - end + (len(mark) if kept_mark else 0)
    lost = len(missing) - end
    return Seam(space_only=not (duplicated or lost), duplicated=duplicated, lost=lost, example=example)


def shared_chars(one: str, other: str) -> int:
    """How many characters the two have in common at their beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (mine, yours) in pairs if mine != yours), min(len(one), len(other)))


def run_case(case: str, cuts: int, server: SeamServer) -> Iterator[Seam]:
    """*cuts* runs of *case*, over the texts in turn."""
    rng = random.Random(case)
    for text in itertools.islice(itertools.cycle(texts()), cuts):
        server.answer = Answer(
            text,
            case,
            cut_at=rng.randint(_MARGIN_CHARS, len(text) - _MARGIN_CHARS),
            ending=rng.choice(("end", "reset")),
            seed=rng.randrange(1 << 30),
        )
        yield joined(server)


def joined(server: SeamServer) -> Seam:
    """The answer that *server* is set to write, through the flow, judged."""
    run = run_flow(server.base_url, retries=2, capabilities=IN_WORDS, deadline_s=20.0)
    return judged(run, server.answer.text, server.continuation)


def _texts_until_interrupted(run: FlowRun) -> Iterator[str]:
    for event in run.events:
        if isinstance(event, Interrupted):
            return
        if isinstance(event, TextDelta):
            yield event.text


def _stitched(delivered: str, continuation: str) -> str | None:
    """What the stitcher alone lets pass; None if it refuses."""
    stitcher = Stitcher(delivered, "continue")
    try:
        passed = [*stitcher.feed([TextDelta(continuation)]), *stitcher.finish()]
    except ResumeDiverged:
        return None
    return "".join(event.text for event in passed if isinstance(event, TextDelta))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if it is not good."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cuts", type=int, default=400, help="runs of each case")
    parser.add_argument("--only", default="", help="cases whose name begins with this")
    parser.add_argument("--examples", type=int, default=0, help="print so many inexact joins of each case")
    options = parser.parse_args(arguments)
    problems: list[str] = []
    print(HEAD)
    with SeamServer(Answer("")) as server:
        for case in CASES:
            if not case.startswith(options.only):
                continue
            tally = Tally(list(run_case(case, options.cuts, server)))
            print(tally.row(case), flush=True)
            problems += tally.problems(case)
            inexact = [seam.example for seam in tally.seams if not seam.exact]
            for example in inexact[: options.examples]:
                print(f"    {example}")
    for problem in problems:
        print(f"FAILED {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
