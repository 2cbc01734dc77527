"""The settings themselves: every field with its type and bounds. The only module that imports pydantic.

The names of the fields are the keys of the TOML file and, in upper case after KAYGRAPH_, the environment variables.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
)

from utils.exporters.endpoint import checked_collector_url
from utils.settings_sources import BadValue, checked_base_url

__all__ = ["MAX_SEED", "Settings", "json_properties", "validated"]

MAX_SEED = 2**32 - 2
"""llama.cpp keeps 32 bits of the seed and takes 2**32 - 1 as "choose one at random"."""

MAX_TIMEOUT_S = 604_800.0


def _zero_is_no_limit(value: float | None) -> float | None:
    return value or None


def _key(value: object) -> object:
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(text, str):
        return value
    text = text.strip()
    if not text:
        raise BadValue("must not be empty", hint="leave it out to run without a key")
    # A header carries it: anything else fails deep in the HTTP client with the key in the message.
    if not (text.isascii() and text.isprintable() and " " not in text):
        raise BadValue("must be ASCII characters without blanks", hint="copy the key again; it may be cut or wrapped")
    return SecretStr(text)


def _texts(value: object) -> object:
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def _path(value: object) -> object:
    if isinstance(value, str):
        if not value or "\0" in value:
            raise BadValue("must be the path of a file")
        return Path(os.path.expanduser(value))
    return value


_Timeout = Annotated[
    Annotated[float, Field(ge=0, le=MAX_TIMEOUT_S, allow_inf_nan=False)] | None, AfterValidator(_zero_is_no_limit)
]
_TEXTS_MAX = 50
_Texts = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_texts), Field(max_length=_TEXTS_MAX)
]
"""In the environment: one text, or a JSON list of texts."""
_File = Annotated[Path, BeforeValidator(_path)] | None
_NAME = r"^[^\x00-\x1f\x7f]+$"
_FallbackName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500, pattern=_NAME)]
_NO_LIMIT = "a number of seconds up to 604800 (7 days; 0 is no limit)"


class Settings(BaseModel):
    """Every setting of a run. Immutable. A field's description says what is allowed, completing "must be ..."."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    profile: Annotated[str, StringConstraints(strip_whitespace=True, max_length=100, pattern=_NAME)] | None = Field(
        default=None, description="the name of a profile"
    )
    """Which `[profiles.NAME]` of the settings file counts besides its top level."""
    model: Annotated[str, StringConstraints(strip_whitespace=True, max_length=200, pattern=_NAME)] | None = Field(
        default=None, description="the name of a model (1 to 200 characters)"
    )
    """None: the target decides. The name of a target in the settings file stands for that target."""
    base_url: Annotated[str, AfterValidator(checked_base_url)] | None = Field(
        default=None, description="a URL such as http://localhost:8080/v1"
    )
    api_key: Annotated[SecretStr, BeforeValidator(_key)] | None = Field(
        default=None, repr=False, description="an API key in quotes"
    )
    fallback_to_embedded: bool = Field(default=True, description="true or false")
    """Whether the embedded model answers for a model that needs a key when there is none. As a flag (`--no-fallback`)
    False also drops the configured `fallback`."""
    fallback: Annotated[tuple[_FallbackName, ...], BeforeValidator(_texts), Field(max_length=8)] = Field(
        default=(), description="at most 8 names of 1 to 500 characters"
    )
    """Who is asked next when a target fails: `embedded`, MODEL, URL or MODEL@URL; see `utils.fallbacks`."""
    system: str | None = Field(default=None, repr=False, description="text")
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False, description="a number from 0 to 2")
    max_tokens: int | None = Field(default=None, ge=1, le=2**31 - 1, description="a whole number from 1 to 2147483647")
    seed: int | None = Field(default=None, ge=0, le=MAX_SEED, description=f"a whole number from 0 to {MAX_SEED}")
    stop: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_texts), Field(max_length=4)] = (
        Field(default=(), description="at most 4 texts, none of them empty")
    )
    """In the environment: one text, or a JSON list of texts."""
    logprobs: bool = Field(default=True, description="true or false")
    """Ask for the model's own confidence; a server that refuses is asked again without."""
    gguf: Annotated[Path, BeforeValidator(_path)] | None = Field(default=None, description="the path of a GGUF file")
    guardrails: bool | None = Field(default=None, description="true or false")
    """True: the default packs. False: no guard on the answer, whatever `guard` says. None: what `guard` says."""
    guard: _Texts = Field(default=(), description=f"at most {_TEXTS_MAX} packs or files of rules, none empty")
    """Packs besides those of `guardrails`."""
    guard_action: Literal["redact", "mask", "block", "flag"] | None = Field(
        default=None, description="redact, mask, block or flag"
    )
    """None: each rule's own."""
    toxicity: Literal["off", "flag", "stop", "hold"] | None = Field(default=None, description="off, flag, stop or hold")
    """None: flag with guardrails, else off."""
    toxicity_classifier: Literal["lexical", "openai"] = Field(default="lexical", description="lexical or openai")
    """openai sends the answer's sentences to the server's moderation endpoint."""
    json_schema: _File = Field(default=None, description="the path of a JSON schema")
    regex: Annotated[str, Field(min_length=1)] | None = Field(default=None, description="a regular expression")
    grammar: _File = Field(default=None, description="the path of a grammar")
    validators: _Texts = Field(default=(), description=f"at most {_TEXTS_MAX} checks, none empty")
    validate_retries: int = Field(default=0, ge=0, le=10, description="a whole number from 0 to 10")
    simulate_failures: bool = Field(default=False, description="true or false")
    failure_seed: int | None = Field(
        default=None, ge=-(2**63), le=2**63 - 1, description="a whole number of at most 64 bits"
    )
    failure_plan: str | None = Field(default=None, description="failures such as 'refused, cut@40%, ok'")
    """Given, it switches `simulate_failures` on; its language is that of `utils.failures.grammar`."""
    timeout_s: _Timeout = Field(default=600.0, description=_NO_LIMIT)
    """The whole run, from the start of the process. 0 is no limit and is stored as None."""
    first_token_timeout_s: _Timeout = Field(default=60.0, description=_NO_LIMIT)
    """Long enough for a large model that is loaded on demand."""
    idle_timeout_s: _Timeout = Field(default=30.0, description=_NO_LIMIT)
    connect_timeout_s: float = Field(
        default=10.0,
        gt=0,
        le=MAX_TIMEOUT_S,
        allow_inf_nan=False,
        description="a number of seconds above 0, up to 604800 (7 days)",
    )
    """Always limited: an address that swallows packets would otherwise hang a run that has no total limit."""
    retries: int = Field(default=2, ge=0, le=10, description="a whole number from 0 to 10")
    resume: Literal["auto", "never", "replay", "trailing", "continue_final_message", "prefix", "words"] = Field(
        default="auto", description="auto, never, replay, trailing, continue_final_message, prefix or words"
    )
    """How an answer goes on that was cut; see `resume_capabilities`."""
    rpm: int | None = Field(default=None, ge=1, le=2**31 - 1, description="a whole number from 1 to 2147483647")
    """Requests per minute, to each target."""
    tpm: int | None = Field(default=None, ge=2, le=2**31 - 1, description="a whole number from 2 to 2147483647")
    """Tokens per minute, prompt and answer together, to each target."""
    max_tokens_per_second: float | None = Field(default=None, gt=0, allow_inf_nan=False, description="a number above 0")
    """How fast the answer may appear."""
    adaptive: bool = Field(default=False, description="true or false")
    """Deadlines, hedging, the order of the targets and the cutting of loops follow what was observed."""
    monitor_performance: bool = Field(default=False, description="true or false")
    slo: str | None = Field(default=None, description="objectives such as 'ttft=0.5,tpot=0.05'")
    """What a run has to reach; see `utils.metrics.slo`."""
    log: bool = Field(default=True, description="true or false")
    """Whether the run gets a row in the history."""
    log_text: bool = Field(default=False, description="true or false")
    """Whether that row holds prompt and answer, what the packs pii and secrets hide left out."""
    otel: Annotated[str, AfterValidator(checked_collector_url)] | None = Field(
        default=None, description="a URL such as http://localhost:4318"
    )
    otel_semconv: Literal["current", "latest"] | None = Field(default=None, description="current or latest")
    """None: as OTEL_SEMCONV_STABILITY_OPT_IN says, else current."""
    prometheus: _File = Field(default=None, description="the path of a file to write")
    prompt_limit_chars: int = Field(
        default=1_000_000, ge=1, le=100_000_000, description="a whole number from 1 to 100000000"
    )
    context_tokens: int | None = Field(default=None, ge=1, le=2**31 - 1, description="a whole number from 1 on")
    """What the model can read and write together. None: known only of the embedded model."""
    finish_reason_optional: bool = Field(default=False, description="true or false")
    """The server may end an answer with `[DONE]` alone."""
    color: Literal["auto", "always", "never"] = Field(default="auto", description="auto, always or never")


def validated(given: Mapping[str, object], *, strict: bool) -> tuple[dict[str, object], dict[str, BadValue | None]]:
    """What *given* becomes; or nothing, and why not by name (None: the field's description says what is allowed).

    *strict*: the values have types, and keep to them. Without it they are text, such as that of a variable.
    """
    try:
        judged = Settings.model_validate(given, strict=strict)
    except ValidationError as exc:
        reasons: dict[str, BadValue | None] = {}
        for detail in exc.errors(include_url=False, include_input=False):
            error = detail.get("ctx", {}).get("error")
            reasons.setdefault(str(detail["loc"][0]), error if isinstance(error, BadValue) else None)
        return {}, reasons
    return {name: getattr(judged, name) for name in given}, {}


def json_properties() -> dict[str, dict[str, Any]]:
    """The JSON schema of each field, as pydantic derives it from the model."""
    properties: dict[str, dict[str, Any]] = Settings.model_json_schema()["properties"]
    return properties
