"""No core executes more per chunk than it did: counted, not timed."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest

from benchmarks.count_bytecodes import BASELINE, CORES, ROOT, bytecodes_per_chunk

GROWTH = 1.15
KEPT: dict[str, float] = json.loads(BASELINE.read_text()).get(".".join(platform.python_version_tuple()[:2]), {})


def test_there_is_a_baseline_for_every_core() -> None:
    for python, counts in json.loads(BASELINE.read_text()).items():
        assert counts.keys() == CORES.keys(), python


@pytest.mark.skipif(not KEPT, reason="no baseline for this Python: benchmarks/count_bytecodes.py --write makes one")
def test_no_core_executes_much_more_per_chunk_than_before() -> None:
    # A process of its own: another test may have left a trace function or warm rules.
    code = (
        "import json; from benchmarks.count_bytecodes import CORES, bytecodes_per_chunk as count; "
        "print(json.dumps({name: count(work) for name, work in CORES.items()}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    counts: dict[str, float] = json.loads(done.stdout)
    grown = {name: (count, KEPT[name]) for name, count in counts.items() if count > GROWTH * KEPT[name]}
    assert grown == {}, "if that is worth it: python benchmarks/count_bytecodes.py --write, and say why"


def test_what_is_counted_grows_with_the_work() -> None:
    from utils.sse import SSEDecoder

    def read(times: int) -> None:
        for _ in range(times):
            SSEDecoder().feed(b"data: x\n\n")

    once, twice = bytecodes_per_chunk(lambda: read(10)), bytecodes_per_chunk(lambda: read(20))
    assert 0 < once < twice == pytest.approx(2 * once, rel=0.01)
