"""A conversation: what was said, what of it the next request takes along, and its form as a file. Pure.

A model reads a limited number of tokens, the answer included. Whole exchanges are left out from the oldest on until the
rest fits; nothing is cut in the middle. How many tokens a text has is estimated. A server that counted more for a
request raises the estimate, so that it would not be less for the same request (up to `_MAX_CORRECTION` times); one that
refuses a request as too long lowers the room.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from utils.errors import UsageProblem
from utils.guardrails.prompt_tokens import TEMPLATE_TOKENS, likely_tokens
from utils.run_context import Message

__all__ = ["Conversation", "Exchange", "Window"]

_FORMAT = 1
_HALF = re.compile("[\ud800-\udfff]")
"""A lone surrogate, which no request can carry."""
_MESSAGE_TOKENS = 5
"""What the markers around a message take in the usual templates."""
_MAX_CORRECTION = 4.0
"""A server that counts more has put a text of its own before ours, which does not grow with the conversation."""
_REFUSED_SHARE = 0.9
"""What of a refused request's estimate is taken for the room from then on."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A prompt and what was shown of its answer. *is_whole*: the answer ended by itself."""

    prompt: str = field(repr=False)
    answer: str = field(repr=False)
    is_whole: bool = True
    run_id: str = field(default="", compare=False)
    """What the history calls it; "" for nothing."""

    def messages(self) -> tuple[Message, Message]:
        """As the model gets it."""
        return Message("user", self.prompt), Message("assistant", self.answer)


@dataclass(frozen=True, slots=True)
class Window:
    """What a request takes along of a conversation; *left_out*: how many of the oldest exchanges it does not."""

    messages: tuple[Message, ...]
    left_out: int


class Conversation:
    """Exchanges in their order, and the system prompt that goes before them."""

    def __init__(self, exchanges: Iterable[Exchange] = (), system: str | None = None) -> None:
        self.exchanges = list(exchanges)
        self.system = system
        self._correction = 1.0
        self._learned_room: int | None = None

    def add(self, prompt: str, answer: str, *, is_whole: bool, run_id: str = "") -> None:
        """Take in what was said. An answer of which nothing was shown leaves no exchange."""
        if answer:
            self.exchanges.append(Exchange(prompt, answer, is_whole, run_id))

    def undo(self) -> Exchange | None:
        """Forget the newest exchange and return it; None if there is none."""
        return self.exchanges.pop() if self.exchanges else None

    def window(self, prompt: str, room_tokens: int | None) -> Window:
        """The newest exchanges that fit into *room_tokens* together with *prompt* and the system prompt.

        None: no limit is known but what was learned. The prompt itself always goes, whether it fits or not.
        """
        room_tokens = min(filter(None, (room_tokens, self._learned_room)), default=None)
        if room_tokens is None:
            return self._window(len(self.exchanges))
        used = self._tokens(prompt) + self._tokens(self.system or "") + TEMPLATE_TOKENS
        kept = 0
        for exchange in reversed(self.exchanges):
            used += self._tokens(exchange.prompt) + self._tokens(exchange.answer)
            if used > room_tokens:
                break
            kept += 1
        return self._window(kept)

    def observe(self, window: Window, prompt: str, prompt_tokens: int) -> None:
        """Learn that the server counted *prompt_tokens* for *window* and *prompt*."""
        likely = sum(likely_tokens(text) + _MESSAGE_TOKENS for text in self._texts(window, prompt))
        self._correction = max(1.0, min(_MAX_CORRECTION, prompt_tokens / likely)) if likely else 1.0

    def shorten(self, window: Window, prompt: str) -> Window | None:
        """Learn that the server found *window* with *prompt* too long: its newer half, None if it holds nothing."""
        kept = len(window.messages) // 2
        if not kept:
            return None
        refused = sum(map(self._tokens, self._texts(window, prompt))) + TEMPLATE_TOKENS
        self._learned_room = int(refused * _REFUSED_SHARE)
        return self._window(kept // 2)

    def meet_another_model(self) -> None:
        """Forget what was learned of the counts and the room of the one that was asked so far."""
        self._correction, self._learned_room = 1.0, None

    def to_json(self, *, model: str) -> str:
        """The conversation as a file; *model* is for people."""
        turns = [
            {"prompt": exchange.prompt, "answer": exchange.answer, "is_whole": exchange.is_whole}
            for exchange in self.exchanges
        ]
        whole = {"kaygraph_conversation": _FORMAT, "model": model, "system": self.system, "turns": turns}
        return json.dumps(whole, ensure_ascii=False, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, *, name: str) -> Conversation:
        """Read what `to_json` wrote. Raises UsageProblem, with *name* for the file, if it is anything else."""
        try:
            whole = json.loads(text)
        except (ValueError, RecursionError):
            raise _not_a_conversation(name, "it is not JSON") from None
        if not isinstance(whole, dict) or "kaygraph_conversation" not in whole:
            raise _not_a_conversation(name, "it has no 'kaygraph_conversation'")
        if whole["kaygraph_conversation"] != _FORMAT:
            raise _not_a_conversation(
                name, f"its format is {str(whole['kaygraph_conversation'])[:20]!r}, not {_FORMAT}"
            )
        system, turns = whole.get("system"), whole.get("turns")
        if not isinstance(turns, list) or not isinstance(system, str | None):
            raise _not_a_conversation(name, "'turns' is no list or 'system' is no text")
        if system and _HALF.search(system):
            raise _not_a_conversation(name, "'system' holds half a character")
        return cls((_exchange(turn, number, name) for number, turn in enumerate(turns, start=1)), system)

    def _window(self, kept: int) -> Window:
        left_out = len(self.exchanges) - kept
        messages = tuple(message for exchange in self.exchanges[left_out:] for message in exchange.messages())
        return Window(messages, left_out)

    def _texts(self, window: Window, prompt: str) -> list[str]:
        """All that a request with *window* holds."""
        return list(filter(None, (prompt, self.system, *(message.content for message in window.messages))))

    def _tokens(self, text: str) -> int:
        return int((likely_tokens(text) + _MESSAGE_TOKENS) * self._correction) + 1 if text else 0


def _exchange(turn: Any, number: int, name: str) -> Exchange:
    if not isinstance(turn, dict):
        raise _not_a_conversation(name, f"turn {number} is no object")
    prompt, answer, is_whole = turn.get("prompt"), turn.get("answer"), turn.get("is_whole", True)
    if not (isinstance(prompt, str) and isinstance(answer, str) and isinstance(is_whole, bool)) or not answer:
        raise _not_a_conversation(name, f"turn {number} has no prompt and answer")
    if _HALF.search(prompt) or _HALF.search(answer):
        raise _not_a_conversation(name, f"turn {number} holds half a character")
    return Exchange(prompt, answer, is_whole)


def _not_a_conversation(name: str, why: str) -> UsageProblem:
    return UsageProblem(f"{name!r} is no saved conversation: {why}", hint="/save writes one")
