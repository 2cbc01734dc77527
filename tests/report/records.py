"""Records as runs leave them, made by the recorder; and a page as a browser's parser reads it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from html.parser import HTMLParser
from typing import Any

from utils.events import Event, Finished, Opened, TextDelta, TokenLogprob, Usage
from utils.guardrails.hold_log import HoldLog
from utils.metrics.recorder import Recorder
from utils.report.page import page_html
from utils.run_record import RunFacts, RunRecord
from utils.run_report import RunReport, exit_code_of, outcome_of

__all__ = ["Page", "answered", "facts", "of_events", "page_of", "tokens"]

Timed = tuple[float, Event]


def facts(**changes: Any) -> RunFacts:
    values = {"run_id": "0cce8a8eeb91", "started_at": 1_795_828_532.0, "version": "0.1.0", "model_requested": "asked-1"}
    return RunFacts(
        **{**values, "target": "asked-1 at home", "prompt_chars": 12, "settings": {"retries": 2}, **changes}
    )


def tokens(words: Iterable[str], logprobs: Iterable[float] | None = None, *, start_s: float = 0.5) -> list[Timed]:
    """One delta per word, 20 ms apart."""
    known = None if logprobs is None else list(logprobs)
    return [
        (start_s + 0.02 * place, TextDelta(word, () if known is None else (TokenLogprob(word, known[place]),)))
        for place, word in enumerate(words)
    ]


def of_events(
    events: Iterable[Timed], *, keeps_text: bool = True, hold: HoldLog | None = None, **fields: Any
) -> RunRecord:
    """What the keeper makes of a run with these events; the last one is the terminal event."""
    recorder = Recorder(0.0)
    for now, event in events:
        recorder.handle(event, now)
    terminal = recorder.terminal
    assert terminal is not None
    shown = recorder.text_shown
    report = RunReport(
        text=recorder.text,
        outcome=outcome_of(terminal, text_shown=shown),
        exit_code=exit_code_of(terminal, text_shown=shown),
        finish_reason=getattr(terminal, "finish_reason", None),
        model_requested="asked-1",
        model_used=recorder.opened.model if recorder.opened else None,
        target=recorder.target,
        error=getattr(terminal, "error", None),
        usage=recorder.usage(),
        metrics=recorder.metrics(99.0),
        quality=recorder.quality(),
        events=recorder.events(),
        **{name: fields.pop(name) for name in ("guard", "targets", "breaker") if name in fields},
    )
    levels = () if hold is None else tuple(hold.levels())
    record = RunRecord.of(facts(), report, tokens=recorder.token_log(hold), held=levels)
    return dataclasses.replace(record, **{"text": recorder.text if keeps_text else None, **fields})


def answered(words: Iterable[str], logprobs: Iterable[float] | None = None, **fields: Any) -> RunRecord:
    """A plain run: opened, a token per word, finished."""
    deltas = tokens(words, logprobs)
    last_s = deltas[-1][0] if deltas else 0.5
    end: list[Timed] = [(last_s, Usage(7, len(deltas), 7 + len(deltas))), (last_s + 0.01, Finished("stop"))]
    return of_events([(0.4, Opened("asked-1 at home", "answered-1", 1)), *deltas, *end], **fields)


_VOID = ("meta",)


class Page(HTMLParser):
    """*elements*: (tag, attributes) in order; *answers*: the text of each element of class `answer`; *values*: the
    exact figures behind each reference to a definition; *marked*: what stands inside `mark`.

    Every element must be closed, in order: what a browser would repair is an error here.
    """

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.answers: list[str] = []
        self.values: dict[str, list[str]] = {}
        self.marked = ""
        self.text = ""
        self.pieces: list[tuple[str, str]] = []
        """(class, text) of each piece of the answer that has one."""
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self._term = ""
        self.feed(page)
        self.close()
        assert self._open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"{tag} has an attribute twice"
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag in _VOID:
            return
        self._open.append((tag, attributes))
        if attributes.get("class") == "answer":
            self.answers.append("")
        if tag == "a" and (attributes.get("href") or "").startswith("#def-"):
            self._term = (attributes["href"] or "").removeprefix("#def-")
        if tag == "data":
            self.values.setdefault(self._term, []).append(attributes["value"] or "")
        if tag == "i" and self._in_answer():
            self.pieces.append((attributes.get("class") or "", ""))

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1][0] == tag, f"</{tag}> inside {self._open[-1][0]}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if not any(tag in ("style", "title", "desc") for tag, _ in self._open):
            self.text += data
        if self._in_answer():
            self.answers[-1] += data
        if any(tag == "mark" for tag, _ in self._open):
            self.marked += data
        if self._in_answer() and self._open[-1][0] == "i":
            class_, before = self.pieces[-1]
            self.pieces[-1] = class_, before + data

    def _in_answer(self) -> bool:
        return any(attributes.get("class") == "answer" for _, attributes in self._open)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(record: RunRecord) -> Page:
    return Page(page_html(record))
