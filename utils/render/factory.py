"""Chooses the sinks of a run: who reads stdout and stderr decides, then the user's options.

rich is imported only when something is really drawn: piped output starts without its cost.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from utils.clock import Clock
from utils.metrics.snapshot import Snapshot, StageStates
from utils.render.extracting import ExtractingSink
from utils.render.figures import report_lines
from utils.render.harmless import can_encode, encoder_for
from utils.render.json_sinks import JsonLinesSink, JsonObjectSink
from utils.render.notices import NoticeSink
from utils.render.output import FdWriter
from utils.render.plain import PlainSink, PlainTerminalSink
from utils.render.sink import ColorChoice, RenderOptions, Sink
from utils.render.suspension import Suspension
from utils.render.wrapping import terminal_size
from utils.run_report import RunReport

if TYPE_CHECKING:
    from utils.events import Event
    from utils.render.screen import Screen

__all__ = ["FinalFigures", "Stream", "create_sinks", "inspect_stream"]

_READER_GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ESHUTDOWN})


@dataclass(frozen=True, slots=True)
class Stream:
    """What is known of a file descriptor to print on.

    can_draw: a terminal that moves its cursor.  color: `mono` is attributes without colours.  encoding: of a
    terminal; pipes and files get UTF-8.
    """

    fd: int
    is_tty: bool
    can_draw: bool
    color: Literal["color", "mono", "none"]
    encoding: str


def inspect_stream(fd: int, environ: Mapping[str, str], color: ColorChoice, encoding: str) -> Stream:
    """Look at *fd* and the environment.

    TERM unset, `dumb` or `unknown`, or CI set: nothing is drawn.  Colours with `auto`: NO_COLOR takes them away
    (attributes such as bold stay), else FORCE_COLOR gives them, else a capable terminal has them.
    """
    try:
        is_tty = os.isatty(fd)
    except OSError:
        is_tty = False
    is_smart = os.name == "nt" or environ.get("TERM", "") not in ("", "dumb", "unknown")
    can_draw = is_tty and is_smart and environ.get("CI", "").lower() in ("", "0", "false")
    effective: Literal["color", "mono", "none"]
    if color == "never":
        effective = "none"
    elif color == "always":
        effective = "color"
    elif environ.get("NO_COLOR"):
        effective = "mono" if is_tty and is_smart else "none"
    elif environ.get("FORCE_COLOR", "0") not in ("", "0") or (is_tty and is_smart):
        effective = "color"
    else:
        effective = "none"
    return Stream(fd, is_tty, can_draw, effective, encoding if is_tty else "utf-8")


class FinalFigures:
    """`--monitor-performance` where nothing can be drawn: the figures as plain text at the end.

    *width*: columns of the terminal, None where there is none.
    """

    def __init__(self, print_lines: Callable[[Sequence[str]], None], width: Callable[[], int | None]) -> None:
        self._print_lines = print_lines
        self._width = width

    def handle(self, event: Event, now: float) -> None:
        """Nothing: the report holds what is to be said."""

    def finish(self, report: RunReport) -> None:
        """Print the figures."""
        self._print_lines(report_lines(report, self._width()))

    def close(self) -> None:
        """Nothing to undo."""


def create_sinks(
    options: RenderOptions,
    *,
    clock: Clock,
    started_s: float,
    snapshot: Callable[[float], Snapshot],
    on_broken_pipe: Callable[[], None],
    stages: Callable[[], StageStates] = StageStates,
    stdout_fd: int = 1,
    stderr_fd: int = 2,
    environ: Mapping[str, str] | None = None,
    encoding: str | None = None,
) -> list[Sink]:
    """The sinks of one run, in the order in which `handle`, `finish` and `close` are to be called.

    The answer comes first, then the monitor, then the notices, so that an error is the last thing on the screen.
    `quiet` does not silence the monitor: its figures were asked for by name.
    *snapshot* gives the live figures at an instant of *clock*; *stages* what breaker, limiter and guard say.
    *on_broken_pipe* is called once, from within a sink, when stdout cannot be written any more: the program should
    end the run and call `silence_stdout` before it exits. Any reason but a vanished reader (a full disk) is also
    said on stderr. *environ* and *encoding* (of the terminal) default to the process's own.
    """
    environ = os.environ if environ is None else environ
    encoding = encoding or getattr(sys.stdout, "encoding", None) or "utf-8"
    stdout = inspect_stream(stdout_fd, environ, options.color, encoding)
    stderr = inspect_stream(stderr_fd, environ, options.color, encoding)
    errors = FdWriter(stderr_fd)
    encode_error = encoder_for(stderr.encoding)

    def on_gone(error: OSError) -> None:
        hung_up = error.errno == errno.EIO and stdout.is_tty
        if error.errno not in _READER_GONE and not hung_up:
            errors.write(encode_error(f"error: cannot write the answer: {error.strerror}\n"))
        on_broken_pipe()

    out = FdWriter(stdout_fd, on_gone)
    is_same = stdout.is_tty and stderr.is_tty and _is_same_file(stdout_fd, stderr_fd)
    can_panel = options.monitor and stderr.can_draw
    draws_answer = options.mode == "text" and stdout.can_draw and (not options.raw or (can_panel and is_same))
    draws_panel = can_panel and (draws_answer or not is_same)
    sinks: list[Sink] = []
    screen: Screen | None = None
    settle: Callable[[], None] = lambda: None  # noqa: E731 - a default, replaced below

    if draws_answer:
        screen = _create_screen(stdout, out, clock, environ)
        drawn = _create_terminal_sink(screen, stdout, raw=options.raw)
        sinks.append(ExtractingSink(drawn) if options.extract else drawn)
    else:
        answer: PlainSink | JsonObjectSink | JsonLinesSink
        ascii_only = not can_encode("▁", stdout.encoding)
        if options.mode == "json":
            answer = JsonObjectSink(out, ascii_only=ascii_only, extract=options.extract)
        elif options.mode == "events":
            answer = JsonLinesSink(out, started_s, ascii_only=ascii_only, extract=options.extract)
        elif stdout.is_tty:
            answer = PlainTerminalSink(out, stdout.encoding)
        else:
            answer = PlainSink(out, ends_line=not options.extract)
        sinks.append(ExtractingSink(answer) if options.extract and options.mode == "text" else answer)
        settle = answer.settle
    if not (screen is not None and is_same):
        screen = _create_screen(stderr, errors, clock, environ) if draws_panel else None

    def print_lines(lines: Sequence[str]) -> None:
        settle()
        if screen is not None:
            screen.note(lines)
        else:
            errors.write(encode_error("".join(f"{line}\n" for line in lines)))

    def width() -> int | None:
        return terminal_size(stderr_fd)[0] if stderr.is_tty else None

    if draws_panel and screen is not None:
        sinks.append(_create_panel(screen, stderr, snapshot, clock, stages))
    elif options.monitor:
        sinks.append(FinalFigures(print_lines, width))
    # Our rows begin at the left edge, so only the terminal's echo of Ctrl-C can stand there: write over it.
    new_start = ("\r\x1b[J" if stderr.can_draw else "\r") if stderr.is_tty else ""
    is_colored = stderr.color == "color"
    sinks.append(
        NoticeSink(
            print_lines,
            quiet=options.quiet,
            color=is_colored,
            width=width,
            new_start=new_start,
            extracts=options.extract,
        )
    )
    if screen is not None:
        sinks.append(Suspension(screen))
    return sinks


def _create_screen(stream: Stream, writer: FdWriter, clock: Clock, environ: Mapping[str, str]) -> Screen:
    from utils.render.screen import Screen

    encode = encoder_for(stream.encoding)

    return Screen(
        lambda text: writer.write(encode(text)), lambda: terminal_size(stream.fd), clock, reflows=_reflows(environ)
    )


def _create_terminal_sink(screen: Screen, stream: Stream, *, raw: bool) -> Sink:
    from utils.render.blocks import BlockSplitter, LineSplitter
    from utils.render.painter import Painter
    from utils.render.terminal import TerminalSink

    splitter = LineSplitter() if raw else BlockSplitter()
    return TerminalSink(screen, splitter, Painter(stream.color, stream.encoding))


def _create_panel(
    screen: Screen,
    stream: Stream,
    snapshot: Callable[[float], Snapshot],
    clock: Clock,
    stages: Callable[[], StageStates],
) -> Sink:
    from utils.render.monitor import MonitorPanel
    from utils.render.painter import Painter

    painter = Painter(stream.color, stream.encoding)
    return MonitorPanel(screen, painter, snapshot, clock, stages=stages, is_ascii=painter.is_ascii)


def _is_same_file(first: int, second: int) -> bool:
    try:
        return os.path.sameopenfile(first, second)
    except OSError:
        return False


def _reflows(environ: Mapping[str, str]) -> bool:
    """Whether the terminal re-wraps its rows when it gets narrower; most do, these do not."""
    term = environ.get("TERM", "")
    return not (term == "linux" or term.startswith("st-") or "XTERM_VERSION" in environ or "STY" in environ)
