"""Answers that go on at a server without prefill and without determinism: a part of `tests.flow.continuation_table`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from benchmarks.bench_stitching import load_texts
from tests.flow.continuation_table import CASES, Seam, Tally, as_written, joined, main, run_case, tallied
from tests.support.seam_server import REWORDED, Answer, Continuation, SeamServer
from utils.events import Event
from utils.resilience import course, seam, stitching

RUNS = 7
LEAST_EXACT = {"the last word": 2, "the last sentence": 5, REWORDED: 4}
"""Of the seven first runs of a case; of a case that is not named here all are exact."""

CODE = """\
The class keeps what was asked for last:

```python
class Cache:
    def __init__(self, size):
        self.size = size
        self.rows = {}

    def get(self, key):
        return self.rows.get(key)
```

It is small, and it is enough for what we need here."""
REFRAIN = (
    "Who comes here from the forest,\nwho comes here from the lake?\nOnly the night and its chorus,\n"
    "only the frost in its wake."
)
CLAUSES = (
    "The graph wires. A stage costs 0.33 us per token as an async generator;\n`asyncio.Queue` costs 2.6 to 12 us. "
    "Nothing has to be pulled for it.\n\n**Costs.** An async generator that was never started runs no `finally`."
)
HOURS = "It opens at noon: It opens at six, too, if somebody asks for it on the day before."
POEM = load_texts("report")["poem"]
TABLE = "| name | rows | since |\n|---|---|---|\n| first | 12 | Monday |\n| second | 7 | Friday |\n\nThat is all."


@pytest.fixture(scope="module")
def server() -> Iterator[SeamServer]:
    with SeamServer(Answer("")) as running:
        yield running


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_lost_whatever_a_server_goes_on_with(case: str, server: SeamServer) -> None:
    tally = Tally(list(run_case(case, RUNS, server)))
    assert tally.problems(case) == []
    assert [run.example for run in tally.seams if run.lost] == []
    assert sum(run.exact for run in tally.seams) >= LEAST_EXACT.get(case, RUNS)
    if case == REWORDED:
        assert [run.example for run in tally.seams if run.duplicated] == []
        assert any(run.refused for run in tally.seams)


def place(text: str, end: str) -> int:
    """How many characters *text* has up to the *end* of a part of it."""
    return text.index(end) + len(end)


@pytest.mark.parametrize(
    ("text", "end", "behaviour"),
    [
        (CODE, "self.size = size\n", "exact"),
        (CODE, "self.size = size\n    ", "exact"),
        (CODE, "self.rows = {}\n", "exact"),
        (CODE, "self.rows = {}\n\n", "exact"),
        (CODE, "self.rows = ", "exact"),
        (CODE, "It is small, ", "exact"),
        (TABLE, "| first | ", "exact"),
        (TABLE, "| Monday |\n", "exact"),
        (CODE, "class Cache:\n    def ", "fence reopened"),
        (CODE, "It is small, ", "fence reopened"),
        (POEM, "who stays here after the ", "fence reopened"),
        (REFRAIN, "who comes here from ", "the words asked for"),
        (REFRAIN, "only the fro", "the words asked for"),
        (CODE, "and it is enough for", "the words asked for, capital first"),
        (CODE, "return self.rows.g", "the words asked for, capital first"),
        (CLAUSES, "as an async generator", "exact"),
        (HOURS, "It opens at", "exact"),
        (CODE, "and it is enough ", "announcement, exact"),
        (CODE, "size):\n", "announcement, exact"),
        (CODE, "size):\n    ", "announcement, exact"),
        (CODE, "size):\n        ", "announcement, exact"),
    ],
)
def test_a_seam_that_is_easily_joined_wrongly_is_joined_exactly(
    text: str, end: str, behaviour: str, server: SeamServer
) -> None:
    server.answer = Answer(text, behaviour, place(text, end), ending="reset")
    found = joined(server)
    assert found.exact, found.problem or found.example


def test_a_refrain_of_an_answer_that_is_begun_again_is_not_taken_for_its_end(server: SeamServer) -> None:
    refrain = "burn till morning,\nlantern, lantern, "
    server.answer = Answer(POEM, REWORDED, POEM.rindex(refrain) + len(refrain))
    found = joined(server)
    assert (found.duplicated, found.lost, found.problem, found.refused) == (0, 0, "", True), found.example


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ("one two three", Seam(exact=True)),
        ("one  two\nthree", Seam(space_only=True)),
        ("one two two three", Seam(duplicated=3)),
        ("one ree", Seam(lost=5)),
        ("one Xtwo three", Seam(duplicated=1)),
        ("one X three", Seam(duplicated=1, lost=3)),
        ('one two three"', Seam(duplicated=1)),
        ('one two two three"', Seam(duplicated=4)),
        ("", Seam(lost=11)),
    ],
)
def test_the_characters_that_stand_there_twice_or_not_at_all_are_counted(shown: str, expected: Seam) -> None:
    assert tallied(shown, "one two three", '"', "") == expected


def test_a_letter_that_the_server_itself_changed_is_not_held_against_the_flow() -> None:
    assert as_written("It opens. Then it closes.", Continuation("", "then it closes.")) == "It opens. then it closes."
    assert as_written("It opens.  Then.", Continuation("opens.", "  Then.")) == "It opens.  Then."


def test_the_table_says_if_text_is_lost(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def too_much(*args: Any, **options: Any) -> seam.Join | None:
        join = seam.find_join(*args, **options)
        return join and dataclasses.replace(join, cut=join.cut + 5)

    assert main(["--cuts", "2", "--only", "exact, capital"]) == 0
    assert "| exact, capital first | 2 | 2 | 0 | 0 | 0 | 0 | 0.00% |" in capsys.readouterr().out
    monkeypatch.setattr(stitching, "find_join", too_much)
    assert main(["--cuts", "2", "--only", "exact, capital"]) == 1
    assert "FAILED exact, capital first: text lost in 100.00% of the runs" in capsys.readouterr().out


def test_a_flow_that_shows_something_else_than_the_stitcher_is_told(
    monkeypatch: pytest.MonkeyPatch, server: SeamServer
) -> None:
    class Doubling(stitching.Stitcher):
        def feed(self, events: Any) -> list[Event]:
            passed = super().feed(events)
            return [*passed[:1], *passed]

    server.answer = Answer(CODE, "exact", 60)
    assert joined(server).problem == ""
    server.answer = Answer(CODE, "exact", 60)
    monkeypatch.setattr(course, "Stitcher", Doubling)
    assert "the stitcher alone makes" in joined(server).problem


def test_an_answer_that_was_not_gone_on_with_in_words_is_told(server: SeamServer) -> None:
    server.answer = Answer(CODE)
    assert joined(server).problem == "the server was not asked to go on"


def test_the_server_notices_a_client_that_has_lost_something() -> None:
    asked = "the house of your friend."
    with pytest.raises(AssertionError, match="never written"), SeamServer(Answer("This is the house.")) as server:
        messages = [{"role": "assistant", "content": "This is house"}]
        with pytest.raises(httpx2.RemoteProtocolError):
            httpx2.post(f"{server.base_url}/chat/completions", json={"messages": messages}, trust_env=False)
    with pytest.raises(AssertionError, match="asked to repeat"), SeamServer(Answer("This is the house.")) as server:
        messages = [
            {"role": "assistant", "content": "This is the"},
            {"role": "user", "content": f"Go on. The last words:\n\n{asked}"},
        ]
        with pytest.raises(httpx2.RemoteProtocolError):
            httpx2.post(f"{server.base_url}/chat/completions", json={"messages": messages}, trust_env=False)
