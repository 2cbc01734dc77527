"""Whatever the combination of sources: the highest given one wins, and the origin says which it was."""

from __future__ import annotations

import json
import pwd
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from utils.errors import ConfigError, UsageProblem
from utils.run_context import EMBEDDED, Deadlines, Parameters, Target
from utils.settings import EMBEDDED_SEED, Settings, deadlines, display, guard_packs, in_effect, load, parameters
from utils.settings_file import default_config_file
from utils.settings_sources import rank

# field -> (flag, environment text, file), and what each of them becomes
VALUES: dict[str, tuple[tuple[object, object], tuple[str, object], tuple[object, object]]] = {
    "model": (("a", "a"), ("b", "b"), ("c", "c")),
    "base_url": (("http://a/v1/", "http://a/v1"), ("http://b", "http://b"), ("https://c//", "https://c")),
    "fallback_to_embedded": ((False, False), ("yes", True), (False, False)),
    "fallback": (((" a ", "b"), ("a", "b")), ("c, d@http://e", ("c", "d@http://e")), (["f"], ("f",))),
    "system": (("", ""), (" b ", " b "), ("c", "c")),
    "temperature": ((0, 0.0), ("0.5", 0.5), (2, 2.0)),
    "max_tokens": ((1, 1), ("2", 2), (3, 3)),
    "seed": ((0, 0), ("4294967294", 4294967294), (2, 2)),
    "stop": ((("a", "b"), ("a", "b")), ('["c", "d"]', ("c", "d")), (["e"], ("e",))),
    "logprobs": ((False, False), ("on", True), (False, False)),
    "guardrails": ((True, True), ("1", True), (True, True)),
    "guard": ((("pii", "a.toml"), ("pii", "a.toml")), ("secrets", ("secrets",)), (["pii"], ("pii",))),
    "guard_action": (("mask", "mask"), ("flag", "flag"), ("block", "block")),
    "toxicity_classifier": (("openai", "openai"), ("lexical", "lexical"), ("openai", "openai")),
    "validators": ((("no-control",), ("no-control",)), ('["a", "b"]', ("a", "b")), (["e"], ("e",))),
    "validate_retries": ((0, 0), ("10", 10), (3, 3)),
    "regex": ((" a", " a"), (" b ", " b "), ("c", "c")),
    "context_tokens": ((1, 1), ("4096", 4096), (3, 3)),
    "toxicity": (("hold", "hold"), ("off", "off"), ("stop", "stop")),
    "simulate_failures": ((True, True), ("off", False), (True, True)),
    "failure_seed": ((-1, -1), ("2", 2), (3, 3)),
    "failure_plan": (("ok", "ok"), ("refused, ok", "refused, ok"), ("cut@40%", "cut@40%")),
    "timeout_s": ((0.0, None), ("5", 5.0), (0, None)),
    "first_token_timeout_s": ((1.5, 1.5), ("0", None), (2, 2.0)),
    "idle_timeout_s": ((1, 1.0), ("2", 2.0), (0.0, None)),
    "connect_timeout_s": ((0.1, 0.1), ("2", 2.0), (3, 3.0)),
    "retries": ((0, 0), ("10", 10), (3, 3)),
    "resume": (("never", "never"), ("continue_final_message", "continue_final_message"), ("words", "words")),
    "rpm": ((1, 1), ("2147483647", 2147483647), (60, 60)),
    "tpm": ((2, 2), ("2147483647", 2147483647), (60, 60)),
    "max_tokens_per_second": ((0.1, 0.1), ("20", 20.0), (3, 3.0)),
    "adaptive": ((True, True), ("no", False), (True, True)),
    "monitor_performance": ((True, True), ("false", False), (True, True)),
    "slo": (("ttft=1", "ttft=1"), ("tpot=1", "tpot=1"), ("e2e=1", "e2e=1")),
    "log": ((False, False), ("off", False), (False, False)),
    "log_text": ((True, True), ("on", True), (True, True)),
    "otel": (("http://a:1", "http://a:1"), ("http://b:2/", "http://b:2"), ("http://c:3/v1/traces", "http://c:3")),
    "otel_semconv": (("current", "current"), ("latest", "latest"), ("latest", "latest")),
    "prompt_limit_chars": ((1, 1), ("100000000", 100_000_000), (3, 3)),
    "finish_reason_optional": ((True, True), ("n", False), (True, True)),
    "color": (("always", "always"), ("never", "never"), ("auto", "auto")),
}
IN_PROFILES = {"guard": (["pii", "secrets"], ("pii", "secrets"))}
"""Where a file's value becomes another one than the flag's: its paths are relative to it."""
FILES = ("gguf", "json_schema", "grammar", "prometheus")
OPENAI_NAMES = {"api_key": "OPENAI_API_KEY", "base_url": "OPENAI_BASE_URL"}
FLAG_NAMES = {
    "fallback_to_embedded": "--no-fallback",
    "guardrails": "--enable-guardrails",
    "logprobs": "--no-logprobs",
    "log": "--no-log",
    "timeout_s": "--timeout",
    "first_token_timeout_s": "--first-token-timeout",
    "idle_timeout_s": "--idle-timeout",
    "connect_timeout_s": "--connect-timeout",
    "validators": "--validate",
}
GIVEN = st.sampled_from(["given", "empty", "absent"])


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings") / "config.toml"


def write(path: Path, values: dict[str, object], *, profiles: dict[str, dict[str, object]] | None = None) -> None:
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    for name, table in (profiles or {}).items():
        lines += [f"[profiles.{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    path.chmod(0o600)


def test_every_field_but_the_key_and_the_files_is_in_the_table() -> None:
    assert {*VALUES, "api_key", "profile", *FILES} == set(Settings.model_fields)


PROFILE_LABELS = {"flag": "flag --profile", "environment": "environment KAYGRAPH_PROFILE", "file": "file {config}"}


@settings(deadline=None)
@given(
    st.fixed_dictionaries({name: st.tuples(st.booleans(), GIVEN, st.booleans(), st.booleans()) for name in VALUES}),
    st.sampled_from(["flag", "environment", "file", None]),
    st.booleans(),
)
def test_the_highest_source_that_gives_a_value_wins_and_is_named(
    config: Path, chosen: dict[str, tuple[bool, str, bool, bool]], profile_named_by: str | None, has_others: bool
) -> None:
    if chosen["guard_action"][0] or chosen["toxicity_classifier"][0]:  # these flags ask for something to act on
        chosen["guardrails"] = (True, *chosen["guardrails"][1:])
    if chosen["failure_seed"][0] or any(place in (True, "given") for place in chosen["failure_plan"]):
        chosen["simulate_failures"] = (True, *chosen["simulate_failures"][1:])
    if chosen["fallback_to_embedded"][0]:  # it forbids them
        chosen["fallback"] = (False, "absent", False, False)
    if chosen["otel_semconv"][0]:
        chosen["otel"] = (True, *chosen["otel"][1:])
    flags: dict[str, object] = {}
    environ: dict[str, str] = {}
    table: dict[str, object] = {}
    profile: dict[str, object] = {}
    expected: dict[str, object] = {}
    origins: dict[str, str] = {}
    for name, (in_flags, in_environment, in_profile, in_file) in chosen.items():
        flag, variable, entry = VALUES[name]
        expected[name], origins[name] = getattr(Settings(), name), "default"
        if in_file:
            table[name] = entry[0]
            expected[name], origins[name] = entry[1], f"file {config}"
        if in_profile:
            profile[name] = IN_PROFILES.get(name, flag)[0]
        if in_profile and profile_named_by is not None:
            expected[name], origins[name] = IN_PROFILES.get(name, flag)[1], f"file {config}: profiles.work"
        if in_environment != "absent":
            environ[f"KAYGRAPH_{name.upper()}"] = variable[0] if in_environment == "given" else ""
        if in_environment == "given":
            expected[name], origins[name] = variable[1], f"environment KAYGRAPH_{name.upper()}"
        flags[name] = flag[0] if in_flags else None
        if in_flags:
            label = FLAG_NAMES.get(name, "--" + name.replace("_", "-"))
            expected[name], origins[name] = flag[1], f"flag {label}"
    # Lower places may name others, which then count for nothing.
    places = {"flag": (flags, "profile"), "environment": (environ, "KAYGRAPH_PROFILE"), "file": (table, "profile")}
    is_named = False
    for place, (values, key) in places.items():
        if place == profile_named_by:
            values[key], is_named = "work", True
        elif is_named and has_others:
            values[key] = "nobody"
    write(config, table, profiles={"work": profile, "other": {"seed": 12345}})

    loaded = load(flags, environ=environ, config_file=config)

    assert loaded.settings.profile == (None if profile_named_by is None else "work")
    assert loaded.origins["profile"] == PROFILE_LABELS.get(profile_named_by or "", "default").format(config=config)
    assert {name: getattr(loaded.settings, name) for name in VALUES} == expected
    assert {name: loaded.origins[name] for name in VALUES} == origins
    assert loaded.warnings == ()
    assert loaded.config_file == config


@settings(deadline=None)
@given(st.lists(st.sampled_from(["flag", "KAYGRAPH_API_KEY", "OPENAI_API_KEY", "file"]), unique=True))
def test_of_several_keys_the_most_specific_one_wins(config: Path, places: list[str]) -> None:
    write(config, {"api_key": "key-of-file"} if "file" in places else {})
    flags = {"api_key": "key-of-flag" if "flag" in places else None}
    environ = {place: f"key-of-{place}" for place in places if place.isupper()}
    loaded = load(flags, environ=environ, config_file=config)
    order = {
        "flag": ("key-of-flag", "flag --api-key"),
        "KAYGRAPH_API_KEY": ("key-of-KAYGRAPH_API_KEY", "environment KAYGRAPH_API_KEY"),
        "OPENAI_API_KEY": ("key-of-OPENAI_API_KEY", "environment OPENAI_API_KEY"),
        "file": ("key-of-file", f"file {config}"),
    }
    key, origin = next((order[place] for place in order if place in places), (None, "default"))
    assert loaded.settings.api_key == (SecretStr(key) if key else None)
    assert loaded.origins["api_key"] == origin


def test_our_own_base_url_variable_beats_the_openai_one() -> None:
    environ = {"OPENAI_BASE_URL": "http://openai/v1", "HOME": "/nowhere"}
    loaded = load({}, environ=environ)
    assert (loaded.settings.base_url, loaded.origins["base_url"]) == ("http://openai/v1", "environment OPENAI_BASE_URL")
    loaded = load({}, environ={**environ, "KAYGRAPH_BASE_URL": "http://ours/v1"})
    assert (loaded.settings.base_url, loaded.origins["base_url"]) == ("http://ours/v1", "environment KAYGRAPH_BASE_URL")


def test_a_flag_gets_a_run_past_a_bad_variable_and_a_bad_file(config: Path) -> None:
    config.write_text("temperature = 'hot'\n", encoding="utf-8")
    loaded = load({"temperature": 1.0}, environ={"KAYGRAPH_TEMPERATURE": "cold"}, config_file=config)
    assert loaded.settings.temperature == 1.0


def test_a_stop_flag_that_was_not_typed_does_not_hide_the_variable() -> None:
    loaded = load({"stop": ()}, environ={"HOME": "/nowhere", "KAYGRAPH_STOP": "END"})
    assert loaded.settings.stop == ("END",)
    assert loaded.origins["stop"] == "environment KAYGRAPH_STOP"


@pytest.mark.parametrize(
    ("text", "stop"),
    [
        ("END", ("END",)),
        ("\n", ("\n",)),
        ("[END]", ("[END]",)),
        ("5", ("5",)),
        ('"quoted"', ('"quoted"',)),
        ("[" * 100_000, ("[" * 100_000,)),
        ('["a", "\\n"]', ("a", "\n")),
        ("[]", ()),
    ],
)
def test_a_stop_variable_is_one_text_unless_it_is_a_json_list(text: str, stop: tuple[str, ...]) -> None:
    assert load({}, environ={"HOME": "/nowhere", "KAYGRAPH_STOP": text}).settings.stop == stop


def test_a_single_text_in_the_file_is_one_stop_text(config: Path) -> None:
    write(config, {"stop": "END"})
    assert load({}, environ={}, config_file=config).settings.stop == ("END",)


def test_blank_variables_count_as_not_set_where_blanks_cannot_be_meant() -> None:
    loaded = load(
        {}, environ={"HOME": "/nowhere", "KAYGRAPH_MODEL": " \n", "KAYGRAPH_STOP": " ", "OPENAI_API_KEY": " "}
    )
    assert loaded.settings.model is None
    assert loaded.settings.api_key is None
    assert loaded.settings.stop == (" ",)


def test_a_model_file_is_found_from_where_it_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    config = tmp_path / "config.toml"
    write(config, {"gguf": "x.gguf"})
    environ = {"HOME": "/nowhere"}
    assert load({}, environ=environ, config_file=config).settings.gguf == tmp_path / "x.gguf"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load({"gguf": Path("x.gguf")}, environ=environ).settings.gguf == Path("x.gguf")
    assert load({"gguf": "x.gguf"}, environ=environ).settings.gguf == Path("x.gguf")
    assert load({}, environ={**environ, "KAYGRAPH_GGUF": "~/x.gguf"}).settings.gguf == tmp_path / "x.gguf"


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({"XDG_CONFIG_HOME": "{base}/xdg", "HOME": "{base}"}, "xdg"),
        ({"XDG_CONFIG_HOME": "", "HOME": "{base}"}, ".config"),
        ({"XDG_CONFIG_HOME": "relative/is/ignored", "HOME": "{base}"}, ".config"),
        ({"HOME": "{base}"}, ".config"),
        ({"HOME": ""}, ".config"),
        ({}, ".config"),
    ],
)
def test_the_default_file_is_read_from_the_users_configuration(
    tmp_path: Path, environ: dict[str, str], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: SimpleNamespace(pw_dir=str(tmp_path)))
    environ = {name: value.format(base=tmp_path) for name, value in environ.items()}
    assert load({}, environ=environ).config_file is None
    config = tmp_path / place / "kaygraph-streaming-llm" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("seed = 7\n", encoding="utf-8")
    loaded = load({}, environ=environ)
    assert (loaded.settings.seed, loaded.origins["seed"], loaded.config_file) == (7, f"file {config}", config)


def test_without_any_home_directory_there_is_no_default_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: SimpleNamespace(pw_dir=""))
    assert default_config_file({"HOME": ""}) is None


def test_a_file_where_the_configuration_directory_should_be_is_like_no_configuration(tmp_path: Path) -> None:
    (tmp_path / ".config").write_text("", encoding="utf-8")
    assert load({}, environ={"HOME": str(tmp_path)}).config_file is None


def test_a_named_file_beats_the_variable_which_beats_the_default_file(tmp_path: Path) -> None:
    default = tmp_path / ".config" / "kaygraph-streaming-llm" / "config.toml"
    default.parent.mkdir(parents=True)
    for number, path in enumerate((default, tmp_path / "two.toml", tmp_path / "three.toml"), start=1):
        path.write_text(f"seed = {number}\n", encoding="utf-8")
    environ = {"HOME": str(tmp_path)}
    assert load({}, environ=environ).settings.seed == 1
    environ["KAYGRAPH_CONFIG"] = str(tmp_path / "two.toml")
    assert load({}, environ=environ).settings.seed == 2
    assert load({}, environ=environ, config_file=tmp_path / "three.toml").settings.seed == 3


def test_a_byte_order_mark_and_windows_line_ends_are_fine(config: Path) -> None:
    config.write_bytes(b"\xef\xbb\xbfseed = 1\r\nmodel = 'x'\r\n")
    loaded = load({}, environ={}, config_file=config)
    assert (loaded.settings.seed, loaded.settings.model) == (1, "x")


def test_settings_and_origins_cannot_be_changed() -> None:
    loaded = load({}, environ={"HOME": "/nowhere"})
    with pytest.raises(ValidationError):
        loaded.settings.seed = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        loaded.origins["seed"] = "elsewhere"  # type: ignore[index]


def test_a_flag_that_is_no_setting_is_a_mistake_of_the_program() -> None:
    with pytest.raises(TypeError, match="'sede' is not a setting"):
        load({"sede": 1}, environ={})


def test_ranks_follow_the_precedence() -> None:
    origins = ["default", "file /x", "file /x: targets.a", "file /x: profiles.a.b/c", "environment X", "flag --x"]
    assert [rank(origin) for origin in origins] == [0, 1, 2, 3, 4, 5]


def test_the_cores_get_their_own_small_values() -> None:
    settings = Settings(
        temperature=0.5, max_tokens=9, seed=0, stop=("a",), logprobs=False, timeout_s=0, idle_timeout_s=3
    )
    assert parameters(settings) == Parameters(temperature=0.5, max_tokens=9, seed=0, stop=("a",), logprobs=False)
    assert deadlines(settings) == Deadlines(first_token_s=60.0, idle_s=3.0, total_s=None, connect_s=10.0)
    assert deadlines(Settings()) == Deadlines()


def test_only_the_embedded_model_gets_a_seed_that_nobody_gave() -> None:
    embedded, server = Target(EMBEDDED, "m"), Target("http://a/v1", "m")
    assert parameters(Settings(), target=embedded).seed == EMBEDDED_SEED
    assert parameters(Settings(seed=0), target=embedded).seed == 0
    assert parameters(Settings(), target=server).seed is None
    assert parameters(Settings()).seed is None


def test_the_value_in_effect_is_what_the_target_is_asked_with() -> None:
    environ = {"HOME": "/nowhere", "KAYGRAPH_SEED": "7"}
    loaded = load({}, environ=environ)
    embedded, server = Target(EMBEDDED, "m"), Target("http://a/v1", "m")
    assert in_effect(loaded, "temperature", target=embedded) == ("0.2", "the embedded model's default")
    assert in_effect(loaded, "seed", target=embedded) == ("7", "environment KAYGRAPH_SEED")
    assert in_effect(loaded, "model", target=embedded) == ("not set", "default")
    for target in (server, None):
        assert in_effect(loaded, "temperature", target=target) == ("not set", "default")


@pytest.mark.parametrize(
    ("settings", "name", "shown"),
    [
        (Settings(), "model", "not set"),
        (Settings(), "timeout_s", "600"),
        (Settings(timeout_s=0), "timeout_s", "no limit"),
        (Settings(temperature=0.7), "temperature", "0.7"),
        (Settings(), "logprobs", "true"),
        (Settings(), "stop", "none"),
        (Settings(stop=("\n", "END")), "stop", r"'\n', 'END'"),
        (Settings(system="be brief"), "system", "8 characters"),
        (Settings(api_key=SecretStr("sk-0123456789abcd")), "api_key", "sk-…abcd"),
        (Settings(api_key=SecretStr("short-key11")), "api_key", "…"),
        (Settings(gguf=Path("/x/y.gguf")), "gguf", "/x/y.gguf"),
        (Settings(prompt_limit_chars=1_000_000), "prompt_limit_chars", "1000000"),
    ],
)
def test_values_are_shown_in_the_words_that_set_them(settings: Settings, name: str, shown: str) -> None:
    assert display(settings, name) == shown


@pytest.mark.parametrize(
    ("guardrails", "guard", "expected"),
    [
        (None, None, ()),
        (True, None, ("pii", "secrets")),
        (None, ("a.toml",), ("a.toml",)),
        (True, ("a.toml",), ("pii", "secrets", "a.toml")),
        (False, None, ()),
    ],
)
def test_guard_names_packs_besides_those_of_the_guardrails(
    guardrails: bool | None, guard: tuple[str, ...] | None, expected: tuple[str, ...]
) -> None:
    loaded = load({"guardrails": guardrails, "guard": guard}, environ={"HOME": "/nowhere"})
    assert guard_packs(loaded.settings, ("pii", "secrets")) == expected


def test_guardrails_that_are_switched_off_override_packs_that_the_file_names(config: Path) -> None:
    write(config, {"guard": ["pii"]})
    environ = {"HOME": "/nowhere"}
    assert guard_packs(load({"guardrails": False}, environ=environ, config_file=config).settings, ("x",)) == ()
    assert guard_packs(load({}, environ=environ, config_file=config).settings, ("x",)) == ("pii",)


def test_packs_and_files_that_the_file_names_are_relative_to_it(config: Path) -> None:
    (config.parent / "s.json").write_text("{}", encoding="utf-8")
    write(config, {"guard": ["pii", "own.toml", "packs/x", "/abs.toml"], "json_schema": "s.json"})
    settings = load({}, environ={"HOME": "/nowhere"}, config_file=config).settings
    here = str(config.parent)
    assert settings.guard == ("pii", f"{here}/own.toml", f"{here}/packs/x", "/abs.toml")
    assert settings.json_schema == config.parent / "s.json"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"guardrails": False, "guard": ("pii",)}, "--disable-guardrails switches off what --guard asks for"),
        ({"regex": "a", "grammar": "/dev/null"}, "an answer can have one form, and --regex and --grammar ask for 2"),
        ({"fallback_to_embedded": False, "fallback": ("a",)}, "--no-fallback forbids what --fallback asks for"),
    ],
)
def test_flags_that_contradict_each_other_are_a_usage_error(flags: dict[str, object], message: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        load(flags, environ={"HOME": "/nowhere"})
    assert (caught.value.message, caught.value.hint) == (message, "give one of them")


@pytest.mark.parametrize(
    ("flags", "message", "hint"),
    [
        (
            {"guard_action": "block"},
            "--guard-action block has no rules to act on",
            "add --enable-guardrails or --guard PACK",
        ),
        (
            {"guard_action": "mask", "guardrails": False},
            "--guard-action mask has no rules to act on",
            "add --enable-guardrails or --guard PACK",
        ),
        ({"toxicity_classifier": "openai"}, "--toxicity-classifier has nothing to judge", "add --toxicity flag"),
        (
            {"failure_seed": 7},
            "--failure-seed 7 has no failures to choose",
            "add --simulate-failures or --failure-plan SPEC",
        ),
        (
            {"otel_semconv": "latest"},
            "--otel-semconv latest names what is not sent anywhere",
            "add --otel URL",
        ),
    ],
)
def test_a_flag_that_would_do_nothing_is_a_usage_error(flags: dict[str, object], message: str, hint: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        load(flags, environ={"HOME": "/nowhere"})
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_a_pack_that_is_named_closer_to_the_run_guards_it(config: Path) -> None:
    write(config, {"guardrails": False})
    for environ, flags in (({}, {"guard": ("pii",)}), ({"KAYGRAPH_GUARD": "pii"}, {})):
        loaded = load(flags, environ={"HOME": "/nowhere", **environ}, config_file=config)
        assert guard_packs(loaded.settings, ("x",)) == ("pii",)
        assert loaded.origins["guardrails"] == "default"
    write(config, {"guardrails": False, "guard": ["pii"]})
    with pytest.raises(ConfigError, match="guardrails switches off what .* guard asks for"):
        load({}, environ={"HOME": "/nowhere"}, config_file=config)


def test_packs_and_checks_in_a_variable_may_be_separated_by_commas() -> None:
    environ = {"HOME": "/nowhere", "KAYGRAPH_GUARD": "pii, mine.toml", "KAYGRAPH_STOP": "a,b"}
    settings = load({}, environ=environ).settings
    assert (settings.guard, settings.stop) == (("pii", "mine.toml"), ("a,b",))


@pytest.mark.parametrize("model", ["m@http://127.0.0.1:1/v1", "https://h/v1", "m@HTTPS://h/v1"])
def test_a_server_is_no_model(model: str) -> None:
    with pytest.raises(UsageProblem, match="--model names a server, not a model"):
        load({"model": model}, environ={"HOME": "/nowhere", "OPENAI_API_KEY": "sk-x"})
    assert load({"model": "llama3:8b@q4"}, environ={"HOME": "/nowhere"}).settings.model == "llama3:8b@q4"
