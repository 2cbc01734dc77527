"""Simulated failures, fallbacks and the way to resume: what one setting means for another."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from utils.errors import AppError, ConfigError, UsageProblem
from utils.failures.grammar import parse_plan
from utils.resilience.continuation import Capabilities
from utils.run_context import EMBEDDED, Target
from utils.settings import Loaded, Settings, load, resume_capabilities

PLAN = "refused, cut@40%, ok"
KEY = "Zq7~0123456789abcdefghij-0123456789abcdefghij-0123456789"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def loaded_from(config: Path, **given: object) -> Loaded:
    """Settings from names that say their source: `flag_x`, `env_x`, `file_x`."""
    flags = {name[5:]: value for name, value in given.items() if name.startswith("flag_")}
    environ = {f"KAYGRAPH_{name[4:].upper()}": str(value) for name, value in given.items() if name.startswith("env_")}
    table = {name[5:]: value for name, value in given.items() if name.startswith("file_")}
    config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in table.items()), encoding="utf-8")
    return load(flags, environ=environ, config_file=config)


def refusal(config: Path, **given: object) -> AppError:
    with pytest.raises(AppError) as caught:
        loaded_from(config, **given)
    return caught.value


# -- plans of failures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "plan", "is_simulated", "origin"),
    [
        ({}, None, False, "default"),
        ({"flag_failure_plan": PLAN}, PLAN, True, "flag --failure-plan"),
        ({"env_failure_plan": PLAN}, PLAN, True, "environment KAYGRAPH_FAILURE_PLAN"),
        ({"file_failure_plan": PLAN}, PLAN, True, "file {config}"),
        ({"flag_failure_plan": PLAN, "flag_simulate_failures": True}, PLAN, True, "flag --simulate-failures"),
        ({"flag_failure_plan": PLAN, "file_simulate_failures": True}, PLAN, True, "file {config}"),
        ({"flag_failure_plan": PLAN, "env_simulate_failures": "off"}, PLAN, True, "flag --failure-plan"),
        ({"flag_failure_plan": PLAN, "file_simulate_failures": False}, PLAN, True, "flag --failure-plan"),
        (
            {"env_failure_plan": PLAN, "file_simulate_failures": False},
            PLAN,
            True,
            "environment KAYGRAPH_FAILURE_PLAN",
        ),
        (
            {"file_failure_plan": PLAN, "env_simulate_failures": "off"},
            None,
            False,
            "environment KAYGRAPH_SIMULATE_FAILURES",
        ),
        ({"env_failure_plan": PLAN, "flag_simulate_failures": False}, None, False, "flag --no-simulate-failures"),
        # What is not used is not judged.
        (
            {"file_failure_plan": "x", "env_simulate_failures": "0"},
            None,
            False,
            "environment KAYGRAPH_SIMULATE_FAILURES",
        ),
        ({"file_failure_plan": 5, "flag_simulate_failures": False}, None, False, "flag --no-simulate-failures"),
        ({"file_failure_plan": "x", "flag_failure_plan": "ok"}, "ok", True, "flag --failure-plan"),
    ],
)
def test_a_plan_switches_the_simulation_on_unless_it_is_switched_off_closer_to_the_run(
    config: Path, given: Mapping[str, object], plan: str | None, is_simulated: bool, origin: str
) -> None:
    loaded = loaded_from(config, **given)
    assert (loaded.settings.failure_plan, loaded.settings.simulate_failures) == (plan, is_simulated)
    assert loaded.origins["simulate_failures"] == origin.format(config=config)
    assert (loaded.origins["failure_plan"] == "default") == (plan is None)
    assert plan is None or parse_plan(plan).steps


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        (
            {"flag_failure_plan": PLAN, "flag_simulate_failures": False},
            UsageProblem,
            "--no-simulate-failures switches off what --failure-plan asks for",
        ),
        (
            {"env_failure_plan": PLAN, "env_simulate_failures": "off"},
            ConfigError,
            "environment variable KAYGRAPH_SIMULATE_FAILURES switches off what environment variable "
            "KAYGRAPH_FAILURE_PLAN asks for",
        ),
        (
            {"file_failure_plan": PLAN, "file_simulate_failures": False},
            ConfigError,
            "{config}: simulate_failures switches off what {config}: failure_plan asks for",
        ),
    ],
)
def test_one_source_does_not_switch_off_its_own_plan(
    config: Path, given: Mapping[str, object], kind: type[AppError], message: str
) -> None:
    error = refusal(config, **given)
    assert type(error) is kind
    assert (error.message, error.hint) == (message.format(config=config), "give one of them")


@pytest.mark.parametrize(
    ("given", "kind", "place"),
    [
        ({"flag_failure_plan": "ok, kut@40%"}, UsageProblem, "--failure-plan"),
        ({"env_failure_plan": "ok, kut@40%"}, ConfigError, "environment variable KAYGRAPH_FAILURE_PLAN"),
        ({"file_failure_plan": "ok, kut@40%"}, ConfigError, "{config}: failure_plan"),
    ],
)
def test_a_bad_plan_is_told_with_its_source_and_its_place(
    config: Path, given: Mapping[str, object], kind: type[AppError], place: str
) -> None:
    error = refusal(config, **given)
    assert type(error) is kind
    assert error.message == f"{place.format(config=config)}, character 5: there is no failure 'kut'"
    assert error.hint.startswith("did you mean 'cut'? there are ")


def test_an_empty_plan_is_none() -> None:
    with pytest.raises(UsageProblem, match="^--failure-plan, character 1: expected a failure, but the text ends$"):
        load({"failure_plan": ""}, environ={"HOME": "/nowhere"})


def test_a_bad_plan_and_another_bad_value_are_told_at_once(config: Path) -> None:
    error = refusal(config, flag_failure_plan="x", flag_temperature=3.0, flag_failure_seed=1)
    assert [line.partition(" ")[0] for line in error.message.splitlines()] == ["--temperature", "--failure-plan,"]
    error = refusal(config, flag_failure_plan=PLAN, file_simulate_failures=3, flag_failure_seed=1)
    assert type(error) is ConfigError
    assert error.message == f"{config}: simulate_failures must be true or false, not 3"


@pytest.mark.parametrize("plan", ["{}", "cut@{}", "status={}", "random(seed={})", "ok, {}"])
def test_no_piece_of_a_key_in_a_plan_is_shown(config: Path, plan: str) -> None:
    error = refusal(config, flag_failure_plan=plan.format(KEY), env_api_key=KEY)
    assert (error.message, error.hint) == (
        "--failure-plan holds what looks like a key",
        "write failures, such as refused, cut@40%, ok",
    )


@pytest.mark.parametrize(
    ("given", "is_fine"),
    [
        ({"flag_simulate_failures": True}, True),
        ({"env_simulate_failures": "on"}, True),
        ({"file_simulate_failures": True}, True),
        ({"flag_failure_plan": PLAN}, True),
        ({"env_failure_plan": PLAN}, True),
        ({"file_failure_plan": PLAN}, True),
        ({"file_failure_plan": PLAN, "env_simulate_failures": "off"}, False),
        ({"file_simulate_failures": False}, False),
    ],
)
def test_a_typed_seed_wants_failures_from_any_source(config: Path, given: Mapping[str, object], is_fine: bool) -> None:
    if is_fine:
        assert loaded_from(config, flag_failure_seed=-7, **given).settings.failure_seed == -7
        return
    error = refusal(config, flag_failure_seed=-7, **given)
    assert type(error) is UsageProblem
    assert error.message == "--failure-seed -7 has no failures to choose"
    assert error.hint == "add --simulate-failures or --failure-plan SPEC"


def test_a_seed_that_is_configured_waits_for_its_failures(config: Path) -> None:
    assert loaded_from(config, env_failure_seed=1).settings.failure_seed == 1
    assert loaded_from(config, file_failure_seed=1).settings.failure_seed == 1


@pytest.mark.parametrize("flag", [{"flag_failure_seed": 1}, {"flag_guard_action": "block"}])
def test_nothing_is_said_about_what_depends_on_a_source_that_is_wrong(config: Path, flag: Mapping[str, object]) -> None:
    error = refusal(config, file_simulate_failures=True, file_guardrails=True, file_seed="x", **flag)
    assert error.message == f"{config}: seed must be a whole number from 0 to 4294967294, not 'x'"


def test_without_a_plan_its_language_is_not_imported(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "utils.failures.grammar", None)
    assert loaded_from(config, flag_simulate_failures=True).settings.simulate_failures
    with pytest.raises(ImportError):
        loaded_from(config, flag_failure_plan="ok")


# -- fallbacks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [{"env_fallback": "a, b"}, {"file_fallback": ["a", "b"]}, {"env_fallback": "a,,b"}])
def test_no_fallback_as_it_is_typed_drops_the_configured_ones(config: Path, given: Mapping[str, object]) -> None:
    loaded = loaded_from(config, flag_fallback_to_embedded=False, **given)
    assert (loaded.settings.fallback, loaded.origins["fallback"]) == ((), "default")


@pytest.mark.parametrize(
    "given",
    [
        {"flag_fallback": ("a", "b"), "env_fallback_to_embedded": "no"},
        {"env_fallback": "a,b", "file_fallback_to_embedded": False},
        {"file_fallback": ["a", "b"], "file_fallback_to_embedded": False},
    ],
)
def test_the_setting_behind_it_is_about_missing_keys_only(config: Path, given: Mapping[str, object]) -> None:
    settings = loaded_from(config, **given).settings
    assert (settings.fallback, settings.fallback_to_embedded) == (("a", "b"), False)


def test_one_name_in_the_file_is_a_list_of_one(config: Path) -> None:
    assert loaded_from(config, file_fallback="m@http://a/v1").settings.fallback == ("m@http://a/v1",)


# -- resume ----------------------------------------------------------------------------------------------------------

SAME, OTHER = Target("http://a/v1", "m", is_deterministic=True), Target("http://a/v1", "m")
OURS = Target(EMBEDDED, "m", is_deterministic=True)


@pytest.mark.parametrize(
    ("resume", "target", "expected"),
    [
        ("auto", SAME, None),
        ("never", SAME, Capabilities(replay=False, prefill=None, continue_=False)),
        ("never", OURS, Capabilities(replay=False, prefill=None, continue_=False)),
        ("replay", SAME, Capabilities(replay=True, prefill=None, continue_=False)),
        ("replay", OTHER, Capabilities(replay=True, prefill=None, continue_=False)),
        ("words", SAME, Capabilities(replay=False, prefill=None, continue_=True)),
        ("trailing", SAME, Capabilities(replay=True, prefill="trailing", continue_=True)),
        ("trailing", OTHER, Capabilities(replay=False, prefill="trailing", continue_=True)),
        ("continue_final_message", OTHER, Capabilities(prefill="continue_final_message")),
        ("prefix", OTHER, Capabilities(prefill="prefix")),
        ("prefix", OURS, Capabilities(replay=True, prefill="trailing")),
    ],
)
def test_an_answer_is_resumed_as_configured(resume: str, target: Target, expected: Capabilities | None) -> None:
    assert resume_capabilities(Settings.model_validate({"resume": resume}), target) == expected
