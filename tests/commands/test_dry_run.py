"""`--dry-run`: the request as it would be sent, what is told about it, and no key in it; nothing is started."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import main
from tests.guardrails.test_prompt_places import OWN_KEY, TOKEN, tags
from utils.errors import AppError, PromptRejected, UsageProblem
from utils.vocabularies import load_vocabulary

SERVER = ("--base-url", "http://127.0.0.1:9/v1", "-m", "m")


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("KAYGRAPH_CACHE_DIR", "KAYGRAPH_STATE_DIR", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    yield
    # Not even a directory: no fetch, no child, no history.
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} <= {"config"}


def dry_run(*args: str) -> Result:
    return CliRunner().invoke(main.cli, ["run", "--dry-run", *args])


def as_json(*args: str) -> dict[str, Any]:
    found = dry_run("--json", *args)
    shown: dict[str, Any] = json.loads(found.stdout)
    return shown


def test_the_embedded_model_is_not_needed() -> None:
    shown = as_json("Hi", "--max-tokens", "7", "-s", "Be brief.")
    assert shown["request"] == {
        "model": "smollm2-135m-instruct",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.2,
        "max_tokens": 7,
        "seed": 1,
        "logprobs": True,
        "cache_prompt": False,
        "top_logprobs": 1,
    }
    assert (shown["url"], shown["exit_code"], shown["error"], shown["dry_run"]) == (None, 0, None, True)
    assert (shown["tokens"]["context"], shown["tokens"]["room"]) == (4096, 4089)
    assert 0 < shown["tokens"]["least"] <= shown["tokens"]["likely"]


def test_the_server_is_named_and_the_key_is_not() -> None:
    shown = as_json(*SERVER, "--api-key", OWN_KEY, "--fallback", "embedded", "Hi")
    assert shown["url"] == "http://127.0.0.1:9/v1/chat/completions"
    assert shown["fallbacks"] == ["smollm2-135m-instruct (embedded)"]
    assert "cache_prompt" not in shown["request"]
    assert OWN_KEY not in str(shown)
    assert as_json("--base-url", "http://127.0.0.1:9/v1", "Hi")["request"]["model"] is None


@pytest.mark.skipif(load_vocabulary("o200k_base") is None, reason="the vocabularies are not installed")
def test_tokens_are_counted_only_by_the_models_own_vocabulary() -> None:
    text = "The quick brown fox jumps over the lazy dog."
    assert as_json("--base-url", "http://127.0.0.1:9/v1", "-m", "gpt-4o", text)["tokens"]["counted"] == 10
    assert as_json(*SERVER, text)["tokens"]["counted"] is None


def test_people_get_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\nmail bob@example.com\n")
    found = dry_run("-f", "a.txt", "What?\x85\u202e", *SERVER)
    lines = found.stdout.splitlines()
    assert isinstance(found.exception, PromptRejected), "U+0085 is a control character"
    assert lines[0] == "target: m at http://127.0.0.1:9/v1"
    assert lines[1] == "request to http://127.0.0.1:9/v1/chat/completions:"
    assert lines[-3].startswith("tokens: about ")
    assert lines[-2:] == ["guard: refused", "dry run: nothing was sent"]
    assert not set(found.stdout) & {"\x85", "\u202e"}
    fine = dry_run("-f", "a.txt", "What?", *SERVER).stdout.splitlines()
    assert 'guard: the prompt matches pii.email (in "a.txt", line 2): e-mail address' in fine
    assert "guard: nothing found" in dry_run("Hi").stdout.splitlines()


@pytest.mark.parametrize(
    ("args", "exit_code", "kind"),
    [
        (("Hi",), 0, None),
        ((f"token {TOKEN}",), 4, PromptRejected),
        ((f"token {TOKEN}", "--allow-secrets"), 0, None),
        (("\x1b[1m",), 4, PromptRejected),
        ((" ",), 2, UsageProblem),
        (("word " * 5_000,), 2, UsageProblem),
        (("Hi", "-s", f"token {TOKEN}"), 4, PromptRejected),
    ],
)
def test_the_exit_code_is_the_guards(args: tuple[str, ...], exit_code: int, kind: type[AppError] | None) -> None:
    found = dry_run(*args)
    error = found.exception if isinstance(found.exception, AppError) else None
    # main.py tells the error; the object of --json holds it.
    assert (type(error), 0 if error is None else error.exit_code) == (kind or type(None), exit_code)
    assert "dry run: nothing was sent" in found.stdout
    shown = as_json(*args)
    assert shown["exit_code"] == exit_code
    assert (shown["error"] or {}).get("code") == (None if error is None else error.code)


@pytest.mark.parametrize("how", ["text", "json", "events"])
@pytest.mark.parametrize("allowed", [(), ("--allow-secrets",)])
@pytest.mark.parametrize(
    "args",
    [
        (f"token {TOKEN} and {OWN_KEY}",),
        ("Hi", "-s", f"{TOKEN} {OWN_KEY}"),
        ("Hi", "--stop", TOKEN, "--stop", OWN_KEY),
        ("-f", "k.txt", "Hi"),
        (f"a{tags(TOKEN)}b {OWN_KEY}",),
    ],
)
def test_no_secret_is_shown(args: tuple[str, ...], allowed: tuple[str, ...], how: str, tmp_path: Path) -> None:
    (tmp_path / "k.txt").write_text(f"key = {TOKEN}\n{OWN_KEY}\n")
    mode = () if how == "text" else (f"--{how}",)
    found = dry_run(*args, *allowed, *mode, *SERVER, "--api-key", OWN_KEY)
    everything = f"{found.stdout}{found.stderr}{found.exception}"
    assert '"messages"' in found.stdout
    for secret in (TOKEN, OWN_KEY, tags(TOKEN)):
        assert secret not in everything
        assert json.dumps(secret)[1:-1] not in everything


def test_a_long_prompt_that_is_refused_is_not_shown_whole() -> None:
    prompt = "word " * 30_000
    shown = as_json(prompt)
    content = shown["request"]["messages"][-1]["content"]
    assert shown["exit_code"] == 2
    assert content == prompt[:2_000] + "... (148,000 more characters)"
    assert "148,000 more characters" in dry_run(prompt).stdout


def test_a_template_is_shown_filled_in(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text('prompt = "In $lang: $input"\nsystem = "Be $mood."\ntemperature = 1\n')
    shown = as_json("-t", "./t.toml", "-P", "lang=Welsh", "-P", "mood=kind", "--temperature", "0.5", "Hi")
    assert [message["content"] for message in shown["request"]["messages"]] == ["Be kind.", "In Welsh: Hi"]
    assert shown["request"]["temperature"] == 0.5
