"""A conversation: what of it goes along, what is learned of a server's counts, and its form as a file."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from utils.conversation import Conversation, Exchange, Window
from utils.errors import UsageProblem
from utils.guardrails.prompt_tokens import TEMPLATE_TOKENS, likely_tokens
from utils.run_context import Message

TEXT = st.text(max_size=60)
WORDS = st.text("ab \n1é", min_size=1, max_size=80)
EXCHANGES = st.lists(st.tuples(TEXT, WORDS), max_size=8)
SYSTEM = st.none() | TEXT


def talk_of(*exchanges: tuple[str, str], system: str | None = None) -> Conversation:
    return Conversation((Exchange(prompt, answer) for prompt, answer in exchanges), system)


def likely(talk: Conversation, prompt: str, kept: int) -> int:
    """The estimate of a request with the newest *kept* exchanges, while nothing was learned."""
    exchanges = talk.exchanges[len(talk.exchanges) - kept :]
    texts = [prompt, talk.system or "", *(text for each in exchanges for text in (each.prompt, each.answer))]
    return TEMPLATE_TOKENS + sum(likely_tokens(text) + 5 + 1 for text in texts if text)


# -- the window ------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(EXCHANGES, SYSTEM, TEXT, st.integers(0, 400))
@example([("a", "b")], None, "x" * 60, 1)
def test_the_newest_exchanges_that_fit_go_along_in_their_order_and_no_more(
    exchanges: list[tuple[str, str]], system: str | None, prompt: str, room: int
) -> None:
    talk = talk_of(*exchanges, system=system)
    window = talk.window(prompt, room or None)
    kept, odd = divmod(len(window.messages), 2)

    assert not odd
    assert window.left_out == len(exchanges) - kept
    sent = exchanges[window.left_out :]
    expected = [each for asked, said in sent for each in (Message("user", asked), Message("assistant", said))]
    assert list(window.messages) == expected
    if not room:
        assert kept == len(exchanges)
        return
    assert not kept or likely(talk, prompt, kept) <= room
    assert kept == len(exchanges) or likely(talk, prompt, kept + 1) > room
    assert len(talk.exchanges) == len(exchanges)


@settings(max_examples=60)
@given(EXCHANGES, SYSTEM, WORDS, st.integers(0, 100_000))
@example([], None, "hi", 4)
def test_what_was_counted_is_never_estimated_lower_for_the_same_request(
    exchanges: list[tuple[str, str]], system: str | None, prompt: str, counted: int
) -> None:
    talk = talk_of(*exchanges, system=system)
    whole = talk.window(prompt, None)
    before = likely(talk, prompt, len(exchanges))
    texts = list(filter(None, (prompt, system, *(message.content for message in whole.messages))))
    uncorrected = before - TEMPLATE_TOKENS - len(texts)
    talk.observe(whole, prompt, counted)
    # No correction is trusted beyond four times.
    estimate = max(uncorrected, min(counted, 4 * uncorrected)) + TEMPLATE_TOKENS

    assert bool(exchanges) == bool(talk.window(prompt, estimate - 1).left_out)
    assert talk.window(prompt, estimate + len(texts) + 1).left_out == 0
    talk.meet_another_model()
    assert talk.window(prompt, before).left_out == 0


@given(st.integers(1, 12), WORDS, st.none() | st.integers(50, 400))
def test_a_request_that_was_found_too_long_is_shortened_by_half_until_only_the_prompt_is_left(
    count: int, prompt: str, room: int | None
) -> None:
    talk = talk_of(*((f"p{n}", f"answer {n}") for n in range(count)))
    window: Window | None = talk.window(prompt, room)
    assert window is not None
    kept = [len(window.messages) // 2]
    while (window := talk.shorten(window, prompt)) is not None:
        kept.append(len(window.messages) // 2)
        assert window.messages == talk.window(prompt, None).messages[-len(window.messages) :] or not window.messages
    assert kept[1:] == [number // 2 for number in kept[:-1]]
    assert kept[-1] == 0
    assert len(talk.exchanges) == count


def test_the_room_that_a_refusal_teaches_holds_for_the_next_requests_and_not_for_another_model() -> None:
    talk = talk_of(*((f"prompt {n}", "word " * 50) for n in range(8)))
    refused = talk.window("next", None)
    talk.shorten(refused, "next")

    after = talk.window("next", None)
    assert 0 < len(after.messages) < len(refused.messages)
    assert talk.window("next", 100_000) == after
    assert len(talk.window("next", 100).messages) < len(after.messages)
    # A long prompt that was refused takes nothing from the short ones after it.
    talk.meet_another_model()
    talk.shorten(talk.window("word " * 10_000, None), "word " * 10_000)
    assert talk.window("next", None).left_out == 0


def test_an_answer_of_which_nothing_was_shown_leaves_no_exchange() -> None:
    talk = Conversation()
    assert talk.undo() is None
    talk.add("a", "", is_whole=False)
    talk.add("b", "B", is_whole=False, run_id="r1")
    talk.add("c", "C", is_whole=True)
    assert talk.exchanges == [Exchange("b", "B", False), Exchange("c", "C")]
    assert talk.exchanges[0].run_id == "r1"
    assert talk.undo() == Exchange("c", "C")
    assert talk.window("x", None).messages == (Message("user", "b"), Message("assistant", "B"))


def test_no_text_is_in_a_repr() -> None:
    assert "secret" not in repr(Exchange("secret", "secret"))
    assert "secret" not in repr(talk_of(("secret", "secret")).window("x", None))


# -- as a file -------------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.lists(st.tuples(TEXT, WORDS, st.booleans())), SYSTEM, TEXT)
def test_a_conversation_survives_its_file(
    exchanges: list[tuple[str, str, bool]], system: str | None, model: str
) -> None:
    talk = Conversation((Exchange(*each) for each in exchanges), system)
    text = talk.to_json(model=model)
    back = Conversation.from_json(text, name="f")
    assert (back.exchanges, back.system) == (talk.exchanges, system)
    assert back.to_json(model=model) == text


def saved(**fields: Any) -> str:
    return json.dumps({"kaygraph_conversation": 1, "system": None, "turns": [], **fields})


TURN = {"prompt": "p", "answer": "a"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is not JSON"),
        ("{", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("[]", "it has no 'kaygraph_conversation'"),
        ('{"turns": []}', "it has no 'kaygraph_conversation'"),
        (saved(kaygraph_conversation=2), "its format is '2', not 1"),
        (saved(kaygraph_conversation="x" * 99), f"its format is '{'x' * 20}', not 1"),
        (saved(turns=None), "'turns' is no list or 'system' is no text"),
        (saved(turns={}), "'turns' is no list or 'system' is no text"),
        (saved(system=3), "'turns' is no list or 'system' is no text"),
        (saved(system="\udc80"), "'system' holds half a character"),
        (saved(turns=[TURN, 3]), "turn 2 is no object"),
        (saved(turns=[{"prompt": "p"}]), "turn 1 has no prompt and answer"),
        (saved(turns=[{"prompt": "p", "answer": ""}]), "turn 1 has no prompt and answer"),
        (saved(turns=[{"prompt": 1, "answer": "a"}]), "turn 1 has no prompt and answer"),
        (saved(turns=[{**TURN, "is_whole": 1}]), "turn 1 has no prompt and answer"),
        (saved(turns=[{**TURN, "answer": "a\ud800"}]), "turn 1 holds half a character"),
        (saved(turns=[{**TURN, "prompt": "\udfff"}]), "turn 1 holds half a character"),
    ],
)
def test_whatever_is_no_saved_conversation_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(UsageProblem) as refused:
        Conversation.from_json(text, name="talk.json")
    assert refused.value.message == f"'talk.json' is no saved conversation: {why}"


def test_a_file_of_another_hand_needs_no_more_than_prompts_and_answers() -> None:
    talk = Conversation.from_json(saved(turns=[{**TURN, "note": 1}], system="s", date="today"), name="f")
    assert (talk.exchanges, talk.system) == ([Exchange("p", "a")], "s")
