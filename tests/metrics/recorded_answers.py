"""Answers with logprobs as the embedded model's server sends them: `python -m tests.metrics.recorded_answers --record`.

`recorded_answers.jsonl` has the model on its first line and one answer on each other: what was asked, and the events of
the body as they came, each number the same double; only `top_logprobs`, twenty other tokens for each, are taken out.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from pathlib import Path
from typing import Any

from utils.embedded_model.spec import PINNED

__all__ = ["RECORDED", "body", "events", "names", "provenance"]

RECORDED = Path(__file__).with_suffix(".jsonl")


@functools.cache
def _rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RECORDED.read_text("utf-8").split("\n") if line]


def provenance() -> dict[str, str]:
    """Which model wrote the answers: its name and the SHA-256 of its file."""
    return _rows()[0]


def names() -> list[str]:
    """The answers, in the order of the file."""
    return [row["name"] for row in _rows()[1:]]


def events(name: str) -> list[dict[str, Any]]:
    """The data of each event of the answer *name* but the last one, `[DONE]`; copy them before you change them."""
    found: list[dict[str, Any]] = next(row["events"] for row in _rows()[1:] if row["name"] == name)
    return found


def body(of: list[dict[str, Any]]) -> bytes:
    """The body of a response with these events, and `[DONE]`."""
    data = [json.dumps(event, ensure_ascii=False, separators=(",", ":")) for event in of]
    return "".join(f"data: {text}\n\n" for text in (*data, "[DONE]")).encode()


def _events_of(raw: bytes) -> list[dict[str, Any]]:
    data = [line.removeprefix("data: ") for line in raw.decode().split("\n") if line.startswith("data: ")]
    if data[-1] != "[DONE]":
        raise ValueError("the answer is not whole")
    found: list[dict[str, Any]] = [json.loads(text) for text in data[:-1]]
    for event in found:
        for choice in event["choices"]:
            for entry in (choice.get("logprobs") or {}).get("content", ()):
                entry["top_logprobs"] = []
    return found


def record() -> None:
    """Ask the embedded model the same again, and keep what its server sends."""
    from tests.flow.embedded_runs import EmbeddedRuns
    from tests.flow.kept_bodies import Bodies
    from utils.failure_simulator import FailurePlan
    from utils.run_context import Parameters

    rows = _rows()[1:]
    with EmbeddedRuns() as runs:
        for row in rows:
            bodies = Bodies()
            parameters = Parameters(row["temperature"], row["max_tokens"], row["seed"], logprobs=True)
            report = runs.run(row["prompt"], parameters, FailurePlan(), below=bodies.keep).report
            if report.outcome != "complete" or len(bodies.kept) != 1:
                raise SystemExit(f"{row['name']}: the model's answer is not whole ({report.error})")
            row["events"] = _events_of(bytes(bodies.kept[0]))
    model = {"model": PINNED.name, "sha256": PINNED.sha256}
    lines = [json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in (model, *rows)]
    RECORDED.write_text("\n".join(lines) + "\n", "utf-8")
    _rows.cache_clear()


def main() -> int:
    """Record, or say what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="rewrite the file")
    if parser.parse_args().record:
        record()
    for name in names():
        print(f"{name}: {len(events(name))} events")
    return 0


if __name__ == "__main__":
    sys.exit(main())
