"""`/model NAME` in a chat: who is asked then, and that every key stays with the server that it is meant for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commands.chat_servers import ChatServers
from utils.run_context import EMBEDDED, Target
from utils.settings import load
from utils.settings_sources import server_of
from utils.targets import EMBEDDED_MODEL, OPENAI_URL, choose_target

KEY, OWN, ENV = "typed-key-0123456789", "slow-key-0123456789", "general-key-0123456789"
FAST, SLOW, X, Y = "https://fast.test/v1", "https://slow.test/v1", "https://x.test/v1", "https://y.test/v1"
FILE = (
    f'[targets.fast]\nbase_url = "{FAST}"\nmodel = "small"\n'
    f'[targets.slow]\nbase_url = "{SLOW}"\nmodel = "large"\nkey_env = "SLOW_KEY"\n'
)


class Chat:
    """Who is asked in a chat, and with which key."""

    def __init__(self, directory: Path, typed: Mapping[str, object], *, default: str = "", **environ: str) -> None:
        self._file = directory / "c.toml"
        self._file.write_text(f"target = '{default}'\n{FILE}" if default else FILE, encoding="utf-8")
        self._environ = {"SLOW_KEY": OWN, **environ}
        self._flags = dict(typed)
        self._loaded = load(typed, environ=self._environ, config_file=self._file)
        self.target: Target = choose_target(self._loaded.settings, origins=self._loaded.origins).target
        self.starts_with_target = self._loaded.target is not None
        self.servers = ChatServers(typed, self._loaded, self.target)

    def model(self, name: str) -> Target:
        changes, environment, server = self.servers.changes(name, self._loaded.targets)
        flags = {**self._flags, **changes}
        loaded = load(flags, environ={**self._environ, **environment}, config_file=self._file)
        loaded = self.servers.without_foreign_key(loaded)
        target = choose_target(loaded.settings, origins=loaded.origins).target
        self._flags, self._loaded, self.target = flags, loaded, target
        self.servers.remember(server, loaded, target)
        return target


@pytest.mark.parametrize(
    ("started", "names", "asked"),
    [
        ({}, ["fast"], (FAST, "small", None)),
        ({}, ["slow"], (SLOW, "large", OWN)),
        ({}, ["slow", "n"], (SLOW, "n", OWN)),
        ({}, ["slow", "embedded", "n"], (SLOW, "n", OWN)),
        ({}, ["slow", f"m@{Y}", f"n@{SLOW}"], (SLOW, "n", OWN)),
        ({}, ["slow", f"m@{Y}"], (Y, "m", None)),
        ({"base_url": X, "api_key": KEY}, ["fast"], (FAST, "small", None)),
        ({"base_url": X, "api_key": KEY}, ["n"], (X, "n", KEY)),
        ({"base_url": X, "api_key": KEY}, ["slow", f"n@{X}"], (X, "n", KEY)),
        ({"base_url": X, "api_key": KEY}, ["embedded"], (EMBEDDED, EMBEDDED_MODEL, None)),
        ({"base_url": X, "api_key": KEY}, ["embedded", "n"], (X, "n", KEY)),
        ({"base_url": X, "api_key": KEY}, [f"m@{Y}"], (Y, "m", None)),
        ({"base_url": X, "api_key": KEY}, [f"m@{Y}", "n"], (Y, "n", None)),
        ({"base_url": X, "api_key": KEY}, [f"m@{Y}", f"m@{X}"], (X, "m", KEY)),
        ({"base_url": X, "api_key": KEY}, [Y], (Y, "", None)),
        ({"base_url": X, "model": "fast"}, ["fast"], (FAST, "small", None)),
        ({"model": "fast", "api_key": KEY}, ["slow", "fast"], (FAST, "small", KEY)),
        ({"model": "fast", "api_key": KEY}, ["slow"], (SLOW, "large", OWN)),
        ({"model": "fast", "api_key": KEY}, ["slow", f"m@{FAST}"], (FAST, "m", KEY)),
        ({"model": "fast", "api_key": KEY}, ["n"], (FAST, "n", KEY)),
        ({"model": "fast", "api_key": KEY}, [f"m@{OPENAI_URL}"], (OPENAI_URL, "m", None)),
        ({"api_key": KEY}, ["gpt-4"], (OPENAI_URL, "gpt-4", KEY)),
        ({"api_key": KEY}, ["slow", f"gpt-4@{OPENAI_URL}"], (OPENAI_URL, "gpt-4", KEY)),
    ],
)
def test_a_name_is_asked_where_it_is_meant_to_be(
    tmp_path: Path, started: dict[str, object], names: list[str], asked: tuple[str, str, str | None]
) -> None:
    chat = Chat(tmp_path, started)
    target = [chat.model(name) for name in names][-1]
    assert (target.base_url, target.model, target.api_key) == asked


def test_a_chat_with_a_target_knows_where_the_general_key_belongs(tmp_path: Path) -> None:
    chat = Chat(tmp_path, {"model": "slow"}, OPENAI_API_KEY=ENV, OPENAI_BASE_URL=X)
    assert chat.model(f"m@{X}").api_key == ENV
    assert chat.model(f"m@{Y}").api_key is None
    assert chat.servers.is_key_withheld
    assert chat.model("slow").api_key == OWN
    assert not chat.servers.is_key_withheld


def test_a_key_that_was_typed_for_nobody_goes_to_no_target(tmp_path: Path) -> None:
    target = Chat(tmp_path, {"model": "embedded", "api_key": KEY}, default="fast").model("n")
    assert (target.base_url, target.model, target.api_key) == (FAST, "n", None)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([None, "fast", "slow", "embedded", "m"]),
    st.sampled_from([None, X, FAST]),
    st.sampled_from(["", "fast", "slow"]),
    st.booleans(),
    st.sampled_from(["", Y]),
    st.lists(st.sampled_from(["fast", "slow", "embedded", "n", X, f"m@{Y}", f"m@{FAST}", f"m@{SLOW}"]), max_size=5),
)
def test_no_key_ever_goes_to_another_server(
    tmp_path: Path,
    model: str | None,
    base_url: str | None,
    default: str,
    has_typed_key: bool,
    exported: str,
    names: list[str],
) -> None:
    typed = {"model": model, "base_url": base_url, "api_key": KEY if has_typed_key else None}
    chat = Chat(tmp_path, typed, default=default, OPENAI_API_KEY=ENV, OPENAI_BASE_URL=exported)
    general = server_of(exported or OPENAI_URL)
    first = server_of((base_url or exported or OPENAI_URL) if chat.target.is_embedded else chat.target.base_url)
    meant_for = {OWN: {server_of(SLOW)}, KEY: {first}, ENV: {general} if chat.starts_with_target else {general, first}}
    for target in (chat.target, *map(chat.model, names)):
        assert target.api_key is None or server_of(target.base_url) in meant_for[target.api_key]
