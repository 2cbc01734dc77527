"""Who is asked when the first target fails: the names in `fallback` as targets, in order.

    NAME           the target of the settings file, with its own key and settings
    embedded       the embedded model, also by its own name
    MODEL          at the first target's server; else at `base_url`; else at OpenAI's
    URL            the model that this server offers
    MODEL@URL      that model there

A key travels to no other host than the one it was meant for: a fallback elsewhere is asked without a key.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from utils.errors import ConfigError
from utils.run_context import EMBEDDED, Target
from utils.settings_sources import BadValue, Given, Source, checked_base_url, model_and_url, server_of
from utils.targets import EMBEDDED_MODEL, OPENAI_URL, TargetChoice, choose_target, embedded_target, server_target
from utils.wording import mask_key_like, nearest, shown, url_for_people

if TYPE_CHECKING:
    from utils.settings import Loaded, Settings

__all__ = ["Fallback", "fallbacks_of"]

_HOST_LIKE = re.compile(
    r"(localhost(?=[:/]|$) | \d+\.\d+\.\d+\.\d+(?=[:/]|$) | \[[\da-fA-F:]+\] | [\w.-]+:\d{2,5}(?=/))", re.VERBOSE
)
"""A server whose scheme was forgotten. `llama3:8b` is none, and neither is `@cf/meta/llama-3`."""


@dataclass(frozen=True, slots=True)
class Fallback:
    """A target, and the settings that it is asked with."""

    target: Target
    settings: Settings
    gguf: Path | None = None
    """The file that the embedded server runs for it; None: the pinned model."""


def fallbacks_of(loaded: Loaded, choice: TargetChoice) -> tuple[Fallback, ...]:
    """The targets behind the one of *choice*, in the order in which they are to be asked.

    Left out is the target of *choice* itself, but where it was typed and is not only standing in. Left out where
    it only stands in, of which the user has been warned, are models that lack the same key.

    Raises: UsageProblem or ConfigError, by where the list comes from, for a name that is no target or names one that
    is in the chain already; ConfigError for a model whose key is missing. No error holds a key.
    """
    settings = loaded.settings
    source, _, label = loaded.origins.get("fallback", "flag --fallback").partition(" ")
    given = Given("fallback", settings.fallback, "flag" if source == "default" else cast(Source, source), label)
    secrets = (*loaded.secrets, *((settings.api_key.get_secret_value(),) if settings.api_key is not None else ()))
    first = _identity(choice.target)
    fallbacks: list[Fallback] = []
    seen = set()
    for name in settings.fallback:
        fallback, lacks_key = _fallback(name, loaded, choice, given, secrets)
        identity, told = _identity(fallback.target), mask_key_like(fallback.target.name, secrets)
        if identity in seen:
            raise given.error(f"{given.place} names {told} twice", hint="drop one of them")
        seen.add(identity)
        if identity == first and choice.fell_back is None and given.source == "flag":
            raise given.error(f"{given.place} names {told}, which is asked first", hint="drop it, or name another one")
        # A file that was given stands in for other reasons than a missing key, and its warning tells nothing of one.
        if lacks_key and (choice.fell_back is None or choice.gguf is not None):
            guess = nearest(name, loaded.targets)
            raise ConfigError(
                f"{given.place} names {mask_key_like(name, secrets)}, which needs an API key, and none is set",
                hint=f"did you mean the target {guess}?"
                if guess is not None and guess != name
                else "set OPENAI_API_KEY, name its server as MODEL@URL, or drop it",
            )
        if identity != first and not lacks_key:
            fallbacks.append(fallback)
    return tuple(fallbacks)


def _fallback(
    name: str, loaded: Loaded, choice: TargetChoice, given: Given, secrets: tuple[str, ...]
) -> tuple[Fallback, bool]:
    """What *name* stands for, and whether that is a model whose key is missing."""
    settings, general = loaded.settings, loaded.general or loaded.settings
    if name in loaded.fallbacks:
        own = loaded.fallbacks[name]
        chosen = choose_target(own.model_copy(update={"fallback_to_embedded": True}), origins={})
        target = chosen.target
        if chosen.fell_back is not None:
            target = server_target(own, OPENAI_URL, own.model or "")
        elif target.api_key is None and not target.is_embedded and _is_server_of(choice.target, target.base_url):
            target = dataclasses.replace(target, api_key=choice.target.api_key)
        return Fallback(target, own, chosen.gguf), chosen.fell_back is not None
    model, url = _parts(name, given, secrets)
    if name.casefold() in (EMBEDDED, EMBEDDED_MODEL):
        return Fallback(embedded_target(general), general), False
    home = general.base_url or OPENAI_URL
    if _is_server_of(choice.target, url or choice.target.base_url):
        return Fallback(server_target(settings, url or choice.target.base_url, model), settings), False
    lacks_key = not url and general.base_url is None and general.api_key is None
    url = url or home
    with_key = server_of(url) == server_of(home)
    return Fallback(server_target(general, url, model, with_key=with_key), general), lacks_key


def _is_server_of(target: Target, url: str) -> bool:
    """Whether *url* is at the server of *target*, to which its key may go."""
    return not target.is_embedded and server_of(url) == server_of(target.base_url)


def _parts(name: str, given: Given, secrets: tuple[str, ...]) -> tuple[str, str]:
    """The model and the checked URL of *name*, "" for what it leaves out."""
    model, url = model_and_url(name)
    if not url:
        if _HOST_LIKE.match(model.rpartition("@")[2]):
            raise given.error(
                f"{given.place} names a server without its scheme: {shown(name, secrets)}",
                hint="write the whole URL, such as http://localhost:8080/v1 or MODEL@http://localhost:8080/v1",
            )
        return model, ""
    told = shown(f"{model}@{url_for_people(url)}" if model else url_for_people(url), secrets)
    if not model and name.startswith("@"):
        # Perhaps a variable of the shell that is not set: another model than the one that was meant would answer.
        raise given.error(
            f"{given.place} names no model before the @: {told}", hint="write MODEL@URL, or the URL alone"
        )
    try:
        return model, checked_base_url(url)
    except BadValue as bad:
        hint = mask_key_like(bad.hint, secrets)
        raise given.error(f"{given.place} {bad.reason}: {told}", hint=hint) from None


def _identity(target: Target) -> tuple[object, ...]:
    """Two spellings of one target are equal in this."""
    if target.is_embedded:
        return EMBEDDED, target.model
    return server_of(target.base_url), urlsplit(target.base_url).path, target.model
