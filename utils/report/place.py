"""Where a page may be written, and what tells one from another file. Apart from the page: it is asked before a run."""

from __future__ import annotations

from pathlib import Path

from utils.output_place import why_not

__all__ = ["HEAD", "why_no_page"]

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

HEAD = (
    '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
)
"""What every page begins with."""


def why_no_page(path: Path) -> str | None:
    """Why no page may be put at *path*, as the end of a sentence; None if it may."""
    return why_not(path, HEAD.encode(), "report")
