"""What every validator has in common, and the validators that need nothing but the text: length, characters, loops.

A validator reads the raw answer (before any redaction) piece by piece. It reports the first place from which no
continuation can make the answer valid; where the pieces were cut never matters. All of them are pure, linear in the
text and, but for the member names of a JSON document, of bounded memory.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from utils.metrics.quality import REPETITION_WINDOW_CHARS, find_repetition

__all__ = [
    "LOOP_CHARS",
    "SCRIPTS",
    "ControlValidator",
    "LengthValidator",
    "RepetitionValidator",
    "ScriptValidator",
    "Validator",
    "ValidatorStateError",
    "Violation",
]

LOOP_CHARS = 200
"""A repeated unit must cover this much to count as a loop: refrains, short tables and rulers do not."""
_LOOK_EVERY_CHARS = 50

SCRIPTS = {
    "arabic": ("ARABIC",),
    "armenian": ("ARMENIAN",),
    "bengali": ("BENGALI",),
    "cyrillic": ("CYRILLIC",),
    "devanagari": ("DEVANAGARI",),
    "ethiopic": ("ETHIOPIC",),
    "georgian": ("GEORGIAN",),
    "greek": ("GREEK",),
    "gujarati": ("GUJARATI",),
    "gurmukhi": ("GURMUKHI",),
    "han": ("CJK", "IDEOGRAPHIC"),
    "hangul": ("HANGUL",),
    "hebrew": ("HEBREW",),
    "hiragana": ("HIRAGANA", "KATAKANA-HIRAGANA"),
    "kannada": ("KANNADA",),
    "katakana": ("KATAKANA", "KATAKANA-HIRAGANA"),
    "khmer": ("KHMER",),
    "lao": ("LAO",),
    "latin": ("LATIN",),
    "malayalam": ("MALAYALAM",),
    "myanmar": ("MYANMAR",),
    "sinhala": ("SINHALA",),
    "tamil": ("TAMIL",),
    "telugu": ("TELUGU",),
    "thai": ("THAI",),
    "tibetan": ("TIBETAN",),
}
"""The scripts that can be asked for, and how the Unicode names of their letters begin."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


class ValidatorStateError(AssertionError):
    """A validator was used after its end. A bug of ours, never the user's."""


@dataclass(frozen=True, slots=True)
class Violation:
    """The answer cannot become valid any more. Never quotes it.

    *position* counts the characters of the raw answer before the place; *byte_position* its bytes in UTF-8, where the
    validator works on bytes. *advice* is a sentence for whoever writes the next answer, or "".
    """

    validator: str
    reason: str
    position: int
    byte_position: int | None = None
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.validator}: {self.reason} at character {self.position + 1}"


class Validator(Protocol):
    """Judges one answer; a new one is made for each. After a `Violation` and after `finish` it must not be fed."""

    @property
    def name(self) -> str:
        """What is checked, in the words that people see."""
        ...

    def feed(self, text: str) -> Violation | None:
        """Read the next piece; the first place that no continuation can make valid, if it is reached."""
        ...

    def finish(self) -> Violation | None:
        """The answer is over: whether it lacks something."""
        ...


class _Counting:
    """Counts what was read, and refuses to be used after its end."""

    name = ""

    def __init__(self) -> None:
        self._chars = 0
        self._is_over = False

    def _check_open(self) -> None:
        if self._is_over:
            raise ValidatorStateError(f"the validator {self.name!r} was used after its end")

    def _violated(self, reason: str, position: int, advice: str = "") -> Violation:
        self._is_over = True
        return Violation(self.name, reason, position, advice=advice)

    def finish(self) -> Violation | None:
        """The answer is over; nothing is lacking."""
        self._check_open()
        self._is_over = True
        return None


class LengthValidator(_Counting):
    """At most *max_chars* characters (code points)."""

    name = "max-chars"

    def __init__(self, max_chars: int) -> None:
        if max_chars < 1:
            raise ValueError("max_chars must be at least 1")
        super().__init__()
        self._max_chars = max_chars

    def feed(self, text: str) -> Violation | None:
        """Refuse the first character too many."""
        self._check_open()
        self._chars += len(text)
        if self._chars <= self._max_chars:
            return None
        return self._violated(
            f"longer than {self._max_chars} characters",
            self._max_chars,
            f"Write at most {self._max_chars} characters.",
        )


class ControlValidator(_Counting):
    """No control characters (Unicode category Cc) but line feed, tab and carriage return."""

    name = "no-control"

    def feed(self, text: str) -> Violation | None:
        """Refuse the first control character."""
        self._check_open()
        match = _CONTROL.search(text)
        if match is None:
            self._chars += len(text)
            return None
        return self._violated(
            f"the control character U+{ord(match[0]):04X}", self._chars + match.start(), "Use no control characters."
        )


class ScriptValidator(_Counting):
    """Letters of the named *scripts* only; digits, marks, signs and emoji are not judged.

    The first letter of another script is a violation, so there is no share that would depend on how far one looks. A
    letter belongs to the script with which its Unicode name begins, compatibility forms (full-width, mathematical) to
    that of the letter they stand for; letters without a script (modifier letters, the micro sign) are not judged.
    """

    name = "script"

    def __init__(self, scripts: tuple[str, ...]) -> None:
        unknown = set(scripts) - set(SCRIPTS)
        if unknown or not scripts:
            raise ValueError(f"unknown scripts: {sorted(unknown)}")
        super().__init__()
        self._scripts = scripts
        self._beginnings = tuple(sorted({word for script in scripts for word in SCRIPTS[script]}))
        self._has_latin = "latin" in scripts

    def feed(self, text: str) -> Violation | None:
        """Refuse the first letter of another script."""
        self._check_open()
        start, self._chars = self._chars, self._chars + len(text)
        if self._has_latin:
            places = [match.start() for match in _NOT_ASCII.finditer(text)] if not text.isascii() else []
        else:
            places = list(range(len(text)))
        for place in places:
            if not _is_of(text[place], self._beginnings):
                wanted = " or ".join(script.capitalize() for script in self._scripts)
                return self._violated(f"a letter that is not {wanted}", start + place, f"Write in {wanted} letters.")
        return None


@lru_cache(maxsize=4096)
def _is_of(c: str, beginnings: tuple[str, ...]) -> bool:
    category = unicodedata.category(c)
    if category[0] != "L" or c == "\u00b5":
        return True
    plain = unicodedata.normalize("NFKC", c)[:1]
    name = unicodedata.name(plain, "")
    if unicodedata.category(plain)[0] != "L" or name.startswith("MODIFIER LETTER"):
        return True
    return name.startswith(beginnings)


class RepetitionValidator(_Counting):
    """No degenerate loop: the text must not go on repeating one unit of up to 400 characters.

    It is looked at every 50 characters and at the end; a unit that covers the last 200 characters at least three
    times is a loop (`utils.metrics.quality` has the exact definition of a repeated end).
    """

    name = "no-repetition"

    def __init__(self) -> None:
        super().__init__()
        self._window = ""

    def feed(self, text: str) -> Violation | None:
        """Refuse the text at the first look that finds a loop."""
        self._check_open()
        start = 0
        while start < len(text):
            step = _LOOK_EVERY_CHARS - self._chars % _LOOK_EVERY_CHARS
            piece = text[start : start + step]
            start += len(piece)
            self._chars += len(piece)
            self._window += piece
            if len(piece) == step:
                self._window = self._window[-REPETITION_WINDOW_CHARS:]
                if self._is_loop():
                    return self._looped()
        return None

    def finish(self) -> Violation | None:
        """Look once more."""
        self._check_open()
        self._is_over = True
        return self._looped() if self._is_loop() else None

    def _is_loop(self) -> bool:
        found = find_repetition(self._window[-REPETITION_WINDOW_CHARS:])
        return found is not None and found.covered_chars >= LOOP_CHARS

    def _looped(self) -> Violation:
        return self._violated("the text repeats itself", self._chars, "Do not repeat yourself.")
