"""The state file: where it lies, who may read it, what processes share in it, and every way in which it is broken."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from utils.metrics.sketch import Sketch
from utils.resilience.breaker import Breaker, Permit, Refused
from utils.resilience.breaker_policy import BreakerPolicy
from utils.resilience.breaker_store import ProbePlace, SharedState
from utils.state_store import StateStore, state_path

ROOT = Path(__file__).resolve().parents[2]
OPEN_STATE = SharedState(1, is_open=True, open_for_s=30.0, consecutive_opens=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "state.sqlite3"


@contextmanager
def opened(path: Path, **options: object) -> Iterator[StateStore]:
    """A store that takes no access for slow, however busy the machine is, unless it is given a clock."""
    with StateStore(path, **{"clock": lambda: 0.0, **options}) as store:  # type: ignore[arg-type]
        yield store


def filled(path: Path) -> None:
    with opened(path) as store:
        store.publish("k", OPEN_STATE, expected=0)
        assert store.take_warning() is None


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"KAYGRAPH_STATE_DIR": "/data/s", "XDG_STATE_HOME": "/xdg"}, "/data/s"),
        ({"XDG_STATE_HOME": "/xdg"}, "/xdg/kaygraph-streaming-llm"),
        (
            {"KAYGRAPH_STATE_DIR": "", "XDG_STATE_HOME": "", "HOME": "/home/x"},
            "/home/x/.local/state/kaygraph-streaming-llm",
        ),
        ({"XDG_STATE_HOME": "relative/is/invalid", "HOME": "/h"}, "/h/.local/state/kaygraph-streaming-llm"),
    ],
)
def test_where_the_file_lies(environ: dict[str, str], expected: str) -> None:
    assert state_path(environ) == Path(expected, "state.sqlite3")


def test_reading_creates_nothing(path: Path) -> None:
    with opened(path) as store:
        assert store.load("k") is None
        assert store.load_sketch("k", "first_content_s") is None
        assert store.take_warning() is None
    assert not path.parent.exists()


def test_only_the_user_may_read_it(path: Path) -> None:
    old_mask = os.umask(0)
    try:
        with opened(path) as store:
            store.publish("k", OPEN_STATE, expected=0)
            modes = {entry.name: entry.stat().st_mode & 0o777 for entry in path.parent.iterdir()}
            directory = path.parent.stat().st_mode & 0o777
    finally:
        os.umask(old_mask)
    assert set(modes) == {"state.sqlite3", "state.sqlite3-wal", "state.sqlite3-shm"}
    assert set(modes.values()) == {0o600}
    assert directory == 0o700


def test_it_says_what_it_is(path: Path) -> None:
    filled(path)
    assert [entry.name for entry in path.parent.iterdir()] == ["state.sqlite3"]
    with closing(sqlite3.connect(path)) as connection:
        names = ("application_id", "user_version", "journal_mode")
        answers = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]
    assert answers == [0x4B475354, 1, "wal"]


def test_it_is_no_larger_after_months_of_targets(path: Path) -> None:
    now = [1.7e9]
    sketch = Sketch({0: 1.0})
    for month in range(6):
        with opened(path, wall=lambda: now[0]) as store:
            for i in range(20):
                store.publish(f"{month}-{i}", OPEN_STATE, expected=0)
                store.merge_sketch(f"{month}-{i}", "first_content_s", sketch)
        now[0] += 30 * 86400.0
    with opened(path, wall=lambda: now[0]) as store:
        store.load("k")
    with closing(sqlite3.connect(path)) as connection:
        counts = [connection.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in ("breakers", "sketches")]
    assert counts == [0, 60]


@pytest.mark.parametrize(
    ("shift_s", "is_known"), [(0.0, True), (3599.0, True), (3601.0, False), (-4.0, True), (-60.0, False)]
)
def test_old_rows_and_rows_from_the_future_are_unknown(path: Path, shift_s: float, is_known: bool) -> None:
    with opened(path, wall=lambda: 1.7e9) as store:
        store.publish("k", OPEN_STATE, expected=0)
    with opened(path, wall=lambda: 1.7e9 + shift_s) as store:
        assert (store.load("k") is not None) == is_known


def with_foreign_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (x)")


def with_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 9")


def damaged(start: int, length: int, byte: bytes = b"\xa5") -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[start : start + length] = byte * len(content[start : start + length])
        path.write_bytes(content)

    return damage


def with_statement(statement: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(statement)
            connection.commit()

    return change


def replaced_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replaced_by_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


# What is done to a good file, and whether the file is left alone (else it is begun anew), and what the warning says.
BROKEN: dict[str, tuple[Callable[[Path], None], str | None]] = {
    "no database at all": (lambda path: path.write_bytes(b"hello" * 1000), "is not a state file of this program"),
    "a short text": (lambda path: path.write_bytes(b"x"), "is not a state file of this program"),
    "a database of somebody else": (
        lambda path: (path.unlink(), with_foreign_database(path)),  # type: ignore[dict-item, func-returns-value]
        "is not a state file of this program",
    ),
    "the header is gone": (damaged(0, 100, b"\0"), "is not a state file of this program"),
    "a newer version": (with_version, "was written by a newer version (9); delete it if you no longer use that"),
    "a directory": (replaced_by_directory, "cannot be used: Is a directory"),
    "a link to itself": (replaced_by_loop, "cannot be used"),
    "everything behind the header is gone": (damaged(100, 10**6), "was damaged"),
    "the schema is gone": (damaged(100, 3900, b"\0"), "was damaged"),
    "the tables are gone": (damaged(4096, 10**6), "was damaged"),
    "only the header is left": (lambda path: os.truncate(path, 100), "was damaged"),
    "half of it is missing": (lambda path: os.truncate(path, 5000), "was damaged"),
    "texts for numbers": (with_statement("UPDATE breakers SET written_at = 'soon', is_open = 'x'"), "was damaged"),
    "numbers beyond all bounds": (with_statement("UPDATE breakers SET generation = 9e999"), "was damaged"),
    "a table is missing": (with_statement("DROP TABLE breakers"), "cannot be used: no such table"),
    "an empty file": (lambda path: os.truncate(path, 0), None),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_stops_nothing_and_is_told_once(path: Path, name: str) -> None:
    filled(path)
    damage, warning = BROKEN[name]
    damage(path)
    policy = BreakerPolicy(failure_threshold=2, open_s=10.0)
    with opened(path) as store:
        started_s = time.thread_time()
        breaker = Breaker(policy, store=store, key="k")
        for _ in range(2):
            permit = breaker.admit(0.0)
            assert isinstance(permit, Permit)
            permit.fail(0.0)
        assert isinstance(breaker.admit(5.0), Refused)
        probe = breaker.admit(10.0)
        assert isinstance(probe, Permit)
        probe.succeed(10.0)
        store.merge_sketch("k", "first_content_s", Sketch({0: 1.0}))
        assert time.thread_time() - started_s < 0.2
        told = store.take_warning()
        assert store.take_warning() is None
    assert (told is None) == (warning is None)
    if told is not None and warning is not None:
        assert warning in told
        assert "\n" not in told
        assert str(path) in told


@pytest.mark.parametrize("name", [name for name, (_, warning) in BROKEN.items() if warning == "was damaged"])
def test_a_damaged_file_is_kept_aside_and_begun_anew(path: Path, name: str) -> None:
    filled(path)
    BROKEN[name][0](path)
    with opened(path) as store:
        store.load("k")
        assert store.publish("k", OPEN_STATE, expected=0) is None
        assert "state.sqlite3.damaged" in (store.take_warning() or "")
    with opened(path) as store:
        assert store.load("k") is not None
        assert store.take_warning() is None
    assert path.with_name("state.sqlite3.damaged").exists()


def test_a_foreign_file_is_left_as_it_is(path: Path) -> None:
    path.parent.mkdir()
    with_foreign_database(path)
    before = path.read_bytes()
    with opened(path) as store:
        store.load("k")
        store.publish("k", OPEN_STATE, expected=0)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "directory",
    ["/proc/none/state", "{base}/file/state", "{base}/" + "x" * 300],
    ids=["where nothing can be made", "below a file", "a name that is too long"],
)
def test_a_directory_that_cannot_be_used_is_told_once(tmp_path: Path, directory: str) -> None:
    (tmp_path / "file").touch()
    with opened(Path(directory.format(base=tmp_path), "state.sqlite3")) as store:
        assert store.load("k") is None
        assert store.publish("k", OPEN_STATE, expected=0) is None
        assert store.acquire_probe("k", generation=1, limit=1, ttl_s=5.0) == ProbePlace("")
        assert "cannot be used" in (store.take_warning() or "")
        assert store.take_warning() is None


def in_a_process(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, text=True, capture_output=True, timeout=20, check=True
    )


FULL_DISK = """
import resource, sys
from pathlib import Path
from utils.metrics.sketch import Sketch
from utils.resilience.breaker_store import SharedState
from utils.state_store import StateStore
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
with StateStore(Path(sys.argv[1]), clock=lambda: 0.0) as store:
    for i in range(200):
        assert store.publish(f"k{i}", SharedState(1, is_open=True, open_for_s=9.0), expected=0) is None
        store.merge_sketch(f"k{i}", "tokens_per_s", Sketch({b: 1.0 for b in range(200)}))
    warning = store.take_warning()
    assert warning is not None and "cannot be used" in warning, warning
"""


@pytest.mark.parametrize("bytes_left", [0, 4096, 60_000])
def test_a_full_disk_is_told_and_leaves_a_sound_file_or_none(path: Path, bytes_left: int) -> None:
    in_a_process(FULL_DISK, str(path), str(bytes_left))
    assert [entry.name for entry in path.parent.iterdir() if entry.name.startswith(".")] == []
    with opened(path) as store:
        assert store.publish("other", OPEN_STATE, expected=0) is None
        assert store.load("other") is not None
        assert store.take_warning() is None


def test_a_python_without_sqlite_runs_without_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(path)
    monkeypatch.setitem(sys.modules, "sqlite3", None)
    with opened(path) as store:
        assert store.load("k") is None
        assert store.publish("k", OPEN_STATE, expected=0) is None
        assert "no sqlite3" in (store.take_warning() or "")


def test_a_lock_delays_a_run_by_less_than_a_fifth_of_a_second_and_is_waited_out_later(path: Path) -> None:
    filled(path)
    now = [0.0]
    with opened(path, clock=lambda: now[0]) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        delays_s = []
        for now[0] in (0.0, 100.0, 200.0):
            started_s = time.perf_counter()
            for _ in range(50):
                store.publish("k", OPEN_STATE, expected=1)
                store.acquire_probe("k", generation=1, limit=1, ttl_s=1.0)
            delays_s.append(time.perf_counter() - started_s)
        assert min(delays_s) < 0.2  # one of them, if the machine is busy
        assert "locked" in (store.take_warning() or "")
        other.execute("COMMIT")
        other.close()
        assert store.load("k") is None
        now[0] = 261.0
        assert store.load("k") is not None
        assert store.take_warning() is None


def test_an_interrupted_access_leaves_no_lock_behind(path: Path) -> None:
    filled(path)
    calls = [0]

    def wall() -> float:
        calls[0] += 1
        if calls[0] == 2:
            raise KeyboardInterrupt
        return time.time()

    with opened(path, wall=wall) as store, opened(path) as other:
        with pytest.raises(KeyboardInterrupt):
            store.publish("k", SharedState(2), expected=1)
        assert other.publish("k", SharedState(2), expected=1) is None
        assert store.load("k") == SharedState(2)
        assert store.take_warning() is None
        assert other.take_warning() is None


def test_damage_that_is_met_while_writing_is_set_aside(path: Path) -> None:
    filled(path)
    with_statement("UPDATE breakers SET open_until = 'soon'")(path)
    with opened(path) as store:
        assert store.publish("k", SharedState(2), expected=1) is None
        assert "was damaged" in (store.take_warning() or "")
        store.publish("k", SharedState(2), expected=1)
        assert store.load("k") == SharedState(2)


def test_damage_that_another_process_has_set_aside_costs_no_rest(path: Path) -> None:
    filled(path)
    with opened(path) as first, opened(path) as second:
        assert None not in (first.load("k"), second.load("k"))
        with_statement("UPDATE breakers SET open_until = 'soon'")(path)
        first.load("k")
        first.publish("k", SharedState(2), expected=1)
        assert second.load("k") is None
        assert "was damaged" in (second.take_warning() or "")
        assert second.load("k") == first.load("k") == SharedState(2)


def test_damage_is_set_aside_while_nobody_has_begun_anew(path: Path) -> None:
    filled(path)
    with opened(path) as first, opened(path) as second:
        assert None not in (first.load("k"), second.load("k"))
        with_statement("UPDATE breakers SET open_until = 'soon'")(path)
        first.load("k")
        assert not path.exists()
        second.load("k")
        second.publish("k", SharedState(2), expected=1)
        assert first.load("k") == SharedState(2)


def test_no_failure_is_lost_among_writers(path: Path) -> None:
    def write() -> None:
        with opened(path) as store:
            for _ in range(60):
                store.add_failure("k", generation=0, remembered_s=60.0)
            warnings.append(store.take_warning())

    warnings: list[str | None] = []
    with opened(path) as store:
        store.publish("k", SharedState(0), expected=0)
    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10.0)
    assert warnings == [None] * 3
    with opened(path) as store:
        known = store.load("k")
    assert known is not None
    assert known.failures_in_a_row == 180


def test_a_slow_file_is_left_alone(path: Path) -> None:
    filled(path)
    now = [0.0]

    def slow_wall() -> float:
        now[0] += 0.04
        return time.time()

    with opened(path, wall=slow_wall, clock=lambda: now[0]) as store:
        answers = [store.load("k") for _ in range(10)]
        assert [answer is not None for answer in answers] == [True] * 2 + [False] * 8
        assert "too slowly" in (store.take_warning() or "")


def test_a_store_may_be_used_again_after_it_was_closed(path: Path) -> None:
    store = StateStore(path, clock=lambda: 0.0)
    store.publish("k", OPEN_STATE, expected=0)
    store.close()
    store.close()
    assert store.load("k") is not None
    store.close()


PROCESS = """
import sys, time
from pathlib import Path
from utils.resilience.breaker import Breaker, Permit
from utils.resilience.breaker_policy import BreakerPolicy
from utils.state_store import StateStore
# On a busy machine a lock may be held for longer than a run would wait.
later_s = float(sys.argv[4]) if len(sys.argv) > 4 else 0.0
store = StateStore(Path(sys.argv[1]), wall=lambda: time.time() + later_s, clock=lambda: 0.0, busy_s=10.0)
breaker = Breaker(BreakerPolicy(failure_threshold=3, open_s=float(sys.argv[3]), permit_s=30.0), store=store, key="k")
for step in sys.argv[2]:
    now = time.monotonic()
    if step == "f":
        breaker.admit(now).fail(now)
    elif step == "s":
        breaker.admit(now).succeed(now)
    elif step == "a":
        print("admitted" if isinstance(breaker.admit(now), Permit) else "refused", flush=True)
    elif step == "w":
        sys.stdin.readline()
    elif step == "h":
        sys.stdin.read()
assert store.take_warning() is None
store.close()
"""


def test_two_processes_share_an_open_breaker(path: Path) -> None:
    in_a_process(PROCESS, str(path), "ff", "30")
    assert in_a_process(PROCESS, str(path), "a", "30").stdout == "admitted\n"
    in_a_process(PROCESS, str(path), "f", "30")
    assert in_a_process(PROCESS, str(path), "a", "30").stdout == "refused\n"


def test_of_processes_that_start_at_once_one_probes_and_every_failure_is_counted(path: Path) -> None:
    def all_at_once(steps: str, count: int, later_s: str) -> list[str]:
        # Nobody ends before all have asked: a process that has ended holds no place any more.
        command = [sys.executable, "-c", PROCESS, str(path), f"w{steps}h", "30", later_s]
        processes = [
            subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(count)
        ]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = [process.stdout.readline() for process in processes if process.stdout and steps == "a"]
        for process in processes:
            process.communicate(timeout=20)
        assert [process.returncode for process in processes] == [0] * count
        return answers

    all_at_once("f", 3, "0")
    with opened(path) as store:
        known = store.load("k")
        assert known is not None
        assert known.is_open
    assert all_at_once("a", 2, "0") == ["refused\n", "refused\n"]
    assert sorted(all_at_once("a", 4, "31")).count("admitted\n") == 1


def test_a_killed_process_loses_its_place_and_harms_no_file(path: Path) -> None:
    in_a_process(PROCESS, str(path), "fff", "30")
    command = [sys.executable, "-c", PROCESS, str(path), "ah", "30", "31"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "admitted\n"
        os.kill(holder.pid, signal.SIGKILL)
    assert path.with_name("state.sqlite3-wal").exists()
    with opened(path, wall=lambda: time.time() + 31.0) as store:
        assert store.acquire_probe("k", generation=1, limit=1, ttl_s=30.0).token
        assert store.take_warning() is None


def test_a_process_that_waits_longer_keeps_its_place_from_one_that_waits_less(path: Path) -> None:
    with opened(path) as patient, opened(path) as hasty:
        assert patient.acquire_probe("k", generation=1, limit=1, ttl_s=300.0).token
        place = hasty.acquire_probe("k", generation=1, limit=1, ttl_s=30.0)
        assert place.token is None
        assert 30.0 < place.wait_s <= 300.0


def test_a_copy_of_the_file_while_it_is_written_is_read_or_set_aside(path: Path, tmp_path: Path) -> None:
    with opened(path) as store:
        for i in range(30):
            store.publish(f"k{i}", OPEN_STATE, expected=0)
        twin = tmp_path / "twin.sqlite3"
        shutil.copy(path, twin)
    with opened(twin) as other:
        other.load("k0")
        assert other.publish("k0", OPEN_STATE, expected=0) is None


def test_sketches_of_processes_are_merged_and_fade(path: Path) -> None:
    now = [1.7e9]
    for value in (1.0, 3.0):
        with opened(path, wall=lambda: now[0]) as store:
            sketch = Sketch()
            for _ in range(100):
                sketch.add(value)
            store.merge_sketch("k", "first_content_s", sketch)
    with opened(path, wall=lambda: now[0]) as store:
        known = store.load_sketch("k", "first_content_s")
        assert known is not None
        assert known.weight == 200.0
        assert known.quantile(0.4) == pytest.approx(1.0, rel=0.0201)
        assert known.quantile(0.6) == pytest.approx(3.0, rel=0.0201)
        assert store.load_sketch("k", "tokens_per_s") is None
        now[0] += 86400.0
        faded = store.load_sketch("k", "first_content_s")
        assert faded is not None
        assert faded.weight == pytest.approx(100.0)


def test_one_long_stream_does_not_outweigh_all_others(path: Path) -> None:
    with opened(path) as store:
        store.merge_sketch("k", "idle_gap_s", Sketch({0: 1e6}))
        known = store.load_sketch("k", "idle_gap_s")
    assert known is not None
    assert known.weight == pytest.approx(2000.0, rel=1e-3)
