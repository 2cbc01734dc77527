"""What a shell completes: asked as bash asks, and typed into a real one."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.terminal import clean_environment

ROOT = Path(__file__).resolve().parents[2]
needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")


def script(shell: str, *options: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "main.py"), "completion", *filter(None, [shell]), *options],
        capture_output=True, text=True, check=False, env=environment, timeout=60,
    )  # fmt: skip


ASKED = """
source "$1"
ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); COMPREPLY=(); _kaygraph_complete 2>/dev/null; echo "${COMPREPLY[*]}"; }
ask kaygraph ""; ask kaygraph hist; ask kaygraph --tox; ask kaygraph run --guard-action ""; ask kaygraph run --guard p
ask kaygraph history ""
"""


@needs_bash
def test_commands_options_and_values_are_completed(tmp_path: Path) -> None:
    file = tmp_path / "script"
    file.write_text(script("bash").stdout)
    done = subprocess.run(["bash", "-c", ASKED, "-", str(file)], capture_output=True, text=True, check=True, timeout=60)
    first, *others = done.stdout.splitlines()
    assert {"run", "chat", "guard", "history", "doctor"} <= set(first.split())
    assert others == [
        "history",
        "--toxicity --toxicity-classifier",
        "redact mask block flag",
        "pii profanity",
        "export list prune show stats",
    ]


@needs_bash
@pytest.mark.parametrize(
    ("content", "offered"),
    [
        (
            '[targets.fast]\nmodel = "m"\n[targets.fine]\n[profiles.work]\n',
            ["fast fine", "fast", "work none", "embedded"],
        ),
        ("not toml", ["", "", "none", "embedded"]),
        ('targets = "text"', ["", "", "none", "embedded"]),
        (None, ["", "", "none", "embedded"]),
    ],
)
def test_targets_and_profiles_of_the_settings_file_are_completed(
    content: str | None, offered: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "script"
    file.write_text(script("bash").stdout)
    if content is not None:
        (tmp_path / "kaygraph-streaming-llm").mkdir()
        (tmp_path / "kaygraph-streaming-llm" / "config.toml").write_text(content)
    ask = ASKED.splitlines()[1:3]
    questions = ["ask kaygraph -m f", "ask kaygraph --fallback fas", 'ask kaygraph --profile ""', "ask kaygraph -m emb"]
    done = subprocess.run(
        ["bash", "-c", "\n".join([*ask, *questions]), "-", str(file)],
        capture_output=True, text=True, check=True, timeout=60,
        env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout.splitlines() == offered


@needs_bash
def test_a_tab_in_a_real_bash_completes_the_word_and_files(tmp_path: Path) -> None:
    (tmp_path / "rules-of-mine.toml").write_text("")
    (tmp_path / ".bashrc").write_text(script("bash").stdout + "\nPS1='$ '\n")
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execvpe("bash", ["bash", "-i"], {**clean_environment(tmp_path), "TERM": "dumb"})
    shown = b""

    def wait_for(text: bytes) -> None:
        nonlocal shown
        deadline = time.monotonic() + 30
        while text not in shown:
            assert time.monotonic() < deadline, shown
            if select.select([fd], [], [], 1.0)[0]:
                shown += os.read(fd, 4096)

    try:
        wait_for(b"$ ")
        os.write(fd, b"kaygraph doc\t")
        wait_for(b"kaygraph doctor")
        os.write(fd, b"\x15kaygraph --guard rules-\t")
        wait_for(b"rules-of-mine.toml")
    finally:
        os.close(fd)
        os.waitpid(pid, 0)


def test_the_shell_is_the_one_that_is_used_and_others_are_refused(tmp_path: Path) -> None:
    home = clean_environment(tmp_path)
    assert "compdef" in script("", environment={**home, "SHELL": "/usr/bin/zsh"}).stdout
    refused = script("", environment={**home, "SHELL": "/bin/csh"})
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "error: no completion for the shell 'csh'\nhint: name one of bash, zsh, fish\n"
    assert script("bash", "--name", "rm -rf").returncode == 2
    for shell in ("bash", "zsh", "fish"):
        text = script(shell, "--name", "kg").stdout
        assert "_kg_complete" in text
        assert str(ROOT / "main.py") in text


@needs_bash
def test_the_script_is_valid_bash() -> None:
    assert subprocess.run(["bash", "-n"], input=script("bash").stdout, text=True, check=False).returncode == 0
