"""Loops at the end of a text and open code fences: against an oracle, and on ordinary text."""

from __future__ import annotations

import json
import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from utils.metrics.quality import REPETITION_WINDOW_CHARS, Repetition, find_repetition, has_open_fence

STANDARD_LIBRARY = Path(sysconfig.get_paths()["stdlib"])
REPOSITORY = Path(__file__).resolve().parents[2]


def has_period(text: str, period: int, covered: int) -> bool:
    end = text[len(text) - covered :]
    return covered <= len(text) and all(end[i] == end[i - period] for i in range(period, covered))


def oracle(text: str) -> Repetition | None:
    """The definition, word for word: try every period, compare every character."""
    for period in range(1, 401):
        if not has_period(text, period, max(3 * period, 60)):
            continue
        is_symbols_only = not any(character.isalnum() for character in text[-period:])
        if is_symbols_only and not has_period(text, period, max(3 * period, 200)):
            continue
        covered = max(3 * period, 60)
        while has_period(text, period, covered + 1):
            covered += 1
        return Repetition(period, covered)
    return None


@st.composite
def nearly_periodic(draw: st.DrawFn) -> str:
    unit = draw(st.text(alphabet="ab-_ \n\u00e9", min_size=1, max_size=45))
    text = draw(st.text(alphabet="ab-", max_size=30)) + unit * draw(st.integers(1, 240 // len(unit) + 4))
    text = text[: len(text) - draw(st.integers(0, len(unit) - 1))]
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, max(0, len(text) - 1)))
        text = text[:place] + draw(st.sampled_from("ab-")) + text[place + 1 :]
    return text


@given(nearly_periodic())
@example("a" * 59)
@example("a" * 60)
@example("b" + "a" * 60)
@example("-" * 199)
@example("-" * 200)
@example(("-" * 80 + "\nname\n") * 3)
@example(("x" * 399 + "y") * 3)
@example(("x" * 400 + "y") * 3)
@example((("b" + "a" * 45) * 4)[:-3])
@example("a" * 57 + "b" + "a" * 59)
@example("")
def test_the_search_finds_exactly_what_trying_every_period_finds(text: str) -> None:
    assert find_repetition(text) == oracle(text)


@given(st.text(alphabet="ab", max_size=300))
def test_the_search_agrees_with_the_definition_on_texts_of_two_letters(text: str) -> None:
    assert find_repetition(text) == oracle(text)


@pytest.mark.parametrize(
    ("unit", "times", "expected"),
    [
        ("I am a loop. ", 5, Repetition(13, 65)),
        ("I am a loop. ", 4, None),
        ("word ", 12, Repetition(5, 60)),
        ("a sentence that is longer than twenty characters. ", 3, Repetition(50, 150)),
        ("a sentence that is longer than twenty characters. ", 2, None),
        ("=", 120, None),
        ("=", 200, Repetition(1, 200)),
        ("\U0001f600", 60, None),
        ("\u6f22\u5b57", 30, Repetition(2, 60)),
    ],
)
def test_a_unit_counts_from_three_times_and_sixty_characters_on(
    unit: str, times: int, expected: Repetition | None
) -> None:
    found = find_repetition(f"Here it comes:{unit * times}")
    assert found == expected
    if found:
        assert found.repeats == pytest.approx(found.covered_chars / len(unit))


def test_an_incomplete_last_unit_does_not_hide_a_loop() -> None:
    unit = "The quick brown fox jumps over it. "
    for cut in range(len(unit)):
        found = find_repetition((unit * 5)[: len(unit) * 5 - cut])
        assert found == Repetition(len(unit), len(unit) * 5 - cut)


def ordinary_texts() -> Iterator[tuple[str, str]]:
    for name in ("argparse", "typing", "inspect", "socket", "decimal", "statistics", "subprocess", "zipfile"):
        path = STANDARD_LIBRARY / f"{name}.py"
        if path.exists():
            yield name, path.read_text(encoding="utf-8")
    for path in sorted((*REPOSITORY.glob("utils/*.py"), *REPOSITORY.glob("kaygraph/*.py"))):
        yield path.name, path.read_text(encoding="utf-8")
    rng = random.Random(7)
    rows = [{"id": i, "name": f"user{rng.randrange(999)}", "active": rng.random() < 0.5} for i in range(150)]
    yield "json", json.dumps(rows, indent=2)
    cells = [f"| {i} | {rng.random():.3f} | {rng.choice(['yes', 'no'])} |" for i in range(150)]
    yield "table", "| id | score | ok |\n|----|-------|----|\n" + "\n".join(cells)
    yield "count", ", ".join(map(str, range(1, 900)))
    yield "list", "\n".join(f"{i}. Item number {i} of the list" for i in range(1, 200))


def test_ordinary_code_json_tables_and_lists_raise_no_false_alarm() -> None:
    checks, alarms = 0, []
    rng = random.Random(11)
    for name, text in ordinary_texts():
        place = 0
        while place < len(text):
            place += rng.randint(100, 300)  # 50 chunks of two to six characters
            checks += 1
            if find_repetition(text[max(0, place - REPETITION_WINDOW_CHARS) : place]):
                alarms.append((name, place))
    assert checks > 1_500
    assert alarms == []


@pytest.mark.parametrize(
    ("text", "is_open"),
    [
        ("", False),
        ("plain", False),
        ("```", True),
        ("```python\nprint()\n", True),
        ("```python\nprint()\n```", False),
        ("```python\nprint()\n```\n", False),
        ("```python\r\nprint()\r\n```\r\n", False),
        ("```\na\n```\n```\nb", True),
        ("`one` and ``two``", False),
        ("inline ```code``` here", False),
        ("```code``` at the start of a line", False),
        ("````\n```\n", True),
        ("````\n```\n````", False),
        ("```\n~~~\n```", False),
        ("~~~ `x`\ntext", True),
        ("~~~\ncode\n~~~~", False),
        ("```\nnot closed by ```python\n```python\n", True),
        ("1. Do:\n\n      ```sh\n      ls\n      ```\n", False),
        ("1. Do:\n\n      ```sh\n      ls\n", True),
        ("- ```\n  x\n  ```", False),
        ("> ```\n> x\n", True),
        ("text ends in ``", False),
    ],
)
def test_a_text_is_open_exactly_when_its_last_fence_is_not_closed(text: str, is_open: bool) -> None:
    assert has_open_fence(text) is is_open


def test_a_fence_search_takes_linear_time_on_hostile_lines() -> None:
    for line in (" " * 200_000, "> " * 100_000, "- " + " " * 200_000, "`" * 200_000 + "x`", "1" * 200_000):
        assert has_open_fence(line + "\nend") is False
