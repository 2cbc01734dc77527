"""What was handed on of an answer, and what a model would have to know to go on with it. Pure."""

from __future__ import annotations

from utils.events import TextDelta
from utils.resilience.loop_guard import Loop, LoopGuard

__all__ = ["AnswerSoFar"]

_LOOK_EVERY_DELTAS = 8
"""How often loops are looked for. Fewer looks are cheaper; so few characters more of a loop do not matter."""


class AnswerSoFar:
    """The raw text of one answer, in memory only. Lengths count its characters (code points).

    *delivered* is what left for the reader, `written` what a model is told that it wrote: the same, unless a loop was
    cut out (`keep`).
    """

    def __init__(self) -> None:
        self.has_reasoned = False
        """Whether the model reasoned before it answered."""
        self.is_original = True
        """Whether all of it answers the original request: what a replay of that request will repeat."""
        self._texts: list[str] = []
        self._kept = ""
        self._kept_texts = 0
        """`written` is _kept and what came after so many deltas."""
        self._looked_at = 0
        self._look_at = _LOOK_EVERY_DELTAS
        """Up to which delta loops have been looked for, and at which one that is due again."""
        self._loops = LoopGuard()
        self._tokens = 0
        self._is_counted = True

    def __bool__(self) -> bool:
        return bool(self._texts)

    @property
    def chars(self) -> int:
        """How much was delivered."""
        return sum(map(len, self._texts))

    @property
    def delivered(self) -> str:
        """All that was delivered."""
        return "".join(self._texts)

    @property
    def written(self) -> str:
        """What a model is told that it wrote."""
        return self._kept + "".join(self._texts[self._kept_texts :])

    @property
    def counted_tokens(self) -> int | None:
        """How many tokens it has, if the server named every one of them."""
        # A character of several tokens comes as one of them (llama.cpp names one for an emoji of three).
        return self._tokens if self._is_counted and all(map(str.isascii, self._texts)) else None

    def add(self, delta: TextDelta) -> Loop | None:
        """*delta* is handed on. The loop in which the text ends now, if one is found; each is told once."""
        texts = self._texts
        texts.append(delta.text)
        if delta.tokens:
            self._tokens += len(delta.tokens)
        else:
            self._is_counted = False
        if len(texts) < self._look_at:
            return None
        text = "".join(texts[self._looked_at :])
        self._note_look()
        return self._loops.feed(text)

    def keep(self, loop: Loop) -> None:
        """Go on from the text before *loop*, which was delivered and stays so. A replay is impossible from here on."""
        begun = self.chars - sum(map(len, self._texts[self._kept_texts :]))
        self._kept += self.delivered[begun : loop.keep_chars]
        self._kept_texts = len(self._texts)
        self._note_look()
        self._loops = LoopGuard(offset=self.chars)
        self.is_original = False

    def _note_look(self) -> None:
        self._looked_at = len(self._texts)
        self._look_at = self._looked_at + _LOOK_EVERY_DELTAS
