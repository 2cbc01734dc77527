"""`config`: what is shown of the settings, the file that is written, its schema, and that no key is shown."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import main
from utils.errors import AppError
from utils.settings import Settings, load
from utils.settings_schema import settings_schema
from utils.settings_table import TABLE
from utils.toml_limits import toml_table
from utils.validation.schema_check import check_schema

FILE = """\
temperature = 0.5
system = "the secret plan"
[targets.fast]
base_url = "https://fast.test/v1"
model = "small"
key_env = "FAST_KEY"
rpm = 30
[targets.odd]
model = "odd"
api_key = "odd-key-0123456789"
temperature = "hot"
[profiles.work]
target = "fast"
guard = ["pii", "secrets"]
guardrails = true
[profiles.lost]
target = "nobody"
"""
FAST_KEY = "fast-key-0123456789"
SCHEMA = settings_schema()


def config(*arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(main.cli, ["config", *arguments], env=environ)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my.toml"
    path.write_text(FILE, encoding="utf-8")
    path.chmod(0o600)
    return path


# -- show ------------------------------------------------------------------------------------------------------------


def test_every_value_is_shown_with_its_origin_and_every_name_with_what_it_stands_for(file: Path) -> None:
    result = config("show", "--config", str(file), "--profile", "work", "--seed", "3", FAST_KEY=FAST_KEY)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    for line in (
        f"  ok   file                   {file}",
        f"       target                 fast  (file {file}: profiles.work)",
        "       profile                work  (flag --profile)",
        f"       base_url               https://fast.test/v1  (file {file}: targets.fast)",
        "       api_key                …6789  (environment FAST_KEY)",
        "       seed                   3  (flag --seed)",
        f"       temperature            0.5  (file {file})",
        f"       system                 15 characters  (file {file})",
        f"       guard                  'pii', 'secrets'  (file {file}: profiles.work)",
        "       fast                   base_url https://fast.test/v1, model small, key_env FAST_KEY (…6789), rpm 30",
        "  warn odd                    model odd, api_key …6789, temperature hot",
        f"                              {file}: targets.odd: temperature must be a number from 0 to 2, not 'hot'",
        "       work                   target fast, guard pii + secrets, guardrails true",
        f"                              {file}: profiles.lost: target names no target of this file",
    ):
        assert line in lines
    settings = [line.split()[0] for line in lines[lines.index("settings:") + 3 : lines.index("targets:")]]
    assert settings == list(Settings.model_fields)
    assert not re.search(r"fast-key|odd-key|secret plan", result.stdout)


def test_json_has_the_same(file: Path) -> None:
    result = config("show", "--config", str(file), "-m", "fast", "--json", FAST_KEY=FAST_KEY)
    answer = json.loads(result.stdout)
    assert (answer["ok"], answer["exit_code"], answer["file"], answer["target"]) == (True, 0, str(file), "fast")
    assert answer["settings"].keys() == Settings.model_fields.keys()
    assert answer["settings"]["rpm"] == {"value": "30", "origin": f"file {file}: targets.fast"}
    assert answer["targets"]["fast"]["key_env"] == "FAST_KEY (…6789)"
    assert answer["profiles"]["work"] == {"target": "fast", "guard": "pii + secrets", "guardrails": "true"}
    assert len(answer["problems"]) == 2
    assert not re.search(r"fast-key|odd-key|secret plan", result.stdout)


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_settings_that_cannot_be_used_end_with_the_exit_code_of_a_run(file: Path, form: tuple[str, ...]) -> None:
    for arguments, code, said in (
        (("-m", "fast"), 78, "key_env names the variable FAST_KEY, which is not set"),
        (("--profile", "wrok"), 2, "--profile names the profile 'wrok'"),
        (("--temperature", "5"), 2, "--temperature must be a number from 0 to 2, not 5.0"),
    ):
        result = config("show", "--config", str(file), *arguments, *form)
        assert result.exit_code == code
        assert said in result.stdout
        if form:
            answer = json.loads(result.stdout)
            assert (answer["ok"], answer["exit_code"], answer["settings"]) == (False, code, {})


def test_a_key_that_is_too_short_to_be_shown_in_part_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "short.toml"
    path.write_text("[targets.t]\nmodel = 'm'\napi_key = 'k3y'\n", encoding="utf-8")
    path.chmod(0o600)
    for form in ((), ("--json",), ("-m", "t")):
        result = config("show", "--config", str(path), *form)
        assert result.exit_code == 0
        assert "k3y" not in result.stdout


def test_without_a_file_the_place_of_it_is_told(tmp_path: Path) -> None:
    result = config("show")
    assert f"none (looked for {tmp_path}/.config/kaygraph-streaming-llm/config.toml)" in result.stdout
    answer = json.loads(config("show", "--json").stdout)
    assert (answer["file"], answer["target"], answer["targets"], answer["profiles"]) == (None, None, {}, {})


# The beginning stands nowhere in ordinary output, whatever follows.
KEYS = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.", min_size=8, max_size=40).map(
    "Zq7~".__add__
)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(KEYS, st.sampled_from(["", "[targets.t]\nmodel = 'm'\n", "[profiles.t]\n"]), st.sampled_from(["", "-m", "x"]))
def test_no_output_holds_a_key(tmp_path: Path, key: str, section: str, option: str) -> None:
    path = tmp_path / "key.toml"
    others = (
        f"[targets.u]\nbase_url = 'http://me:{key}@h'\nkey_env = 'U'\n[profiles.u]\nmodel = '{key}'\nregex = '{key}'\n"
    )
    path.write_text(f"{section}api_key = {json.dumps(key)}\n{others}", encoding="utf-8")
    path.chmod(0o600)
    arguments = {"": [], "-m": ["-m", "u"], "x": ["--profile", "u"]}[option]
    for form in ([], ["--json"]):
        result = config("show", "--config", str(path), *arguments, *form, U=f"{key}-of-u", OPENAI_API_KEY=f"{key}-of-o")
        assert key[:-4] not in result.output


# -- init ------------------------------------------------------------------------------------------------------------


def written(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_a_new_file_is_private_loads_and_changes_nothing(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        result = config("init")
    finally:
        os.umask(old)
    path = tmp_path / ".config" / "kaygraph-streaming-llm" / "config.toml"
    assert (result.exit_code, result.stdout) == (0, f"{path}\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    environ = {"HOME": str(tmp_path)}
    loaded = load({}, environ=environ)
    assert (loaded.config_file, loaded.settings, set(loaded.origins.values())) == (path, Settings(), {"default"})
    assert (loaded.targets, loaded.warnings) == ((), ())


def test_the_schema_lies_where_the_first_line_says(tmp_path: Path) -> None:
    path = tmp_path / "my file.toml"
    assert config("init", "--config", str(path)).exit_code == 0
    first = written(path).splitlines()[0]
    assert first == "#:schema ./my%20file.schema.json"
    assert json.loads(written(tmp_path / "my file.schema.json")) == settings_schema()


def test_every_line_of_the_file_can_be_used(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    assert config("init", "--config", str(path)).exit_code == 0
    for name in ("model.gguf", "answer.json", "answer.lark"):
        (tmp_path / name).write_bytes(b"GGUF")
    head, names = written(path).split("# -- Targets")
    lines = re.findall(r"^#(\w+) = (.*)$", head, re.M)
    assert [name for name, _ in lines] == list(TABLE)
    sections = re.sub(r"^#(\[|\w+ = )", r"\1", f"# -- Targets{names}", flags=re.M)
    single = tmp_path / "single.toml"
    for name, value in lines:
        single.write_text(f"{name} = {value}\n{sections}", encoding="utf-8")
        single.chmod(0o600)
        loaded = load({}, environ={"FAST_API_KEY": FAST_KEY}, config_file=single)
        assert loaded.origins[name] == f"file {single}"
        assert accepts(SCHEMA, toml_table(single.read_text()))
    assert loaded.targets == ("fast", "local")
    loaded = load({"profile": "work"}, environ={"FAST_API_KEY": FAST_KEY}, config_file=single)
    assert (loaded.settings.model, loaded.settings.guardrails, loaded.target) == (
        "small-model",
        True,
        ("fast", f"file {single}: profiles.work"),
    )


def test_what_exists_stays_unless_forced(tmp_path: Path) -> None:
    path, schema = tmp_path / "c.toml", tmp_path / "c.schema.json"
    path.write_text("seed = 1\n", encoding="utf-8")
    result = main.main(["config", "init", "--config", str(path)])
    assert (result, written(path), schema.exists()) == (78, "seed = 1\n", False)
    assert main.main(["config", "init", "--config", str(path), "--force"]) == 0
    assert "#seed = 1" in written(path)
    path.unlink()
    assert main.main(["config", "init", "--config", str(path)]) == 0, "the schema is the same"
    path.unlink()
    schema.write_text("{}", encoding="utf-8")
    assert main.main(["config", "init", "--config", str(path)]) == 78
    assert (path.exists(), written(schema)) == (False, "{}")


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    real, link = tmp_path / "dotfiles" / "real.toml", tmp_path / "c.toml"
    link.symlink_to(real)
    assert main.main(["config", "init", "--config", str(link)]) == 78, "where it leads to is none of our business"
    real.parent.mkdir()
    assert main.main(["config", "init", "--config", str(link), "--force"]) == 0
    assert link.is_symlink()
    assert "#seed" in written(real)


def test_the_file_that_would_be_read_is_the_one_that_is_written(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere" / "x.toml"
    assert config("init", KAYGRAPH_CONFIG=str(path)).stdout == f"{path}\n"
    assert json.loads(config("show", "--json", KAYGRAPH_CONFIG=str(path)).stdout)["file"] == str(path)


@pytest.mark.parametrize("place", ["file/c.toml", "x\0y", "", "x" * 5000])
def test_a_place_that_cannot_be_written_is_a_configuration_error(
    tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert main.main(["config", "init", "--config", f"{tmp_path}/{place}" if place else ""]) == 78
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert "\0" not in errors


# -- schema ----------------------------------------------------------------------------------------------------------


def accepts(schema: Any, value: Any) -> bool:
    """Whether *value* fits *schema*, for the keywords that ours uses."""
    is_table, is_list, is_text = isinstance(value, dict), isinstance(value, list), isinstance(value, str)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    types = {
        "object": is_table,
        "array": is_list,
        "string": is_text,
        "boolean": isinstance(value, bool),
        "number": is_number,
        "integer": is_number and value == int(value),
    }
    for keyword, wanted in schema.items():
        match keyword:
            case "type":
                fits = types[wanted]
            case "enum":
                fits = value in wanted
            case "minimum":
                fits = not is_number or value >= wanted
            case "exclusiveMinimum":
                fits = not is_number or value > wanted
            case "maximum":
                fits = not is_number or value <= wanted
            case "minLength":
                fits = not is_text or len(value) >= wanted
            case "maxLength":
                fits = not is_text or len(value) <= wanted
            case "pattern":
                fits = not is_text or re.search(wanted, value) is not None
            case "maxItems":
                fits = not is_list or len(value) <= wanted
            case "items":
                fits = not is_list or all(accepts(wanted, item) for item in value)
            case "properties":
                fits = not is_table or all(accepts(wanted[key], item) for key, item in value.items() if key in wanted)
            case "propertyNames":
                fits = not is_table or all(accepts(wanted, key) for key in value)
            case "additionalProperties":
                others = {key: item for key, item in value.items() if key not in schema.get("properties", {})}
                fits = not is_table or (
                    all(accepts(wanted, item) for item in others.values()) if wanted else not others
                )
            case "required":
                fits = not is_table or all(key in value for key in wanted)
            case "anyOf":
                fits = any(accepts(one, value) for one in wanted)
            case "not":
                fits = not accepts(wanted, value)
            case "$schema" | "title" | "description" | "default":
                fits = True
            case _:
                raise AssertionError(f"nobody knows {keyword}")
        if not fits:
            return False
    return True


def test_the_command_prints_the_schema() -> None:
    result = config("schema")
    assert json.loads(result.stdout) == settings_schema()
    check_schema(settings_schema())
    properties = settings_schema()["properties"]
    assert properties.keys() == {*Settings.model_fields, "target", "targets", "profiles"}
    assert all(part["description"] for part in properties.values())
    assert properties["retries"]["default"] == 2


VALUES = st.one_of(
    st.booleans(),
    st.integers(-3, 12),
    st.sampled_from([2**31, 2**32, 2**70]),
    st.floats(-1, 3),
    st.sampled_from(["", "a", "pii", "auto", "flag", "never", "lexical", "http://h/v1", "x" * 201, "a\nb"]),
    st.lists(st.sampled_from(["", "a", "pii"]), max_size=6),
)
PLACES = st.sampled_from(["", "[profiles.p]\n", "[targets.t]\nmodel = 'm'\n"])
ELSEWHERE = ("gguf", "json_schema", "grammar", "prometheus", "failure_plan", "slo", "profile", "model")
"""What a run judges by more than its form."""


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([name for name in Settings.model_fields if name not in ELSEWHERE]), VALUES, PLACES)
def test_an_editor_marks_nothing_that_a_run_accepts(tmp_path: Path, name: str, value: object, place: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(f"{place}{name} = {json.dumps(value)}\n", encoding="utf-8")
    path.chmod(0o600)
    flags = {"": {}, "[p": {"profile": "p"}, "[t": {"model": "t"}}[place[:2]]
    try:
        load(flags, environ={"HOME": "/nowhere"}, config_file=path)
    except AppError:
        is_usable = False
    else:
        is_usable = True
    fits = accepts(SCHEMA, toml_table(path.read_text(encoding="utf-8")))
    assert fits or not is_usable
    # What it cannot know is the form of a URL and of a key.
    if name not in ("base_url", "api_key", "otel", "fallback") and not isinstance(value, float):
        assert fits == is_usable


@pytest.mark.parametrize(
    "text",
    [
        "sede = 1",
        "[target.x]\nmodel = 'm'",
        "[targets.x]\nrpm = 1",
        "[targets.x]\nmodel = 'm'\nseed = 1",
        "[targets.x]\nmodel = 'm'\ngguf = 'x'",
        "[targets.x]\ngguf = 'x'\nkey_env = 'K'",
        "[targets.x]\nmodel = 'm'\nkey_env = 'K'\napi_key = 'k'",
        "[targets.x]\nmodel = 'm'\nkey_env = 'a-b'",
        "[targets.'a b']\nmodel = 'm'",
        "[profiles.p]\nprofile = 'q'",
        "[profiles.'']\nseed = 1",
        "target = 5",
        "stop = ['a', 'b', 'c', 'd', 'e']",
    ],
)
def test_an_editor_marks_what_no_run_accepts(tmp_path: Path, text: str) -> None:
    assert not accepts(SCHEMA, toml_table(text))
    path = tmp_path / "c.toml"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    with pytest.raises(AppError):
        load({}, environ={"HOME": "/nowhere"}, config_file=path)
