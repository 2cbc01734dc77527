"""What the output guard costs on ordinary prose: `python benchmarks/bench_guard.py [--rounds N]`.

Rule sets run in turn on the same tokens; the released text is checked while it is timed. Printed are medians of the
microseconds per token, and the mean number of held characters after a token. Then the times to build the default packs
and 10,000 keywords, the slowest tokens, and worst-case rules and texts at two lengths: the cost per character must not
grow with the length, nor the memory.
"""

from __future__ import annotations

import argparse
import platform
import random
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from utils.events import Redacted, TextDelta  # noqa: E402
from utils.guardrails.patterns import KeywordsPattern, RegularPattern  # noqa: E402
from utils.guardrails.policy import DEFAULT_PACKS, compile_rules  # noqa: E402
from utils.guardrails.redactor import Redactor  # noqa: E402
from utils.guardrails.rules import Rule, RuleSet  # noqa: E402

REGULAR = (
    r"\b[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}",
    r"\b\d{3}-\d{2}-\d{4}\b",
    r"\b(?:\d{1,3}\.){3}\d{1,3}\b",
    r"\b(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}\b",
    r"\+?\d[\d -]{8,14}\d\b",
    r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}\b",
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----",
    r"(?i)\bbearer [\w.~+/-]{16,}",
    r"(?i)\b(?:password|passwd|pwd)\s?[:=]\s?\S{6,}",
    r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}(?:\.[\w-]+)?",
    *(
        rf"\b{prefix}[\w-]{{16,}}"
        for prefix in ["sk-", "github_pat_", "AIza", "xoxb-", "hf_", "glpat-", "npm_", "pypi-", "sk_live_", "xai-"]
    ),
    *(
        rf"\b{prefix}[0-9A-Fa-f]{{32}}\b"
        for prefix in ["key-", "AC", "SK", "shpat_", "dop_v1_", "rk_", "ya29_", "lin_", "pat_", "tok_"]
    ),
)
"""Thirty rules of the kind that packs have: personal data, and keys with a prefix."""

WORST = {
    "(a+)+b on a...": (r"(a+)+b", "a"),
    "a[ab]{12}c on a, b at random": (r"a[ab]{12}c", "ab"),
    "x[^z]*z on x (over the cap)": (r"x[^z]*z", "x"),
}


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


def keyword_rules(count: int, regular: tuple[str, ...] = REGULAR) -> RuleSet:
    rng = random.Random(1)
    words = tuple("".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(5, 12))) for _ in range(count))
    rules = [Rule(f"r{n}", "[HIDDEN]", RegularPattern(source)) for n, source in enumerate(regular)]
    return RuleSet.compile([Rule("words", "[WORD]", KeywordsPattern(words)), *rules])


def slowest(rules: RuleSet, pieces: list[str]) -> list[float]:
    """The 50th, 99th and 100th percentile of one feed, in microseconds."""
    redactor = Redactor(rules)
    times = []
    for piece in pieces:
        started_s = time.perf_counter()
        redactor.feed(piece)
        times.append((time.perf_counter() - started_s) * 1e6)
    times.sort()
    return [times[len(times) // 2], times[len(times) * 99 // 100], times[-1]]


def build_s(*packs: str) -> float:
    """Seconds of CPU time to read and compile *packs*, in a fresh process: nothing of them is known yet."""
    code = (
        "import sys, time\n"
        "from utils.guardrails.policy import compile_rules\n"
        "started_s = time.process_time()\n"
        "compile_rules(sys.argv[1:])\n"
        "print(time.process_time() - started_s)"
    )
    command = [sys.executable, "-c", code, *packs]
    return float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def worst_cases() -> None:
    rng = random.Random(1)
    for name, (source, letters) in WORST.items():
        costs = []
        peaks = []
        for length in (20_000, 80_000):
            redactor = Redactor(RuleSet.compile([Rule("worst", "[HIDDEN]", RegularPattern(source))]))
            pieces = tokens("".join(rng.choices(letters, k=length)))
            started_s = time.perf_counter()
            for piece in pieces:
                redactor.feed(piece)
            redactor.finish()
            costs.append((time.perf_counter() - started_s) / length * 1e6)
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        print(
            f"{name:30} {costs[0]:6.2f} us per character of 20,000, {costs[1]:6.2f} of 80,000; "
            f"peak memory of the process so far {peaks[0]:.0f} and {peaks[1]:.0f} MB"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    worst_cases()  # first: the peak of the memory is theirs
    pieces = tokens(prose())
    sets = {"no rules": RuleSet.compile([])} | {f"the pack {name}": compile_rules([name]) for name in DEFAULT_PACKS}
    sets["all default packs and an own key"] = compile_rules(DEFAULT_PACKS, own_keys=["my-own-key-0123456789"])
    sets |= {f"30 regular rules, {n:,} keywords": keyword_rules(n) for n in (10, 1000, 10_000)}
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
            f"{name:36} {middle:5.2f} us per token (quartiles {low:.2f} to {high:.2f}), "
            f"{held[name][0]:.2f} characters held on average, {held[name][1]} redactions"
        )
    builds = sorted(build_s(*DEFAULT_PACKS) for _ in range(rounds))
    print(f"the default packs built in {builds[rounds // 2] * 1e3:.0f} ms in a process of its own, imports left out")
    started_s = time.perf_counter()
    keyword_rules(10_000, ())
    print(f"10,000 keywords compiled in {(time.perf_counter() - started_s) * 1e3:.0f} ms")
    middle, late, last = slowest(sets["30 regular rules, 10,000 keywords"], pieces)
    print(f"one feed, warm: median {middle:.1f} us, p99 {late:.1f} us, slowest {last:.1f} us")


if __name__ == "__main__":
    main()
