"""Streaming guards side by side: `python benchmarks/compare_guards.py [--peers nemo,presidio] [--markdown | --json]`.

Each guard is installed, with pinned packages, in a virtual environment of its own (0.1 to 0.5 GB; one at a time in the
user's cache, removed after use unless `--keep`), and runs in a process of its own that may not use the network. All
read the same 2,000 tokens of clean prose, and the same stream with one of six secrets at each of several places (it
ends 400 tokens after the secret). Leaks and delays are exact; CPU time is measured in rounds in which this project's
guard and the other take turns. What this project's guard shows is compared with the expected text every time, also
while it is timed.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import json
import math
import os
import platform
import select
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.environments import InstallError, pinned_environment, say  # noqa: E402
from benchmarks.peers.measure import Cost, Row, Shown, clean_figures, leak_of, outcome_of  # noqa: E402
from benchmarks.peers.streams import SECRETS, Planted, clean_tokens, plant, plant_places  # noqa: E402
from benchmarks.peers.tables import markdown_table, notes, plain_table  # noqa: E402
from utils.embedded_model.spec import cache_dir  # noqa: E402

DRIVERS = ROOT / "benchmarks" / "peers"
PEERS = {
    "nemo": "NeMo Guardrails",
    "guardrails_ai": "Guardrails AI",
    "langchain_pii": "LangChain PIIMiddleware",
    "litellm_filter": "LiteLLM content filter",
    "presidio": "Presidio",
    "openai_guardrails": "openai-guardrails",
}
OURS = "this project"
ANSWER_LIMIT_S = 120
TIMED_CPU_S = 0.1
"""A timed answer repeats its pass until it takes about so long."""


class DriverError(Exception):
    """A guard could not be loaded, or a pass failed. Its text is the reason, in one line."""


class Driver:
    """A running driver; its first answer is in `hello`. Use as a context manager: leaving it ends the process."""

    def __init__(self, python: Path, script: Path, home: Path) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(home), "PYTHONHASHSEED": "0", "LANG": "C.UTF-8"}
        self._process = subprocess.Popen(
            # -P: a driver's own directory must not hide a package of the same name.
            [str(python), "-P", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            cwd=home,
        )

    def __enter__(self) -> Driver:
        try:
            self.hello = self._read()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to *request*. Raises: DriverError."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise DriverError(self._last_error()) from error
        return self._read()

    def show(self, setting: int, tokens: list[str]) -> Shown:
        answer = self.ask({"do": "show", "setting": setting, "tokens": tokens})
        after = answer["after"] + [len(answer["text"])] * (len(tokens) - len(answer["after"]))
        return Shown(answer["text"], after, answer["is_complete"])

    def time(self, setting: int, tokens: list[str], repeat: int) -> tuple[float, str]:
        """CPU seconds of one pass, and the text it showed."""
        answer = self.ask({"do": "time", "setting": setting, "tokens": tokens, "repeat": repeat})
        return answer["cpu_s"], answer["text"]

    def _read(self) -> dict[str, Any]:
        stdout = self._process.stdout
        assert stdout is not None
        if not select.select([stdout], [], [], ANSWER_LIMIT_S)[0]:
            raise DriverError(f"no answer within {ANSWER_LIMIT_S} s")
        line = stdout.readline()
        if not line:
            raise DriverError(self._last_error())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise DriverError(answer["error"])
        return answer

    def _last_error(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "ended without a word")

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(BrokenPipeError):
                if stream is not None:
                    stream.close()


def expect(shown: str, expected: str) -> None:
    """Our own guard shows exactly what it should, or the comparison is void."""
    if shown != expected:
        place = next((n for n, (a, b) in enumerate(zip(shown, expected, strict=False)) if a != b), len(expected))
        raise AssertionError(f"this project's guard showed other text than expected, from character {place}")


def measure(
    driver: Driver, setting: int, row: Row, streams: list[Planted], tokens: list[str], ours: Driver, rounds: int
) -> None:
    """Fill *row* with the figures of one setting. Raises: DriverError."""
    is_ours = driver is ours
    row.import_cpu_s, row.rss_mb = driver.hello["import_cpu_s"], driver.hello["rss_mb"]
    clean = driver.show(setting, tokens)
    clean_figures(tokens, clean, row)
    shown = [(stream, driver.show(setting, stream.tokens)) for stream in streams]
    for secret in SECRETS:
        row.leaks[secret.id] = leak_of([(stream, seen.text) for stream, seen in shown if stream.secret is secret])
    for stream, seen in shown:
        outcome = outcome_of(stream, seen)
        row.outcomes[outcome] = row.outcomes.get(outcome, 0) + 1
        if is_ours:
            expect(seen.text, stream.before + stream.secret.replacement + stream.after)
    if not driver.hello["settings"][setting]["is_timed"]:
        return
    text = "".join(tokens)
    repeats = {
        d: math.ceil(TIMED_CPU_S / max(d.time(n, tokens, 1)[0], 1e-6)) for d, n in ((ours, 0), (driver, setting))
    }
    costs: list[float] = []
    ratios: list[float] = []
    for _ in range(rounds):
        base, own_text = ours.time(0, tokens, repeats[ours])
        expect(own_text, text)
        cost, seen_text = (base, own_text) if is_ours else driver.time(setting, tokens, repeats[driver])
        if seen_text != clean.text:
            raise DriverError("the timed pass showed other text than the untimed one")
        costs.append(cost / len(tokens) * 1e6)
        ratios.append(cost / base)
    row.cost = Cost(statistics.median(costs), statistics.median(ratios), min(ratios), max(ratios))


def rows_of(
    name: str, driver: Driver, streams: list[Planted], tokens: list[str], ours: Driver, rounds: int
) -> Iterator[Row]:
    """One row per setting. A setting that fails has its reason and no figures."""
    versions = driver.hello["versions"]
    for n, setting in enumerate(driver.hello["settings"]):
        first = next(iter(versions.values()), "")
        row = Row(f"{name} {first}".strip(), setting["label"], setting["note"])
        say(f"{row.peer}: {row.setting}")
        try:
            measure(driver, n, row, streams, tokens, ours, rounds)
        except DriverError as error:
            row.failed = f"failed: {error}"
        yield row


def compare(peers: list[str], directory: Path, keep: bool, positions: int, rounds: int) -> tuple[list[Row], list[str]]:
    """All rows, ours first, and the versions of what was measured."""
    tokens = clean_tokens()
    places = plant_places(tokens, positions)
    streams = [plant(tokens, secret, place) for secret in SECRETS for place in places]
    rows: list[Row] = []
    versions: list[str] = []
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ours = stack.enter_context(Driver(Path(sys.executable), DRIVERS / "ours.py", home))
        rows.extend(rows_of(OURS, ours, streams, tokens, ours, rounds))
        for peer in peers:
            try:
                with (
                    pinned_environment(DRIVERS / f"{peer}.txt", PEERS[peer], directory / peer, keep) as python,
                    Driver(python, DRIVERS / f"{peer}.py", home) as driver,
                ):
                    versions += [f"{name} {version}" for name, version in driver.hello["versions"].items()]
                    rows.extend(rows_of(PEERS[peer], driver, streams, tokens, ours, rounds))
            except (DriverError, InstallError) as error:
                rows.append(Row(PEERS[peer], "", failed=str(error)))
    return rows, versions


def peer_list(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(PEERS)}")
    return names


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=peer_list, default=list(PEERS), help=f"of {','.join(PEERS)}; all by default")
    parser.add_argument(
        "--venvs", type=Path, default=cache_dir() / "peers", help="where environments are (%(default)s)"
    )
    parser.add_argument("--keep", action="store_true", help="keep the new environments (2 GB) for the next run")
    parser.add_argument("--positions", type=positive, default=10, help="of each secret (%(default)s)")
    parser.add_argument("--rounds", type=positive, default=5, help="of timing (%(default)s)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON instead of a table")
    form.add_argument("--markdown", action="store_true", help="print a Markdown table")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))  # so that environments are removed
    rows, versions = compare(options.peers, options.venvs.resolve(), options.keep, options.positions, options.rounds)
    with contextlib.suppress(OSError):
        options.venvs.rmdir()  # if nothing is left in it
    about = f"{datetime.date.today().isoformat()}, Python {platform.python_version()}, {os.cpu_count()} CPUs, " + (
        ", ".join(versions) or "no peers"
    )
    if options.json:
        print(json.dumps({"about": about, "rows": [dataclasses.asdict(row) for row in rows]}, indent=1))
        return
    lines = notes(rows, options.positions)
    if options.markdown:
        print(f"{markdown_table(rows)}\n\n{about}.\n\n" + "\n".join(f"- {line}" for line in lines))
    else:
        print(f"{plain_table(rows)}\n\n{about}\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
