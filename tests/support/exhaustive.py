"""Cases that are too slow for every run of the suite: `KAYGRAPH_TESTS=all python -m pytest ...` runs them, too."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

__all__ = ["exhaustive"]

T = TypeVar("T")


def exhaustive(cases: Sequence[T]) -> Sequence[T]:
    """*cases* if all are to run, else none of them."""
    return cases if os.environ.get("KAYGRAPH_TESTS") == "all" else ()
