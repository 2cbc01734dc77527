"""Loops of a model are found within a few repeats; what people and programs repeat is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.events import Adapted
from utils.resilience.loop_guard import Loop, LoopGuard, resampled
from utils.run_context import Parameters

INTRO = (
    "A circuit breaker watches the calls to a server. When too many of them fail it opens, and for a while no call is "
    "made at all, so that the server can recover and the callers do not wait in vain. "
)

LOOPS = {
    "a sentence": ("The breaker then waits for the server to recover. ", 6),
    "a long paragraph": (INTRO + "Then it lets one call through to see how the server is doing. ", 5),
    "a clause": ("and so on and then ", 8),
    "a word": ("very ", 60),
    "a list item": ("- Check the logs of the server first.\n", 8),
    "one letter": ("o", 300),
    "Chinese": ("断路器会等待服务器恢复正常。", 13),
    "an emoji": ("so 👍🏽 ", 60),
    "a line of code": ("    x = compute(x, y);\n", 22),
    "a row of a table": ("| server | up | 12 ms |\n", 22),
    "an empty paragraph tag": ("<p>Next: see above.</p>\n\n", 20),
    "dashes": ("-", 900),
}


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_is_found_within_a_few_repeats_and_dated_back_to_its_beginning(name: str) -> None:
    unit, repeats = LOOPS[name]
    guard = LoopGuard()
    loop = guard.feed(INTRO + unit * repeats)
    assert loop is not None, "not found"
    assert loop.period_chars == len(unit)
    # The text before may happen to end as the unit does.
    assert len(INTRO) - len(unit) < loop.starts_at <= len(INTRO)
    assert loop.keep_chars <= loop.starts_at + loop.period_chars
    kept = (INTRO + unit * repeats)[: loop.keep_chars]
    assert kept == kept.rstrip()
    assert kept.startswith(INTRO[:-20])
    assert guard.feed(unit * repeats) is None, "told once"


POEM = """The wind, the wind, the wind tonight,
it knocks, it knocks, it knocks at doors;
oh let it in, oh let it in,
oh let it in, and nothing more.

The rain, the rain, the rain tonight,
it falls, it falls, it falls on shores;
oh let it in, oh let it in,
oh let it in, and nothing more.

La la la la, la la la la,
la la la la, la la la la,
La la la la, la la la la,
la la la la, la la la la!
"""
TABLE = "| day | calls | failed |\n|---|---|---|\n" + "| Mon | 0 | 0 |\n" * 7 + "| Tue | 12 | 1 |\n" * 3
WIDE_TABLE = "| name |" + " value |" * 12 + "\n|" + "---|" * 13 + "\n" + ("| a |" + " 0 |" * 12 + "\n") * 6
MATRIX = "grid = [\n" + "    [0, 0, 0, 0, 0, 0, 0, 0],\n" * 8 + "]\nprint(sum(map(sum, grid)))\n"
CODE = "".join(
    f"    def test_{n}(self) -> None:\n        self.assertEqual(parse({n}), {n})\n        self.tearDown()\n\n"
    for n in ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
)
CLOSING = "".join("  " * depth + "}\n" for depth in range(24, 0, -1)) + "</div>\n" * 12
ORDERED = "".join(f"{n}. Open the panel, press the button, wait for the lamp, close the panel.\n" for n in range(1, 30))
BULLETS = "- yes\n- no\n" * 8 + "- perhaps\n"
REFRAIN = "Sing it once again, my friend,\nand let the evening never end,\nfor who is here will sing with me,\n"
CHORUS = REFRAIN * 3 + REFRAIN[:65]
HEX = "00 " * 200 + "\n" + "ff " * 200
LAUGH = "Ha" * 60 + "! " + "No" * 40 + "!"
LOG = "".join(f"2026-11-22T14:33:{s:02d}Z INFO request served in 12 ms, status 200\n" for s in range(60))
SEPARATORS = ("=" * 79 + "\n" + "Chapter\n" + "=" * 79 + "\n") * 3
DIALOGUE = '"Are you sure?"\n"Yes."\n"Are you sure?"\n"Yes."\n"Are you really sure?"\n"Yes!"\n' * 2
JSON = '{"rows": [' + ", ".join('{"id": 0, "ok": true}' for _ in range(12)) + "]}"
LATEX = r"\begin{tabular}{lll}" + " a & b & c \\\\\n \\hline\n" * 6

ORDINARY = {
    name: text
    for name, text in globals().items()
    if name.isupper() and isinstance(text, str) and name not in ("STEP", "INTRO")
}


@pytest.mark.parametrize("name", ORDINARY)
@pytest.mark.parametrize("before", ["", INTRO, "x" * 37])
def test_lists_tables_code_poems_and_their_like_are_left_alone(name: str, before: str) -> None:
    guard = LoopGuard()
    text = before + ORDINARY[name]
    for place in range(0, len(text) + 64, 5):
        guard.feed((text + " " * 63)[place : place + 5])
        assert guard.loop is None, text[guard.loop.starts_at :][: 3 * guard.loop.period_chars]


@given(
    unit=st.text("ab \n|", min_size=1, max_size=40),
    cuts=st.lists(st.integers(1, 90), max_size=40),
    offset=st.integers(0, 500),
)
@settings(deadline=None)
def test_what_is_found_does_not_depend_on_the_chunks(unit: str, cuts: list[int], offset: int) -> None:
    text = INTRO + unit * (1_200 // len(unit))
    whole, parts, place, found = LoopGuard(offset=offset), LoopGuard(offset=offset), 0, None
    expected = whole.feed(text)
    for cut in [*cuts, len(text)]:
        found = parts.feed(text[place : place + cut]) or found
        place += cut
    assert found == expected
    assert whole.loop == expected


@given(st.text(max_size=400))
def test_positions_lie_in_order_within_the_text(text: str) -> None:
    full = text + "Once more, with feeling, and from the top again. " * 8
    loop = LoopGuard().feed(full)
    assert loop is not None
    assert 0 <= loop.starts_at < loop.seen_at <= len(full)
    assert loop.keep_chars <= loop.starts_at + loop.period_chars


@pytest.mark.parametrize(
    ("unit", "kept"),
    [
        ("It opens. It waits. It closes again, slowly. ", "It opens. It waits. It closes again, slowly."),
        ("First a line\nthen another one, without a stop ", "First a line"),
        ("one two three four five six seven ", "one two three four five six seven"),
        ("abcdefghijklmnopqrstuvwxyz" * 2, "abcdefghijklmnopqrstuvwxyz" * 2),
    ],
)
def test_what_is_kept_ends_with_a_line_a_sentence_or_a_word(unit: str, kept: str) -> None:
    text = "#" + unit * 12
    loop = LoopGuard().feed(text)
    assert loop is not None
    assert text[: loop.keep_chars].lstrip("#") in (kept, kept[:26])


LOOP = Loop(starts_at=412, period_chars=38, keep_chars=449, seen_at=640)


@pytest.mark.parametrize(
    ("given_", "attempt", "temperature", "seed"),
    [
        (Parameters(temperature=0.0, seed=7), 1, 0.7, 8),
        (Parameters(temperature=0.0, seed=7), 2, 0.7, 9),
        (Parameters(temperature=0.8), 1, 1.0, None),
        (Parameters(temperature=0.8), 2, 1.2, None),
        (Parameters(temperature=0.8), 9, 1.2, None),
        (Parameters(), 1, 0.9, None),
        (Parameters(temperature=1.7), 1, 1.7, None),
    ],
)
def test_other_parameters_for_the_continuation(
    given_: Parameters, attempt: int, temperature: float, seed: int | None
) -> None:
    changed, _ = resampled(given_, LOOP, attempt=attempt)
    assert (changed.temperature, changed.seed) == (temperature, seed)


def test_other_parameters_are_told_with_their_reason() -> None:
    _, told = resampled(Parameters(temperature=0.0, seed=7), LOOP, attempt=1)
    reason = "the answer repeats 38 characters 6 times from character 412 on"
    assert told == Adapted("sampling", "temperature 0, seed 7", "temperature 0.7, seed 8", reason)
    _, told = resampled(Parameters(), LOOP, attempt=1)
    assert told.before == "the server's temperature"
    with pytest.raises(ValueError, match="counts from 1"):
        resampled(Parameters(), LOOP, attempt=0)
