"""The parts of the comparison of guards that judge and print; no guard is installed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from benchmarks.compare_guards import DRIVERS, PEERS, Driver, DriverError, expect, rows_of
from benchmarks.peers.measure import Cost, Leak, Row, Shown, clean_figures, leak_of, longest_shown, outcome_of
from benchmarks.peers.streams import SECRETS, Planted, Secret, clean_tokens, plant, plant_places
from benchmarks.peers.tables import HEADINGS, markdown_table, plain_table

TOKENS = clean_tokens()
CARD = SECRETS[1]


def planted(before: str = "See ", after: str = " now.") -> Planted:
    return Planted(CARD, [], before, after)


def full_row(**changes: object) -> Row:
    row = Row("a guard 1.0", "default")
    row.leaks = {secret.id: Leak(0, 0, 10, len(secret.text)) for secret in SECRETS}
    row.outcomes = {"whole": 60}
    row.first_output_chars, row.held_mean, row.held_max, row.clean = 7, 2.8, 11, "same"
    row.cost = Cost(2.71, 1.0, 0.98, 1.04)
    for name, value in changes.items():
        setattr(row, name, value)
    return row


@pytest.mark.parametrize(
    ("secret", "text", "longest"),
    [
        ("abcdef", "nothing here", 1),
        ("abcdef", "xx abcdef xx", 6),
        ("abcdef", "abc def cdef", 4),
        ("abcdef", "", 0),
        ("aab", "xaab", 3),
    ],
)
def test_the_longest_shown_piece_of_a_secret(secret: str, text: str, longest: int) -> None:
    assert longest_shown(secret, text) == longest


def test_a_leak_counts_the_positions_with_more_than_chance_pieces() -> None:
    texts = ["4111 1111 1111 1111", "4111 1", "4111 ", "[CARD]"]
    assert leak_of([(planted(), text) for text in texts]) == Leak(worst=19, many=2, positions=4, length=19)


@pytest.mark.parametrize(
    ("text", "is_complete", "outcome"),
    [
        ("See [CARD] now.", True, "whole"),
        ("See [CARD]now.", True, "whole"),
        ("See 4111 1111 1111 1111 now.", True, "whole"),
        ("See [CARD] no", True, "damaged"),
        ("Se [CARD] now.", True, "damaged"),
        ("See ", False, "stopped"),
    ],
)
def test_what_became_of_the_rest_of_the_answer(text: str, is_complete: bool, outcome: str) -> None:
    assert outcome_of(planted(), Shown(text, [], is_complete)) == outcome


def test_held_text_is_what_arrived_and_is_not_shown_from_the_first_output_on() -> None:
    row = Row("a", "b")
    clean_figures(["One ", "two ", "three"], Shown("One two three", [0, 4, 6], True), row)
    assert (row.first_output_chars, row.held_mean, row.held_max, row.clean) == (8, 5.5, 7, "same")


def test_lost_white_space_is_told_and_is_no_held_text() -> None:
    row = Row("a", "b")
    clean_figures(["One.  ", "Two. ", "End"], Shown("One.Two.End", [4, 8, 11], True), row)
    assert (row.held_max, row.clean) == (2, "white space (-3)")


def test_a_guard_that_shows_nothing_before_the_end_holds_all() -> None:
    row = Row("a", "b")
    clean_figures(["One ", "two"], Shown("One twx", [0, 0], True), row)
    assert (row.first_output_chars, row.held_mean, row.held_max, row.clean) == (7, None, 7, "changed (+0)")


def test_the_plain_table_is_aligned_and_a_failure_is_one_line() -> None:
    leaky = {**full_row().leaks, "card": Leak(12, 3, 10, 19)}
    rows = [full_row(leaks=leaky), Row("a guard with a long name", "", failed="did not install: no wheel")]
    head, first, second = plain_table(rows).splitlines()
    assert first[head.index("card") :].startswith("12/19 (3)  ")
    assert first[head.index("x ours") :].startswith("1.0 (1.0-1.0)")
    assert second == "a guard with a long name           did not install: no wheel"


def test_the_markdown_table_has_a_cell_for_each_heading_and_failures_after_it() -> None:
    lines = markdown_table([full_row(), Row("b", "", failed="did not load: no module")]).splitlines()
    assert {line.count("|") for line in lines[:3]} == {len(HEADINGS) - 1}
    assert lines[3:] == ["", "b: did not load: no module."]


def test_the_stream_is_as_described_and_clean() -> None:
    text = "".join(TOKENS)
    assert (len(TOKENS), len(text)) == (2000, 7400)
    assert [longest_shown(secret.text, text) > 5 for secret in SECRETS] == [False] * len(SECRETS)
    assert [(len(s.text), s.pieces) for s in SECRETS[:4]] == [(16, 3), (19, 6), (17, 6), (37, 6)]
    assert [len(s.text) for s in SECRETS[4:]] == [172, 109]


@pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: secret.id)
def test_a_planted_secret_is_whole_in_its_tokens(secret: Secret) -> None:
    for place in plant_places(TOKENS, 10):
        stream = plant(TOKENS, secret, place)
        assert "".join(stream.tokens) == stream.before + secret.text + stream.after
        assert len(stream.tokens) == place + secret.pieces + 400
        assert stream.after.startswith(" ")


def test_other_text_than_expected_from_our_guard_voids_the_comparison() -> None:
    expect("same", "same")
    with pytest.raises(AssertionError, match="from character 2"):
        expect("saMe", "same")


def test_our_own_driver_answers_and_its_text_is_checked(tmp_path: Path) -> None:
    tokens = TOKENS[:200]
    streams = [plant(tokens, secret, place) for secret in SECRETS for place in plant_places(tokens, 2)]
    with Driver(Path(sys.executable), DRIVERS / "ours.py", tmp_path) as ours:
        (row,) = rows_of("ours", ours, streams, tokens, ours, rounds=1)
    assert (row.failed, row.clean, row.outcomes) == ("", "same", {"whole": len(streams)})
    assert {leak.worst for leak in row.leaks.values()} == {0}
    assert row.cost is not None
    assert row.cost.cpu_us > 0


def test_a_driver_whose_package_is_missing_gives_the_reason(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text("import no_such_package_here")
    with pytest.raises(DriverError, match="ModuleNotFoundError: No module named 'no_such_package_here'"):
        Driver(Path(sys.executable), script, tmp_path).__enter__()


@pytest.mark.parametrize("peer", PEERS)
def test_every_peer_has_a_driver_and_exact_pins(peer: str) -> None:
    module = importlib.import_module(f"benchmarks.peers.{peer}")
    assert module.__doc__
    pins = [line for line in (DRIVERS / f"{peer}.txt").read_text().splitlines() if not line.startswith("#")]
    assert pins
    assert [line for line in pins if "==" not in line.split(";")[0]] == []
