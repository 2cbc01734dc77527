"""How many tokens a text becomes, without its tokenizer: a number that is certain, and one that is likely.

`fewest_tokens` is a lower bound. For `smollm2` (the embedded model) it follows from how that tokenizer cuts text before
it merges bytes, and from its longest tokens: a digit is a token of its own; no token crosses a border between letters,
signs and white space, one leading blank excepted; 25 bytes are the longest run of ASCII letters, 81 of signs or blanks,
8 of other letters, 24 of other signs. 3,000 random mixtures of such edge cases broke no bound. For `unknown` it holds
for every tokenizer whose tokens do not cross white space and have at most 128 bytes, as in the GPT-2 line and in
SentencePiece as it is usually trained. A tokenizer made otherwise may go below.

`likely_tokens` weighs words, digits, signs, white space and other characters by their length in UTF-8. Both against the
embedded model's own tokenizer (152 texts of 600 to 6,000 characters; shares of the true number, lowest and highest):

    text                         characters per token   likely         fewest: smollm2   unknown
    English prose                2.9 to 5.2             1.05 to 1.30   0.78 to 0.96      0.42 to 0.76
    code: Python, C, JavaScript  2.5 to 4.4             1.00 to 1.16   0.73 to 0.92      0.26 to 0.49
    German, Spanish, Turkish     1.8 to 2.5             0.79 to 0.91   0.41 to 0.63      0.24 to 0.37
    Finnish, Polish              1.8 to 2.1             0.71 to 0.78   0.44 to 0.49      0.22 to 0.29
    Russian, Greek, Arabic       1.1 to 1.4             0.94 to 1.11   0.19 to 0.39      0.16 to 0.21
    Chinese, Japanese, Korean    0.7 to 1.1             0.71 to 1.04   0.27 to 0.46      0.10 to 0.16
    Hindi, Thai, emoji           0.4 to 0.9             0.91 to 1.24   0.06 to 0.19      0.01 to 0.19
    digits, CSV, hex, UUIDs      1.0 to 1.1             1.00 to 1.03   0.96 to 1.00      0.01 to 0.03
    base64                       1.2                    0.93 to 0.95   0.42 to 0.45      0.01 to 0.03
    blanks, rules of one sign    30 to 63               1.27 to 1.42   0.74 to 0.79      0.00 to 0.38
    random letters, tabs         1.7, 8.0               0.50, 0.16     0.07, 0.10        0.01, 0.00
"""

from __future__ import annotations

import re
from typing import Literal

__all__ = ["TEMPLATE_TOKENS", "Tokenizer", "fewest_tokens", "likely_tokens"]

Tokenizer = Literal["smollm2", "unknown"]
"""What is known of the target's tokenizer: `smollm2` is the embedded model's."""

TEMPLATE_TOKENS = 30
"""What the embedded model's chat template adds to a prompt, in tokens (measured; 14 with an empty system prompt)."""

_WORD_BYTES = 25
_OTHER_BYTES = 81
_FOREIGN_LETTER_BYTES = 8
_FOREIGN_BYTES = 24
_UNKNOWN_BYTES = 128

# What may be one token: the marker of a chat template, a word with the apostrophe of a contraction, a digit.
_ASCII_PIECES = re.compile(r"<\|?[a-z_]{1,20}\|?>|('?[A-Za-z]+)|[0-9]|(?:(?!<\|?[a-z_]{1,20}\|?>)[^A-Za-z0-9])+")
_WIDE_BLANKS = re.compile(r"\s{2,}|[^\S ]")


def fewest_tokens(text: str, tokenizer: Tokenizer) -> int:
    """A number of tokens that *text* has at least (see above how certain); linear in the text."""
    words = text.split()
    if tokenizer == "unknown":
        return sum(1 + (_bytes(word) - 1) // _UNKNOWN_BYTES for word in words)
    fewest = sum(1 + max(0, len(blanks) - 2) // _OTHER_BYTES for blanks in _WIDE_BLANKS.findall(text))
    return fewest + sum(_fewest_ascii(word) if word.isascii() else _fewest_foreign(word) for word in words)


def _fewest_ascii(word: str) -> int:
    if word.isalpha():
        return 1 + (len(word) - 1) // _WORD_BYTES
    fewest = 0
    for piece in _ASCII_PIECES.finditer(word):
        longest = _WORD_BYTES if piece.lastindex else _OTHER_BYTES
        fewest += 1 + max(0, len(piece.group()) - 2) // longest
    return fewest


def _fewest_foreign(word: str) -> int:
    """Its letters are not cut from its marks and signs here, so that only bytes are certain."""
    letters = others = digits = 0
    for character in word:
        if character.isascii():
            digits += character in "0123456789"
        elif character.isalpha():
            letters += _bytes(character)
        else:
            others += _bytes(character)
    return max(1, digits, letters // _FOREIGN_LETTER_BYTES, others // _FOREIGN_BYTES)


_LIKELY_PIECES = re.compile(
    r"(?P<word>[A-Z]?[a-z]+)|(?P<capitals>[A-Z]+)|(?P<digit>[0-9])|(?P<sign>[!-/:-@\[-`{-\x7f]+)"
    r"|(?P<wide>\s{2,}|[^\S ])|(?P<two>[\x80-\u07ff])|(?P<three>[\u0800-\uffff])|(?P<four>[\U00010000-\U0010ffff])"
)
_WEIGHTS = {
    "word": 1.15,
    "capitals": 2.0,
    "digit": 1.0,
    "sign": 1.1,
    "wide": 1.1,
    "two": 1.0,
    "three": 1.7,
    "four": 3.1,
}
_LETTERS_FOR_ONE = 6
_PER_LETTER_MORE = 0.3
_SAME_FOR_ONE = 50


def likely_tokens(text: str) -> int:
    """A number of tokens that *text* probably has; linear in the text."""
    likely = 0.0
    for piece in _LIKELY_PIECES.finditer(text):
        kind = piece.lastgroup or ""
        length = piece.end() - piece.start()
        likely += _WEIGHTS[kind]
        if kind == "word":
            likely += _PER_LETTER_MORE * max(0, length - _LETTERS_FOR_ONE)
        elif length > _SAME_FOR_ONE:
            likely += length / _SAME_FOR_ONE
    return round(likely)


def _bytes(text: str) -> int:
    """The length of *text* in UTF-8; a lone surrogate counts like the character that stands for it."""
    return len(text) if text.isascii() else len(text.encode(errors="replace"))
