"""The steps in docs/extending.md and CONTRIBUTING.md: their files exist, their code runs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("docs/extending.md", "docs/library.md", "CONTRIBUTING.md", "docs/architecture.md")
EXTENDING = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_is_named_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:utils|commands|tests|examples|benchmarks|kaygraph|docs)/[\w./-]+)`", text))
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
    links = set(re.findall(r"\]\((?!http)([^)#]+)\)", text))
    assert [link for link in sorted(links) if not (ROOT / page).parent.joinpath(link).exists()] == []


def test_the_pack_is_the_one_of_the_examples() -> None:
    block = re.search(r"```toml\n(.*?)```", EXTENDING, re.S)
    assert block is not None
    assert tomllib.loads(block[1]) == tomllib.loads((ROOT / "examples" / "tickets.toml").read_text(encoding="utf-8"))


def test_the_sink_is_one() -> None:
    from utils.events import TextDelta
    from utils.run_report import RunReport

    block = re.search(r"```python\n(.*?)```", EXTENDING, re.S)
    assert block is not None
    names: dict[str, object] = {}
    exec(block[1], names)
    sink = names["WordCount"]()  # type: ignore[operator]
    sink.handle(TextDelta("two words"), 0.0)
    sink.finish(RunReport("two words", "complete", 0, "stop", "m", "m", "t", None))
    sink.close()
    assert (sink.text, sink.words) == ("two words", 2)


@pytest.mark.parametrize("page", ["docs/extending.md", "CONTRIBUTING.md"])
def test_every_command_names_what_exists(page: str) -> None:
    from commands.cli import COMMANDS

    text = (ROOT / page).read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    for block in re.findall(r"```sh\n(.*?)```", text, re.S):
        for line in block.splitlines():
            words = line.split("#")[0].split()
            if words[0] == "make":
                assert words[1] in targets
            else:
                assert words[0] == "python"
                assert words[1] in ("main.py", "-m")
                assert words[1] == "-m" or words[2].startswith("-") or words[2] in COMMANDS
                assert all((ROOT / word).exists() for word in words if word.startswith(("tests/", "examples/")))
