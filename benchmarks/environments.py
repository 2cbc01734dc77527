"""Pinned packages in a virtual environment of their own, for what a comparison is made with."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["INSTALL_LIMIT_S", "InstallError", "pinned_environment", "say"]

INSTALL_LIMIT_S = 300


class InstallError(Exception):
    """The packages could not be installed. Its text is the reason, in one line."""


def say(text: str) -> None:
    """Progress, on stderr: standard output is for the table."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def pinned_environment(pins: Path, title: str, home: Path, keep: bool) -> Iterator[Path]:
    """The Python of the environment *home*: the one that is there if its *pins* are the same, or a new one.

    A new one is removed at the end unless *keep*. Raises: InstallError if it cannot be made.
    """
    stamp = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()
    marker = home / "pins.sha256"
    python = home / "bin" / "python"
    if marker.is_file() and marker.read_text() == stamp:
        say(f"{title}: the packages in {home}")
        yield python
        return
    say(f"{title}: installing")
    try:
        shutil.rmtree(home, ignore_errors=True)
        pip = ["-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-input", "--no-deps", "-r"]
        for command in ([sys.executable, "-m", "venv", str(home)], [str(python), *pip, str(pins)]):
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=False)
            except subprocess.TimeoutExpired as error:
                raise InstallError(f"did not install: not done within {INSTALL_LIMIT_S} s") from error
            if done.returncode:
                lines = [line for line in done.stderr.splitlines() if line.strip()]
                reason = next((line for line in lines if line.startswith("ERROR")), (lines or ["no reason given"])[-1])
                raise InstallError(f"did not install: {reason[:200]}")
        marker.write_text(stamp)
        yield python
    finally:
        if not (keep and marker.is_file()):
            shutil.rmtree(home, ignore_errors=True)
