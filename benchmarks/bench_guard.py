"""What the output guard costs on ordinary prose: `python benchmarks/bench_guard.py [--rounds N]`.

Rule sets run in turn on the same tokens; the released text is checked while it is timed. Printed are medians of the
microseconds per token, and the mean number of held characters after a token.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from utils.events import Redacted, TextDelta  # noqa: E402
from utils.guardrails.redactor import Redactor  # noqa: E402
from utils.guardrails.rules import RuleSet, default_rules  # noqa: E402


def prose() -> str:
    """The project's own prose: no licence questions, and it holds no secret."""
    files = [ROOT / "README.md", *sorted((ROOT / "docs" / "decisions").glob("*.md"))]
    return "".join(path.read_text(encoding="utf-8") for path in files) * 6


def tokens(text: str) -> list[str]:
    """Pieces of 2 to 6 characters, 3.7 on average: as a stream of model tokens is."""
    sizes, pieces, place = (3, 4, 5, 2, 4, 3, 6, 3, 4, 3), [], 0
    while place < len(text):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(text[place : place + size])
        place += size
    return pieces


def run(rules: RuleSet, pieces: list[str]) -> tuple[float, float, int]:
    redactor = Redactor(rules)
    shown: list[str] = []
    redactions = 0
    started_s = time.perf_counter()
    for piece in pieces:
        for event in redactor.feed(piece):
            if isinstance(event, TextDelta):
                shown.append(event.text)
            elif isinstance(event, Redacted):
                redactions += 1
    for event in redactor.finish():
        if isinstance(event, TextDelta):
            shown.append(event.text)
    elapsed_s = time.perf_counter() - started_s
    assert redactions or "".join(shown) == "".join(pieces), "clean text was changed"
    return elapsed_s / len(pieces) * 1e6, redactor.statistics().held_mean_chars, redactions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    pieces = tokens(prose())
    everything = default_rules("my-own-key-0123456789")
    sets = {"no rules": RuleSet.compile([]), "all default rules": everything}
    times: dict[str, list[float]] = {name: [] for name in sets}
    held: dict[str, tuple[float, int]] = {}
    for _ in range(rounds):
        for name, rules in sets.items():
            cost, mean, redactions = run(rules, pieces)
            times[name].append(cost)
            held[name] = mean, redactions
    size = len("".join(pieces)) / len(pieces)
    print(f"Python {platform.python_version()}, {len(pieces)} tokens of {size:.1f} characters")
    for name, row in times.items():
        low, middle, high = statistics.quantiles(row, n=4)
        print(
            f"{name:18} {middle:5.2f} us per token (quartiles {low:.2f} to {high:.2f}), "
            f"{held[name][0]:.2f} characters held on average, {held[name][1]} redactions"
        )


if __name__ == "__main__":
    main()
