"""Ctrl-C and SIGTERM in a chat, between its answers (which handle them for themselves) and outside of its editor."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from utils.clock import monotonic
from utils.errors import Cancelled, Stopped, Terminated

__all__ = ["TWICE_S", "ChatSignals"]

TWICE_S = 1.0
"""A Ctrl-C so soon after another one leaves."""


class ChatSignals:
    """Ends the task that entered `handled`, by cancelling it: the editor then puts the terminal in order, and could not
    if an exception came out of the middle of it. A signal that is ignored stays ignored.
    """

    def __init__(self) -> None:
        self.stopped: Stopped | None = None
        """Why the task was cancelled, if we did it."""
        self._pressed_s = -TWICE_S
        self._task: asyncio.Task[Any] | None = None

    @property
    def was_just_pressed(self) -> bool:
        """Whether a Ctrl-C now would be the second of two."""
        return monotonic() - self._pressed_s < TWICE_S

    def press(self) -> None:
        """Note that Ctrl-C was pressed, other than at the prompt."""
        self._pressed_s = monotonic()

    @contextmanager
    def handled(self, *, with_ctrl_c: bool) -> Iterator[None]:
        """SIGTERM leaves. *with_ctrl_c*: a single Ctrl-C has come too late for the answer that it meant to stop, and
        does nothing; two leave. Without it Ctrl-C is what it was before.
        """
        self._task = asyncio.current_task()
        numbers = (signal.SIGTERM, signal.SIGINT) if with_ctrl_c else (signal.SIGTERM,)
        before = {number: signal.getsignal(number) for number in numbers}
        before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
        try:
            for number in before:
                signal.signal(number, self._handle)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and not self.was_just_pressed:
            self.press()
            return
        self.stopped = Cancelled("cancelled") if number == signal.SIGINT else Terminated("terminated")
        assert self._task is not None
        self._task.get_loop().call_soon_threadsafe(self._task.cancel)
