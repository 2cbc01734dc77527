"""A Python without the packages: the program's own environment is used, or the way to it is told."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    for name in ("main.py", "commands/__init__.py", "commands/startup.py", "commands/cli.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path / "main.py"


def run_without_packages(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # -S leaves out site-packages.
    return subprocess.run(
        [sys.executable, "-S", str(program), *arguments], capture_output=True, text=True, check=False, timeout=30
    )


def test_without_an_environment_the_way_to_one_is_told(program: Path) -> None:
    done = run_without_packages(program, "--version")
    assert done.returncode == 78
    assert done.stdout == ""
    error, hint = done.stderr.splitlines()
    assert error == f"error: the package 'click' is not installed for {sys.executable}"
    assert "make run" in hint


def test_the_environment_beside_the_program_is_used(program: Path) -> None:
    own = program.parent / ".venv" / "bin" / "python"
    own.parent.mkdir(parents=True)
    own.write_text('#!/bin/sh\nshift\necho "own python: $*"\n', encoding="utf-8")
    own.chmod(0o755)
    done = run_without_packages(program, "--version", "a b")
    assert (done.returncode, done.stdout, done.stderr) == (0, "own python: --version a b\n", "")
