"""A rule that blocks, on a real model: the answer ends before the match, nothing of it is shown, the slot is free."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.command_line import CommandLine, is_slot_free, last_json, rows
from tests.flow.harness import run_flow
from tests.support.scripted_server import wait_until
from utils.embedded_model.server import EmbeddedServer
from utils.errors import Stopped
from utils.events import Blocked, Event
from utils.guardrails.policy import compile_rules
from utils.run_context import Parameters, RunContext

PROMPT = "Tell a long story about a lighthouse."
SAMPLING = ("--seed", "3", "--temperature", "0", "--max-tokens", "50")


@dataclass(frozen=True)
class Banned:
    """A word of the model's own answer, where it first stands in it, and a pack that blocks it."""

    word: str
    before: str
    after: str
    pack: Path


@pytest.fixture(scope="module")
def cli(warm: CommandLine) -> CommandLine:
    """What is tested begins long after the imports."""
    return warm


@pytest.fixture(scope="module")
def banned(cli: CommandLine, foreign: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Banned:
    """The first long word in the second half of what the model answers without a guard."""
    free = last_json(cli.run("--base-url", foreign.base_url or "", "--json", *SAMPLING, PROMPT))
    text = free["text"]
    for found in re.finditer(r"[A-Za-z]{7,}", text):
        start = text.lower().index(found.group().lower())
        if start == found.start() > len(text) // 3:
            break
    else:
        raise AssertionError("the answer has no word to ban")
    pack = tmp_path_factory.mktemp("packs") / "banned.toml"
    pack.write_text(
        'name = "house"\ndescription = "words of the house"\n[[rule]]\nid = "banned"\ndescription = "a banned word"\n'
        f'severity = "high"\naction = "block"\nignore_case = true\nkeywords = ["{found.group()}"]\n',
        encoding="utf-8",
    )
    return Banned(found.group(), text[: found.start()], text[found.end() :].strip(), pack)


@pytest.mark.parametrize("mode", [(), ("--json",), ("--events",), ("--monitor-performance",)], ids=" ".join)
def test_nothing_of_a_blocked_match_is_in_any_output(
    cli: CommandLine, foreign: EmbeddedServer, banned: Banned, mode: tuple[str, ...]
) -> None:
    result = cli.run("--base-url", foreign.base_url or "", "--guard", str(banned.pack), *mode, *SAMPLING, PROMPT)

    assert result.exit_code == 4
    # The pack's name stands in errors, the word nowhere: not whole, and not as the piece that came first.
    everything = result.stdout.decode() + result.errors
    assert banned.word.lower() not in everything.lower()
    assert banned.after[:40] not in everything
    if mode in (("--json",), ("--events",)):
        report = last_json(result)
        assert (report["outcome"], report["exit_code"]) == ("blocked", 4)
        assert report["guard"]["answer"]["findings"][0]["action"] == "blocked"
        if mode == ("--json",):
            shown = report["text"]
        else:
            shown = "".join(row["text"] for row in rows(result) if row["type"] == "text_delta")
            assert rows(result)[-2]["type"] == "blocked"
    else:
        shown = result.text
        assert "house.banned" in result.errors
    assert shown.rstrip("\n") == banned.before.rstrip("\n")


def test_the_servers_slot_is_free_when_the_block_is_told(foreign: EmbeddedServer, banned: Banned) -> None:
    url = foreign.base_url or ""
    told: list[Event] = []

    def on_event(event: Event, context: RunContext) -> Stopped | None:
        if isinstance(event, Blocked):
            told.append(event)
            # The run goes on only after this: whatever closes the connection later would be too late.
            wait_until(lambda: is_slot_free(url), timeout_s=0.5)
        return None

    sampling = Parameters(temperature=0.0, max_tokens=2000, seed=3)
    rules = compile_rules([str(banned.pack)])
    run = run_flow(url, rules=rules, prompt=PROMPT, parameters=sampling, model="", deadline_s=30.0, on_event=on_event)
    assert told == [Blocked("house.banned")]
    assert run.report.outcome == "blocked"
    assert run.report.text == banned.before


def test_the_filter_stops_before_a_blocked_match(cli: CommandLine, banned: Banned) -> None:
    text = f"{banned.before}{banned.word} and more"
    result = cli.run("guard", "--guard", str(banned.pack), "--stats", stdin=text.encode())
    assert result.exit_code == 4
    assert result.stdout.decode() == banned.before
    assert banned.word not in result.errors
