"""One program in one scenario, run to its end or to the limit."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from benchmarks.programs.clients import Client
from benchmarks.programs.judge import FRAGMENT_CHARS, Run
from benchmarks.programs.scenarios import KEY, MODEL, PROMPT, Place, Scenario
from benchmarks.programs.screen import screen_text
from tests.support.terminal import Program, ProgramTimeout

__all__ = ["observe"]


def observe(client: Client, python: Path, scenario: Scenario, limit_s: float) -> Run | None:
    """Run *client*, of the environment of *python*, in *scenario*; it is killed after *limit_s* seconds.

    None if it cannot be asked so.
    """
    question = [PROMPT] if scenario.asks == "argument" else client.from_stdin
    if question is None:
        return None
    with tempfile.TemporaryDirectory(prefix="compared-") as directory, scenario.serve() as place:
        home = Path(directory)
        values = {"url": place.base_url, "key": KEY, "model": MODEL}
        client.write_files(home, values)
        shell = ("bash", "-c", scenario.shell, "bash") if scenario.shell else ()
        output: Literal["tty", "pipe"] = "tty" if scenario.on_terminal else "pipe"
        with Program(
            question,
            argv_prefix=(*shell, *client.argv(python, values)),
            env=client.environment(values),
            home=home,
            stdin=scenario.stdin,
            stdout=output,
            stderr=output,
        ) as program:
            facts = scenario.drive(program, place)
            exit_code: int | None = None
            ended_at = 0.0
            try:
                result = program.wait(max(0.0, program.started_at + limit_s - time.monotonic()))
                exit_code, ended_at = _as_a_shell_shows(result.exit_code), result.ended_at
            except ProgramTimeout:
                ended_at = time.monotonic()
            raw = program.output("stdout")
            facts += scenario.look(place, raw) + _key_facts(place)
            said = program.output("stderr").decode(errors="replace")
        shown = raw.decode(errors="replace")
        if scenario.on_terminal:
            shown, said = _divided(screen_text(raw), scenario.answer)
        return Run(exit_code, shown, said, ended_at - program.started_at, tuple(facts))


def _as_a_shell_shows(exit_code: int) -> int:
    return exit_code if exit_code >= 0 else 128 - exit_code


def _divided(screen: str, answer: Sequence[str]) -> tuple[str, str]:
    """The lines from which the answer can be told, and the others. The answers on terminals fit into one line."""
    mark = answer[0][:FRAGMENT_CHARS]
    lines = screen.splitlines()
    shown = [line for line in lines if mark in line]
    said = [line for line in lines if mark not in line]
    return "\n".join(shown), "\n".join(said)


def _key_facts(place: Place) -> list[str]:
    """A program that was given the key and does not use it was not asked as it should be."""
    has_key = all(request.headers.get("authorization") == f"Bearer {KEY}" for request in place.asked)
    return [] if has_key else ["the key was not sent"]
