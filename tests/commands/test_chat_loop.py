"""The loop of a chat against servers that answer by script: what each request holds, and what each command changes."""

from __future__ import annotations

import gc
import json
import os
import signal
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.commands.chat_runs import Chats
from tests.support.scripted_server import Action
from tests.support.talking_server import TalkingServer, cut, interrupted, refused, said, too_long
from utils.errors import ConfigError, UsageProblem


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Chats:
    return Chats(monkeypatch, capfd)


def at(server: TalkingServer, *args: str) -> tuple[str, ...]:
    return ("--base-url", server.base_url, "-m", "m", "--retries", "0", *args)


def turns(path: Path) -> list[tuple[str, str, bool]]:
    return [(turn["prompt"], turn["answer"], turn["is_whole"]) for turn in json.loads(path.read_text())["turns"]]


# -- what goes along -------------------------------------------------------------------------------------------------


def test_every_request_holds_the_whole_conversation_before_it(chat: Chats) -> None:
    with TalkingServer(said("An", "na."), "In Rome.", "You asked twice.") as server:
        done = chat(*at(server, "-s", "Be brief."), lines=["Who?", "", "  ", "Where\nexactly?", "/help", "What else?"])
    assert server.talks == [
        ["system: Be brief.", "user: Who?"],
        ["system: Be brief.", "user: Who?", "assistant: Anna.", "user: Where\nexactly?"],
        [
            *("system: Be brief.", "user: Who?", "assistant: Anna."),
            *("user: Where\nexactly?", "assistant: In Rome.", "user: What else?"),
        ],
    ]
    assert (done.code, done.out) == (0, "Anna.\nIn Rome.\nYou asked twice.\n")
    assert "/retry" in done.err


def test_a_slash_at_the_beginning_of_a_prompt_is_typed_twice(chat: Chats) -> None:
    with TalkingServer() as server:
        done = chat(*at(server), lines=["//help", "/hepl", "/etc/hosts?"])
    assert [talk[-1] for talk in server.talks] == ["user: /help", "user: /etc/hosts?"]
    assert "error: /hepl is no command\nhint: did you mean /help?" in done.err
    assert done.code == 2


def test_the_system_prompt_can_be_set_shown_and_removed(chat: Chats) -> None:
    with TalkingServer() as server:
        done = chat(*at(server), lines=["/system", "a", "/system Be\x1b[31m kind.", "/system", "/system -", "b"])
        # A control character in it is refused with the next prompt, as it is in a prompt.
        again = chat(*at(server), lines=["/system Be kind.", "c", "/system Be\x1b[31m.", "d"])
    assert [talk[0] for talk in server.talks] == ["user: a", "user: a", "system: Be kind."]
    assert done.err.splitlines().count("no system prompt") == 2
    assert "\x1b" not in done.err
    assert done.err.count("system prompt: Be\\x1b[31m kind.") == 2
    assert (done.code, again.code) == (0, 4)


def test_retry_puts_another_answer_in_the_place_of_the_newest(chat: Chats, tmp_path: Path) -> None:
    with TalkingServer("one", "two", "TWO", "2", "three") as server:
        chat(
            *at(server, "--seed", "7"),
            lines=["a", "b", "/retry", "/retry", "c", f"/save {tmp_path}/t.json"],
        )
    assert server.talks[1] == server.talks[2] == server.talks[3] == ["user: a", "assistant: one", "user: b"]
    assert server.talks[4][2:] == ["user: b", "assistant: 2", "user: c"]
    assert [body["seed"] for body in server.bodies] == [7, 7, 8, 9, 7]
    assert turns(tmp_path / "t.json") == [("a", "one", True), ("b", "2", True), ("c", "three", True)]


def test_retry_without_a_seed_sends_the_same_request_again(chat: Chats) -> None:
    with TalkingServer() as server:
        chat(*at(server), lines=["a", "/retry"])
    assert server.bodies[0] == server.bodies[1]
    assert "seed" not in server.bodies[0]


def test_retry_that_gets_no_answer_keeps_the_one_that_is_there(chat: Chats, tmp_path: Path) -> None:
    with TalkingServer("one", refused(500), "ONE") as server:
        done = chat(
            *at(server), lines=["a", "/retry", f"/save {tmp_path}/t.json", "/retry", f"/save {tmp_path}/u.json"]
        )
    assert turns(tmp_path / "t.json") == [("a", "one", True)]
    assert "note: no new answer: the earlier one stays" in done.err
    assert turns(tmp_path / "u.json") == [("a", "ONE", True)]


def test_retry_after_a_failure_asks_again_and_replaces_nothing(chat: Chats) -> None:
    with TalkingServer("one", refused(500), "two") as server:
        chat(*at(server), lines=["same", "same", "/retry", "after"])
    assert server.talks[1] == server.talks[2] == ["user: same", "assistant: one", "user: same"]
    assert server.talks[3] == ["user: same", "assistant: one", "user: same", "assistant: two", "user: after"]


def test_undo_forgets_the_newest_and_retry_then_asks_the_one_before(chat: Chats) -> None:
    with TalkingServer("one", "two", "ONE") as server:
        done = chat(*at(server), lines=["/undo", "/retry", "a", "b", "/undo", "/retry", "c", "/undo", "/undo", "/undo"])
    assert server.talks == [
        ["user: a"],
        ["user: a", "assistant: one", "user: b"],
        ["user: a"],
        ["user: a", "assistant: ONE", "user: c"],
    ]
    assert done.err.count("error: there is nothing to undo") == 2
    assert done.err.count("error: there is no prompt to ask again") == 1
    assert "forgotten; 1 exchange left" in done.err
    assert "forgotten; 0 exchanges left" in done.err


# -- answers that fail -----------------------------------------------------------------------------------------------


def test_a_turn_that_fails_leaves_nothing_in_the_conversation(chat: Chats) -> None:
    with TalkingServer("one", refused(500, "no"), refused(404, "no such model"), "two") as server:
        done = chat(*at(server), lines=["a", "b", "c", "d"])
    assert server.talks[3] == ["user: a", "assistant: one", "user: d"]
    assert done.out == "one\ntwo\n"
    assert done.code == 78


def test_what_was_shown_of_an_answer_stays_and_is_known_as_a_part(chat: Chats, tmp_path: Path) -> None:
    with TalkingServer(cut("half an"), said("as long", " as it may", finish="length"), "whole") as server:
        done = chat(*at(server), lines=["a", "b", "c", f"/save {tmp_path}/t.json"])
    assert turns(tmp_path / "t.json") == [
        ("a", "half an", False),
        ("b", "as long as it may", False),
        ("c", "whole", True),
    ]
    assert server.talks[2][:4] == ["user: a", "assistant: half an", "user: b", "assistant: as long as it may"]
    assert done.code == 3


def test_a_prompt_that_is_refused_is_not_sent_and_the_chat_goes_on(chat: Chats) -> None:
    key = "ghp_" + "aB3dE6gH9j" * 3 + "kL2nO5"
    with TalkingServer() as server:
        done = chat(*at(server), lines=["a", f"keep {key}", "bell\x07", "half \udc80", "b"])
    assert server.talks == [["user: a"], ["user: a", "assistant: answer 1.", "user: b"]]
    assert done.err.count("error: ") == 3
    # An option cannot be typed here.
    assert "hint: remove it, or start again with --allow-secrets" in done.err
    assert key not in done.err
    assert done.code == 2


def test_a_blocked_answer_stays_as_far_as_it_was_shown(chat: Chats, tmp_path: Path) -> None:
    with TalkingServer("mail bob@example.com now", "next") as server:
        done = chat(
            *at(server, "--guard", "pii", "--guard-action", "block"), lines=["a", "b", f"/save {tmp_path}/t.json"]
        )
    assert turns(tmp_path / "t.json") == [("a", "mail ", False), ("b", "next", True)]
    assert done.code == 4


def test_what_was_hidden_from_the_reader_is_hidden_from_the_model(chat: Chats) -> None:
    with TalkingServer("mail bob@example.com now") as server:
        done = chat(*at(server, "--guard", "pii"), lines=["a", "b", "/stats"])
    assert server.talks[1][1] == "assistant: mail [EMAIL] now"
    assert "guard        1 hidden" in done.err


def test_of_a_conversation_that_the_server_finds_too_long_the_older_half_is_left_out(
    chat: Chats, tmp_path: Path
) -> None:
    with TalkingServer("one", "two", "three", too_long(), "four", "five", too_long(), too_long(), "six") as server:
        done = chat(*at(server), lines=["a", "b", "c", "d", "e", "f", f"/save {tmp_path}/t.json"])
    assert [len(talk) for talk in server.talks] == [1, 3, 5, 7, 3, 5, 5, 3, 1]
    assert server.talks[4] == ["user: c", "assistant: three", "user: d"]
    # What was learned holds: the next request is made to fit at once.
    assert server.talks[5] == [*server.talks[4], "assistant: four", "user: e"]
    assert server.talks[7] == ["user: e", "assistant: five", "user: f"]
    assert done.err.count("note: 2 earlier exchanges left out: the model's context holds no more") == 2
    assert done.err.count("note: 5 earlier exchanges left out") == 1
    assert done.out == "one\ntwo\nthree\nfour\nfive\nsix\n"
    assert done.code == 0
    assert len(turns(tmp_path / "t.json")) == 6


def test_a_prompt_that_is_too_long_alone_fails_and_costs_nothing_of_the_conversation(chat: Chats) -> None:
    with TalkingServer("one", too_long(), too_long(), "two") as server:
        done = chat(*at(server), lines=["a", "word " * 500, "b"])
    assert [len(talk) for talk in server.talks] == [1, 3, 1, 3]
    assert done.code == 65


def test_a_known_context_leaves_out_what_does_not_fit_and_learns_from_the_counts(
    chat: Chats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAYGRAPH_CONTEXT_TOKENS", "200")
    with TalkingServer(said("one"), said("two", prompt_tokens=100), "three") as server:
        done = chat(*at(server, "--max-tokens", "50"), lines=["word " * 20, "b", "c"])
    assert [len(talk) for talk in server.talks] == [1, 3, 3]
    assert server.talks[2][:2] == ["user: b", "assistant: two"]
    assert "note: 1 earlier exchange left out" in done.err


def test_limits_count_over_the_turns_of_a_chat(chat: Chats) -> None:
    with TalkingServer() as server:
        done = chat(*at(server, "--rpm", "2", "--timeout", "5"), lines=["a", "b", "c", "/stats"])
    assert len(server.bodies) < 3
    assert done.code == 75
    assert f"; {len(server.bodies)} request" in done.err


# -- Ctrl-C and the like ---------------------------------------------------------------------------------------------


def test_ctrl_c_in_an_answer_keeps_what_was_shown_and_stays(chat: Chats, tmp_path: Path) -> None:
    with TalkingServer(interrupted("half of"), "next") as server:
        done = chat(*at(server), lines=["a", "b", f"/save {tmp_path}/t.json"], at_terminal=True)
    assert turns(tmp_path / "t.json") == [("a", "half of", False), ("b", "next", True)]
    assert "cancelled: 7 characters of the answer shown" in done.err
    assert done.code == 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_ends_a_chat_that_nobody_types(chat: Chats) -> None:
    with TalkingServer(interrupted("half of")) as server:
        done = chat(*at(server), lines=["a", "b"])
    assert len(server.bodies) == 1
    assert (done.code, done.out) == (130, "half of\n")


def test_sigterm_in_an_answer_leaves(chat: Chats) -> None:
    with TalkingServer(interrupted("half of", signal.SIGTERM)) as server:
        done = chat(*at(server), lines=["a", "b"], at_terminal=True)
    assert len(server.bodies) == 1
    assert (done.code, done.out) == (143, "half of\n")


def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def sigterm() -> None:
    signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([KeyboardInterrupt], 0),
        ([KeyboardInterrupt, KeyboardInterrupt], 130),
        ([KeyboardInterrupt, "", KeyboardInterrupt], 0),
        ([KeyboardInterrupt, "/help", KeyboardInterrupt], 0),
        ([KeyboardInterrupt, "/nonsense", KeyboardInterrupt], 0),
        (["/help", ctrl_c, KeyboardInterrupt], 130),
        ([ctrl_c, "/help"], 0),
        ([ctrl_c, ctrl_c, "/nonsense"], 130),
        (["/help", sigterm, "/nonsense"], 143),
        (["/nonsense", "/quit", "/help"], 0),
    ],
)
def test_two_of_ctrl_c_leave_and_one_that_comes_too_late_does_not(
    chat: Chats, lines: list[str | type[BaseException] | Callable[[], object]], code: int
) -> None:
    done = chat("--base-url", "http://127.0.0.1:9/v1", lines=lines, at_terminal=True)
    assert done.code == code


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ((said("a"), said("b"), said("c")), 0),
        ((said("a"), refused(401), said("c")), 77),
        ((refused(429), refused(500), said("c")), 69),
        ((cut("a"), said("b"), said("c")), 3),
        ((said(), said("b"), said("c")), 0),
    ],
)
def test_the_exit_code_of_a_pipe_is_that_of_the_last_failure(
    chat: Chats, answers: tuple[Callable[[], Iterable[Action]], ...], code: int
) -> None:
    with TalkingServer(*answers) as server:
        assert chat(*at(server), lines=["1", "2", "3", "/stats", "/quit", "never"]).code == code
        assert len(server.bodies) == 3


def test_signals_that_are_ignored_stay_ignored(chat: Chats) -> None:
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        done = chat("--base-url", "http://127.0.0.1:9/v1", lines=[ctrl_c, ctrl_c, sigterm, "/help"], at_terminal=True)
        assert done.code == 0
        assert "/retry" in done.err
        assert {signal.getsignal(number) for number in before} == {signal.SIG_IGN}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_input_that_is_refused_is_an_error_and_the_next_line_is_read(chat: Chats) -> None:
    with TalkingServer() as server:
        done = chat(*at(server), lines=[UsageProblem("not UTF-8", hint="convert it"), "a"])
    assert done.code == 2
    assert done.err.startswith("error: not UTF-8\nhint: convert it\n")
    assert done.out == "answer 1.\n"


# -- other models and guards -----------------------------------------------------------------------------------------


def test_another_model_goes_on_with_the_conversation_and_the_first_target_is_remembered(chat: Chats) -> None:
    with TalkingServer("one", "two", refused(500), "five") as first, TalkingServer("three") as second:
        done = chat(
            *at(first, "--rpm", "60"),
            lines=[
                *("a", "/model other", "b", f"/model third@{second.base_url}", "c", "/model embedded", "/model"),
                *(f"/model m@{first.base_url}", "d", "e", "/stats"),
            ],
        )
    assert [body["model"] for body in first.bodies] == ["m", "other", "m", "m"]
    assert [body["model"] for body in second.bodies] == ["third"]
    assert second.talks == [["user: a", "assistant: one", "user: b", "assistant: two", "user: c"]]
    assert first.talks[3][4:] == ["user: c", "assistant: three", "user: e"]
    assert done.err.count("asking smollm2-135m-instruct (embedded)\n") == 2
    stats = done.err[done.err.index("answers  ") :].splitlines()
    targets = [line.partition("target")[2].strip() for line in stats if line.startswith("target")]
    assert targets == [
        f"m at {first.base_url}: breaker closed; 3 requests granted, 0 waited",
        f"other at {first.base_url}: breaker closed; 1 request granted, 0 waited",
        f"third at {second.base_url}: breaker closed; 1 request granted, 0 waited",
    ]
    assert stats[0].endswith("5: 4 complete, 1 unavailable")


def test_a_breaker_that_opened_is_still_open_when_the_model_comes_back(chat: Chats) -> None:
    with TalkingServer(*[refused(500)] * 9) as first, TalkingServer("fine") as second:
        done = chat(
            *at(first),
            lines=[*"abcde", f"/model m@{second.base_url}", "f", f"/model m@{first.base_url}", "g", "/stats"],
        )
    assert len(first.bodies) == 5
    assert f"target       m at {first.base_url}: breaker open" in done.err
    assert done.out == "fine\n"
    assert done.code == 69


def test_a_models_name_alone_is_one_of_the_server_that_was_asked_last(
    chat: Chats, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TalkingServer() as first, TalkingServer() as second:
        lines = [
            "/model Embedded",
            "/model x",
            "a",
            f"/model y@{second.base_url}",
            "b",
            "/model EMBEDDED",
            "/model z",
            "c",
        ]
        done = chat(*at(first, "--fallback", "x", "--fallback", "w"), lines=lines)
        assert done.err.count("asking smollm2-135m-instruct (embedded)\n") == 2
        assert "error" not in done.err
        monkeypatch.setenv("OPENAI_BASE_URL", first.base_url)
        chat("-m", "m", lines=["/model embedded", "/model v", "d"])
    assert [body["model"] for body in first.bodies] == ["x", "v"]
    assert [body["model"] for body in second.bodies] == ["y", "z"]


def test_a_model_without_its_key_is_answered_for_by_the_embedded_one_or_refused(chat: Chats) -> None:
    done = chat("--no-log", lines=["/model gpt-4"])
    assert "note: gpt-4 needs an API key and none is set: answering with" in done.err
    with TalkingServer() as server:
        kept = chat(*at(server, "--no-fallback"), lines=["/model embedded", "/model http://127.0.0.1:x/v1", "/model"])
    assert kept.code == 2
    assert [line for line in kept.err.splitlines() if line.startswith("asking")] == [
        "asking smollm2-135m-instruct (embedded)"
    ] * 2


def test_the_key_goes_to_no_other_host_and_stays_a_secret_there(chat: Chats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "my-own-secret-key")
    with TalkingServer() as first, TalkingServer("you said my-own-secret-key") as second:
        done = chat(
            *at(first),
            lines=[
                *("a", f"/model m@{second.base_url}", "/guard secrets", "b", "is it my-own-secret-key?"),
                *(f"/model n@{first.base_url}", "c"),
            ],
        )
    assert first.keys == ["Bearer my-own-secret-key"] * 2
    assert "my-own-secret-key" not in str(second.keys)
    assert len(second.bodies) == 1
    assert f"asking m at {second.base_url} without your key, which is meant for another host" in done.err
    assert "the prompt contains your own API key" in done.err
    assert "you said [KEY]\n" in done.out
    assert "my-own-secret-key" not in done.out + done.err


def test_guards_can_be_put_on_and_taken_off(chat: Chats, tmp_path: Path) -> None:
    pack = tmp_path / "house.toml"
    rule = 'id = "r"\ndescription = "d"\nseverity = "low"\naction = "redact"\nreplacement = "[X]"\nkeywords = ["Rome"]'
    pack.write_text(f'name = "house"\ndescription = "d"\n[[rule]]\n{rule}\n')
    text = "Rome bob@example.com"
    with TalkingServer(*[text] * 9) as server:
        done = chat(
            *at(server, "--guard", str(pack)),
            lines=[
                *("/guard", "1", "/guard off", "2", "/guard on", "3", "/guard pii", "4"),
                *("/guard nonsense", "/guard pii,,/none.toml", "/guard ,", "/guard", "5", "/guard on", "6"),
            ],
        )
    mine, both, pii = "[X] bob@example.com", "[X] [EMAIL]", "Rome [EMAIL]"
    assert done.out.splitlines() == [mine, text, both, pii, pii, both]
    told = [line for line in done.err.splitlines() if line.startswith("answers are")]
    assert told == [
        f"answers are guarded by {pack}",
        "answers are not guarded",
        f"answers are guarded by pii, secrets, profanity, {pack}; toxic sentences: flag",
        "answers are guarded by pii",
        "answers are guarded by pii",
        f"answers are guarded by pii, secrets, profanity, {pack}; toxic sentences: flag",
    ]
    assert done.err.count("error: ") == 3
    assert done.code == 2


def test_a_guard_stays_when_the_model_changes_and_changes_when_it_comes_back(chat: Chats) -> None:
    with TalkingServer(*["bob@example.com"] * 3) as server:
        done = chat(
            *at(server),
            lines=["/guard pii", "/model n", "1", "/guard off", "2", "/model m", "3"],
        )
    assert done.out.splitlines() == ["[EMAIL]", "bob@example.com", "bob@example.com"]


def test_a_pack_that_cannot_be_used_ends_the_chat_before_it_began(chat: Chats) -> None:
    with pytest.raises(ConfigError, match="none.toml"):
        chat("--guard", "/none.toml", "--base-url", "http://127.0.0.1:9/v1", lines=["a"])


# -- files and the history -------------------------------------------------------------------------------------------


def test_a_saved_conversation_is_gone_on_with(chat: Chats, tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    with TalkingServer("one", "two", "TWO") as server:
        first = chat(*at(server, "-s", "sys"), lines=["a", f"/save {path}", f"/save {tmp_path}/none/x"])
        second = chat(*at(server), lines=["/load /none", f"/load {path}", "b", "/undo", "/retry"])
    assert f"saved 1 exchange in '{path}'" in first.err
    assert first.code == 2
    assert f"loaded 1 exchange from '{path}'" in second.err
    assert server.talks[1:] == [["system: sys", "user: a", "assistant: one", "user: b"], ["system: sys", "user: a"]]
    assert json.loads(path.read_text())["model"] == f"m at {server.base_url}"


def kept_turns(tmp_path: Path) -> list[str]:
    file = sqlite3.connect(tmp_path / "state" / "history.sqlite3")
    rows = file.execute("SELECT prompt FROM turns JOIN texts ON texts.run = turns.run ORDER BY turns.run").fetchall()
    file.close()
    return [row[0] for row in rows]


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("KAYGRAPH_STATE_DIR", str(tmp_path / "state"))
    return tmp_path


def test_a_kept_conversation_goes_on_in_another_chat_and_in_a_run(chat: Chats, state: Path) -> None:
    with TalkingServer("one", cut("tw"), "three", "four") as server:
        chat(*at(server, "--log-text", "-s", "sys"), lines=["a", "b"])
        done = chat(*at(server, "--log-text", "--continue"), lines=["/retry", "c"], at_terminal=True)
    assert server.talks[2] == ["system: sys", "user: a", "assistant: one", "user: b"]
    assert server.talks[3][3:] == ["user: b", "assistant: three", "user: c"]
    assert kept_turns(state) == ["a", "b", "c"]
    assert "2 exchanges" in done.err


def test_what_is_undone_or_replaced_does_not_come_back(chat: Chats, state: Path) -> None:
    with TalkingServer(*"1234", refused(500), "6", "7") as server:
        chat(*at(server, "--log-text"), lines=["a", "b", "/undo", "c", "/retry"])
        chat(*at(server, "--log-text", "-c"), lines=["/retry", "/undo", "d"])
        chat(*at(server, "--log-text", "-c"), lines=["e"])
    assert server.talks[-1] == ["user: a", "assistant: 1", "user: d", "assistant: 6", "user: e"]
    assert kept_turns(state) == ["a", "d", "e"]


def test_without_log_text_nothing_is_kept_and_nothing_is_taken_away(chat: Chats, state: Path) -> None:
    with TalkingServer("one", "two", "three") as server:
        chat(*at(server, "--log-text"), lines=["a"])
        for args in ((), ("--log-text", "--no-log")):
            done = chat(*at(server, "-c", *args), lines=["b", "/undo", "/undo"])
            assert done.code == 0
            assert done.reads_from["kept_in"] is None
    assert kept_turns(state) == ["a"]


def test_what_is_typed_is_remembered_where_texts_are_kept_without_keys(
    chat: Chats, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAYGRAPH_LOG_TEXT", "true")
    monkeypatch.setenv("OPENAI_API_KEY", "my-own-secret-key")
    done = chat("--base-url", "http://127.0.0.1:9/v1", lines=[])
    assert done.reads_from["kept_in"] == state / "state" / "chat_input"
    assert done.reads_from["cleaned"]("my-own-secret-key, bob@example.com") == "[KEY], [EMAIL]"


def test_no_key_of_the_user_is_in_what_is_kept_whoever_was_asked(
    chat: Chats, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "my-own-secret-key")
    with TalkingServer(*["my-own-secret-key, indeed"] * 2) as first, TalkingServer("my-own-secret-key") as second:
        lines = ["is it my-own-secret-key?", f"/model m@{second.base_url}", "or my-own-secret-key?"]
        chat(*at(first, "--log-text", "--allow-secrets", "-s", "my-own-secret-key"), lines=lines)
        assert "or my-own-secret-key?" in second.talks[0][-1]
    assert kept_turns(state) == ["is it [KEY]?", "or [KEY]?"]
    assert b"my-own-secret-key" not in b"".join(path.read_bytes() for path in (state / "state").iterdir())


def test_an_unknown_conversation_is_an_error_before_anything_is_asked(chat: Chats, state: Path) -> None:
    with pytest.raises(UsageProblem, match="no conversation was kept"):
        chat("--continue", "--base-url", "http://127.0.0.1:9/v1", lines=["a"])
    with pytest.raises(UsageProblem, match="begins with 'abc'"):
        chat("--cid", "abc", "--base-url", "http://127.0.0.1:9/v1", lines=["a"])


def test_a_loaded_conversation_is_kept_as_a_new_one(chat: Chats, state: Path) -> None:
    with TalkingServer("one", "two", "three") as server:
        chat(*at(server, "--log-text"), lines=["a", f"/save {state}/t.json", f"/load {state}/t.json", "/undo", "b"])
        chat(*at(server, "-c"), lines=["c"])
    assert server.talks[2] == ["user: b", "assistant: two", "user: c"]
    assert kept_turns(state) == ["a", "b"]


@pytest.mark.parametrize("args", [(), ("--quiet",)])
def test_the_welcome_says_who_answers_and_what_is_kept(chat: Chats, state: Path, args: tuple[str, ...]) -> None:
    url = "http://127.0.0.1:9/v1"
    done = chat("--base-url", url, "-m", "m", *args, lines=[], at_terminal=True)
    kept = chat("--base-url", url, "-m", "m", "--log-text", *args, lines=[], at_terminal=True)
    piped = chat("--base-url", url, "-m", "m", "--log-text", *args, lines=[])
    assert piped.err == ""
    if args:
        assert done.err == kept.err == ""
        return
    assert done.err == (
        f"chat with m at {url}\n/help lists commands, Ctrl-D leaves; kept by /save only (--log-text keeps it)\n"
    )
    assert "kept in the history as " in kept.err


def test_why_what_is_typed_is_not_kept_is_told_before_the_welcome(chat: Chats, state: Path) -> None:
    how = {"lines": [], "at_terminal": True, "notice": "what is typed is not kept"}
    done = chat("--base-url", "http://127.0.0.1:9/v1", **how)
    assert done.err.startswith("note: what is typed is not kept\n")
    assert chat("--base-url", "http://127.0.0.1:9/v1", "-q", **how).err == ""


def test_the_first_answer_is_measured_from_its_prompt_on(chat: Chats, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("commands.chat_loop.monotonic", lambda: now[0])
    measured: list[float] = []
    from commands.turn import Turn

    run = Turn.run

    async def watched(turn: Turn, *args: object) -> object:
        measured.append(turn.started_s)
        turn.started_s = __import__("time").monotonic()
        turn.deadline_s = None
        return await run(turn, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Turn, "run", watched)
    with TalkingServer() as server:
        chat(*at(server), lines=[lambda: now.__setitem__(0, 1060.0), "a", lambda: now.__setitem__(0, 1090.0), "b"])
    assert measured == [1060.0, 1090.0]


def test_nothing_is_left_open(chat: Chats) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with TalkingServer() as first, TalkingServer() as second:
        chat(*at(first), lines=["a", f"/model m@{second.base_url}", "b"])
        assert first.server.open_connections() == second.server.open_connections() == 0
    gc.collect()  # what was forgotten is a warning, and warnings are errors
    assert len(os.listdir("/proc/self/fd")) <= before + 2
