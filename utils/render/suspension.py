"""Ctrl-Z: the live region leaves the screen before the shell's prompt comes, and returns with the program."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import TYPE_CHECKING

from utils.events import Event
from utils.run_report import RunReport

if TYPE_CHECKING:
    from utils.render.screen import Screen

__all__ = ["Suspension"]


class Suspension:
    """Handles SIGTSTP from its construction to `close`: clears *screen*, stops the process, draws again.

    The process is stopped by the signal's default action, so that the shell sees what it expects, and a process
    without a shell to wake it is not stopped at all. Does nothing outside of the main thread, where signals cannot be
    handled, on systems without the signal, and if it is ignored or somebody else's.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._is_installed = (
            hasattr(signal, "SIGTSTP")
            and threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL
        )
        if self._is_installed:
            signal.signal(signal.SIGTSTP, self._stop)

    def handle(self, event: Event, now: float) -> None:
        """Nothing: only the signal counts."""

    def finish(self, report: RunReport) -> None:
        """Nothing to say."""

    def close(self) -> None:
        """Give the signal back."""
        if self._is_installed:
            self._is_installed = False
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._screen.suspend()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        # Here the program goes on, after SIGCONT.
        signal.signal(signal.SIGTSTP, self._stop)
        self._screen.resume()
