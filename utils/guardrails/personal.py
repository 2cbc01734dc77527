"""Personal data: e-mail addresses and payment card numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from utils.guardrails.scanners import NOT_LIVE, Match, Scanner, run_end

__all__ = ["CardPattern", "EmailPattern"]

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_DIGITS = "0123456789"


# E-mail ---------------------------------------------------------------------------------------------------------------

_LOCAL_MARKS = "._%+'-"
_LOCAL = _LETTERS + _DIGITS + _LOCAL_MARKS
_LOCAL_MAX = 254  # RFC 5321: at most 64, and 254 for a whole address; what is longer is no address but is hidden
_LABEL_MAX = 63
_TLD_MIN, _TLD_MAX = 2, 24
_label = re.compile(r"[A-Za-z0-9-]*")
_letters = re.compile(r"[A-Za-z]*")


@dataclass(frozen=True, slots=True)
class EmailPattern:
    """`[A-Za-z0-9][A-Za-z0-9._%+'-]{0,253}@([A-Za-z0-9-]{1,63}[.])+[A-Za-z]{2,24}`, without boundaries.

    Cost: the current word is held, at most 254 characters of it while no `@` was seen.
    """

    def scanner(self) -> Scanner:
        """A scanner at the start of a stream."""
        return _EmailScanner()


class _EmailScanner:
    """At most one domain is being read: a second `@` ends the first address and the domain so far is its local part.

    `_tail` holds the newest characters that may belong to a local part, `_start` where the address that has reached
    its domain begins (-1: none). Of all starts before one `@` the earliest dominates: it covers what the others cover.
    """

    __slots__ = ("_dotted", "_label_chars", "_label_letters", "_start", "_tail")

    def __init__(self) -> None:
        self._tail = ""
        self._start = -1
        self._dotted = False
        self._label_chars = 0
        self._label_letters = 0

    def scan(self, text: str, base: int, found: list[Match]) -> int:
        i, length = 0, len(text)
        while i < length:
            if self._start >= 0:
                i = self._read_domain(text, i, base, found)
                continue
            at = text.find("@", i)
            if at < 0:
                self._read_local(text[i:])
                break
            self._read_local(text[i:at])
            local = self._tail.lstrip(_LOCAL_MARKS)
            self._tail = ""
            i = at + 1
            if local:
                self._start = base + at - len(local)
                self._dotted = False
                self._label_chars = self._label_letters = 0
        if self._start >= 0:
            return self._start
        local = self._tail.lstrip(_LOCAL_MARKS)
        return base + length - len(local) if local else NOT_LIVE

    def finish(self, length: int, found: list[Match]) -> None:
        """Nothing waits: the rule has no trailing boundary."""

    def _read_local(self, piece: str) -> None:
        newest = piece[-_LOCAL_MAX:]
        outside = len(newest.rstrip(_LOCAL))
        if outside or len(piece) > _LOCAL_MAX:
            self._tail = newest[outside:]
        else:
            self._tail = (self._tail + newest)[-_LOCAL_MAX:]

    def _read_domain(self, text: str, i: int, base: int, found: list[Match]) -> int:
        """Read domain characters from index *i*; the index of the first one that ends the address, or len(text)."""
        begin, length = i, len(text)
        while i < length:
            end = run_end(_label, text, i, min(length, i + _LABEL_MAX - self._label_chars))
            if self._label_letters == self._label_chars:
                before = self._label_letters
                after = before + run_end(_letters, text, i, end) - i
                if self._dotted and before < after and before < _TLD_MAX and after >= _TLD_MIN:
                    label = base + i - before
                    first_end = label + max(_TLD_MIN, before + 1)
                    found.append(Match(self._start, first_end, label + min(after, _TLD_MAX)))
                self._label_letters = after
            self._label_chars += end - i
            i = end
            if i == length:
                break
            if text[i] != "." or self._label_chars == 0:
                self._start = -1
                break
            i += 1
            self._dotted = True
            self._label_chars = self._label_letters = 0
        self._read_local(text[begin:i])
        return i


# Payment card ---------------------------------------------------------------------------------------------------------

_GROUP_MIN = 3
_ISSUERS: tuple[tuple[int, int, tuple[int, ...]], ...] = (
    (4, 4, (13, 16, 19)),  # Visa
    (51, 55, (16,)),  # Mastercard
    (2221, 2720, (16,)),  # Mastercard
    (34, 34, (15,)),  # American Express
    (37, 37, (15,)),  # American Express
    (300, 305, tuple(range(14, 20))),  # Diners Club
    (36, 36, tuple(range(14, 20))),  # Diners Club
    (38, 39, tuple(range(14, 20))),  # Diners Club
    (3528, 3589, tuple(range(16, 20))),  # JCB
    (50, 50, tuple(range(13, 20))),  # Maestro; RuPay 508
    (56, 58, tuple(range(13, 20))),  # Maestro
    (60, 69, tuple(range(13, 20))),  # Maestro; Discover, UnionPay and RuPay with 16 to 19
    (2200, 2204, tuple(range(16, 20))),  # Mir
    (81, 82, (16,)),  # RuPay
)
"""First and last prefix (ISO/IEC 7812 issuer identification) and the numbers of digits that are issued with it."""

_LENGTHS = {str(prefix): lengths for low, high, lengths in _ISSUERS for prefix in range(low, high + 1)}
_UNDECIDED = frozenset(prefix[:size] for prefix in _LENGTHS for size in range(1, len(prefix)))
_LENGTH_MAX = max(max(lengths) for lengths in _LENGTHS.values())
_digit = re.compile(r"[0-9]")
_digit_run = re.compile(r"[0-9]*")
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


@dataclass(frozen=True, slots=True)
class CardPattern:
    """A prefix that card issuers use with a length it is issued with, a valid Luhn sum, and boundaries.

    One space or hyphen may stand between two groups of three digits or more; the digits are not all equal. Boundaries:
    no digit before the first and after the last one, and no digit with a dot directly before the first one: the
    fraction of a number as it is printed (4.242640687119285) has as many digits as a card, and one in ten passes the
    Luhn check.
    """

    def scanner(self) -> Scanner:
        """A scanner at the start of a stream."""
        return _CardScanner()


class _Start:
    """Where a candidate starts: in the text, in the digits of the stream, and the Luhn sums before it.

    *lengths* are those of its issuer, empty while its first digits, *prefix*, may still become those of several.
    """

    __slots__ = ("digits", "is_grouped", "lengths", "most", "position", "prefix", "sums")

    def __init__(self, position: int, digits: int, sums: tuple[int, int]) -> None:
        self.position = position
        self.digits = digits
        self.sums = sums
        self.prefix = ""
        self.lengths: tuple[int, ...] = ()
        self.most = _LENGTH_MAX
        self.is_grouped = False

    def may_begin_with(self, digit: str) -> bool:
        """Read one digit of the prefix; whether an issuer has it."""
        self.prefix += digit
        self.lengths = _LENGTHS.get(self.prefix, ())
        if self.lengths:
            self.most = self.lengths[-1]
        return bool(self.lengths) or self.prefix in _UNDECIDED


class _CardScanner:
    """Candidates start where a group of digits starts and end where one ends; the Luhn sum of each costs O(1).

    For digit number k of the stream, `_sums[0]` adds even-numbered digits as they are and odd-numbered ones doubled,
    `_sums[1]` the other way round, both modulo 10. The Luhn sum of a candidate is the difference of the sum in which
    its last digit is plain, between its end and its start. `_starts` has the live candidates, oldest first: seven at
    most, since groups have three digits. `_group` counts the digits of the group that is read, `_equal` the newest
    digits of the stream that are equal.
    """

    __slots__ = ("_before", "_digits", "_equal", "_group", "_newest", "_starts", "_sums")

    def __init__(self) -> None:
        self._before = ""
        self._digits = 0
        self._equal = 0
        self._group = 0
        self._newest = ""
        self._sums = (0, 0)
        self._starts: list[_Start] = []

    def scan(self, text: str, base: int, found: list[Match]) -> int:
        if not self._starts and _digit.search(text) is None:
            self._before = (self._before + text)[-2:]
            return NOT_LIVE
        text = self._before + text
        i, length, base = len(self._before), len(text), base - len(self._before)
        while i < length:
            if not self._starts:
                i = self._next_group(text, i)
                if i == length:
                    break
            if text[i] in _DIGITS:
                self._read_digit(text, i, base)
            elif i > 0 and text[i - 1] in _DIGITS:
                self._close_group(base + i, found)
                if text[i] not in " -" or self._group < _GROUP_MIN:
                    self._starts.clear()
                else:
                    self._open_group()
            else:
                self._starts.clear()
            i += 1
        self._before = text[-2:]
        return self._starts[0].position if self._starts else NOT_LIVE

    def finish(self, length: int, found: list[Match]) -> None:
        """The end of the text is a boundary."""
        if self._before and self._before[-1] in _DIGITS:
            self._close_group(length, found)

    def _next_group(self, text: str, i: int) -> int:
        """The first index from *i* on where a group of digits starts, or len(text)."""
        if i > 0 and text[i - 1] in _DIGITS:
            i = run_end(_digit_run, text, i, len(text))
        digit = _digit.search(text, i)
        return digit.start() if digit else len(text)

    def _read_digit(self, text: str, i: int, base: int) -> None:
        digit = text[i]
        if i == 0 or text[i - 1] not in _DIGITS:
            self._group = 0
            if i < 2 or text[i - 1] != "." or text[i - 2] not in _DIGITS:
                self._starts.append(_Start(base + i, self._digits, self._sums))
        plain = int(digit)
        doubled = _DOUBLED[plain]
        even, odd = (plain, doubled) if self._digits % 2 == 0 else (doubled, plain)
        self._sums = ((self._sums[0] + even) % 10, (self._sums[1] + odd) % 10)
        self._digits += 1
        self._group += 1
        self._equal = self._equal + 1 if digit == self._newest else 1
        self._newest = digit
        dead = [start for start in self._starts if not self._may_go_on(start, digit)]
        if dead:
            self._starts = [start for start in self._starts if start not in dead]

    def _may_go_on(self, start: _Start, digit: str) -> bool:
        """Whether *start*, which has just read *digit*, is live."""
        if not start.lengths and not start.may_begin_with(digit):
            return False
        digits = self._digits - start.digits
        return digits < start.most or (digits == start.most and self._passes_luhn(start))

    def _passes_luhn(self, start: _Start) -> bool:
        plain = (self._digits - 1) % 2
        return (self._sums[plain] - start.sums[plain]) % 10 == 0

    def _close_group(self, end: int, found: list[Match]) -> None:
        for start in self._starts:
            digits = self._digits - start.digits
            is_whole = digits in start.lengths and not (start.is_grouped and self._group < _GROUP_MIN)
            if is_whole and self._equal < digits and self._passes_luhn(start):
                found.append(Match(start.position, end, end, is_late=True))
                break  # later starts with the same end lie inside this match

    def _open_group(self) -> None:
        """A separator was read: what goes on has one more group."""
        live = [start for start in self._starts if self._digits - start.digits + _GROUP_MIN <= start.most]
        for start in live:
            start.is_grouped = True
        self._starts = live
