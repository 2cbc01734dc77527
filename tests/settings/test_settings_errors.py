"""Every way to get a setting wrong: the error's class, its exact words, and what to do next."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from utils.errors import AppError, ConfigError, UsageProblem
from utils.settings import Settings, load
from utils.settings_sources import BadValue, checked_base_url
from utils.wording import mask_key, mask_key_like

IN_FILE = "correct the file, or override the value with a flag"
OTHER_FILE = "name another file with --config"
NOT_TOML = 'each line is `name = value`; text stands in quotes: model = "gpt-4o"'
SECONDS = "a number of seconds up to 604800 (7 days; 0 is no limit)"
NO_FILE = 'correct the path or leave it out; a settings file has lines such as model = "gpt-4o-mini"'
SECTIONS = (
    "sections are [targets.NAME] and [profiles.NAME]; settings stand above them, "
    'without a section, such as model = "gpt-4o-mini"'
)
KNOWN = f"known settings: {', '.join(Settings.model_fields)}, target"
URL_EXAMPLE = "for example http://localhost:8080/v1"
KEY = "sk-proj-0123456789abcdef"


def refusal(
    flags: Mapping[str, object], environ: Mapping[str, str] | None = None, config: Path | None = None
) -> AppError:
    with pytest.raises(AppError) as caught:
        load(flags, environ={"HOME": "/nowhere"} if environ is None else environ, config_file=config)
    return caught.value


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model", "", "--model must be the name of a model (1 to 200 characters), not ''"),
        ("model", " ", "--model must be the name of a model (1 to 200 characters), not ' '"),
        ("model", "a\nb", r"--model must be the name of a model (1 to 200 characters), not 'a\nb'"),
        ("model", "x!" * 101, f"--model must be the name of a model (1 to 200 characters), not '{('x!' * 30)[:59]}…'"),
        ("temperature", 2.5, "--temperature must be a number from 0 to 2, not 2.5"),
        ("temperature", -0.1, "--temperature must be a number from 0 to 2, not -0.1"),
        ("temperature", float("nan"), "--temperature must be a number from 0 to 2, not nan"),
        ("max_tokens", 0, "--max-tokens must be a whole number from 1 to 2147483647, not 0"),
        ("seed", -1, "--seed must be a whole number from 0 to 4294967294, not -1"),
        ("seed", 2**32 - 1, "--seed must be a whole number from 0 to 4294967294, not 4294967295"),
        ("seed", 10**40, "--seed must be a whole number from 0 to 4294967294, not a very large number"),
        ("stop", ("a",) * 5, "--stop must be at most 4 texts, none of them empty, not a list of 5"),
        ("stop", ("a", ""), "--stop must be at most 4 texts, none of them empty, not a list of 2"),
        ("failure_seed", 2**63, f"--failure-seed must be a whole number of at most 64 bits, not {2**63}"),
        ("timeout_s", -1.0, f"--timeout must be {SECONDS}, not -1.0"),
        ("timeout_s", float("inf"), f"--timeout must be {SECONDS}, not inf"),
        ("first_token_timeout_s", 1e9, f"--first-token-timeout must be {SECONDS}, not 1000000000.0"),
        ("idle_timeout_s", -1, f"--idle-timeout must be {SECONDS}, not -1"),
        (
            "connect_timeout_s",
            0,
            "--connect-timeout must be a number of seconds above 0, up to 604800 (7 days), not 0",
        ),
        ("retries", 11, "--retries must be a whole number from 0 to 10, not 11"),
        ("rpm", 0, "--rpm must be a whole number from 1 to 2147483647, not 0"),
        ("tpm", 1, "--tpm must be a whole number from 2 to 2147483647, not 1"),
        ("max_tokens_per_second", 0.0, "--max-tokens-per-second must be a number above 0, not 0.0"),
        ("max_tokens_per_second", float("inf"), "--max-tokens-per-second must be a number above 0, not inf"),
        ("max_tokens_per_second", float("nan"), "--max-tokens-per-second must be a number above 0, not nan"),
        ("adaptive", "on", "--adaptive must be true or false, not 'on'"),
        ("fallback", ("a",) * 9, "--fallback must be at most 8 names of 1 to 500 characters, not a list of 9"),
        ("fallback", ("a", " "), "--fallback must be at most 8 names of 1 to 500 characters, not a list of 2"),
        ("fallback", ("a\nb",), "--fallback must be at most 8 names of 1 to 500 characters, not a list of 1"),
        ("fallback", ("a\udcff",), "--fallback must be at most 8 names of 1 to 500 characters, not a list of 1"),
        ("prompt_limit_chars", 0, "--prompt-limit-chars must be a whole number from 1 to 100000000, not 0"),
        ("color", "blue", "--color must be auto, always or never, not 'blue'"),
        ("guardrails", "on", "--enable-guardrails must be true or false, not 'on'"),
    ],
)
def test_a_bad_flag_is_a_usage_problem(name: str, value: object, message: str) -> None:
    error = refusal({name: value})
    assert type(error) is UsageProblem
    assert (error.message, error.hint, error.exit_code) == (message, "", 2)


@pytest.mark.parametrize(
    ("variable", "text", "demand"),
    [
        ("KAYGRAPH_MODEL", "a\udcffb", r"must be the name of a model (1 to 200 characters), not 'a\udcffb'"),
        ("KAYGRAPH_TEMPERATURE", "hot", "must be a number from 0 to 2, not 'hot'"),
        ("KAYGRAPH_TEMPERATURE", "inf", "must be a number from 0 to 2, not 'inf'"),
        ("KAYGRAPH_MAX_TOKENS", "1.5", "must be a whole number from 1 to 2147483647, not '1.5'"),
        ("KAYGRAPH_SEED", "9" * 5000, f"must be a whole number from 0 to 4294967294, not '…{'9' * 4}'"),
        ("KAYGRAPH_STOP", '["a", 1]', "must be at most 4 texts, none of them empty, not a list of 2"),
        ("KAYGRAPH_LOGPROBS", "maybe", "must be true or false, not 'maybe'"),
        ("KAYGRAPH_TIMEOUT_S", "10m", f"must be {SECONDS}, not '10m'"),
        ("KAYGRAPH_RETRIES", "-1", "must be a whole number from 0 to 10, not '-1'"),
        ("KAYGRAPH_COLOR", "Auto", "must be auto, always or never, not 'Auto'"),
        ("KAYGRAPH_RPM", "many", "must be a whole number from 1 to 2147483647, not 'many'"),
        ("KAYGRAPH_TPM", "1", "must be a whole number from 2 to 2147483647, not '1'"),
        ("KAYGRAPH_MAX_TOKENS_PER_SECOND", "inf", "must be a number above 0, not 'inf'"),
        ("KAYGRAPH_FALLBACK", "a,,b", "must be at most 8 names of 1 to 500 characters, not a list of 3"),
        (
            "KAYGRAPH_RESUME",
            "always",
            "must be auto, never, replay, trailing, continue_final_message, prefix or words, not 'always'",
        ),
    ],
)
def test_a_bad_variable_is_a_configuration_error(variable: str, text: str, demand: str) -> None:
    error = refusal({}, {"HOME": "/nowhere", variable: text})
    assert type(error) is ConfigError
    assert error.message == f"environment variable {variable} {demand}"
    assert (error.hint, error.exit_code) == (f"correct or unset {variable}", 78)


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        ("temprature = 1", "{file}: unknown setting 'temprature'", "did you mean temperature?"),
        ("Max-Tokens = 1", "{file}: unknown setting 'Max-Tokens'", "did you mean max_tokens?"),
        ("timeout = 1", "{file}: unknown setting 'timeout'", "did you mean timeout_s?"),
        ("port = 1", "{file}: unknown setting 'port'", KNOWN),
        ("[kaygraph]\nseed = 1", "{file}: unknown section [kaygraph]", SECTIONS),
        ("seed = 1\n[[server]]\nport = 1", "{file}: unknown section [server]", SECTIONS),
        ("[model]\nname = 'x'", "{file}: unknown section [model]", SECTIONS),
        ("model.name = 'x'", "{file}: unknown section [model]", SECTIONS),
        (f"['{KEY}']", "{file}: unknown section [sk-…cdef]", SECTIONS),
        (f'"{KEY}" = 1', "{file}: unknown setting 'sk-…cdef'", KNOWN),
        ("model = 5", "{file}: model must be the name of a model (1 to 200 characters), not 5", IN_FILE),
        ("model = 2026-01-01", "{file}: model must be the name of a model (1 to 200 characters), not a date", IN_FILE),
        ("temperature = '0.7'", "{file}: temperature must be a number from 0 to 2, not '0.7'", IN_FILE),
        ("temperature = nan", "{file}: temperature must be a number from 0 to 2, not nan", IN_FILE),
        ("seed = true", "{file}: seed must be a whole number from 0 to 4294967294, not true", IN_FILE),
        (
            f"seed = 0x{'f' * 5000}",
            "{file}: seed must be a whole number from 0 to 4294967294, not a very large number",
            IN_FILE,
        ),
        ("max_tokens = 1.0", "{file}: max_tokens must be a whole number from 1 to 2147483647, not 1.0", IN_FILE),
        ("guardrails = 1", "{file}: guardrails must be true or false, not 1", IN_FILE),
        ("stop = 1", "{file}: stop must be at most 4 texts, none of them empty, not 1", IN_FILE),
        ("rpm = 1.5", "{file}: rpm must be a whole number from 1 to 2147483647, not 1.5", IN_FILE),
        ("fallback = 1", "{file}: fallback must be at most 8 names of 1 to 500 characters, not 1", IN_FILE),
        ("failure_plan = 1", "{file}: failure_plan must be failures such as 'refused, cut@40%, ok', not 1", IN_FILE),
        ("gguf = 1", "{file}: gguf must be the path of a GGUF file, not 1", IN_FILE),
        ("gguf = ''", "{file}: gguf must be the path of a file: ''", IN_FILE),
        ('gguf = "x\\u0000"', r"{file}: gguf must be the path of a file: '{dir}/x\x00'", IN_FILE),
        ("gguf = '~nobody-here/x'", "{file}: gguf: '{dir}/~nobody-here/x' does not exist", "name a GGUF file"),
        ("base_url = 1", "{file}: base_url must be a URL such as http://localhost:8080/v1, not 1", IN_FILE),
        ("api_key = 1", "{file}: api_key must be an API key in quotes", IN_FILE),
        ("api_key = ''", "{file}: api_key must not be empty", "leave it out to run without a key"),
        ("model =", "{file}, line 1, column 8: not TOML: Invalid value", NOT_TOML),
        (
            "a = 1\nmodel gpt",
            "{file}, line 2, column 7: not TOML: Expected '=' after a key in a key/value pair",
            NOT_TOML,
        ),
        ("seed = 1\nseed = 2", "{file}, line 2, column 9: not TOML: Cannot overwrite a value", NOT_TOML),
        ("seed = 1\nstop = [", "{file}, line 2, column 9: not TOML: Invalid value", NOT_TOML),
        (f"seed = {'9' * 5000}", "{file}: not TOML: a value cannot be used", NOT_TOML),
        ("x = " + "[" * 5000, "{file}: is nested too deeply", "a settings file is a flat list of `name = value`"),
        ("model = '\0'", "{file}: is a binary file, not TOML", OTHER_FILE),
        ("#" * (1 << 20) + "#", "{file}: is larger than 1 MiB, so it is no settings file", OTHER_FILE),
        (
            b"model = '\xff'",
            "{file}: is not UTF-8 text (byte 0xff at offset 9)",
            "save it as UTF-8, or name another file with --config",
        ),
        (b"GGUF\x03\0\0\0", "{file}: is a binary file, not TOML", OTHER_FILE),
    ],
)
def test_a_bad_file_is_a_configuration_error(tmp_path: Path, content: str | bytes, message: str, hint: str) -> None:
    config = tmp_path / "config.toml"
    config.write_bytes(content.encode() if isinstance(content, str) else content)
    config.chmod(0o600)
    error = refusal({}, {}, config)
    assert type(error) is ConfigError
    assert error.message == message.replace("{file}", str(config)).replace("{dir}", str(tmp_path))
    assert (error.hint, error.exit_code) == (hint, 78)


def test_a_file_that_was_named_must_exist(tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    for error in (refusal({}, {}, missing), refusal({}, {"KAYGRAPH_CONFIG": str(missing)})):
        assert error.message == f"{missing}: no such file"
        assert (error.hint, error.exit_code) == (NO_FILE, 78)


def test_a_directory_is_no_settings_file(tmp_path: Path) -> None:
    error = refusal({}, {}, tmp_path)
    assert error.message == f"{tmp_path}: is a directory, not a settings file"
    assert (error.hint, error.exit_code) == ("name the TOML file in it", 78)


@pytest.mark.parametrize("path", ["x\0y", "x" * 5000])
def test_a_path_that_no_file_can_have_is_a_configuration_error(path: str) -> None:
    error = refusal({}, {}, Path(path))
    assert "cannot be read" in error.message
    assert "\0" not in error.message
    assert error.exit_code == 78


def test_an_unreadable_file_is_a_configuration_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "my config.toml"

    def refuse(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    error = refusal({}, {}, config)
    assert error.message == f"{config}: cannot be read: permission denied"
    assert (error.hint, error.exit_code) == (f"check ls -l '{config}'", 78)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o666])
def test_a_key_in_a_file_that_others_can_read_is_refused_even_if_it_is_not_used(tmp_path: Path, mode: int) -> None:
    config = tmp_path / "my config.toml"
    config.write_text(f'api_key = "{KEY}"', encoding="utf-8")
    config.chmod(mode)
    error = refusal({"api_key": "another-key-123"}, {}, config)
    assert error.message == f"{config}: holds api_key, but other users may read the file (mode {mode:04o})"
    assert error.hint == f"run chmod 600 '{config}', or remove api_key and set OPENAI_API_KEY"
    assert error.exit_code == 78


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_key_in_a_private_file_is_used(tmp_path: Path, mode: int) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'api_key = "{KEY}"', encoding="utf-8")
    config.chmod(mode)
    settings = load({}, environ={}, config_file=config).settings
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == KEY


BASE_URLS = [
    ("ftp://host", "must start with http:// or https://, not ftp://: 'ftp://host'", URL_EXAMPLE),
    (
        "localhost:8080/v1",
        "must start with http:// or https://: 'localhost:8080/v1'",
        "did you mean http://localhost:8080/v1?",
    ),
    ("api.host.test", "must start with http:// or https://: 'api.host.test'", "did you mean http://api.host.test?"),
    ("[::1]:80", "must start with http:// or https://: '[::1]:80'", "did you mean http://[::1]:80?"),
    ("foo", "must start with http:// or https://: 'foo'", URL_EXAMPLE),
    ("http://a b", "must not contain blanks or control characters: 'http://a b'", URL_EXAMPLE),
    ("http://a\x1bb", r"must not contain blanks or control characters: 'http://a\x1bb'", URL_EXAMPLE),
    (
        f"http://user:{KEY}@host/v1",
        "must not contain a user name or password: 'http://…@host/v1'",
        "give the key with OPENAI_API_KEY or --api-key",
    ),
    (
        "http://host/v1?key=hunter2",
        "must not contain a query (?) or fragment (#): 'http://host/v1?…'",
        "give only the part before /chat/completions",
    ),
    (
        "http://host/#hunter2",
        "must not contain a query (?) or fragment (#): 'http://host/#…'",
        "give only the part before /chat/completions",
    ),
    (
        "HTTPS://host/v1/chat/completions/",
        "must end before /chat/completions: 'HTTPS://host/v1/chat/completions/'",
        "for example https://host/v1",
    ),
    *(
        (url, f"must name a host (and a port from 1 to 65535, if any): {url!r}", URL_EXAMPLE)
        for url in ("http://", "http:///v1", "http://:80", "http://h:99999", "http://h:0", "http://h:x", "http://[::1")
    ),
]


@pytest.mark.parametrize(("url", "message", "hint"), BASE_URLS)
def test_a_bad_base_url_says_what_is_wrong_with_it(url: str, message: str, hint: str) -> None:
    error = refusal({"base_url": url})
    assert type(error) is UsageProblem
    assert (error.message, error.hint) == (f"--base-url {message}", hint)
    error = refusal({}, {"OPENAI_BASE_URL": url})
    assert type(error) is ConfigError
    assert error.message == f"environment variable OPENAI_BASE_URL {message}"
    assert error.hint == hint


@settings(deadline=None)
@given(st.text(max_size=40) | st.text(max_size=30).map("http://".__add__))
def test_a_base_url_is_refused_or_is_a_fixed_point(text: str) -> None:
    try:
        url = checked_base_url(text)
    except BadValue:
        return
    assert checked_base_url(url) == url
    assert not url.endswith("/")
    assert "@" not in url.split("/")[2]


@pytest.mark.parametrize("key", ["two words", "schlüssel-0123456789", "line\nbreak", "nul\0"])
def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(key: str) -> None:
    error = refusal({"api_key": key})
    assert type(error) is UsageProblem
    assert error.message == "--api-key must be ASCII characters without blanks"
    assert error.hint == "copy the key again; it may be cut or wrapped"


def test_blanks_around_a_key_are_taken_off() -> None:
    settings = load({"api_key": f" {KEY}\r\n"}, environ={"HOME": "/nowhere"}).settings
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == KEY


def test_a_key_in_the_place_of_the_model_is_refused() -> None:
    error = refusal({"model": KEY}, {"HOME": "/nowhere", "OPENAI_API_KEY": KEY})
    assert (error.message, error.hint) == ("--model holds the API key", "name a model, such as gpt-4o-mini")
    assert error.exit_code == 2


@pytest.mark.parametrize("form", ["{}", "embedded,{}", "{}@http://host/v1"])
def test_a_key_in_the_place_of_a_fallback_is_refused(form: str) -> None:
    environ = {"HOME": "/nowhere", "OPENAI_API_KEY": KEY, "KAYGRAPH_FALLBACK": form.format(KEY)}
    error = refusal({}, environ)
    assert type(error) is ConfigError
    assert error.message == "environment variable KAYGRAPH_FALLBACK holds the API key"
    assert error.hint == "name a model, such as gpt-4o-mini, or a server"
    assert type(refusal({"fallback": (KEY,)}, environ)) is UsageProblem


def test_a_named_pipe_that_nobody_writes_to_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utils.named_file.PIPE_S", 0.2)
    path = tmp_path / "config.toml"
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="is a pipe without content"):
        load({}, environ={}, config_file=path)


def test_a_pipe_with_content_is_read_as_a_file_is() -> None:
    reader, writer = os.pipe()
    try:
        os.write(writer, b"seed = 5")
        os.close(writer)
        assert load({}, environ={}, config_file=Path(f"/dev/fd/{reader}")).settings.seed == 5
    finally:
        os.close(reader)


@pytest.mark.parametrize("what", ["does not exist", "is a directory"])
def test_a_model_file_must_be_a_file(tmp_path: Path, what: str) -> None:
    path = tmp_path / "x.gguf"
    if what == "is a directory":
        path.mkdir()
    error = refusal({"gguf": path})
    assert (error.message, error.hint, error.exit_code) == (f"--gguf: '{path}' {what}", "name a GGUF file", 2)
    assert refusal({}, {"HOME": "/nowhere", "KAYGRAPH_GGUF": str(path)}).exit_code == 78


def test_several_wrong_values_are_told_at_once_and_a_wrong_flag_decides_the_exit_code() -> None:
    environ = {"HOME": "/nowhere", "KAYGRAPH_SEED": "x", "KAYGRAPH_RETRIES": "99"}
    error = refusal({"temperature": 3.0}, environ)
    assert error.message.splitlines() == [
        "--temperature must be a number from 0 to 2, not 3.0",
        "environment variable KAYGRAPH_SEED must be a whole number from 0 to 4294967294, not 'x'",
        "environment variable KAYGRAPH_RETRIES must be a whole number from 0 to 10, not '99'",
    ]
    assert (error.hint, error.exit_code) == ("correct each of them", 2)
    assert refusal({}, environ).exit_code == 78


def test_unknown_variables_of_ours_are_warnings() -> None:
    environ = {
        "HOME": "/nowhere",
        "KAYGRAPH_TEMPERATUR": "1",
        "KAYGRAPH_TIMEOUT": "1",
        "KAYGRAPH_XYZZY": "1",
        "KAYGRAPH_EMPTY": "",
        "KAYGRAPH_CACHE_DIR": "/x",
        "KAYGRAPH_DEBUG": "1",
        "KAYGRAPHICS": "1",
        "OTHER": "1",
    }
    assert load({}, environ=environ).warnings == (
        "environment variable KAYGRAPH_TEMPERATUR is not known; did you mean KAYGRAPH_TEMPERATURE?",
        "environment variable KAYGRAPH_TIMEOUT is not known; did you mean KAYGRAPH_TIMEOUT_S?",
        "environment variable KAYGRAPH_XYZZY is not known; nothing reads it",
    )


FREE_TEXT = ("guard", "prometheus", "regex", "validators")
"""Lists and texts that a run judges when it uses them."""
# The beginning stands nowhere in ordinary output, whatever follows.
KEYS = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.", min_size=8, max_size=60).map(
    "Zq7~".__add__
)


@settings(deadline=None)
@given(
    KEYS,
    st.sampled_from(["flag", "KAYGRAPH_API_KEY", "OPENAI_API_KEY", "file"]),
    st.sampled_from([name for name in Settings.model_fields if name not in ("api_key", "system", "stop", *FREE_TEXT)]),
    st.sampled_from(["flag", "environment", "file"]),
    st.sampled_from(["{}", "Bearer {}", "x {} y"]),
)
@example(key="some.host.name", place="file", name="base_url", where="flag", form="{}")
def test_no_error_and_no_repr_holds_a_key(
    tmp_path_factory: pytest.TempPathFactory, key: str, place: str, name: str, where: str, form: str
) -> None:
    config = tmp_path_factory.getbasetemp() / "secret.toml"
    flags: dict[str, object] = {}
    environ = {"HOME": "/nowhere"}
    table: dict[str, str] = {}
    for field, source, text in (("api_key", place, key), (name, where, form.format(key))):
        if source == "flag":
            flags[field] = text
        elif source == "file":
            table[field] = text
        else:
            environ[f"KAYGRAPH_{field.upper()}" if source == "environment" else source] = text
    config.write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in table.items()), encoding="utf-8")
    config.chmod(0o600)
    try:
        loaded = load(flags, environ=environ, config_file=config)
    except AppError as error:
        text = f"{error.message}{error.hint}{error!r}{error.__cause__!r}{error.__context__!r}"
    else:
        assert name in ("model", "fallback"), "every other field refuses a text like this"
        assert form != "{}"
        text = repr(loaded.settings.api_key) + repr(loaded.origins) + repr(loaded.warnings)
    assert key[:-4] not in text


@settings(deadline=None)
@given(KEYS)
def test_a_masked_key_shows_four_characters_at_most(key: str) -> None:
    masked = mask_key(key).removeprefix("sk-").removeprefix("…")
    assert len(masked) <= 4
    assert key.endswith(masked)


@pytest.mark.parametrize(
    ("text", "secrets", "masked"),
    [
        ("nothing here", (), "nothing here"),
        ("meta-llama/Llama-3.2-3B-Instruct-Q4_K_M.gguf", (), "meta-llama/Llama-3.2-3B-Instruct-Q4_K_M.gguf"),
        (f"a {KEY} b", (), "a sk-…cdef b"),
        ("ghp_0123456789abcdef", (), "…cdef"),
        ("AKIA0123456789ABCDEF", (), "…CDEF"),
        ("Authorization: Bearer x.y.z", (), "Authorization: Bearer …"),
        ("0123456789abcdef0123456789abcdef", (), "…cdef"),
        ("a my-own-secret-1 b", ("my-own-secret-1",), "a …et-1 b"),
        ("a longer and long b", ("and long", "longer and long"), "a …long b"),
        ("tiny", ("tiny",), "…"),
        ("a tiny b", ("tiny",), "a tiny b"),
        ("text", ("",), "text"),
    ],
)
def test_keys_are_masked_wherever_they_stand(text: str, secrets: tuple[str, ...], masked: str) -> None:
    assert mask_key_like(text, secrets) == masked
