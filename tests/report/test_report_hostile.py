"""Whatever servers and models say comes out inert on the page, and what the answer said comes out whole."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.report.records import Page, answered, facts, of_events, page_of, tokens
from utils.errors import ConnectionLost
from utils.events import Adapted, BreakerChanged, FellBack, Finished, Flagged, Interrupted, Opened, Redacted, Retrying
from utils.render.harmless import make_harmless
from utils.report.markup import MAX_NAME_CHARS
from utils.report.page import page_html
from utils.run_record import RunRecord

HOSTILE = {
    "script": "</script><script>alert(1)</script>",
    "attribute": "\"><img src=x onerror=alert(1)>' onload='alert(1)",
    "cdata": "]]><!--<![CDATA[<?xml ?>--!>",
    "title": "</title></style></svg></div></section><iframe src=//a.example>",
    "entities": "&lt;b&gt; &amp;amp; &#60;script&#62; &",
    "controls": "a\x00b\x08c\x0bd\x1b[31me\x7ff\x85g\x9b",
    "bidi": "\u202eright to left\u202c \u2066isolated\u2069 \u200f",
    "surrogates": "\ud800 high \udfff low \udc80",
    "noncharacters": "\ufffe\uffff\U0010ffff\ufeff",
    "line_ends": "\r\n\rone\n\n\ntwo\t\u2028\u2029 \x0c",
    "url": 'javascript:alert(1) http://evil.example/"onclick="x',
    "template": "{{7*7}} ${7*7} %s {0} \\",
}

ELEMENTS = {
    *("html", "head", "meta", "title", "style", "body", "header", "main", "footer", "section", "nav"),
    *("h1", "h2", "h3", "p", "a", "span", "strong", "code", "data", "i", "mark", "div"),
    *("dl", "dt", "dd", "ol", "ul", "li", "table", "caption", "thead", "tbody", "tr", "th", "td"),
    *("details", "summary", "figure", "figcaption"),
    *("svg", "desc", "defs", "pattern", "rect", "circle", "path", "line", "text", "use"),
}
"""Everything that a page is made of: no script, no image, no link, no frame, no form, nothing foreign."""
REFERRING = ("src", "srcset", "action", "formaction", "poster", "background", "data", "ping", "xlink:href", "cite")


def assert_inert(page: Page, source: str) -> None:
    assert {tag for tag, _ in page.elements} <= ELEMENTS
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), f"{tag} {name}"
            assert name not in REFERRING
            assert name != "style"
            if name == "href":
                assert re.fullmatch(r"#[a-z0-9_.-]+", value or ""), value
            assert not re.search(r"https?:|javascript:", value or "", re.I), f"{tag} {name}={value}"
    policies = [row["content"] for row in page.all("meta") if row.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
    assert source.count("<style>") == source.count("</style>") == 1
    assert "url(" not in source.replace("url(#dots)", "").replace("url(#hatch)", "")
    assert not re.search("[\ud800-\udfff\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", source)


def shown(text: str) -> str:
    return re.sub("[\ud800-\udfff]", "\ufffd", make_harmless(text))


def everywhere(words: str) -> RunRecord:
    """A record in which *words* stand wherever a record has words."""
    cause = ConnectionLost(words, simulated=True)
    events: list[tuple[float, Any]] = [
        (0.1, Retrying(2, 0.1, cause)),
        (0.2, Opened(words, words, 2)),
        *tokens([words, " and ", words], [-0.1, -1.0, -3.0]),
        (0.6, Redacted(words, words, 3)),
        (0.61, Flagged(words, 0, 2)),
        (0.7, Interrupted(cause, 3)),
        (0.71, BreakerChanged(words, "closed", words, words, 3.0)),
        (0.72, FellBack(words, words, words)),
        (0.73, Adapted(words, words, words, words)),
        (0.9, Finished(words)),
    ]
    figures = {words: words, f"{words}_s": 1.0, "state": words, "scored": True, "rate": None}
    finding = {"rule": words, "count": 2, "ranges": [[0, 1]], "action": words}
    noticed = {**finding, "place": words, "start": 0, "end": 2, "severity": words, "sample": words}
    record = of_events(
        events,
        guard={
            "prompt": [noticed],
            "answer": {"rules": [words], "findings": [finding], "held_mean_chars": 1.0, "held_max_s": 0.5},
            "reasoning": {"rules": [words], "findings": []},
            "toxicity": figures,
            "validation": [{"validator": words, "reason": words, "position": 3}],
        },
        targets=({"target": words, "breaker": figures, "limiter": figures, "hedging": figures},),
        held=((0.1, 3), (0.2, 0)),
        prompt=words,
        slo={"good": False, "objectives": [{"name": words, "limit": 1.0, "value": 2.0, "met": False}]},
        facts=facts(
            run_id=words, version=words, environment=words, model_requested=words, target=words,
            settings={words: words, "list": [words], "table": {words: words}},
        ),
    )  # fmt: skip
    report = {**record.report, "error": {"code": words, "message": words, "hint": words}, "finish_reason": words}
    for row in report["events"]:
        if row.get("cause"):
            row["cause"] = {"code": words, "message": words} if isinstance(row["cause"], dict) else words
    report["events"] = [*report["events"], {"type": words, "t_s": 0.95, words: words}]
    return RunRecord(record.facts, report, record.tokens, record.held, record.slo, record.text, record.prompt)


@pytest.mark.parametrize("words", HOSTILE.values(), ids=HOSTILE)
def test_hostile_words_are_inert_wherever_a_record_has_words(words: str) -> None:
    record = everywhere(words)
    source = page_html(record)
    page = Page(source)
    assert_inert(page, source)
    assert page.answers == [shown(record.text or ""), shown(words)], "the answer and the prompt, whole"
    assert source.encode().decode() == source


@pytest.mark.parametrize(
    "outcome", ["complete", "incomplete", "blocked", "rejected", "cancelled", "failed", "<b>", None]
)
def test_hostile_words_are_inert_in_every_verdict(outcome: str | None) -> None:
    record = everywhere(HOSTILE["attribute"])
    report = {**record.report, "outcome": outcome}
    source = page_html(RunRecord(record.facts, report, record.tokens))
    assert_inert(Page(source), source)


def test_a_megabyte_of_hostile_text_comes_out_inert_and_whole() -> None:
    block = " ".join(HOSTILE.values()) + " plain words in between, as in most answers. " * 8
    text = (block * (1_000_000 // len(block) + 1))[:1_000_000]
    record = answered([text])
    source = page_html(record)
    page = Page(source)
    assert_inert(page, source)
    assert page.answers == [shown(text)]
    assert len(source.encode()) < 3_000_000


@pytest.mark.parametrize("words", ["<", '"', "\x00", "\U0001f600"], ids=["tags", "quotes", "nuls", "emoji"])
def test_text_that_would_make_the_page_too_large_is_cut_and_the_page_says_so(words: str) -> None:
    record = answered([words * 250_000] * 4)
    source = page_html(record)
    page = Page(source)
    kept = len(page.answers[0]) // len(shown(words))
    assert page.answers[0] == shown(words) * kept
    assert f"{1_000_000 - kept:,} more characters would make the page too large" in page.text
    assert len(source.encode()) < 3_000_000


def test_a_name_of_a_megabyte_is_cut() -> None:
    source = page_html(everywhere("n" * 5_000))
    assert "n" * (MAX_NAME_CHARS - 1) + "…" in source
    assert "n" * (MAX_NAME_CHARS + 1) not in Page(source).text.replace("n" * 5_000, "")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(), min_size=1, max_size=12), min_size=1, max_size=8))
def test_any_text_in_any_pieces_is_shown_as_it_is(words: list[str]) -> None:
    assert page_of(answered(words, [-0.5] * len(words))).answers == ["".join(map(shown, words))]


def members(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every member of *value* and of what is in it."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from members(item, (*path, key))


def test_a_record_with_any_member_lost_or_of_another_kind_still_has_a_page() -> None:
    """Records are kept for years, and other versions of this program wrote them."""
    row = everywhere("w").as_json()
    kinds: Iterator[Any] = itertools.cycle([None, "x", -1.5, [], {}, [[]], [None]])
    for path in [path for path in members({"report": row["report"], "slo": row["slo"]}) if len(path) > 1]:
        place: Any = row
        for key in path[:-1]:
            place = place[key]
        before = place[path[-1]]
        for changed in (next(kinds), next(kinds)):
            place[path[-1]] = changed
            page_html(RunRecord.from_json(row))
        place[path[-1]] = before
        if isinstance(place, dict):
            del place[path[-1]]
            page_html(RunRecord.from_json(row))
            place[path[-1]] = before
