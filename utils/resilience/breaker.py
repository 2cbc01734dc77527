"""A circuit breaker in two steps, made for streams. Time comes in, nothing sleeps.

`admit(now)` gives a permit or refuses; whoever drains the stream reports on the permit, however much later that is. A
breaker around a function that returns a stream would see only successes.

    closed    --failures in a row, or a share of failed or slow calls-->  open
    open      --its time has passed, a permit is taken-->  half-open
    half-open --first content of a probe-->  closed      --the probe fails or is slow-->  open, for longer (capped)

A permit belongs to the generation (the period between two state changes) in which it was given; outcomes of an
earlier generation are ignored, so a late success cannot close a breaker that has opened since. Only the probe that
closes the breaker lives on in the new generation, so its failure after its first content counts. A probe that never
reports expires and releases its place without an outcome.

A cooldown is a server's wish to be left alone (Retry-After): it refuses calls in every state, and is no failure.

With a store, processes share what they know of a target: one that finds it open fails fast, and all of them together
have no more probes out than one of them may have. The store is asked at every admission.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from threading import Lock
from typing import Any

from utils.resilience.breaker_changes import ChangeLog
from utils.resilience.breaker_permit import Permit, Report
from utils.resilience.breaker_policy import BreakerPolicy, CallWindow
from utils.resilience.breaker_reports import BreakerState, BreakerStatistics, ChangeCause, Refused, StateChange
from utils.resilience.breaker_store import BreakerStore, ProbePlace, SharedState

__all__ = ["Breaker", "BreakerState", "BreakerStatistics", "ChangeCause", "Permit", "Refused", "StateChange"]

# Looking a member up in its class takes longer than a comparison.
_CLOSED, _OPEN, _HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
_FIRST_CONTENT, _SUCCEEDED, _FAILED, _RELEASED = (
    Report.FIRST_CONTENT,
    Report.SUCCEEDED,
    Report.FAILED,
    Report.RELEASED,
)

_ROUNDING_S = 1e-6
"""An instant this near has come: a timer may fire early by the resolution of its clock."""

_SHARED_ROUNDING_S = 0.05
"""What another clock counts as the rest of a wait that this one has just ended."""

_NOBODY_ELSE = ProbePlace("")


class Breaker:
    """The breaker of one target, for any number of threads and tasks. Copies of it are itself.

    *changes* replace fields of *policy*.  *rng* shortens open times by chance; without it there is no jitter.
    *key* names the target in *store*; with None for a store the breaker knows only this process.

    Invariants: half-open, at most `half_open_permits` are out at a time; no refusal asks to wait longer than
    `max_open_s` and `permit_s`; memory is bounded by `window_calls`.
    """

    def __init__(
        self,
        policy: BreakerPolicy | None = None,
        *,
        rng: random.Random | None = None,
        store: BreakerStore | None = None,
        key: str = "",
        **changes: Any,
    ) -> None:
        self.policy = replace(policy or BreakerPolicy(), **changes)
        self._rng = rng
        self._store = store
        self._key = key
        self._lock = Lock()
        self._log = ChangeLog(self._lock)
        self._state = _CLOSED
        self._generation = 0
        self._shared_generation = 0
        self._window = CallWindow(self.policy.window_calls, self.policy.window_s)
        self._failures_in_a_row = 0
        self._consecutive_opens = 0
        self._open_until_s = self._cooldown_until_s = float("-inf")
        self._probes: list[Permit] = []
        self._admitted = self._refused = self._succeeded = self._slow = self._failed = 0
        self._rate_limited = self._released = self._ignored = self._opened = 0

    def __copy__(self) -> Breaker:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Breaker:
        return self

    @property
    def generation(self) -> int:
        """The number of the present generation; it only grows."""
        return self._generation

    def changes_since(self, generation: int) -> tuple[StateChange, ...]:
        """The changes of state after *generation*, oldest first: the newest 16 at most.

        For whoever drives one attempt: keep `generation`, use the breaker and the permit, then ask here, in one's own
        thread, and go on from the generation of the last change. What others have changed meanwhile is among it.
        """
        # Without the lock: whoever made a change sees its number, and who sees the number waits in `since` for it.
        return () if generation >= self._generation else self._log.since(generation)

    def add_listener(self, listener: Callable[[StateChange], None]) -> Callable[[], None]:
        """Call *listener* after every change of state, outside the lock; returns what removes it again.

        It may use the breaker and must not raise. It is called in the thread that made the change or in another one
        that used the breaker just then, so changes may reach it out of order: their generations tell. One last call
        may be under way in another thread when it is removed.
        """
        return self._log.add_listener(listener)

    def admit(self, now: float) -> Permit | Refused:
        """A permit for one connection attempt at the instant *now* (seconds), or how long to stay away."""
        with self._lock:
            answer = self._answer(now)
            if isinstance(answer, Refused):
                self._refused += 1
            else:
                self._admitted += 1
        if self._log.untold:
            self._log.tell()
        return answer

    def statistics(self, now: float | None = None) -> BreakerStatistics:
        """Counts and state; with *now*, the window and the waiting time at that instant."""
        with self._lock:
            wait_s = None
            if now is not None:
                self._window.forget_old(now)
                wait_s = max(self._wait_s(now)[0], 0.0)
            return BreakerStatistics(
                state=self._state,
                generation=self._generation,
                retry_after_s=wait_s,
                failures_in_a_row=self._failures_in_a_row,
                consecutive_opens=self._consecutive_opens,
                window_calls=len(self._window),
                window_failures=self._window.failures,
                window_slow=self._window.slow,
                probes=sum(now is None or probe.expires_s > now for probe in self._probes),
                admitted=self._admitted,
                refused=self._refused,
                succeeded=self._succeeded,
                slow=self._slow,
                failed=self._failed,
                rate_limited=self._rate_limited,
                released=self._released,
                ignored=self._ignored,
                opened=self._opened,
            )

    # Everything below runs under the lock.

    def _answer(self, now: float, *, is_again: bool = False) -> Permit | Refused:
        if self._store is not None:
            self._load(now)
        if self._state is _CLOSED and now >= self._cooldown_until_s:
            return self._permit(now, "")
        wait_s, is_cooldown = self._wait_s(now)
        if wait_s > _ROUNDING_S:
            return Refused(wait_s, is_cooldown=is_cooldown)
        if self._state is _CLOSED:
            return self._permit(now, "")
        if self._state is _OPEN:
            self._enter(_HALF_OPEN, ChangeCause.OPEN_TIME_PASSED, now)
        self._drop_expired(now)
        if len(self._probes) >= self.policy.half_open_permits:
            return Refused(min(probe.expires_s for probe in self._probes) - now)
        place = self._acquired()
        if place.token is not None:
            permit = self._permit(now, place.token)
            self._probes.append(permit)
            return permit
        if place.wait_s > 0.0 or is_again:
            return Refused(min(place.wait_s, self.policy.permit_s) or _SHARED_ROUNDING_S)
        return self._answer(now, is_again=True)

    def _permit(self, now: float, place: str) -> Permit:
        return Permit(self._report, self._generation, now, self.policy.permit_s, place)

    def _wait_s(self, now: float) -> tuple[float, bool]:
        """How long no call may go out at all, and whether that is a cooldown."""
        cooldown_s = self._cooldown_until_s - now
        open_s = self._open_until_s - now if self._state is _OPEN else 0.0
        return max(open_s, cooldown_s), cooldown_s > open_s

    def _drop_expired(self, now: float) -> None:
        if self._probes:
            self._probes = [probe for probe in self._probes if probe.expires_s > now + _ROUNDING_S]

    def _report(self, permit: Permit, report: Report, now: float, retry_after_s: float | None) -> None:
        with self._lock:
            if not permit.is_open:
                return
            permit.is_open = report is _FIRST_CONTENT
            if report is _SUCCEEDED:
                self._succeeded += 1
                self._succeed(permit, now)
            elif report is _FIRST_CONTENT:
                self._first_content(permit, now)
            elif report is _FAILED:
                self._failed += 1
                self._extend_cooldown(now, retry_after_s)
                self._fail(permit, now, retry_after_s)
            elif report is _RELEASED:
                self._released += 1
                self._give_place_back(permit)
            else:
                self._rate_limited += 1
                self._give_place_back(permit)
                self._extend_cooldown(now, retry_after_s)
                if retry_after_s is not None:
                    self._publish(now)
        if self._log.untold:
            self._log.tell()

    def _first_content(self, permit: Permit, now: float) -> None:
        if permit.is_slow is not None:
            return
        limit_s = self.policy.slow_after_s
        permit.is_slow = limit_s is not None and now - permit.admitted_s > limit_s
        self._slow += permit.is_slow
        if not self._is_probe(permit, now):
            permit.keep_alive(now)
        elif permit.is_slow:
            self._open(ChangeCause.PROBE_SLOW, now)
        elif self._close(now):
            permit.generation = self._generation

    def _succeed(self, permit: Permit, now: float) -> None:
        if self._is_probe(permit, now):
            self._consecutive_opens = 0
            self._close(now)
        elif self._speaks_for_now(permit):
            was_troubled = self._failures_in_a_row or self._consecutive_opens
            self._failures_in_a_row = self._consecutive_opens = 0
            self._window.add(now, failed=False, slow=bool(permit.is_slow))
            if not self._opened_for_slowness(permit, now) and was_troubled:
                self._publish(now, ends_row=True)
        else:
            self._ignored += 1

    def _fail(self, permit: Permit, now: float, retry_after_s: float | None) -> None:
        policy, window = self.policy, self._window
        if self._is_probe(permit, now):
            self._failures_in_a_row += 1
            self._open(ChangeCause.PROBE_FAILED, now)
        elif self._speaks_for_now(permit) and self._counted(now):
            window.add(now, failed=True, slow=bool(permit.is_slow))
            if self._failures_in_a_row >= policy.failure_threshold:
                self._open(ChangeCause.FAILURES_IN_A_ROW, now)
            elif len(window) >= policy.minimum_calls and window.failures / len(window) >= policy.failure_rate:
                self._open(ChangeCause.FAILURE_RATE, now)
            elif not self._opened_for_slowness(permit, now) and retry_after_s is not None:
                self._publish(now)
        else:
            self._ignored += 1
            if retry_after_s is not None:
                self._publish(now)

    def _counted(self, now: float) -> bool:
        """Count one more failure in a row, of all processes; false if another generation has begun there."""
        self._failures_in_a_row += 1
        if self._store is None:
            return True
        standing = self._store.add_failure(
            self._key, generation=self._shared_generation, remembered_s=self.policy.window_s
        )
        if standing is not None and standing.generation != self._shared_generation:
            self._adopt(standing, now)
            return False
        if standing is not None:
            self._failures_in_a_row = standing.failures_in_a_row
        return True

    def _is_probe(self, permit: Permit, now: float) -> bool:
        """Whether the permit holds a place that has not expired."""
        return permit in self._probes and permit.expires_s > now

    def _speaks_for_now(self, permit: Permit) -> bool:
        """Whether a permit that is no probe belongs to the present, closed generation."""
        return permit.generation == self._generation and self._state is _CLOSED

    def _opened_for_slowness(self, permit: Permit, now: float) -> bool:
        policy, window = self.policy, self._window
        if not permit.is_slow or len(window) < policy.minimum_calls or window.slow / len(window) < policy.slow_rate:
            return False
        self._open(ChangeCause.SLOW_RATE, now)
        return True

    def _extend_cooldown(self, now: float, retry_after_s: float | None) -> None:
        if retry_after_s is not None:
            until_s = now + min(retry_after_s, self.policy.max_open_s)
            self._cooldown_until_s = max(self._cooldown_until_s, until_s)

    def _give_place_back(self, permit: Permit) -> None:
        if permit in self._probes:
            self._probes.remove(permit)
            if self._store is not None and permit.place:
                self._store.release_probe(self._key, permit.place)

    def _open(self, cause: ChangeCause, now: float) -> None:
        """Open, unless another process has decided otherwise meanwhile."""
        open_s = self.policy.open_time_s(self._consecutive_opens, self._rng)
        self._consecutive_opens += 1
        if self._offer(now, is_new=True, is_open=True, open_for_s=open_s):
            self._open_until_s = now + open_s
            self._opened += 1
            self._enter(_OPEN, cause, now)

    def _close(self, now: float) -> bool:
        """Close, unless another process has decided otherwise meanwhile; tells which."""
        self._failures_in_a_row = 0
        is_ours = self._offer(now, is_new=True, is_open=False, open_for_s=0.0)
        if is_ours:
            self._enter(_CLOSED, ChangeCause.PROBE_SUCCEEDED, now)
        return is_ours

    def _enter(self, state: BreakerState, cause: ChangeCause, now: float) -> None:
        before, self._state = self._state, state
        self._generation += 1
        self._probes = []
        if state is _CLOSED:
            self._window.clear()
        if state is not _OPEN:
            self._failures_in_a_row = 0
        if before is not state:
            open_for_s = self._open_until_s - now if state is _OPEN else 0.0
            self._log.record(StateChange(before, state, cause, now, self._generation, open_for_s))

    def _load(self, now: float) -> None:
        shared = None if self._store is None else self._store.load(self._key)
        if shared is None:
            return
        # The same number does not always mean the same decision: the file may have rested here but not elsewhere.
        if shared.generation != self._shared_generation or shared.is_open is (self._state is _CLOSED):
            self._adopt(shared, now)
            return
        self._adopt_cooldown(shared, now)
        self._consecutive_opens = shared.consecutive_opens
        if self._state is _CLOSED:
            self._failures_in_a_row = shared.failures_in_a_row

    def _adopt(self, shared: SharedState, now: float) -> None:
        """Believe what another process has found out."""
        self._shared_generation = shared.generation
        self._consecutive_opens = shared.consecutive_opens
        self._adopt_cooldown(shared, now)
        if shared.is_open:
            self._open_until_s = now + min(shared.open_for_s, self.policy.max_open_s)
            self._enter(_OPEN, ChangeCause.OTHER_PROCESS, now)
        else:
            self._enter(_CLOSED, ChangeCause.OTHER_PROCESS, now)
        self._failures_in_a_row = shared.failures_in_a_row

    def _adopt_cooldown(self, shared: SharedState, now: float) -> None:
        if shared.cooldown_for_s > _SHARED_ROUNDING_S:
            self._extend_cooldown(now, shared.cooldown_for_s)

    def _publish(self, now: float, *, ends_row: bool = False) -> None:
        """Tell the store of the cooldown, or with *ends_row* of a whole answer, within this generation."""
        if self._store is not None:
            self._offer(
                now,
                is_new=False,
                ends_row=ends_row,
                is_open=self._state is not _CLOSED,
                open_for_s=max(0.0, self._open_until_s - now) if self._state is _OPEN else 0.0,
            )

    def _offer(self, now: float, *, is_new: bool, is_open: bool, open_for_s: float, ends_row: bool = False) -> bool:
        """Offer the store a state, of a new generation or this one; false if another stands, which is adopted."""
        if self._store is None:
            return True
        offered = SharedState(
            generation=self._shared_generation + is_new,
            is_open=is_open,
            open_for_s=open_for_s,
            consecutive_opens=self._consecutive_opens,
            cooldown_for_s=max(0.0, self._cooldown_until_s - now),
            failures_in_a_row=self._failures_in_a_row,
            failures_for_s=self.policy.window_s if self._failures_in_a_row else 0.0,
        )
        standing = self._store.publish(self._key, offered, expected=self._shared_generation, ends_row=ends_row)
        if standing is not None:
            self._adopt(standing, now)
            return False
        self._shared_generation = offered.generation
        return True

    def _acquired(self) -> ProbePlace:
        if self._store is None:
            return _NOBODY_ELSE
        policy = self.policy
        return self._store.acquire_probe(
            self._key, generation=self._shared_generation, limit=policy.half_open_permits, ttl_s=policy.permit_s
        )
