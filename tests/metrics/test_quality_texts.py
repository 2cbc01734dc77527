"""The repetition figure on labelled texts: what it finds, what it misses and why, and where it is wrong."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path

import pytest

from tests.metrics import quality_texts
from tests.metrics.quality_texts import DETECTORS, LabelledText, Tally, chunks, load, look, provenance
from utils.embedded_model.spec import PINNED
from utils.metrics.transcript import CHECK_EVERY_CHUNKS

SEED = 1
TEXTS = load()

COUNTS_UP = {
    *("countdown-loop", "dots", "excuses", "facts-pluto", "faq", "haiku", "hundred-animals", "line-counter"),
    *("log-counter", "names-girls", "step-counter", "table-counter"),
}
CHANGES_A_WORD = {
    *("changed-adjective", "changed-punctuation", "changed-town", "chinese-cold", "css-code", "essay-nothing"),
    *("forever-letter", "json-config", "nested-quotes", "poem"),
}
LONGER_THAN_400 = {"period-401", "period-over-800", "terms"}
NOT_YET_THREE_TIMES = {"period-390-twice-and-a-half", "story-begin"}
TOO_FEW_SYMBOLS = {"emoji", "thumbs"}
OVER_BETWEEN_TWO_LOOKS = {"c-code", "chinese-short-left", "left-soon"}
"""Where the looks fall depends on the chunks; with others these may be seen."""

CHANGES_NOW_AND_THEN = {"geojson", "growing"}
"""Repeats exactly for a while, and so it is seen, but not at its end."""

BY_THE_DEFINITION = COUNTS_UP | CHANGES_A_WORD | LONGER_THAN_400 | NOT_YET_THREE_TIMES | TOO_FEW_SYMBOLS
"""What no exact repetition of at most 400 characters shows."""

GUARD_WAITS_FOR_MORE = {
    *("assembly", "chinese", "chinese-two-characters", "dash-and-space", "hexadecimal", "japanese", "newlines"),
    *("no-no-no", "period-400", "pi", "screaming", "thumbs-forever", "zeros"),
}
"""Not repeated as often as the loop guard asks for before it cuts; most hold no word."""

MISSES = {
    "seen": BY_THE_DEFINITION | OVER_BETWEEN_TWO_LOOKS,
    "at the end": (BY_THE_DEFINITION | CHANGES_NOW_AND_THEN) - {"haiku", "names-girls"},
    "cut by the loop guard": (BY_THE_DEFINITION | OVER_BETWEEN_TWO_LOOKS | CHANGES_NOW_AND_THEN | GUARD_WAITS_FOR_MORE),
    "refused by no-repetition": (
        (BY_THE_DEFINITION | OVER_BETWEEN_TWO_LOOKS | {"chinese", "growing", "japanese"}) - {"c-code", "css-code"}
    ),
}
FALSE_ALARMS = {
    "seen": {"unrolled-identical", "zero-matrix"},
    "at the end": set(),
    "cut by the loop guard": set(),
    "refused by no-repetition": {"empty-cells-html", "empty-form"},
}
HITS = {"seen": 51, "at the end": 46, "cut by the loop guard": 36, "refused by no-repetition": 50}


@pytest.mark.parametrize("detector", DETECTORS)
def test_what_is_found_missed_and_wrongly_called_a_loop(detector: str) -> None:
    tally = Tally(detector, TEXTS, SEED)
    assert set(tally.false_alarms) == FALSE_ALARMS[detector]
    assert set(tally.misses) == MISSES[detector]
    assert len(tally.hits) == HITS[detector]


def test_what_cuts_an_answer_needs_more_than_the_figure() -> None:
    seen, cut = (set(Tally(detector, TEXTS, SEED).hits) for detector in ("seen", "cut by the loop guard"))
    assert cut < seen


def defined(text: str) -> bool:
    """The definition, word for word: a period of 1 to 400 of the last max(3 p, 60) characters, 200 if only symbols."""
    for period in range(1, 401):
        covered = max(3 * period, 60)
        if not any(map(str.isalnum, text[-period:])):
            covered = max(covered, 200)
        end = text[-covered:]
        if len(text) >= covered and end[period:] == end[:-period]:
            return True
    return False


def test_a_loop_is_seen_at_the_first_look_at_which_the_definition_holds() -> None:
    for text in TEXTS:
        ends = list(itertools.accumulate(map(len, chunks(text.text, SEED + 1))))
        looks = dict.fromkeys([*ends[CHECK_EVERY_CHUNKS - 1 :: CHECK_EVERY_CHUNKS], len(text.text)])
        found = [at for at in looks if defined(text.text[:at])]
        figures = look(text.text, SEED + 1)
        assert figures["first_seen_at_char"] == (found[0] if found else None), text.name
        assert figures["detected"] == bool(found), text.name
        assert figures["at_end"] == (len(text.text) in found), text.name


def test_the_texts_are_labelled_and_say_where_they_come_from() -> None:
    assert provenance() == {"model": PINNED.name, "sha256": PINNED.sha256}
    assert max(Counter(text.name for text in TEXTS).values()) == 1
    assert max(Counter(text.text for text in TEXTS).values()) == 1
    assert sum(text.is_models for text in TEXTS) >= 35
    loops = [text for text in TEXTS if text.loop]
    assert (len(loops), len(TEXTS)) == (83, 172)
    for text in loops:
        assert text.loop is not None
        assert 0 <= text.loop[0] < text.loop[1] <= len(text.text), text.name


def test_a_loop_seen_before_it_begins_is_a_false_alarm_and_a_miss() -> None:
    text = LabelledText("late", "line", "ha " * 100 + "x" * 40, (300, 340), False)
    tally = Tally("refused by no-repetition", [text], SEED)
    assert (tally.hits, tally.misses, tally.false_alarms) == ([], ["late"], ["late"])


def test_a_text_without_a_label_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text('{"model": "m", "sha256": "0"}\n' + json.dumps({"name": "new", "kind": "line", "text": "x"}))
    monkeypatch.setattr(quality_texts, "LABELLED", file)
    with pytest.raises(ValueError, match="new: the text has changed"):
        load()


def test_the_command_prints_the_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["quality_texts", "--cuts", "1"])
    assert quality_texts.main() == 0
    out = capsys.readouterr().out
    assert "| **all** | 172 | 83 | 51 | 32 | 2 | " in out
    assert "| cut by the loop guard | 83 | 36-36 | 0-0 | " in out
