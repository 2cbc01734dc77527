"""The five commands as they are typed, whatever standard input is; and what their switches do."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.cli.command_line import CommandLine, last_json, lines
from tests.support.exhaustive import exhaustive
from tests.support.paced_server import PacedServer
from tests.support.terminal import ProgramResult

COMMANDS = {
    "no arguments": (),
    "guardrails": ("--enable-guardrails",),
    "failures": ("--simulate-failures",),
    "monitor": ("--monitor-performance",),
    "gpt-4": ("--model", "gpt-4", "--temperature", "0.7"),
}
QUIET = ("no arguments", "failures")
CASES = [
    *((name, stdin) for name in COMMANDS for stdin in ("tty", "devnull")),
    *((name, "silent-pipe") for name in QUIET),
    *exhaustive([(name, "silent-pipe") for name in COMMANDS if name not in QUIET]),
]
SAYS = {
    "no arguments": (),
    "guardrails": (),
    "failures": ("(simulated)", "retrying", "interrupted", "resumed"),
    "monitor": ("ttft", "tpot", "confidence"),
    "gpt-4": ("warning", "gpt-4", "smollm2-135m-instruct"),
}
SHORT = {"KAYGRAPH_MAX_TOKENS": "8"}
# The simulated cut comes within 24 events: here it must come before the end.
LONGER = {"KAYGRAPH_MAX_TOKENS": "28"}

Runs = dict[tuple[str, str], "Future[ProgramResult]"]


@pytest.fixture(scope="module")
def runs(cli: CommandLine, warm: CommandLine) -> Iterator[Runs]:
    """All runs. The silent pipes wait for 3 seconds, all at the same time and while the others run."""
    with ThreadPoolExecutor(len(COMMANDS)) as waiting, ThreadPoolExecutor(2) as working:
        found: Runs = {}
        for name, stdin in sorted(CASES, key=lambda case: case[1] != "silent-pipe"):
            pool = waiting if stdin == "silent-pipe" else working
            found[name, stdin] = pool.submit(cli.run, *COMMANDS[name], stdin=stdin, env=_length(name))
        for name, args in COMMANDS.items():
            found[name, "json"] = working.submit(warm.run, *args, "--json", env=_length(name))
        yield found


def _length(name: str) -> dict[str, str]:
    return LONGER if name == "failures" else SHORT


@pytest.mark.parametrize(("name", "stdin"), CASES)
def test_a_command_answers_with_exit_code_0_and_nothing_but_the_answer_on_stdout(
    runs: Runs, name: str, stdin: str
) -> None:
    result = runs[name, stdin].result()
    answer = last_json(runs[name, "json"].result())["text"]

    assert result.exit_code == 0, result.errors
    assert answer
    assert result.stdout.decode() in (answer, f"{answer}\n")
    assert result.terminal == b""
    for phrase in (*SAYS[name], "stayed silent" if stdin == "silent-pipe" else "no prompt was given"):
        assert phrase in result.errors


def test_the_guardrails_hide_an_address_that_comes_in_pieces(cli: CommandLine) -> None:
    with PacedServer(pieces=["Write to jo", "hn.doe@exam", "ple.com or wait."]) as server:
        result = cli.run("--enable-guardrails", "--base-url", server.base_url, "Where to?")

    assert result.exit_code == 0
    assert result.text.startswith("Write to ")
    assert result.text.endswith(" or wait.\n")
    assert "example" not in result.text + result.errors
    assert "doe" not in result.text + result.errors
    assert any(line.startswith("hidden: ") for line in lines(result.errors))


def test_the_failures_change_nothing_in_the_answer(runs: Runs) -> None:
    undisturbed = runs["no arguments", "devnull"].result().text.rstrip("\n")

    assert runs["failures", "devnull"].result().text.startswith(undisturbed)
