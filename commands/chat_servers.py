"""Which server a chat asks, and which key goes to it, as `/model NAME` changes both. Pure.

A key goes to no other server than the one that it is meant for: that of the start, that of its target, or that which
the settings name for it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

from utils.run_context import EMBEDDED, Target
from utils.settings import Loaded
from utils.settings_sources import model_and_url, server_of
from utils.targets import OPENAI_URL

__all__ = ["ChatServers"]

_Server = tuple[str, str, int] | None


class ChatServers:
    """What was typed at the start, the server that was asked last, and the keys of all that were asked."""

    def __init__(self, typed: Mapping[str, object], loaded: Loaded, target: Target) -> None:
        self._typed = typed
        self._typed_target = typed.get("model") if loaded.target == (typed.get("model"), "flag --model") else None
        self._is_key_general = loaded.target is None and not (target.is_embedded and loaded.targets)
        """Whether a typed key is meant for the server that the settings name, and not for a target of the file."""
        base_url = typed.get("base_url")
        self._server = base_url if isinstance(base_url, str) else None
        """The server that a model's name alone is one of; None: the one that the settings name."""
        self._keys: dict[_Server, str] = {}
        self.is_key_withheld = False
        """Whether the server that is asked now gets no key because that is meant for another one."""
        home_url, home_key = loaded.home
        if home_key is not None and server_of(home_url) is not None:
            self._keys[server_of(home_url)] = home_key
        self.remember(self._server, loaded, target)

    def changes(self, name: str, targets: Collection[str]) -> tuple[dict[str, object], dict[str, str], str | None]:
        """The flags that change when *name* is to be asked: a target, `embedded`, MODEL, URL or MODEL@URL.

        Also the variables that change, and the server, for `remember`.
        """
        if name in targets:
            key = self._typed.get("api_key") if name == self._typed_target else None
            return {"model": name, "base_url": None, "gguf": None, "api_key": key}, {}, self._server
        model, url = model_and_url(name)
        is_embedded = model.casefold() == EMBEDDED and not url
        # A name alone is a model of the server that was asked last; the embedded one needs no server.
        server = url or self._server
        key = self._typed.get("api_key") if self._is_key_general else None
        flags = {
            "model": model or None,
            "base_url": None if is_embedded else server,
            "gguf": None if server and not is_embedded else self._typed.get("gguf"),
            "api_key": self._keys.get(server_of(server)) if server else key,
        }
        # Fallbacks without a URL stay those of the server.
        return flags, {"KAYGRAPH_BASE_URL": server} if is_embedded and server else {}, server

    def without_foreign_key(self, loaded: Loaded) -> Loaded:
        """*loaded* without a key that is meant for another server than the one that the settings name now."""
        settings = loaded.settings
        key = settings.api_key.get_secret_value() if settings.api_key is not None else None
        home = server_of(settings.base_url or OPENAI_URL)
        is_foreign = loaded.target is None and key is not None and self._keys.get(home) != key
        is_typed = loaded.target is None and key is None and self._typed.get("api_key") is not None
        self.is_key_withheld = is_foreign or is_typed
        if not is_foreign:
            return loaded
        return dataclasses.replace(loaded, settings=settings.model_copy(update={"api_key": None}))

    def remember(self, server: str | None, loaded: Loaded, target: Target) -> None:
        """*target* is asked from now on, a model of *server*."""
        self._server = server
        if not target.is_embedded:
            if loaded.target is not None:
                self._server = target.base_url
            if target.api_key is not None:
                self._keys[server_of(target.base_url)] = target.api_key
