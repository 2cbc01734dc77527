"""A chat whose prompts come from a file or a pipe, and whose answers go into one."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from tests.support.exhaustive import exhaustive
from tests.support.talking_server import TalkingServer
from tests.support.terminal import MAIN, clean_environment


def in_bash(home: Path, command: str) -> tuple[subprocess.CompletedProcess[bytes], int]:
    """Run *command*, which writes the exit code of the chat into the file `status`."""
    result = subprocess.run(
        ["bash", "-c", command],
        env=clean_environment(home),
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=True,
    )
    return result, int((home / "status").read_text())


LONG = "x" * 200_000
"""More than a pipe holds."""


@pytest.mark.parametrize(
    ("redirection", "answer", "status", "asked", "out", "errors"),
    [
        # Prompts and commands; the last line has no end.
        ("< prompts | cat", "one\n", 0, 3, b"one\ntwo\nTWO\n", b"saved 2 exchanges in 'talk.json'\n"),
        ("< prompts | head -c 3", LONG, 141, 1, b"xxx", b""),
        ("< /dev/null | cat", "one", 0, 0, b"", b""),
        *exhaustive([("< prompts >&-", "one", 141, 1, b"", b"error: cannot write the answer: Bad file descriptor\n")]),
    ],
)
def test_prompts_from_a_file_are_answered_line_by_line_until_nobody_reads(
    tmp_path: Path, redirection: str, answer: str, status: int, asked: int, out: bytes, errors: bytes
) -> None:
    (tmp_path / "prompts").write_bytes(b"first\r\n\nsecond\n/retry\n/save talk.json")
    with TalkingServer(answer, "two", "TWO", "four") as server:
        command = shlex.join([*MAIN, "chat", "--base-url", server.base_url, "-m", "m"])
        result, code = in_bash(tmp_path, f"{command} {redirection}; echo ${{PIPESTATUS[0]}} > status")
        assert [body["messages"][-1]["content"] for body in server.bodies] == ["first", "second", "second"][:asked]
    assert (code, result.stdout, result.stderr) == (status, out, errors)
    assert (tmp_path / "talk.json").exists() == (asked == 3)
