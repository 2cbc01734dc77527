"""The model file on disk: is it there, is it whole, and who may write it.

Writers hold an exclusive `flock` on a lock file beside the model. The kernel releases it when its holder ends, however
it ends. Readers need no lock: the file appears by one atomic rename and is complete from then on.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from utils.embedded_model.spec import CACHE_VARIABLE, PINNED, ModelSpec, model_path
from utils.errors import ConfigError

if sys.platform != "win32":
    import fcntl

__all__ = [
    "TEMPORARY_PREFIX",
    "Description",
    "ModelState",
    "cannot_write",
    "describe",
    "exclusive",
    "prepare_directory",
    "probe_directory",
    "remove",
    "remove_leftovers",
    "verify",
]

TEMPORARY_PREFIX = ".fetch-"
"""Directories in the cache with this prefix belong to the holder of the lock; without a holder they are leftovers."""

_LOCK_NAME = ".fetch.lock"


class ModelState(Enum):
    """What lies at the model's path."""

    READY = "ready"
    MISSING = "missing"
    CORRUPT = "corrupt"


@dataclass(frozen=True, slots=True)
class Description:
    """What `model show` tells; `size_bytes` is the file's size now, 0 if there is none."""

    model: ModelSpec
    path: Path
    state: ModelState
    size_bytes: int


def cannot_write(directory: Path, error: OSError) -> ConfigError:
    """The error for a cache directory that cannot be made, read or written."""
    return ConfigError(
        f"cannot use the model cache {str(directory)!r}: {error.strerror or error}",
        hint=f"set {CACHE_VARIABLE} to a directory that you may write",
    )


def verify(path: Path, model: ModelSpec = PINNED) -> ModelState:
    """Compare the file's size and SHA-256 with the pinned ones (about 0.1 s for the embedded model).

    Raises: ConfigError if the file exists and cannot be read.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size != model.size_bytes:
                return ModelState.CORRUPT
            is_equal = hashlib.file_digest(file, "sha256").hexdigest() == model.sha256
    except FileNotFoundError:
        return ModelState.MISSING
    except OSError as error:
        raise cannot_write(path.parent, error) from error
    return ModelState.READY if is_equal else ModelState.CORRUPT


def describe(model: ModelSpec = PINNED, directory: Path | None = None) -> Description:
    """What is in the cache; reads and hashes the file. Raises: ConfigError if it cannot be read."""
    path = model_path(model, directory)
    state = verify(path, model)
    try:
        size = path.stat().st_size
    except OSError:
        size = 0
    return Description(model, path, state, size)


def prepare_directory(directory: Path) -> None:
    """Create *directory* if needed. Raises: ConfigError if that fails or it cannot be written."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(directory, error) from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise cannot_write(directory, PermissionError(13, "permission denied"))


def probe_directory(directory: Path) -> None:
    """Find out by trying whether a fetch could use *directory*; leaves nothing behind.

    Permissions alone do not tell: file systems are read-only or, like /proc, take no new entries from anybody.
    Raises: ConfigError, the same that a fetch would end with.
    """
    made = [path for path in (directory, *directory.parents) if not os.path.lexists(path)]
    try:
        prepare_directory(directory)
        try:
            with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=directory, ignore_cleanup_errors=True):
                pass
        except OSError as error:
            raise cannot_write(directory, error) from error
    finally:
        for path in made:
            with suppress(OSError):  # not made after all, or in use by a fetch that has begun meanwhile
                path.rmdir()


@contextmanager
def exclusive(directory: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Be the only writer in *directory* for the length of the block.

    While another process holds the lock, *wait* is called again and again; it should pause for a moment, and may raise
    to give up. Where the file system knows no such locks, the block runs without one: installs stay atomic, two
    processes only do the same work twice.
    Raises: ConfigError if the lock file cannot be opened; whatever *wait* raises.
    """
    try:
        lock = os.open(directory / _LOCK_NAME, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
    except OSError as error:
        raise cannot_write(directory, error) from error
    try:
        while not _try_lock(lock):
            wait()
        yield
    finally:
        os.close(lock)


def _try_lock(descriptor: int) -> bool:
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def remove_leftovers(directory: Path) -> None:
    """Delete what interrupted fetches left behind. Only for the holder of the lock."""
    for entry in directory.glob(f"{TEMPORARY_PREFIX}*/"):
        shutil.rmtree(entry, ignore_errors=True)


class _Busy(Exception):
    """Another process is fetching."""


def remove(model: ModelSpec = PINNED, directory: Path | None = None) -> bool:
    """Delete the model file and leftovers of interrupted fetches; tells whether there was a model file.

    A fetch of another process that is under way is left alone, and will install the file again.
    Raises: ConfigError if the file cannot be deleted.
    """
    path = model_path(model, directory)
    try:
        path.unlink()
        was_there = True
    except FileNotFoundError:
        was_there = False
    except OSError as error:
        raise cannot_write(path.parent, error) from error
    if path.parent.is_dir():
        with suppress(_Busy, ConfigError), exclusive(path.parent, _give_up):
            remove_leftovers(path.parent)
    return was_there


def _give_up() -> None:
    raise _Busy
