"""What faults do to the bytes of an answer, however those arrive."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from utils.failures.faults import At, Fault
from utils.failures.grammar import parse_plan
from utils.failures.stream import (
    MAX_HELD_BYTES,
    Action,
    Break,
    End,
    Place,
    Send,
    Transformer,
    Wait,
    expected_events,
    transformer_of,
)

WORDS = [
    b'data: {"choices":[{"index":0,"delta":{"content":"' + word + b'"},"finish_reason":null}]}\n\n'
    for word in (b"one ", b"two ", b'\\"finish_reason\\":\\"stop\\"', b"four")
]
PING = b": ping\n\n"
STOP = b'data: {"choices":[{"index":0,"delta":{},"finish_reason": "stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
EVENTS = [*WORDS[:2], PING, *WORDS[2:], STOP, DONE]
BODY = b"".join(EVENTS)


def fault_of(text: str) -> Fault:
    fault = parse_plan(text).next_fault()
    assert fault is not None
    return fault


def played(transformer: Transformer, chunks: Iterable[bytes]) -> list[Action]:
    """All actions up to the end; the transport's part of the contract is played as well."""
    actions = transformer.start()
    for chunk in chunks:
        actions += [Send(chunk)] if transformer.is_spent and not ended(actions) else transformer.feed(chunk)
    actions += transformer.finish()
    return actions


def ended(actions: list[Action]) -> bool:
    return any(isinstance(action, End | Break) for action in actions)


def joined(actions: list[Action]) -> list[Action]:
    """Adjacent sends taken together."""
    out: list[Action] = []
    for action in actions:
        if isinstance(action, Send) and out and isinstance(out[-1], Send):
            out[-1] = Send(out[-1].data + action.data)
        else:
            out.append(action)
    return out


def run(
    text: str, body: bytes = BODY, *, expected: int = 100, size: int = 1 << 30
) -> tuple[list[Action], Place | None]:
    transformer = transformer_of(fault_of(text), expected)
    assert transformer is not None
    actions = played(transformer, (body[at : at + size] for at in range(0, len(body), size)))
    return joined(actions), transformer.happened


def first(count: int) -> bytes:
    return b"".join(EVENTS[:count])


CUT = [
    ("cut@3e", [Send(first(3)), End()], Place(len(first(3)), 3)),
    ("reset@1e", [Send(first(1)), Break("reset")], Place(len(first(1)), 1)),
    ("reset@7e", [Send(BODY), Break("reset")], Place(len(BODY), 7)),
    ("incomplete@10b", [Send(BODY[:10]), Break("incomplete")], Place(10, None)),
    ("cut@0b", [End()], Place(0, None)),
    ("cut@0e", [End()], Place(0, 0)),
    ("cut@0%", [End()], Place(0, 0)),
    ("cut@2%", [Send(first(2)), End()], Place(len(first(2)), 2)),
    ("cut@50%", [Send(first(5)), End()], Place(len(first(5)), 5)),
    ("cut@100%", [Send(first(5)), End()], Place(len(first(5)), 5)),
    ("cut@8e", [Send(BODY)], None),
    ("reset@100000b", [Send(BODY)], None),
    ("stall=3@2e", [Send(first(2)), Wait(3.0), Send(BODY[len(first(2)) :])], Place(len(first(2)), 2)),
    ("stall@5b", [Send(BODY[:5]), Wait(None), Send(BODY[5:])], Place(5, None)),
    ("stall=1@0b", [Wait(1.0), Send(BODY)], Place(0, None)),
    ("early_done@2e", [Send(first(2) + DONE), End()], Place(len(first(2)), 2)),
    ("null_event@2e", [Send(first(2) + b"data: null\n\n" + BODY[len(first(2)) :])], Place(len(first(2)), 2)),
    ("null_event@1b", [Send(first(1) + b"data: null\n\n" + BODY[len(first(1)) :])], Place(len(first(1)), 1)),
    ("duplicate@2e", [Send(first(2) + EVENTS[1] + BODY[len(first(2)) :])], Place(len(first(2)), 2)),
    ("duplicate@0%", [Send(first(1) + EVENTS[0] + BODY[len(first(1)) :])], Place(len(first(1)), 1)),
    ("no_done", [Send(first(6))], Place(len(first(6)), 6)),
    ("no_finish", [Send(BODY.replace(b'"finish_reason": "stop"', b'"finish_reason": null'))], Place(len(first(5)), 5)),
]


@pytest.mark.parametrize("size", [1, 2, 3, 50, 1 << 30])
@pytest.mark.parametrize(("text", "actions", "place"), CUT, ids=[row[0] for row in CUT])
def test_a_fault_does_what_it_says_at_its_place(
    text: str, actions: list[Action], place: Place | None, size: int
) -> None:
    assert run(text, size=size) == (actions, place)


@pytest.mark.parametrize(("expected", "passed"), [(100, 5), (10, 4), (5, 2), (1, 1)])
def test_a_share_counts_events_of_the_expected_length_but_comes_before_the_answer_finishes(
    expected: int, passed: int
) -> None:
    actions, place = run("reset@40%", expected=expected)
    assert actions == [Send(first(passed)), Break("reset")]
    assert place == Place(len(first(passed)), passed)


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b'{"max_tokens": 12}', 12),
        (b'{"max_completion_tokens": 7, "max_tokens": null}', 7),
        (b'{"max_tokens": 5000}', 100),
        (b'{"max_tokens": "x"}', 100),
        (b"[]", 100),
        (b"\xff", 100),
        (b"", 100),
    ],
)
def test_the_expected_length_is_max_tokens_but_at_most_100_events(body: bytes, events: int) -> None:
    assert expected_events(body) == events


def test_one_byte_chunks_are_the_same_bytes_one_by_one() -> None:
    transformer = transformer_of(fault_of("onebyte"))
    assert transformer is not None
    assert played(transformer, [BODY[:7], b"", BODY[7:]]) == [Send(bytes([byte])) for byte in BODY]
    assert transformer.happened == Place(0, None)


def test_a_drip_never_passes_more_than_its_rate_and_loses_nothing() -> None:
    actions, _ = run("drip=40@100b")
    sent = b"".join(action.data for action in actions if isinstance(action, Send))
    assert sent == BODY
    assert actions[0] == Send(BODY[:104])
    pieces = [action for action in actions[1:] if isinstance(action, Send)]
    assert all(len(piece.data) <= 4 for piece in pieces)
    waited = sum(action.seconds or 0 for action in actions if isinstance(action, Wait))
    assert waited == pytest.approx((len(BODY) - 100) // 4 * 0.1)


@pytest.mark.parametrize(
    ("text", "error_type"), [("error_object@2e", b'"server_error"'), ("error_object=insufficient_quota@0e", b"_quota")]
)
def test_an_error_object_ends_the_stream(text: str, error_type: bytes) -> None:
    actions, place = run(text)
    assert actions[-1] == End()
    assert place is not None
    sent = actions[0]
    assert isinstance(sent, Send)
    assert sent.data.startswith(first(place.events or 0) + b'data: {"error":{"message":')
    assert error_type in sent.data
    assert sent.data.endswith(b"\n\n")


BREAKS = st.sampled_from([b"\n", b"\r\n", b"\r"])
PIECES = st.lists(
    st.sampled_from(
        [b"a", b"data: x", b"data: [DONE]", b'"finish_reason":"stop"', b":", b"\xff", *[b"\n", b"\r", b"\r\n"] * 3]
    )
)
BODIES = st.one_of(
    PIECES.map(b"".join),
    BREAKS.map(lambda end: BODY.replace(b"\n", end)),
    st.tuples(PIECES.map(b"".join), BREAKS).map(lambda pair: pair[0] + BODY.replace(b"\n", pair[1])),
)
ONCE = [
    *("cut", "reset", "incomplete", "stall=1", "garbage", "garbage_line", "null_event", "invalid_utf8"),
    *("duplicate", "error_object", "early_done"),
]
PLANS = st.one_of(
    st.sampled_from(["onebyte", "no_done", "no_finish", "drip=35@3b", "drip=7@2e", "drip=1000@1%"]),
    st.builds(
        lambda kind, amount, unit: f"{kind}@{amount}{unit}",
        st.sampled_from(ONCE),
        st.integers(1, 9),
        st.sampled_from("be%"),
    ),
)


@given(PLANS, BODIES, st.lists(st.integers(0, 700), max_size=30))
@example("cut@1e", b"a\r\r\nb\r\n\r\nc", [3])
@example("null_event@1e", b"a\r\n\r\nb", [1, 2, 3, 4, 5])
@example("null_event@1e", b"a\r\rb", [3])
def test_what_happens_depends_on_the_bytes_and_not_on_where_they_are_cut(
    text: str, body: bytes, cuts: list[int]
) -> None:
    ends = sorted({cut for cut in cuts if cut < len(body)})
    chunks = [body[start:end] for start, end in zip([0, *ends], [*ends, len(body)], strict=True)]
    cut, whole, single = (transformer_of(fault_of(text)) for _ in range(3))
    assert cut is not None
    assert whole is not None
    assert single is not None
    expected = joined(played(whole, [body]))
    assert joined(played(cut, chunks)) == expected
    assert joined(played(single, [bytes([byte]) for byte in body])) == expected
    assert cut.happened == whole.happened == single.happened


@given(PLANS, BODIES)
def test_nothing_is_lost_and_nothing_changed_before_the_fault(text: str, body: bytes) -> None:
    transformer = transformer_of(fault_of(text))
    assert transformer is not None
    actions = played(transformer, [body])
    sent = b"".join(action.data for action in actions if isinstance(action, Send))
    if transformer.happened is None:
        assert sent == body
    else:
        assert sent[: transformer.happened.bytes] == body[: transformer.happened.bytes]
        assert ended(actions) or len(sent) >= len(body) - len(b"data: [DONE]\n\n") or text.startswith("no_")


@given(PLANS.filter(lambda text: text != "onebyte"), st.lists(st.sampled_from(EVENTS)), st.integers(1, 200))
def test_at_no_time_more_than_the_unfinished_event_is_held(text: str, events: list[bytes], size: int) -> None:
    transformer = transformer_of(fault_of(text))
    assert transformer is not None
    body = b"".join(events)
    sent = sum(len(action.data) for action in transformer.start() if isinstance(action, Send))
    for at in range(0, len(body), size):
        fed = body[: at + size]
        sent += sum(len(action.data) for action in transformer.feed(body[at : at + size]) if isinstance(action, Send))
        if transformer.happened is not None:
            return
        assert sent >= fed.rfind(b"\n\n") + 2 or b"\n\n" not in fed


def test_a_body_that_is_no_event_stream_is_not_held_for_ever() -> None:
    for text in ("cut@1e", "no_finish", "reset@50%"):
        transformer = transformer_of(fault_of(text))
        assert transformer is not None
        sent = 0
        for _ in range(40):
            piece = b"x" * (MAX_HELD_BYTES // 16)
            sent += len(piece) if transformer.is_spent else sum(len(a.data) for a in transformer.feed(piece))  # type: ignore[union-attr]
        assert transformer.is_spent
        assert sent == 40 * (MAX_HELD_BYTES // 16)


def test_faults_before_the_body_have_no_transformer() -> None:
    assert transformer_of(Fault("refused")) is None
    assert transformer_of(Fault("content_type", "text/plain")) is None
    assert transformer_of(Fault("cut", at=At(1, "b"))) is not None
