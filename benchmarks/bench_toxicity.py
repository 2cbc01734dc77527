"""What the toxicity classifier is worth and what it costs: `python benchmarks/bench_toxicity.py [--rounds N]`.

Quality on the labelled sentences (benchmarks/toxicity_sentences.toml): one half chooses the threshold, the other half
says how good it is. The counts at the default threshold are asserted, so a change of the data, of the labels or of the
classifier shows. Then the time per sentence, and what the guard adds per token of four characters.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from utils.guardrails.toxicity import DEFAULT_THRESHOLD, LexicalToxicity, ToxicityGuard  # noqa: E402
from utils.guardrails.toxicity_windows import SentenceWindows  # noqa: E402

SENTENCES = ROOT / "benchmarks" / "toxicity_sentences.toml"
STEPS = [step / 20 for step in range(1, 20)]
AT_DEFAULT = {"choosing half": (21, 10, 20, 59), "other half": (22, 6, 19, 62)}
"""True positives, false positives, false negatives, true negatives that were measured."""


class Sentence(NamedTuple):
    text: str
    is_toxic: bool
    category: str
    chooses: bool
    """It belongs to the half that chooses the threshold."""


class Confusion(NamedTuple):
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    @property
    def precision(self) -> float:
        found = self.true_positives + self.false_positives
        return self.true_positives / found if found else 1.0

    @property
    def recall(self) -> float:
        return self.true_positives / (self.true_positives + self.false_negatives)

    def f(self, beta: float) -> float:
        """The weighted harmonic mean of precision and recall; recall counts *beta* times as much."""
        below = beta**2 * self.precision + self.recall
        return (1 + beta**2) * self.precision * self.recall / below if below else 0.0


def labelled() -> list[Sentence]:
    """Every sentence of the set. The labels are checked: two of them, each sentence once, each category under one."""
    table = tomllib.loads(SENTENCES.read_text(encoding="utf-8"))
    assert set(table) == {"toxic", "neutral"}, "unknown label"
    assert not set(table["toxic"]) & set(table["neutral"]), "a category stands under both labels"
    rows = [
        Sentence(text, label == "toxic", category, place % 2 == 0)
        for label, categories in table.items()
        for category, texts in categories.items()
        for place, text in enumerate(texts)
    ]
    assert len({row.text for row in rows}) == len(rows) >= 160, "too few sentences, or one stands twice"
    return rows


def confusion(rows: list[Sentence], scores: dict[str, float], threshold: float) -> Confusion:
    found = [(scores[row.text] >= threshold, row.is_toxic) for row in rows]
    return Confusion(*(found.count(kind) for kind in ((True, True), (True, False), (False, True), (False, False))))


def chosen_threshold(rows: list[Sentence], scores: dict[str, float]) -> float:
    """The step with the highest F0.5 on the choosing half; of equals the highest step."""
    choosing = [row for row in rows if row.chooses]
    return max(STEPS, key=lambda step: (round(confusion(choosing, scores, step).f(0.5), 6), step))


def print_quality(rows: list[Sentence], scores: dict[str, float]) -> None:
    halves = {
        "choosing half": [row for row in rows if row.chooses],
        "other half": [row for row in rows if not row.chooses],
        "all": rows,
    }
    chosen = chosen_threshold(rows, scores)
    assert chosen == DEFAULT_THRESHOLD, f"the set chooses {chosen}, the default is {DEFAULT_THRESHOLD}"
    print(f"{len(rows)} sentences, {sum(row.is_toxic for row in rows)} toxic; default threshold {DEFAULT_THRESHOLD}\n")
    print("threshold  half            precision  recall    F1   F0.5   (true/false positives, false/true negatives)")
    for threshold in (0.35, 0.5, 0.65, DEFAULT_THRESHOLD, 0.95):
        for name, half in halves.items():
            row = confusion(half, scores, threshold)
            assert threshold != DEFAULT_THRESHOLD or AT_DEFAULT.get(name, row) == row, f"{name}: {row}"
            figures = f"{row.precision:9.2f} {row.recall:7.2f} {row.f(1):5.2f} {row.f(0.5):6.2f}"
            print(f"{threshold:9.2f}  {name:14} {figures}   {tuple(row)}")
    print(f"\nover {DEFAULT_THRESHOLD} by category:")
    for category in dict.fromkeys(row.category for row in rows):
        members = [row for row in rows if row.category == category]
        over = sum(scores[row.text] >= DEFAULT_THRESHOLD for row in members)
        print(f"  {'toxic' if members[0].is_toxic else 'neutral':8} {category:18} {over:2} of {len(members)}")


def microseconds(work: Callable[[], int], rounds: int) -> tuple[float, float, float]:
    """Quartiles of the time per unit of *work*, which returns how many units it did."""
    times = []
    for _ in range(rounds):
        started_s = time.perf_counter()
        units = work()
        times.append((time.perf_counter() - started_s) / units * 1e6)
    low, middle, high = statistics.quantiles(times, n=4)
    return low, middle, high


def print_cost(rows: list[Sentence], scores: dict[str, float], model: LexicalToxicity, rounds: int) -> None:
    prose = (ROOT / "README.md").read_text(encoding="utf-8")
    tokens = [prose[place : place + 4] for place in range(0, len(prose), 4)]
    windows = SentenceWindows()
    judged = [window.text.strip() for window in [*windows.feed(prose), *windows.finish()] if window.text.strip()]
    flagged = sum(model.score(text) >= DEFAULT_THRESHOLD for text in judged)

    def score_all() -> int:
        for row in rows:
            assert model.score(row.text) == scores[row.text]
        return len(rows)

    def guard_all() -> int:
        guard = ToxicityGuard(model, "hold", 1.0)
        for token in tokens:
            guard.feed(token)
        guard.finish()
        assert guard.toxicity_statistics().toxic == 0
        return len(tokens)

    print(f"\nfalse alarms on ordinary prose (README.md): {flagged} of {len(judged)} windows")
    for name, work in {"score, per sentence": score_all, "guard in hold mode, per token": guard_all}.items():
        low, middle, high = microseconds(work, rounds)
        print(f"{name:30} {middle:5.2f} us (quartiles {low:.2f} to {high:.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    model = LexicalToxicity()
    started_s = time.perf_counter()
    model.load()
    print(f"Python {platform.python_version()}, data read in {(time.perf_counter() - started_s) * 1e3:.1f} ms")
    rows = labelled()
    scores = {row.text: model.score(row.text) for row in rows}
    print_quality(rows, scores)
    print_cost(rows, scores, model, rounds)


if __name__ == "__main__":
    main()
