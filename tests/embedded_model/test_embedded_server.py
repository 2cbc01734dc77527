from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.embedded_model.tiny_model import ROOT
from utils.embedded_model import server as server_module
from utils.embedded_model.server import EmbeddedServer, ModelFileCorrupt, usable_cores
from utils.embedded_model.spec import PINNED
from utils.errors import AppError, ConfigError, EmbeddedModelError, InternalError

FAKE_LLAMA = """
import os, signal, sys, time
class _Params:
    def __getattr__(self, name):
        value = _Params()
        setattr(self, name, value)
        return value
CommonParams = _Params
class Server:
    listening_address = "http://127.0.0.1:1"
    def __init__(self, params):
        ACTION
"""
LAST_WORDS = "os.write(2, b'ASSERT(x) failed\\n#1 frame\\n'); os._exit(7)"


@pytest.fixture
def fake_llama(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A stand-in for xllamacpp in the child, whose `Server(params)` runs the given statement."""

    def install(action: str) -> None:
        (tmp_path / "modules").mkdir(exist_ok=True)
        (tmp_path / "modules" / "xllamacpp.py").write_text(FAKE_LLAMA.replace("ACTION", action))
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))

    return install


@pytest.fixture
def some_gguf(tmp_path: Path) -> Path:
    path = tmp_path / "own.gguf"
    path.write_bytes(b"GGUF and what follows")
    return path


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        os.sched_yield()
    return True


def has_vanished(pid: int) -> bool:
    """Whether no process *pid* runs any more (one that nobody has reaped yet does not run)."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return status.rpartition(")")[2].split()[0] == "Z"


def failure_of(server: EmbeddedServer) -> AppError:
    with server, pytest.raises(AppError) as caught:
        asyncio.run(server.wait_ready())
    assert not server.is_alive
    assert "\n" not in caught.value.message + caught.value.hint
    assert caught.value.hint
    return caught.value


def post(url: str, body: dict[str, object], headers: dict[str, str] | None = None) -> urllib.request.Request:
    return urllib.request.Request(
        f"{url}/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Connection": "close", **(headers or {})},
    )


def question(text: str, **parameters: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": text}], "stream": True, **parameters}


def answer(url: str, body: dict[str, object]) -> str:
    text = ""
    with urllib.request.urlopen(post(url, body), timeout=30) as response:
        for line in response:
            if line.startswith(b"data: {"):
                choices = json.loads(line[6:])["choices"]
                text += (choices[0]["delta"].get("content") or "") if choices else ""
    return text


class TestTheRealModel:
    def test_it_serves_its_name_on_the_loopback_interface(self, server: EmbeddedServer) -> None:
        assert server.base_url is not None
        assert server.base_url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{server.base_url}/models", timeout=10) as response:
            assert json.load(response)["data"][0]["id"] == PINNED.name

    @pytest.mark.parametrize("temperature", [0, 1.2])
    def test_the_same_seed_gives_the_same_text_with_a_warm_cache(
        self, server: EmbeddedServer, temperature: float
    ) -> None:
        assert server.base_url is not None
        body = question("Name three colours.", temperature=temperature, seed=11, max_tokens=16, cache_prompt=True)
        first = answer(server.base_url, body)
        answer(server.base_url, question("And now for something else.", max_tokens=4))
        assert first
        assert answer(server.base_url, body) == first

    def test_closing_a_stream_frees_the_slot(self, server: EmbeddedServer) -> None:
        assert server.base_url is not None
        root = server.base_url.removesuffix("/v1")

        def is_busy() -> bool:
            with urllib.request.urlopen(f"{root}/slots", timeout=10) as response:
                return any(slot["is_processing"] for slot in json.load(response))

        body = question("Tell a long story.", max_tokens=2000, seed=1)
        with urllib.request.urlopen(post(server.base_url, body), timeout=30) as response:
            while b'"content"' not in response.readline():
                pass
            assert is_busy()
        assert wait_until(lambda: not is_busy())

    def test_a_web_page_may_not_read_answers(self, server: EmbeddedServer) -> None:
        assert server.base_url is not None
        request = urllib.request.Request(f"{server.base_url}/models", headers={"Origin": "http://page.invalid"})
        with urllib.request.urlopen(request, timeout=10) as response:
            assert response.headers["Access-Control-Allow-Origin"] != "http://page.invalid"
            assert response.headers["Access-Control-Allow-Credentials"] != "true"

    def test_the_terminals_ctrl_c_does_not_reach_it(self, server: EmbeddedServer) -> None:
        assert server.pid is not None
        assert os.getsid(server.pid) == server.pid != os.getsid(0)

    def test_it_ends_at_once_while_it_answers_and_can_be_started_again(self, gguf: Path) -> None:
        server = EmbeddedServer(gguf, expected_sha256=None, api_key="k" * 32)
        with server:
            url = asyncio.run(server.wait_ready())
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(post(url, question("Hello")), timeout=10)
            refused.value.close()
            assert refused.value.code == 401
            request = post(url, question("Tell a long story."), {"Authorization": "Bearer " + "k" * 32})
            response = urllib.request.urlopen(request, timeout=30)
            response.readline()
            started_s = time.monotonic()
            server.stop()
            assert time.monotonic() - started_s < 0.9
            response.close()
            assert server.poll() == 0
            server.start()
            assert server.base_url is None
            asyncio.run(server.wait_ready())
            assert server.is_alive

    def test_a_hash_that_differs_is_told_as_corrupt(self, gguf: Path) -> None:
        error = failure_of(EmbeddedServer(gguf, expected_sha256="0" * 64))
        assert isinstance(error, ModelFileCorrupt)
        assert "SHA-256" in error.message

    def test_a_model_that_does_not_load_is_corrupt_if_it_is_ours_and_a_bad_file_if_it_is_the_users(
        self, some_gguf: Path
    ) -> None:
        assert isinstance(failure_of(EmbeddedServer(some_gguf, expected_sha256="0" * 64)), ModelFileCorrupt)
        error = failure_of(EmbeddedServer(some_gguf, expected_sha256=None))
        assert isinstance(error, ConfigError)
        assert repr(str(some_gguf)) in error.message
        assert some_gguf.exists()


class TestBadFiles:
    @pytest.mark.parametrize(
        ("content", "reason"),
        [(None, "No such file"), (b"", "not a GGUF file"), (b"GGU", "not a GGUF file"), (b"PK\x03\x04", "not a GGUF")],
    )
    def test_the_users_own_file_is_a_configuration_error_with_the_reason(
        self, tmp_path: Path, content: bytes | None, reason: str
    ) -> None:
        path = tmp_path / "own.gguf"
        if content is not None:
            path.write_bytes(content)
        error = failure_of(EmbeddedServer(path, expected_sha256=None))
        assert isinstance(error, ConfigError)
        assert reason in error.message
        assert str(path) in error.message
        assert "--gguf" in error.hint

    def test_a_directory_is_told(self, tmp_path: Path) -> None:
        assert "Is a directory" in failure_of(EmbeddedServer(tmp_path, expected_sha256=None)).message

    def test_a_missing_pinned_file_is_told_as_corrupt_so_that_it_is_fetched(self, tmp_path: Path) -> None:
        assert isinstance(failure_of(EmbeddedServer(tmp_path / "gone", expected_sha256="0" * 64)), ModelFileCorrupt)


class TestTheChild:
    def test_what_it_prints_does_not_disturb_the_answer(
        self, some_gguf: Path, fake_llama: Callable[[str], None], capfd: pytest.CaptureFixture[str]
    ) -> None:
        fake_llama('print("{}"); os.write(1, b"native noise\\n"); os.write(2, b"more\\n")')
        with EmbeddedServer(some_gguf, expected_sha256=None) as server:
            assert asyncio.run(server.wait_ready()) == "http://127.0.0.1:1/v1"
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize(
        ("action", "sha256", "kind", "says"),
        [
            ("os.abort()", None, ConfigError, "llama.cpp was ended by SIGABRT while loading it"),
            ("os.abort()", "0" * 64, EmbeddedModelError, "was ended by SIGABRT"),
            ("os.kill(os.getpid(), 9)", None, EmbeddedModelError, "was ended by SIGKILL"),
            (LAST_WORDS, None, EmbeddedModelError, "ended with status 7: ASSERT(x) failed"),
            ("raise SystemExit(3)", None, EmbeddedModelError, "ended with status 1: SystemExit: 3"),
            ("raise MemoryError", None, ConfigError, "llama.cpp cannot load it (MemoryError)"),
        ],
    )
    def test_a_child_that_dies_while_loading_is_told_with_its_last_words(
        self,
        some_gguf: Path,
        fake_llama: Callable[[str], None],
        action: str,
        sha256: str | None,
        kind: type[AppError],
        says: str,
    ) -> None:
        fake_llama(action)
        error = failure_of(EmbeddedServer(some_gguf, expected_sha256=sha256))
        assert type(error) is kind
        assert says in error.message

    def test_a_platform_without_xllamacpp_gets_the_way_out(
        self, tmp_path: Path, some_gguf: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "xllamacpp.py").write_text("raise ImportError('no such extension\\nsecond line')")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        error = failure_of(EmbeddedServer(some_gguf, expected_sha256=None))
        assert type(error) is EmbeddedModelError
        assert "cannot run here: no such extension" in error.message
        assert "--base-url" in error.hint

    def test_one_that_is_not_ready_in_time_is_stopped(
        self, some_gguf: Path, fake_llama: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fake_llama("signal.pause()")
        monkeypatch.setattr(server_module, "_STOP_S", 0.1)
        error = failure_of(EmbeddedServer(some_gguf, expected_sha256=None, ready_timeout_s=0.2))
        assert "not ready within 0.2 s" in error.message

    def test_one_that_does_not_listen_is_killed(
        self, some_gguf: Path, fake_llama: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fake_llama("signal.pause()")
        monkeypatch.setattr(server_module, "_STOP_S", 0.1)
        server = EmbeddedServer(some_gguf, expected_sha256=None)
        server.start()
        server.stop()
        assert server.poll() == -signal.SIGKILL

    def test_its_death_after_it_was_ready_is_told_with_the_signal(
        self, some_gguf: Path, fake_llama: Callable[[str], None]
    ) -> None:
        fake_llama("pass")
        with EmbeddedServer(some_gguf, expected_sha256=None) as server:
            asyncio.run(server.wait_ready())
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            assert wait_until(lambda: not server.is_alive)
            error = server.died_error()
            assert "was ended by SIGKILL" in error.message
            assert "memory" in error.hint
            with pytest.raises(EmbeddedModelError, match="SIGKILL"):
                asyncio.run(server.wait_ready())

    def test_it_ends_when_its_parent_is_killed(self, some_gguf: Path, fake_llama: Callable[[str], None]) -> None:
        fake_llama("pass")
        code = (
            "import asyncio, sys\n"
            "from pathlib import Path\n"
            "from utils.embedded_model.server import EmbeddedServer\n"
            f"server = EmbeddedServer(Path({str(some_gguf)!r}), expected_sha256=None)\n"
            "server.start()\n"
            "asyncio.run(server.wait_ready())\n"
            "print(server.pid, flush=True)\n"
            "sys.stdin.read()\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as parent:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            assert not has_vanished(pid)
            parent.kill()
            assert wait_until(lambda: has_vanished(pid))


class TestWaiting:
    def test_a_cancelled_wait_leaves_the_child_to_others(
        self, some_gguf: Path, fake_llama: Callable[[str], None]
    ) -> None:
        fake_llama("sys.stdin.buffer.read(0)")

        async def scenario(server: EmbeddedServer) -> list[str | BaseException]:
            waits = [asyncio.create_task(server.wait_ready()) for _ in range(3)]
            await asyncio.sleep(0)
            waits[1].cancel()
            return await asyncio.gather(*waits, return_exceptions=True)

        with EmbeddedServer(some_gguf, expected_sha256=None) as server:
            first, cancelled, last = asyncio.run(scenario(server))
            assert first == last == server.base_url
            assert isinstance(cancelled, asyncio.CancelledError)
            assert server.is_alive

    def test_stop_may_be_called_at_any_time_and_often(self, some_gguf: Path) -> None:
        server = EmbeddedServer(some_gguf, expected_sha256=None)
        server.stop()
        server.start()
        server.stop()
        server.stop()
        assert not server.is_alive

    def test_misuse_is_an_internal_error(self, some_gguf: Path, fake_llama: Callable[[str], None]) -> None:
        fake_llama("pass")
        server = EmbeddedServer(some_gguf, expected_sha256=None)
        with pytest.raises(InternalError):
            asyncio.run(server.wait_ready())
        with server, pytest.raises(InternalError):
            server.start()

    def test_a_python_that_cannot_be_started_is_told(self, some_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server_module.sys, "executable", "/nowhere/python")
        with pytest.raises(EmbeddedModelError, match="/nowhere/python"):
            EmbeddedServer(some_gguf, expected_sha256=None).start()


def test_starting_imports_nothing_heavy() -> None:
    code = (
        "import sys\nbefore = set(sys.modules)\nimport utils.embedded_model.ready\nprint(*(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {"asyncio", "tempfile", "zipfile", "ssl", "rich", "openai", "pydantic", "xllamacpp"}
    assert heavy.isdisjoint(done.stdout.split())


def test_the_cores_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "max 100000\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2, 4}, raising=False)
    assert usable_cores() == 3
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "200000 100000\n")
    assert usable_cores() == 2
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "50000 100000\n")
    assert usable_cores() == 1
