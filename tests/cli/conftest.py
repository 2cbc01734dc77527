"""Fixtures: the command line with the model that is already in the user's cache, and that model as a foreign server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command_line import CommandLine
from utils.embedded_model.fetch import fetch
from utils.embedded_model.server import EmbeddedServer
from utils.embedded_model.spec import PINNED


@pytest.fixture(scope="session")
def gguf() -> Path:
    """The real model, fetched into the user's cache the first time."""
    return fetch()


@pytest.fixture(scope="session")
def cli(gguf: Path) -> CommandLine:
    return CommandLine(gguf.parent)


@pytest.fixture(scope="session")
def warm(gguf: Path) -> CommandLine:
    """For tests of what the program does once it is imported: the same real processes, with a warm start."""
    return CommandLine(gguf.parent, is_warm=True)


@pytest.fixture(scope="session")
def foreign(gguf: Path) -> Iterator[EmbeddedServer]:
    """A llama.cpp server of somebody else's: the program knows only its base URL."""
    with EmbeddedServer(gguf, expected_sha256=PINNED.sha256) as server:
        asyncio.run(server.wait_ready())
        yield server
