"""Whether the packages of a run are installed. main.py answers a missing one with a restart in the own environment."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

__all__ = ["has_own_environment", "require_packages"]

_NEEDED = ("httpx2", "msgspec", "openai", "pydantic", "rich")


def require_packages() -> None:
    """Raises ModuleNotFoundError for the first package that is missing. Imports none of them."""
    for name in _NEEDED:
        if find_spec(name) is None:
            raise ModuleNotFoundError(f"no module named {name!r}", name=name)


def has_own_environment() -> bool:
    """Whether `make run` made an environment here, and this Python is another one."""
    own = Path(__file__).resolve().parents[1] / ".venv"
    return (own / "bin" / "python").exists() and Path(sys.prefix) != own
