"""Which model answers, for every combination of what can be given."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from utils.errors import AppError, ConfigError, UsageProblem
from utils.events import FellBack
from utils.run_context import EMBEDDED, Target
from utils.settings import Settings
from utils.targets import DEFAULT_OPENAI_MODEL, EMBEDDED_MODEL, OPENAI_URL, TargetChoice, choose_target

KEY = "sk-0123456789abcdef"
URL = "http://localhost:8080/v1"
FLAG, ENVIRONMENT, FILE = "flag --x", "environment X", "file /x"


def choose(origins: dict[str, str] | None = None, **values: object) -> TargetChoice:
    given = dict.fromkeys(values, FLAG)
    return choose_target(Settings.model_validate(values), origins={**given, **(origins or {})})


def refused(origins: dict[str, str] | None = None, **values: object) -> AppError:
    with pytest.raises(AppError) as caught:
        choose(origins, **values)
    return caught.value


@pytest.mark.parametrize(
    ("values", "base_url", "model", "requested"),
    [
        ({}, EMBEDDED, EMBEDDED_MODEL, EMBEDDED_MODEL),
        ({"fallback_to_embedded": False}, EMBEDDED, EMBEDDED_MODEL, EMBEDDED_MODEL),
        ({"model": "embedded"}, EMBEDDED, EMBEDDED_MODEL, EMBEDDED_MODEL),
        ({"model": "smollm2-135m-instruct"}, EMBEDDED, EMBEDDED_MODEL, EMBEDDED_MODEL),
        ({"model": "SmolLM2-135M-Instruct"}, EMBEDDED, EMBEDDED_MODEL, EMBEDDED_MODEL),
        ({"model": "embedded", "api_key": KEY}, EMBEDDED, EMBEDDED_MODEL, EMBEDDED_MODEL),
        ({"model": "smollm2-135m-instruct", "api_key": KEY}, EMBEDDED, EMBEDDED_MODEL, EMBEDDED_MODEL),
        ({"base_url": URL}, URL, "", ""),
        ({"base_url": URL, "api_key": KEY}, URL, "", ""),
        ({"base_url": URL, "model": "m"}, URL, "m", "m"),
        ({"base_url": URL, "model": "smollm2-135m-instruct"}, URL, "smollm2-135m-instruct", "smollm2-135m-instruct"),
        ({"base_url": URL, "model": "m", "fallback_to_embedded": False}, URL, "m", "m"),
        ({"api_key": KEY}, OPENAI_URL, DEFAULT_OPENAI_MODEL, DEFAULT_OPENAI_MODEL),
        ({"api_key": KEY, "model": "gpt-4"}, OPENAI_URL, "gpt-4", "gpt-4"),
        ({"gguf": Path("/m/Qwen-1.5B.gguf")}, EMBEDDED, "Qwen-1.5B", "Qwen-1.5B"),
        ({"gguf": Path("/m/q.gguf"), "api_key": KEY}, EMBEDDED, "q", "q"),
        ({"gguf": Path("/m/q.gguf"), "model": "embedded"}, EMBEDDED, "q", "q"),
        ({"gguf": Path("/m/q.gguf"), "model": "Q"}, EMBEDDED, "q", "q"),
    ],
)
def test_a_target_that_is_what_was_asked_for_needs_no_warning(
    values: dict[str, object], base_url: str, model: str, requested: str
) -> None:
    choice = choose(**values)
    assert (choice.target.base_url, choice.target.model, choice.model_requested) == (base_url, model, requested)
    assert choice.warning is None
    assert choice.fell_back is None
    assert choice.reason


def test_a_model_that_needs_a_key_without_one_is_answered_by_the_embedded_model_and_says_so() -> None:
    choice = choose(model="gpt-4")
    assert choice.target == Target(EMBEDDED, EMBEDDED_MODEL, is_deterministic=True)
    assert choice.model_requested == "gpt-4"
    assert choice.warning == ("gpt-4 needs an API key and none is set: answering with smollm2-135m-instruct (embedded)")
    assert choice.fell_back == FellBack("gpt-4", "smollm2-135m-instruct (embedded)", "no API key and no base URL")


@pytest.mark.parametrize(
    ("origin", "switch"),
    [
        ("flag --no-fallback", "--no-fallback"),
        (
            "environment KAYGRAPH_FALLBACK_TO_EMBEDDED",
            "fallback_to_embedded = false (environment KAYGRAPH_FALLBACK_TO_EMBEDDED)",
        ),
        ("file /etc/x.toml", "fallback_to_embedded = false (file /etc/x.toml)"),
    ],
)
def test_without_fallback_a_model_without_its_key_is_an_error_with_the_way_out(origin: str, switch: str) -> None:
    error = refused({"fallback_to_embedded": origin}, model="gpt-4", fallback_to_embedded=False)
    assert type(error) is ConfigError
    assert error.message == f"gpt-4 needs an API key, and {switch} keeps the embedded model from answering instead"
    assert error.hint == f"set OPENAI_API_KEY, name a server with --base-url, or drop {switch}"
    assert error.exit_code == 78


def test_a_model_file_that_answers_for_another_name_says_so() -> None:
    choice = choose({"gguf": "flag --gguf"}, gguf=Path("/m/q.gguf"), model="gpt-4", api_key=KEY)
    assert (choice.target.name, choice.model_requested, choice.gguf) == ("q (embedded)", "gpt-4", Path("/m/q.gguf"))
    assert choice.warning == "gpt-4 was asked for, but gguf names q.gguf (flag --gguf): answering with q (embedded)"
    choice = choose(gguf=Path("/m/q.gguf"), model=EMBEDDED_MODEL)
    assert choice.warning is not None, "the pinned model is another one than the file"


def test_a_model_file_does_not_answer_for_another_name_without_fallback() -> None:
    error = refused({"gguf": "file /c"}, gguf=Path("/m/q.gguf"), model="gpt-4", fallback_to_embedded=False)
    assert type(error) is ConfigError
    assert error.message == "gguf names q.gguf (file /c), not gpt-4, and --no-fallback allows no other model"
    assert error.hint == "drop one of the three"


@pytest.mark.parametrize(("origin", "kind"), [(FLAG, UsageProblem), (ENVIRONMENT, ConfigError), (FILE, ConfigError)])
def test_a_model_file_and_a_server_from_one_source_exclude_each_other(origin: str, kind: type[AppError]) -> None:
    error = refused({"gguf": origin, "base_url": origin}, gguf=Path("/m/q.gguf"), base_url=URL)
    assert type(error) is kind
    assert error.message == "gguf and base_url exclude each other: a file runs here, a URL is a server"
    assert error.hint == "drop one of them"


@pytest.mark.parametrize(
    ("origins", "values", "base_url", "model"),
    [
        ({"gguf": FLAG, "base_url": ENVIRONMENT}, {"gguf": Path("q.gguf"), "base_url": URL}, EMBEDDED, "q"),
        ({"gguf": FILE, "base_url": ENVIRONMENT}, {"gguf": Path("q.gguf"), "base_url": URL}, URL, ""),
        ({"model": FLAG, "base_url": ENVIRONMENT}, {"model": "embedded", "base_url": URL}, EMBEDDED, EMBEDDED_MODEL),
        ({"model": FILE, "base_url": ENVIRONMENT}, {"model": "embedded", "base_url": URL}, URL, ""),
        ({"model": FILE, "gguf": FLAG}, {"model": "gpt-4", "gguf": Path("q.gguf")}, EMBEDDED, "q"),
        (
            {"model": FLAG, "gguf": FILE},
            {"model": "gpt-4", "gguf": Path("q.gguf"), "api_key": KEY},
            OPENAI_URL,
            "gpt-4",
        ),
        ({"model": FLAG, "gguf": FILE}, {"model": EMBEDDED_MODEL, "gguf": Path("q.gguf")}, EMBEDDED, EMBEDDED_MODEL),
    ],
)
def test_where_two_settings_exclude_each_other_the_higher_source_decides(
    origins: dict[str, str], values: dict[str, object], base_url: str, model: str
) -> None:
    choice = choose(origins, **values)
    assert (choice.target.base_url, choice.target.model, choice.warning) == (base_url, model, None)
    assert choice.gguf == (Path("q.gguf") if model == "q" else None), "an overruled file must not be started"


@pytest.mark.parametrize(
    ("values", "is_deterministic"),
    [
        ({}, True),
        ({"temperature": 1.2}, True),
        ({"gguf": Path("q.gguf")}, True),
        ({"base_url": URL}, False),
        ({"base_url": URL, "temperature": 0.7}, False),
        ({"base_url": URL, "temperature": 0}, True),
        ({"base_url": URL, "seed": 0}, True),
        ({"api_key": KEY}, False),
        ({"api_key": KEY, "seed": 3, "temperature": 1}, True),
    ],
)
def test_a_replay_is_tried_where_the_same_request_may_give_the_same_text(
    values: dict[str, object], is_deterministic: bool
) -> None:
    assert choose(**values).target.is_deterministic is is_deterministic


def test_the_key_goes_to_the_server_and_stands_in_no_repr() -> None:
    for values in ({"api_key": KEY}, {"api_key": KEY, "base_url": URL}):
        choice = choose(**values)
        assert choice.target.api_key == KEY
        assert KEY not in repr(choice)
    assert choose(api_key=KEY, model="embedded").target.api_key is None
    assert KEY not in repr(Settings(api_key=SecretStr(KEY)))


@pytest.mark.parametrize("values", [{}, {"base_url": URL}, {"api_key": KEY}, {"gguf": Path("q.gguf")}])
def test_the_target_knows_whether_done_alone_ends_an_answer(values: dict[str, object]) -> None:
    assert choose(**values, finish_reason_optional=True).target.finish_reason_optional is True
    assert choose(**values).target.finish_reason_optional is False


@pytest.mark.parametrize("url", [f"http://h/{KEY}/v1", f"http://h/{KEY.replace('-', '%2d')}/v1", f"http://{KEY}.h/v1"])
def test_a_url_that_holds_the_key_is_refused_as_it_is_shown_everywhere(url: str) -> None:
    error = refused(base_url=url, api_key=KEY)
    assert isinstance(error, ConfigError)
    assert KEY not in error.message + error.hint
    assert choose(base_url="http://ollama:11434/v1", api_key="ollama").target.base_url == "http://ollama:11434/v1"
