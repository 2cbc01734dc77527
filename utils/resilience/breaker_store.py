"""What the breakers of several processes share about a target, and the port to whatever keeps it. Pure.

All times are durations from the moment of the call, so processes need no common clock and a store may keep them as
expiries. A store never raises: one that is out of order knows nothing, accepts everything and grants every place.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Protocol

from utils.clock import Clock

__all__ = ["BreakerStore", "MemoryStore", "ProbePlace", "SharedState", "merged", "with_failure"]


@dataclass(frozen=True, slots=True)
class SharedState:
    """One target, as all processes see it; durations in seconds, 0 if they have passed.

    *generation* counts the openings and closings. An open target whose *open_for_s* has passed is half-open.
    """

    generation: int
    is_open: bool = False
    open_for_s: float = 0.0
    consecutive_opens: int = 0
    cooldown_for_s: float = 0.0
    failures_in_a_row: int = 0
    failures_for_s: float = 0.0
    """How long the failures in a row still count."""

    def later(self, seconds: float) -> SharedState:
        """The same state *seconds* later."""
        failures_for_s = max(0.0, self.failures_for_s - seconds)
        return replace(
            self,
            open_for_s=max(0.0, self.open_for_s - seconds),
            cooldown_for_s=max(0.0, self.cooldown_for_s - seconds),
            failures_in_a_row=self.failures_in_a_row if failures_for_s else 0,
            failures_for_s=failures_for_s,
        )


@dataclass(frozen=True, slots=True)
class ProbePlace:
    """A place among the half-open probes: granted if there is a *token* (empty: nothing to give back).

    Without one, a place may be free in *wait_s* seconds; 0 means that the target has moved on: load it again.
    """

    token: str | None
    wait_s: float = 0.0


class BreakerStore(Protocol):
    """Where breakers keep what they share. Every call is atomic among processes, quick, and never raises."""

    def load(self, key: str) -> SharedState | None:
        """What is known of the target *key*; None if nothing."""
        ...

    def publish(self, key: str, state: SharedState, *, expected: int, ends_row: bool = False) -> SharedState | None:
        """Offer *state* in place of the generation *expected*: None if it stands now, else what stands (see `merged`).

        A new generation takes the places of all probes of the one before it.
        """
        ...

    def add_failure(self, key: str, *, generation: int, remembered_s: float) -> SharedState | None:
        """Count one more failure in a row (see `with_failure`); what stands now, None if that cannot be told."""
        ...

    def acquire_probe(self, key: str, *, generation: int, limit: int, ttl_s: float) -> ProbePlace:
        """One of the *limit* places of that generation, for *ttl_s* seconds."""
        ...

    def release_probe(self, key: str, token: str) -> None:
        """Give the place back before it expires; an unknown token is nobody's place."""
        ...


def merged(
    standing: SharedState | None, offered: SharedState, expected: int, *, ends_row: bool = False
) -> tuple[SharedState, bool]:
    """What stands after *offered*, and whether the offer was accepted.

    Accepted if nothing is known, or the generation *expected* stands; everything else was decided in ignorance of what
    stands. An offer within that generation leaves its openness as it is, and unless it *ends_row* (an answer was whole)
    also what is counted in a row, where others may have counted since it was read. A longer cooldown always stays: it
    is the server's word.
    """
    if standing is None:
        return offered, True
    cooldown_for_s = max(standing.cooldown_for_s, offered.cooldown_for_s)
    if standing.generation != expected:
        return replace(standing, cooldown_for_s=cooldown_for_s), False
    if offered.generation != expected:
        return replace(offered, cooldown_for_s=cooldown_for_s), True
    if ends_row:
        standing = replace(standing, consecutive_opens=0, failures_in_a_row=0, failures_for_s=0.0)
    return replace(standing, cooldown_for_s=cooldown_for_s), True


def with_failure(standing: SharedState | None, generation: int, remembered_s: float) -> SharedState:
    """One more failure in a row, remembered for *remembered_s* seconds; it changes nothing in another generation."""
    if standing is None:
        standing = SharedState(generation)
    elif standing.generation != generation:
        return standing
    return replace(standing, failures_in_a_row=standing.failures_in_a_row + 1, failures_for_s=remembered_s)


class MemoryStore:
    """A store for the breakers of one process and one thread, such as in a test. *clock*: seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._states: dict[str, tuple[float, SharedState]] = {}
        self._probes: dict[str, dict[str, float]] = {}
        self._tokens = itertools.count(1)

    def load(self, key: str) -> SharedState | None:
        """See `BreakerStore`."""
        if key not in self._states:
            return None
        written_s, state = self._states[key]
        return state.later(self._clock() - written_s)

    def publish(self, key: str, state: SharedState, *, expected: int, ends_row: bool = False) -> SharedState | None:
        """See `BreakerStore`."""
        standing = self.load(key)
        result, is_accepted = merged(standing, state, expected, ends_row=ends_row)
        self._states[key] = (self._clock(), result)
        if standing is None or standing.generation != result.generation:
            self._probes.pop(key, None)
        return None if is_accepted else result

    def add_failure(self, key: str, *, generation: int, remembered_s: float) -> SharedState | None:
        """See `BreakerStore`."""
        result = with_failure(self.load(key), generation, remembered_s)
        self._states[key] = (self._clock(), result)
        return result

    def acquire_probe(self, key: str, *, generation: int, limit: int, ttl_s: float) -> ProbePlace:
        """See `BreakerStore`."""
        standing, now = self.load(key), self._clock()
        if standing is not None and standing.generation != generation:
            return ProbePlace(None)
        places = {token: expiry_s for token, expiry_s in self._probes.get(key, {}).items() if expiry_s > now}
        self._probes[key] = places
        if len(places) >= limit:
            return ProbePlace(None, min(places.values()) - now)
        token = str(next(self._tokens))
        places[token] = now + ttl_s
        return ProbePlace(token)

    def release_probe(self, key: str, token: str) -> None:
        """See `BreakerStore`."""
        self._probes.get(key, {}).pop(token, None)
