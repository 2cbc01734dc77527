"""The page about guardrails: its pack works, its counts are true, its options exist."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.test_readme import run_options
from utils.guardrails.packs import BUILTIN, load_pack
from utils.guardrails.rules import RuleSet
from utils.validation.plan import parse_spec

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "guardrails.md").read_text(encoding="utf-8")


def test_the_pack_on_the_page_loads_and_its_examples_hold(tmp_path: Path) -> None:
    example = re.search(r"```toml\n(.*?)```", PAGE, re.S)
    assert example is not None
    path = tmp_path / "house.toml"
    path.write_text(example.group(1), encoding="utf-8")
    pack = load_pack(str(path))
    assert [entry.rule.id for entry in pack.rules] == ["house.project", "house.ticket"]
    for entry in pack.rules:
        rules = RuleSet.compile([entry.rule])
        assert all(rules.find(text) for text in entry.match)
        assert not any(rules.find(text) for text in entry.no_match)


def test_the_page_counts_the_rules_of_each_pack() -> None:
    counts = {name: int(count) for name, count in re.findall(r"^\| `(\w+)` \| (\d+) \|", PAGE, re.M)}
    assert counts == {name: len(load_pack(name).rules) for name in BUILTIN}


def test_every_option_and_check_that_the_page_names_exists() -> None:
    named = set(re.findall(r"(?<![-\w])--[a-z][a-z-]+", PAGE)) - {"--texts", "--seed", "--law", "--text"}
    assert named <= run_options()
    for spec in ("max-chars=9", "no-control", "script=latin+greek", "no-repetition"):
        assert spec.partition("=")[0] in PAGE
        parse_spec(spec)
