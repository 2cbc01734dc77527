"""Where a continuation joins an interrupted text: rules that look at both sides of the seam. Pure, no state.

A model that is asked to go on may repeat what it wrote, start over, say a sentence first, or change the white space.
`find_join` says how much of the continuation to drop. What cannot be told from new text stays, even if it then stands
there twice: a missing word is worse than a doubled one.

Repeated text is found as the longest suffix of the delivered text that is a prefix of the continuation (the prefix
function of Knuth, Morris and Pratt), in texts whose runs of white space are one space. How long it must be depends on
how often text of that kind repeats itself: see `_MIN_WEIGHT`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from utils.resilience.seam_text import POINTS, DeliveredText, SeamKind, spaced, weight
from utils.resilience.seam_words import COMMON, DOUBLED, preamble_end

__all__ = ["Join", "JoinKind", "StitchKind", "find_anchor", "find_join", "has_begun_again"]

StitchKind = Literal["prefill", "continue"]
JoinKind = Literal["plain", "overlap", "restart", "preamble"]

_MIN_WEIGHT: dict[SeamKind, int] = {"prose": 12, "verse": 16, "list": 24, "table": 32, "code": 32}
"""The least repeated text that is dropped. Shorter repeats occur in texts that are exactly continued."""
_MIN_UNIQUE_WEIGHT: dict[SeamKind, int] = {"prose": 12, "verse": 12, "list": 16, "table": 24, "code": 24}
"""The same for text that was delivered once: where a text does repeat itself, it mostly has done so before."""
_INSIDE_WORD = 4
"""How much more is asked for if the repeat begins inside a word, where a model does not begin."""
_UNSURE_FACTOR = 1.5
"""How much more is asked for behind a sentence that may be new text, and after a prefill, which repeats nothing."""
_MIN_LINE_WEIGHT = 6
_MIN_PHRASE_WEIGHT = 8
"""Two words or more that nobody writes twice in a row."""
_BORDER_SHARE = 4
_MAX_BORDER_CHARS = 400
_MAX_BORDERS = 40
"""Only text that loops has more; it is not dropped."""
_SURELY_SEEN_WEIGHT = 60
_MAX_UNSURE_CHARS = 4000
"""So long a repeat is looked for there; the work stays linear with a text that is begun again and becomes another."""
_MAX_LEAD_CHARS = 160
"""Only so far into the continuation is a repeat looked for behind text that nobody knows."""
_BEGUN_AGAIN_CHARS = 160
_ANCHOR_CHARS = 48

_REOPENED = re.compile(r"[ \t]*(?:`{3,}|~{3,})[ \t]*([\w+#.-]*)[ \t]*\n")
_NUMBERED = re.compile(r"\d{1,3}[.)] \w")
_PLAIN_INFO = ("markdown", "md", "text", "txt")
_LEAD = re.compile(r"[\"“„«「『>*_`]+ ?|(?:\.{3}|…)\s*")
_LEAD_END = re.compile(r"[:：.!。！][\"*]*\s+|\n+|[:：。！]|(?:\.{3}|…)")  # noqa: RUF001
_FIRST_WORD = re.compile(r"[^\W\d_]+")
_CLOSING: dict[str, str] = {'"': '"', "“": "”", "„": "“", "«": "»", "「": "」", "『": "』"}


@dataclass(frozen=True, slots=True)
class Join:
    """Drop the first *cut* characters of the continuation and show *inserted* (white space) before the rest.

    *overlap_chars* of the dropped ones repeat the delivered text. *wrapper* closes what the dropped part opened (a
    quotation mark or a code fence) and is to be dropped if it ends the continuation.
    """

    kind: JoinKind
    cut: int
    overlap_chars: int = 0
    inserted: str = ""
    wrapper: str = ""


def find_join(delivered: DeliveredText, start: str, kind: StitchKind, *, is_end: bool) -> Join | None:
    """How *start*, the beginning of a continuation, joins *delivered*; None: what follows may still change it.

    *is_end*: nothing follows. None is returned only while *start* keeps repeating delivered text, so at most about as
    much as was delivered is ever held.
    """
    if kind == "prefill":
        # Such a server goes on where it is told to; what looks like a repeat is an answer that repeats itself.
        return Join("plain", _shared_space(delivered.trailing, start))
    known = preamble_end(start)
    wrapper, after = _unwrapped(delivered, start, known)
    for offset in sorted({known, after}):
        rest = spaced(start[offset:].lstrip())
        if not is_end and rest and _may_grow(delivered, rest):
            return None
        overlap = _overlap(delivered, start[offset:], kind, is_end=is_end)
        if overlap is not None:
            join = _repeated(delivered, start, offset, overlap, wrapper if offset == after else "")
            # What comes behind white space says how much of it was delivered.
            is_open = not start[join.cut :].strip() and len(start) - join.cut < _MAX_LEAD_CHARS
            return None if is_open and not is_end else join
    for offset, closing, is_unsure in _inner_starts(start, known):
        rest = spaced(start[offset:].lstrip())
        if not is_end and weight(rest) >= _SURELY_SEEN_WEIGHT and _may_grow(delivered, rest):
            return None
        overlap = _overlap(delivered, start[offset:], kind, is_end=is_end, is_unsure=is_unsure)
        # Behind words that may be new text only all that was asked for proves a repeat: lists and tables say the same
        # things again and again.
        if overlap is not None and (not is_unsure or closing == "```" or overlap >= len(delivered.asked)):
            return _repeated(delivered, start, offset, overlap, closing)
    if after or known:
        cut = after or known
        cut += _shared_space(delivered.trailing, start[cut:])
        return Join("preamble", cut, 0, _missing_space(delivered, start[cut:], is_new_turn=True), wrapper)
    if delivered.trailing:
        # It was not sent to the server, which may begin with it.
        return Join("plain", _shared_space(delivered.trailing, start))
    return Join("plain", 0, inserted=_missing_space(delivered, start, is_new_turn=False))


def has_begun_again(delivered: DeliveredText, start: str) -> bool:
    """Whether *start* repeats so much from the top, an announcement aside, that it cannot be new text."""
    head = delivered.spaced[:_BEGUN_AGAIN_CHARS]
    rest = spaced(start[preamble_end(start) :].lstrip())
    return len(head) == _BEGUN_AGAIN_CHARS and rest.startswith(head) and head not in delivered.spaced[1:]


def find_anchor(delivered: DeliveredText, start: str) -> Join | None:
    """Where *start*, an answer begun once more in other words, has come to the end of the delivered text."""
    anchor = delivered.spaced.rstrip()[-_ANCHOR_CHARS:]
    place = spaced(start).find(anchor) if delivered.spaced.count(anchor) == 1 else -1
    if place < 0:
        return None
    left = sum(not char.isspace() for char in spaced(start)[: place + len(anchor)])
    cut = _behind(start, 0, left)
    cut += _shared_space(delivered.trailing, start[cut:])
    return Join("restart", cut, cut)


def _behind(text: str, offset: int, left: int) -> int:
    """The place in *text* behind *left* characters, from *offset* on, that are no white space."""
    while left:
        left -= not text[offset].isspace()
        offset += 1
    return offset


def _may_grow(delivered: DeliveredText, rest: str) -> bool:
    """Whether *rest* repeats delivered text from some place on, and has not come to its end."""
    text = delivered.spaced
    place = text.find(rest)
    return place >= 0 and place + len(rest) < len(text)


def _unwrapped(delivered: DeliveredText, start: str, known: int) -> tuple[str, int]:
    """What closes the fence or quotation that the model put around its continuation, and where the inside begins."""
    fence = _REOPENED.match(start, known)
    if fence is not None:
        if delivered.fence is not None:
            # A fence that names a language cannot be the one that closes the code.
            return "", fence.end() if fence[1] else known
        if delivered.begun_line_chars and (fence[1] or "text") in _PLAIN_INFO and (known or fence[1]):
            return "```", fence.end()
    elif (
        known
        and delivered.kind not in ("code", "table")
        and start[known : known + 1] in _CLOSING
        and start[known + 1 : known + 2].islower()
    ):
        return _CLOSING[start[known]], known + 1
    return "", known


def _inner_starts(start: str, known: int) -> Iterator[tuple[int, str, bool]]:
    """Where a repeat may begin behind something that is no repeat, what closes it, and whether that may be new."""
    ends = [known, *(match.end() for match in _LEAD_END.finditer(start, known, known + _MAX_LEAD_CHARS))]
    opened = ""
    for end in ends:
        is_unsure = not known or end > known
        fence = _REOPENED.match(start, end)
        if fence is not None:
            opened = "```"
            yield fence.end(), opened, is_unsure
        lead = _LEAD.match(start, end)
        if lead is not None:
            yield lead.end(), _CLOSING.get(lead[0].strip(), opened), is_unsure
        if end > known:
            yield end, opened, is_unsure


def _overlap(
    delivered: DeliveredText, rest: str, kind: StitchKind, *, is_end: bool, is_unsure: bool = False
) -> int | None:
    """The longest repeat at the beginning of *rest* that can be told from new text, in spaced characters."""
    stripped = rest.lstrip()
    text = spaced(stripped[:_MAX_UNSURE_CHARS] if is_unsure else stripped)
    if is_end and delivered.trailing and not text.endswith(" "):
        text += " "
    space = rest[: len(rest) - len(stripped)]
    ways = [(text, is_unsure)]
    first = text[:1].lower()
    if not (is_unsure or space) and first != text[:1] and len(first) == 1:
        # A new turn may begin with a capital letter in the middle of a sentence; so may a new sentence.
        ways.append((first + text[1:], True))
    for way, is_less_sure in ways:
        if kind == "continue" and not is_unsure and way.startswith(delivered.asked) and _may_be_asked(delivered):
            return len(delivered.asked) + bool(delivered.trailing)
        for length in itertools.islice(_borders(way, delivered.spaced), _MAX_BORDERS):
            if _is_repeat(delivered, way, length, kind, space=space, is_unsure=is_less_sure):
                return length
    return None


def _may_be_asked(delivered: DeliveredText) -> bool:
    """Whether the words asked for, once more, can be told from a text that repeats itself."""
    asked = delivered.asked
    before = delivered.spaced.rstrip()[: -len(asked)]
    return weight(asked) >= _MIN_PHRASE_WEIGHT and not (_is_periodic(asked, 2) or before.rstrip().endswith(asked))


def _borders(prefix_of: str, suffix_of: str) -> Iterator[int]:
    """The lengths of all prefixes of one text that are suffixes of the other, the longest first. Linear."""
    tail = suffix_of[-len(prefix_of) :] if prefix_of else ""
    joined = f"{prefix_of[: len(tail)]}\0{tail}"
    table = [0] * len(joined)
    length = 0
    for n in range(1, len(joined)):
        while length and joined[n] != joined[length]:
            length = table[length - 1]
        length += joined[n] == joined[length]
        table[n] = length
    length = table[-1]
    while length:
        yield length
        length = table[length - 1]


def _is_repeat(
    delivered: DeliveredText, text: str, length: int, kind: StitchKind, *, space: str, is_unsure: bool
) -> bool:
    """Whether the first *length* characters of *text*, which also end the delivered text, are a repeat."""
    whole = delivered.spaced
    repeat, before = whole[-length:], whole[:-length]
    bare = repeat.rstrip()
    if not any(char.isalnum() for char in bare) or _is_periodic(bare) or before.rstrip().endswith(bare):
        return False  # it already stands there twice: this text repeats itself
    is_at_word = not before or not (before[-1].isalnum() and repeat[0].isalnum()) or repeat[0] >= "\u2e80"
    is_unique = bare not in before
    least: float = (_MIN_UNIQUE_WEIGHT if is_unique else _MIN_WEIGHT)[delivered.kind]
    if not is_at_word:
        least += _INSIDE_WORD
    if is_unsure or kind == "prefill":
        least *= _UNSURE_FACTOR
    if weight(bare) >= least:
        return True
    if is_unsure or kind == "prefill":
        return False
    is_line = length == delivered.begun_line_chars and (is_unique or delivered.kind != "verse")
    if is_line and space == delivered.indent and len(space) > 1:
        return True  # the line is begun once more, with its indentation
    goes_into_word = text[length : length + 1].isalnum() and repeat[-1].isalnum()
    if space and not delivered.trailing and goes_into_word:
        return False  # "the| theory"
    if _NUMBERED.match(bare) and weight(bare) >= _MIN_LINE_WEIGHT and is_at_word and not space:
        return True  # no list has the same number twice
    if "\n" in delivered.trailing:
        return False
    if is_line and weight(bare) >= _MIN_LINE_WEIGHT:
        return True
    if delivered.kind == "prose" and is_at_word and " " in bare and weight(bare) >= _MIN_PHRASE_WEIGHT:
        return True
    return _is_repeated_word(delivered, bare, text[length - len(repeat) :], goes_into_word=goes_into_word)


def _is_repeated_word(delivered: DeliveredText, repeat: str, rest: str, *, goes_into_word: bool) -> bool:
    """Whether *repeat* is the last word, written once more; *rest* is the continuation."""
    word = delivered.last_word
    bare = repeat.rstrip(POINTS)
    if bare != word or not word or word[0] >= "\u2e80" or word.lower() in DOUBLED:
        return False
    is_program = delivered.kind in ("code", "table")
    if goes_into_word:
        # A cut word is begun once more ("circ|circuit"), or the space is missing ("the|theory").
        first = _FIRST_WORD.match(rest)
        if delivered.knows(word) or first is None:
            return False
        is_longer = len(first[0]) > len(word) + 1
        is_known = first[0].lower() in delivered.words if is_program else delivered.knows(first[0])
        if is_program or len(word) == 1:
            return is_longer and is_known
        return len(word) > 2 or (is_longer and is_known) or len(first[0]) > len(word) + 2
    if is_program or re.search(rf"\b{re.escape(repeat.strip())} {word}\b", delivered.spaced, re.IGNORECASE):
        return False  # "Row, row": this text sets the word twice elsewhere
    return len(word) >= 3 or (bare == repeat and word.lower() in COMMON)


def _is_periodic(text: str, share: int = _BORDER_SHARE) -> bool:
    """Whether *text* ends as it begins, by a quarter (one in *share*) of it or more: then it may well go on so."""
    if len(text) > _MAX_BORDER_CHARS:
        period = text.find(text[: _MAX_BORDER_CHARS // 2], 1)
        return period > 0 and text.startswith(text[period:])
    border = next((length for length in _borders(text, text) if length < len(text)), 0)
    return border > 2 and border * share >= len(text)


def _repeated(delivered: DeliveredText, start: str, offset: int, overlap: int, wrapper: str) -> Join:
    """The join behind a repeat of *overlap* spaced characters that begins at *offset*, white space aside."""
    repeat = delivered.spaced[-overlap:].rstrip()
    cut = _behind(start, offset, sum(not char.isspace() for char in repeat))
    begin = offset + len(start[offset:]) - len(start[offset:].lstrip())
    space = _shared_space(delivered.trailing, start[cut:])
    if delivered.kind == "prose" and delivered.trailing and start[cut:].lstrip() and "\n\n" not in start[cut : cut + 3]:
        space = len(start[cut:]) - len(start[cut:].lstrip())
    cut += space
    is_whole = len(delivered.spaced) == overlap and overlap > _MIN_WEIGHT["prose"]
    return Join("restart" if is_whole else "overlap", cut, cut - begin, "", wrapper)


def _shared_space(trailing: str, rest: str) -> int:
    """How much of the white space at the beginning of *rest* stands in *trailing* already."""
    space = rest[: len(rest) - len(rest.lstrip())]
    if not trailing or space.startswith(trailing):
        return len(trailing) if space else 0
    # Another run of white space for the same place: what it has more in lines is kept, and more in indentation.
    if space.count("\n") > trailing.count("\n"):
        return next(n for n in range(min(len(trailing), len(space)), -1, -1) if trailing.endswith(space[:n]))
    indent = space[space.rfind("\n") + 1 :]
    if "\n" not in trailing or len(indent) < 2:
        return len(space)
    shared = indent
    while not trailing[trailing.rfind("\n") + 1 :].startswith(shared):
        shared = shared[:-1]
    return len(space) - len(indent) + len(shared)


def _missing_space(delivered: DeliveredText, rest: str, *, is_new_turn: bool) -> str:
    """A space or a newline if the two texts cannot stand next to each other without it; else ""."""
    if not delivered.text or delivered.trailing or not rest or rest[0].isspace():
        return ""
    if delivered.kind == "code":
        return ""
    last = delivered.text[-1]
    if _continues_list(delivered, rest):
        return "\n"
    if delivered.kind == "table":
        return ""
    first = _FIRST_WORD.match(rest)
    if first is None or first[0][0] >= "\u2e80":
        return ""
    word = first[0]
    if last in ",;" or (last in ".!?:" and word[0].isupper() and len(delivered.text) > 2):
        before = delivered.text[-3:-1]
        return " " if last in ",;" or (before.isalpha() and before.islower()) else ""
    if not delivered.last_word or last != delivered.last_word[-1] or last >= "\u2e80":
        return ""
    glued = delivered.last_word + word
    if delivered.knows(glued):
        return ""
    if word.startswith(delivered.last_word) and delivered.knows(delivered.last_word):
        return " "  # "the|theory"
    if len(delivered.last_word) >= 2 and last.islower() and word[0].isupper():
        return " "
    # Two letters that are a word are as often the end of one ("do|es", "und|er").
    is_whole = delivered.knows(word) if len(word) > 2 else len(word) == 2 and word.lower() in delivered.words
    return " " if is_whole and delivered.knows(delivered.last_word) else ""


def _continues_list(delivered: DeliveredText, rest: str) -> bool:
    """Whether *rest* begins the item after the one that the delivered text ends with."""
    number = re.match(r"(\d{1,3})[.)] \S", rest)
    line = delivered.text[delivered.text.rfind("\n") + 1 :]
    mine = re.match(r"\s*(\d{1,3})[.)] \S", line)
    return number is not None and mine is not None and int(number[1]) == int(mine[1]) + 1
