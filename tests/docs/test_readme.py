"""The README, the help page and the changelog stay true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import main
from flow import create_streaming_graph
from tests.flow.harness import prompt_policy
from utils import errors
from utils.resilience.resilient_stream import Opener
from utils.resilience.upstream import Upstream
from utils.run_context import EMBEDDED, Target
from utils.settings import Settings
from utils.version import VERSION

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
HEAVY = ("openai", "asyncio", "pydantic", "xllamacpp", "rich", "msgspec", "httpx2")


def options_of(command: Any) -> set[str]:
    return {option for parameter in command.params for option in getattr(parameter, "opts", []) if option[:2] == "--"}


def run_options() -> set[str]:
    command = main.cli.get_command(None, "run")  # type: ignore[arg-type]
    secondary = {option for parameter in command.params for option in parameter.secondary_opts}  # type: ignore[union-attr]
    others = {option for name in ("guard", "doctor") for option in options_of(main.cli.get_command(None, name))}  # type: ignore[arg-type]
    return options_of(command) | secondary | others | {"--help", "--version"}


def test_the_diagram_is_the_graph() -> None:
    unused: Any = None
    graph = create_streaming_graph(Opener([Upstream(Target(EMBEDDED, "m"), unused)]), prompt=prompt_policy())
    assert f"```mermaid\n{graph.to_mermaid().rstrip()}\n```" in README


def test_the_first_screen_has_one_command() -> None:
    first_screen = README.split("\n")[:16]
    assert any(line.startswith("$ make run") for line in first_screen)


def test_every_option_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"(?<![-\w])--[a-z][a-z-]+", README)) - {"--require-hashes"}
    assert named <= run_options() | {"--rounds", "--median-ms"}


def test_every_exit_code_stands_in_the_table_and_in_the_help() -> None:
    def leaves(cls: type[errors.AppError]) -> list[type[errors.AppError]]:
        return [cls, *(leaf for child in cls.__subclasses__() for leaf in leaves(child))]

    codes = {cls.exit_code for cls in leaves(errors.AppError)} | {0, 3}
    table = README.split("| exit | when |")[1].split("\n\n")[0]
    listed = {int(code) for row in re.findall(r"^\| ([\d, ]+) \|", table, re.M) for code in row.split(",")}
    assert listed == codes
    page = CliRunner().invoke(main.cli, ["--help"]).output
    for code in codes - {1}:
        assert re.search(rf"\b{code}\b", page), code


def test_the_toml_examples_are_valid_files(tmp_path: Path) -> None:
    from utils.settings import load

    first, second = re.findall(r"```toml\n(.*?)```", README, re.S)
    path = tmp_path / "config.toml"
    for example in (first, second):
        path.write_text(example, encoding="utf-8")
        loaded = load({}, environ={}, config_file=path)
        assert loaded.settings.base_url == "http://127.0.0.1:11434/v1"
        assert bool(loaded.settings.guardrails) == (example is second)
        assert not loaded.warnings


def test_every_setting_named_with_its_prefix_exists() -> None:
    names = set(re.findall(r"KAYGRAPH_([A-Z_]+[A-Z])\b", README)) - {"CACHE_DIR", "DEBUG", "CONFIG"}
    assert {name.lower() for name in names} <= set(Settings.model_fields)


def test_the_files_that_the_readme_links_exist() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_no_measured_number_is_missing() -> None:
    assert "@@" not in README


def test_decisions_are_all_listed() -> None:
    index = (ROOT / "docs/decisions/README.md").read_text(encoding="utf-8")
    files = {path.name for path in (ROOT / "docs/decisions").glob("0*.md")}
    assert files
    assert set(re.findall(r"\]\((\d{4}-[^)]+)\)", index)) == files


def test_the_version_is_one() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{VERSION}"' in project
    assert f"## {VERSION}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_help_page_shows_every_command_and_every_option_with_help() -> None:
    page = CliRunner().invoke(main.cli, ["--help"], terminal_width=100)
    assert page.exit_code == 0
    for name in main.COMMANDS:
        assert re.search(rf"^  {name} ", page.output, re.M)
    command: Any = main.cli.get_command(None, "run")  # type: ignore[arg-type]
    for parameter in command.params:
        if parameter.param_type_name == "option":
            assert parameter.opts[-1] in page.output or parameter.opts[0] in page.output
            assert parameter.help, parameter.name


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["run", "--help"], ["model", "--help"], ["guard", "--help"], ["--nope"]]
)
def test_help_and_usage_errors_import_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys; sys.argv = ['main.py', *sys.argv[1:]]; import main\n"
        "main.main()\n"
        f"loaded = [name for name in {HEAVY} if name in sys.modules]\n"
        "sys.exit(f'imported: {loaded}' if loaded else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
