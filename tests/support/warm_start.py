"""Programs that start warm: the usual process, but forked from one that has imported the program already.

Starting Python and importing the program takes half a second of every process, and most tests of the command line are
about what it does afterwards. What such a test sees is real: a process of its own in its own session, its descriptors,
its environment, its working directory, its signals and its exit. What it does not see is the start before `main()`,
and a module that is imported late here has been imported early. Tests of the start itself start cold, and so does
everything if `KAYGRAPH_TESTS=all`.

A server process with one thread takes requests; for each it forks an attendant, which forks the program, and tells
its id and how it ended.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["WarmProcess", "can_start_warm"]

ROOT = Path(__file__).resolve().parents[2]
_MODULES = ("flow", "nodes", "openai", "asyncio", "sqlite3")
_LARGEST = 150_000
"""Bytes of a request: one message, with the descriptors."""
_AT_START = ("PYTHON", "LANG", "LC_", "MALLOC_", "LD_")
"""What the names of variables begin with that work only where Python starts."""


def can_start_warm(env: Mapping[str, str]) -> bool:
    """Whether nothing of *env* has to be there when Python starts, and this is a system with messages of its kind."""
    early = {name: value for name, value in env.items() if name.startswith(_AT_START)}
    is_wanted = sys.platform == "linux" and os.environ.get("KAYGRAPH_TESTS") != "all"
    return is_wanted and early in ({}, {"LANG": "C.UTF-8"})


class WarmProcess:
    """What `subprocess.Popen` is to a cold start. *stdio* are three descriptors, *terminal* is a path or ""."""

    def __init__(
        self, args: Sequence[str], *, stdio: Sequence[int], env: Mapping[str, str], cwd: Path, terminal: str = ""
    ) -> None:
        self.returncode: int | None = None
        server = _server()
        request = {"args": [*args], "env": {**env}, "cwd": str(cwd), "terminal": terminal}
        reader, writer = os.pipe()
        with ExitStack() as on_failure:
            self._report = on_failure.enter_context(open(reader, encoding="ascii"))
            try:
                server.send(request, [*stdio, writer])
            finally:
                os.close(writer)
            self.pid = self._next_number()
            on_failure.pop_all()

    def send_signal(self, number: signal.Signals) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def wait(self) -> int:
        """The exit code, negative for a signal; to be called once."""
        with self._report:
            self.returncode = self._next_number()
        return self.returncode

    def _next_number(self) -> int:
        line = self._report.readline()
        assert line, "the attendant of a warm start has died"
        return int(line)


# -- the side of the tests -------------------------------------------------------------------------------------------


class _Server:
    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.warm_start", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"},
                cwd=ROOT,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        atexit.register(self._close)

    def send(self, request: Mapping[str, Any], descriptors: Sequence[int]) -> None:
        message = json.dumps(request).encode()
        assert len(message) <= _LARGEST
        socket.send_fds(self._channel, [message], descriptors)

    def _close(self) -> None:
        self._channel.close()
        self._process.wait()


_lock = threading.Lock()
_servers: list[_Server] = []


def _server() -> _Server:
    with _lock:
        if not _servers:
            _servers.append(_Server())
        return _servers[0]


# -- the side of the program -----------------------------------------------------------------------------------------


def _import_program() -> None:
    import main  # noqa: F401 - imported for the programs to come
    from utils.cheaper_openai import make_import_cheaper

    make_import_cheaper()
    for package in ("commands", "utils"):
        for module in pkgutil.walk_packages([str(ROOT / package)], f"{package}."):
            # That one is a program of its own.
            if module.name != "utils.embedded_model.child":
                importlib.import_module(module.name)
    for name in _MODULES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


def _serve(channel: socket.socket) -> None:
    """Returns in the process that is to become the program, with everything set; never in the server itself."""
    # Nobody waits for the attendants.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, _LARGEST, 4)
        if not message:
            os._exit(0)
        if not os.fork():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            channel.close()
            _attend(json.loads(message), descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)


def _attend(request: dict[str, Any], descriptors: list[int]) -> None:
    *stdio, report = descriptors
    pid = os.fork()
    if not pid:
        os.close(report)
        _become(stdio, **request)
        return
    for descriptor in stdio:
        os.close(descriptor)
    os.write(report, b"%d\n" % pid)
    os.write(report, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    os._exit(0)


def _become(stdio: list[int], args: list[str], env: dict[str, str], cwd: str, terminal: str) -> None:
    """Make this process what `python main.py ARGS` is before its first line."""
    os.setsid()
    if terminal:
        # A session leader gets its controlling terminal by opening it.
        os.close(os.open(terminal, os.O_RDWR))
    for number, descriptor in enumerate(stdio):
        os.dup2(descriptor, number)
    os.closerange(3, max(map(int, os.listdir("/dev/fd"))) + 1)
    for name in ("stdin", "stdout", "stderr"):
        setattr(sys, name, _reopened(getattr(sys, name), name))
        setattr(sys, f"__{name}__", getattr(sys, name))
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = [str(ROOT / "main.py"), *args]


def _reopened(stream: io.TextIOWrapper, name: str) -> io.TextIOWrapper:
    number = ("stdin", "stdout", "stderr").index(name)
    raw = open(number, "wb" if number else "rb", closefd=False)  # noqa: SIM115 - lives as long as the process
    is_by_line = name == "stderr" or os.isatty(number)
    return io.TextIOWrapper(raw, encoding=stream.encoding, errors=stream.errors, line_buffering=is_by_line)


def _run_program() -> NoReturn:
    import main
    from commands.startup import prepare_process

    # `--timeout` counts from the start of the process.
    vars(main)["STARTED_S"] = time.monotonic()
    prepare_process()
    sys.exit(main.main())


if __name__ == "__main__":
    _import_program()
    _serve(socket.socket(fileno=int(sys.argv[1])))
    _run_program()
