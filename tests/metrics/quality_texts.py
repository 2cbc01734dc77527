"""How good the repetition figure is: what the recorder says of texts that a person has labelled.

    python -m tests.metrics.quality_texts [--cuts 20]    prints the tables
    python -m tests.metrics.quality_texts --generate     asks the embedded model again and rewrites its texts

The texts stand in `quality_texts.jsonl`, one a line. Those with a `prompt` are the embedded model's answers, as the
whole flow shows them; every answer that was asked for is there, whatever it came to. The others were written for the
purpose: repetition that belongs to its text, and loops made to be missed. The labels were given before any detector had
read the texts. `loop` is the answer to one question, would an operator who watches say that the model is stuck here:
null, or where that begins and ends, in characters. A list or a table whose changing parts are its content is no loop,
however wrong it is; the same words behind a number that counts up are one.

Each text goes through the real recorder in chunks of 1 to 8 characters, cut at random from a seed. `seen` is
`repetition.detected` (at any check or at the end), `at the end` is `repetition.at_end`, and the delay is what the loop
had written when it was first seen. What may cut an answer, the loop guard and the validator `no-repetition`, is judged
by the same labels.
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.embedded_model.spec import PINNED
from utils.events import Finished, TextDelta
from utils.metrics.recorder import Recorder
from utils.resilience.loop_guard import LoopGuard
from utils.validation.validators import RepetitionValidator

__all__ = ["DETECTORS", "LABELLED", "LabelledText", "Tally", "chunks", "load", "look", "main", "provenance"]

LABELLED = Path(__file__).with_suffix(".jsonl")
MAX_CHUNK_CHARS = 8
_MODEL = {"model": PINNED.name, "sha256": PINNED.sha256}


@dataclass(frozen=True, slots=True)
class LabelledText:
    """*kind*: of a loop what is repeated, else what the text is. *loop*: [start, end) of the loop, None without one."""

    name: str
    kind: str
    text: str
    loop: tuple[int, int] | None
    is_models: bool

    @property
    def ends_in_loop(self) -> bool:
        """Whether the loop goes on to the end of the text."""
        return self.loop is not None and self.loop[1] == len(self.text)


def _rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in LABELLED.read_text("utf-8").split("\n") if line]


def provenance() -> dict[str, str]:
    """Which model wrote the answers: its name and the SHA-256 of its file."""
    return _rows()[0]


def load() -> list[LabelledText]:
    """The texts in the order of the file. Raises ValueError if one has no label."""
    texts = []
    for row in _rows()[1:]:
        if "loop" not in row:
            raise ValueError(f"{row['name']}: the text has changed and has no label: read it, and give it one")
        loop = tuple(row["loop"]) if row["loop"] is not None else None
        texts.append(LabelledText(row["name"], row["kind"], row["text"], loop, "prompt" in row))
    return texts


def chunks(text: str, seed: int) -> Iterator[str]:
    """*text* in pieces of 1 to 8 characters."""
    rng = random.Random(seed)
    start = 0
    while start < len(text):
        end = start + rng.randint(1, MAX_CHUNK_CHARS)
        yield text[start:end]
        start = end


@functools.cache
def look(text: str, seed: int) -> Mapping[str, Any]:
    """The `repetition` figures that the recorder gives for *text*."""
    recorder = Recorder(0.0)
    now = 0.0
    for now, chunk in enumerate(chunks(text, seed), 1):
        recorder.handle(TextDelta(chunk), now)
    recorder.handle(Finished("stop"), now)
    figures: Mapping[str, Any] = recorder.quality()["repetition"]
    return figures


def _seen(text: str, seed: int) -> int | None:
    first: int | None = look(text, seed)["first_seen_at_char"]
    return first


def _at_end(text: str, seed: int) -> int | None:
    return len(text) if look(text, seed)["at_end"] else None


def _cut_by_guard(text: str, seed: int) -> int | None:
    guard = LoopGuard()
    found = next(filter(None, map(guard.feed, chunks(text, seed))), None)
    return found.seen_at if found else None


def _refused(text: str, seed: int) -> int | None:
    validator = RepetitionValidator()
    found = next(filter(None, map(validator.feed, chunks(text, seed))), None) or validator.finish()
    return found.position if found else None


DETECTORS: dict[str, Callable[[str, int], int | None]] = {
    "seen": _seen,
    "at the end": _at_end,
    "cut by the loop guard": _cut_by_guard,
    "refused by no-repetition": _refused,
}
"""Each tells after how many characters of the text, cut into chunks by a seed, it found a loop; None if it found none.
"""


class Tally:
    """What one detector made of *texts*. A loop that is seen before it begins is no hit but a false alarm."""

    def __init__(self, detector: str, texts: Iterable[LabelledText], seed: int) -> None:
        self.hits: list[str] = []
        self.misses: list[str] = []
        self.false_alarms: list[str] = []
        self.delays: list[int] = []
        """Of the hits: characters of the loop when it was seen."""
        self.texts = 0
        for text in texts:
            self.texts += 1
            loop = text.loop if detector != "at the end" or text.ends_in_loop else None
            found_at = DETECTORS[detector](text.text, seed)
            if found_at is not None and loop is not None and found_at > loop[0]:
                self.hits.append(text.name)
                self.delays.append(found_at - loop[0])
                continue
            if found_at is not None:
                self.false_alarms.append(text.name)
            if loop is not None:
                self.misses.append(text.name)

    @property
    def loops(self) -> int:
        """How many of the texts should be hit."""
        return len(self.hits) + len(self.misses)

    @property
    def delay(self) -> str:
        """Median and range of the delays."""
        if not self.delays:
            return ""
        return f"{statistics.median(self.delays):.0f} ({min(self.delays)}-{max(self.delays)})"


def _table(texts: Sequence[LabelledText], seed: int) -> Iterator[str]:
    yield (
        "| kind | texts | loops | hits | misses | false alarms | delay: median (range) "
        "| end in a loop | hits at the end | false alarms at the end |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    kinds = dict.fromkeys(text.kind for text in texts)
    with_loops = [kind for kind in kinds if any(text.kind == kind and text.loop for text in texts)]
    groups = {kind: [text for text in texts if text.kind == kind] for kind in dict.fromkeys((*with_loops, *kinds))}
    groups["**the model's**"] = [text for text in texts if text.is_models]
    groups["**written**"] = [text for text in texts if not text.is_models]
    groups["**all**"] = list(texts)
    for kind, group in groups.items():
        seen, end = Tally("seen", group, seed), Tally("at the end", group, seed)
        cells = [kind, seen.texts, seen.loops, len(seen.hits), len(seen.misses), len(seen.false_alarms), seen.delay]
        cells += [end.loops, len(end.hits), len(end.false_alarms)]
        yield f"| {' | '.join(map(str, cells))} |"


def _spread(texts: Sequence[LabelledText], cuts: int) -> Iterator[str]:
    yield f"| over {cuts} random cuttings | loops | hits | false alarms | delay: median of each cutting |"
    yield "|---|---|---|---|---|"
    for detector in DETECTORS:
        tallies = [Tally(detector, texts, seed) for seed in range(1, cuts + 1)]
        counts = [[len(tally.hits) for tally in tallies], [len(tally.false_alarms) for tally in tallies]]
        cells = [detector, str(tallies[0].loops), *(f"{min(each)}-{max(each)}" for each in counts)]
        medians = [statistics.median(tally.delays) for tally in tallies if tally.delays]
        cells.append("" if detector == "at the end" else f"{min(medians):.0f}-{max(medians):.0f}")
        yield f"| {' | '.join(cells)} |"


def generate() -> None:
    """Ask the embedded model for its texts again. A text that comes out changed loses its label."""
    from tests.flow.embedded_runs import EmbeddedRuns
    from utils.failure_simulator import FailurePlan
    from utils.run_context import Parameters

    rows = _rows()[1:]
    with EmbeddedRuns() as runs:
        for row in rows:
            if "prompt" not in row:
                continue
            parameters = Parameters(row["temperature"], row["max_tokens"], row["seed"])
            report = runs.run(row["prompt"], parameters, FailurePlan()).report
            if report.outcome != "complete":
                raise SystemExit(f"{row['name']}: the model's answer is not whole ({report.error})")
            if report.text != row.get("text"):
                row.pop("loop", None)
                print(f"{row['name']}: changed, label it again ({LABELLED.name})", file=sys.stderr)
            row["text"] = report.text
    lines = [json.dumps(row, ensure_ascii=False) for row in (_MODEL, *rows)]
    LABELLED.write_text("\n".join(lines) + "\n", "utf-8")


def main() -> int:
    """Print the tables, or generate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generate", action="store_true", help="rewrite the embedded model's part of the file")
    parser.add_argument("--cuts", type=int, default=20, help="random cuttings for the spread")
    options = parser.parse_args()
    if options.generate:
        generate()
        return 0
    texts = load()
    print(*_table(texts, 1), "", *_spread(texts, max(1, options.cuts)), "", sep="\n")
    for detector in DETECTORS:
        tally = Tally(detector, texts, 1)
        print(f"{detector}: misses: {', '.join(tally.misses)}\n    false alarms: {', '.join(tally.false_alarms)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
