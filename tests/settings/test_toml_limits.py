"""TOML within limits: what would need memory or stack without bound is refused before it is read."""

from __future__ import annotations

import time
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils import toml_limits
from utils.errors import ConfigError
from utils.settings_file import read_settings_file
from utils.toml_limits import DEPTH_MAX, PARTS_MAX, TomlLimitError, toml_table

PARTS = f"a dotted key of more than {PARTS_MAX} parts"
DEEP = "is nested too deeply"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a" + ".a" * 40_000 + " = 1", PARTS),
        ("a" + " . a" * PARTS_MAX + " = 1", PARTS),
        ("'a'" + ".'a'" * PARTS_MAX + " = 1", PARTS),
        ('"a"' + '."\\"a"' * PARTS_MAX + " = 1", PARTS),
        ("[a" + ".a" * PARTS_MAX + "]", PARTS),
        ("x = {a" + ".a" * PARTS_MAX + " = 1}", PARTS),
        ("x = '''\n'''''\na" + ".a" * PARTS_MAX + " = 1", PARTS),
        ('x = """\\""" # """\na' + ".a" * PARTS_MAX + " = 1", PARTS),
        ("# '''\na" + ".a" * PARTS_MAX + " = 1", PARTS),
        ("x = " + "[" * (DEPTH_MAX + 1), DEEP),
        ("x = " + "{a = " * (DEPTH_MAX + 1), DEEP),
        ("x = " + "[\n{a = " * DEPTH_MAX, DEEP),
    ],
)
def test_what_is_beyond_the_limits_is_refused(text: str, reason: str) -> None:
    with pytest.raises(TomlLimitError, match=reason):
        toml_table(text)


@pytest.mark.parametrize(
    "text",
    [
        "a" + ".a" * (PARTS_MAX - 1) + " = 1",
        "x = " + "[" * DEPTH_MAX + "]" * DEPTH_MAX,
        "x = '" + "a." * 500 + "'",
        'x = "' + "[" * 500 + '"',
        'x = """\n' + "a.[{" * 500 + '""""',
        "x = '''\n" + "a.[{" * 500 + "'''",
        "# " + "a.[" * 500,
        "x = [" + "1.5, " * 500 + "]",
        "x = [" + "[], " * 500 + "]",
        "".join(f"a{n}.b = 1.5\n" for n in range(500)),
    ],
)
def test_what_is_within_the_limits_is_read_as_ever(text: str) -> None:
    assert toml_table(text) == tomllib.loads(text)


@given(st.text(alphabet="a.='\"\\#[]{},\n 1", max_size=60))
def test_of_small_texts_none_is_beyond_the_limits(text: str) -> None:
    try:
        wanted = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        with pytest.raises(tomllib.TOMLDecodeError):
            toml_table(text)
    else:
        assert toml_table(text) == wanted


@pytest.mark.parametrize("unit", ["'''a", '"""\\', "'", '"', "[]", "a=1\n", '\\"', "#", '"""a'])
def test_the_check_is_linear(unit: str) -> None:
    text = (unit * 200_001)[: 400_000 + 1]
    started = time.process_time()
    toml_limits._check(text)
    assert time.process_time() - started < 1


@pytest.mark.parametrize(("error", "reason"), [(MemoryError, "is too large"), (RecursionError, DEEP)])
def test_a_parser_that_runs_out_of_memory_or_stack_is_a_refusal(
    error: type[Exception], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: str) -> None:
        raise error

    monkeypatch.setattr(tomllib, "loads", fails)
    with pytest.raises(TomlLimitError, match=reason):
        toml_table("a = 1")


def test_a_settings_file_with_an_endless_key_is_a_configuration_error(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("a" + ".a" * 40_000 + " = 1")
    with pytest.raises(ConfigError) as refused:
        read_settings_file(file, ("model",), must_exist=True)
    assert refused.value.message == f"{file}: has {PARTS}"
    assert refused.value.hint
