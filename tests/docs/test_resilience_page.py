"""The page about resilience: its plans parse, its table of faults is the code's, its options and settings exist."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.test_readme import run_options
from utils.failures.faults import markdown_table
from utils.failures.grammar import parse_plan
from utils.settings import Settings

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "resilience.md").read_text(encoding="utf-8")


def test_the_plans_on_the_page_parse() -> None:
    block = re.search(r"```\n(refused, .*?)```", PAGE, re.S)
    assert block is not None
    plans = [re.split(r" {3,}", line)[0] for line in block.group(1).splitlines()]
    assert len(plans) == 5
    for plan in plans:
        assert parse_plan(plan).steps


def test_the_table_of_faults_is_the_programs() -> None:
    assert markdown_table() in PAGE


def test_every_option_and_setting_that_the_page_names_exists() -> None:
    named = set(re.findall(r"(?<![-\w])--[a-z][a-z-]+", PAGE))
    assert named <= run_options()
    names = set(re.findall(r"KAYGRAPH_([A-Z_]+[A-Z])\b", PAGE)) - {"STATE_DIR"}
    assert {name.lower() for name in names} <= set(Settings.model_fields)


def test_the_defaults_that_the_page_names_are_the_programs() -> None:
    from utils.resilience.adaptive import DeadlinePolicy, OrderPolicy
    from utils.resilience.backoff import Backoff
    from utils.resilience.breaker_policy import BreakerPolicy
    from utils.resilience.hedging import HedgePolicy
    from utils.resilience.retry_policy import RetryPolicy

    breaker, deadlines, order, hedge = BreakerPolicy(), DeadlinePolicy(), OrderPolicy(), HedgePolicy()
    assert f"opens after {breaker.failure_threshold} failures in a row" in PAGE
    assert f"of the last {breaker.minimum_calls} or more calls" in PAGE
    assert f"open for {breaker.open_s:g} s, then 30, 60, ... up to {breaker.max_open_s:g} s" in PAGE
    assert f"between 0 and {Backoff().base_s:g} s" in PAGE
    assert f"`--retries` ({RetryPolicy().retries})" in PAGE
    assert f"up to {RetryPolicy().max_wait_s:g} s; {RetryPolicy().patience_s:g} s if there is a fallback" in PAGE
    assert f"{deadlines.min_samples} first contents ({deadlines.min_gap_samples} gaps)" in PAGE
    assert (
        f"{deadlines.factor:g} x p95 (p99), at least {deadlines.first_token_floor_s:g} s ({deadlines.idle_floor_s:g} s)"
        in PAGE
    )
    assert f"no text after p95 of {hedge.min_samples} first contents" in PAGE
    assert f"one for {1 / hedge.budget_ratio:g} requests" in PAGE
    assert f"{order.min_samples} answers seen" in PAGE
    assert f"answer of {order.answer_tokens} tokens" in PAGE
    assert f"{order.explore:.0%}".replace("%", " %") in PAGE
