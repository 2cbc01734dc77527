"""Secrets that a failure cuts in two: a part of what `tests.flow.split_secrets` tries, every place among it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.flow.split_secrets import FAULTS, LATE, SECRETS, SILENT, TEXT, TWICE, WAYS, Split, places, tried
from tests.support.seam_server import Answer, SeamServer
from utils.failures.faults import KINDS


@pytest.fixture(scope="module")
def server() -> Iterator[SeamServer]:
    with SeamServer(Answer(TEXT)) as running:
        yield running


def test_every_failure_that_breaks_an_answer_in_its_middle_is_tried() -> None:
    bearable = {"garbage_line", "duplicate", "onebyte", "no_done"}
    before_any_text = {"content_type"}
    in_the_body = {name for name, kind in KINDS.items() if kind.phase == "body"}
    tried_kinds = {fault.removesuffix(TWICE).partition("=")[0] for fault in (*FAULTS, *SILENT, *LATE)}
    assert tried_kinds == in_the_body - bearable - before_any_text


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_secret_that_any_failure_cuts_in_its_middle_stays_hidden(fault: str, way: str, server: SeamServer) -> None:
    secret = SECRETS[(FAULTS.index(fault) + list(WAYS).index(way)) % len(SECRETS)]
    middle = places(secret)[len(secret) // 2]
    assert tried(Split(fault, middle, way), server) == ""


@pytest.mark.parametrize("secret", SECRETS, ids=("email", "key", "card"))
def test_a_secret_that_is_cut_at_any_place_stays_hidden(secret: str, server: SeamServer) -> None:
    ways = list(WAYS)
    for n, chars in enumerate(places(secret)):
        assert tried(Split(FAULTS[n % len(FAULTS)], chars, ways[n % len(ways)]), server) == ""


@pytest.mark.parametrize(("fault", "way"), [("stall", "replay"), ("drip=10", "continue, words repeated")])
def test_a_secret_that_a_silence_cuts_stays_hidden(fault: str, way: str, server: SeamServer) -> None:
    assert tried(Split(fault, places(SECRETS[1])[12], way), server) == ""


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_that_is_whole_but_not_finished_shows_no_secret(way: str, server: SeamServer) -> None:
    assert tried(Split(LATE[0], len(TEXT), way), server) == ""
