"""The comparison of programs: its verdicts on made-up runs, and this project's column in a few cheap scenarios."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.compare_programs import as_json, complaints, main
from benchmarks.programs.clients import OURS, PEERS, Client, pins_of, version_of
from benchmarks.programs.judge import (
    Expected,
    Run,
    broken,
    has_traceback,
    other_chars,
    problems,
    said_in_short,
    shown_of,
)
from benchmarks.programs.observe import observe
from benchmarks.programs.scenarios import KEY, SCENARIOS, Scenario
from benchmarks.programs.screen import screen_text
from benchmarks.programs.tables import Column, cell, markdown_table, notes

WHOLE = "The quick brown fox jumps."
ANSWER = (WHOLE,)
BY_ID = {scenario.id: scenario for scenario in SCENARIOS}
PYTHON = Path(sys.executable)
TRACEBACK = "Traceback (most recent call last):\n" + '  File "x.py", line 1\n' * 5 + "ValueError: no"
BOX = "╭─ Traceback ─╮\n" + "│ x.py        │\n" * 5 + "╰─────────────╯\nError: no"


def run(exit_code: int | None = 0, shown: str = WHOLE, said: str = "", *facts: str) -> Run:
    return Run(exit_code, shown, said, 1.0, facts)


# What was shown and said.


@pytest.mark.parametrize(
    ("text", "answer", "shown"),
    [
        ("", ANSWER, "nothing"),
        (" \n", ANSWER, "nothing"),
        ("The quick\nbrown   fox jumps.   \n", ANSWER, "whole"),
        (f"a banner\n{WHOLE}", ANSWER, "whole"),
        ("The q", ANSWER, "fragment"),
        ("The quick brown fox jumps", ANSWER, "fragment"),
        (f"{WHOLE}\n{WHOLE}", ANSWER, "twice"),
        (f"The quick brown {WHOLE}", ANSWER, "twice"),
        ("The server is away", ANSWER, "other text"),
        ("Look: \\x1b[31mred done", ("Look:", "red", "done"), "whole"),
        ("Look: done red", ("Look:", "red", "done"), "fragment"),
        ("", (), "nothing"),
        ("Hello", (), "other text"),
    ],
)
def test_how_much_of_the_answer_was_shown(text: str, answer: tuple[str, ...], shown: str) -> None:
    assert shown_of(text, answer) == shown


@pytest.mark.parametrize(
    ("text", "count"),
    [("", 0), (WHOLE, 0), ("The  quick \n", 0), (f"banner {WHOLE} >", 9), ("hm: The quiet", 6), (WHOLE * 2, 0)],
)
def test_what_else_was_shown_is_counted(text: str, count: int) -> None:
    assert other_chars(text, ANSWER) == count


@pytest.mark.parametrize(
    ("said", "short"),
    [
        ("", ""),
        ("\n ── \n", ""),
        ("retrying\nerror: it broke\nhint: again", "error: it broke"),
        (TRACEBACK, "ValueError: no"),
        ("Aborted!\n", "Aborted!"),
        ("interrupted after 3 characters\nbye", "bye"),
        ("error: no server at http://127.0.0.1:34567/v1: refused", "error: no server at URL: refused"),
        (f"error: {'x' * 80}", f"error: {'x' * 52}…"),
    ],
)
def test_the_line_that_says_most_in_60_characters(said: str, short: str) -> None:
    assert said_in_short(said) == short
    assert len(short) <= 60


@pytest.mark.parametrize(
    ("text", "is_one"),
    [(TRACEBACK, True), (BOX, True), ("Traceback: see the log", False), ("line\n" * 20, False), (BOX[:30], False)],
)
def test_a_traceback_is_long_and_looks_like_one(text: str, is_one: bool) -> None:
    assert has_traceback(text) is is_one


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"one\r\n\x1b[31mtwo\x1b[0m\r\n", "one\ntwo"),
        (b"The\r\x1b[2KThe quick\r\x1b[2KThe quick brown\r\n", "The quick brown"),
        (b"one\r\ntwo\r\nthree\x1b[2A\r\x1b[0Jnew", "new"),
        (b"one\r\ntwo\x1b[1A\x1b[2Kx", "   x\ntwo"),
        (b"spinner\x1b[7D\x1b[Kdone", "done"),
        (b"a\x1b]0;title\x07b\x1b]8;;x\x1b\\c\x1b(Bd", "abcd"),
        (b"x" * 81 + b"\r\ny", "x" * 80 + "\nx\ny"),
    ],
)
def test_what_is_on_the_screen_in_the_end(data: bytes, text: str) -> None:
    assert screen_text(data) == text


# The verdict.


@pytest.mark.parametrize(
    ("seen", "found"),
    [
        (run(), ()),
        (run(3, "The quick", "error: incomplete"), ()),
        (run(69, ""), ()),
        (run(0, "The quick"), ("exit 0 with fragment",)),
        (run(0, ""), ("exit 0 with nothing",)),
        (run(1), ("exit 1 for a whole answer",)),
        (run(None, "The quick"), ("no end",)),
        (run(1, "", TRACEBACK), ("traceback",)),
        (run(1, TRACEBACK), ("traceback",)),
        (run(1, "", f"bad key {KEY}"), ("key shown",)),
        (run(0, f"{WHOLE} {KEY}"), ("key shown",)),
        (run(3, f"The quick brown {WHOLE}"), ("doubled",)),
        (run(0, WHOLE * 2), ("exit 0", "doubled")),
    ],
)
def test_a_run_is_honest_by_four_rules(seen: Run, found: tuple[str, ...]) -> None:
    assert problems(seen, ANSWER, key=KEY) == found


@pytest.mark.parametrize("exit_code", [0, 1])
@pytest.mark.parametrize("shown", ["", "The quick", WHOLE])
def test_where_both_exit_codes_are_fair_only_the_other_rules_judge(exit_code: int, shown: str) -> None:
    assert problems(run(exit_code, shown), ANSWER, key=KEY, judges_exit=False) == ()
    assert problems(run(exit_code, shown, TRACEBACK), ANSWER, key=KEY, judges_exit=False) == ("traceback",)
    assert problems(run(None, shown), ANSWER, key=KEY, judges_exit=False) == ("no end",)


@pytest.mark.parametrize(
    ("seen", "complaint"),
    [
        (run(3, "The quick", "error: incomplete", "closed"), None),
        (run(0, "The quick", "error: incomplete", "closed"), "exit code 0, not 3"),
        (run(3, WHOLE, "error: incomplete", "closed"), "shown: whole, not fragment"),
        (run(3, "The quick", "error: away", "closed"), "'incomplete' is not in what it said: error: away"),
        (run(3, "The quick", "", "closed"), "'incomplete' is not in what it said: nothing"),
        (run(3, "The quick", "error: incomplete"), "'closed' is not among []"),
    ],
)
def test_what_is_stated_of_our_program_is_checked(seen: Run, complaint: str | None) -> None:
    found = broken(seen, ANSWER, Expected(3, "fragment", "incomplete", ("closed",)))
    assert found == (() if complaint is None else (complaint,))


def test_silence_is_checked_too() -> None:
    expected = Expected(0, "whole", "")
    assert broken(run(), ANSWER, expected) == ()
    assert broken(run(said="note: hm"), ANSWER, expected) == ("not silent: note: hm",)


# The table.


def two_columns() -> tuple[list[Column], list[Scenario]]:
    scenarios = [BY_ID["cut"], BY_ID["head"]]
    fragment = BY_ID["cut"].answer[0][:16]
    good = Column(
        "ours", "ours 1", {"cut": run(3, fragment, "error: incomplete"), "head": run(141, "word1", "", "closed")}
    )
    bad = Column(
        "other", "other 2", {"cut": run(0, fragment), "head": run(1, "word1", "a | b\nError: [Errno 32] *x*")}, note="n"
    )
    return [good, bad, Column("third", "third 3", {}, failed="did not install: no wheel")], scenarios


def test_the_table_tells_who_was_honest_and_counts() -> None:
    columns, scenarios = two_columns()
    head, _, cut, reader, counts = markdown_table(columns, scenarios).splitlines()
    assert head == "| scenario | ours 1 | other 2 | honest? |"
    assert cut.endswith("| 0; fragment; silent; 1.0 s **exit 0 with fragment** | ours |")
    assert reader == (
        r"| `\| head -c5` | 141; fragment; silent; 1.0 s; closed | "
        r"1; fragment; “Error: [Errno 32] \*x\*” (2 lines); 1.0 s | all |"
    )
    assert counts == "| **honest** | **2 of 2** | **1 of 2** |  |"
    assert notes(columns, scenarios, 9.0)[-2:] == ["other 2: n.", "third 3: did not install: no wheel."]


def test_a_program_that_cannot_be_asked_so_has_no_cell_and_is_not_counted() -> None:
    (good, bad, _), scenarios = two_columns()
    del bad.runs["cut"]  # type: ignore[attr-defined]
    _, _, cut, _, counts = markdown_table([good, bad], scenarios).splitlines()
    assert cut.endswith(" | - | all |")
    assert counts == "| **honest** | **2 of 2** | **1 of 1** |  |"
    assert observe(Client("x", "x", (sys.executable,), None), PYTHON, BY_ID["empty_stdin"], 9.0) is None


def test_json_has_every_run_with_its_verdict() -> None:
    columns, scenarios = two_columns()
    written = json.loads(json.dumps(as_json(columns, scenarios, "today")))
    assert written["failed"] == {"third 3": "did not install: no wheel"}
    row = written["scenarios"][0]["programs"]["other 2"]
    assert (row["exit_code"], row["got"], row["honest"]) == (0, "fragment", False)
    assert row["problems"] == ["exit 0 with fragment"]


def test_a_killed_run_has_a_cell() -> None:
    assert cell(run(None, ""), BY_ID["cut"]) == "killed; nothing; silent; 1.0 s **no end**"


@pytest.mark.parametrize("peer", PEERS)
def test_every_peer_has_exact_pins_and_a_version(peer: str) -> None:
    pins = [line for line in pins_of(peer).read_text().splitlines() if not line.startswith("#")]
    assert [line for line in pins if "==" not in line] == []
    assert version_of(peer)[0].isdecimal()


# Real runs.

CHEAP = ("401_key", "cut", "empty_stdin", "full_disk")


def test_our_program_does_what_is_stated() -> None:
    with ThreadPoolExecutor(len(CHEAP)) as pool:
        runs = dict(zip(CHEAP, pool.map(lambda name: observe(OURS, PYTHON, BY_ID[name], 30.0), CHEAP), strict=True))
    scenarios = [BY_ID[name] for name in CHEAP]
    assert complaints(Column("ours", "ours", runs), scenarios) == []


LIAR = "import sys; print('The quick brown'); sys.exit(0)"


def test_a_program_that_lies_is_found_and_the_command_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    liar = Client("ours", "liar", (sys.executable, "-ISc", LIAR), ())
    monkeypatch.setattr("benchmarks.compare_programs.OURS", liar)
    table, data = tmp_path / "table.md", tmp_path / "data.json"
    files = ("--markdown", str(table), "--json", str(data), "--venvs", str(tmp_path / "none"))
    assert main(["--only", "ours", "--scenarios", "good,cut", *files]) == 1
    out, err = capsys.readouterr()
    assert out == table.read_text()
    assert "**0 of 2**" in out
    assert "clean cut: no finish_reason, no [DONE]: exit code 0, not 3" in err
    first = json.loads(data.read_text())["scenarios"][0]["programs"]
    assert [each["problems"] for each in first.values()] == [["exit 0 with fragment"]]


def test_a_program_that_does_not_end_is_killed() -> None:
    sleeper = Client(
        "ours", "sleeper", (sys.executable, "-ISc", "import time; print('The q', flush=True); time.sleep(60)"), ()
    )
    seen = observe(
        sleeper, PYTHON, replace(BY_ID["good"], drive=lambda program, place: [str(program.wait_for(b"q") > 0)]), 0.0
    )
    assert (seen.exit_code, seen.shown, seen.facts) == (None, "The q\n", ("True", "no requests"))
