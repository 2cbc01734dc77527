"""The laws of the engine on random rules and texts; `python -m tests.guardrails.fuzz` tries many more."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.guardrails.engine_laws import LAWS, Tally
from tests.support.exhaustive import exhaustive


@pytest.mark.parametrize("law", LAWS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_engine_obeys_its_laws_on_random_rules_and_texts(law: str, seed: int) -> None:
    LAWS[law](random.Random(seed), Tally())


@pytest.mark.parametrize("law", LAWS)
def test_the_engine_obeys_its_laws_on_the_seeded_cases(law: str) -> None:
    tally = Tally()
    for n in range(100 if exhaustive([True]) else 50):
        LAWS[law](random.Random(f"suite-{n}"), tally)
    assert tally.texts > 0
    assert tally.hidden > 0
