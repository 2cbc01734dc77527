"""Settings: flags > environment > TOML file > defaults, judged once, with the origin of every value.

The only module that imports pydantic. Cores never see `Settings`: they get `parameters` and `deadlines`.
The names of the fields are the keys of the TOML file and, in upper case after KAYGRAPH_, the environment variables.
Only the value that counts is judged: a flag gets a run past a bad variable or a bad value in the file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

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

from utils import settings_sources as sources
from utils.errors import AppError, ConfigError, UsageProblem
from utils.exporters.endpoint import checked_collector_url
from utils.run_context import Deadlines, Parameters, Target
from utils.settings_checks import Problem, check
from utils.settings_sources import BadValue, Given
from utils.wording import mask_key, mask_key_like, shown, url_for_people

if TYPE_CHECKING:
    from utils.resilience.continuation import Capabilities

__all__ = [
    "EMBEDDED_MAX_TOKENS",
    "EMBEDDED_SEED",
    "EMBEDDED_TEMPERATURE",
    "MAX_SEED",
    "Loaded",
    "Settings",
    "deadlines",
    "display",
    "guard_packs",
    "in_effect",
    "load",
    "parameters",
    "resume_capabilities",
    "toxicity_mode",
]

T = TypeVar("T")

MAX_SEED = 2**32 - 2
"""llama.cpp keeps 32 bits of the seed and takes 2**32 - 1 as "choose one at random"."""

EMBEDDED_SEED = 1
"""Sent to the embedded model when the user gave no seed: a replay needs one, and a fixed one repeats a run exactly."""

EMBEDDED_TEMPERATURE = 0.2
"""What the model's authors recommend; at the server's own 0.8 so small a model soon rambles."""

EMBEDDED_MAX_TOKENS = 512
"""A model of this size may loop without an end; what ends here says so (finish_reason `length`)."""

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

    model: Annotated[str, StringConstraints(strip_whitespace=True, max_length=200, pattern=_NAME)] | None = Field(
        default=None, description="the name of a model (1 to 200 characters)"
    )
    """None: the target decides."""
    base_url: Annotated[str, AfterValidator(sources.checked_base_url)] | None = Field(
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


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings of a run, where each came from, and what should be said about them."""

    settings: Settings
    origins: Mapping[str, str]
    """Every field's origin: `flag --seed`, `environment KAYGRAPH_SEED`, `file PATH` or `default`."""
    warnings: tuple[str, ...]
    config_file: Path | None
    """The file that was read, or None if there is none."""


def load(flags: Mapping[str, object], *, environ: Mapping[str, str], config_file: Path | None = None) -> Loaded:
    """Merge all sources and judge what counts.

    *flags*: field name -> what the user typed; None and () mean not given. *config_file*: the file named by the
    user, which must exist; None looks at KAYGRAPH_CONFIG (must exist too), then at the default place (need not).

    Raises: UsageProblem if a flag is wrong, ConfigError if the file or a variable is. Several wrong values are
    one error with a line for each. No message holds a key.
    """
    known = tuple(Settings.model_fields)
    from_flags = sources.from_flags(flags, known)
    from_environment, warnings = sources.from_environment(environ, known)
    path, must_exist = _config_path(environ, config_file)
    secrets = [environ.get(name, "").strip() for name in ("KAYGRAPH_API_KEY", "OPENAI_API_KEY")]
    secrets += [g.value for g in from_flags.values() if g.name == "api_key" and isinstance(g.value, str)]
    from_file = sources.from_file(path, known, must_exist=must_exist, secrets=secrets) if path else None
    if from_file and isinstance(key := from_file["api_key"].value if "api_key" in from_file else None, str):
        secrets.append(key)

    given = {**(from_file or {}), **from_environment, **from_flags}
    values = _judge(given, secrets)
    origins = {name: given[name].origin if name in given else "default" for name in known}
    return Loaded(
        Settings.model_validate(values),
        MappingProxyType(origins),
        tuple(mask_key_like(w, secrets) for w in warnings),
        path if from_file is not None else None,
    )


def _config_path(environ: Mapping[str, str], named: Path | None) -> tuple[Path | None, bool]:
    if named is not None:
        return named, True
    if variable := environ.get("KAYGRAPH_CONFIG", "").strip():
        return Path(os.path.expanduser(variable)), True
    return sources.default_config_file(environ), False


def _judge(given: dict[str, Given], secrets: list[str]) -> dict[str, object]:
    """The validated values. A variable is text and is converted; flags and the file have types and keep to them."""
    values: dict[str, object] = {}
    problems: dict[str, Problem] = {}
    for source, strict in (("flag", True), ("environment", False), ("file", True)):
        part = {name: g.value for name, g in given.items() if g.source == source}
        try:
            judged = Settings.model_validate(part, strict=strict)
        except ValidationError as exc:
            for detail in exc.errors(include_url=False, include_input=False):
                name = str(detail["loc"][0])
                problems.setdefault(name, _explain(given[name], detail.get("ctx", {}).get("error"), secrets))
        else:
            values |= {name: getattr(judged, name) for name in part}
    key = values.get("api_key")
    check(given, values, problems, key=key.get_secret_value() if isinstance(key, SecretStr) else None, secrets=secrets)
    if problems:
        raise _error(given, problems)
    return values


def _explain(given: Given, reason: object, secrets: list[str]) -> Problem:
    """One line and a hint. pydantic's texts name Python types and quote the input, so none of them is used."""
    hint = given.way_out
    if isinstance(reason, BadValue):
        demand, hint, joint = reason.reason, mask_key_like(reason.hint, secrets) or hint, ": "
    else:
        demand, joint = f"must be {Settings.model_fields[given.name].description}", ", not "
    if given.name == "api_key":
        return f"{given.place} {demand}", hint
    value = given.value
    if given.name in ("base_url", "otel") and isinstance(value, str):
        value = url_for_people(value)
    if given.name in sources.PATHS and isinstance(value, str) and value:
        value = Path(value)
    return f"{given.place} {demand}{joint}{shown(value, secrets)}", hint


def _error(given: Mapping[str, Given], problems: Mapping[str, Problem]) -> AppError:
    names = list(problems)
    message = "\n".join(line for line, _ in problems.values())
    hint = problems[names[0]][1] if len(names) == 1 else "correct each of them"
    if any(given[name].source == "flag" for name in names):
        return UsageProblem(message, hint=hint)
    return ConfigError(message, hint=hint)


def display(settings: Settings, name: str) -> str:
    """The value of one setting as people may see it: keys masked, the system prompt only by its length."""
    return _for_people(settings, name, getattr(settings, name))


def in_effect(loaded: Loaded, name: str, *, target: Target | None) -> tuple[str, str]:
    """The value of one setting that a run against *target* goes by, and its origin; both for people."""
    settings = loaded.settings
    if getattr(settings, name) is None:
        value = getattr(parameters(settings, target=target), name, None)
        if value is not None:
            return _for_people(settings, name, value), "the embedded model's default"
    return display(settings, name), loaded.origins[name]


def _for_people(settings: Settings, name: str, value: Any) -> str:
    key = settings.api_key.get_secret_value() if settings.api_key else ""
    if isinstance(value, SecretStr):
        return mask_key(value.get_secret_value())
    if value is None:
        return "no limit" if name.endswith("timeout_s") else "not set"
    if name == "system":
        return f"{len(value)} characters"
    if isinstance(value, tuple):
        return ", ".join(shown(item, (key,)) for item in value) or "none"
    if isinstance(value, str):
        return mask_key_like(value, (key,))
    if isinstance(value, Path):
        return mask_key_like(str(value), (key,))
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def parameters(settings: Settings, *, target: Target | None = None) -> Parameters:
    """The sampling parameters to send to *target*; the embedded model always gets a seed, a temperature and a limit."""
    is_embedded = target is not None and target.is_embedded

    def given(value: T | None, embedded: T) -> T | None:
        return embedded if value is None and is_embedded else value

    return Parameters(
        temperature=given(settings.temperature, EMBEDDED_TEMPERATURE),
        max_tokens=given(settings.max_tokens, EMBEDDED_MAX_TOKENS),
        seed=given(settings.seed, EMBEDDED_SEED),
        stop=settings.stop,
        logprobs=settings.logprobs,
    )


def guard_packs(settings: Settings, default: tuple[str, ...]) -> tuple[str, ...]:
    """The rule packs that guard the answer, *default* being those of `guardrails`; () for no guard."""
    if settings.guardrails is False:
        return ()
    return (*(default if settings.guardrails else ()), *settings.guard)


def toxicity_mode(settings: Settings) -> Literal["off", "flag", "stop", "hold"]:
    """What happens to toxic sentences: as asked for; else they are flagged if the guardrails are on."""
    return settings.toxicity or ("flag" if settings.guardrails else "off")


def deadlines(settings: Settings) -> Deadlines:
    """The time limits of a run, in seconds."""
    return Deadlines(
        first_token_s=settings.first_token_timeout_s,
        idle_s=settings.idle_timeout_s,
        total_s=settings.timeout_s,
        connect_s=settings.connect_timeout_s,
    )


def resume_capabilities(settings: Settings, target: Target) -> Capabilities | None:
    """How *target* may be asked to go on with a cut answer, as configured by `resume`; None: find out.

    `replay` alone is tried on any target: a replay is compared before anything is shown. Beside another way it is
    tried only where the same text is to be expected. The embedded server has one form of prefill, whatever is set.
    """
    from utils.resilience.continuation import Capabilities

    match settings.resume:
        case "auto":
            return None
        case "never":
            return Capabilities(replay=False, prefill=None, continue_=False)
        case "replay":
            return Capabilities(replay=True, prefill=None, continue_=False)
        case "words":
            return Capabilities(replay=False, prefill=None, continue_=True)
        case form:
            prefill = "trailing" if target.is_embedded else form
            return Capabilities(replay=target.is_deterministic, prefill=prefill, continue_=True)
