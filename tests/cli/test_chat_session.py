"""The conversation of `chat_session`: what its screens show, what its requests hold, what is left in its files."""

from __future__ import annotations

import pytest

from tests.cli.chat_session import PARTIAL, SNAPSHOTS, Session, play


@pytest.fixture(scope="module")
def session() -> Session:
    return play()


@pytest.mark.parametrize("name", ["cancelled", "first", "second"])
def test_the_screen_is_the_one_that_was_kept(session: Session, name: str) -> None:
    kept = (SNAPSHOTS / f"chat_{name}.txt").read_text(encoding="utf-8")
    assert session.screens[name] + "\n" == kept, "python -m tests.cli.chat_session --rewrite keeps the new one"


def test_every_screen_is_kept_and_no_other(session: Session) -> None:
    assert {path.stem for path in SNAPSHOTS.glob("chat_*.txt")} == {f"chat_{name}" for name in session.screens}
    assert session.exit_codes == [0, 0]


def test_each_request_goes_on_with_what_was_said(session: Session) -> None:
    rivers = "Three of them:\n\n- the **Nile**,\n- the `Rhine`,\n- 長江.\n"
    talk = ["system: You know rivers.", "user: Name three rivers.", f"assistant: {rivers}"]
    assert session.anna[0] == talk[:2]
    talk += ["user: And the longest?", "assistant: The **Nile**, some 6,650 km.", "user: Tell me where it rises."]
    assert session.anna[1] == talk[:4]
    assert session.anna[2] == session.anna[3] == talk
    assert len(session.anna) == 4

    talk += ["assistant: It rises in Burundi.", "user: Is that true?"]
    assert session.bert[0] == talk
    # The one that failed is not in the conversation, and what was hidden from the reader is hidden from the model.
    talk += ["assistant: Opinions differ: see mail [EMAIL]."]
    assert session.bert[1] == [*talk, "user: Really?"]
    assert session.bert[2] == [*talk, "user: Go on."]
    assert len(session.bert) == 3


def test_the_saved_file_holds_the_conversation_as_it_stood(session: Session) -> None:
    assert [turn["prompt"] for turn in session.saved["turns"]] == [
        *("Name three rivers.", "And the longest?", "Tell me where it rises.", "Is that true?")
    ]
    assert PARTIAL not in str(session.saved)
    assert session.saved["system"] == "You know rivers."
    assert session.saved["model"] == "bert at http://bert/v1"
