"""Which model answers: one pure decision from the settings and their origins.

1. A GGUF file: the embedded server runs it.
2. A base URL: that server; the key is optional, and without a model name the server is asked for one.
3. `embedded` or `smollm2-135m-instruct` by name, or nothing at all: the embedded model.
4. A key: the OpenAI API. 5. A model that needs a key without one: the embedded model, and it says so.
Where two of these exclude each other, the one from the higher source (flag > environment > profile > file) decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from utils.embedded_model.spec import PINNED
from utils.errors import ConfigError, UsageProblem
from utils.events import FellBack
from utils.run_context import EMBEDDED, Target
from utils.settings_sources import rank

if TYPE_CHECKING:
    from utils.settings import Settings

__all__ = [
    "DEFAULT_OPENAI_MODEL",
    "EMBEDDED_MODEL",
    "OPENAI_URL",
    "TargetChoice",
    "choose_target",
    "embedded_target",
    "server_target",
]

OPENAI_URL = "https://api.openai.com/v1"
DEFAULT_OPENAI_MODEL = "gpt-4o-mini"
EMBEDDED_MODEL = PINNED.name
_KEY_CHARS = 12
"""Shorter keys are placeholders (`ollama`, `none`), which may well stand in a URL."""


@dataclass(frozen=True, slots=True)
class TargetChoice:
    """The target of a run, what was asked for, and why this one was taken."""

    target: Target
    model_requested: str
    """What the user asked for, or what the target stands for by default; "" = whatever the server has."""
    reason: str
    """One line for people."""
    warning: str | None = None
    """To be shown before the run: another model answers than the one that was asked for."""
    gguf: Path | None = None
    """The file that the embedded server runs; None: the pinned model. `settings.gguf` may have been overruled."""

    @property
    def fell_back(self) -> FellBack | None:
        """The warning as an event of the run."""
        if self.warning is None:
            return None
        return FellBack(self.model_requested, self.target.name, self.reason)


def choose_target(settings: Settings, *, origins: Mapping[str, str]) -> TargetChoice:
    """Decide where the answer comes from.

    Raises: UsageProblem or ConfigError if `gguf` and `base_url` come from the same source; ConfigError if a model
    cannot be reached and the embedded server may not stand in for it (`--no-fallback`). No error holds the key.
    """
    origin = {name: origins.get(name, "default") for name in ("model", "base_url", "gguf", "api_key")}
    ranks = {name: rank(text) for name, text in origin.items()}
    model, base_url, gguf = settings.model, settings.base_url, settings.gguf
    name = model.casefold() if model is not None else ""

    if gguf is not None and base_url is not None:
        if ranks["gguf"] == ranks["base_url"]:
            kind = UsageProblem if origin["gguf"].startswith("flag") else ConfigError
            raise kind(
                "gguf and base_url exclude each other: a file runs here, a URL is a server", hint="drop one of them"
            )
        if ranks["gguf"] < ranks["base_url"]:
            gguf = None
        else:
            base_url = None
    if base_url is not None and name == EMBEDDED:
        # Our own word, which no server knows: it overrides an exported OPENAI_BASE_URL, and --base-url overrides it.
        if ranks["model"] > ranks["base_url"]:
            base_url = None
        elif ranks["model"] < ranks["base_url"]:
            model, name = None, ""
    if gguf is not None and model is not None and name != EMBEDDED:
        if ranks["model"] < ranks["gguf"]:
            model = None
        elif ranks["model"] > ranks["gguf"] and (settings.api_key is not None or name == EMBEDDED_MODEL):
            gguf = None

    if gguf is not None:
        target = embedded_target(settings, gguf.stem)
        reason = f"gguf names {gguf.name} ({origin['gguf']})"
        if model is None or name in (EMBEDDED, gguf.stem.casefold()):
            return TargetChoice(target, gguf.stem, reason, gguf=gguf)
        if not settings.fallback_to_embedded:
            switch = _switch(origins)
            raise ConfigError(
                f"{reason}, not {model}, and {switch} allows no other model", hint="drop one of the three"
            )
        warning = f"{model} was asked for, but {reason}: answering with {target.name}"
        return TargetChoice(target, model, reason, warning, gguf)
    if base_url is not None:
        return TargetChoice(
            server_target(settings, base_url, model or ""), model or "", f"base_url is set ({origin['base_url']})"
        )
    if name in (EMBEDDED, EMBEDDED_MODEL):
        return TargetChoice(embedded_target(settings), EMBEDDED_MODEL, f"model names it ({origin['model']})")
    if settings.api_key is not None:
        model = model or DEFAULT_OPENAI_MODEL
        return TargetChoice(server_target(settings, OPENAI_URL, model), model, f"a key is set ({origin['api_key']})")
    target, reason = embedded_target(settings), "no API key and no base URL"
    if model is None:
        return TargetChoice(target, EMBEDDED_MODEL, reason)
    if not settings.fallback_to_embedded:
        switch = _switch(origins)
        raise ConfigError(
            f"{model} needs an API key, and {switch} keeps the embedded model from answering instead",
            hint=f"set OPENAI_API_KEY, name a server with --base-url, or drop {switch}",
        )
    return TargetChoice(
        target, model, reason, f"{model} needs an API key and none is set: answering with {target.name}"
    )


def _switch(origins: Mapping[str, str]) -> str:
    """What forbids the fallback, as the user wrote it."""
    origin = origins.get("fallback_to_embedded", "default")
    return f"fallback_to_embedded = false ({origin})" if origin.startswith(("environment", "file")) else "--no-fallback"


def embedded_target(settings: Settings, model: str = EMBEDDED_MODEL) -> Target:
    """The embedded server with *model*."""
    return Target(EMBEDDED, model, is_deterministic=True, finish_reason_optional=settings.finish_reason_optional)


def server_target(settings: Settings, base_url: str, model: str, *, with_key: bool = True) -> Target:
    """A server; *with_key*: it is the one that the key was meant for. Raises: ConfigError if its URL holds the key."""
    key = settings.api_key.get_secret_value() if settings.api_key else None
    # The URL is shown, logged and kept in many places, none of which knows what of it is a secret.
    if key and len(key) >= _KEY_CHARS and key in unquote(base_url):
        raise ConfigError("the base URL holds the API key", hint="leave it out there: it is sent as a header")
    return Target(
        base_url,
        model,
        api_key=settings.api_key.get_secret_value() if settings.api_key and with_key else None,
        # Not a promise of the server: a replay is compared before anything is shown, so trying is safe.
        is_deterministic=settings.seed is not None or settings.temperature == 0,
        finish_reason_optional=settings.finish_reason_optional,
    )
