"""Settings: flags > environment > profile > TOML file > defaults, judged once, with the origin of every value.

Cores never see `Settings`: they get `parameters` and `deadlines`. What the names of targets and profiles bring is
decided in `settings_names`. Only the value that counts is judged: a flag gets a run past a bad variable or a bad value
in the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from utils import settings_sources as sources
from utils.errors import AppError, ConfigError, UsageProblem
from utils.run_context import Deadlines, Parameters, Target
from utils.settings_checks import Problem, check, missing_files
from utils.settings_file import TARGET_SETTINGS, SettingsFile, config_path, read_settings_file
from utils.settings_model import MAX_SEED, Settings, validated
from utils.settings_names import ADDRESS, Resolved, Sources
from utils.settings_sources import BadValue, Given
from utils.targets import OPENAI_URL
from utils.wording import mask_key, mask_key_like, nearest, shown, url_for_people

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
    "problems_of",
    "resume_capabilities",
    "toxicity_mode",
]

T = TypeVar("T")

EMBEDDED_SEED = 1
"""Sent to the embedded model when the user gave no seed: a replay needs one, and a fixed one repeats a run exactly."""

EMBEDDED_TEMPERATURE = 0.2
"""What the model's authors recommend; at the server's own 0.8 so small a model soon rambles."""

EMBEDDED_MAX_TOKENS = 512
"""A model of this size may loop without an end; what ends here says so (finish_reason `length`)."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings of a run, where each came from, and what should be said about them."""

    settings: Settings
    origins: Mapping[str, str]
    """Every field's origin: `flag --seed`, `environment KAYGRAPH_SEED`, `file PATH: profiles.NAME` or `default`."""
    warnings: tuple[str, ...]
    config_file: Path | None
    """The file that was read, or None if there is none."""
    target: tuple[str, str] | None = None
    """The target of the file that is asked, and what named it; None: no name stands for it."""
    targets: tuple[str, ...] = ()
    """The names of all targets of the file."""
    general: Settings | None = None
    """What counts for fallbacks that are no target of the file; None: `settings`, as for the first target."""
    fallbacks: Mapping[str, Settings] = field(default_factory=dict)
    """What counts for the fallbacks that are targets of the file, by name."""
    home: tuple[str, str | None] = field(default=(OPENAI_URL, None), repr=False)
    """The server that the settings name without a target, as it was written, and the key that is meant for it."""
    file: SettingsFile | None = field(default=None, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """Every key that is known, whether it is used or not: none of them may be shown."""


def load(
    flags: Mapping[str, object],
    *,
    environ: Mapping[str, str],
    config_file: Path | None = None,
    key_environ: Mapping[str, str] | None = None,
) -> Loaded:
    """Merge all sources and judge what counts.

    *flags*: field name -> what the user typed; None and () mean not given. *config_file*: the file named by the
    user, which must exist; None looks at KAYGRAPH_CONFIG (must exist too), then at the default place (need not).
    *key_environ*: the variables that a target's `key_env` may name, if others than *environ*.

    Raises: UsageProblem if a flag is wrong, ConfigError if the file or a variable is. Several wrong values are
    one error with a line for each. No message holds a key.
    """
    known = tuple(Settings.model_fields)
    from_flags = sources.from_flags(flags, known)
    from_environment, warnings = sources.from_environment(environ, known)
    path, must_exist = config_path(environ, config_file)
    secrets = [environ.get(name, "").strip() for name in sources.variables_of("api_key")]
    secrets += [g.value.strip() for g in from_flags.values() if g.name == "api_key" and isinstance(g.value, str)]
    file = read_settings_file(path, known, must_exist=must_exist, secrets=secrets) if path else None
    keys = environ if key_environ is None else key_environ
    secrets += file.keys(keys) if file is not None else ()
    where = f"it would be {path}" if path is not None else "name it with --config"
    given = Sources(from_flags, from_environment, file, environ=keys, looked_for=where, secrets=secrets)

    resolved = given.resolve()
    settings = _settle(resolved.given, secrets)
    targets = tuple(file.targets) if file is not None else ()
    named = {name: _changed(settings, given.fallback(name), secrets) for name in settings.fallback if name in targets}
    general = None
    if resolved.target is not None and len(named) < len(settings.fallback):
        general = _changed(settings, given.general(), secrets)
    warnings += resolved.warnings + _near_target(settings, resolved, targets)
    return Loaded(
        settings,
        MappingProxyType(
            {name: resolved.given[name].origin if name in resolved.given else "default" for name in known}
        ),
        tuple(mask_key_like(w, secrets) for w in warnings),
        path if file is not None else None,
        None if resolved.target is None else (str(resolved.target.value).strip(), resolved.target.origin),
        targets,
        general,
        MappingProxyType(named),
        given.home(),
        file,
        tuple(dict.fromkeys(filter(None, secrets))),
    )


def problems_of(table: Mapping[str, Given], secrets: Iterable[str]) -> list[str]:
    """What is wrong with the values of a target or a profile, whether they count or not."""
    known = {name: given for name, given in table.items() if name in Settings.model_fields}
    hidden = list(secrets)
    values, problems = _judge(known, hidden)
    return [line for line, _ in (problems | missing_files(known, values, hidden)).values()]


def _near_target(settings: Settings, resolved: Resolved, targets: tuple[str, ...]) -> tuple[str, ...]:
    """Whether a model that nobody can be asked for may have been meant as a target."""
    if settings.model is None or not targets or any((settings.base_url, settings.api_key, settings.gguf)):
        return ()
    guess = nearest(settings.model, targets)
    if guess is None or settings.model == guess:
        return ()
    return (f"{resolved.given['model'].place} names no target; did you mean {guess}? there are {', '.join(targets)}",)


def _settle(given: dict[str, Given], secrets: list[str]) -> Settings:
    """The settings from what was *given*, judged one by one and among each other."""
    values, problems = _judge(given, secrets)
    check(given, values, problems, secrets=secrets)
    if problems:
        raise _error(given, problems)
    return Settings.model_validate(values)


def _changed(settings: Settings, given: Mapping[str, Given], secrets: list[str]) -> Settings:
    """*settings* with another address, and with what a target may have of its own, from *given*."""
    names = (*ADDRESS, *TARGET_SETTINGS)
    part = {name: given[name] for name in names if name in given}
    values, problems = _judge(part, secrets)
    problems |= missing_files(part, values, secrets)
    if problems:
        raise _error(part, problems)
    defaults = {name: Settings.model_fields[name].default for name in names}
    return settings.model_copy(update={**defaults, **values})


def _judge(given: Mapping[str, Given], secrets: list[str]) -> tuple[dict[str, object], dict[str, Problem]]:
    """The valid values and the problems. A variable is text and is converted; flags and the file have types."""
    values: dict[str, object] = {}
    problems: dict[str, Problem] = {}
    for source in ("flag", "environment", "profile", "target", "file"):
        part = {name: g.value for name, g in given.items() if g.source == source}
        judged, reasons = validated(part, strict=source != "environment")
        values |= judged
        for name, reason in reasons.items():
            problems[name] = _explain(given[name], reason, secrets)
    return values, problems


def _explain(given: Given, reason: BadValue | None, secrets: list[str]) -> Problem:
    """One line and a hint. pydantic's texts name Python types and quote the input, so none of them is used."""
    hint = given.way_out
    if reason is not None:
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
    if name == "api_key" and value is not None:
        return mask_key(key)
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
