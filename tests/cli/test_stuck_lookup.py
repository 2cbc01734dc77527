"""A name look-up that hangs cannot be cancelled by anybody; it must not keep the program."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import socket, sys, threading
socket.getaddrinfo = lambda *args, **options: threading.Event().wait(60)
import main
sys.exit(main.main(sys.argv[1:]))
"""


def test_a_look_up_that_hangs_does_not_outlive_the_time_of_the_run() -> None:
    arguments = ["--base-url", "http://example.invalid/v1", "--model", "m", "--timeout", "2", "hi"]
    started_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        stdin=subprocess.DEVNULL,
    )
    assert time.monotonic() - started_s < 8
    assert done.returncode == 69
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
