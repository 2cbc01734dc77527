"""The breakers of all targets of a process: one each, made when it is first asked for."""

from __future__ import annotations

import hashlib
import random
from threading import Lock
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from utils.resilience.breaker import Breaker, BreakerStatistics
from utils.resilience.breaker_policy import BreakerPolicy
from utils.resilience.breaker_store import BreakerStore
from utils.run_context import EMBEDDED, Target

__all__ = ["TargetStates", "target_key"]


def target_key(base_url: str, model: str) -> str:
    """The name of a target in a store: the same for every spelling of its address, and telling nobody what it is.

    Scheme and host in any case, a final slash and the user's name and password make no difference.
    """
    place = base_url
    if base_url != EMBEDDED:
        parts = urlsplit(base_url)
        host = parts.netloc.rpartition("@")[2].lower()
        place = urlunsplit((parts.scheme.lower(), host, parts.path.rstrip("/"), parts.query, ""))
    # An address may hold a secret in its path or query; a digest of it may lie on the disk.
    return hashlib.sha256(f"{place}\n{model}".encode()).hexdigest()[:32]


class TargetStates:
    """Gives the breaker of a target (base URL, model). For any number of threads; copies of it are itself.

    With *store*, processes share what they know, except of the embedded model: each process has its own child.
    Runs with simulated failures must have None, or real runs would be refused for failures that never were.
    """

    def __init__(
        self,
        policy: BreakerPolicy | None = None,
        *,
        rng: random.Random | None = None,
        store: BreakerStore | None = None,
    ) -> None:
        self._policy = policy
        self._rng = rng
        self._store = store
        self._lock = Lock()
        self._breakers: dict[str, Breaker] = {}
        self._names: dict[str, str] = {}

    def __copy__(self) -> TargetStates:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> TargetStates:
        return self

    def breaker(self, target: Target) -> Breaker:
        """The breaker of *target*: the same object at every call."""
        key = target_key(target.base_url, target.model)
        with self._lock:
            if key not in self._breakers:
                store = None if target.is_embedded else self._store
                self._breakers[key] = Breaker(self._policy, rng=self._rng, store=store, key=key)
                self._names[key] = target.name
            return self._breakers[key]

    def statistics(self, now: float | None = None) -> dict[str, BreakerStatistics]:
        """The figures of each target under the name it is shown by."""
        with self._lock:
            breakers = [(self._names[key], breaker) for key, breaker in self._breakers.items()]
        return {name: breaker.statistics(now) for name, breaker in breakers}
