"""What joining a continuation costs in text: `python benchmarks/bench_stitching.py [--cuts N] [--texts report|tune]`.

Every text is cut at N random places, and the rest is changed as servers change it when they are asked to go on. Printed
is, for each way and kind of text, in how many of N cuts the joined answer was exactly the text; below, for each way,
the characters that stand there twice and those that are lost, and how often only white space differs. A plain join of
the same continuations stands beside it. The exit code is 1 if text is deleted from an exact continuation in more than
1.1 % of the cuts of any text. Nothing is sent anywhere.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from utils.errors import ResumeDiverged  # noqa: E402
from utils.events import TextDelta  # noqa: E402
from utils.resilience.continuation import continue_request  # noqa: E402
from utils.resilience.seam import StitchKind  # noqa: E402
from utils.resilience.stitching import Stitcher  # noqa: E402
from utils.run_context import Request, RunContext  # noqa: E402

FALSE_DELETIONS_MAX = 0.011
PREAMBLES = (
    "Sure, here is the continuation:\n\n",
    "Continuing from where I left off:\n\n",
    "Certainly! Here's the rest of the text:\n\n",
    "I apologize for the interruption. Continuing from where I stopped:\n\n",
    "Natürlich, hier ist die Fortsetzung:\n\n",
    "好的，以下是续写：\n\n",  # noqa: RUF001
)
UNKNOWN_PREAMBLES = ("My previous message ended here:\n\n", "Noted.\n\n", "Ah, the network.\n\n")

Change = Callable[[str, str, random.Random], str | None]
"""Delivered text and rest to what the server sends; None: the way does not fit this cut."""


def load_texts(half: str) -> dict[str, str]:
    data = tomllib.loads((ROOT / "benchmarks" / "stitching_texts.toml").read_text(encoding="utf-8"))
    texts = {name: text.strip() for name, text in data[half].items()}
    if half == "report":
        texts["licence"] = (ROOT / "LICENSE").read_text(encoding="utf-8").strip()
    return texts


def obeys(delivered: str, rest: str, _rng: random.Random) -> str | None:
    """Begins with the last words, as `continue_request` asks for."""
    request = continue_request(Request("", RunContext(clock=lambda: 0.0, started_s=0.0)), delivered)
    asked = str(request.messages()[-1]["content"]).rpartition("The last words:\n\n")[2]
    return asked + delivered[len(delivered.rstrip()) :] + rest


def exact(_delivered: str, rest: str, _rng: random.Random) -> str:
    return rest


def last_word(delivered: str) -> str | None:
    """The last word and whatever follows it; Chinese has two characters instead."""
    match = re.search(r"[^\W_]+\W*\Z", delivered)
    if match is None:
        return None
    return delivered[-2:] if match[0][0] >= "\u2e80" else match[0]


def repeats_word(delivered: str, rest: str, _rng: random.Random) -> str | None:
    word = last_word(delivered)
    return None if word is None else word + rest


def repeats_spaced_word(delivered: str, rest: str, _rng: random.Random) -> str | None:
    """As a token would: with its space in front, after a whole word."""
    word = last_word(delivered)
    is_whole = word is not None and word[-1].isalnum() and not rest[:1].isalnum()
    return f" {word}{rest}" if is_whole else None


def repeats_piece(delivered: str, rest: str, rng: random.Random) -> str:
    return delivered[-rng.randint(15, 60) :] + rest


def last_sentence(delivered: str) -> str:
    ends = [match.end() for match in re.finditer(r"[.!?。！？;:]\s+|[。！？]|\n+", delivered.rstrip())]  # noqa: RUF001
    return delivered[ends[-1] :] if ends else delivered


def repeats_sentence(delivered: str, rest: str, _rng: random.Random) -> str:
    return last_sentence(delivered) + rest


def restarts(delivered: str, rest: str, _rng: random.Random) -> str:
    return delivered + rest


def preamble_exact(_delivered: str, rest: str, rng: random.Random) -> str:
    return rng.choice(PREAMBLES) + rest


def preamble_repeat(delivered: str, rest: str, rng: random.Random) -> str:
    return rng.choice(PREAMBLES) + repeats_piece(delivered, rest, rng)


def unknown_repeat(delivered: str, rest: str, rng: random.Random) -> str:
    return rng.choice(UNKNOWN_PREAMBLES) + delivered[-rng.randint(30, 90) :] + rest


def quoted_repeat(delivered: str, rest: str, rng: random.Random) -> str:
    return f'{rng.choice(PREAMBLES)}"{repeats_piece(delivered, rest, rng)}"'


def fenced_repeat(delivered: str, rest: str, rng: random.Random) -> str:
    return f"{rng.choice(PREAMBLES)}```\n{repeats_piece(delivered, rest, rng)}\n```"


def spaced_repeat(delivered: str, rest: str, rng: random.Random) -> str:
    piece = delivered[-rng.randint(30, 90) :]
    return re.sub(r"\s+", lambda run: rng.choice((" ", "\n", "  ", run[0])), piece) + rest


def without_space(delivered: str, rest: str, _rng: random.Random) -> str | None:
    """A new turn never begins with white space."""
    return rest.lstrip() if rest[:1].isspace() and not delivered[-1].isspace() else None


def reopened_fence(delivered: str, rest: str, _rng: random.Random) -> str | None:
    fences = re.findall(r"^```(\w*)$", delivered, re.MULTILINE)
    return f"```{fences[-1]}\n{rest}" if len(fences) % 2 else None


def restarted_list(delivered: str, rest: str, _rng: random.Random) -> str | None:
    """The list that is being written is begun once more, from its first item."""
    starts = [match.start() for match in re.finditer(r"^(?:1\. |[*-] )", delivered, re.MULTILINE)]
    paragraph = delivered.rfind("\n\n") + 2
    here = [start for start in starts if start >= paragraph]
    return delivered[here[0] :] + rest if here else None


def restarted_line(delivered: str, rest: str, _rng: random.Random) -> str | None:
    """The line that is being written is begun once more."""
    line = delivered[delivered.rfind("\n") + 1 :]
    return line + rest if 3 <= len(line) <= 60 else None


def paraphrase(delivered: str, rest: str, _rng: random.Random) -> str:
    words = last_sentence(delivered).split()
    return "In other words, " + " ".join(words[::-1]) + " " + rest


WAYS: dict[str, Change] = {
    "exact": exact,
    "repeats the words asked for": obeys,
    "repeats a word": repeats_word,
    "repeats a whole word, spaced": repeats_spaced_word,
    "repeats 15-60 characters": repeats_piece,
    "repeats the last sentence": repeats_sentence,
    "restarts from the top": restarts,
    "preamble + exact": preamble_exact,
    "preamble + repeat": preamble_repeat,
    "unknown preamble + repeat": unknown_repeat,
    "preamble + quoted repeat": quoted_repeat,
    "preamble + fenced repeat": fenced_repeat,
    "repeat, other white space": spaced_repeat,
    "leading space lost": without_space,
    "fence reopened": reopened_fence,
    "list restarted": restarted_list,
    "line restarted": restarted_line,
    "paraphrase of the sentence": paraphrase,
}


@dataclass
class Tally:
    cuts: int = 0
    exact: int = 0
    plain_exact: int = 0
    space_only: int = 0
    duplicated: int = 0
    plain_duplicated: int = 0
    lost: int = 0
    losses: int = 0
    refused: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        for name in ("cuts", "exact", "plain_exact", "space_only", "duplicated", "plain_duplicated", "lost"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.losses += other.losses
        self.refused += other.refused


def stitched(delivered: str, continuation: str, kind: StitchKind, rng: random.Random) -> str:
    stitcher = Stitcher(delivered, kind)
    passed = []
    position = 0
    while position < len(continuation):
        size = rng.randint(1, 9)
        passed += stitcher.feed([TextDelta(continuation[position : position + size])])
        position += size
    passed += stitcher.finish()
    return "".join(event.text for event in passed if isinstance(event, TextDelta))


def bare(text: str) -> str:
    return "".join(text.split())


def measure(text: str, change: Change, kind: StitchKind, cuts: int, rng: random.Random) -> Tally:
    tally = Tally()
    for _ in range(cuts * 20):
        if tally.cuts == cuts:
            break
        cut = rng.randint(20, len(text) - 20)
        delivered, rest = text[:cut], text[cut:]
        # A server is sent the partial answer without the white space at its end, and goes on with that.
        seen = delivered.rstrip()
        continuation = change(seen, delivered[len(seen) :] + rest, rng)
        if continuation is None:
            continue
        tally.cuts += 1
        wanted = text[cut:]
        tally.plain_exact += continuation == wanted
        tally.plain_duplicated += len(bare(continuation)) - len(bare(wanted))
        try:
            got = stitched(delivered, continuation, kind, rng)
        except ResumeDiverged:
            tally.refused += 1
            continue
        extra = len(bare(got)) - len(bare(wanted))
        if got == wanted:
            tally.exact += 1
            continue
        if bare(got) == bare(wanted):
            tally.space_only += 1
        elif extra > 0:
            tally.duplicated += extra
        else:
            tally.lost += -extra
        tally.losses += extra < 0
        if len(tally.examples) < 400:
            tally.examples.append(f"{delivered[-40:]!r} + {continuation[:60]!r} -> {got[:40]!r}")
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cuts", type=int, default=400)
    parser.add_argument("--texts", choices=("report", "tune"), default="report")
    parser.add_argument("--kind", choices=("continue", "prefill"), default="continue")
    parser.add_argument("--only", default="", help="ways whose name contains this")
    parser.add_argument("--examples", type=int, default=0, help="print so many inexact joins of each way and text")
    options = parser.parse_args()
    texts = load_texts(options.texts)
    totals: dict[str, Tally] = {}
    print(
        f"{options.kind}, exact of {options.cuts} cuts (fewer where the way does not fit), texts to {options.texts}\n"
    )
    print(f"{'':30}" + "".join(f"{name:>10}" for name in texts))
    failed: list[str] = []
    for way, change in WAYS.items():
        if options.only not in way:
            continue
        total = totals[way] = Tally()
        cells, examples = [], []
        for name, text in texts.items():
            tally = measure(text, change, options.kind, options.cuts, random.Random(f"{way} {name}"))
            cells.append(f"{tally.exact}/{tally.cuts}" if tally.cuts else "-")
            examples += [f"    {name}: {example}" for example in tally.examples[: options.examples]]
            if way == "exact" and tally.losses > FALSE_DELETIONS_MAX * tally.cuts:
                failed.append(f"{name}: text deleted in {tally.losses} of {tally.cuts} exact continuations")
            total.add(tally)
        print(f"{way:30}" + "".join(f"{cell:>10}" for cell in cells))
        if examples:
            print("\n".join(examples))
    print(
        f"\n{'all texts':30}{'cuts':>7}{'exact':>9}{'plain':>9}{'space only':>12}"
        f"{'dup. chars':>12}{'plain':>9}{'lost chars':>12}{'cuts':>6}{'refused':>9}"
    )
    for way, t in totals.items():
        if t.cuts:
            print(
                f"{way:30}{t.cuts:>7}{t.exact / t.cuts:>9.1%}{t.plain_exact / t.cuts:>9.1%}{t.space_only:>12}"
                f"{t.duplicated:>12}{t.plain_duplicated:>9}{t.lost:>12}{t.losses:>6}{t.refused:>9}"
            )
    for line in failed:
        print(f"FAILED {line}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
