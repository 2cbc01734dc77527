"""How a fetch of the model looks: a progress bar on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from utils.render.wrapping import DEFAULT_SIZE, terminal_size, wrapped

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from utils.embedded_model.fetch import FetchProgress

__all__ = ["FetchProgressBar"]

_STEP = 0.25
"""A plain line is written when this much more of the download has arrived."""

_TITLES = {
    "waiting": "Another process is fetching the model; waiting for it",
    "downloading": "Fetching the model",
    "extracting": "Extracting the model",
}


class FetchProgressBar:
    """The progress callback of `fetch`, as a context manager; writes to *stream* (standard error by default).

    Nothing is written, and rich is not imported, before the first report: a fetch that finds its file in place is
    silent. May be called from another thread than the one that entered it. Leaving removes the bar and restores the
    terminal, also after an error.
    """

    def __init__(self, stream: TextIO | None = None, *, is_terminal: bool | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._is_terminal = self._stream.isatty() if is_terminal is None else is_terminal
        self._started_s = time.monotonic()
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._phase = ""
        self._next_line = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __call__(self, report: FetchProgress) -> None:
        """Show *report*."""
        if report.phase == "installed":
            self._close()
            self._line(
                f"Model {report.model.name} is ready: {report.total_bytes / 1e6:.0f} MB in {str(report.path)!r}, "
                f"{time.monotonic() - self._started_s:.1f} s"
            )
            return
        is_new = report.phase != self._phase
        if is_new:
            self._phase = report.phase
            self._next_line = 0.0
            if report.phase == "downloading":
                self._close()
                self._line(
                    f"Fetching {report.model.name} ({report.model.licence}, {report.total_bytes / 1e6:.0f} MB) "
                    f"into {str(report.path.parent)!r}; this happens once"
                )
            elif not self._is_terminal:
                self._line(_TITLES[report.phase])
        if self._is_terminal:
            self._draw(report, is_new=is_new)
        elif report.phase == "downloading":
            self._step(report)

    def _step(self, report: FetchProgress) -> None:
        share = report.done_bytes / report.total_bytes if report.total_bytes else 1.0
        if share < max(self._next_line, _STEP):
            return
        self._next_line = (share // _STEP + 1) * _STEP
        self._line(f"{share:4.0%}  {report.done_bytes / 1e6:.0f} of {report.total_bytes / 1e6:.0f} MB")

    def _draw(self, report: FetchProgress, *, is_new: bool) -> None:
        if self._progress is None:
            self._progress = self._start()
        if self._task is None or is_new:
            if self._task is not None:
                self._progress.remove_task(self._task)
            total = None if report.phase == "waiting" else report.total_bytes
            self._task = self._progress.add_task(_TITLES[report.phase], total=total)
        self._progress.update(self._task, completed=report.done_bytes)

    def _start(self) -> Progress:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=Console(file=self._stream, force_terminal=True),
            transient=True,
        )
        progress.start()
        return progress

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
            self._task = None

    def _line(self, text: str) -> None:
        # Nobody reads standard error any more: no reason to fail.
        width = self._columns() if self._is_terminal else None
        with suppress(BrokenPipeError):
            self._stream.writelines(f"{row}\n" for row in wrapped(text, width))
            self._stream.flush()

    def _columns(self) -> int:
        try:
            return terminal_size(self._stream.fileno())[0]
        except OSError:  # a stream without a descriptor
            return DEFAULT_SIZE[0]
