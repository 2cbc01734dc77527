"""The page of one run: self-contained, without script, loading nothing; and the only place here that writes a file."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path

from utils.report.closing_parts import environment_part, events_part, quality_part, targets_part
from utils.report.figures import Glossary
from utils.report.guard_part import guard_part
from utils.report.heat_map import answer_part
from utils.report.latency import latency_part
from utils.report.markup import Html, TextBudget, joined, sentence, tag, text
from utils.report.place import HEAD, why_no_page
from utils.report.style import STYLE
from utils.report.timeline import timeline
from utils.report.verdict import facts_list, key_figures, more_figures, objectives, verdict
from utils.run_record import RunRecord

__all__ = ["page_html", "write_page"]

_MAX_PROMPT_BYTES = 200_000


def page_html(record: RunRecord) -> str:
    """The whole page. Linear in the size of *record*, and below some 3 MB whatever its size."""
    glossary = Glossary()
    parts = (
        ("figures", "Key figures", _figures(record, glossary)),
        ("timeline-part", "Timeline", sentence(timeline(record), events_part(record, glossary))),
        ("latency-part", "Latency", latency_part(record, glossary)),
        ("answer", "Answer and confidence", answer_part(record, glossary)),
        ("guard", "Guard", guard_part(record, glossary)),
        ("quality", "Quality", quality_part(record, glossary)),
        ("targets", "Targets", targets_part(record)),
        ("environment", "Settings and environment", sentence(environment_part(record), _prompt(record))),
        ("definitions", "Definitions", glossary.section()),
    )
    contents = tag("nav", *(tag("a", title, href=f"#{name}") for name, title, _ in parts), aria_label="Contents")
    head = tag("header", tag("h1", f"Run {record.facts.run_id}"), verdict(record), facts_list(record), contents)
    sections = (
        tag("section", tag("h2", title, id=f"{name}-title"), content, id=name, aria_labelledby=f"{name}-title")
        for name, title, content in parts
    )
    foot = tag("footer", tag("p", "This page holds everything that it shows: it has no script and loads nothing."))
    title = f"Run {record.facts.run_id}: {record.report.get('outcome', 'unknown')}"
    return (
        f"{HEAD}"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"{tag('title', title)}\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"{head}\n{tag('main', joined(sections))}\n{foot}\n</body>\n</html>\n"
    )


def _figures(record: RunRecord, glossary: Glossary) -> Html:
    return joined(make(record, glossary) for make in (key_figures, more_figures, objectives))


def _prompt(record: RunRecord) -> Html:
    if record.prompt is None:
        return Html("")
    budget = TextBudget(_MAX_PROMPT_BYTES)
    shown = tag("div", budget.take(record.prompt), class_="answer", dir="auto")
    more = f"{budget.left_out:,} more characters are left out." if budget.left_out else ""
    return tag("details", tag("summary", "the prompt"), shown, text(more))


def write_page(record: RunRecord, path: Path) -> None:
    """Write the page of *record* to *path*, whole or not at all, for its owner only: it may hold the answer.

    A page that is there is replaced; a link stays, and what it points to is replaced. Raises OSError, also for a place
    where no page may be (see `why_no_page`).
    """
    page = page_html(record).encode()
    if (reason := why_no_page(path)) is not None:
        raise OSError(errno.EINVAL, reason)
    target = Path(os.path.realpath(path))
    beside = target.with_name(f".report-{secrets.token_hex(8)}.tmp")
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(page)
        os.replace(beside, target)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
