"""The events of a run as JSON rows, in bounded memory."""

from __future__ import annotations

from collections import deque
from typing import Any

from utils.events import Event, as_json

__all__ = ["EVENTS_KEPT_EACH_END", "EventLog"]

EVENTS_KEPT_EACH_END = 512
"""Events kept from the start and from the end of the run; those between are counted, not kept."""


class EventLog:
    """The first 512 and the newest 512 events. Rows are made at once.

    A kept exception would keep its frames, and with them the connection they hold, alive.
    """

    def __init__(self) -> None:
        self.left_out = 0
        """Events that are no longer in `rows`."""
        self._first: list[dict[str, Any]] = []
        self._newest: deque[dict[str, Any]] = deque(maxlen=EVENTS_KEPT_EACH_END)

    def add(self, event: Event, t_s: float) -> None:
        """Keep *event*, which happened *t_s* seconds after the start of the run."""
        row = as_json(event, t_s)
        if len(self._first) < EVENTS_KEPT_EACH_END:
            self._first.append(row)
            return
        self.left_out += len(self._newest) == EVENTS_KEPT_EACH_END
        self._newest.append(row)

    def rows(self) -> tuple[dict[str, Any], ...]:
        """The kept events, in order."""
        return (*self._first, *self._newest)
