"""What a template's settings rank beside, and how what is wrong with them is told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from commands.templated import load_with_template
from utils.errors import AppError, ConfigError, UsageProblem
from utils.policies import Guards
from utils.settings import Loaded
from utils.targets import choose_target


def loaded(
    directory: Path,
    template: str | None,
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    config: str = "",
    parameters: tuple[str, ...] = (),
) -> Loaded:
    (directory / "config.toml").write_text(config, encoding="utf-8")
    if template is not None:
        (directory / "mine.toml").write_text(template, encoding="utf-8")
    return load_with_template(
        flags or {},
        environ={"HOME": str(directory), "KAYGRAPH_TEMPLATES": str(directory), **(environ or {})},
        config_file=directory / "config.toml",
        template=None if template is None else "mine",
        parameters=parameters,
    )[0]


def test_a_template_ranks_below_flags_and_above_the_rest(tmp_path: Path) -> None:
    environ = {"KAYGRAPH_TEMPERATURE": "0.2", "KAYGRAPH_SEED": "2", "KAYGRAPH_MAX_TOKENS": "2"}
    found = loaded(
        tmp_path,
        "temperature = 0.3\nseed = 3",
        {"temperature": 0.4},
        environ,
        "temperature = 0.1\nseed = 1\nmax_tokens = 1\nretries = 1",
    )
    settings = found.settings
    assert (settings.temperature, settings.seed, settings.max_tokens, settings.retries) == (0.4, 3, 2, 1)
    assert found.origins["seed"] == "flag --template mine"
    assert found.origins["temperature"] == "flag --temperature"
    # The directory's own variable is no unknown setting.
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("template", "flags", "environ", "target"),
    [
        ('model = "embedded"', {}, {"OPENAI_BASE_URL": "http://e/v1"}, "smollm2-135m-instruct (embedded)"),
        ('model = "embedded"', {"base_url": "http://f/v1"}, {}, "http://f/v1"),
    ],
)
def test_what_excludes_a_typed_flag_gives_way(
    tmp_path: Path, template: str, flags: dict[str, object], environ: dict[str, str], target: str
) -> None:
    (tmp_path / "file.gguf").write_bytes(b"GGUF")
    typed = {name: str(tmp_path / "file.gguf") if value == "{gguf}" else value for name, value in flags.items()}
    found = loaded(tmp_path, template, typed, environ)
    assert choose_target(found.settings, origins=found.origins).target.name == target


@pytest.mark.parametrize(
    ("template", "flags", "values"),
    [
        ("fallback_to_embedded = false", {"fallback": ("m",)}, {"fallback": ("m",), "fallback_to_embedded": True}),
        ('guard = ["pii"]', {"guardrails": False}, {"guard": (), "guardrails": False}),
        ("guardrails = false", {"guard": ("pii",)}, {"guard": ("pii",), "guardrails": None}),
        ('regex = "a"', {"json_schema": "{file}"}, {"regex": None}),
        ("simulate_failures = false", {"failure_plan": "ok"}, {"simulate_failures": True}),
    ],
)
def test_settings_that_go_together_follow_what_was_typed(
    tmp_path: Path, template: str, flags: dict[str, object], values: dict[str, object]
) -> None:
    (tmp_path / "file").write_text("{}")
    typed = {name: str(tmp_path / "file") if value == "{file}" else value for name, value in flags.items()}
    settings = loaded(tmp_path, template, typed).settings
    assert {name: getattr(settings, name) for name in values} == values


@pytest.mark.parametrize(
    ("template", "flags", "kind", "says"),
    [
        ("temperature = 9", {}, ConfigError, "mine.toml: temperature must be a number from 0 to 2, not 9"),
        ("timeout_s = -1", {}, ConfigError, "mine.toml: timeout_s must be"),
        ("guardrails = 3", {}, ConfigError, "mine.toml: guardrails must be true or false, not 3"),
        ("regex = 'a'\ngrammar = 'g'", {}, ConfigError, "mine.toml: grammar"),
        ("temperature = 9", {"temperature": 8.0}, UsageProblem, "--temperature must be a number from 0 to 2, not 8"),
        ("seed = 1", {"temperature": 8.0}, UsageProblem, "--temperature must be"),
        ("monitor_performance = false", {"max_tokens": -5}, UsageProblem, "--max-tokens must be"),
    ],
)
def test_what_is_wrong_is_said_of_whoever_said_it(
    tmp_path: Path, template: str, flags: dict[str, object], kind: type[AppError], says: str
) -> None:
    with pytest.raises(AppError) as caught:
        loaded(tmp_path, template, flags)
    assert type(caught.value) is kind
    assert says in caught.value.message
    assert "--" not in caught.value.message or kind is UsageProblem


def test_a_form_that_cannot_be_used_is_said_of_the_template(tmp_path: Path) -> None:
    found = loaded(tmp_path, "regex = '('")
    choice = choose_target(found.settings, origins=found.origins)
    with pytest.raises(ConfigError, match=r"template mine: regex"):
        Guards(found, choice, allow_secrets=False)
    typed = loaded(tmp_path, "seed = 1", {"regex": "("})
    with pytest.raises(UsageProblem, match="--regex"):
        Guards(typed, choice, allow_secrets=False)


def test_parameters_need_a_template(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="no template"):
        loaded(tmp_path, None, parameters=("a=1",))
