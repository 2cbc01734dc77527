"""Disguises of secrets: how each is written, and what is caught. `python -m tests.guardrails.unicode_table` renews it.

A disguise is applied to a keyword, a key, a card number and an address. The verdict is that of the guard on the
finished text; test_unicode.py checks that docs/guardrails.md has this table, and every cut of every sample.
"""

# ruff: noqa: RUF001  (look-alikes are the subject)

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.guardrails.guard_oracle import stream
from utils.guardrails.patterns import CardPattern, EmailPattern, KeywordsPattern, RegularPattern
from utils.guardrails.rules import Rule, RuleSet

PAGE = Path(__file__).resolve().parents[2] / "docs/guardrails.md"

SECRETS = {
    "keyword": "confidential",
    "key": "sk-Ab1Cd2Ef3Gh4Ij5Kl",
    "card": "4111 1111 1111 1111",
    "e-mail": "alice7@example.com",
}
RULES = {
    "keyword": RuleSet.compile(
        [Rule("keyword", "[X]", KeywordsPattern(("confidential", "strasse", "große", "kelvin", "project nightfall")))]
    ),
    "key": RuleSet.compile([Rule("key", "[X]", RegularPattern(r"\bsk-[A-Za-z0-9_-]{16,}"))]),
    "card": RuleSet.compile([Rule("card", "[X]", CardPattern())]),
    "e-mail": RuleSet.compile([Rule("e-mail", "[X]", EmailPattern())]),
}
CAUGHT, IN_PART, NOT_CAUGHT, NONE = "caught", "in part", "no", "-"

PLAIN = "It is "

Change = Callable[[str], str]


@dataclass(frozen=True)
class Disguise:
    """*change* disguises a secret of each kind; *samples* are written by hand; None: there is no such disguise.

    *before* and *after* stand around the disguised secret and must stay.
    """

    name: str
    change: Change | None = None
    samples: dict[str, str | None] = field(default_factory=dict)
    before: str = PLAIN
    after: str = ", they say."

    def sample(self, kind: str) -> str | None:
        if kind in self.samples:
            return self.samples[kind]
        if self.change is None:
            return None
        changed = self.change(SECRETS[kind])
        return changed if changed != SECRETS[kind] or self.before != PLAIN else None


def letters(*alphabets: tuple[str, str]) -> Change:
    """Characters of the first strings become those of the second."""
    table = {ord(a): b for plain, changed in alphabets for a, b in zip(plain, changed, strict=True)}
    return lambda text: text.translate(table)


def block(upper: int | None = None, lower: int | None = None, digits: int | None = None) -> Change:
    """Letters and digits become those of blocks that have them in order."""
    table: dict[int, int] = {}
    for first, base, count in (("A", upper, 26), ("a", lower, 26), ("0", digits, 10)):
        if base is not None:
            table.update({ord(first) + n: base + n for n in range(count)})
    return lambda text: text.translate(table)


def between(inserted: str) -> Change:
    return inserted.join


def middle(inserted: str) -> Change:
    return lambda text: text[: len(text) // 2] + inserted + text[len(text) // 2 :]


def separators(character: str) -> Change:
    return lambda text: text.replace(" ", character)


NO_CARD: dict[str, str | None] = {"card": None}
DIGITS = "0123456789"

DISGUISES = (
    Disguise("nothing changed", lambda text: text, before="It is: "),
    Disguise("other case", str.swapcase, {"key": None}),
    # look-alikes
    Disguise(
        "full-width characters", lambda text: "".join("\u3000" if c == " " else chr(ord(c) + 0xFEE0) for c in text)
    ),
    Disguise("mathematical bold", block(0x1D400, 0x1D41A, 0x1D7CE)),
    Disguise("mathematical monospace", block(0x1D670, 0x1D68A, 0x1D7F6)),
    Disguise("circled letters (Ⓐ)", block(0x24B6, 0x24D0)),
    Disguise("white on black letters (🅐)", lambda text: block(0x1F150)(text.upper()), {"key": None}),
    Disguise("regional indicators (🇦)", lambda text: block(0x1F1E6)(text.upper()), {"key": None}),
    Disguise("small capitals (ᴄᴏɴ)", letters(("aceiklmnopt", "ᴀᴄᴇɪᴋʟᴍɴᴏᴘᴛ")), {"key": None}),
    Disguise("letters with strokes or hooks (ƈ, ƒ, ƥ)", letters(("cfbp", "ƈƒƀᵽ")), {"key": "sƙ-Ab1Cd2Ef3Gh4Ij5Kl"}),
    Disguise("Cyrillic look-alikes", letters(("aceiopxyABCEHKMT", "асеіорхуАВСЕНКМТ"), ("s", "ѕ"))),
    Disguise("Greek look-alikes", letters(("oiAEI", "οιΑΕΙ"), ("v", "ν"))),
    Disguise("letters with accents", letters(("aceio", "áćéíó"), ("ACE", "ÁĆÉ"))),
    Disguise("a mark after every character (U+0301)", between("\u0301")),
    Disguise("a circle around every character (U+20DD)", between("\u20dd")),
    Disguise("ligatures", None, {"keyword": "conﬁdential", "e-mail": "oﬃce@example.com", "key": "sk-Ab1Cd2Ef3Gh4Ijﬁl"}),
    Disguise("sharp s (ß) for ss", None, {"keyword": "Straße", "e-mail": "straße@example.com"}),
    Disguise("capital sharp s (ẞ)", None, {"keyword": "STRAẞE", "e-mail": "STRAẞE@example.com"}),
    Disguise("SS for a keyword written with ß", None, {"keyword": "GROSSE"}),
    Disguise("dotless i (ı)", letters(("i", "ı")), {"key": None}),
    Disguise("capital I with dot (İ)", lambda text: text.upper().replace("I", "İ"), {"key": "sk-Ab1Cd2Ef3Gh4İj5Kl"}),
    Disguise(
        "Kelvin sign (U+212A)",
        None,
        {"keyword": "\u212aelvin", "key": "sk-Ab1Cd2Ef3Gh4Ij5\u212al", "e-mail": "\u212a@example.com"},
    ),
    Disguise("look-alikes within ASCII (0 for o, 1 for l)", letters(("oil", "01I")), {"key": None, "e-mail": None}),
    Disguise("several letters for one (rn for m, cl for d)", lambda text: text.replace("d", "cl"), {"key": None}),
    # invisible characters
    *(
        Disguise(f"{name} between all characters (U+{ord(c):04X})", between(c))
        for name, c in (
            ("zero-width space", "\u200b"),
            ("zero-width non-joiner", "\u200c"),
            ("zero-width joiner", "\u200d"),
            ("soft hyphen", "\u00ad"),
            ("word joiner", "\u2060"),
            ("byte order mark", "\ufeff"),
            ("variation selector", "\ufe0f"),
            ("right-to-left override", "\u202e"),
            ("left-to-right isolate", "\u2066"),
            ("combining grapheme joiner", "\u034f"),
            ("Hangul filler", "\u3164"),
            ("tag character", "\U000e0041"),
        )
    ),
    Disguise("control character between (U+0008)", middle("\b")),
    # digits, separators
    Disguise("Arabic-Indic digits", block(digits=0x0660)),
    Disguise("Devanagari digits", block(digits=0x0966)),
    Disguise("full-width digits", block(digits=0xFF10)),
    Disguise("superscript digits", letters((DIGITS, "⁰¹²³⁴⁵⁶⁷⁸⁹"))),
    Disguise("circled digits (①)", block(digits=0x245F)),
    Disguise("Roman numerals (Ⅳ)", None, {"card": "Ⅳ111 1111 1111 1111"}),
    Disguise("digits in words", None, {"card": "four one one one 1111 1111 1111"}),
    Disguise("no-break space", separators("\u00a0"), {"keyword": "project\u00a0nightfall"}),
    Disguise("narrow no-break space", separators("\u202f"), {"keyword": "project\u202fnightfall"}),
    Disguise("thin space", separators("\u2009"), {"keyword": "project\u2009nightfall"}),
    Disguise("ideographic space", separators("\u3000"), {"keyword": "project\u3000nightfall"}),
    Disguise("two spaces, a tab or a line end", separators("  "), {"keyword": "project\nnightfall"}),
    Disguise("other dashes", separators("–"), {"key": "sk–Ab1Cd2Ef3Gh4Ij5Kl"}),
    Disguise("dots or slashes", separators(".")),
    Disguise("other at signs (＠, ﹫)", lambda text: text.replace("@", "﹫")),
    Disguise("other full stops (。, ․)", lambda text: text.replace(".", "。")),
    Disguise("`(at)`, `[dot]`", lambda text: text.replace("@", " (at) ").replace(".", " [dot] ")),
    # what stands around
    Disguise("emoji inside", middle("😀")),
    Disguise("emoji touching", lambda text: text, before="It is 😀", after="😀!"),
    Disguise("right-to-left text around", lambda text: text, before="זה ", after=" בסדר"),
    Disguise("Chinese text touching", lambda text: text, before="是", after="吗"),
    Disguise("Cyrillic letters touching", lambda text: text, before="это ж", after="ж."),
    # encodings and puzzles
    Disguise("digits for letters (p4ssw0rd)", letters(("aeio", "4310")), {"key": None, **NO_CARD, "e-mail": None}),
    Disguise("spaces between all characters", between(" "), {"card": "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1"}),
    Disguise("dots between all characters", between("."), {"card": "4.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1"}),
    Disguise("emphasis inside (`con**fi**dential`)", lambda text: f"{text[:5]}**{text[5:9]}**{text[9:]}"),
    Disguise("a line break inside", middle("\n")),
    Disguise("written backwards", lambda text: text[::-1]),
    Disguise("percent encoding", lambda text: "".join(f"%{ord(c):02X}" for c in text)),
    Disguise("HTML entities", lambda text: "".join(f"&#{ord(c)};" for c in text)),
    Disguise("JSON escapes", lambda text: "".join(f"\\u{ord(c):04x}" for c in text)),
    Disguise("base64", lambda text: base64.b64encode(text.encode()).decode()),
)


def verdict(disguise: Disguise, kind: str) -> str:
    """What the guard makes of *disguise* on a secret of *kind*."""
    sample = disguise.sample(kind)
    if sample is None:
        return NONE
    whole = disguise.before + sample + disguise.after
    visible = stream(RULES[kind], [whole])
    if visible == f"{disguise.before}[X]{disguise.after}":
        return CAUGHT
    return NOT_CAUGHT if visible == whole else IN_PART


def table() -> list[str]:
    """The lines of the table."""
    lines = ["| disguise | keyword | key | card | e-mail |", "|---|---|---|---|---|"]
    for disguise in DISGUISES:
        lines.append("| " + " | ".join([disguise.name, *(verdict(disguise, kind) for kind in SECRETS)]) + " |")
    return lines


def main() -> None:
    """Put the table into the page."""
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split("| disguise |", 1)
    after = rest.split("\n\n", 1)[1]
    PAGE.write_text("\n".join([before + table()[0], *table()[1:]]) + "\n\n" + after, encoding="utf-8")


if __name__ == "__main__":
    main()
