"""The embedded model's server as the parent sees it: a child process with a base URL.

`start` costs a process and is meant to run before the heavy imports, so that the model loads while they do. The child
ends when its standard input closes, which the kernel does for a parent that dies in any way.

    new --start--> starting --answer--> ready --stop or death--> ended --start--> starting ...
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from utils.embedded_model.child_process import ChildProcess
from utils.embedded_model.spec import CONTEXT_TOKENS, PINNED
from utils.errors import AppError, ConfigError, EmbeddedModelDied, EmbeddedModelError, InternalError

__all__ = ["EmbeddedServer", "ModelFileCorrupt", "usable_cores"]

_CHILD = Path(__file__).with_name("child.py")
_STOP_S = 1.0
_REASON_CHARS = 200
_WAY_OUT = "use a server with --base-url URL"
_MEMORY = f"the system may be short of memory: free some and run it again; or {_WAY_OUT}"
_CRASHES = {"SIGABRT", "SIGSEGV", "SIGBUS", "SIGFPE"}
"""How llama.cpp may end over a file that it does not understand; SIGKILL and SIGILL are the machine's doing."""


class ModelFileCorrupt(EmbeddedModelError):
    """The pinned model's file does not have the pinned SHA-256: fetch it again and start anew."""


def usable_cores() -> int:
    """How many cores this process may keep busy (at least 1): its affinity, and the CPU quota of its control group."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        if quota != "max":
            cores = min(cores, int(quota) // int(period))
    return max(1, cores)


class EmbeddedServer:
    """A child process that serves one GGUF file over HTTP on 127.0.0.1.

    *expected_sha256* is given for the pinned model only: the child checks it while the model loads. Without it the file
    is the user's own, and its faults are ConfigErrors. *context_tokens* is per slot; *slots* requests are answered at
    the same time, others wait. With *api_key* the server wants it as bearer token, which keeps other users of the
    machine out.
    Use it as a context manager, or call `stop`: the end of this process also ends the child.
    """

    def __init__(
        self,
        gguf: Path,
        *,
        expected_sha256: str | None,
        model_name: str = PINNED.name,
        context_tokens: int = CONTEXT_TOKENS,
        slots: int = 1,
        api_key: str | None = None,
        ready_timeout_s: float = 30.0,
    ) -> None:
        self.gguf = gguf
        self.model_name = model_name
        self.api_key = api_key
        self._expected_sha256 = expected_sha256
        self._context_tokens = context_tokens
        self._slots = slots
        self._ready_timeout_s = ready_timeout_s
        self._started_s = 0.0
        self._child: ChildProcess | None = None
        self.base_url: str | None = None
        """`http://127.0.0.1:PORT/v1` once `wait_ready` has returned; None before, and after a new start."""

    def __enter__(self) -> Self:
        if self._child is None:
            self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def is_pinned(self) -> bool:
        """Whether the file is the pinned model's, not the user's own."""
        return self._expected_sha256 is not None

    @property
    def pid(self) -> int | None:
        """The child's process id, or None before the first start."""
        return None if self._child is None else self._child.process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the child runs (starting or ready)."""
        return self._child is not None and self._child.process.poll() is None

    def poll(self) -> int | None:
        """The child's exit status (negative: the signal that ended it); None while it runs or before it started."""
        return None if self._child is None else self._child.process.poll()

    def start(self) -> None:
        """Spawn the child and return at once; `wait_ready` tells what became of it. May follow `stop` or its death.

        Raises: EmbeddedModelError if no process can be made; InternalError if the child runs already.
        """
        if self.is_alive:
            raise InternalError("the embedded model is running already")
        self.stop()
        config = {
            "gguf": str(self.gguf.absolute()),
            "model": self.model_name,
            "sha256": self._expected_sha256,
            "cpu_only": self.is_pinned,
            "context": self._context_tokens,
            "slots": self._slots,
            # llama.cpp's threads wait for each other hundreds of times per token, so one that shares its core holds up
            # all. On 2 cores with one other busy process, all cores gave the first token after 3.3-4.8 s, all but one
            # after 0.9 s (0.55 and 0.70 s on a quiet machine).
            "threads": max(1, usable_cores() - 1),
            "api_key": self.api_key,
        }
        self.base_url = None
        self._started_s = time.monotonic()
        try:
            # -P: the script's directory must not shadow anybody's modules.
            self._child = ChildProcess([sys.executable, "-P", str(_CHILD)], json.dumps(config).encode("ascii") + b"\n")
        except OSError as error:
            raise EmbeddedModelError(
                f"cannot start the embedded model with {sys.executable!r}: {error.strerror}", hint=_WAY_OUT
            ) from error

    async def wait_ready(self) -> str:
        """Wait until the child serves requests and return the base URL; any number of tasks may wait.

        Raises: ModelFileCorrupt; ConfigError (the user's own file is bad); EmbeddedModelError (it died, cannot run
        here, or was not ready *ready_timeout_s* seconds after `start`). After a raise the child is stopped; a cancelled
        wait leaves it running.
        """
        import asyncio

        child = self._child
        if child is None:
            raise InternalError("the embedded model was not started")
        try:
            async with asyncio.timeout(max(0.0, self._started_s + self._ready_timeout_s - time.monotonic())):
                line = await child.answer()
        except TimeoutError:
            self.stop()
            raise EmbeddedModelError(
                f"the embedded model was not ready within {self._ready_timeout_s:g} s",
                hint=f"the machine may be too busy, run it again; or {_WAY_OUT}",
            ) from None
        try:
            url = self._url(line)
            if not self.is_alive:
                raise self.died_error()
        except AppError:
            self.stop()
            raise
        self.base_url = url
        return url

    def died_error(self, *, was_ready: bool = False) -> EmbeddedModelError:
        """The error for a child that ended by itself: its status or signal, and the last line it wrote.

        One that *was_ready* can be started again (EmbeddedModelDied); one that never got so far would end again.
        """
        ending = _ending(self.poll())
        message = f"the embedded model's process {ending}"
        if self._child is not None and (reason := _last_line(self._child.stderr_tail())):
            message += f": {reason}"
        kind = EmbeddedModelDied if was_ready else EmbeddedModelError
        return kind(message, hint=_MEMORY if ending.endswith("SIGKILL") else f"run it again; or {_WAY_OUT}")

    def stop(self) -> None:
        """End the child, which takes some 10 ms, and at most a second if it must be killed. Idempotent."""
        if self._child is not None:
            # One that still loads the model does not hear that its input has closed: it is not waited for.
            self._child.stop(_STOP_S if self.base_url is not None else 0.0)

    def _url(self, line: bytes) -> str:
        """The base URL in the child's answer; raises what is wrong if there is none."""
        if not line and self._child is not None:
            # Its output closed without an answer, so it is ending.
            self._child.wait_for_end(_STOP_S)
            ending = _ending(self.poll())
            if not self.is_pinned and ending.rpartition(" ")[2] in _CRASHES:
                raise self._bad_file(f"llama.cpp {ending} while loading it")
            raise self.died_error()
        answer = json.loads(line)
        if "base_url" in answer:
            return str(answer["base_url"])
        kind, reason = answer["kind"], _shorten(answer["error"])
        if kind == "import":
            raise EmbeddedModelError(
                f"the embedded model cannot run here: {reason}",
                hint=f"install xllamacpp (`pip install xllamacpp`) if it exists for this platform; or {_WAY_OUT}",
            )
        if not self.is_pinned:
            raise self._bad_file(reason)
        if kind in ("corrupt", "file"):
            raise ModelFileCorrupt(
                f"the embedded model's file {str(self.gguf)!r} is unusable: {reason}",
                hint="run `python main.py model fetch`",
            )
        raise EmbeddedModelError(f"the embedded model cannot be started: {reason}", hint=_MEMORY)

    def _bad_file(self, reason: str) -> ConfigError:
        return ConfigError(
            f"cannot use the model file {str(self.gguf)!r}: {reason}", hint="give another GGUF file with --gguf"
        )


def _last_line(output: str) -> str:
    """The last line that tells something: not a debugger's frame or remark."""
    lines = (line.strip() for line in reversed(output.splitlines()))
    return _shorten(next((line for line in lines if line and not line.startswith(("#", "[", "warning:"))), ""))


def _ending(status: int | None) -> str:
    if status is None:
        return "closed its output"
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def _shorten(line: str) -> str:
    line = " ".join(line.split())
    return line if len(line) <= _REASON_CHARS else line[: _REASON_CHARS - 1] + "…"
