"""Tokens of an answer that one or several attempts wrote: nothing is counted twice, and the source is named."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.errors import ConnectionLost
from utils.events import (
    Event,
    Finished,
    Interrupted,
    Opened,
    Resumed,
    ResumeStrategy,
    Retrying,
    TextDelta,
    TokenLogprob,
    Usage,
)
from utils.metrics.recorder import Recorder

LOST = ConnectionLost("the connection was lost")


def chunks(count: int, *, logprobs: int = 0) -> list[Event]:
    tokens = tuple(TokenLogprob("t", -0.1) for _ in range(logprobs))
    return [TextDelta("text", tokens) for _ in range(count)]


def opened(attempt: int) -> Event:
    return Opened("m at u", "m", attempt)


def usage(prompt: int, completion: int) -> Event:
    return Usage(prompt, completion, prompt + completion)


def cut(attempt: int) -> list[Event]:
    return [Interrupted(LOST, 1), Retrying(attempt, 0.0, LOST), opened(attempt)]


def resumed(strategy: ResumeStrategy, attempt: int) -> Event:
    return Resumed(strategy, attempt, 0.5, 0)


CASES: dict[str, tuple[list[Event], int, str, dict[str, int], int | None]] = {
    "nothing": ([], 0, "chunks", {}, None),
    "only usage of zero": ([opened(1), usage(9, 0)], 0, "usage", {"usage": 0}, 9),
    "chunks alone": ([opened(1), *chunks(5)], 5, "chunks", {"chunks": 5}, None),
    "logprobs, two per chunk": ([opened(1), *chunks(5, logprobs=2)], 10, "logprobs", {"logprobs": 10}, None),
    "usage wins": ([opened(1), *chunks(5, logprobs=2), usage(9, 11)], 11, "usage", {"usage": 11}, 9),
    "the newest usage of an attempt replaces the earlier": (
        [opened(1), *chunks(2), usage(9, 2), *chunks(2), usage(9, 4)],
        4,
        "usage",
        {"usage": 4},
        9,
    ),
    "usage of zero beside text is not believed": ([opened(1), *chunks(5), usage(9, 0)], 5, "chunks", {"chunks": 5}, 9),
    "a failed attempt without text does not count": (
        [opened(1), usage(9, 3), Retrying(2, 0.0, LOST), opened(2), *chunks(4), usage(9, 4)],
        4,
        "usage",
        {"usage": 4},
        9,
    ),
    "a failed attempt without text and no usage later": (
        [opened(1), usage(9, 3), Retrying(2, 0.0, LOST), opened(2), *chunks(4)],
        4,
        "chunks",
        {"chunks": 4},
        9,
    ),
    "replay: the last usage covers the whole answer": (
        [opened(1), *chunks(5), *cut(2), resumed("replay", 2), *chunks(3), usage(9, 8)],
        8,
        "usage",
        {"usage": 8},
        9,
    ),
    "replay whose usage comes before the text goes on": (
        [opened(1), *chunks(5), *cut(2), usage(9, 5), resumed("replay", 2)],
        5,
        "usage",
        {"usage": 5},
        9,
    ),
    "replay without usage adds only the new chunks": (
        [opened(1), *chunks(5), *cut(2), resumed("replay", 2), *chunks(3)],
        8,
        "chunks",
        {"chunks": 8},
        None,
    ),
    "replay whose usage of zero is not believed": (
        [opened(1), *chunks(5), *cut(2), resumed("replay", 2), *chunks(3), usage(9, 0)],
        8,
        "chunks",
        {"chunks": 8},
        9,
    ),
    "an attempt that follows text without a word is added": (
        [opened(1), *chunks(5), opened(2), *chunks(3), usage(9, 3)],
        8,
        "chunks",
        {"chunks": 5, "usage": 3},
        9,
    ),
    "a resume that nothing announced begins an attempt": (
        [opened(1), *chunks(5), resumed("prefill", 2), *chunks(3), usage(14, 3)],
        8,
        "chunks",
        {"chunks": 5, "usage": 3},
        None,
    ),
    "replay drops even what an interrupted attempt reported": (
        [opened(1), *chunks(5), usage(9, 5), *cut(2), resumed("replay", 2), *chunks(3), usage(9, 8)],
        8,
        "usage",
        {"usage": 8},
        9,
    ),
    "a replay that is cut before it catches up adds nothing": (
        [opened(1), *chunks(5), *cut(2), *cut(3), resumed("replay", 3), *chunks(3), usage(9, 8)],
        8,
        "usage",
        {"usage": 8},
        9,
    ),
    "prefill: chunks of the interrupted attempt and the usage of the last": (
        [opened(1), *chunks(5), *cut(2), resumed("prefill", 2), *chunks(3), usage(14, 3)],
        8,
        "chunks",
        {"chunks": 5, "usage": 3},
        None,
    ),
    "prefill after logprobs": (
        [opened(1), *chunks(5, logprobs=2), *cut(2), resumed("prefill", 2), *chunks(3), usage(14, 3)],
        13,
        "logprobs",
        {"logprobs": 10, "usage": 3},
        None,
    ),
    "prefill, both attempts reported": (
        [opened(1), *chunks(5), usage(9, 6), *cut(2), resumed("prefill", 2), *chunks(3), usage(15, 3)],
        9,
        "usage",
        {"usage": 9},
        9,
    ),
    "continue, then replay of nothing known, then prefill": (
        [
            opened(1),
            *chunks(4),
            *cut(2),
            resumed("continue", 2),
            *chunks(2),
            *cut(3),
            resumed("prefill", 3),
            *chunks(1),
            usage(20, 1),
        ],
        7,
        "chunks",
        {"chunks": 6, "usage": 1},
        None,
    ),
    "restart after nothing was shown": (
        [opened(1), *cut(2), resumed("restart", 2), *chunks(3), usage(9, 3)],
        3,
        "usage",
        {"usage": 3},
        9,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_tokens_of_all_attempts_are_counted_once(name: str) -> None:
    events, tokens, source, by_source, prompt = CASES[name]
    recorder = Recorder(0.0)
    for number, event in enumerate(events):
        recorder.handle(event, float(number))
    metrics = recorder.metrics(100.0)
    assert (metrics["tokens"], metrics["token_source"], metrics["tokens_by_source"]) == (tokens, source, by_source)
    assert metrics["prompt_tokens"] == prompt


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([opened(1), *chunks(3)], None),
        (
            [opened(1), *chunks(3), Usage(9, 3, 14), Finished("stop")],
            {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 14, "token_source": "usage"},
        ),
        (
            [opened(1), *chunks(5), *cut(2), resumed("replay", 2), *chunks(3), Usage(9, 8, 17)],
            {"prompt_tokens": 9, "completion_tokens": 8, "total_tokens": 17, "token_source": "usage"},
        ),
        (
            [opened(1), *chunks(5), *cut(2), resumed("prefill", 2), *chunks(3), Usage(14, 3, 17)],
            {"prompt_tokens": None, "completion_tokens": 8, "total_tokens": None, "token_source": "chunks"},
        ),
        (
            [opened(1), *chunks(5), Usage(9, 5, 14), *cut(2), resumed("prefill", 2), *chunks(3), Usage(14, 3, 17)],
            {"prompt_tokens": 9, "completion_tokens": 8, "total_tokens": 17, "token_source": "usage"},
        ),
    ],
)
def test_usage_is_the_servers_word_or_none(events: list[Event], expected: dict[str, object] | None) -> None:
    recorder = Recorder(0.0)
    for event in events:
        recorder.handle(event, 1.0)
    assert recorder.usage() == expected


@given(st.lists(st.integers(0, 6), min_size=1, max_size=5), st.sampled_from(["replay", "prefill", "continue"]))
def test_without_usage_every_chunk_counts_once_however_often_the_answer_is_resumed(
    sizes: list[int], strategy: ResumeStrategy
) -> None:
    recorder = Recorder(0.0)
    handle: Callable[[Event, float], None] = recorder.handle
    handle(opened(1), 0.0)
    for attempt, size in enumerate(sizes, start=1):
        if attempt > 1:
            for event in (*cut(attempt), resumed(strategy, attempt)):
                handle(event, 0.0)
        for event in chunks(size):
            handle(event, 0.0)
    assert recorder.metrics(1.0)["tokens"] == sum(sizes)
