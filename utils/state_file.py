"""One small SQLite file of a user, which is never worth a failure or a wait. The only importer of sqlite3.

Whatever goes wrong (no directory, no permission, a full disk, a lock, a damaged or foreign file), `attempt` gives the
answer of somebody who knows nothing, says so once (`take_warning`) and leaves the file alone for a while. So it never
raises and costs a run at most about 0.2 s.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final, TypeVar

from utils.clock import Clock, monotonic

if TYPE_CHECKING:
    import sqlite3

__all__ = ["StateFile", "transaction"]

_T = TypeVar("_T")
_HEADER = b"SQLite format 3\x00"
_CORRUPT: Final = 11
_NOT_A_DATABASE: Final = 26
"""SQLite's result codes."""

_BUSY_S = 0.05
"""How long one access waits for other processes; theirs take well below a millisecond."""
_HEALTHY_S = 0.005
_BUDGET_S = 0.1
_REST_S = 60.0
"""Accesses that took _BUDGET_S within _REST_S, or failed, are followed by a rest of _REST_S without any."""


class _Foreign(Exception):
    """The file is not ours to read or write."""


class StateFile:
    """The database at *path*, created by *schema* at the first write. For any number of threads; not for a fork.

    *application_id* and *version* stand in the header, so that nobody else's database is taken for ours.
    *on_open* is called with every new connection.  *clock*: seconds, for the time that accesses take.
    """

    def __init__(
        self,
        path: Path,
        *,
        schema: str,
        application_id: int,
        version: int,
        on_open: Callable[[sqlite3.Connection], None],
        clock: Clock = monotonic,
    ) -> None:
        self._path = path
        self._schema = schema
        self._application_id = application_id
        self._version = version
        self._on_open = on_open
        self._clock = clock
        self._lock = Lock()
        self._connection: sqlite3.Connection | None = None
        self._inode = -1
        self._warning: str | None = None
        self._has_warned = False
        self._rests_until_s = self._spent_since_s = float("-inf")
        self._spent_s = 0.0

    def take_warning(self) -> str | None:
        """One line about the first thing that went wrong, once; None if all is well or it was taken before."""
        with self._lock:
            warning, self._warning = self._warning, None
            return warning

    def close(self) -> None:
        """Free the file; it may be used again. Idempotent."""
        with self._lock:
            self._disconnect()

    def attempt(self, work: Callable[[sqlite3.Connection], _T], otherwise: _T, *, creates: bool = True) -> _T:
        """The result of *work*, or *otherwise* if the file is of no use now."""
        with self._lock:
            started_s = self._clock()
            if started_s < self._rests_until_s:
                return otherwise
            try:
                if self._connection is None and not creates and not self._path.exists():
                    return otherwise
                import sqlite3
            except OSError as error:
                self._fail(error)
                return otherwise
            except ImportError:
                self._give_up("this Python has no sqlite3", rest_s=float("inf"))
                return otherwise
            try:
                return work(self._connected())
            except _Foreign as error:
                self._give_up(f"{self._shown_path()} {error}", rest_s=float("inf"))
            except (OSError, sqlite3.Error, ValueError, TypeError, OverflowError) as error:
                self._fail(error)
            finally:
                self._account(started_s)
            return otherwise

    # Everything below runs under the lock.

    def _account(self, started_s: float) -> None:
        """Rest when accesses, though they succeed, have become slow."""
        now = self._clock()
        if now - self._spent_since_s > _REST_S:
            self._spent_since_s, self._spent_s = now, 0.0
        # What a healthy access takes is not counted, or a busy process would rest for being busy.
        self._spent_s += max(0.0, now - started_s - _HEALTHY_S)
        if self._spent_s > _BUDGET_S and now >= self._rests_until_s:
            self._give_up(f"{self._shown_path()} answers too slowly", rest_s=_REST_S)

    def _fail(self, error: Exception) -> None:
        code = getattr(error, "sqlite_errorcode", None)
        is_damaged = (code is not None and code & 0xFF in (_CORRUPT, _NOT_A_DATABASE)) or isinstance(
            error, ValueError | TypeError | OverflowError
        )
        if is_damaged and (aside := self._set_aside()) is not None:
            self._warn(f"{self._shown_path()} was damaged; it is now {aside.name}, and a new one is begun")
            return
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        # Another process that holds a lock will end; what is wrong with a file or a directory stays wrong for a while.
        self._give_up(f"{self._shown_path()} cannot be used: {reason}", rest_s=_REST_S)

    def _give_up(self, reason: str, *, rest_s: float) -> None:
        self._disconnect()
        self._rests_until_s = self._clock() + rest_s
        self._warn(f"{reason}; this run remembers targets by itself")

    def _warn(self, text: str) -> None:
        if not self._has_warned:
            self._has_warned, self._warning = True, text

    def _shown_path(self) -> str:
        return f"the state file {str(self._path)!r}"

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            import sqlite3

            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            if not self._path.exists() or self._path.stat().st_size == 0:
                self._create()
            self._check_header()
            self._connection = self._connect(self._path)
            self._on_open(self._connection)
        return self._connection

    def _connect(self, path: Path) -> sqlite3.Connection:
        import sqlite3

        connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        # No fsync: it may take a second, and what a power cut damages is set aside and begun anew.
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    def _create(self) -> None:
        """Make the file under another name and move it into place: no process ever sees half of it."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self._path.with_name(f".{self._path.name}.{os.urandom(4).hex()}")
        try:
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            connection = self._connect(temporary)
            try:
                connection.executescript(
                    f"PRAGMA journal_mode = WAL; PRAGMA application_id = {self._application_id}; "
                    f"PRAGMA user_version = {self._version}; {self._schema}"
                )
            finally:
                connection.close()
            self._put_in_place(temporary)
        finally:
            for suffix in ("", "-wal", "-shm", "-journal"):
                temporary.with_name(temporary.name + suffix).unlink(missing_ok=True)

    def _put_in_place(self, temporary: Path) -> None:
        try:
            # A link fails where a rename would replace what another process has made meanwhile.
            os.link(temporary, self._path)
            return
        except FileExistsError:
            if self._path.stat().st_size:
                return
        except OSError:  # a file system without links
            pass
        os.replace(temporary, self._path)

    def _check_header(self) -> None:
        """Raises _Foreign unless the file is of our kind and version, which only its first bytes tell for certain."""
        with self._path.open("rb") as file:
            self._inode = os.fstat(file.fileno()).st_ino
            header = file.read(100)
        if not header.startswith(_HEADER) or int.from_bytes(header[68:72], "big") != self._application_id:
            raise _Foreign("is not a state file of this program; delete it or move it away")
        version = int.from_bytes(header[60:64], "big")
        if version != self._version:
            raise _Foreign(f"was written by another version ({version}); delete it if you no longer use that")

    def _set_aside(self) -> Path | None:
        """Rename the damaged file, unless another process has done so; its new path, None if that cannot be done."""
        self._disconnect()
        aside = self._path.with_name(f"{self._path.name}.damaged")
        try:
            # What lies there now may be a new file that another process has begun.
            if self._path.stat().st_ino == self._inode:
                os.replace(self._path, aside)
                for suffix in ("-wal", "-shm"):
                    self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        except FileNotFoundError:
            return aside
        except OSError:
            return None
        return aside


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """One that takes the lock for writing at once, so it cannot fail half-way for want of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
