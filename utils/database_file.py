"""A small SQLite file of a user, which is never worth a failure. The only importer of sqlite3.

Whatever goes wrong (no directory, no permission, a full disk, a lock, a damaged or foreign file), `attempt` gives the
answer of somebody who knows nothing, says so once (`take_warning`) and leaves the file alone for a while. So it never
raises, and how long it may hold up a run is bounded by its `FileKind`.

A file is set aside as damaged only if SQLite says that it is, or a reader of rows does (`Unreadable`). A failure of any
other kind, such as one of ours, says nothing about the file.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final, TypeVar

from utils.clock import Clock, monotonic

if TYPE_CHECKING:
    import sqlite3

__all__ = ["DatabaseFile", "FileKind", "SetAside", "Unreadable", "transaction"]

_T = TypeVar("_T")
_HEADER = b"SQLite format 3\x00"
_BUSY: Final = 5
_LOCKED: Final = 6
_CORRUPT: Final = 11
_NOT_A_DATABASE: Final = 26
"""SQLite's result codes."""

_HEALTHY_S = 0.005
_REST_S = 60.0
"""Accesses that took the kind's budget within _REST_S, or failed, are followed by a rest of _REST_S without any."""


@dataclass(frozen=True, slots=True)
class FileKind:
    """What a file is, and how much it is worth.

    *name*: how people are told of it.  *application_id* stands in its header, so that nobody else's database is taken
    for ours.  *migrations*: the SQL that leads from nothing to version 1, from there to 2, and so on; the newest
    version is their number.  *consequence*: what follows if it cannot be used, as the end of a sentence.
    *busy_s*: how long one access waits for other processes.  *budget_s*: how long accesses may take within a minute
    before the file is left alone; None: as long as they need, and a lock is no reason to leave it alone.  *is_durable*:
    whether a power cut may cost no more than the last transactions (else it may cost the file).
    """

    name: str
    application_id: int
    migrations: tuple[str, ...]
    consequence: str
    busy_s: float = 0.05
    budget_s: float | None = 0.1
    is_durable: bool = False

    @property
    def version(self) -> int:
        """The newest version of its schema."""
        return len(self.migrations)


@dataclass(frozen=True, slots=True)
class SetAside:
    """A file that was once set aside as damaged, with what SQLite keeps beside it."""

    path: Path
    size_bytes: int


class Unreadable(Exception):
    """A row holds what nobody of ours writes there, so that the file is worth nothing: it is set aside as damaged."""


class _Foreign(Exception):
    """The file is not ours to read or write."""


class DatabaseFile:
    """The database of *kind* at *path*, created at the first write. For any number of threads; not for a fork.

    *on_open* is called with every new connection.  *clock*: seconds, for the time that accesses take.
    """

    def __init__(
        self,
        path: Path,
        kind: FileKind,
        *,
        on_open: Callable[[sqlite3.Connection], None] = lambda connection: None,
        clock: Clock = monotonic,
    ) -> None:
        self._path = path
        self._kind = kind
        self._on_open = on_open
        self._clock = clock
        self._lock = Lock()
        self._connection: sqlite3.Connection | None = None
        self._inode = -1
        self._moves: list[str] = []
        self._warning: str | None = None
        self._has_warned = False
        self._busy_s = self._connection_busy_s = kind.busy_s
        self._rests_until_s = self._spent_since_s = float("-inf")
        self._spent_s = 0.0

    def take_warning(self) -> str | None:
        """One line about the first thing that went wrong, once; None if all is well or it was taken before.

        That a file was set aside is always told, whatever else went wrong before.
        """
        with self._lock:
            told = [*self._moves, *([self._warning] if self._warning is not None else [])]
            self._moves, self._warning = [], None
            return "; ".join(told) or None

    def forget_failure(self) -> None:
        """What failed was done later: nobody needs to know of it. What was set aside is told all the same."""
        with self._lock:
            self._warning, self._has_warned = None, False

    def close(self) -> None:
        """Free the file; it may be used again. Idempotent."""
        with self._lock:
            self._disconnect()

    def attempt(
        self,
        work: Callable[[sqlite3.Connection], _T],
        otherwise: _T,
        *,
        creates: bool = True,
        again: bool = False,
        busy_s: float | None = None,
    ) -> _T:
        """The result of *work*, or *otherwise* if the file is of no use now.

        *again*: if the file is set aside, *work* is done with a new one.  *busy_s*: instead of that of the kind.
        """
        with self._lock:
            self._busy_s = self._kind.busy_s if busy_s is None else busy_s
            moves = len(self._moves)
            result = self._attempt(work, otherwise, creates=creates)
            return self._attempt(work, otherwise, creates=creates) if again and len(self._moves) > moves else result

    def set_aside(self) -> list[SetAside]:
        """The damaged files that were set aside. Never raises."""
        found: list[SetAside] = []
        with contextlib.suppress(OSError):
            for path in sorted(self._path.parent.glob(f"{self._path.name}.damaged*")):
                with contextlib.suppress(OSError):
                    found.append(SetAside(path, path.stat().st_size))
        return found

    @staticmethod
    def remove(files: list[SetAside]) -> list[SetAside]:
        """Delete files that were set aside; those that are gone now. Never raises."""
        removed: list[SetAside] = []
        for file in files:
            with contextlib.suppress(OSError):
                file.path.unlink()
                removed.append(file)
        return removed

    # Everything below runs under the lock.

    def _attempt(self, work: Callable[[sqlite3.Connection], _T], otherwise: _T, *, creates: bool) -> _T:
        started_s = self._clock()
        if started_s < self._rests_until_s:
            return otherwise
        try:
            if self._connection is None and not creates and not self._is_there():
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
        except (OSError, sqlite3.Error, Unreadable, ValueError, TypeError, OverflowError) as error:
            self._fail(error)
        finally:
            self._account(started_s)
        return otherwise

    def _account(self, started_s: float) -> None:
        """Rest when accesses, though they succeed, have become slow."""
        now = self._clock()
        if now - self._spent_since_s > _REST_S:
            self._spent_since_s, self._spent_s = now, 0.0
        # What a healthy access takes is not counted, or a busy process would rest for being busy.
        self._spent_s += max(0.0, now - started_s - _HEALTHY_S)
        budget_s = self._kind.budget_s
        if budget_s is not None and self._spent_s > budget_s and now >= self._rests_until_s:
            self._give_up(f"{self._shown_path()} answers too slowly", rest_s=_REST_S)

    def _fail(self, error: Exception) -> None:
        code = getattr(error, "sqlite_errorcode", None)
        code = code & 0xFF if code is not None else None
        if (code in (_CORRUPT, _NOT_A_DATABASE) or isinstance(error, Unreadable)) and self._set_aside():
            return
        reason = f"{self._shown_path()} cannot be used: {self._reason(error)}"
        # Another process that holds a lock will end, and a value of ours that cannot be written is one access; what is
        # wrong with a file or a directory stays wrong for a while.
        is_worth_waiting = code in (_BUSY, _LOCKED) and self._kind.budget_s is None
        is_ours = isinstance(error, ValueError | TypeError | OverflowError)
        self._give_up(reason, rest_s=0.0 if is_worth_waiting or is_ours else _REST_S)

    def _reason(self, error: Exception) -> str:
        if isinstance(error, FileExistsError | NotADirectoryError):
            # In what is no directory nothing exists, so this is the nearest one that does.
            nearest = next((parent for parent in self._path.parents if os.path.lexists(parent)), None)
            if nearest is not None and not os.path.isdir(nearest):
                return f"{str(nearest)!r} is not a directory"
        return (error.strerror if isinstance(error, OSError) else None) or str(error)

    def _give_up(self, reason: str, *, rest_s: float) -> None:
        self._disconnect()
        self._rests_until_s = self._clock() + rest_s
        self._warn(f"{reason}; {self._kind.consequence}")

    def _warn(self, text: str) -> None:
        if not self._has_warned:
            self._has_warned, self._warning = True, text

    def _shown_path(self) -> str:
        return f"the {self._kind.name} {str(self._path)!r}"

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            import sqlite3

            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _is_there(self) -> bool:
        """Raises OSError if that cannot be told: nobody has a file in what is no directory."""
        try:
            self._path.stat()
        except FileNotFoundError:
            return False
        return True

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            if not self._path.exists() or self._path.stat().st_size == 0:
                self._create()
            self._check_header()
            connection = self._connect(self._path)
            try:
                self._migrate(connection)
                self._on_open(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        elif self._connection_busy_s != self._busy_s:
            self._connection.execute(f"PRAGMA busy_timeout = {round(self._busy_s * 1000)}")
        self._connection_busy_s = self._busy_s
        return self._connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        """Bring an older schema to the newest version, one step after the other, all of them or none.

        The version in the header may lag behind what other processes have just written; SQLite knows.
        """
        if self._version_of(connection) < self._kind.version:
            with transaction(connection):
                for step in self._kind.migrations[self._version_of(connection) :]:
                    for statement in filter(str.strip, step.split(";")):
                        connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {self._kind.version}")
        version = self._version_of(connection)
        if version != self._kind.version:
            raise _Foreign(f"was written by a newer version ({version}); delete it if you no longer use that")

    @staticmethod
    def _version_of(connection: sqlite3.Connection) -> int:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])

    def _connect(self, path: Path) -> sqlite3.Connection:
        import sqlite3

        connection = sqlite3.connect(path, timeout=self._busy_s, isolation_level=None, check_same_thread=False)
        # OFF: no fsync, which may take a second; what a power cut damages is set aside and begun anew.
        connection.execute(f"PRAGMA synchronous = {'NORMAL' if self._kind.is_durable else 'OFF'}")
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
                    f"PRAGMA journal_mode = WAL; PRAGMA application_id = {self._kind.application_id}; "
                    f"PRAGMA user_version = {self._kind.version}; {';'.join(self._kind.migrations)}"
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
        """Raises _Foreign unless the file is of our kind, which only its first bytes tell for certain."""
        with self._path.open("rb") as file:
            self._inode = os.fstat(file.fileno()).st_ino
            header = file.read(100)
        if not header.startswith(_HEADER) or int.from_bytes(header[68:72], "big") != self._kind.application_id:
            raise _Foreign(f"is not a {self._kind.name} of this program; delete it or move it away")

    def _set_aside(self) -> bool:
        """Rename the damaged file, unless another process has done so, and tell where it is now; whether it is away."""
        self._disconnect()
        aside = self._free_name()
        place = f"is now {aside.name}"
        try:
            # What lies there now may be a new file that another process has begun.
            is_ours = self._path.stat().st_ino == self._inode
            if is_ours:
                os.replace(self._path, aside)
        except FileNotFoundError:
            is_ours = False
        except OSError:
            return False
        if is_ours:
            self._move_log(aside)
        elif (moved := self._moved_by_another()) is not None:
            place = f"is now {moved.name}"
        else:
            place = "was taken away by another process"
        self._moves.append(f"{self._shown_path()} was damaged; it {place}, and a new one is begun")
        return True

    def _move_log(self, aside: Path) -> None:
        """Its last transactions may stand in the log, and SQLite would read them into the new file."""
        log = self._path.with_name(f"{self._path.name}-wal")
        with contextlib.suppress(OSError):
            self._path.with_name(f"{self._path.name}-shm").unlink(missing_ok=True)
            if log.stat().st_size:
                os.replace(log, f"{aside}-wal")
            else:
                log.unlink()

    def _moved_by_another(self) -> Path | None:
        """Where the file that was open here lies now; None if it was deleted."""
        for file in self.set_aside():
            with contextlib.suppress(OSError):
                if file.path.stat().st_ino == self._inode:
                    return file.path
        return None

    def _free_name(self) -> Path:
        """Where a damaged file can lie without taking the place of an earlier one."""
        ends = itertools.chain([""], (f"-{n}" for n in itertools.count(2)))
        paths = (self._path.with_name(f"{self._path.name}.damaged{end}") for end in ends)
        return next(path for path in paths if not os.path.lexists(path))


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
