"""The page says what the record says, names what it lacks, and is written whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.report.records import Page, answered, facts, of_events, page_of, tokens
from utils.errors import ConnectionLost, Unreachable
from utils.events import (
    Aborted,
    Blocked,
    Finished,
    Interrupted,
    Opened,
    Redacted,
    Resumed,
    Retrying,
    TextDelta,
    TokenLogprob,
    Usage,
)
from utils.guardrails.hold_log import HoldLog
from utils.metrics.definitions import DEFINITIONS
from utils.report import page as page_module
from utils.report.page import page_html, write_page
from utils.run_record import RunRecord
from utils.run_report import failed_report

ROOT = Path(__file__).resolve().parents[2]
SURE, UNSURE = math.log(0.95), math.log(0.3)


def recovered() -> RunRecord:
    lost = ConnectionLost("gone", simulated=True)
    return of_events(
        [
            (0.1, Retrying(2, 0.05, lost)),
            (0.4, Opened("here", "answered-1", 2)),
            *tokens(["one ", "two "], [SURE, UNSURE]),
            (0.6, Interrupted(lost, 8)),
            (0.6, Retrying(3, 0.2, lost)),
            (1.2, Opened("here", "answered-1", 3)),
            (1.3, Resumed("replay", 3, 0.7, 8)),
            *tokens([f"word{n} " for n in range(120)], [SURE] * 120, start_s=1.3),
            (4.0, Usage(7, 122, 129)),
            (4.1, Finished("stop")),
        ],
        slo={
            "good": False,
            "objectives": [
                {"name": "ttft", "limit": 0.9, "value": 0.5, "met": True},
                {"name": "stall", "limit": 0.1, "value": 0.78, "met": False},
                {"name": "itl_p99", "limit": 0.1, "value": None, "met": None},
            ],
        },
    )


def never_began() -> RunRecord:
    report = failed_report(Unreachable("nobody there"), model_requested="asked-1")
    return RunRecord.of(facts(), report, tokens=answered([]).tokens)


def figure_at(figures: Any, path: str) -> Any:
    parts = path.split(".")
    figures = figures["metrics" if parts[0] in figures["metrics"] else "quality"]
    for name in parts:
        figures = figures[name]
    return figures


EXACT = (
    *("ttfc_s", "ttft_s", "e2e_s", "tpot_s", "tokens_per_s", "tokens", "longest_stall_s", "prompt_tokens", "chunks"),
    *("chars", "tokens_per_chunk", "attempts", "interruptions", "retries", "resumes", "fallbacks", "gap_s"),
    *("redactions", "flags", "confidence.mean_logprob", "confidence.perplexity", "confidence.low_probability_share"),
    "confidence.tokens",
)


def test_the_figures_on_the_page_are_those_of_the_record() -> None:
    record = recovered()
    page = page_of(record)
    for path in EXACT:
        value = figure_at(record.report, path)
        expected = value if isinstance(value, list) else [value]
        assert [json.loads(text) for text in page.values[path]][: len(expected)] == expected, path
    latency = record.report["metrics"]["inter_chunk_latency_s"]
    row = [latency[name] for name in ("p50", "p90", "p99", "max", "mean", "n")]
    assert [json.loads(text) for text in page.values["inter_chunk_latency_s.n"]][:6] == row
    assert "4.10 s" in page.text
    assert "122" in page.text


def test_the_verdict_tells_outcome_exit_code_recovery_and_objectives() -> None:
    text = page_of(recovered()).text
    recovery = "with 1 interruption, 2 retries and 1 resume"
    assert f"The answer is whole, 858 characters (finish_reason stop), {recovery}; exit code 0." in text
    for words in ("Objectives missed", "✓ met", "✕ missed", "? not known", "asked-1", "answered-1", "here"):
        assert words in text, words


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (
            Finished("length"),
            "The answer ends at the token limit, after 4 characters (finish_reason length); exit code 0.",
        ),
        (Blocked("secrets.age"), "A guard stopped the answer after 4 characters: rule secrets.age; exit code 4."),
        (
            Aborted(ConnectionLost("x")),
            "The answer is not whole; it ends after 4 characters: connection_lost; exit code 3.",
        ),
    ],
    ids=["length", "blocked", "aborted"],
)
def test_each_end_has_its_sentence(end: Any, words: str) -> None:
    assert words in page_of(of_events([*tokens(["text"]), (1.0, end)])).text


def test_every_reference_has_its_definition_and_its_target() -> None:
    page = page_of(recovered())
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(set(ids)) == len(ids)
    references = {(attributes["href"] or "")[1:] for _, attributes in page.elements if "href" in attributes}
    assert references <= set(ids)
    defined = {name.removeprefix("def-") for name in ids if name and name.startswith("def-")}
    assert defined <= set(DEFINITIONS)
    for name in defined:
        assert DEFINITIONS[name] in page.text


def test_headings_are_in_order_and_drawings_speak() -> None:
    page = page_of(recovered())
    levels = [int(tag[1]) for tag, _ in page.elements if tag in ("h1", "h2", "h3")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))
    ids = {attributes.get("id") for _, attributes in page.elements}
    outer = [row for row in page.all("svg") if "viewbox" not in row]
    assert len(outer) == 2
    for drawing in outer:
        assert drawing["role"] == "img"
        assert set((drawing["aria-labelledby"] or "").split()) <= ids
    assert page.elements[0] == ("html", {"lang": "en"})
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    assert page.all("title")


def test_the_heat_map_marks_each_token_by_its_step_and_the_lowest_window() -> None:
    sure, unsure = ["sure "] * 40, ["guess "] * 32
    record = answered([*sure, *unsure, "end"], [*[SURE] * 40, *[UNSURE] * 32, SURE])
    page = page_of(record)
    assert page.pieces == [("", "sure ")] * 40 + [("c3", "guess ")] * 32 + [("", "end")]
    assert page.marked == "".join(unsure)
    titles = [row.get("title") for row in page.all("i") if row.get("class") == "c3"]
    assert titles[0] == "p 0.3, 1.300 s, +20 ms"
    assert "It is not the truth of the answer" in page.text


def test_what_a_guard_showed_is_set_apart_from_what_the_model_wrote() -> None:
    """Also where a mask grew by characters, in the very instant of the next chunk, and in that of its own."""
    mask = [Redacted("profanity.strong", "*", 9 + place) for place in range(3)]
    events = [
        (0.5, Redacted("pii.email", "[EMAIL]", 0)),
        *tokens([" wrote "], [SURE], start_s=0.5),
        *[(0.6, event) for event in mask],
        *tokens([" it ", "[no mask]"], [SURE, UNSURE], start_s=0.6),
        (0.62, Redacted("pii.phone", "[PHONE]", 30)),
        *tokens([" end"], [SURE], start_s=0.7),
        (0.8, Finished("stop")),
    ]
    page = page_of(of_events(events))
    expected = [
        ("hid", "[EMAIL]"),
        ("", " wrote "),
        ("hid", "***"),
        ("", " it "),
        ("c3", "[no mask]"),
        ("hid", "[PHONE]"),
        ("", " end"),
    ]
    assert page.pieces == expected
    assert page.answers == ["[EMAIL] wrote *** it [no mask][PHONE] end"]


def test_tokens_of_one_chunk_share_a_mark_by_their_geometric_mean() -> None:
    pair = TextDelta("both", (TokenLogprob("bo", math.log(0.9)), TokenLogprob("th", math.log(0.4))))
    page = page_of(of_events([(0.5, pair), (0.6, Finished("stop"))]))
    assert page.pieces == [("c2", "both")], "sqrt(0.9 x 0.4) = 0.6"
    assert page.all("i")[-1]["title"] == "p 0.9 0.4, 0.500 s"


def test_without_text_the_confidence_is_blocks_in_order() -> None:
    record = answered(["never shown "] * 3, [SURE, UNSURE, math.log(0.1)], keeps_text=False)
    page = page_of(record)
    assert page.answers == []
    assert "never shown" not in page_html(record)
    classes = [row["class"] for row in page.all("i") if "title" in row]
    assert classes == ["c0 low", "c3 low", "c4 low"]
    assert "not kept; 36 characters were shown" in page.text


def test_text_that_was_cleaned_is_not_painted_in_the_wrong_places() -> None:
    record = dataclasses.replace(answered(["mail ", "a@b.example"], [SURE, UNSURE]), text="mail [EMAIL]")
    page = page_of(record)
    assert page.answers == ["mail [EMAIL]"]
    assert page.pieces == []
    assert "cleaned before it was kept" in page.text.lower()
    assert [row["class"] for row in page.all("i") if "title" in row] == ["c0 low", "c3 low"]


def test_without_logprobs_the_confidence_is_not_known() -> None:
    page = page_of(answered(["one ", "two"]))
    assert "Confidence: n/a (the server sent no logprobs)" in page.text
    assert page.answers == ["one two"]
    assert {class_ for class_, _ in page.pieces} == {""}
    assert "Steps of confidence" not in page.text


def test_the_hold_back_is_drawn_and_told() -> None:
    hold = HoldLog()
    hold.add_level(0.5, 4)
    hold.add_level(0.6, 9)
    hold.add_release(0, 4, 0.1)
    hold.add_level(0.7, 0)
    figures = {
        "rules": ["pii.email"],
        "findings": [],
        "held_mean_chars": 4.25,
        "held_max_chars": 9,
        "held_mean_s": 0.05,
        "held_max_s": 0.2,
    }
    finding = {"rule": "pii.email", "count": 7, "action": "hidden", "ranges": [[n * 10, n * 10 + 3] for n in range(7)]}
    record = answered(["text "], [SURE], hold=hold, guard={"answer": {**figures, "findings": [finding]}})
    page = page_of(record)
    for words in ("At most 9 characters held at once; 3 changes recorded.", "held 100 ms"):
        assert words in page_html(record)
    for words in ("pii.email7hidden0 to 3, 10 to 13, 20 to 23, 30 to 33, 40 to 43 and 2 more", "4.2", "200 ms"):
        assert words in page.text, words


@pytest.mark.parametrize(
    ("structure", "words"),
    [
        ("valid", "finish_reasonstop"),
        ("invalid", "finish_reasonn/a (the checks refused the answer)"),
        (None, "structuren/a (not asked for, or not judged)"),
    ],
)
def test_the_structure_stands_with_the_completeness(structure: str | None, words: str) -> None:
    record = answered(["one ", "two"])
    record.report["quality"]["completeness"] |= {"structure": structure} | (
        {"finish_reason": None} if structure == "invalid" else {}
    )
    page = page_of(record)
    assert words in page.text
    assert f"structure{structure or 'n/a'}" in page.text


def test_a_run_that_never_began_has_a_page_without_an_invented_figure() -> None:
    page = page_of(never_began())
    assert "No answer came: unreachable; exit code 69." in page.text
    assert page.values == {}
    assert page.text.count("n/a") >= 10
    for reason in (
        "nothing happened: the run never began",
        "no text was shown",
        "no guard was on",
        "no target was asked",
    ):
        assert reason in page.text, reason


def test_an_empty_record_has_a_page() -> None:
    page = page_of(RunRecord(facts(started_at=1e300), {}))
    assert "no exit code recorded" in page.text
    assert page.values == {}


@pytest.mark.parametrize("count", [0, 1, 2, 3])
@pytest.mark.parametrize("keeps_text", [True, False])
def test_few_tokens_have_a_page(count: int, keeps_text: bool) -> None:
    record = answered(["word "] * count, [SURE] * count, keeps_text=keeps_text)
    assert page_of(record).values["tokens"] == [str(count)]


@pytest.mark.parametrize("keeps_text", [True, False], ids=["text", "blocks"])
def test_a_page_of_the_longest_answer_stays_small_and_fast(keeps_text: bool) -> None:
    """131,072 tokens whose steps change all the time, 1,024 different events, and 650 kB of text."""
    count = 131_072
    events: list[tuple[float, Any]] = tokens(["w<b> "] * count, [(SURE, UNSURE)[n % 2] for n in range(count)])
    events += [(3_000.0, Redacted(f"rule.number_{n}", f"[{n}]", n)) for n in range(2_000)]
    record = of_events([*events, (3_000.1, Finished("stop"))], keeps_text=keeps_text)
    start_s = time.process_time()
    source = page_html(record)
    taken_s = time.process_time() - start_s
    assert len(source.encode()) < 3_000_000
    assert taken_s < 20.0, "linear: 2 s where this was written"
    page = Page(source)
    assert page.answers == ([record.text] if keeps_text else [])
    assert "977 events between these were not kept" in page.text
    assert len([row for row in page.all("i") if row]) < 60_000


def test_the_text_behind_the_last_kept_token_is_shown_plain() -> None:
    record = answered(["one ", "two ", "three"], [UNSURE] * 3)
    metrics = {**record.report["metrics"], "chunks": 5}
    page = page_of(dataclasses.replace(record, report={**record.report, "metrics": metrics}))
    assert page.pieces == [("c3", "one "), ("c3", "two ")]
    assert page.answers == ["one two three"]


def test_the_record_is_the_same_after_history_had_it() -> None:
    record = recovered()
    again = RunRecord.from_json(json.loads(json.dumps(record.as_json())))
    assert page_html(again) == page_html(record)


# Writing


def test_a_page_is_for_its_owner_only_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    path.write_text(page_html(answered(["old"])), encoding="utf-8")
    path.chmod(0o644)
    write_page(recovered(), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text(encoding="utf-8") == page_html(recovered())
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.html"]


@pytest.mark.parametrize("broken", ["replace", "write"])
def test_the_old_file_stays_whole_if_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    path = tmp_path / "run.html"
    old = page_html(answered(["old"]))
    path.write_text(old, encoding="utf-8")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    class Full:
        def __init__(self, number: int, mode: str) -> None:
            os.close(number)

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            return

        write = fail

    if broken == "replace":
        monkeypatch.setattr(os, "replace", fail)
    else:
        monkeypatch.setattr(page_module, "open", Full, raising=False)
    with pytest.raises(OSError, match="No space left"):
        write_page(recovered(), path)
    assert path.read_text(encoding="utf-8") == old
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.html"]


def test_a_link_stays_a_link_and_its_file_is_replaced(tmp_path: Path) -> None:
    real, link = tmp_path / "real.html", tmp_path / "link.html"
    link.symlink_to(real)
    write_page(recovered(), link)
    assert link.is_symlink()
    assert real.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_what_is_no_ordinary_file_is_neither_waited_for_nor_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for place in (pipe, Path(os.devnull)):
        with pytest.raises(OSError, match="it is not a regular file"):
            write_page(answered(["a"]), place)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert [entry.name for entry in tmp_path.iterdir()] == ["pipe"]


@pytest.mark.parametrize("is_linked", [False, True])
def test_a_file_that_is_no_page_stays_as_it_is(tmp_path: Path, *, is_linked: bool) -> None:
    path, place = tmp_path / "main.py", tmp_path / ("link.html" if is_linked else "main.py")
    path.write_text("<!DOCTYPE html>\n<html>somebody's</html>\n", encoding="utf-8")
    if is_linked:
        place.symlink_to(path)
    with pytest.raises(OSError, match="it is there and is no report"):
        write_page(answered(["a"]), place)
    assert "somebody's" in path.read_text(encoding="utf-8")
    path.write_text("", encoding="utf-8")
    write_page(answered(["a"]), place)
    assert path.read_text(encoding="utf-8") == page_html(answered(["a"]))


def test_the_file_that_the_answer_goes_to_is_no_place_for_its_page(tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    code = "import sys; from pathlib import Path; from utils.report.place import why_no_page\n"
    code += "print(why_no_page(Path(sys.argv[1])))"
    for stdout, told in ((path, "standard output goes there"), (tmp_path / "answer.txt", "None")):
        with stdout.open("w") as file:
            subprocess.run([sys.executable, "-c", code, str(path)], stdout=file, check=True, cwd=ROOT)
        assert stdout.read_text().strip() == told
        path.write_text("")


@pytest.mark.parametrize("name", ["", "no/such/directory/run.html", "x" * 300])
def test_where_no_file_can_be_an_error_says_so(tmp_path: Path, name: str) -> None:
    with pytest.raises(OSError, match=r"Errno"):
        write_page(recovered(), tmp_path / name)
