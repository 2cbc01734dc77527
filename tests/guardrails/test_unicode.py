"""Disguised secrets: the table of docs/guardrails.md is what the guard does, however the text is cut."""

from __future__ import annotations

import pytest

from tests.guardrails.guard_oracle import stream
from tests.guardrails.unicode_table import (
    CAUGHT,
    DISGUISES,
    IN_PART,
    NONE,
    NOT_CAUGHT,
    PAGE,
    RULES,
    SECRETS,
    Disguise,
    table,
)
from utils.byte_guard import ByteGuard
from utils.guardrails.redactor import Redactor


def documented() -> dict[tuple[str, str], str]:
    """(disguise, kind) -> verdict, as the page says."""
    rows = PAGE.read_text(encoding="utf-8").split("| disguise |")[1].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {(name, kind): verdict for name, *verdicts in cells for kind, verdict in zip(SECRETS, verdicts, strict=True)}


VERDICTS = documented()
CASES = [
    pytest.param(disguise, kind, id=f"{disguise.name}-{kind}")
    for disguise in DISGUISES
    for kind in SECRETS
    if disguise.sample(kind) is not None
]


def through_bytes(kind: str, pieces: list[bytes]) -> str:
    guard = ByteGuard(Redactor(RULES[kind]))
    return (b"".join(map(guard.feed, pieces)) + guard.finish()).decode()


def test_the_page_has_the_table_of_what_is_caught() -> None:
    assert "\n".join(table()) in PAGE.read_text(encoding="utf-8")


def test_every_disguise_of_the_page_is_tried() -> None:
    assert set(VERDICTS) == {(disguise.name, kind) for disguise in DISGUISES for kind in SECRETS}
    tried = {(disguise.name, kind) for disguise in DISGUISES for kind in SECRETS if disguise.sample(kind) is not None}
    assert tried == {key for key, verdict in VERDICTS.items() if verdict != NONE}
    assert set(VERDICTS.values()) <= {CAUGHT, IN_PART, NOT_CAUGHT, NONE}


@pytest.mark.parametrize(("disguise", "kind"), CASES)
def test_a_disguised_secret_is_caught_or_not_as_the_page_says_at_every_cut(disguise: Disguise, kind: str) -> None:
    whole = f"{disguise.before}{disguise.sample(kind)}{disguise.after}"
    hidden = f"{disguise.before}[X]{disguise.after}"
    visible = stream(RULES[kind], [whole])
    match VERDICTS[disguise.name, kind]:
        case "caught":
            assert visible == hidden
        case "no":
            assert visible == whole
        case verdict:
            assert verdict == IN_PART
            assert visible not in (whole, hidden)
    assert stream(RULES[kind], list(whole)) == visible
    for cut in range(1, len(whole)):
        assert stream(RULES[kind], [whole[:cut], whole[cut:]]) == visible
    data = whole.encode()
    assert through_bytes(kind, [data[n : n + 1] for n in range(len(data))]) == visible
    for cut in range(1, len(data)):  # also inside of characters
        assert through_bytes(kind, [data[:cut], data[cut:]]) == visible
