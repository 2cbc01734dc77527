"""The guard on bytes: nothing but matches changes, wherever the stream is cut and whatever is not UTF-8."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.sample_rules import sample_rules
from utils.byte_guard import ByteGuard
from utils.errors import AnswerBlocked
from utils.events import Blocked, Flagged, Redacted, TextDelta
from utils.guardrails.redactor import GuardEvent, GuardStateError, GuardStatistics, Redactor
from utils.guardrails.rules import RuleSet

OWN_KEY = "my-own-key-0123456789"
NO_RULES = RuleSet.compile([])
DEFAULT = sample_rules(OWN_KEY)
CARD = b"4111 1111 1111 1111"

FRAGMENTS = (
    *(
        b"a",
        b" ",
        b"\n",
        b"\0",
        b".",
        b"@",
        b"1",
        b"bob@example.com",
        b"sk-abcdefghij0123456789",
        b"sk-",
        b"0123456789",
    ),
    *(CARD, OWN_KEY.encode(), OWN_KEY.encode()[:9], OWN_KEY.encode()[9:], b"AKIA", b"eyJ", b".co"),
    *("é".encode(), "\u200b".encode(), "\ufeff".encode(), "日".encode(), "😀".encode()),
    *(b"\xff", b"\xc3", b"\xa9", b"\xe2\x80", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc1\xa2", b"\xf4\x90\x80\x80"),
)
streams = st.one_of(
    st.binary(max_size=60),
    st.lists(st.sampled_from(FRAGMENTS), max_size=9).map(b"".join),
)


def filtered(rules: RuleSet, *pieces: bytes) -> bytes:
    guard = ByteGuard(Redactor(rules))
    return b"".join(guard.feed(piece) for piece in pieces) + guard.finish()


def cut(data: bytes, places: set[int]) -> list[bytes]:
    inside = sorted(place for place in places if place < len(data))
    return [data[i:j] for i, j in pairwise([0, *inside, len(data)])]


class Scripted:
    """A guard that answers each piece by what *script* says, in turn, and its end by the last of it."""

    def __init__(self, *script: list[GuardEvent] | BaseException) -> None:
        self.script = list(script)
        self.is_cancelled = False

    def feed(self, text: str) -> list[GuardEvent]:
        assert not self.is_cancelled
        step = self.script.pop(0)
        if isinstance(step, BaseException):
            raise step
        if any(isinstance(event, Blocked) for event in step):
            self.script = [GuardStateError("used after a block")]
        return list(step)

    def finish(self, *, is_cut: bool = False) -> list[GuardEvent]:
        return self.feed("")

    def cancel(self) -> int:
        self.is_cancelled = True
        return 3

    @property
    def held_chars(self) -> int:
        return 0

    def statistics(self) -> GuardStatistics:
        return Redactor(NO_RULES).statistics()


# -- the laws ----------------------------------------------------------------------------------------------------------


@settings(max_examples=400, deadline=None)
@given(streams, st.sets(st.integers(0, 300), max_size=9))
@example(b"\xe2\x80bob@example.com\xe2", {1, 4})
def test_the_output_depends_on_the_bytes_and_not_on_where_they_were_cut(data: bytes, places: set[int]) -> None:
    whole = filtered(DEFAULT, data)
    assert filtered(DEFAULT, *(data[i : i + 1] for i in range(len(data)))) == whole
    assert all(filtered(DEFAULT, data[:i], data[i:]) == whole for i in range(len(data) + 1))
    assert filtered(DEFAULT, *cut(data, places)) == whole


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.sets(st.integers(0, 200), max_size=9))
@example(bytes(range(256)), {128, 200})
@example(b"\xf0\x9f\x98", {1, 2})
def test_bytes_without_a_match_leave_as_they_came(data: bytes, places: set[int]) -> None:
    assert filtered(NO_RULES, *cut(data, places)) == data


@settings(max_examples=300, deadline=None)
@given(streams, streams)
def test_a_verbatim_secret_never_leaves_whatever_bytes_surround_it(before: bytes, after: bytes) -> None:
    secret = OWN_KEY.encode()
    shown = filtered(DEFAULT, before + secret + after)
    assert secret not in shown


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=9).map(b"".join))
def test_the_bytes_show_what_the_text_guard_shows(data: bytes) -> None:
    redactor = Redactor(DEFAULT)
    events = redactor.feed(data.decode("utf-8", "surrogateescape")) + redactor.finish()
    text = "".join(
        e.text if isinstance(e, TextDelta) else e.replacement for e in events if not isinstance(e, Blocked | Flagged)
    )
    assert filtered(DEFAULT, data) == text.encode("utf-8", "surrogateescape")


def test_a_megabyte_of_any_bytes_passes_unharmed() -> None:
    source = random.Random(7)
    data = source.randbytes(1 << 20)
    guard = ByteGuard(Redactor(NO_RULES))
    shown = bytearray()
    place = 0
    while place < len(data):
        size = source.randint(1, 70_000)
        shown += guard.feed(data[place : place + size])
        place += size
    assert bytes(shown) + guard.finish() == data


# -- invalid bytes and secrets -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        pytest.param(b"\xffbob@example.com\xff", b"\xff[EMAIL]\xff", id="invalid bytes beside an address"),
        pytest.param(b"\xff" + CARD + b"\xff", b"\xff[CARD]\xff", id="invalid bytes beside a card number"),
        pytest.param(b"\xff" + OWN_KEY.encode() + b"\x80", b"\xff[KEY]\x80", id="invalid bytes beside the own key"),
        pytest.param(b"\xe2\x80bob@example.com", b"\xe2\x80[EMAIL]", id="a truncated character swallows no letter"),
        pytest.param(b"\xf0\x9f" + CARD, b"\xf0\x9f[CARD]", id="a truncated character swallows no digit"),
        pytest.param(b"bob@example.com\xc3", b"[EMAIL]\xc3", id="a truncated character at the very end"),
        pytest.param(CARD + b"\xff9", b"[CARD]\xff9", id="an invalid byte keeps a number apart from a digit"),
        pytest.param(b"bob@exa\xffmple.com", b"bob@exa\xffmple.com", id="an invalid byte splits an address"),
        pytest.param(b"a\xffbob@example.com", b"a\xff[EMAIL]", id="an invalid byte begins an address anew"),
        pytest.param(b"\xc1\xa2ob@example.com", b"\xc1\xa2[EMAIL]", id="an overlong b is no b"),
        pytest.param("é bob@example.com é".encode(), "é [EMAIL] é".encode(), id="valid characters"),
        pytest.param(b"\xef\xbb\xbfbob@example.com", b"\xef\xbb\xbf[EMAIL]", id="a byte order mark stays"),
        pytest.param(b"a\r\n\0bob@example.com\0\r\n", b"a\r\n\0[EMAIL]\0\r\n", id="line ends and zero bytes stay"),
    ],
)
def test_an_invalid_byte_stays_at_its_place_and_ends_a_word_as_a_blank_does(data: bytes, shown: bytes) -> None:
    assert filtered(DEFAULT, data) == shown
    assert filtered(DEFAULT, *(data[i : i + 1] for i in range(len(data)))) == shown


def test_a_key_of_the_environment_that_is_not_utf8_is_found_too() -> None:
    rules = sample_rules(b"k\xffy-of-twelve-bytes".decode("utf-8", "surrogateescape"))
    assert filtered(rules, b"x k\xffy-of-", b"twelve-bytes x") == b"x [KEY] x"


# -- what waits --------------------------------------------------------------------------------------------------------


def test_safe_bytes_are_released_by_the_feed_that_brings_them() -> None:
    guard = ByteGuard(Redactor(DEFAULT))
    assert guard.feed(b"hello world\n") == b"hello world\n"
    assert guard.feed("é\n\xff ".encode("latin-1")) == "é\n\xff ".encode("latin-1")
    assert guard.feed("日本\n".encode()) == "日本\n".encode()


def test_an_unfinished_character_waits_for_its_rest_and_no_longer() -> None:
    guard = ByteGuard(Redactor(NO_RULES))
    assert guard.feed(b"a\xf0\x9f\x98") == b"a"
    assert guard.feed(b"\x80") == "😀".encode()
    assert guard.feed(b"\xf0\x9f") == b""
    assert guard.feed(b"b") == b"\xf0\x9fb"
    assert guard.feed(b"\xe2\x80") == b""
    assert guard.finish() == b"\xe2\x80"


def test_a_match_at_the_end_of_the_input_is_decided_there() -> None:
    guard = ByteGuard(Redactor(DEFAULT))
    assert guard.feed(b"pay " + CARD[:-1]) == b"pay "
    assert guard.feed(CARD[-1:]) + guard.finish() == b"[CARD]"


def test_nothing_follows_the_end_of_the_input() -> None:
    guard = ByteGuard(Redactor(DEFAULT))
    assert guard.finish() == b""
    for use in (lambda: guard.feed(b""), guard.finish):
        with pytest.raises(GuardStateError):
            use()
    assert guard.statistics().is_complete


def test_a_cancelled_stream_drops_what_is_held() -> None:
    guard = ByteGuard(Redactor(DEFAULT))
    assert guard.feed(b"key sk-abc") == b"key "
    assert guard.cancel() == 6
    assert guard.cancel() == 0
    assert not guard.statistics().is_complete
    assert guard.statistics().guard.dropped_chars == 6
    for use in (lambda: guard.feed(b"x"), guard.finish):
        with pytest.raises(GuardStateError):
            use()


# -- blocks, flags and failures ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_end", [False, True])
def test_a_block_shows_what_came_before_it_and_nothing_after(at_end: bool) -> None:
    events: list[GuardEvent] = [TextDelta("be\udcff"), Redacted("r", "[X]", 3), Blocked("no-go"), TextDelta("after")]
    inner = Scripted([], events) if at_end else Scripted(events)
    guard = ByteGuard(inner)
    shown = guard.feed(b"raw")
    if at_end:
        assert (shown, guard.blocked_by) == (b"", None)
        shown = guard.finish()
    assert shown == b"be\xff[X]"
    assert guard.blocked_by == "no-go"
    assert inner.is_cancelled
    figures = guard.statistics()
    assert (figures.is_complete, figures.blocked_by, figures.shown_bytes) == (False, "no-go", 6)
    with pytest.raises(GuardStateError):
        guard.feed(b"more")


def test_a_block_by_the_last_bytes_is_not_followed_by_the_end() -> None:
    guard = ByteGuard(Scripted([TextDelta("a")], [Blocked("no-go")]))
    assert guard.feed(b"a\xe2") == b"a"
    assert guard.finish() == b""
    assert guard.blocked_by == "no-go"


def test_a_flag_changes_no_byte() -> None:
    guard = ByteGuard(Scripted([Flagged("odd", 0, 1), TextDelta("a")], []))
    assert guard.feed(b"a") + guard.finish() == b"a"
    assert guard.statistics().is_complete


def test_a_rule_that_fails_stops_the_stream_without_quoting_it() -> None:
    inner = Scripted(ValueError("bob@example.com"))
    guard = ByteGuard(inner)
    with pytest.raises(AnswerBlocked, match="ValueError") as caught:
        guard.feed(b"bob@example.com")
    assert "bob" not in caught.value.message + caught.value.hint
    assert inner.is_cancelled
    with pytest.raises(GuardStateError):
        guard.finish()


def test_an_interruption_inside_a_rule_passes_and_drops_what_is_held() -> None:
    inner = Scripted(KeyboardInterrupt())
    guard = ByteGuard(inner)
    with pytest.raises(KeyboardInterrupt):
        guard.feed(b"x")
    assert inner.is_cancelled


# -- figures -----------------------------------------------------------------------------------------------------------


def test_the_figures_count_bytes_and_matches() -> None:
    guard = ByteGuard(Redactor(DEFAULT))
    shown = guard.feed(b"\xff\xfe mail bob@exam") + guard.feed(b"ple.com \xc3\xa9\x80") + guard.finish()
    figures = guard.statistics()
    assert shown == b"\xff\xfe mail [EMAIL] \xc3\xa9\x80"
    assert (figures.read_bytes, figures.shown_bytes, figures.invalid_bytes) == (27, len(shown), 3)
    assert [(f.rule, f.count) for f in figures.guard.findings] == [("email", 1)]
    assert figures.is_complete
    assert "bob" not in repr(figures)
