"""Tokens of an answer that one or several attempts wrote: nothing is counted twice, and the source is named."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from utils.errors import ConnectionLost
from utils.events import (
    Event,
    Finished,
    Interrupted,
    Opened,
    Redacted,
    Resumed,
    ResumeStrategy,
    Retrying,
    TextDelta,
    TokenLogprob,
    Usage,
)
from utils.metrics.recorder import Recorder
from utils.metrics.tokenizer import MAX_TAIL_CHARS, Tokenizer

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


class Words:
    """Counts what stands between spaces, and remembers that it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def count(self, text: str) -> int:
        self.asked += 1
        return len(text.split())


class Shelf:
    """Has the vocabulary of one model, which estimates for all others."""

    def __init__(self, model: str | None = "m") -> None:
        self.model = model
        self.words = Words()
        self.asked: list[str | None] = []

    def tokenizer_for(self, model: str | None) -> tuple[Tokenizer, bool] | None:
        self.asked.append(model)
        return self.words, model == self.model


def said(*pieces: str) -> list[Event]:
    return [TextDelta(piece) for piece in pieces]


def hidden(replacement: str) -> Event:
    return Redacted("pii.email", replacement, 9)


TOKENIZED: dict[str, tuple[list[Event], str, dict[str, int]]] = {
    "the model's own vocabulary": ([opened(1), *said("on", "e tw", "o three")], "tokenizer", {"tokenizer": 3}),
    "the vocabulary of another model": (
        [Opened("x at u", "x", 1), *said("one two")],
        "estimate",
        {"estimate": 2},
    ),
    "usage and logprobs are better": (
        [opened(1), *chunks(2, logprobs=1), *cut(2), resumed("prefill", 2), *said(" a b"), usage(9, 5)],
        "logprobs",
        {"logprobs": 2, "usage": 5},
    ),
    "hidden text has tokens that nobody knows": (
        [opened(1), *said("write to "), hidden("[EMAIL]"), *said(" now")],
        "estimate",
        {"estimate": 4},
    ),
    "what was hidden before the interruption is no matter of the next attempt": (
        [opened(1), *said("write to "), hidden("[EMAIL]"), *cut(2), resumed("continue", 2), *said(" now or never")],
        "estimate",
        {"estimate": 3, "tokenizer": 3},
    ),
    "each attempt counts its own text": (
        [opened(1), *said("one two"), *cut(2), resumed("continue", 2), *said(" three four five")],
        "tokenizer",
        {"tokenizer": 5},
    ),
    "a replay that counts covers what was counted before": (
        [opened(1), *said("one two"), *cut(2), resumed("replay", 2), *said(" three"), usage(9, 3)],
        "usage",
        {"usage": 3},
    ),
    "a text without boundaries": ([opened(1), *said("x" * (MAX_TAIL_CHARS + 1))], "estimate", {"estimate": 1}),
    "nothing was shown": ([opened(1)], "chunks", {}),
}


@pytest.mark.parametrize("is_watched", [False, True])
@pytest.mark.parametrize("name", TOKENIZED)
def test_a_tokenizer_counts_what_no_server_counted(name: str, is_watched: bool) -> None:
    events, source, by_source = TOKENIZED[name]
    recorder = Recorder(0.0, Shelf().tokenizer_for)
    for number, event in enumerate(events):
        recorder.handle(event, float(number))
        if is_watched:
            recorder.snapshot(float(number))
    metrics = recorder.metrics(100.0)
    assert (metrics["token_source"], metrics["tokens_by_source"]) == (source, by_source)
    assert metrics["tokens"] == sum(by_source.values())


def test_no_vocabulary_is_asked_for_while_others_count() -> None:
    shelf = Shelf()
    recorder = Recorder(0.0, shelf.tokenizer_for)
    for event in (opened(1), *chunks(3, logprobs=1)):
        recorder.handle(event, 0.0)
        recorder.snapshot(1.0)
    recorder.metrics(1.0)
    assert shelf.asked == []


def test_without_a_vocabulary_the_chunks_count_and_it_is_looked_for_once() -> None:
    asked: list[str | None] = []
    recorder = Recorder(0.0, lambda model: asked.append(model))
    for event in (opened(1), *said("a ", "b ", "c ")):
        recorder.handle(event, 0.0)
        recorder.snapshot(1.0)
    assert (recorder.metrics(1.0)["token_source"], recorder.metrics(1.0)["tokens"]) == ("chunks", 3)
    assert asked == ["m"]


@given(st.lists(st.text(alphabet="ab \u00e9", min_size=1, max_size=9), max_size=300), st.sets(st.integers(0, 300)))
@example(["a b "] * 120, {30, 70, 99})
def test_the_count_is_that_of_the_whole_text_whenever_somebody_looks(pieces: list[str], looks: set[int]) -> None:
    recorder = Recorder(0.0, Shelf().tokenizer_for)
    recorder.handle(opened(1), 0.0)
    for place, event in enumerate(said(*pieces)):
        recorder.handle(event, 0.0)
        if place in looks:
            recorder.snapshot(0.0)
    assert recorder.metrics(1.0)["tokens"] == len("".join(pieces).split())
