"""Notices an answer that has begun to repeat itself for good, and says where to cut it. Pure.

`metrics.quality.find_repetition` tells that a text ends in an exact repetition: enough for a figure, too little to cut
an answer. Lists, tables, code and refrains repeat too, a little. What is asked for here before anything is cut:

    the repeated unit                               repeats    characters covered
    prose, 40 characters or more                    4          160
    prose, 12 to 39 characters                      6          120
    prose, less than 12                             20         200
    tables, code, data (a bracket, |, ;, =, indent) 8          400
    no word in it (digits, hexadecimal, rulers)     20         800

A loop with something that counts up in it ("Step 7", "Step 8") is not exact and is not found: tables and listings look
just the same. A user who asks for a hundred identical lines is cut, too; that is why cutting must be asked for.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

from utils.events import Adapted
from utils.metrics.quality import find_repetition
from utils.run_context import Parameters

__all__ = ["Loop", "LoopGuard", "resampled"]

_CHECK_EVERY_CHARS = 64
_WINDOW_CHARS = 3_400
"""Room for eight times the longest unit (400) and one check: a loop is found before its beginning leaves the window."""

_LETTER = re.compile(r"[^\W\d_]")
_HEXADECIMAL = re.compile(r"\b(?:0x)?[0-9a-fA-F]+\b")
_STRUCTURED = re.compile(r"[][{}|;=<>\t]|^ {2,}", re.MULTILINE)
_MAX_TEMPERATURE = 1.2
_LEAST_TEMPERATURE = 0.7
"""Below it a small model that has repeated itself does so again: the repeated words are the likeliest ones."""
_TEMPERATURE_STEP = 0.2


@dataclass(frozen=True, slots=True)
class Loop:
    """From character *starts_at* on the text repeats *period_chars* characters; it was *seen_at* characters long then.

    The first *keep_chars* characters hold the unit no more than once and end with a line, a sentence or a word, without
    white space behind: what a continuation goes on from.
    """

    starts_at: int
    period_chars: int
    keep_chars: int
    seen_at: int

    @property
    def repeats(self) -> float:
        """How many times the unit had been written when the loop was seen."""
        return (self.seen_at - self.starts_at) / self.period_chars


class LoopGuard:
    """Feed it the answer's text; it returns a `Loop` once, and nothing after it. A continuation gets its own guard.

    *offset* is the number of characters before this text, for the positions. Looks every 64 characters of the whole
    text, so what it finds does not depend on how the text was cut into chunks.
    """

    def __init__(self, *, offset: int = 0) -> None:
        self.loop: Loop | None = None
        """The loop that was found, if any."""
        self._chars = offset
        """Characters up to the end of the window."""
        self._window = ""
        self._pending: list[str] = []
        self._pending_chars = 0

    def feed(self, text: str) -> Loop | None:
        """The loop in which the text ends now, if it does; what follows it in *text* is not looked at."""
        if self.loop is not None:
            return None
        self._pending.append(text)
        self._pending_chars += len(text)
        if self._pending_chars < _CHECK_EVERY_CHARS:
            return None
        pending = "".join(self._pending)
        whole = len(pending) - len(pending) % _CHECK_EVERY_CHARS
        for start in range(0, whole, _CHECK_EVERY_CHARS):
            block = pending[start : start + _CHECK_EVERY_CHARS]
            self._window = (self._window + block)[-_WINDOW_CHARS:]
            self._chars += len(block)
            self.loop = self._look()
            if self.loop is not None:
                self._pending = []
                self._window = ""
                return self.loop
        self._pending = [pending[whole:]]
        self._pending_chars = len(pending) - whole
        return None

    def _look(self) -> Loop | None:
        window = self._window
        found = find_repetition(window)
        if found is None:
            return None
        period = found.period_chars
        start = len(window) - found.covered_chars
        repeats, covered = _needed(window[-period:])
        if found.repeats < repeats or found.covered_chars < covered:
            return None
        before = self._chars - len(window)
        return Loop(before + start, period, before + _keep(window, start, period), self._chars)


def resampled(parameters: Parameters, loop: Loop, *, attempt: int) -> tuple[Parameters, Adapted]:
    """Other sampling parameters for continuation number *attempt* (1-based) after *loop*, and the event that tells.

    The temperature rises to at least 0.7, by 0.2 per attempt, to at most 1.2 (a higher one stays); no temperature is
    the server's own, taken as 0.7. A seed that was given moves on, or the same words could come again.
    """
    if attempt < 1:
        raise ValueError(f"attempt counts from 1, got {attempt}")
    given = parameters.temperature
    base = _LEAST_TEMPERATURE if given is None else given
    raised = max(_LEAST_TEMPERATURE, base + _TEMPERATURE_STEP * attempt)
    temperature = round(max(base, min(_MAX_TEMPERATURE, raised)), 3)
    seed = None if parameters.seed is None else parameters.seed + attempt
    changed = dataclasses.replace(parameters, temperature=temperature, seed=seed)
    reason = (
        f"the answer repeats {loop.period_chars} characters {loop.repeats:.0f} times from character {loop.starts_at} on"
    )
    return changed, Adapted("sampling", _sampling(parameters), _sampling(changed), reason)


def _needed(unit: str) -> tuple[int, int]:
    """(repeats, covered characters) that make a loop of this *unit*; see the table above."""
    # Twice, as the unit begins anywhere in a word or line.
    twice = unit + unit
    if _LETTER.search(_HEXADECIMAL.sub("", twice)) is None:
        return 20, 800
    if _STRUCTURED.search(twice):
        return 8, 400
    if len(unit) >= 40:
        return 4, 160
    return (6, 120) if len(unit) >= 12 else (20, 200)


def _keep(window: str, start: int, period: int) -> int:
    """The last good place to cut in the first unit, which stands at *start*; behind it, if it has none."""
    end = start + period
    unit = window[start:end]
    for mark in ("\n", ". ", "! ", "? ", " "):
        place = unit.rfind(mark)
        if place >= 0:
            end = start + place + len(mark)
            break
    return len(window[:end].rstrip())


def _sampling(parameters: Parameters) -> str:
    temperature, seed = parameters.temperature, parameters.seed
    told = "the server's temperature" if temperature is None else f"temperature {temperature:g}"
    return told if seed is None else f"{told}, seed {seed}"
