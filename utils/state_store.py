"""What the processes of a user remember together on one machine, in a small SQLite file.

It holds the shared state of breakers (`BreakerStore`) and latency sketches per target, under digests of their names.
It never raises: see `DatabaseFile` for what happens to a file that cannot be used.

Instants in the file are wall-clock seconds; a row from the future was written before the clock was set back, and
counts as unknown.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from utils.clock import Clock, monotonic
from utils.database_file import DatabaseFile, FileKind, Unreadable, transaction
from utils.embedded_model.spec import home_directory
from utils.metrics.sketch import Sketch
from utils.processes import is_running, process_start
from utils.resilience.breaker_store import ProbePlace, SharedState, merged, with_failure

if TYPE_CHECKING:
    import sqlite3

__all__ = ["STATE_VARIABLE", "StateStore", "state_directory", "state_path"]

STATE_VARIABLE = "KAYGRAPH_STATE_DIR"

_APPLICATION = "kaygraph-streaming-llm"

_FORGET_BREAKER_S = 3600.0
"""A target that nobody has written about for so long is as good as unknown."""
_FORGET_ROW_S = 86400.0
_FORGET_SKETCH_S = 90 * 86400.0
_CLOCK_SKEW_S = 5.0
_LONGEST_LEASE_S = 7200.0
"""A probe may wait for as long as its own process allows; a later expiry was written before the clock was set back."""
_HALF_LIFE_S = 86400.0
"""After a day, what a target did yesterday counts half."""
_MAX_SKETCH_WEIGHT = 2000.0

_SCHEMA = """
CREATE TABLE breakers (
    target TEXT PRIMARY KEY, written_at REAL NOT NULL, generation INTEGER NOT NULL, is_open INTEGER NOT NULL,
    open_until REAL NOT NULL, consecutive_opens INTEGER NOT NULL, cooldown_until REAL NOT NULL,
    failures_in_a_row INTEGER NOT NULL, failures_until REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE probes (token TEXT PRIMARY KEY, target TEXT NOT NULL, expires_at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE sketches (
    target TEXT NOT NULL, figure TEXT NOT NULL, written_at REAL NOT NULL, sketch TEXT NOT NULL,
    PRIMARY KEY (target, figure)
) WITHOUT ROWID;
"""
_KIND: Final = FileKind(
    name="state file",
    application_id=0x4B475354,
    migrations=(_SCHEMA,),
    consequence="this run remembers targets by itself",
)
_BREAKER_COLUMNS = (
    "written_at, generation, is_open, open_until, consecutive_opens, cooldown_until, failures_in_a_row, failures_until"
)


def state_directory(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Where files live that are no settings and no cache: `$KAYGRAPH_STATE_DIR`, else our directory in
    `$XDG_STATE_HOME` or `~/.local/state`.

    Empty variables count as unset, and by the XDG specification a relative XDG_STATE_HOME too. None without a home
    directory. Creates nothing.
    """
    if chosen := environ.get(STATE_VARIABLE):
        return Path(chosen).absolute()
    base = environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(base):
        home = home_directory(environ)
        if home is None:
            return None
        base = os.path.join(home, ".local", "state")
    return Path(base, _APPLICATION)


def state_path(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The state file; None without a home directory."""
    directory = state_directory(environ)
    return None if directory is None else directory / "state.sqlite3"


@contextmanager
def _stored_values() -> Iterator[None]:
    """What cannot be read here was not written by us."""
    try:
        yield
    except (ValueError, TypeError, OverflowError) as error:
        raise Unreadable(str(error)) from error


class StateStore:
    """The file at *path*, created at the first write. For any number of threads; not to be carried over a fork.

    *wall*: seconds that all processes agree on.  *clock*: seconds, for the time that accesses take.  *busy_s*: how long
    one access waits for other processes, where that is not as long as a run would.
    """

    def __init__(
        self, path: Path, *, wall: Clock = time.time, clock: Clock = monotonic, busy_s: float | None = None
    ) -> None:
        self._wall = wall
        kind = _KIND if busy_s is None else dataclasses.replace(_KIND, busy_s=busy_s)
        self._file = DatabaseFile(path, kind, on_open=self._prune, clock=clock)

    def __enter__(self) -> StateStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> StateStore:
        return self

    def take_warning(self) -> str | None:
        """One line about the first thing that went wrong, once; None if all is well or it was taken before."""
        return self._file.take_warning()

    def close(self) -> None:
        """Free the file; the store may be used again. Idempotent."""
        self._file.close()

    def load(self, key: str) -> SharedState | None:
        """See `BreakerStore`."""
        return self._file.attempt(lambda connection: self._state(connection, key), None, creates=False)

    def publish(self, key: str, state: SharedState, *, expected: int, ends_row: bool = False) -> SharedState | None:
        """See `BreakerStore`."""

        def work(connection: sqlite3.Connection) -> SharedState | None:
            with transaction(connection):
                standing = self._state(connection, key)
                result, is_accepted = merged(standing, state, expected, ends_row=ends_row)
                if standing is None or standing.generation != result.generation:
                    connection.execute("DELETE FROM probes WHERE target = ?", (key,))
                self._write(connection, key, result)
            return None if is_accepted else result

        return self._file.attempt(work, None)

    def add_failure(self, key: str, *, generation: int, remembered_s: float) -> SharedState | None:
        """See `BreakerStore`."""

        def work(connection: sqlite3.Connection) -> SharedState | None:
            with transaction(connection):
                result = with_failure(self._state(connection, key), generation, remembered_s)
                self._write(connection, key, result)
            return result

        return self._file.attempt(work, None)

    def acquire_probe(self, key: str, *, generation: int, limit: int, ttl_s: float) -> ProbePlace:
        """See `BreakerStore`."""

        def work(connection: sqlite3.Connection) -> ProbePlace:
            with transaction(connection):
                standing, now = self._state(connection, key), self._wall()
                if standing is not None and standing.generation != generation:
                    return ProbePlace(None)
                connection.execute(
                    "DELETE FROM probes WHERE target = ? AND (expires_at <= ? OR expires_at > ?)",
                    (key, now, now + max(ttl_s, _LONGEST_LEASE_S)),
                )
                # A process that was killed gives nothing back.
                for (token,) in connection.execute("SELECT token FROM probes WHERE target = ?", (key,)).fetchall():
                    pid, _, start = token.partition("/")[0].partition(".")
                    if pid.isdecimal() and not is_running(int(pid), start):
                        connection.execute("DELETE FROM probes WHERE token = ?", (token,))
                count, first = connection.execute(
                    "SELECT count(*), min(expires_at) FROM probes WHERE target = ?", (key,)
                ).fetchone()
                if count >= limit:
                    return ProbePlace(None, max(float(first) - now, 0.001))
                token = f"{os.getpid()}.{process_start(os.getpid())}/{os.urandom(8).hex()}"
                connection.execute("INSERT INTO probes VALUES (?, ?, ?)", (token, key, now + ttl_s))
            return ProbePlace(token)

        return self._file.attempt(work, ProbePlace(""))

    def release_probe(self, key: str, token: str) -> None:
        """See `BreakerStore`."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM probes WHERE token = ? AND target = ?", (token, key))

        self._file.attempt(work, None)

    def load_sketch(self, key: str, figure: str) -> Sketch | None:
        """What processes have measured of *figure* (such as `first_content_s`) at the target *key*, faded by its age.

        None if nothing is known.
        """
        return self._file.attempt(lambda connection: self._sketch(connection, key, figure), None, creates=False)

    def merge_sketch(self, key: str, figure: str, sketch: Sketch) -> None:
        """Add what this process has measured since it last did so."""

        def work(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                total = self._sketch(connection, key, figure) or Sketch()
                total.merge(sketch)
                total.limit(_MAX_SKETCH_WEIGHT)
                row = (key, figure, self._wall(), total.to_json())
                connection.execute("INSERT OR REPLACE INTO sketches VALUES (?, ?, ?, ?)", row)

        self._file.attempt(work, None)

    def _state(self, connection: sqlite3.Connection, key: str) -> SharedState | None:
        row = connection.execute(f"SELECT {_BREAKER_COLUMNS} FROM breakers WHERE target = ?", (key,)).fetchone()  # noqa: S608
        if row is None:
            return None
        now = self._wall()
        with _stored_values():
            written_at = float(row[0])
        if not -_CLOCK_SKEW_S <= now - written_at <= _FORGET_BREAKER_S:
            return None
        with _stored_values():
            failures_for_s = max(0.0, float(row[7]) - now)
            return SharedState(
                generation=int(row[1]),
                is_open=bool(row[2]),
                open_for_s=max(0.0, float(row[3]) - now),
                consecutive_opens=int(row[4]),
                cooldown_for_s=max(0.0, float(row[5]) - now),
                failures_in_a_row=int(row[6]) if failures_for_s else 0,
                failures_for_s=failures_for_s,
            )

    def _write(self, connection: sqlite3.Connection, key: str, state: SharedState) -> None:
        now = self._wall()
        row = (
            *(key, now, state.generation, state.is_open, now + state.open_for_s, state.consecutive_opens),
            *(now + state.cooldown_for_s, state.failures_in_a_row, now + state.failures_for_s),
        )
        connection.execute("INSERT OR REPLACE INTO breakers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def _sketch(self, connection: sqlite3.Connection, key: str, figure: str) -> Sketch | None:
        query = "SELECT written_at, sketch FROM sketches WHERE target = ? AND figure = ?"
        row = connection.execute(query, (key, figure)).fetchone()
        if row is None:
            return None
        with _stored_values():
            sketch, written_at = Sketch.from_json(row[1]), float(row[0])
        sketch.fade(0.5 ** (max(0.0, self._wall() - written_at) / _HALF_LIFE_S))
        return sketch

    def _prune(self, connection: sqlite3.Connection) -> None:
        """Forget what is too old, so the file stays small."""
        now = self._wall()
        old = (now - _FORGET_ROW_S, now - _FORGET_SKETCH_S)
        first = "SELECT (SELECT min(written_at) FROM breakers) < ? OR (SELECT min(written_at) FROM sketches) < ?"
        if connection.execute(first, old).fetchone()[0]:
            with transaction(connection):
                connection.execute("DELETE FROM breakers WHERE written_at < ?", old[:1])
                connection.execute("DELETE FROM sketches WHERE written_at < ?", old[1:])
                connection.execute("DELETE FROM probes WHERE expires_at < ?", old[:1])
