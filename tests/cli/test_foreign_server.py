"""The program as a client of an OpenAI-compatible server that it did not start: a real llama.cpp."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.command_line import CommandLine, is_slot_free, last_json, lines, rows
from tests.support.scripted_server import wait_until
from tests.support.terminal import ProgramResult
from utils.embedded_model.server import EmbeddedServer

PROMPT = "Name three rivers of Europe and say where they end."
SAMPLED = ("--temperature", "1", "--max-tokens", "24", PROMPT)


@pytest.fixture(scope="module")
def cli(warm: CommandLine) -> CommandLine:
    """What is tested begins long after the imports."""
    return warm


@pytest.fixture(scope="module")
def sampled(cli: CommandLine, foreign: EmbeddedServer) -> ProgramResult:
    """A sampled answer with seed 7, as events."""
    return cli.run("--base-url", foreign.base_url or "", "--events", "--seed", "7", *SAMPLED)


def _deltas(result: ProgramResult) -> list[dict[str, Any]]:
    return [row for row in rows(result) if row["type"] == "text_delta"]


def _text(result: ProgramResult) -> str:
    return "".join(row["text"] for row in _deltas(result))


def test_the_server_names_its_model_and_reports_tokens_with_logprobs_and_usage(sampled: ProgramResult) -> None:
    report, deltas = last_json(sampled), _deltas(sampled)
    tokens = [token for row in deltas for token in row["tokens"]]
    (usage,) = [row for row in rows(sampled) if row["type"] == "usage"]

    assert sampled.exit_code == 0
    assert report["model_used"] == "smollm2-135m-instruct"
    assert deltas
    assert all(row["tokens"] for row in deltas)
    assert all(token["logprob"] <= 0 for token in tokens)
    assert "".join(token["text"] for token in tokens) == _text(sampled)
    assert usage["completion_tokens"] == 24
    assert usage["total_tokens"] == usage["prompt_tokens"] + 24
    assert report["usage"]["token_source"] == "usage"
    assert report["quality"]["confidence"]["tokens"] == len(tokens)


def test_an_answer_of_full_length_is_complete_and_says_so_in_one_line(
    cli: CommandLine, foreign: EmbeddedServer, sampled: ProgramResult
) -> None:
    result = cli.run("--base-url", foreign.base_url or "", "--model", "smollm2-135m-instruct", "--seed", "7", *SAMPLED)

    assert last_json(sampled)["finish_reason"] == "length"
    assert last_json(sampled)["outcome"] == "complete"
    assert result.exit_code == 0
    assert len(lines(result.errors)) == 1
    assert "length" in result.errors
    # The same seed, the same text.
    assert result.text.rstrip("\n") == _text(sampled).rstrip("\n")


def test_another_seed_gives_another_text(cli: CommandLine, foreign: EmbeddedServer, sampled: ProgramResult) -> None:
    result = cli.run("--base-url", foreign.base_url or "", "--events", "--seed", "8", *SAMPLED)

    assert _text(result) != _text(sampled)


def test_the_system_prompt_reaches_the_model(cli: CommandLine, foreign: EmbeddedServer, sampled: ProgramResult) -> None:
    system = "You are a pirate. Every answer of yours is one single word in capital letters, nothing else at all."
    result = cli.run("--base-url", foreign.base_url or "", "--events", "--seed", "7", "--system", system, *SAMPLED)

    assert _text(result) != _text(sampled)
    assert last_json(result)["usage"]["prompt_tokens"] != last_json(sampled)["usage"]["prompt_tokens"]


def test_a_stop_text_ends_the_answer_before_it(cli: CommandLine, foreign: EmbeddedServer) -> None:
    count = ("--seed", "1", "--temperature", "0", "--max-tokens", "24", "Count: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10.")
    whole = cli.run("--base-url", foreign.base_url or "", *count).text.rstrip("\n")
    stop = whole[len(whole) // 2 :][:4]
    result = cli.run("--base-url", foreign.base_url or "", "--stop", stop, "--json", *count)
    report = last_json(result)

    assert result.exit_code == 0
    assert report["finish_reason"] == "stop"
    assert report["text"] == whole[: whole.index(stop)]


def test_no_slot_of_the_server_stays_busy(foreign: EmbeddedServer, sampled: ProgramResult) -> None:
    assert sampled.exit_code == 0
    wait_until(lambda: is_slot_free(foreign.base_url))
