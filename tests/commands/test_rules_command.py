"""`rules list` and `rules test`: what they print, and their exit codes."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

import main

PACK = """
name = "mine"
description = "of mine"
[[rule]]
id = "ticket"
description = "a ticket"
pattern = 'TICKET-[0-9]{6}'
match = ["see TICKET-123456"]
no_match = ["TICKET-1"]
[[rule]]
id = "name"
keywords = ["nightfall"]
action = "block"
[[rule]]
id = "flagged"
keywords = ["maybe"]
action = "flag"
"""


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(PACK, encoding="utf-8")
    return "mine.toml"


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    code = main.main(["rules", *args])
    out, err = capsys.readouterr()
    return code, out, err


def test_list_tells_each_rule_and_what_it_costs(pack: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "list", pack, "pii")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0] == "mine (mine.toml): of mine"
    assert lines[1].split() == ["mine.ticket", "redact", "medium", lines[1].split()[3], "a", "ticket"]
    assert lines[3].split() == ["mine.flagged", "flag", "medium", "0.00"]
    assert lines[5].startswith("pii (built in): ")
    assert lines[-1].startswith("held: characters that wait")
    assert "\x1b" not in out


def test_list_as_json_measures_that_an_address_costs_most(pack: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "list", pack, "pii", "secrets", "--json")
    mine, pii, secrets = json.loads(out)["packs"]
    assert (code, mine["origin"], len(mine["rules"])) == (0, "mine.toml", 3)
    held = {rule["id"]: rule["held_chars"] for pack in (mine, pii, secrets) for rule in pack["rules"]}
    assert max(held, key=held.__getitem__) == "pii.email"
    assert 1 < held["pii.email"] < 4
    assert held["secrets.private_key"] < 0.5
    assert set(mine["rules"][0]) >= {"id", "action", "severity", "description", "replacement", "held_chars"}


def test_examples_that_hold_are_counted(pack: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "test", pack) == (0, "3 rules, 2 examples, 0 failed\n", "")


def test_a_pack_may_be_named_as_for_a_run(pack: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "test", "--guard", pack) == run(capsys, "test", pack)
    assert run(capsys, "test", "--guard", pack, "--text", "TICKET-123456") == run(
        capsys, "test", pack, "--text", "TICKET-123456"
    )


def test_an_example_that_fails_is_named_and_the_exit_code_is_4(pack: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(pack).write_text(PACK.replace('["TICKET-1"]', '["no", "TICKET-654321\\u001b"]').replace("see TICKET", "see"))
    code, out, err = run(capsys, "test", pack)
    assert (code, err) == (4, "")
    assert out.splitlines() == [
        "mine.toml: rule mine.ticket finds nothing in match example 1: 'see-123456'",
        "mine.toml: rule mine.ticket finds something in no_match example 2: 'TICKET-654321\\x1b'",
        "3 rules, 3 examples, 2 failed",
    ]
    code, out, _ = run(capsys, "test", pack, "--json")
    found = json.loads(out)
    assert (code, found["is_ok"], found["rules"], found["examples"]) == (4, False, 3, 3)
    assert [(f["rule"], f["key"], f["number"]) for f in found["failures"]] == [
        ("mine.ticket", "match", 1),
        ("mine.ticket", "no_match", 2),
    ]


def test_the_built_in_examples_hold(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "test", "pii", "secrets", "profanity")
    assert code == 0
    assert out.endswith(" 0 failed\n")


def test_a_text_is_judged_with_rule_place_and_action(pack: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "test", pack, "--text", "maybe TICKET-123456 é now")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "mine.flagged  flag    characters 0 to 5",
        "mine.ticket   redact  characters 6 to 19",
        "maybe [TICKET] é now",
    ]
    assert run(capsys, "test", "--text", "plain text")[1] == "nothing found\nplain text\n"


def test_a_text_that_is_blocked_ends_before_the_match(pack: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "test", pack, "--text", "the nightfall plan")
    assert code == 0
    assert out.splitlines()[1:] == ["blocked by mine.name; shown before it:", "the "]
    found = json.loads(run(capsys, "test", pack, "--json", "--text", "the nightfall plan")[1])
    assert found == {
        "findings": [{"rule": "mine.name", "start": 4, "end": 13, "action": "block"}],
        "blocked_by": "mine.name",
        "text": "the ",
    }


@pytest.mark.parametrize(("data", "code"), [("mail b@x.org é".encode(), 0), (b"a\xffb", 2), (b"x" * (9 << 20), 2)])
def test_a_text_comes_from_standard_input(
    data: bytes, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    result = run(capsys, "test", "pii", "--text", "-")
    assert result[0] == code
    assert "bug" not in result[2]
    assert code or result[1].endswith("mail [EMAIL] é\n")


def test_a_bad_pack_is_told_in_two_lines(pack: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(pack).write_text(PACK.replace("[0-9]{6}", "(?=x)"))
    for args in (("list", pack), ("test", pack), ("test", pack, "--text", "x")):
        code, out, err = run(capsys, *args)
        assert (code, out) == (78, "")
        assert err.splitlines()[0].endswith("rule 'ticket': 'pattern' has look-ahead at position 7")
        assert len(err.splitlines()) == 2


@pytest.mark.parametrize("args", [(), ("list",), ("test",)])
def test_the_help_pages_name_exit_codes_and_the_format(
    args: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, *args, "--help")
    assert code == 0
    assert ("[[rule]]" in out) if not args else ("Exit codes:" in out)


def test_one_is_no_plural(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = tmp_path / "one.toml"
    one.write_text("name = 'one'\n[[rule]]\nid = 'x'\nkeywords = ['nightfall']\nmatch = ['nightfall']\n", "utf-8")
    assert run(capsys, "test", str(one))[:2] == (0, "1 rule, 1 example, 0 failed\n")
