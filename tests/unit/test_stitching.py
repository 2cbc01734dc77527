"""Joining a continuation to an interrupted answer: laws, and the ways in which servers go on."""

from __future__ import annotations

import random
import tomllib
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from utils.errors import ResumeDiverged
from utils.events import Event, Finished, Flagged, Opened, ReasoningDelta, TextDelta, TokenLogprob, Usage
from utils.resilience.seam import StitchKind
from utils.resilience.seam_text import seam_kind
from utils.resilience.stitching import HOLD_CHARS, Stitcher, prefill_text

ROOT = Path(__file__).resolve().parents[2]
TEXTS = tomllib.loads((ROOT / "benchmarks" / "stitching_texts.toml").read_text(encoding="utf-8"))["report"]
PROSE = (
    "The breaker counts the failures of a target. When there are too many within a minute, it opens, and the target is "
    "left alone for a while. Then a single probe is allowed, and only its success closes the breaker again."
)
LATER = " Nobody has to wait for a server that is known to be down, and the server is not buried while it recovers."


def shown(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def joined(delivered: str, continuation: str, kind: StitchKind = "continue", size: int = 7) -> str:
    stitcher = Stitcher(delivered, kind)
    events: list[Event] = []
    for n in range(0, len(continuation), size):
        events += stitcher.feed([TextDelta(continuation[n : n + size])])
    return delivered + shown([*events, *stitcher.finish()])


@pytest.mark.parametrize(
    ("delivered", "continuation", "whole"),
    [
        ("The target is left", " alone for a while.", "The target is left alone for a while."),
        ("The target is left alone", "is left alone for a while.", "The target is left alone for a while."),
        ("The target is left alone", "left alone\nfor a while.", "The target is left alone\nfor a while."),
        ("It opens the circ", "circuit again.", "It opens the circuit again."),
        ("It opens the circuit", " circuit again.", "It opens the circuit again."),
        ("It is clo", "closed now.", "It is closed now."),
        ("All went away.", "away.\n\nThen it rained.", "All went away.\n\nThen it rained."),
        ("Sleep in the", " theory of waves.", "Sleep in the theory of waves."),
        ("Sleep in the", "theory of waves.", "Sleep in the theory of waves."),
        ("He said that", " that was all.", "He said that that was all."),
        ("It was very", " very late.", "It was very very late."),
        ("a bonbon", " is sweet", "a bonbon is sweet"),
        ("a bal", "loon", "a balloon"),
        ("ha ha ha ha ha ha ha ", "ha ha ha ha", "ha ha ha ha ha ha ha ha ha ha ha"),
        ("It opened.", "Then it closed.", "It opened. Then it closed."),
        ("First the one,", "then the other.", "First the one, then the other."),
        ("It came to 1,", "000 at last.", "It came to 1,000 at last."),
        ("You find it on example.", "com, I think.", "You find it on example.com, I think."),
        ("This is the ", " last of them.", "This is the last of them."),
        ("Line one.\n", "\n\nLine two.", "Line one.\n\nLine two."),
        ("1. Open the box.", "2. Close the box.", "1. Open the box.\n2. Close the box."),
        ("1. Open the box.\n2. Take", "2. Take the key.", "1. Open the box.\n2. Take the key."),
        ("1. One.\n2. Two.\n3. ", "1. One.\n2. Two.\n3. Three.", "1. One.\n2. Two.\n3. Three."),
        ("```python\nx = 1\nresult", "```python\nresult = 2\n```\n", "```python\nx = 1\nresult = 2\n```\n"),
        ("```python\nx = 1\n", "```\nDone.", "```python\nx = 1\n```\nDone."),
        ("Look:\n\n```py", "thon\nx = 1\n```", "Look:\n\n```python\nx = 1\n```"),
        ("```py\n    retu", "    return 1\n```", "```py\n    return 1\n```"),
        ("| a | b |\n|---|---|\n| 1 | 2 |\n", "| 1 | 2 |\n", "| a | b |\n|---|---|\n| 1 | 2 |\n| 1 | 2 |\n"),
        ("断路器会在短时间内打开,然后", "在短时间内打开,然后再次闭合", "断路器会在短时间内打开,然后再次闭合"),
        ("", LATER, LATER),
    ],
)
def test_a_seam_is_joined_as_a_reader_would_join_it(delivered: str, continuation: str, whole: str) -> None:
    assert joined(delivered, continuation) == whole


@pytest.mark.parametrize(
    "announcement",
    [
        "Sure, here is the continuation:\n\n",
        "Here's the rest of my answer:\n",
        "Continuing from where I left off:\n\n",
        "Certainly! I'll continue from where the text stopped...\n\n",
        "I apologize for the interruption. Continuing where I left off:\n\n",
        "(continued)\n",
        "**Continuation:**\n\n",
        "Natürlich, hier ist die Fortsetzung:\n\n",
        "好的,以下是续写:\n\n",
    ],
)
def test_an_announcement_is_dropped_with_and_without_a_repeat_behind_it(announcement: str) -> None:
    assert joined(PROSE, announcement + LATER) == PROSE + LATER
    assert joined(PROSE, announcement + PROSE[-50:] + LATER) == PROSE + LATER
    assert joined(PROSE, announcement + PROSE + LATER) == PROSE + LATER


def test_what_only_sounds_like_an_announcement_stays() -> None:
    for start in (
        " Sure, it opens again.",
        " continued to fall.",
        " Here is the rest of the story.",
        " To continue: press",
    ):
        assert joined(PROSE, start + LATER) == PROSE + start + LATER


def test_quotes_and_fences_around_a_repeat_are_dropped_at_both_ends() -> None:
    repeat = PROSE[-60:] + LATER
    assert joined(PROSE, f'Here is the continuation:\n\n"{repeat}"') == PROSE + LATER
    assert joined(PROSE, f"Here is the continuation:\n\n```\n{repeat}\n```\n") == PROSE + LATER
    assert joined(PROSE, f"```markdown\n{repeat}\n```") == PROSE + LATER


def test_a_fence_inside_a_fenced_continuation_stays() -> None:
    inner = "\n\n```sh\nls\n```\n\nAnd so on."
    assert joined(PROSE, f"```markdown\n{PROSE[-60:]}{inner}\n```") == PROSE + inner


def test_an_unknown_sentence_before_a_long_repeat_is_dropped_with_it() -> None:
    assert joined(PROSE, f"My message ended here:\n\n{PROSE[-70:]}{LATER}") == PROSE + LATER
    assert joined(PROSE, f"My message ended here:\n\n{LATER}") == f"{PROSE} My message ended here:\n\n{LATER}"


def test_an_answer_begun_again_is_shown_from_where_the_first_one_ended() -> None:
    answer = TEXTS["prose"]
    for cut in (300, 700, 1100):
        assert joined(answer[:cut], answer) == answer
        assert joined(answer[:cut], " ".join(answer.split())).split() == answer.split()


def test_an_answer_begun_again_with_other_words_goes_on_behind_the_last_words_of_the_first() -> None:
    answer = TEXTS["prose"]
    assert joined(answer[:900], answer.replace("volumes", "books")) == answer


def test_an_answer_that_is_begun_again_and_becomes_another_is_refused() -> None:
    delivered = TEXTS["prose"][:900]
    with pytest.raises(ResumeDiverged, match="began the answer again"):
        joined(delivered, TEXTS["prose"][:300] + TEXTS["german"])


def test_after_a_prefill_the_stripped_white_space_comes_once() -> None:
    assert prefill_text("one two \n") == ("one two", " \n")
    for continuation in ("three", " three"):
        assert joined("one two ", continuation, "prefill") == "one two three"
    assert joined("one\n\n", "\n\ntwo", "prefill") == "one\n\ntwo"
    assert joined("one ", "\n\ntwo", "prefill") == "one \n\ntwo"
    assert joined("the breaker", "breaker", "prefill") == "the breakerbreaker"


def test_a_prefill_that_the_server_ignored_is_recognised() -> None:
    assert joined(PROSE, "Sure, here is the continuation:\n\n" + PROSE + LATER, "prefill") == PROSE + LATER
    assert joined(PROSE, PROSE + LATER, "prefill") == PROSE + LATER


def test_events_keep_their_order_tokens_and_places() -> None:
    token = (TokenLogprob(" Nobody", -0.1),)
    stitcher = Stitcher(PROSE, "continue")
    opened, usage = Opened("t", "m", 2), Usage(1, 2, 3)
    assert stitcher.feed([opened, ReasoningDelta("I should go on."), TextDelta(PROSE[-30:])]) == [opened]
    assert not stitcher.is_caught_up
    start = len(PROSE[-30:])
    held = [TextDelta(" Nobody", token), Flagged("rule", start + 1, start + 7), TextDelta(" has")]
    assert stitcher.feed([*held, usage]) == [usage]
    assert stitcher.feed([Finished("stop")]) == [
        TextDelta(" Nobody", token),
        Flagged("rule", len(PROSE) + 1, len(PROSE) + 7),
        TextDelta(" has"),
        Finished("stop"),
    ]
    assert stitcher.is_caught_up
    assert (stitcher.overlap_chars, stitcher.dropped_chars) == (30, 30)
    assert stitcher.finish() == []


def test_text_passes_at_once_when_the_seam_is_known() -> None:
    stitcher = Stitcher(PROSE, "continue")
    new = TEXTS["german"]
    assert shown(stitcher.feed([TextDelta(new[: HOLD_CHARS - 1])])) == ""
    assert shown(stitcher.feed([TextDelta(new[HOLD_CHARS - 1 : HOLD_CHARS])])).endswith(new[:HOLD_CHARS])
    assert stitcher.feed([TextDelta("x"), ReasoningDelta("y")]) == [TextDelta("x"), ReasoningDelta("y")]


WORDS = st.one_of(
    st.sampled_from(
        ["the", "a", "breaker", "opens", "and", "then", "1.", "2.", "|", "-", "`x`", "```", ":", "\n", "\n\n"]
    ),
    st.sampled_from(
        ["    x = 1;", "Sure, here is the continuation:", "断路器", "。", '"', "…", "...", "```py\n", "\t"]
    ),
)
TEXT = st.lists(st.one_of(WORDS, st.text(max_size=4)), max_size=60).map(" ".join)


@settings(max_examples=300, deadline=None)
@given(delivered=TEXT, new=TEXT, repeat=st.integers(0, 80), kind=st.sampled_from(["prefill", "continue"]))
def test_what_passes_is_an_end_of_the_continuation(delivered: str, new: str, repeat: int, kind: StitchKind) -> None:
    continuation = delivered[len(delivered) - min(repeat, len(delivered)) :] + new
    assume(continuation or kind == "prefill")
    stitcher = Stitcher(delivered, kind)
    passed = shown([*stitcher.feed([TextDelta(continuation)] if continuation else []), *stitcher.finish()])
    assert stitcher.join is not None
    join = stitcher.join
    assert join.inserted in ("", " ", "\n")
    assert kind == "continue" or not join.inserted or join.kind == "preamble"
    expected = join.inserted + continuation[join.cut :]
    assert passed == expected if not join.wrapper else expected.startswith(passed)
    assert stitcher.dropped_chars == len(continuation) + len(join.inserted) - len(passed)


@settings(max_examples=150, deadline=None)
@given(
    delivered=TEXT, new=TEXT, repeat=st.integers(0, 300), sizes=st.lists(st.integers(1, 400), min_size=1, max_size=9)
)
def test_the_result_does_not_depend_on_the_deltas(delivered: str, new: str, repeat: int, sizes: list[int]) -> None:
    continuation = delivered[len(delivered) - min(repeat, len(delivered)) :] + new * 4

    def outcome(sizes: list[int]) -> str:
        stitcher, events, place = Stitcher(delivered, "continue"), list[Event](), 0
        try:
            for n in range(len(continuation)):
                delta = continuation[place : place + sizes[n % len(sizes)]]
                events += stitcher.feed([TextDelta(delta)] if delta else [])
                place += len(delta)
            return shown([*events, *stitcher.finish()])
        except ResumeDiverged:
            return "refused"

    assert outcome(sizes) == outcome([len(continuation) or 1])


@pytest.mark.parametrize("name", TEXTS)
def test_at_most_one_percent_of_exact_continuations_lose_text(name: str) -> None:
    text, rng = TEXTS[name].strip(), random.Random(7)
    cuts = [rng.randint(20, len(text) - 20) for _ in range(100)]
    lost = [cut for cut in cuts if len(joined(text[:cut], text[cut:]).split()) < len(text.split()) - 1]
    assert len(lost) <= 1


@pytest.mark.parametrize("name", TEXTS)
def test_repeating_the_words_that_were_asked_for_is_always_seen(name: str) -> None:
    text, rng = TEXTS[name].strip(), random.Random(8)
    cuts = [rng.randint(120, len(text) - 20) for _ in range(50)]
    wrong = [cut for cut in cuts if joined(text[:cut], text[cut - 70 :]) != text]
    assert len(wrong) <= 2


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (PROSE, "prose"),
        ("", "prose"),
        ("Look:\n\n```\nfoo", "code"),
        ("def f(x):\n    if x:\n        return", "code"),
        ("- one\n- two", "list"),
        ("| a | b |\n| 1 ", "table"),
        (TEXTS["poem"][:200], "verse"),
    ],
)
def test_the_kind_of_text_at_the_seam_is_told_by_its_last_lines(text: str, kind: str) -> None:
    assert seam_kind(text) == kind


def test_a_long_answer_begun_again_is_joined_in_linear_work() -> None:
    rng = random.Random(5)
    answer = " ".join("".join(rng.choices("abcdefghijklmnop", k=rng.randint(2, 9))) for _ in range(8000))
    stitcher, events = Stitcher(answer[:-200], "continue"), list[Event]()
    for n in range(0, len(answer), 16):
        events += stitcher.feed([TextDelta(answer[n : n + 16])])
    assert shown([*events, *stitcher.finish()]) == answer[-200:]
    assert stitcher.overlap_chars == len(answer) - 200


def test_an_answer_that_loops_costs_no_more() -> None:
    loop = "ha " * 7000
    assert joined(loop, loop, size=64) == loop + loop
    assert joined("a" * 9000, "a" * 9000, size=64) == "a" * 18000


def test_nothing_at_all_is_no_continuation_in_words_but_may_be_one_of_a_prefill() -> None:
    asked = Stitcher(PROSE, "continue")
    with pytest.raises(ResumeDiverged, match="wrote nothing"):
        asked.finish()
    prefilled = Stitcher(PROSE, "prefill")
    assert prefilled.finish() == []


STEPS = "".join(f"Step {n}: Press the red button.\n" for n in range(1, 9))
REPEATED = [
    *((STEPS, place) for place in (26, 40, 60, 61, 100)),
    ('[{"a": 1},{"a": 1},{"a": 1},{"a": 2},{"a": 1}]', 20),
    ("- Call Bob.\n- Pick up my laundry where I left it: at the shop\n- Call Bob about the car.\n", 14),
    ("1. Go north.\n2. Continue where the path splits.\n3. Here are the remaining ingredients: salt.\n", 16),
]


@pytest.mark.parametrize(("text", "place"), REPEATED)
@pytest.mark.parametrize("kind", ["prefill", "continue"])
def test_a_text_that_repeats_itself_loses_nothing_when_it_is_exactly_continued(
    text: str, place: int, kind: StitchKind
) -> None:
    stitcher = Stitcher(text[:place], kind)
    kept = len(text[:place].rstrip())
    passed = shown([*stitcher.feed([TextDelta(text[kept:])]), *stitcher.finish()])
    assert text[:place] + passed == text


def test_a_seam_without_a_repeat_is_known_as_unproved() -> None:
    for continuation, is_unproved in (("and that was all of it.", True), (PROSE[-60:] + " And so on.", False)):
        stitcher = Stitcher(PROSE, "continue")
        stitcher.feed([TextDelta(continuation)])
        stitcher.finish()
        assert stitcher.is_unproved is is_unproved
