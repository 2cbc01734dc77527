"""`python main.py --otel --prometheus`: whatever becomes of the export, stdout and exit code are those of the run."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.cli.command_line import CommandLine, lines
from tests.exporters.records import collected, collector
from tests.support.scripted_server import Pause
from tests.support.terminal import ProgramResult
from utils.embedded_model.fetch import fetch

ASK = ("--temperature", "0", "--max-tokens", "12", "--raw", "-s", "Tell.", "Name the largest ocean.")
CUT = ("--failure-plan", "cut@40%", "--retries", "0")


@pytest.fixture(scope="module")
def cli() -> CommandLine:
    """The program with the real model, fetched into the user's cache the first time."""
    return CommandLine(fetch().parent, is_warm=True)


@pytest.fixture(scope="module")
def plain(cli: CommandLine) -> ProgramResult:
    """The run that nobody is told of."""
    return cli.run(*ASK)


def seconds(result: ProgramResult) -> float:
    return result.ended_at - result.started_at


def test_a_run_is_exported_and_prints_what_it_would_print_anyway(
    cli: CommandLine, plain: ProgramResult, tmp_path: Path
) -> None:
    path = tmp_path / "kaygraph.prom"
    with collector() as server:
        result = cli.run(*ASK, "--otel", f"http://127.0.0.1:{server.port}", "--prometheus", str(path))
        got = collected(server)
    assert (result.exit_code, result.stdout) == (0, plain.stdout)
    assert result.stderr == plain.stderr
    (span,) = got.spans
    assert (span.name, span.status.code) == ("chat smollm2-135m-instruct", 0)
    assert span.start_time_unix_nano < span.end_time_unix_nano
    assert len(got.instruments) == 4
    assert 'outcome="complete"' in path.read_text(encoding="utf-8")
    assert len(plain.text.split()) > 3
    for word in {*plain.text.split(), "largest", "ocean"}:
        assert len(word) < 6 or (word.encode() not in got.raw and word not in path.read_text(encoding="utf-8"))


def test_nobody_listens(cli: CommandLine, plain: ProgramResult, tmp_path: Path) -> None:
    # A good name, but none is left for the draft beside it: it fails only when it is written.
    place = str(tmp_path / f"{'x' * 245}.prom")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    result = cli.run(*ASK, "--otel", f"http://127.0.0.1:{port}", "--prometheus", place)
    assert (result.exit_code, result.stdout) == (0, plain.stdout)
    ours = [
        f"note: the OpenTelemetry export to http://127.0.0.1:{port} failed",
        f"note: the Prometheus file '{place}' cannot be written: ",
    ]
    assert all(sum(line.startswith(note) for line in lines(result.errors)) == 1 for note in ours)
    # And not a word of the packages.
    others = [line for line in lines(result.errors) if not line.startswith(tuple(ours))]
    assert others == lines(plain.errors)


def test_a_collector_that_says_nothing_costs_two_seconds(cli: CommandLine, plain: ProgramResult) -> None:
    with collector(Pause(60.0)) as server:
        result = cli.run(*ASK, "--json", "--quiet", "--otel", f"http://127.0.0.1:{server.port}")
    assert (result.exit_code, result.errors) == (0, "")
    assert json.loads(result.text)["text"].strip() == plain.text.strip()
    # The rest is the noise of two runs on a busy machine.
    assert seconds(result) - seconds(plain) < 2.0 + 2.0


def test_an_answer_that_was_cut_keeps_its_exit_code_and_is_an_error_there(cli: CommandLine) -> None:
    with collector() as server:
        result = cli.run(*ASK, *CUT, "--otel", f"http://127.0.0.1:{server.port}")
        (span,) = collected(server).spans
    assert result.exit_code == 3
    assert (span.status.code, span.status.message) == (2, "stream_truncated")
    unheard = cli.run(*ASK, *CUT, "--otel", "http://127.0.0.1:9")
    assert (unheard.exit_code, unheard.stdout) == (3, result.stdout)
