"""The examples, each as its user runs it, against a server on loopback; and the code of docs/library.md."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import wire
from tests.support.scripted_server import ScriptedServer, Send
from tests.support.terminal import clean_environment
from utils.guardrails.packs import load_pack

ROOT = Path(__file__).resolve().parents[2]
SENTENCES = ("The ticket ACME-2", "0451 is closed. ", "It is", " over. ", "Nobody asks. ", "The end.")
PAGES = "".join((ROOT / page).read_text(encoding="utf-8") for page in ("docs/library.md", "README.md"))
BLOCKS = re.findall(r"```python\n(.*?)```", PAGES, re.S)


def answers(count: int) -> list[list[Any]]:
    events = wire.sse(*(wire.delta(text) for text in SENTENCES), wire.finish(), wire.usage(9, 6), wire.DONE)
    return [[Send(wire.stream_response(events))] for _ in range(count)]


def run(code: list[str], home: Path, url: str) -> subprocess.CompletedProcess[str]:
    environment = {**clean_environment(home), "OPENAI_BASE_URL": url, "KAYGRAPH_MODEL": "m"}
    return subprocess.run(
        [sys.executable, *code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_own_rule_hides_what_the_chunks_cut(tmp_path: Path) -> None:
    with ScriptedServer(answers(1)) as server:
        done = run(["examples/own_rule.py"], tmp_path, server.base_url)
    assert (done.returncode, done.stderr) == (0, "hidden: 1\n")
    assert done.stdout == "The ticket [TICKET] is closed. It is over. Nobody asks. The end.\n"


def test_own_node_ends_the_answer_behind_its_sentences(tmp_path: Path) -> None:
    with ScriptedServer(answers(1)) as server:
        done = run(["examples/own_node.py", "2"], tmp_path, server.base_url)
    assert (done.returncode, done.stdout) == (0, "The ticket ACME-20451 is closed. It is over.\n")
    assert done.stderr == "finish_reason sentences, 44 characters\n"


def test_own_target_leaves_the_server_alone_that_is_down(tmp_path: Path) -> None:
    with ScriptedServer(answers(3)) as server:
        done = run(["examples/own_target.py", server.base_url, "m"], tmp_path, server.base_url)
        assert len(server.requests) == 3
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line for line in done.stdout.splitlines() if line.startswith("  ")]
    assert [re.sub(r"at http\S+", "", line) for line in lines] == [
        "  complete by m  at attempt 3; the breaker of 'big' is open",
        "  complete by m  at attempt 2; the breaker of 'big' is open",
        "  complete by m  at attempt 2; the breaker of 'big' is open",
    ]


def test_the_pack_file_holds_the_same_rule() -> None:
    (entry,) = load_pack(str(ROOT / "examples" / "tickets.toml")).rules
    assert entry.rule.id == "tickets.number"
    assert entry.rule.pattern.source in (ROOT / "examples" / "own_rule.py").read_text(encoding="utf-8")  # type: ignore[union-attr]


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_the_code_in_the_documentation_runs(number: int, tmp_path: Path) -> None:
    with ScriptedServer(answers(1)) as server:
        done = run(["-c", BLOCKS[number]], tmp_path, server.base_url)
    assert (done.returncode, done.stderr) == (0, "")
    assert "It is over. Nobody asks. The end." in done.stdout


@pytest.mark.parametrize("name", ["own_rule", "own_node", "own_target"])
def test_a_python_without_packages_is_told_in_two_lines_which_one_has_them(name: str, tmp_path: Path) -> None:
    done = run(["-S", f"examples/{name}.py"], tmp_path, "http://127.0.0.1:9/v1")  # without site-packages
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "error: this Python has no packages",
        "hint: use .venv/bin/python, which `make run` makes",
    ]


def test_every_example_is_run_here() -> None:
    tested = Path(__file__).read_text(encoding="utf-8")
    assert all(f"examples/{path.name}" in tested for path in (ROOT / "examples").glob("*.py"))
