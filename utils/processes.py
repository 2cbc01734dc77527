"""Which process is which: a number may be given to another one after its process has ended."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["is_running", "process_start"]


def process_start(pid: int) -> str:
    """What tells this process from another one that gets its number later; "" where the system does not tell."""
    try:
        # The name in parentheses may hold anything; the start is the 20th field behind it.
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def is_running(pid: int, start: str) -> bool:
    """Whether the process *pid*, which began at *start* (see `process_start`), still runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's, so it runs
    except OSError:
        return False
    return not start or process_start(pid) == start
