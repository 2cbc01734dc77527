"""Answers to render: endless pieces of Markdown of seven shapes, the same every time.

Each row fits on 80 columns or may be cut at a space, and no word stands twice in the same form by Markdown's doing: so
the words of an answer are, in their order, those on the screen.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Iterator

from benchmarks.bench_guard import prose, tokens

__all__ = ["SHAPES", "answer"]

WORDS = re.findall(r"\b[a-z]{2,9}\b", prose())


def sentence(rng: random.Random, words: int) -> str:
    chosen = rng.choices(WORDS, k=words)
    chosen[words // 3] = f"**{chosen[words // 3]}**"
    chosen[-2] = f"`{chosen[-2]}`"
    return " ".join(chosen) + "."


def short_blocks(rng: random.Random) -> Iterator[str]:
    for number in itertools.count(1):
        if number % 6 == 1:
            yield f"## Part {number}\n\n"
        yield f"{number}: {sentence(rng, rng.randint(6, 24))}\n\n"


def code(rng: random.Random) -> Iterator[str]:
    yield "```python\n"
    for number in itertools.count(1):
        name, other = rng.choices(WORDS, k=2)
        if number % 12 == 1:
            yield f"\ndef {name}_{number}(value: int) -> int:\n"
        yield f'    {name} = compute(value, "{other}", {number})  # {other} {name}\n'


def one_line(rng: random.Random) -> Iterator[str]:
    while True:
        yield sentence(rng, 12) + " "


def many_lines(rng: random.Random) -> Iterator[str]:
    while True:
        yield sentence(rng, 12) + "\n"


def table(rng: random.Random) -> Iterator[str]:
    yield "| number | name | other | last |\n|---:|---|---|---|\n"
    for number in itertools.count(1):
        yield f"| {number} | {' | '.join(rng.choices(WORDS, k=3))} |\n"


def nested_list(rng: random.Random) -> Iterator[str]:
    for number in itertools.count(1):
        depth = (0, 1, 2, 3, 2, 1)[number % 6]
        yield f"{'  ' * depth}- {number}: {sentence(rng, 9)}\n"


def mixed(rng: random.Random) -> Iterator[str]:
    """What an assistant writes: headings, prose, lists, code, tables, quotes."""
    parts = (code, table, nested_list)
    for number in itertools.count(1):
        yield f"## Part {number}\n\n{sentence(rng, 30)}\n{sentence(rng, 20)}\n\n"
        yield f"{number}. {sentence(rng, 12)}\n   - {sentence(rng, 12)}\n\n> {sentence(rng, 15)}\n\n"
        part = parts[number % 3]
        yield "".join(itertools.islice(part(rng), 9)) + ("```\n\n" if part is code else "\n")


SHAPES: dict[str, Callable[[random.Random], Iterator[str]]] = {
    "what assistants write": mixed,
    "many short blocks": short_blocks,
    "one code block": code,
    "one paragraph, one line": one_line,
    "one paragraph, many lines": many_lines,
    "one table": table,
    "one nested list": nested_list,
}


def answer(shape: str, count: int) -> list[str]:
    """The first *count* tokens, of 3.7 characters each."""
    text, pieces = "", SHAPES[shape](random.Random(1))
    while len(text) < 4 * count:
        text += "".join(itertools.islice(pieces, 100))
    return tokens(text)[:count]
