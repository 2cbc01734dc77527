"""The page about behaviour beside other programs: its table is of the scenarios and versions of the comparison."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.programs.clients import OURS, PEERS, version_of
from benchmarks.programs.scenarios import SCENARIOS
from benchmarks.programs.tables import title_of
from utils.version import VERSION

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "behaviour.md").read_text(encoding="utf-8")
ROWS = [re.split(r"(?<!\\)\|", line)[1:-1] for line in PAGE.splitlines() if line.startswith("| ")]
HEAD, _, *SCENARIO_ROWS, COUNTS = [[text.strip() for text in row] for row in ROWS]


def test_the_table_has_every_scenario_and_the_pinned_versions() -> None:
    titles = [f"{OURS.title} {VERSION}", *(f"{peer.title} {version_of(peer.id)}" for peer in PEERS.values())]
    assert ["scenario", *titles, "honest?"] == HEAD
    assert [row[0] for row in SCENARIO_ROWS] == [title_of(scenario) for scenario in SCENARIOS]


def test_the_counts_are_those_of_the_cells_and_the_readme_has_them() -> None:
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    names = [OURS.title, *(peer.title for peer in PEERS.values())]
    for column, name in enumerate(names, 1):
        asked = [row for row in SCENARIO_ROWS if row[column] != "-"]
        honest = [row for row in asked if not row[column].endswith("**")]
        count = f"{len(honest)} of {len(asked)}"
        assert COUNTS[column] == f"**{count}**"
        assert f"{HEAD[column]}: {count}" in readme
        for row in asked:
            assert (row in honest) == (row[-1] == "all" or name in row[-1].split(", "))
