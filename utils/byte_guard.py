"""The guard on a stream of bytes: any bytes in, the bytes that are proved safe out.

The bytes are read as UTF-8. A byte that is not part of a character (another encoding, a character cut in half, binary
data) stands in the text as a character of its own, a lone surrogate from U+DC80 on (PEP 383), and leaves as the byte
it was. What follows from this:

- Text without a match leaves byte for byte, whatever it is.
- An invalid byte is no letter and no digit, so it ends a word as a blank does: a secret beside it is found. A truncated
  character takes no valid byte with it, so it cannot swallow the first character of a secret.
- An invalid byte inside a secret splits it, as any visible character would: each part is judged alone. Leaving such
  bytes out before matching is no better: it would join what is apart (a card number, a byte, one more digit) and hide
  from the rules what they find now.
- What is no valid UTF-8 is not searched in another encoding: UTF-16 and compressed data pass.

At most the three bytes of an unfinished character wait here; everything else that waits is held by the rules.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from utils.errors import AnswerBlocked
from utils.events import Blocked, Redacted, TextDelta
from utils.guardrails.redactor import Guard, GuardEvent, GuardStateError, GuardStatistics

__all__ = ["ByteGuard", "ByteGuardStatistics"]

_new_decoder = codecs.getincrementaldecoder("utf-8")
_invalid = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True, slots=True)
class ByteGuardStatistics:
    """What a byte guard did so far; never contains text.

    is_complete: the input came to its end and its tail was decided. blocked_by: the rule that stopped the stream.
    read_bytes, shown_bytes: received, and released with the replacements. invalid_bytes: not part of any UTF-8
    character. guard: the figures of the rules; there an invalid byte counts as one character.
    """

    is_complete: bool
    blocked_by: str | None
    read_bytes: int
    shown_bytes: int
    invalid_bytes: int
    guard: GuardStatistics


class ByteGuard:
    """Puts *guard*, which is new and this object's own, before a stream of bytes; one per stream.

    Invariants, if *guard* keeps its own: the joined output depends on the joined input alone, not on where it was cut;
    no byte of a match is ever part of it; memory is bounded by the piece that is fed and what the rules hold.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._decoder = _new_decoder("surrogateescape")
        self._blocked_by: str | None = None
        self._is_ended = self._is_complete = False
        self._read = self._shown = self._invalid = 0

    @property
    def blocked_by(self) -> str | None:
        """The rule that stopped the stream; nothing may be fed any more."""
        return self._blocked_by

    def feed(self, data: bytes) -> bytes:
        """Read *data*, the next piece of the stream; returns what may be shown now.

        Raises: GuardStateError after `finish`, `cancel`, a block or a raise; AnswerBlocked if a rule failed. State
        after a raise: ended, the held bytes dropped, so that nothing more can be shown.
        """
        return self._step(data, is_last=False)

    def finish(self) -> bytes:
        """The input is whole: decide what waits for its end and return it.

        Raises: as `feed`. State afterwards: ended.
        """
        return self._step(b"", is_last=True)

    def cancel(self) -> int:
        """The input is not whole: drop what is held; the number of characters dropped. May be called at any time."""
        self._is_ended = True
        self._decoder.reset()
        return self._guard.cancel()

    def statistics(self) -> ByteGuardStatistics:
        """A snapshot of the figures."""
        return ByteGuardStatistics(
            is_complete=self._is_complete,
            blocked_by=self._blocked_by,
            read_bytes=self._read,
            shown_bytes=self._shown,
            invalid_bytes=self._invalid,
            guard=self._guard.statistics(),
        )

    def _step(self, data: bytes, *, is_last: bool) -> bytes:
        if self._is_ended:
            raise GuardStateError("a byte guard was used after its end")
        self._read += len(data)
        text = self._decoder.decode(data, is_last)
        if not text.isascii():
            self._invalid += len(text) - len(_invalid.sub("", text))
        try:
            events = self._guard.feed(text) if text else []
            if is_last and not any(isinstance(event, Blocked) for event in events):
                events += self._guard.finish()
        except Exception as error:
            self.cancel()
            # the text of a foreign error may quote the stream, so only its class is told
            raise AnswerBlocked(
                f"a guard rule failed ({type(error).__name__}), so the rest of the stream is not shown",
                hint="report this as a bug",
            ) from error
        except BaseException:
            self.cancel()
            raise
        shown = self._shown_bytes(events)
        self._shown += len(shown)
        if is_last and self._blocked_by is None:
            self._is_ended = self._is_complete = True
        return shown

    def _shown_bytes(self, events: list[GuardEvent]) -> bytes:
        parts: list[str] = []
        for event in events:
            match event:
                case TextDelta():
                    parts.append(event.text)
                case Redacted():
                    parts.append(event.replacement)
                case Blocked():
                    self._blocked_by = event.rule
                    self.cancel()
                    break
                case _:
                    pass  # a flag hides nothing; it stands in the figures of the rules
        return "".join(parts).encode("utf-8", "surrogateescape")
