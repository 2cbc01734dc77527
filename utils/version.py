"""The version of the program. main.py repeats it, because it imports nothing of ours before it must."""

from __future__ import annotations

__all__ = ["VERSION"]

VERSION = "0.1.0"
