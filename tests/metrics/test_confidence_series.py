"""Confidence on what a real server sent: every figure computed once more from the raw JSON, in exact fractions."""

from __future__ import annotations

import asyncio
import copy
import json
import math
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest

from tests.metrics import recorded_answers
from tests.metrics.recorded_answers import body, events, names
from tests.support.sample_rules import sample_rules
from utils.chat_stream import ChatStreamDecoder
from utils.embedded_model.spec import PINNED
from utils.events import Event, Redacted, TextDelta
from utils.guardrails.hold_log import HoldLog
from utils.guardrails.redactor import Redactor
from utils.guardrails.stage import guarded
from utils.metrics.recorder import Recorder

STEP_S = 0.125
"""Between two events; its multiples are exact."""
WINDOW = 32
ANSWERS = names()
IN_SEVERAL_TOKENS = ("emoji", "chinese")

Json = dict[str, Any]


@dataclass
class Placed:
    """One token: its logprob as it was sent, and [start, end) of the delta that it came with in the text shown."""

    logprob: Fraction
    start: int
    end: int


def chunks_of(raw: bytes) -> Iterator[tuple[str, list[Fraction]]]:
    """Text and logprobs of each event that has a text, straight from the body; numbers in their decimal digits.

    What was sent ahead of a text, in events whose text is empty, is its.
    """
    ahead: list[Fraction] = []
    for block in raw.decode().split("\n\n"):
        if not block.startswith("data: {"):
            continue
        for choice in json.loads(block[6:], parse_float=Fraction)["choices"]:
            ahead += [Fraction(entry["logprob"]) for entry in (choice.get("logprobs") or {}).get("content", ())]
            if choice["delta"].get("content"):
                yield choice["delta"]["content"], ahead
                ahead = []


def placed(raw: bytes) -> list[Placed]:
    tokens, chars = [], 0
    for text, logprobs in chunks_of(raw):
        tokens += [Placed(logprob, chars, chars + len(text)) for logprob in logprobs]
        chars += len(text)
    return tokens


def expected(tokens: Sequence[Placed]) -> Json:
    """The figures as `DEFINITIONS` words them."""
    mean = sum(token.logprob for token in tokens) / len(tokens)
    size = min(WINDOW, len(tokens))
    windows = [tokens[first : first + size] for first in range(len(tokens) - size + 1)]
    means = [sum(token.logprob for token in window) / size for window in windows]
    lowest = windows[means.index(min(means))]
    unlikely = [token for token in tokens if math.exp(token.logprob) < 0.5]
    return {
        "tokens": len(tokens),
        "left_out": 0,
        "mean_logprob": pytest.approx(float(mean), rel=1e-12),
        "perplexity": pytest.approx(math.exp(-mean), rel=1e-12),
        "low_probability_share": pytest.approx(len(unlikely) / len(tokens), rel=1e-15),
        "lowest_window": {
            "mean_logprob": pytest.approx(float(min(means)), rel=1e-12),
            "tokens": size,
            "start_char": lowest[0].start,
            "end_char": lowest[-1].end,
        },
    }


def decoded(raw: bytes, seed: int = 1) -> list[Event]:
    """The events of *raw*, which arrives in pieces that end anywhere, also inside a character."""
    rng = random.Random(seed)
    decoder = ChatStreamDecoder(target="the server", attempt=1)
    found: list[Event] = []
    start = 0
    while start < len(raw):
        end = start + rng.randint(1, 700)
        found += decoder.feed(raw[start:end])
        start = end
    last, verdict = decoder.finish()
    return [*found, *last, verdict]


def recorded(raw: bytes) -> Recorder:
    """The recorder after the answer, its n-th event n steps after the start."""
    recorder = Recorder(0.0)
    for n, event in enumerate(decoded(raw), 1):
        recorder.handle(event, n * STEP_S)
    return recorder


def joined(of: list[Json], size: int) -> list[Json]:
    """The same answer from a server that sends *size* tokens in one chunk."""
    chunks: list[Json] = []
    group: list[Json] = []
    for event in copy.deepcopy(of):
        if not (event["choices"] and event["choices"][0]["delta"].get("content")):
            chunks.append(event)
            group = []
        elif not group or len(group) == size:
            chunks.append(event)
            group = [event]
        else:
            group.append(event)
            first, choice = group[0]["choices"][0], event["choices"][0]
            first["delta"]["content"] += choice["delta"]["content"]
            first["logprobs"]["content"] += choice["logprobs"]["content"]
    return chunks


def entries_of(event: Json) -> list[Json]:
    return [entry for choice in event["choices"] for entry in (choice.get("logprobs") or {}).get("content", ())]


def by_bytes(entry: Json) -> list[Json]:
    """*entry* from a server that names the parts of a character: each byte is a token of its own."""
    data = bytes(entry["bytes"])
    if len(data) == len(data.decode()):
        return [entry]
    share = entry["logprob"] / len(data)
    parts = [share * (n + 1) for n in range(len(data))]
    return [
        {**entry, "token": f"\\x{byte:02x}", "bytes": [byte], "logprob": part}
        for byte, part in zip(data, parts, strict=True)
    ]


@pytest.mark.parametrize("size", [1, 2, 7])
@pytest.mark.parametrize("name", ANSWERS)
def test_every_figure_follows_from_the_raw_answer(name: str, size: int) -> None:
    raw = body(joined(events(name), size))
    tokens = placed(raw)
    assert len(tokens) == sum(len(entries_of(event)) for event in events(name))
    assert recorded(raw).quality()["confidence"] == expected(tokens)


@pytest.mark.parametrize("name", ["uncertain", "code"])
def test_the_figures_are_right_at_every_moment_of_an_answer(name: str) -> None:
    sent = events(name)
    recorder = Recorder(0.0)
    tokens = iter(placed(body(sent)))
    so_far: list[Placed] = []
    ends_with_the_lowest = 0
    for event in decoded(body(sent)):
        recorder.handle(event, 0.0)
        if isinstance(event, TextDelta):
            so_far.append(next(tokens))
            found = recorder.quality()["confidence"]
            assert found == expected(so_far)
            ends_with_the_lowest += len(so_far) > WINDOW and found["lowest_window"]["end_char"] == so_far[-1].end
    assert len(so_far) == 60
    assert ends_with_the_lowest


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("name", ANSWERS)
def test_the_series_has_each_token_with_its_place_its_arrival_and_its_probability(name: str, size: int) -> None:
    raw = body(joined(events(name), size))
    recorder = recorded(raw)
    log = recorder.token_log()
    tokens = placed(raw)
    assert log.start_char == [token.start for token in tokens]
    assert log.probability == pytest.approx([math.exp(token.logprob) for token in tokens], rel=1e-12)
    assert log.held_s == [0.0] * len(tokens)
    # The first event is `Opened`; then each chunk is one.
    starts = list(dict.fromkeys(token.start for token in tokens))
    assert log.t_s == [(starts.index(token.start) + 2) * STEP_S for token in tokens]
    assert [record.latency_s for record in log] == [STEP_S if token.start else None for token in tokens]


@pytest.mark.parametrize("name", IN_SEVERAL_TOKENS)
def test_the_server_names_one_token_for_a_character_of_several(name: str) -> None:
    """What llama.cpp sends of such a character is the logprob of its last token: the figures know half of the tokens,
    say so, and call nothing missing."""
    sent = events(name)
    entries = [entry for event in sent for entry in entries_of(event)]
    assert all(bytes(entry["bytes"]).decode() == entry["token"] for entry in entries)
    assert "".join(entry["token"] for entry in entries) == "".join(text for text, _ in chunks_of(body(sent)))
    recorder = recorded(body(sent))
    quality = recorder.quality()
    assert quality["confidence"]["tokens"] == len(entries)
    assert (recorder.usage() or {})["completion_tokens"] == 60 > len(entries)
    assert quality["completeness"]["unaccounted_tokens"] == 0


@pytest.mark.parametrize("name", IN_SEVERAL_TOKENS)
def test_tokens_that_are_parts_of_a_character_all_count(name: str) -> None:
    sent = copy.deepcopy(events(name))
    for event in sent:
        for choice in event["choices"]:
            if choice.get("logprobs"):
                choice["logprobs"]["content"] = [p for e in choice["logprobs"]["content"] for p in by_bytes(e)]
    raw = body(sent)
    tokens = placed(raw)
    assert len(tokens) > 1.5 * sum(len(entries_of(event)) for event in events(name))
    recorder = recorded(raw)
    assert recorder.quality()["confidence"] == expected(tokens)
    assert len(recorder.token_log()) == len(tokens)


def test_logprobs_of_a_chunk_without_text_count_to_the_text_that_follows() -> None:
    """A server may send the first tokens of a character ahead of it, in chunks whose text is empty."""
    sent: list[Json] = []
    for event in events("emoji"):
        entries = [part for entry in entries_of(event) for part in by_bytes(entry)]
        for entry in entries[:-1]:
            ahead = copy.deepcopy(event)
            ahead["choices"][0] |= {"delta": {"content": ""}, "logprobs": {"content": [entry]}}
            sent.append(ahead)
        last = copy.deepcopy(event)
        if entries:
            last["choices"][0]["logprobs"] = {"content": entries[-1:]}
        sent.append(last)
    tokens = placed(body(sent))
    assert len(tokens) == sum(len(entries_of(event)) for event in sent) > 60
    recorder = recorded(body(sent))
    assert recorder.quality()["confidence"] == expected(tokens)
    assert recorder.token_log().start_char == [token.start for token in tokens]


class Stream:
    """An answer as it arrives: its n-th event n steps after the start."""

    def __init__(self, of: list[Event]) -> None:
        self._events = iter(of)
        self.now = 0.0

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        for event in self._events:
            self.now += STEP_S
            return event
        raise StopAsyncIteration

    async def aclose(self) -> None:
        pass


def behind_the_guard(raw: bytes) -> tuple[Recorder, HoldLog]:
    async def run() -> tuple[Recorder, HoldLog]:
        recorder, logs = Recorder(0.0), list[HoldLog]()
        stream = Stream(decoded(raw))
        shown = guarded(stream, lambda: Redactor(sample_rules()), clock=lambda: stream.now, on_hold=logs.append)
        async for event in shown:
            recorder.handle(event, stream.now)
        return recorder, logs[0]

    return asyncio.run(run())


def placed_behind_the_guard(raw: bytes) -> tuple[list[Placed], int]:
    """Each token with the text that is released next, as the guard alone releases it; and how many have none."""
    guard = Redactor(sample_rules())
    tokens: list[Placed] = []
    waiting: list[Fraction] = []
    chars = 0
    for text, logprobs in (*chunks_of(raw), (None, ())):
        waiting += logprobs
        for event in guard.feed(text) if text is not None else guard.finish():
            if isinstance(event, TextDelta):
                tokens += [Placed(logprob, chars, chars + len(event.text)) for logprob in waiting]
                chars += len(event.text)
                waiting = []
            elif isinstance(event, Redacted):
                chars += len(event.replacement)
    return tokens, len(waiting)


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("name", [name for name in ANSWERS if name != "address at the end"])
def test_a_guard_that_holds_text_back_moves_tokens_and_loses_none(name: str, size: int) -> None:
    sent = [event for event in joined(events(name), size) if event["choices"]]
    for event in sent:
        if event["choices"][0]["finish_reason"]:
            event["choices"][0]["finish_reason"] = "stop"
    raw = body(sent)
    tokens, lost = placed_behind_the_guard(raw)
    recorder, hold = behind_the_guard(raw)
    assert lost == 0
    assert [token.logprob for token in tokens] == [token.logprob for token in placed(raw)]
    assert recorder.quality()["confidence"] == expected(tokens)
    log = recorder.token_log(hold)
    named = [(start, p) for start, p in zip(log.start_char, log.probability, strict=True) if p is not None]
    assert [start for start, _ in named] == [token.start for token in tokens]
    assert [p for _, p in named] == pytest.approx([math.exp(token.logprob) for token in tokens], rel=1e-12)
    if name == "address" and size == 1:
        assert recorder.text == "Write to [EMAIL] or to [EMAIL] before Friday."
        assert [token.start for token in tokens] != [token.start for token in placed(raw)]
        assert max(log.held_s) > STEP_S


def test_tokens_of_an_address_at_the_very_end_have_no_text_to_go_with() -> None:
    raw = body([event for event in events("address at the end") if event["choices"]])
    tokens, lost = placed_behind_the_guard(raw)
    recorder, _ = behind_the_guard(raw)
    assert recorder.text == "If you have questions, please write to [EMAIL]"
    assert lost > 0
    assert len(tokens) + lost == len(placed(raw))
    assert recorder.quality()["confidence"] == expected(tokens)


def test_the_answers_are_those_of_the_embedded_model_and_differ_in_their_certainty() -> None:
    assert recorded_answers.provenance() == {"model": PINNED.name, "sha256": PINNED.sha256}
    assert len(ANSWERS) >= 5
    perplexity = {name: recorded(body(events(name))).quality()["confidence"]["perplexity"] for name in ANSWERS}
    assert perplexity["uncertain"] > 1.5 * perplexity["prose"] > perplexity["short"] >= 1
