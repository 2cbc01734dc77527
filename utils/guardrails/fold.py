"""Folding: the form of a text in which rules look for matches, so that look-alike characters do not hide anything.

Each code point is folded on its own: compatibility decomposition (NFKD), marks and default-ignorable code points
dropped, decimal digits of all scripts and non-ASCII look-alikes of ASCII characters mapped to ASCII. Latin letters with
strokes, hooks and the like become the letter that their Unicode name tells; small capitals, and letters in white on
black, become capitals. Case is kept, but the two forms of a letter may fold to different letters (Greek eta: `n`, `H`);
`case_variants` is for those who look for both. ASCII never changes. What a code point folds to does not depend on its
neighbours, so folding needs no hold-back, and a match found in the folded text has exact offsets in the raw text.

Limits: the table of look-alikes is hand-chosen (Cyrillic, Greek, Armenian, Cherokee and Latin letters that most fonts
draw like an ASCII letter, dashes and quotation marks). It knows no look-alikes made of several characters (`rn` for
`m`) and none within ASCII (`0` for `O`, `1` for `l`).
"""

# ruff: noqa: RUF001  (look-alikes are the subject)

from __future__ import annotations

import re
import unicodedata

__all__ = ["case_variants", "fold", "fold_character", "is_word", "lower_character", "lower_text"]

_LOOKALIKES = (
    # Cyrillic
    ("аАвВеЕкКмМнНоОрРсСтТуУхХ", "aABBeEkKmMHHoOpPcCTTyYxX"),
    ("іІјЈѕЅһҺԁԛԜԝүҮҽӏӀԌвьЬ", "iIjJsShHdqWwyYelIGBbb"),
    # Greek
    ("αΑΒεΕΖηΗιΙκΚΜνΝοΟρΡΤτυΥχΧγωΧ", "aABeEZnHiIkKMvNoOpPTtuYxXywX"),
    ("ϲϹϳͿ", "cCjJ"),
    ("ς", "σ"),  # the same letter at the end of a word
    # Armenian, Cherokee, Lisu
    ("օոսհցզՍՕԼԱ", "onuhgqUOLU"),
    ("ᎪᏴᏟᎬᎻᎫᏦᏞᎷᏢᏒᏚᎢᏙᏔᏃ", "ABCEHJKLMPRSTVWZ"),
    ("ꓮꓐꓚꓓꓰꓝꓖꓧꓲꓙꓗꓡꓟꓠꓳꓑꓣꓢꓔꓴꓦꓪꓫꓬꓜ", "ABCDEFGHIJKLMNOPRSTUVWXYZ"),
    # Latin letters that neither a decomposition nor their name maps
    ("ıȷɡɑ", "ijga"),
    # dashes, quotation marks, full stops, slashes, at signs, other punctuation
    ("‐‑‒–—―−﹘⁃᠆", "----------"),
    ("‘’‚‛ʼʹʻʽ′", "'''''''''"),
    ("“”„‟″", '"""""'),
    ("⁄∕⧸", "///"),
    ("∶ː։׃", "::::"),
    ("·•∙⋅。｡", "......"),
    ("∗٭⁎", "***"),
    ("‹›", "<>"),
    ("٪", "%"),
    ("‗", "_"),
)
_SEVERAL = {"ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "þ": "th", "Þ": "TH"}

_DEFAULT_IGNORABLE = (
    (0x00AD, 0x00AD),
    (0x034F, 0x034F),
    (0x061C, 0x061C),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x200B, 0x200F),
    (0x202A, 0x202E),
    (0x2060, 0x206F),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFF8),
    (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
    (0xE0000, 0xE0FFF),
)
"""Unicode's property Default_Ignorable_Code_Point, which the standard library does not have."""

_WITHOUT_SPACES = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x2E80, 0x2FDF),
    (0x3005, 0x3007),
    (0x3021, 0x30FF),
    (0x3100, 0x31FF),
    (0x3400, 0x9FFF),
    (0xA000, 0xA4CF),
    (0xF900, 0xFAFF),
    (0x1B000, 0x1B2FF),
    (0x20000, 0x3FFFF),
)
"""Scripts written without spaces: between their letters there is no telling where a word starts."""

_CACHE_MAX = 20_000


def _in_ranges(code: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(low <= code <= high for low, high in ranges)


_LATIN_NAME = "LATIN (?:(CAPITAL|SMALL|SMALL CAPITAL) LETTER ([A-Z]) WITH .+|LETTER SMALL CAPITAL ([A-Z])(?: WITH .+)?)"
_WHITE_ON_BLACK = (0x1F150, 0x1F170)
"""Where the alphabets in white on black circles and squares start; nothing decomposes them."""


def _ascii_of(character: str) -> str:
    return _lookalikes.get(character) or str(unicodedata.decimal(character, "")) or _letter_of(character)


def _letter_of(character: str) -> str:
    for first in _WHITE_ON_BLACK:
        if 0 <= ord(character) - first < 26:
            return chr(ord("A") + ord(character) - first)
    named = re.fullmatch(_LATIN_NAME, unicodedata.name(character, ""))
    if named is None:
        return character
    letter = named[2] or named[3]
    return letter.lower() if named[1] == "SMALL" else letter


class _Folds(dict[str, str]):
    """What each code point folds to; bounded, since a text may contain them all."""

    def __missing__(self, character: str) -> str:
        if character.isascii():
            folded = character
        elif _in_ranges(ord(character), _DEFAULT_IGNORABLE):
            folded = ""
        else:
            parts = unicodedata.normalize("NFKD", character)
            kept = [
                p for p in parts if not _in_ranges(ord(p), _DEFAULT_IGNORABLE) and unicodedata.category(p)[0] != "M"
            ]
            folded = _lookalikes.get(character) or "".join(map(_ascii_of, kept))
        if len(self) >= _CACHE_MAX:
            self.clear()
        self[character] = folded
        return folded


_lookalikes = {raw: seen for raws, seens in _LOOKALIKES for raw, seen in zip(raws, seens, strict=True)} | _SEVERAL
_folds = _Folds()


def fold_character(character: str) -> str:
    """What one code point folds to: usually one character, none for a mark, several for a ligature."""
    return _folds[character]


def fold(text: str) -> list[str]:
    """What each code point of *text* folds to."""
    return [_folds[character] for character in text]


def case_variants(text: str) -> list[str]:
    """*text* folded, then its other forms: in lower case, in capitals, with capitals first. No two fold alike.

    Compared without case, as `lower_text` does. What folds to nothing is left out.
    """
    raws = [text]
    if not text.isascii():
        # the last differs from capitals for letters that have a form for titles (Greek with an iota below)
        raws += text.lower(), text.upper(), text.capitalize(), text.title(), "".join(map(str.title, text))
    forms: dict[str, str] = {}
    for raw in raws:
        folded = "".join(fold(raw))
        if folded:
            forms.setdefault(lower_text(folded), folded)
    return list(forms.values())


def is_word(character: str) -> bool:
    """Whether a folded character belongs to words: letters, digits and `_`, except scripts written without spaces."""
    if character.isascii():
        return character.isalnum() or character == "_"
    return character.isalnum() and not _in_ranges(ord(character), _WITHOUT_SPACES)


def lower_character(character: str) -> str:
    """The lower case of one folded character, always one character."""
    lower = character.lower()
    return lower if len(lower) == 1 else character


def lower_text(text: str) -> str:
    """Folded *text* in lower case, one character for each; unlike `str.lower` never by context (final sigma)."""
    return text.lower() if text.isascii() else "".join(map(lower_character, text))
