"""The page of one run."""

from __future__ import annotations

from pathlib import Path

from utils.run_record import RunRecord

__all__ = ["page_html", "write_page"]


def page_html(record: RunRecord) -> str:
    """The whole page."""
    return f"<p>{record.facts.run_id}</p>"


def write_page(record: RunRecord, path: Path) -> None:
    """Write the page of *record* to *path*, whole or not at all. Raises OSError."""
    path.write_text(page_html(record), encoding="utf-8")
