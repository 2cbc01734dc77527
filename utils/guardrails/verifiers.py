"""Checks of candidates that rules with a verifier find: check digits, lengths, and address ranges.

Each takes the folded text of a candidate, is pure and total, and answers whether it is what the rule looks for. They
are chosen by name in a pack (`verifier = "iban"`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import wraps
from itertools import pairwise
from types import MappingProxyType

__all__ = ["VERIFIERS"]


def _digits(text: str) -> list[int]:
    return [ord(c) - 48 for c in text if "0" <= c <= "9"]


def _luhn(text: str) -> bool:
    """ISO/IEC 7812-1, annex B: every second digit from the right doubled, cross sums, a multiple of ten."""
    digits = _digits(text)
    doubled = sum(2 * d - 9 * (d > 4) for d in digits[-2::-2])
    return len(digits) > 1 and (doubled + sum(digits[-1::-2])) % 10 == 0


_IBAN_TABLE = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 "
    "DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 "
    "IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 "
    "MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 "
    "SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
)
_IBAN_LENGTHS = {entry[:2]: int(entry[2:]) for entry in _IBAN_TABLE.split()}
"""Characters of an IBAN by country."""


def _iban(text: str) -> bool:
    """ISO 13616: the country's length, and the rearranged number leaves 1 when divided by 97."""
    compact = text.replace(" ", "")
    if _IBAN_LENGTHS.get(compact[:2]) != len(compact):
        return False
    return _mod97(compact[4:] + compact[:4]) == 1


def _mod97(text: str) -> int:
    remainder = 0
    for c in text:
        value = int(c, 36)
        remainder = (remainder * (100 if value > 9 else 10) + value) % 97
    return remainder


_NOT_PUBLIC_V4 = tuple(
    (network, 32 - bits)
    for network, bits in (
        (0x00000000, 8),  # this network
        (0x0A000000, 8),  # private
        (0x64400000, 10),  # shared between providers
        (0x7F000000, 8),  # loopback
        (0xA9FE0000, 16),  # link-local
        (0xAC100000, 12),  # private
        (0xC0000000, 24),  # protocol assignments
        (0xC0000200, 24),  # documentation
        (0xC0A80000, 16),  # private
        (0xC6120000, 15),  # benchmarks
        (0xC6336400, 24),  # documentation
        (0xCB007100, 24),  # documentation
        (0xE0000000, 4),  # multicast
        (0xF0000000, 4),  # reserved; also netmasks and broadcast
    )
)
"""(network, host bits) of the addresses that belong to nobody (RFC 6890, RFC 5737)."""


def _public_ipv4(text: str) -> bool:
    """A public address. One of four single digits is a version or a well-known resolver (1.1.1.1, 8.8.8.8)."""
    parts = text.split(".")
    if len(parts) != 4 or len(text) == 7 or any(not p.isdigit() or int(p) > 255 or p != str(int(p)) for p in parts):
        return False
    address = 0
    for part in parts:
        address = address << 8 | int(part)
    return not any(address >> host == network >> host for network, host in _NOT_PUBLIC_V4)


def _public_ipv6(text: str) -> bool:
    """A global unicast address (2000::/3) outside the documentation ranges 2001:db8::/32 and 3fff::/20."""
    head, gap, tail = text.lower().partition("::")
    before = head.split(":") if head else []
    after = tail.split(":") if tail else []
    groups = before + after
    if any(not 1 <= len(g) <= 4 for g in groups) or "::" in tail:
        return False
    if not 3 <= len(groups) <= 7 if gap else len(groups) != 8:
        return False
    words = [int(g, 16) for g in before] + [0] * (8 - len(groups)) + [int(g, 16) for g in after]
    is_documentation = words[:2] == [0x2001, 0xDB8] or (words[0] == 0x3FFF and words[1] < 0x1000)
    return 0x2000 <= words[0] <= 0x3FFF and not is_documentation


_COUNTRY_CODE_STARTS = frozenset(
    (
        20,
        21,
        22,
        23,
        24,
        25,
        26,
        27,
        29,
        30,
        31,
        32,
        33,
        34,
        35,
        36,
        37,
        38,
        39,
        40,
        41,
        42,
        43,
        44,
        45,
        46,
        47,
        48,
        49,
        50,
        51,
        52,
        53,
        54,
        55,
        56,
        57,
        58,
        59,
        60,
        61,
        62,
        63,
        64,
        65,
        66,
        67,
        68,
        69,
        80,
        81,
        82,
        84,
        85,
        86,
        87,
        88,
        90,
        91,
        92,
        93,
        94,
        95,
        96,
        97,
        98,
        99,
    )
)
"""First two digits of the codes that are in use, but for +1 and +7."""


def _phone(text: str) -> bool:
    """ITU-T E.164: `+`, a country code that is in use, 15 digits at most.

    With +1 the ten digits must be a North American number. Not: fewer than ten digits without separators, a signed
    decimal number, pairs that count up or down by one step, and what an added line of a diff may start with, a date or
    an ISBN.
    """
    digits = "".join(c for c in text if c.isdigit())
    is_plain = len(digits) == len(text) - 1
    if not (10 if is_plain else 9) <= len(digits) <= 15:
        return False
    if text.count(".") == 1 and len(digits) == len(text) - 2:
        return False
    if (text[1:3] in ("19", "20") and text[5:6] in ("-", ".", "/")) or digits[:3] in ("978", "979"):
        return False
    groups = text[1:].split(" ")
    if len(groups) > 3 and all(len(g) == 2 and g.isdigit() for g in groups):
        numbers = [int(g) for g in groups]
        if len({b - a for a, b in pairwise(numbers)}) == 1:
            return False
    if digits[0] == "1":
        return len(digits) == 11 and digits[1] > "1" and digits[4] > "1"
    return digits[0] == "7" or int(digits[:2]) in _COUNTRY_CODE_STARTS


_labelled_date = re.compile(r":[ \"']*(?:19|20)[0-9]{2}([-./])(?:0[1-9]|1[0-2])\1[0-3][0-9]")


def _phone_labelled(text: str) -> bool:
    """What stands behind the label is no date of the form year, month, day."""
    return _labelled_date.search(text) is None


def _uk_nino(text: str) -> bool:
    """Prefixes that are never issued."""
    return text[:2] not in ("BG", "GB", "NK", "KN", "TN", "NT", "ZZ")


def _es_dni(text: str) -> bool:
    """The last letter is the number modulo 23; X, Y, Z at the start of a NIE stand for 0, 1, 2.

    Eight digits with E or B directly behind them are refused: the fraction of 1.38435736E+12, a size in bytes.
    """
    if text[0].isdigit() and "-" not in text and text[-1] in "BE":
        return False
    compact = text.replace("-", "").upper()
    number = int(compact[:-1].translate({88: "0", 89: "1", 90: "2"}))
    return "TRWAGMYFPDXBNJZSQVHLCKE"[number % 23] == compact[-1]


_ODD_PLACES = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)


def _it_codice_fiscale(text: str) -> bool:
    """The sixteenth letter checks the others: places are valued by a table and by the alphabet in turn, modulo 26."""
    values = [ord(c) - 48 if c.isdigit() else ord(c) - 65 for c in text.upper()]
    total = sum(_ODD_PLACES[v] for v in values[0:15:2]) + sum(values[1:15:2])
    return total % 26 == values[15]


def _br_cpf(text: str) -> bool:
    """Two check digits modulo 11; eleven equal digits are no number."""
    digits = _digits(text)
    if len(digits) != 11 or len(set(digits)) == 1:
        return False
    for count in (9, 10):
        check = sum(d * (count + 1 - n) for n, d in enumerate(digits[:count])) * 10 % 11 % 10
        if check != digits[count]:
            return False
    return True


def _fr_nir(text: str) -> bool:
    """The last two digits are 97 minus the others modulo 97."""
    compact = text.replace(" ", "")
    return 97 - int(compact[:13]) % 97 == int(compact[13:])


def _total(verifier: Callable[[str], bool]) -> Callable[[str], bool]:
    """A user's pattern may offer any text: what is not even of the expected form is refused."""

    @wraps(verifier)
    def accepts(text: str) -> bool:
        try:
            return verifier(text)
        except (ValueError, IndexError):
            return False

    return accepts


VERIFIERS: Mapping[str, Callable[[str], bool]] = MappingProxyType(
    {
        "luhn": _total(_luhn),
        "iban": _total(_iban),
        "public_ipv4": _total(_public_ipv4),
        "public_ipv6": _total(_public_ipv6),
        "phone": _total(_phone),
        "phone_labelled": _total(_phone_labelled),
        "uk_nino": _total(_uk_nino),
        "es_dni": _total(_es_dni),
        "it_codice_fiscale": _total(_it_codice_fiscale),
        "br_cpf": _total(_br_cpf),
        "fr_nir": _total(_fr_nir),
    }
)
"""By the name that packs use."""
