"""Text on its way to a terminal: nothing in it may act, and nothing in it may fail to encode."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable

__all__ = ["as_utf8", "can_encode", "encoder_for", "make_harmless", "one_line"]

_BIDI_CONTROLS = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
_ESCAPES: dict[int, str] = {
    **{code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))},
    **{code: f"\\u{code:04x}" for code in _BIDI_CONTROLS},
    # Alone a carriage return lets text overwrite what stands before it on the line; before a newline, where nearly
    # all of them stand (code with CRLF line ends), an escape would be noise. A space keeps apart what it stood
    # between: a guard has judged the text with it.
    0x0D: " ",
}
del _ESCAPES[0x09], _ESCAPES[0x0A]
_HARMFUL = re.compile(f"[{re.escape(''.join(map(chr, _ESCAPES)))}]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def make_harmless(text: str) -> str:
    r"""*text* with every control character a terminal could obey replaced by a visible escape.

    C0 controls except newline and tab, DEL, C1 controls, and the bidirectional embeddings, overrides and isolates
    become `\x1b` or `\u202e`; carriage returns become spaces. Each character is judged alone, so the result does not
    depend on how the text was cut: make_harmless(a + b) == make_harmless(a) + make_harmless(b). Idempotent.
    """
    if _HARMFUL.search(text) is None:
        return text
    return text.translate(_ESCAPES)


def one_line(text: str) -> str:
    """*text* made harmless, with all white space collapsed to single spaces."""
    return make_harmless(" ".join(text.split()))


def as_utf8(text: str) -> bytes:
    """*text* in UTF-8; a lone surrogate, which UTF-8 cannot carry, becomes U+FFFD. Never raises."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", text).encode()


def encoder_for(encoding: str) -> Callable[[str], bytes]:
    """A function that encodes text for a terminal; what *encoding* lacks becomes a visible escape. Never raises."""
    try:
        name = codecs.lookup(encoding).name
    except LookupError:
        name = "utf-8"
    return lambda text: text.encode(name, "backslashreplace")


def can_encode(text: str, encoding: str) -> bool:
    """Whether *encoding* has every character of *text*."""
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
