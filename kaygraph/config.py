"""A small store for settings that a graph hands to its nodes."""

from __future__ import annotations

from typing import Any

__all__ = ["Config"]


class Config:
    """Settings by name: `Config(model="small", limit=3)`. True only if it holds at least one setting."""

    def __init__(self, **kwargs: Any) -> None:
        self._values: dict[str, Any] = kwargs

    def get(self, key: str, default: Any = None) -> Any:
        """The value of *key*, or *default* if it is not set."""
        return self._values.get(key, default)

    def set(self, key: str, value: Any) -> None:
        """Set one value."""
        self._values[key] = value

    def update(self, **kwargs: Any) -> None:
        """Set several values."""
        self._values.update(kwargs)

    def merge(self, other: Any) -> Config:
        """A new Config in which *other* (a Config or a dict) wins. Anything else changes nothing: returns self."""
        if isinstance(other, Config):
            other = other._values
        elif not isinstance(other, dict):
            return self
        merged = Config()
        merged._values = {**self._values, **other}
        return merged

    def to_dict(self) -> dict[str, Any]:
        """A shallow copy of all settings."""
        return dict(self._values)

    def __bool__(self) -> bool:
        return bool(self._values)

    def __repr__(self) -> str:
        # Settings often are keys and addresses, and a repr often ends in a log: names only.
        return f"Config({', '.join(f'{key}=...' for key in self._values)})"
