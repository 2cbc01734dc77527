"""What every setting is for, by section: for the page, the template of a settings file, and its schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from utils.settings_file import TARGET_ADDRESS, TARGET_SETTINGS
from utils.settings_model import Settings
from utils.settings_sources import variables_of

__all__ = ["KEY_ENV", "TABLE", "About", "as_toml", "default_of", "markdown_table", "markdown_target_table", "sections"]


@dataclass(frozen=True, slots=True)
class About:
    """One setting: its *section*, *what* it does, the option that sets it ("" for none), and a value to show."""

    section: str
    what: str
    flag: str
    example: object = None
    """None: the default is shown."""


KEY_ENV = "Environment variable that holds the key of this server"
"""What the one name of a target is for that is no setting."""

_MODEL, _GUARD, _FORM = "Model", "Guardrails", "Form of the answer"
_LIMITS, _OUTPUT = "Failures and limits", "Output and history"

TABLE: Mapping[str, About] = {
    "profile": About(_MODEL, "Profile that counts besides the top level", "--profile", "work"),
    "model": About(_MODEL, "Model to ask, or the name of a target", "--model", "llama3.2"),
    "base_url": About(_MODEL, "OpenAI-compatible server", "--base-url", "http://127.0.0.1:11434/v1"),
    "api_key": About(
        _MODEL, "Key of the server; in a file that nobody else may read (mode 0600)", "--api-key", "sk-..."
    ),
    "gguf": About(_MODEL, "GGUF file to run as the embedded model", "--gguf", "model.gguf"),
    "fallback": About(
        _MODEL,
        "Who is asked next if a target fails: a target's name, MODEL, URL, MODEL@URL or embedded",
        "--fallback",
        ["embedded"],
    ),
    "fallback_to_embedded": About(
        _MODEL, "The embedded model answers for a model that needs a key where there is none", "--no-fallback"
    ),
    "temperature": About(_MODEL, "Sampling temperature", "--temperature", 0.7),
    "max_tokens": About(_MODEL, "Longest answer, in tokens", "--max-tokens", 1000),
    "seed": About(_MODEL, "Sampling seed: the same seed gives the same answer, if the server can", "--seed", 1),
    "stop": About(_MODEL, "Texts before which the answer ends", "--stop", ["END"]),
    "logprobs": About(_MODEL, "Ask for the model's own confidence", ""),
    "context_tokens": About(_MODEL, "What the model can read and write together, in tokens", "", 8192),
    "finish_reason_optional": About(_MODEL, "The server may end a whole answer with [DONE] alone", ""),
    "system": About("Prompt", "System prompt", "--system", "Be brief."),
    "prompt_limit_chars": About("Prompt", "Longest prompt, in characters", ""),
    "guardrails": About(
        _GUARD,
        "Hide personal data and secrets, mask profanity, flag toxic sentences; false: no guard at all",
        "--enable-guardrails, --disable-guardrails",
        True,
    ),
    "guard": About(_GUARD, "Rule packs: pii, secrets, profanity, injection, or TOML files", "--guard", ["pii"]),
    "guard_action": About(
        _GUARD, "What happens to all that a rule finds, instead of its own action", "--guard-action", "redact"
    ),
    "toxicity": About(_GUARD, "Judge sentences; unset: flag with guardrails", "--toxicity", "flag"),
    "toxicity_classifier": About(
        _GUARD, "Judge by words here, or by the server's moderation endpoint", "--toxicity-classifier"
    ),
    "json_schema": About(_FORM, "The answer must be JSON that fits this schema", "--json-schema", "answer.json"),
    "regex": About(_FORM, "The whole answer must match", "--regex", "(yes|no)"),
    "grammar": About(_FORM, "The answer must follow this Lark grammar", "--grammar", "answer.lark"),
    "validators": About(
        _FORM, "max-chars=N, no-control, script=latin or no-repetition", "--validate", ["max-chars=2000"]
    ),
    "validate_retries": About(_FORM, "Ask again so often, and show only a valid answer", "--validate-retries"),
    "simulate_failures": About(_LIMITS, "Simulate failures, and recover", "--simulate-failures"),
    "failure_plan": About(_LIMITS, "Which failures, one per attempt", "--failure-plan", "refused, cut@40%, ok"),
    "failure_seed": About(_LIMITS, "What a plan leaves to chance", "--failure-seed", 1),
    "retries": About(_LIMITS, "Further attempts after a failure", "--retries"),
    "resume": About(_LIMITS, "How an answer goes on that was cut", ""),
    "timeout_s": About(_LIMITS, "Time for the whole run", "--timeout"),
    "first_token_timeout_s": About(_LIMITS, "Time to the first text", "--first-token-timeout"),
    "idle_timeout_s": About(_LIMITS, "Longest pause in the answer", "--idle-timeout"),
    "connect_timeout_s": About(_LIMITS, "Time for a connection", ""),
    "rpm": About(_LIMITS, "Requests per minute, to each target", "--rpm", 60),
    "tpm": About(_LIMITS, "Tokens per minute, prompt and answer together, to each target", "--tpm", 40000),
    "max_tokens_per_second": About(_LIMITS, "How fast the answer may appear", "--max-tokens-per-second", 20.0),
    "adaptive": About(
        _LIMITS, "Deadlines, hedging, the order of targets and the cutting of loops follow observation", "--adaptive"
    ),
    "monitor_performance": About(_OUTPUT, "Show latency, throughput and quality", "--monitor-performance"),
    "color": About(_OUTPUT, "When to use colour", "--color"),
    "log": About(_OUTPUT, "Keep a row of figures in the history", "--no-log, --log"),
    "log_text": About(_OUTPUT, "Keep prompt and answer in the history too, cleaned", "--log-text"),
    "slo": About(_OUTPUT, "Objectives that a run has to meet", "--slo", "ttft=0.5,tpot=0.05"),
    "otel": About(_OUTPUT, "OpenTelemetry collector (OTLP/HTTP)", "--otel", "http://localhost:4318"),
    "otel_semconv": About(_OUTPUT, "Which names a collector gets", "--otel-semconv", "current"),
    "prometheus": About(_OUTPUT, "File of figures for node_exporter", "--prometheus", "run.prom"),
}
"""Every setting, in the order of the page."""


def sections() -> dict[str, list[str]]:
    """The names of the settings by section."""
    found: dict[str, list[str]] = {}
    for name, about in TABLE.items():
        found.setdefault(about.section, []).append(name)
    return found


def default_of(name: str) -> object:
    """The default as it would stand in a file; None for none."""
    value = Settings.model_fields[name].default
    return list(value) if isinstance(value, tuple) else value


def as_toml(value: object) -> str:
    """*value* as TOML writes it: text, numbers, truth values, lists of them."""
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)


def markdown_table() -> str:
    """The table of the page about configuration."""
    rows = ["| setting | what it is for | type | default | variables | options |", "|---|---|---|---|---|---|"]
    for name, about in TABLE.items():
        default = default_of(name)
        cells = (
            f"`{name}`",
            about.what,
            _demand(name),
            "" if default in (None, []) else f"`{as_toml(default)}`",
            ", ".join(f"`{variable}`" for variable in variables_of(name)),
            ", ".join(f"`{flag}`" for flag in about.flag.split(", ") if flag),
        )
        rows.append(f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |"))
    return "\n".join(rows)


def markdown_target_table() -> str:
    """The table of what a target may have."""
    rows = ["| in `[targets.NAME]` | what it is for | type |", "|---|---|---|"]
    for name in (*TARGET_ADDRESS, *TARGET_SETTINGS):
        what = KEY_ENV if name == "key_env" else "Model to ask there" if name == "model" else TABLE[name].what
        demand = "the name of an environment variable" if name == "key_env" else _demand(name)
        rows.append(f"| `{name}` | {what} | {demand} |")
    return "\n".join(rows)


def _demand(name: str) -> str:
    return str(Settings.model_fields[name].description)
