"""Runs the program's command line as a shell would: in a process of its own, behind pipes or a real terminal.

The environment is made from nothing: a home of its own, no key, no setting of the caller's. One thing passes on:
`KAYGRAPH_CACHE_DIR`, so that a model that is already there is not fetched for every test.

Where "tty" is asked for, there is one pseudo-terminal for all of stdin, stdout and stderr that want it, and it is
the program's controlling terminal: `type(CTRL_C)` is the real thing. What it shows is collected as stdout if that is
a "tty", else as stderr if that is one, else as "terminal" (the echo of what was typed). POSIX only.
"""

from __future__ import annotations

import fcntl
import os
import selectors
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from tests.support.warm_start import WarmProcess, can_start_warm

__all__ = [
    "CTRL_C",
    "CTRL_D",
    "Arrival",
    "Program",
    "ProgramResult",
    "ProgramTimeout",
    "Stream",
    "clean_environment",
    "run_program",
]

ROOT = Path(__file__).resolve().parents[2]
MAIN = (sys.executable, str(ROOT / "main.py"))
CTRL_C = b"\x03"
CTRL_D = b"\x04"

Stdin = Literal["devnull", "tty", "silent-pipe"] | bytes
Output = Literal["pipe", "tty"]
Stream = Literal["stdout", "stderr", "terminal"]

# A session leader gets its controlling terminal by opening it; only then it becomes the program (same pid).
# Not a preexec_fn: Python code between fork and exec may deadlock while other threads hold locks.
_TAKE_TERMINAL = "import os,sys;os.close(os.open(sys.argv[1],os.O_RDWR));os.execvp(sys.argv[2],sys.argv[2:])"


@dataclass(frozen=True, slots=True)
class Arrival:
    """*data* could be read at the monotonic second *at*."""

    at: float
    data: bytes


@dataclass(frozen=True, slots=True)
class ProgramResult:
    """A finished run; a negative exit code is the signal that ended it. Times are `time.monotonic()` seconds."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    terminal: bytes
    stdout_arrivals: tuple[Arrival, ...]
    started_at: float
    ended_at: float

    @property
    def text(self) -> str:
        """stdout as text, with the line ends that the program wrote (a terminal turns LF into CR LF)."""
        return self.stdout.decode(errors="replace").replace("\r\n", "\n")

    @property
    def errors(self) -> str:
        """stderr as text."""
        return self.stderr.decode(errors="replace").replace("\r\n", "\n")


class ProgramTimeout(AssertionError):
    """Something was not written, or the program did not end, in time. The message shows the last output."""


def clean_environment(home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables for a run with *home* as its home directory; *extra* are added last and win."""
    env = {
        "HOME": str(home),
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "TERM": "xterm-256color",
        "TMPDIR": str(home / "tmp"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_DATA_HOME": str(home / "data"),
        "XDG_STATE_HOME": str(home / "state"),
    }
    for name in ("tmp", "cache", "config", "data", "state"):
        (home / name).mkdir(parents=True, exist_ok=True)
    if "KAYGRAPH_CACHE_DIR" in os.environ:
        env["KAYGRAPH_CACHE_DIR"] = os.environ["KAYGRAPH_CACHE_DIR"]
    return {**env, **(extra or {})}


class _Collector:
    """Reads a descriptor in a thread of its own and stamps what comes; owns the descriptor."""

    def __init__(self, stream: Stream, descriptor: int, changed: threading.Condition) -> None:
        self.arrivals: list[Arrival] = []
        self.data = bytearray()
        self.is_at_end = False
        self._changed = changed
        self._descriptor = descriptor
        self._wake_reader, self._wake_writer = os.pipe()
        self._thread = threading.Thread(target=self._collect, name=f"collector-{stream}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop reading and close the descriptor."""
        if self._wake_writer >= 0:
            os.close(self._wake_writer)
            self._wake_writer = -1
            self._thread.join()
            os.close(self._wake_reader)
            os.close(self._descriptor)

    def _collect(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._descriptor, selectors.EVENT_READ)
            selector.register(self._wake_reader, selectors.EVENT_READ)
            while not self.is_at_end:
                ready = {key.fd for key, _ in selector.select()}
                self._add(self._read() if self._descriptor in ready else b"")

    def _read(self) -> bytes:
        try:
            return os.read(self._descriptor, 65536)
        except OSError:  # on Linux the end of a terminal is EIO
            return b""

    def _add(self, data: bytes) -> None:
        now = time.monotonic()
        with self._changed:
            if data:
                self.arrivals.append(Arrival(now, data))
                self.data += data
            else:
                self.is_at_end = True
            self._changed.notify_all()


class Program:
    """A running program to talk with. As a context manager it kills what still runs at the end.

    *args* follow *argv_prefix* (default: this Python and main.py). *size* is the terminal's (columns, rows).
    *home* is the home directory and, unless *cwd* says otherwise, the working directory; if it is not given, it is
    temporary. stdin "silent-pipe" is a pipe that stays open and empty until `type` or `close_stdin`. *is_warm*: where
    that is possible, the process does not import what it runs, see `warm_start`.
    """

    def __init__(
        self,
        args: Sequence[str] = (),
        *,
        stdin: Stdin = "devnull",
        stdout: Output = "pipe",
        stderr: Output = "pipe",
        env: Mapping[str, str] | None = None,
        home: Path | None = None,
        cwd: Path | None = None,
        size: tuple[int, int] = (80, 24),
        argv_prefix: Sequence[str] = MAIN,
        is_warm: bool = False,
    ) -> None:
        self._changed = threading.Condition()
        self._collectors: dict[Stream, _Collector] = {}
        self._helpers: list[threading.Thread] = []
        self._terminal: int | None = None
        self._input: int | None = None
        self._ended_at: float | None = None
        self._stack = ExitStack()
        with ExitStack() as on_failure, ExitStack() as childs_own:
            on_failure.enter_context(self._stack)
            if home is None:
                home = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="program-")))
            argv = [*argv_prefix, *args]
            environment = clean_environment(home, env)
            is_warm = is_warm and argv_prefix == MAIN and can_start_warm(environment)
            terminal = -1
            if "tty" in (stdin, stdout, stderr):
                self._terminal, terminal = os.openpty()
                childs_own.callback(os.close, terminal)
                fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
                argv = [sys.executable, "-ISc", _TAKE_TERMINAL, os.ttyname(terminal), *argv]
                shown_as: Stream = "stdout" if stdout == "tty" else "stderr" if stderr == "tty" else "terminal"
                self._collect(shown_as, self._terminal)
            outputs = []
            wanted: tuple[tuple[Stream, Output], ...] = (("stdout", stdout), ("stderr", stderr))
            for stream, kind in wanted:
                writer = terminal
                if kind == "pipe":
                    reader, writer = os.pipe()
                    childs_own.callback(os.close, writer)
                    self._collect(stream, reader)
                outputs.append(writer)
            if stdin == "tty":
                source, self._input = terminal, self._terminal
            else:
                if stdin == "devnull":
                    source = os.open(os.devnull, os.O_RDONLY)
                else:
                    source, self._input = os.pipe()
                childs_own.callback(os.close, source)
            self._stack.callback(self._close_input)
            self.started_at = time.monotonic()
            self._process: subprocess.Popen[bytes] | WarmProcess
            if is_warm:
                name = os.ttyname(terminal) if terminal >= 0 else ""
                stdio = (source, *outputs)
                self._process = WarmProcess(args, stdio=stdio, env=environment, cwd=cwd or home, terminal=name)
            else:
                self._process = subprocess.Popen(
                    argv,
                    stdin=source,
                    stdout=outputs[0],
                    stderr=outputs[1],
                    env=environment,
                    cwd=cwd or home,
                    start_new_session=True,
                )
            self._stack.callback(self._end)
            on_failure.pop_all()
        self._help(self._reap)
        if isinstance(stdin, bytes):
            feed, self._input = self._input, None
            self._help(self._feed, feed, stdin)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def terminal(self) -> int:
        """The terminal's descriptor, on the side of the person. Raises ValueError if there is none."""
        if self._terminal is None:
            raise ValueError("the program has no terminal")
        return self._terminal

    @property
    def is_running(self) -> bool:
        return self._ended_at is None

    def output(self, stream: Stream = "stdout") -> bytes:
        """All that has come on *stream* so far."""
        with self._changed:
            return bytes(self._collectors[stream].data) if stream in self._collectors else b""

    def wait_for(self, needle: bytes, timeout_s: float = 10.0, *, stream: Stream = "stdout") -> float:
        """The monotonic second at which *needle* had wholly arrived on *stream*.

        Raises ProgramTimeout after *timeout_s* seconds, or as soon as the stream ends without it.
        """
        collector = self._collectors[stream]
        with self._changed:
            self._changed.wait_for(lambda: needle in collector.data or collector.is_at_end, timeout_s)
            at = collector.data.find(needle)
            if at < 0:
                why = "the stream ended" if collector.is_at_end else f"{timeout_s} s passed"
                raise ProgramTimeout(f"{why} without {needle!r} on {stream}{self._last_words()}")
            seen = 0
            for arrival in collector.arrivals:
                seen += len(arrival.data)
                if seen >= at + len(needle):
                    return arrival.at
        raise AssertionError("arrivals and data disagree")

    def type(self, keys: bytes) -> None:
        """Press *keys* at the terminal, or write them into the pipe that is stdin."""
        if self._input is None:
            raise ValueError("stdin takes no input")
        rest = memoryview(keys)
        while rest:
            rest = rest[os.write(self._input, rest) :]

    def close_stdin(self) -> None:
        """End the pipe that is stdin. At a terminal, `type(CTRL_D)` instead."""
        if self._input is None or self._input == self._terminal:
            raise ValueError("stdin is not an open pipe")
        self._close_input()

    def close_stdout(self) -> None:
        """Stop reading stdout, as `head` does: the next write of the program meets a broken pipe."""
        self._collectors["stdout"].close()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the program alone; a terminal's Ctrl-C (`type(CTRL_C)`) goes to its whole group."""
        self._process.send_signal(number)

    def wait(self, timeout_s: float = 10.0) -> ProgramResult:
        """The result, once the program has ended and all its output is here.

        Raises ProgramTimeout after *timeout_s* seconds, also if the program has ended but a process that it left
        behind still holds its output. The program runs on then, until the context ends.
        """
        with self._changed:
            is_over = self._changed.wait_for(
                lambda: not self.is_running and all(each.is_at_end for each in self._collectors.values()), timeout_s
            )
            if not is_over:
                what = "the program still runs" if self.is_running else "a process left behind holds its output"
                raise ProgramTimeout(f"after {timeout_s} s {what}{self._last_words()}")
            assert self._ended_at is not None
            assert self._process.returncode is not None
            stdout = self._collectors.get("stdout")
            return ProgramResult(
                exit_code=self._process.returncode,
                stdout=self.output("stdout"),
                stderr=self.output("stderr"),
                terminal=self.output("terminal"),
                stdout_arrivals=tuple(stdout.arrivals) if stdout else (),
                started_at=self.started_at,
                ended_at=self._ended_at,
            )

    def _collect(self, stream: Stream, descriptor: int) -> None:
        self._collectors[stream] = _Collector(stream, descriptor, self._changed)
        self._stack.callback(self._collectors[stream].close)

    def _help(self, target: Callable[..., None], *args: object) -> None:
        helper = threading.Thread(target=target, args=args, name=f"program-{target.__name__}", daemon=True)
        self._helpers.append(helper)
        helper.start()

    def _reap(self) -> None:
        self._process.wait()
        with self._changed:
            self._ended_at = time.monotonic()
            self._changed.notify_all()

    def _feed(self, descriptor: int, data: bytes) -> None:
        with suppress(OSError):  # the program need not read it all
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        os.close(descriptor)

    def _close_input(self) -> None:
        if self._input is not None and self._input != self._terminal:
            os.close(self._input)
        self._input = None

    def _end(self) -> None:
        outputs_are_held = not all(each.is_at_end for each in self._collectors.values())
        if self.is_running or outputs_are_held:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        for helper in self._helpers:
            helper.join()

    def _last_words(self) -> str:
        said = ((stream, bytes(each.data[-2000:])) for stream, each in self._collectors.items())
        return "".join(f"; {stream} ends with {data!r}" if data else f"; {stream} is empty" for stream, data in said)


def run_program(
    args: Sequence[str] = (),
    *,
    stdin: Stdin = "devnull",
    stdout: Output = "pipe",
    stderr: Output = "pipe",
    env: Mapping[str, str] | None = None,
    home: Path | None = None,
    cwd: Path | None = None,
    size: tuple[int, int] = (80, 24),
    argv_prefix: Sequence[str] = MAIN,
    is_warm: bool = False,
    timeout_s: float = 30.0,
) -> ProgramResult:
    """Run a `Program` to its end. Raises ProgramTimeout, the program killed, after *timeout_s* seconds."""
    with Program(
        args,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=env,
        home=home,
        cwd=cwd,
        size=size,
        argv_prefix=argv_prefix,
        is_warm=is_warm,
    ) as program:
        return program.wait(timeout_s)
