"""What a breaker tells of its changes of state: the newest ones to whoever asks, each one to whoever listens. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import Final

from utils.resilience.breaker_reports import StateChange

__all__ = ["ChangeLog"]

_KEPT: Final = 16
"""An attempt makes two or three; whoever asks so seldom that more have come wants the state, not its history."""


class ChangeLog:
    """The newest 16 changes, and the listeners, of the breaker whose *lock* this is."""

    __slots__ = ("_listeners", "_lock", "_newest", "untold")

    def __init__(self, lock: Lock) -> None:
        self._lock = lock
        self._newest: deque[StateChange] = deque(maxlen=_KEPT)
        self._listeners: dict[object, Callable[[StateChange], None]] = {}
        self.untold: list[StateChange] = []
        """What the listeners have not heard yet."""

    def record(self, change: StateChange) -> None:
        """Keep *change*. The caller holds the lock, and calls `tell` when it no longer does."""
        self._newest.append(change)
        if self._listeners:
            self.untold.append(change)

    def since(self, generation: int) -> tuple[StateChange, ...]:
        """The changes of a higher *generation* that are kept, oldest first."""
        with self._lock:
            return tuple(change for change in self._newest if change.generation > generation)

    def add_listener(self, listener: Callable[[StateChange], None]) -> Callable[[], None]:
        """Call *listener* with every change from now on; returns what removes it again, once or more often."""
        registration = object()  # so that one who listens twice is removed once
        with self._lock:
            self._listeners = {**self._listeners, registration: listener}

        def remove() -> None:
            with self._lock:
                self._listeners = {key: kept for key, kept in self._listeners.items() if key is not registration}

        return remove

    def tell(self) -> None:
        """Let the listeners hear what they have not. The caller does not hold the lock: they may use the breaker."""
        with self._lock:
            changes, self.untold = self.untold, []
        for change in changes:
            for listener in self._listeners.values():
                listener(change)
