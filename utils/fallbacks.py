"""Who is asked when the first target fails: the names in `fallback` as targets, in order.

    embedded       the embedded model, also by its own name
    MODEL          at the first target's server; else at `base_url`; else at OpenAI's
    URL            the model that this server offers
    MODEL@URL      that model there

The key travels to no other host than the one it was meant for: a fallback elsewhere is asked without a key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from utils.errors import ConfigError
from utils.run_context import EMBEDDED, Target
from utils.settings_sources import BadValue, Given, Source, checked_base_url, model_and_url
from utils.targets import EMBEDDED_MODEL, OPENAI_URL, TargetChoice, embedded_target, server_target
from utils.wording import mask_key_like, shown, url_for_people

if TYPE_CHECKING:
    from utils.settings import Settings

__all__ = ["fallback_targets", "origin"]

_PORTS = {"http": 80, "https": 443}
_HOST_LIKE = re.compile(
    r"(localhost(?=[:/]|$) | \d+\.\d+\.\d+\.\d+(?=[:/]|$) | \[[\da-fA-F:]+\] | [\w.-]+:\d{2,5}(?=/))", re.VERBOSE
)
"""A server whose scheme was forgotten. `llama3:8b` is none, and neither is `@cf/meta/llama-3`."""


def fallback_targets(settings: Settings, choice: TargetChoice, *, origins: Mapping[str, str]) -> tuple[Target, ...]:
    """The targets behind the one of *choice*, in the order in which they are to be asked.

    Left out is the target of *choice* itself, but where it was typed and is not only standing in. Left out where
    it only stands in, of which the user has been warned, are models that lack the same key.

    Raises: UsageProblem or ConfigError, by where the list comes from, for a name that is no target or names one that
    is in the chain already; ConfigError for a model whose key is missing. No error holds a key.
    """
    source, _, label = origins.get("fallback", "flag --fallback").partition(" ")
    given = Given("fallback", settings.fallback, "flag" if source == "default" else cast(Source, source), label)
    secrets = (settings.api_key.get_secret_value(),) if settings.api_key is not None else ()
    server = settings.base_url if choice.target.is_embedded else choice.target.base_url
    first = _identity(choice.target)
    targets: list[Target] = []
    seen = set()
    for name in settings.fallback:
        model, url = _parts(name, given, secrets)
        lacks_key = False
        if name.casefold() in (EMBEDDED, EMBEDDED_MODEL):
            target = embedded_target(settings)
        else:
            home = server or OPENAI_URL
            lacks_key = not url and server is None and settings.api_key is None
            url = url or home
            target = server_target(settings, url, model, with_key=origin(url) == origin(home))
        identity, told = _identity(target), mask_key_like(target.name, secrets)
        if identity in seen:
            raise given.error(f"{given.place} names {told} twice", hint="drop one of them")
        seen.add(identity)
        if identity == first and choice.fell_back is None and given.source == "flag":
            raise given.error(f"{given.place} names {told}, which is asked first", hint="drop it, or name another one")
        # A file that was given stands in for other reasons than a missing key, and its warning tells nothing of one.
        if lacks_key and (choice.fell_back is None or choice.gguf is not None):
            raise ConfigError(
                f"{given.place} names {mask_key_like(model, secrets)}, which needs an API key, and none is set",
                hint="set OPENAI_API_KEY, name its server as MODEL@URL, or drop it",
            )
        if identity != first and not lacks_key:
            targets.append(target)
    return tuple(targets)


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
    return (*origin(target.base_url), urlsplit(target.base_url).path, target.model)


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: what a key may not leave. A host that is not ASCII equals nothing but itself."""
    parts = urlsplit(url)
    host = (parts.hostname or "") if parts.netloc.isascii() else parts.netloc
    return parts.scheme, host, parts.port or _PORTS[parts.scheme]
