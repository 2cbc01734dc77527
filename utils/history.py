"""What runs leave behind for later: a row per run in a SQLite file, written before the request and completed after it.

A run that was killed leaves its first row, and is told from one that still runs by its process. Prompts and answers are
kept only if the user asked for that; everything else is figures, names and codes (see `run_record`).

    runs      one row per run; `status` is `running` until the run has ended, then its outcome
    events    what happened, in order, without text deltas
    metrics   every number of the report, by its name
    details   the whole record as JSON, compressed: what `report RUN` is made of
    texts     prompt, answer and system prompt, where they were asked for
    turns     which conversation a run with texts is a turn of

Times are seconds since 1970.
"""

from __future__ import annotations

import dataclasses
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from utils.conversation import Conversation, Exchange
from utils.database_file import DatabaseFile, FileKind, SetAside, transaction
from utils.processes import is_running, process_start
from utils.run_record import RunFacts, RunRecord
from utils.state_store import state_directory

if TYPE_CHECKING:
    import sqlite3

__all__ = ["History", "HistoryRow", "Pruned", "RunFilter", "history_path"]

_FIRST = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE, started_at REAL NOT NULL, ended_at REAL,
    status TEXT NOT NULL, exit_code INTEGER, finish_reason TEXT, error_code TEXT,
    model_requested TEXT NOT NULL, model_used TEXT, target TEXT NOT NULL,
    prompt_chars INTEGER NOT NULL, is_simulated INTEGER NOT NULL, version TEXT NOT NULL, settings TEXT NOT NULL,
    pid INTEGER NOT NULL, process_start TEXT NOT NULL
);
CREATE INDEX runs_by_time ON runs (started_at);
CREATE TABLE events (
    run INTEGER NOT NULL, number INTEGER NOT NULL, t_s REAL NOT NULL, type TEXT NOT NULL, data TEXT NOT NULL,
    PRIMARY KEY (run, number)
) WITHOUT ROWID;
CREATE TABLE metrics (
    run INTEGER NOT NULL, name TEXT NOT NULL, value REAL NOT NULL, PRIMARY KEY (run, name)
) WITHOUT ROWID;
CREATE TABLE details (run INTEGER PRIMARY KEY, record BLOB NOT NULL)
"""
_TEXTS = """
CREATE TABLE texts (run INTEGER PRIMARY KEY, prompt TEXT, answer TEXT)
"""
_TURNS = """
CREATE TABLE turns (run INTEGER PRIMARY KEY, conversation TEXT NOT NULL);
CREATE INDEX turns_by_conversation ON turns (conversation);
ALTER TABLE texts ADD COLUMN system TEXT
"""
_KIND: Final = FileKind(
    name="history file",
    application_id=0x4B474849,
    migrations=(_FIRST, _TEXTS, _TURNS),
    consequence="this run is not recorded",
    # Eight processes that end at once must all get their turn; the answer is out by then.
    busy_s=5.0,
    budget_s=None,
    is_durable=True,
)
_FIRST_BUSY_S = 0.5
_INSERT: Final = (
    "INSERT INTO runs (run_id, started_at, status, model_requested, target, prompt_chars, is_simulated, "
    "version, settings, pid, process_start) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_BY_PROCESS: Final = ("running", "interrupted")
"""The file calls both `running`; which of them it is depends on the process."""
_TABLES = ("events", "metrics", "details", "texts", "turns")
_COLUMNS = (
    "id, run_id, started_at, ended_at, status, exit_code, finish_reason, error_code, model_requested, model_used, "
    "target, prompt_chars, is_simulated, version, pid, process_start"
)


def history_path(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The history file, beside the state file (see `state_store.state_path`); None without a home directory."""
    directory = state_directory(environ)
    return None if directory is None else directory / "history.sqlite3"


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One run as `history list` shows it. *status* is `interrupted` if its process ended without completing the row."""

    run_id: str
    started_at: float
    ended_at: float | None
    status: str
    exit_code: int | None
    finish_reason: str | None
    error_code: str | None
    model_requested: str
    model_used: str | None
    target: str
    prompt_chars: int
    is_simulated: bool
    version: str
    metrics: Mapping[str, float]

    @property
    def model(self) -> str:
        """The model that answered, as far as is known."""
        return self.model_used or self.model_requested or "?"


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs: the newest *limit* of those that fit; None is no limit. Instants are seconds since 1970."""

    limit: int | None = 20
    model: str | None = None
    status: str | None = None
    since: float | None = None
    with_simulated: bool = True


class Pruned(NamedTuple):
    """What `History.prune` has forgotten: how many runs, and the damaged files that it deleted."""

    runs: int
    damaged: list[SetAside]


class History:
    """The file at *path*, made when the first run is recorded. Never raises; see `take_warning`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = DatabaseFile(path, _KIND)

    def __enter__(self) -> History:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the file. Idempotent."""
        self._file.close()

    def take_warning(self) -> str | None:
        """One line about the first thing that went wrong, once; None if all is well or it was taken before."""
        return self._file.take_warning()

    def begin(self, facts: RunFacts) -> None:
        """Write the row of a run that is about to send its request."""
        row = _first_row(facts)

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(_INSERT, row)

        # The request waits for this, and `complete` can do it as well.
        self._file.attempt(work, None, again=True, busy_s=min(_FIRST_BUSY_S, _KIND.busy_s))

    def complete(self, record: RunRecord, *, ended_at: float) -> None:
        """Write what became of the run; all of it or nothing.

        `begin` may have left no row: the file was locked then, or has been set aside or deleted since.
        """
        report, facts = record.report, record.facts
        error = report.get("error") or {}
        outcome = (
            *(ended_at, report["outcome"], report["exit_code"], report["finish_reason"], error.get("code")),
            *(report["model_used"], report["target"] or facts.target, facts.run_id),
        )
        events = [
            (
                number,
                event["t_s"],
                event["type"],
                json.dumps({k: v for k, v in event.items() if k not in ("t_s", "type")}),
            )
            for number, event in enumerate(report.get("events", ()))
        ]
        metrics = [
            *_numbers(report.get("metrics")),
            *(row for part in ("quality", "usage") for row in _numbers(report.get(part), part)),
        ]
        whole = record.as_json()
        texts = whole.pop("prompt"), whole.pop("text"), whole.pop("system")
        details = zlib.compress(json.dumps(whole, separators=(",", ":")).encode())
        row = _first_row(facts)

        def work(connection: sqlite3.Connection) -> bool:
            with transaction(connection):
                connection.execute(f"{_INSERT} ON CONFLICT (run_id) DO NOTHING", row)
                connection.execute(
                    "UPDATE runs SET ended_at = ?, status = ?, exit_code = ?, finish_reason = ?, error_code = ?, "
                    "model_used = ?, target = ? WHERE run_id = ?",
                    outcome,
                )
                (run,) = connection.execute("SELECT id FROM runs WHERE run_id = ?", (facts.run_id,)).fetchone()
                connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", ((run, *row) for row in events))
                connection.executemany("INSERT INTO metrics VALUES (?, ?, ?)", ((run, *row) for row in metrics))
                connection.execute("INSERT INTO details VALUES (?, ?)", (run, details))
                if any(text is not None for text in texts):
                    connection.execute("INSERT INTO texts VALUES (?, ?, ?, ?)", (run, *texts))
                if record.text and facts.conversation is not None:
                    connection.execute("INSERT INTO turns VALUES (?, ?)", (run, facts.conversation))
            return True

        if self._file.attempt(work, False, again=True):
            self._file.forget_failure()

    def rows(self, which: RunFilter | None = None) -> list[HistoryRow]:
        """The runs that fit, newest first."""
        which = which or RunFilter()
        conditions, values = _where(which)
        limit = "" if which.limit is None or which.status in _BY_PROCESS else f" LIMIT {int(which.limit)}"

        def work(connection: sqlite3.Connection) -> list[HistoryRow]:
            found = connection.execute(
                f"SELECT {_COLUMNS} FROM runs{conditions} ORDER BY started_at DESC, id DESC{limit}",  # noqa: S608
                values,
            ).fetchall()
            return [_row(row, dict(self._metrics(connection, row[0]))) for row in found]

        nothing: list[HistoryRow] = []
        rows = self._file.attempt(work, nothing, creates=False)
        if which.status not in _BY_PROCESS:
            return rows
        return [row for row in rows if row.status == which.status][: which.limit]

    def count(self, which: RunFilter) -> int:
        """How many runs fit, whatever the limit."""
        if which.status in _BY_PROCESS:
            return len(self.rows(dataclasses.replace(which, limit=None)))
        conditions, values = _where(which)

        def work(connection: sqlite3.Connection) -> int:
            return int(connection.execute(f"SELECT count(*) FROM runs{conditions}", values).fetchone()[0])  # noqa: S608

        return self._file.attempt(work, 0, creates=False)

    def find(self, run: str) -> HistoryRow | None:
        """The newest run whose id begins with *run*; for `last` the newest that has ended, or else that has begun."""

        def work(connection: sqlite3.Connection) -> HistoryRow | None:
            found = connection.execute(
                f"SELECT {_COLUMNS} FROM runs WHERE ?1 = 'last' OR substr(run_id, 1, length(?1)) = ?1 "  # noqa: S608
                "ORDER BY ?1 = 'last' AND ended_at IS NULL, started_at DESC, id DESC LIMIT 1",
                (run,),
            ).fetchone()
            return None if found is None else _row(found, dict(self._metrics(connection, found[0])))

        return self._file.attempt(work, None, creates=False) if run else None

    def record(self, run: str) -> RunRecord | None:
        """The record of the run whose id begins with *run*, with its texts if they were kept; None if there is none."""

        def work(connection: sqlite3.Connection) -> RunRecord | None:
            found = connection.execute(
                "SELECT record, prompt, answer, system FROM runs JOIN details ON details.run = runs.id "
                "LEFT JOIN texts ON texts.run = runs.id WHERE substr(run_id, 1, ?) = ? "
                "ORDER BY started_at DESC LIMIT 1",
                (len(run), run),
            ).fetchone()
            if found is None:
                return None
            try:
                row = json.loads(zlib.decompress(found[0]))
                return RunRecord.from_json(row | {"prompt": found[1], "text": found[2], "system": found[3]})
            except (zlib.error, LookupError, TypeError, ValueError) as error:
                raise ValueError(f"the record of the run {run} cannot be read") from error

        return self._file.attempt(work, None, creates=False)

    def conversation(self, begins_with: str | None = None) -> tuple[str, Conversation] | None:
        """The newest conversation (whose id begins like that) and its id; None if none was kept."""

        def work(connection: sqlite3.Connection) -> tuple[str, Conversation] | None:
            found = connection.execute(
                "SELECT conversation FROM turns WHERE substr(conversation, 1, ?) = ? ORDER BY run DESC LIMIT 1",
                (len(begins_with or ""), begins_with or ""),
            ).fetchone()
            if found is None:
                return None
            rows = connection.execute(
                "SELECT prompt, answer, status, finish_reason, system, run_id FROM turns "
                "JOIN runs ON runs.id = turns.run JOIN texts ON texts.run = turns.run "
                "WHERE conversation = ? ORDER BY turns.run",
                found,
            ).fetchall()
            exchanges = (Exchange(row[0], row[1], row[2] == "complete" and row[3] != "length", row[5]) for row in rows)
            return found[0], Conversation(exchanges, rows[-1][4] if rows else None)

        return self._file.attempt(work, None, creates=False)

    def detach(self, run_id: str) -> None:
        """The run is no turn of its conversation any more; what is known of it stays."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM turns WHERE run = (SELECT id FROM runs WHERE run_id = ?)", (run_id,))

        self._file.attempt(work, None, creates=False)

    def prune(self, *, before: float | None = None, keep: int | None = None) -> Pruned:
        """Forget runs that began before that instant, and all but the newest *keep*; what was forgotten.

        A run that is still running is never forgotten. Damaged files that were set aside before go, too: nobody can
        tell what they hold.
        """
        # Not the one that is set aside only now: nobody has been told of it yet.
        damaged = self._file.set_aside()

        def work(connection: sqlite3.Connection) -> int:
            with transaction(connection):
                old = (
                    "SELECT id FROM runs WHERE started_at < ?" if before is not None else "SELECT id FROM runs WHERE 0"
                )
                found = {row[0] for row in connection.execute(old, (before,) if before is not None else ())}
                if keep is not None:
                    more = "SELECT id FROM runs ORDER BY started_at DESC, id DESC LIMIT -1 OFFSET ?"
                    found |= {row[0] for row in connection.execute(more, (keep,))}
                alive = connection.execute(
                    "SELECT id, pid, process_start FROM runs WHERE status = 'running'"
                ).fetchall()
                found -= {run for run, pid, start in alive if is_running(pid, start)}
                for table, column in (*((table, "run") for table in _TABLES), ("runs", "id")):
                    connection.executemany(f"DELETE FROM {table} WHERE {column} = ?", ((run,) for run in found))  # noqa: S608
            if found:
                connection.execute("VACUUM")
            return len(found)

        return Pruned(self._file.attempt(work, 0, creates=False), self._file.remove(damaged))

    @staticmethod
    def _metrics(connection: sqlite3.Connection, run: int) -> Iterator[tuple[str, float]]:
        yield from connection.execute("SELECT name, value FROM metrics WHERE run = ?", (run,))


def _first_row(facts: RunFacts) -> tuple[object, ...]:
    """The values of _INSERT."""
    return (
        *(facts.run_id, facts.started_at, "running", facts.model_requested, facts.target, facts.prompt_chars),
        *(facts.is_simulated, facts.version, json.dumps(dict(facts.settings)), os.getpid(), process_start(os.getpid())),
    )


def _where(which: RunFilter) -> tuple[str, Sequence[object]]:
    conditions: list[str] = []
    values: list[object] = []
    if which.model is not None:
        conditions.append("coalesce(model_used, model_requested) = ?")
        values.append(which.model)
    if which.status is not None:
        conditions.append("status = ?")
        values.append("running" if which.status in _BY_PROCESS else which.status)
    if which.since is not None:
        conditions.append("started_at >= ?")
        values.append(which.since)
    if not which.with_simulated:
        conditions.append("NOT is_simulated")
    return (f" WHERE {' AND '.join(conditions)}" if conditions else ""), values


def _row(row: Sequence[Any], metrics: Mapping[str, float]) -> HistoryRow:
    status = row[4]
    if status == "running" and not is_running(row[14], row[15]):
        status = "interrupted"
    return HistoryRow(
        run_id=row[1],
        started_at=row[2],
        ended_at=row[3],
        status=status,
        exit_code=row[5],
        finish_reason=row[6],
        error_code=row[7],
        model_requested=row[8],
        model_used=row[9],
        target=row[10],
        prompt_chars=row[11],
        is_simulated=bool(row[12]),
        version=row[13],
        metrics=metrics,
    )


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Every number in *value*, under its path: `inter_chunk_latency_s.p50`, `usage.prompt_tokens`."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _numbers(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, bool | int | float) and name:
        yield name, float(value)
