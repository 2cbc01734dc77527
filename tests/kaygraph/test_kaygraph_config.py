"""Config: a small store for settings."""

from __future__ import annotations

from typing import Any

import pytest

from kaygraph import Config


def test_values_are_read_by_name_with_a_default() -> None:
    config = Config(model="small", limit=None)
    assert config.get("model") == "small"
    assert config.get("limit", 5) is None
    assert config.get("missing") is None
    assert config.get("missing", 5) == 5


def test_set_and_update_change_the_config_itself() -> None:
    config = Config(a=1)
    config.set("b", 2)
    config.update(a=3, c=4)
    assert config.to_dict() == {"a": 3, "b": 2, "c": 4}


@pytest.mark.parametrize("other", [Config(b=20, c=30), {"b": 20, "c": 30}])
def test_merge_makes_a_new_config_in_which_the_other_wins(other: Any) -> None:
    config = Config(a=1, b=2)
    merged = config.merge(other)
    assert merged.to_dict() == {"a": 1, "b": 20, "c": 30}
    assert merged is not config
    assert config.to_dict() == {"a": 1, "b": 2}


@pytest.mark.parametrize("other", [None, 5, "text", [("a", 1)]])
def test_merging_anything_else_returns_the_config_itself(other: Any) -> None:
    config = Config(a=1)
    assert config.merge(other) is config


def test_to_dict_returns_a_copy() -> None:
    config = Config(a=1)
    config.to_dict()["a"] = 2
    assert config.get("a") == 1


@pytest.mark.parametrize(("config", "truth"), [(Config(), False), (Config(a=None), True)])
def test_a_config_is_true_only_if_it_holds_a_key(config: Config, truth: bool) -> None:
    assert bool(config) is truth


def test_the_repr_names_the_settings_but_never_shows_a_value() -> None:
    shown = repr(Config(api_key="secret value", limit=3))
    assert shown.startswith("Config(")
    assert "api_key" in shown
    assert "secret" not in shown
