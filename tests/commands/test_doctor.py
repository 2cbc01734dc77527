"""What `doctor` says, when it fails, and that it never shows a key."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commands import finding_lines, printing
from commands.doctor import command
from tests.commands.doctor_runs import KEY, findings, run
from tests.support.scripted_server import Action, CloseBeforeResponse, ScriptedServer, Send, wait_until
from tests.support.wire import delta, finish, sse, stream_response
from utils.diagnosis import environment, examination
from utils.diagnosis.environment import REQUIREMENTS
from utils.diagnosis.examination import CHECKS, examine
from utils.diagnosis.findings import Finding, Situation
from utils.embedded_model import backend, spec, store
from utils.embedded_model.ready import Ready
from utils.errors import ConfigError, EmbeddedModelError
from utils.openai_stream import OpenAIBackend

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def listing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every server answers and lists one model, without a connection."""

    async def list_models(self: OpenAIBackend, watchdog: object, deadline_s: float) -> list[str]:
        return ["m"]

    monkeypatch.setattr(OpenAIBackend, "list_models", list_models)


@pytest.fixture
def fetched_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pinned model lies in the cache, whole."""

    def describe() -> store.Description:
        return store.Description(spec.PINNED, spec.model_path(), store.ModelState.READY, spec.PINNED.size_bytes)

    monkeypatch.setattr(store, "describe", describe)


def test_with_nothing_configured_a_run_would_work(tmp_path: Path) -> None:
    result = run()
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    model = f"{tmp_path}/cache/smollm2-135m-instruct-b179c9523d0e.gguf: not fetched yet (93 MB to download)"
    sections = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert sections == [
        "system:",
        "packages:",
        "settings:",
        "target:",
        "guards:",
        "state:",
        "embedded model:",
        "terminal:",
    ]
    for line in (
        f"       file                   none (looked for {tmp_path}/.config/kaygraph-streaming-llm/config.toml)",
        "       temperature            0.2  (the embedded model's default)",
        "       max_tokens             512  (the embedded model's default)",
        "       seed                   1  (the embedded model's default)",
        "       stop                   none  (default)",
        "       timeout_s              600  (default)",
        "  ok   answers                smollm2-135m-instruct (embedded), because: no API key and no base URL",
        f"       file                   {model}",
        "                              -> it is fetched at first use; `python main.py model fetch` does it now",
        "       NO_COLOR               not set",
    ):
        assert line in lines
    assert lines[-1] == "a run would work if the model can be fetched (93 MB)"


def test_versions_are_told_without_importing_the_packages() -> None:
    rows = findings()
    assert rows["packages", "openai"]["detail"] == importlib.metadata.version("openai")
    assert rows["system", "python"]["detail"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    script = "import sys; from commands import doctor; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"openai", "pydantic", "rich", "msgspec", "httpx2", "utils", "asyncio"} & set(done.stdout.split())


def test_the_bounds_are_those_of_the_project_file() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = (line.partition(";")[0].strip() for line in project["dependencies"])
    assert sorted(declared) == sorted(name + bounds for name, bounds in REQUIREMENTS.items())


@pytest.mark.parametrize(
    ("version", "bounds", "is_within"),
    [
        ("3.50.0", ">=3.50,<4", True),
        ("3.9", ">=3.50,<4", False),
        ("4.0.0", ">=3.50,<4", False),
        ("3.54.0rc1", ">=3.50,<4", True),
        ("2026.10.11549", ">=2026.10", True),
        ("1", "", True),
    ],
)
def test_versions_are_compared_as_numbers(
    monkeypatch: pytest.MonkeyPatch, version: str, bounds: str, is_within: bool
) -> None:
    monkeypatch.setattr(environment, "REQUIREMENTS", {"some": bounds})
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    [finding] = examine(Situation({}, {}), [environment.check_packages])
    assert finding.status == ("ok" if is_within else "warn")
    if not is_within:
        assert finding.detail == f"{version}, but {bounds} is what was tested"
        assert finding.hint == "run `pip install -r requirements.txt`"


def test_a_missing_package_is_a_failure_but_the_one_that_a_platform_may_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    rows = findings("--base-url", "http://localhost:1/v1", code=78)
    assert rows["packages", "openai"]["status"] == "fail"
    assert rows["packages", "openai"]["hint"] == "run `pip install -r requirements.txt`"
    assert rows["packages", "xllamacpp"]["status"] == "info"


@pytest.mark.parametrize(
    ("module", "name", "detail"),
    [
        ("xllamacpp", "runner", "xllamacpp is not installed, so the model cannot run"),
        ("pip", "pip", "this Python environment has no pip, so the model cannot be fetched"),
    ],
)
def test_without_its_tools_the_embedded_model_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, module: str, name: str, detail: str
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda wanted: None if wanted == module else find_spec(wanted))
    row = findings(code=69)["embedded model", name]
    assert (row["status"], row["detail"]) == ("fail", detail)
    assert "--base-url" in row["hint"]
    assert ("embedded model", name) not in findings("--base-url", "http://localhost:1/v1")


def test_a_package_that_cannot_be_imported_ends_only_its_check() -> None:
    def check_broken(situation: Situation) -> Iterator[Finding]:
        yield Finding("broken", "before", "ok", "seen")
        raise ImportError("no", name="some_package")

    assert examine(Situation({}, {}), [check_broken]) == [
        Finding("broken", "before", "ok", "seen"),
        Finding(
            "broken",
            "problem",
            "fail",
            "cannot be checked: some_package cannot be imported",
            hint="run `pip install -r requirements.txt`",
            exit_code=78,
        ),
    ]


def test_the_first_failure_decides_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def check_one(situation: Situation) -> Iterator[Finding]:
        yield Finding("one", "warning", "warn", "only a warning")
        raise EmbeddedModelError("first", hint="do this")

    def check_two(situation: Situation) -> Iterator[Finding]:
        raise ConfigError("second")
        yield

    monkeypatch.setattr(examination.examine, "__defaults__", ((check_one, check_two),))
    result = run()
    assert result.exit_code == 69
    assert result.stdout.splitlines() == [
        "one:",
        "  warn warning                only a warning",
        "  fail problem                first",
        "                              -> do this",
        "two:",
        "  fail problem                second",
        "a run would not work (exit code 69); 1 to look at",
    ]


def test_every_check_says_what_it_is_for() -> None:
    assert all(check.__doc__ for check in CHECKS)


def test_a_setting_is_told_with_its_value_and_origin(tmp_path: Path) -> None:
    config = tmp_path / "my.toml"
    config.write_text('temperature = 0.7\nsystem = "the secret plan"\n', encoding="utf-8")
    result = run("--config", str(config), "-m", "gpt-4", KAYGRAPH_SEED="7", KAYGRAPH_SEEED="8")
    assert result.exit_code == 0
    for line in (
        f"  ok   file                   {config}",
        "  warn environment            environment variable KAYGRAPH_SEEED is not known; did you mean KAYGRAPH_SEED?",
        f"       temperature            0.7  (file {config})",
        f"       system                 15 characters  (file {config})",
        "       seed                   7  (environment KAYGRAPH_SEED)",
        "       model                  gpt-4  (flag --model)",
    ):
        assert line in result.stdout.splitlines()
    assert "secret plan" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "environ", "code", "detail"),
    [
        (("--base-url", "nonsense"), {}, 2, "--base-url must start with http:// or https://: 'nonsense'"),
        ((), {"KAYGRAPH_SEED": "x"}, 78, "environment variable KAYGRAPH_SEED must be a whole number"),
        (("--config", "/none.toml"), {}, 78, "/none.toml: no such file"),
        (("-m", "gpt-4", "--no-fallback"), {}, 78, "gpt-4 needs an API key, and --no-fallback keeps"),
        (("--gguf", "/none.gguf"), {}, 2, "--gguf: '/none.gguf' does not exist"),
    ],
)
def test_what_would_stop_a_run_is_told_with_the_exit_code_of_that_run(
    arguments: tuple[str, ...], environ: dict[str, str], code: int, detail: str
) -> None:
    rows = findings(*arguments, code=code, **environ)
    [row] = [row for row in rows.values() if row["status"] == "fail"]
    assert row["detail"].startswith(detail)
    assert row["hint"]
    assert rows["terminal", "stdout"]["detail"], "the other checks go on"


def test_several_wrong_settings_stand_below_each_other() -> None:
    lines = run(KAYGRAPH_SEED="x", KAYGRAPH_COLOR="blue").stdout.splitlines()
    start = lines.index("settings:")
    assert [line[:58] for line in lines[start + 1 : start + 4]] == [
        "  fail problem                environment variable KAYGRAP",
        "                              environment variable KAYGRAP",
        "                              -> correct each of them",
    ]


@pytest.mark.parametrize(
    ("arguments", "environ", "answers"),
    [
        ((), {"OPENAI_API_KEY": KEY}, "gpt-4o-mini at https://api.openai.com/v1, because: a key is set"),
        (("--api-key", KEY), {}, "gpt-4o-mini at https://api.openai.com/v1, because: a key is set (flag --api-key)"),
        (("--base-url", "http://h/v1"), {}, "the first model that http://h/v1 lists, because: base_url is set"),
        (("-m", "x"), {"OPENAI_BASE_URL": "http://h/v1"}, "x at http://h/v1, because: base_url is set (environment"),
    ],
)
def test_the_target_is_told_with_its_reason(arguments: tuple[str, ...], environ: dict[str, str], answers: str) -> None:
    assert findings(*arguments, **environ)["target", "answers"]["detail"].startswith(answers)


def test_a_stand_in_for_another_model_is_a_warning(tmp_path: Path) -> None:
    row = findings("-m", "gpt-4")["target", "fallback"]
    assert row["status"] == "warn"
    assert row["detail"] == "gpt-4 needs an API key and none is set: answering with smollm2-135m-instruct (embedded)"
    assert row["hint"] == "set OPENAI_API_KEY, name a server with --base-url, or leave out the model"
    gguf = tmp_path / "own.gguf"
    gguf.write_bytes(b"GGUF")
    assert findings("-m", "gpt-4", "--gguf", str(gguf))["target", "fallback"]["hint"] == (
        "drop gguf, or leave out the model"
    )


@pytest.mark.parametrize(
    ("url", "is_exposed"),
    [
        ("http://example.test/v1", True),
        ("https://example.test/v1", False),
        ("http://localhost:8080/v1", False),
        ("http://127.0.0.1/v1", False),
        ("http://[::1]:8080/v1", False),
    ],
)
def test_a_key_that_travels_in_the_clear_is_a_warning(url: str, is_exposed: bool) -> None:
    rows = findings("--base-url", url, OPENAI_API_KEY=KEY)
    assert (("target", "key") in rows) is is_exposed
    assert ("target", "key") not in findings("--base-url", url)


def test_a_base_url_without_a_path_gets_a_hint() -> None:
    row = findings("--base-url", "http://localhost:11434")["target", "path"]
    assert row["hint"] == "if it answers 404, try http://localhost:11434/v1"


def test_a_model_file_is_looked_at(tmp_path: Path) -> None:
    gguf = tmp_path / "own.gguf"
    gguf.write_bytes(b"GGUF...")
    rows = findings("--gguf", str(gguf))
    assert rows["embedded model", "file"]["detail"] == str(gguf)
    gguf.write_bytes(b"PK\x03\x04")
    row = findings("--gguf", str(gguf), code=78)["embedded model", "problem"]
    assert (row["detail"], row["hint"]) == (f"{str(gguf)!r} is not a GGUF file", "give another file with --gguf")


def test_an_unusable_cache_matters_only_where_the_embedded_model_answers(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.write_text("a file, not a directory", encoding="utf-8")
    row = findings(code=78)["embedded model", "problem"]
    assert row["detail"].startswith(f"cannot use the model cache {str(cache)!r}: ")
    row = findings("--base-url", "http://h/v1")["embedded model", "file"]
    assert row["status"] == "warn"


def test_a_server_gets_no_defaults_of_the_embedded_model() -> None:
    rows = findings("--base-url", "http://h/v1")
    for name in ("temperature", "max_tokens", "seed"):
        assert (rows["settings", name]["detail"], rows["settings", name]["origin"]) == ("not set", "default")


def test_a_given_value_goes_before_the_default_of_the_embedded_model() -> None:
    row = findings(KAYGRAPH_TEMPERATURE="0")["settings", "temperature"]
    assert (row["detail"], row["origin"]) == ("0", "environment KAYGRAPH_TEMPERATURE")


def test_a_cache_in_which_nothing_can_be_made_is_told_before_the_download() -> None:
    """Even the superuser, whom no permission stops, makes nothing in /proc."""
    row = findings(code=78, HOME="/proc/nope", KAYGRAPH_CACHE_DIR="")["embedded model", "problem"]
    assert row["detail"].startswith("cannot use the model cache '/proc/nope/.cache/kaygraph-streaming-llm': ")
    assert row["hint"] == "set KAYGRAPH_CACHE_DIR to a directory that you may write"
    assert ("embedded model", "problem") not in findings("--base-url", "http://h/v1", KAYGRAPH_CACHE_DIR="/proc/nope")


def test_a_cache_that_is_not_needed_any_more_is_not_tried(fetched_model: None) -> None:
    assert findings(KAYGRAPH_CACHE_DIR="/proc/nope")["embedded model", "file"]["status"] == "ok"


def test_a_corrupt_model_is_told(tmp_path: Path) -> None:
    path = tmp_path / "cache" / spec.PINNED.file_name
    path.parent.mkdir()
    path.write_bytes(b"GGUF")
    row = findings()["embedded model", "file"]
    assert row["detail"] == f"{path}: corrupt; the next use replaces it (93 MB to download)"


def test_a_deep_look_at_a_model_that_is_not_there_fetches_nothing(tmp_path: Path) -> None:
    row = findings("--deep")["embedded model", "one token"]
    assert (row["status"], row["detail"]) == ("info", "not asked: the model is not there")
    assert not (tmp_path / "cache").exists()


class FakeServer:
    """A child that is alive; the scripted server answers in its place."""

    is_alive = True

    def stop(self) -> None:
        return


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, fetched_model: None) -> Iterator[Callable[..., ScriptedServer]]:
    """Lets a scripted server answer for the embedded model."""
    with ExitStack() as stack:

        def start(*actions: Action) -> ScriptedServer:
            server = stack.enter_context(ScriptedServer([actions]))

            async def ensure_ready(*arguments: object, **options: object) -> Ready:
                return Ready(FakeServer(), server.base_url, 0.0)  # type: ignore[arg-type]

            monkeypatch.setattr(backend, "ensure_ready", ensure_ready)
            return server

        yield start


def test_a_deep_look_asks_the_model_for_one_token(serve: Callable[..., ScriptedServer]) -> None:
    server = serve(Send(stream_response(sse(delta("Yes")), sse(finish("length")), sse("[DONE]"))))
    row = findings("--deep")["embedded model", "one token"]
    assert row["status"] == "ok"
    assert row["detail"].endswith("s after its start")
    [request] = server.requests
    assert (request.json["max_tokens"], request.json["seed"]) == (1, 1)
    wait_until(lambda: server.open_connections() == 0)


def test_a_model_that_does_not_answer_stops_a_run_only_where_it_is_the_target(
    serve: Callable[..., ScriptedServer],
) -> None:
    serve(CloseBeforeResponse())
    rows = findings("--deep", code=69)
    assert rows["embedded model", "problem"]["status"] == "fail"
    rows = findings("--deep", "--base-url", "http://h/v1")
    assert rows["embedded model", "one token"]["status"] == "warn"


def test_colours_and_terminal_are_told() -> None:
    rows = findings(NO_COLOR="1", TERM="dumb", COLUMNS="77")
    assert rows["terminal", "NO_COLOR"]["detail"] == "set: no colours"
    assert rows["terminal", "TERM"]["detail"] == "dumb, 77 columns"
    assert rows["terminal", "stdout"]["detail"] == "not a terminal: plain text, no colours, utf-8"


def test_long_lines_are_wrapped_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run("-m", "gpt-4", COLUMNS="70").stdout
    terminal = SimpleNamespace(isatty=lambda: True, encoding="utf-8")
    for module in (finding_lines, printing):
        monkeypatch.setattr(module, "sys", SimpleNamespace(stdout=terminal))
    wrapped = run("-m", "gpt-4", COLUMNS="70").stdout
    assert max(map(len, whole.splitlines())) > 70
    assert whole.split() == wrapped.split()
    for line in wrapped.splitlines():
        assert len(line) < 70 or len(line.split()[-1]) > 20, "only what cannot be broken is longer"


def test_output_comes_out_whole_where_the_terminal_lacks_characters() -> None:
    result = CliRunner(charset="ascii").invoke(command, ["--api-key", KEY])
    assert result.exit_code == 0
    assert r"sk-\u2026cdef  (flag --api-key)" in result.stdout
    assert "characters that it lacks cannot be shown" in result.stdout


def test_help_has_an_example() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert "python main.py doctor --deep" in result.stdout


# The beginning stands nowhere in ordinary output, whatever follows.
KEYS = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.", min_size=8, max_size=60).map(
    "Zq7~".__add__
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    KEYS,
    st.sampled_from(["flag", "KAYGRAPH_API_KEY", "OPENAI_API_KEY", "file"]),
    st.sampled_from(
        ["KAYGRAPH_MODEL", "KAYGRAPH_BASE_URL", "KAYGRAPH_COLOR", "KAYGRAPH_STOP", "KAYGRAPH_SEED", "TERM"]
    ),
    st.sampled_from(["{}", "x{}y", "http://h/{}"]),
    st.booleans(),
)
def test_no_output_holds_a_key(tmp_path: Path, key: str, place: str, other: str, form: str, as_json: bool) -> None:
    config = tmp_path / "secret.toml"
    config.write_text(f'api_key = "{key}"\n' if place == "file" else "", encoding="utf-8")
    config.chmod(0o600)
    arguments = ["--config", str(config), *(["--json"] if as_json else [])]
    environ = {other: form.format(key)}
    if place == "flag":
        arguments += ["--api-key=" + key]
    elif place != "file":
        environ[place] = key
    result = run(*arguments, **environ)
    assert key[:-4] not in result.stdout


def test_a_short_key_is_not_shown_at_all() -> None:
    row = findings(OPENAI_API_KEY="abcdefghijk")["settings", "api_key"]
    assert (row["detail"], row["origin"]) == ("…", "environment OPENAI_API_KEY")


@pytest.mark.parametrize(
    ("setting", "code", "detail"),
    [
        ('guard = ["pii"]', 0, "pii (15 rules)"),
        ('guard = ["nope.toml"]', 78, "nope.toml"),
        ('regex = "("', 78, "regex: cannot be used: unclosed group"),
        ('validators = ["nope"]', 78, "validators: there is no validator 'nope'"),
        ("validate_retries = 2", 78, "validate_retries without anything to validate"),
        ('toxicity = "flag"\ntoxicity_classifier = "openai"', 78, "needs an API key"),
    ],
)
def test_what_the_answer_would_be_judged_by_is_examined(
    tmp_path: Path, fetched_model: None, setting: str, code: int, detail: str
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(setting + "\n", encoding="utf-8")
    rows = findings("--config", str(config), code=code)
    (row,) = [row for (section, _), row in rows.items() if section == "guards" and row["name"] != "form of the answer"]
    assert detail in row["detail"]
    assert row["status"] == ("fail" if code else "ok")
