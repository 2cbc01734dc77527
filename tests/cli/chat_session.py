"""One conversation at a terminal from beginning to end, and a second program that goes on with it.

The screens are kept in `snapshots/`, with times, ports and ids masked; `python -m tests.cli.chat_session --rewrite`
writes them anew (look at the difference before you keep it).
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cli.chat_terminal import ChatTerminal
from tests.support import wire
from tests.support.scripted_server import Action, Send, WaitForClientClose
from tests.support.talking_server import TalkingServer, refused, said
from tests.support.terminal import CTRL_C, CTRL_D

__all__ = ["SNAPSHOTS", "Session", "play"]

SNAPSHOTS = Path(__file__).with_name("snapshots")
SIZE = (90, 30)
PARTIAL = "The Nile rises in"
RIVERS = ("Three of them:\n\n", "- the **Ni", "le**,\n- the `Rhine`,\n", "- 長江.\n")


@dataclass
class Session:
    """What the two programs showed, and what the two servers were asked."""

    screens: dict[str, str] = field(default_factory=dict)
    anna: list[list[str]] = field(default_factory=list)
    bert: list[list[str]] = field(default_factory=list)
    saved: dict[str, Any] = field(default_factory=dict)
    exit_codes: list[int] = field(default_factory=list)


def partial() -> Iterator[Action]:
    yield Send(wire.head() + wire.chunk(wire.sse(wire.delta(PARTIAL))))
    yield WaitForClientClose()


def play() -> Session:
    """The whole conversation."""
    session = Session()
    anna_says = said(*RIVERS), said("The **Nile**, some ", "6,650 km."), partial, said("It rises in Burundi.")
    bert_says = said("Opinions differ: see mail bob@example.com."), refused(401, "no"), said("As you wish.")
    with (
        TalkingServer(*anna_says) as anna,
        TalkingServer(*bert_says) as bert,
        tempfile.TemporaryDirectory(prefix="chat-session-") as home,
    ):
        names = {anna.base_url: "http://anna/v1", bert.base_url: "http://bert/v1"}
        asked = ("--base-url", anna.base_url, "-m", "anna", "-s", "You know rivers.")
        with ChatTerminal(*asked, "--log-text", home=Path(home), size=SIZE) as chat:
            _type(chat, "Name three rivers.", then="長江.")
            _type(chat, "And the longest?", then="6,650 km.")
            _type(chat, "Tell me where it rises.", then=PARTIAL)
            chat.type(CTRL_C)
            session.screens["cancelled"] = _masked(_settled(chat, "cancelled: "), names)
            _type(chat, "/retry", then="Burundi.")
            _type(chat, "/guard pii", then="guarded by pii")
            _type(chat, f"/model bert@{bert.base_url}", then="asking bert")
            _type(chat, "Is that true?", then="differ")
            _type(chat, "Really?", then="error: ")
            _type(chat, "/save talk.json", then="saved")
            _type(chat, "/stats", then="target")
            session.exit_codes.append(_leave(chat))
            session.screens["first"] = _masked(chat.text(), names)
        with ChatTerminal(
            "--continue", "--log-text", "--base-url", bert.base_url, "-m", "bert", home=Path(home), size=SIZE
        ) as chat:
            _type(chat, "Go on.", then="As you wish.")
            session.exit_codes.append(_leave(chat))
            session.screens["second"] = _masked(chat.text(), names)
        session.anna, session.bert = anna.talks, bert.talks
        session.saved = json.loads(Path(home, "talk.json").read_text())
        session.saved["model"] = _masked(session.saved["model"], names)
    return session


def _type(chat: ChatTerminal, line: str, *, then: str) -> None:
    """Type *line* when it can be typed, and wait for *then* below it."""
    chat.wait_for_prompt()
    chat.type(line)
    chat.wait_for_prompt(line)
    before = len(chat.text())
    chat.type("\r")
    chat.wait_for(lambda text: then in text[before:])


def _leave(chat: ChatTerminal) -> int:
    chat.wait_for_prompt()
    chat.type(CTRL_D)
    return chat.wait().exit_code


def _settled(chat: ChatTerminal, what: str) -> str:
    chat.wait_for(what)
    return chat.wait_for_prompt()


def _masked(screen: str, names: dict[str, str]) -> str:
    for url, name in names.items():
        screen = screen.replace(url, name)
    screen = re.sub(r"\b\d+(\.\d+)? (ms|s)\b", "TIME", screen)
    screen = re.sub(r"(tokens/s +median ).*", r"\1RATE", screen)
    return re.sub(r"\b[0-9a-f]{12}\b", "ID", screen)


def main() -> int:
    """Show the screens, or keep them."""
    session = play()
    for name, screen in session.screens.items():
        if "--rewrite" in sys.argv[1:]:
            SNAPSHOTS.mkdir(exist_ok=True)
            (SNAPSHOTS / f"chat_{name}.txt").write_text(screen + "\n", encoding="utf-8")
        else:
            print(f"== {name}", screen, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
