"""A chat at a real terminal: editing, pasting, resizing, stopping, leaving.

One program is typed at by most tests, in their order: each begins and ends at an empty prompt.
"""

from __future__ import annotations

import re
import signal
import sys
import threading
from collections.abc import Iterator

import pytest

from tests.cli.chat_terminal import ChatTerminal
from tests.cli.command_line import CommandLine, embedded_child, is_gone
from tests.support import wire
from tests.support.exhaustive import exhaustive
from tests.support.scripted_server import Action, Send, WaitEvent, wait_until
from tests.support.talking_server import TalkingServer
from tests.support.terminal import CTRL_C, CTRL_D, MAIN

CTRL_R, CTRL_Z, ALT_ENTER, UP, TAB, BACKSPACE = b"\x12", b"\x1a", b"\x1b\r", b"\x1b[A", b"\t", b"\x7f"
WIDE = "中文 é\U0001f600!"

# A shell with job control and nothing else: it waits for a line after its child was stopped, and wakes it.
SHELL = """
import os, signal, sys
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
child = os.fork()
if child == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.argv[1], sys.argv[1:])
while True:
    _, status = os.waitpid(child, os.WUNTRACED)
    os.tcsetpgrp(0, os.getpid())
    if not os.WIFSTOPPED(status):
        sys.exit(os.waitstatus_to_exitcode(status))
    print("$ ", end="", flush=True)
    print("woken by", sys.stdin.readline(), end="", flush=True)
    os.tcsetpgrp(0, child)
    os.killpg(child, signal.SIGCONT)
"""


class Held:
    """An answer in two parts, the second of which comes when the test says so."""

    def __init__(self, first: str, second: str) -> None:
        self.first, self.second = first, second
        self.go_on = threading.Event()

    def __call__(self) -> Iterator[Action]:
        yield Send(wire.head() + wire.chunk(wire.sse(wire.delta(self.first))))
        yield WaitEvent(self.go_on, 60.0)
        yield Send(wire.chunked(wire.sse(wire.delta(self.second)), wire.sse(wire.finish(), wire.DONE)))


HELD = Held("The first part,", " and the second.")


@pytest.fixture(scope="module")
def server() -> Iterator[TalkingServer]:
    with TalkingServer(WIDE, HELD) as server:
        yield server


@pytest.fixture(scope="module")
def running(server: TalkingServer) -> Iterator[ChatTerminal]:
    prefix = (sys.executable, "-ISc", SHELL, *MAIN)
    with ChatTerminal("--base-url", server.base_url, "-m", "m", argv_prefix=prefix) as chat:
        yield chat


@pytest.fixture
def chat(running: ChatTerminal) -> Iterator[ChatTerminal]:
    running.wait_for_prompt()
    yield running
    running.wait_for_prompt()


def send(chat: ChatTerminal, server: TalkingServer, keys: bytes | str) -> str:
    """Type *keys* and Enter; the prompt that the server got."""
    before = len(server.bodies)
    chat.type(keys)
    chat.type("\r")
    wait_until(lambda: len(server.bodies) > before, 30.0)
    prompt: str = server.bodies[-1]["messages"][-1]["content"]
    return prompt


def test_wide_characters_are_typed_corrected_and_shown(chat: ChatTerminal, server: TalkingServer) -> None:
    chat.type("hi 中x")
    chat.wait_for_prompt("hi 中x")
    chat.type(BACKSPACE + "文é".encode())
    chat.wait_for_prompt("hi 中文é")
    assert send(chat, server, b"") == "hi 中文é"
    chat.wait_for(f"\n{WIDE}\n>")


def test_a_resize_in_the_middle_of_an_answer_and_of_a_prompt_loses_nothing(
    chat: ChatTerminal, server: TalkingServer
) -> None:
    send(chat, server, "slowly")
    chat.wait_for(HELD.first)
    chat.resize(60)
    HELD.go_on.set()
    chat.wait_for(f"{HELD.first}{HELD.second}\n>")
    chat.type("a line that is longer than forty columns, but not than sixty")
    chat.wait_for("but not")
    chat.resize(40)
    chat.wait_for(re.compile(r"> a line that is longer than forty colum\n(\. )?ns, but not than sixty$"))
    chat.resize(80)
    chat.wait_for_prompt("a line that is longer than forty columns, but not than sixty")
    assert send(chat, server, b"!") == "a line that is longer than forty columns, but not than sixty!"


def test_ctrl_c_gives_a_typed_line_up_and_ctrl_d_in_it_does_nothing(chat: ChatTerminal, server: TalkingServer) -> None:
    asked = len(server.bodies)
    chat.type("never mind")
    chat.wait_for_prompt("never mind")
    chat.type(CTRL_D)
    chat.type(b"!")
    chat.wait_for_prompt("never mind!")
    chat.type(CTRL_C)
    chat.wait_for("> never mind!\n>")
    chat.wait_for_prompt()
    # On the empty line it warns, and whatever is done then is forgiven.
    for gives_in in (b"x" + CTRL_C, b"/?\r"):
        chat.type(CTRL_C)
        chat.wait_for(lambda text: text.endswith("Ctrl-C again leaves, and so does Ctrl-D\n>"))
        chat.wait_for_prompt()
        chat.type(gives_in)
        chat.wait_for(lambda text: not text.endswith("Ctrl-D\n>"))
        chat.wait_for_prompt()
    assert len(server.bodies) == asked


def test_lines_can_be_broken_and_a_pasted_text_is_one_prompt(chat: ChatTerminal, server: TalkingServer) -> None:
    chat.type(b"one\\\rtwo" + ALT_ENTER + b"three")
    chat.wait_for("> one\n. two\n. three")
    assert send(chat, server, b"") == "one\ntwo\nthree"
    chat.wait_for_prompt()
    assert (
        send(chat, server, b"see: \x1b[200~def f():\r\n\treturn '/help'\r\x1b[201~.")
        == "see: def f():\n\treturn '/help'\n."
    )
    chat.wait_for_prompt()


def test_a_hundred_thousand_pasted_characters_are_one_prompt(chat: ChatTerminal, server: TalkingServer) -> None:
    text = "".join(f"line {number} é\n" for number in range(7_000))[:100_000]
    assert send(chat, server, b"\x1b[200~" + text.encode() + b"\x1b[201~") == text


def test_what_was_typed_is_found_again_and_commands_complete(chat: ChatTerminal, server: TalkingServer) -> None:
    asked = len(server.bodies)
    chat.type(CTRL_R + b"hi")
    chat.wait_for("hi 中文é")
    # Enter ends the search and does not send.
    chat.type("\r")
    chat.wait_for_prompt("hi 中文é")
    chat.type(CTRL_C)
    chat.wait_for_prompt()
    chat.type(b"/mod" + TAB)
    chat.wait_for(lambda text: text.endswith("> /model"))
    chat.type("\r")
    chat.wait_for("asking m at")
    chat.wait_for_prompt()
    chat.type(UP)
    chat.wait_for_prompt("/model")
    chat.type(CTRL_C)
    assert len(server.bodies) == asked


def test_ctrl_z_gives_the_terminal_back_and_fg_the_line(chat: ChatTerminal, server: TalkingServer) -> None:
    chat.type("half a li")
    chat.wait_for_prompt("half a li")
    chat.type(CTRL_Z)
    chat.wait_for("\n$")
    assert chat.is_cooked()
    assert chat.screen.modes == {"cursor shown"}
    chat.type("fg\r")
    chat.wait_for("woken by fg")
    chat.wait_for_prompt("half a li")
    assert send(chat, server, b"ne") == "half a line"


def test_ctrl_c_twice_leaves_and_the_terminal_is_as_it_was(running: ChatTerminal, server: TalkingServer) -> None:
    running.wait_for_prompt()
    running.type(CTRL_C)
    running.wait_for(lambda text: text.endswith("Ctrl-C again leaves, and so does Ctrl-D\n>"))
    running.wait_for_prompt()
    running.type(CTRL_C)
    assert running.wait().exit_code == 130
    running.text()
    assert running.screen.modes == {"cursor shown"}
    assert running.screen.wraps
    assert not running.screen.sgr_open
    assert running.is_cooked()
    # The cursor's place was never asked for: the answer would be typed into the next program.
    assert "\x1b[6n" not in running.seen()
    assert server.server.open_connections() == 0


# -- the embedded model's process ------------------------------------------------------------------------------------


def test_sigterm_at_the_prompt_ends_the_model_and_restores_the_terminal(cli: CommandLine) -> None:
    env = {"KAYGRAPH_CACHE_DIR": str(cli.cache)}
    with ChatTerminal(env=env, stdout="pipe") as chat:
        child = embedded_child(chat.program, 60.0)
        chat.wait_for_prompt()
        chat.type("unfinished")
        chat.wait_for_prompt("unfinished")
        chat.program.send_signal(signal.SIGTERM)
        result = chat.wait()
        wait_until(lambda: is_gone(child), 30.0)
        assert result.exit_code == 143
        assert result.stdout == b""
        assert "Traceback" not in chat.text()
        assert chat.screen.modes == {"cursor shown"}
        assert chat.is_cooked()


@pytest.mark.parametrize("term", ["dumb", *exhaustive(["xterm-256color"])])
def test_ctrl_c_stops_an_answer_of_the_model_and_pressed_on_leaves(cli: CommandLine, term: str) -> None:
    env = {"KAYGRAPH_CACHE_DIR": str(cli.cache), "TERM": term}
    with ChatTerminal("--max-tokens", "2000", env=env) as chat:
        child = embedded_child(chat.program, 60.0)

        def waits() -> None:
            chat.wait_for(lambda text: text.endswith("\n>") or not chat.program.is_running)

        lines = [b"Write a very long story.\r", *([] if term == "dumb" else [b"/retry\r"])]
        for number, line in enumerate(lines, 1):
            waits()
            before = len(chat.text())
            chat.type(line)
            chat.wait_for(lambda text, before=before: len(text) > before + 40)
            chat.type(CTRL_C)
            chat.wait_for(lambda text, number=number: text.count("cancelled: ") == number)
        # On a slow machine the next one comes too late to leave, and warns.
        for _ in range(2):
            waits()
            if chat.program.is_running:
                shown = chat.text()
                chat.type(CTRL_C)
                chat.wait_for(lambda text, shown=shown: text != shown or not chat.program.is_running)
        assert chat.wait().exit_code == 130
        wait_until(lambda: is_gone(child), 30.0)
        assert term != "dumb" or "\x1b" not in chat.seen()
        assert "Traceback" not in chat.seen()
