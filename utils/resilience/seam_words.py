"""What models say before they go on, and words that tell where one word ends: English, German, Chinese. Data."""

from __future__ import annotations

import re

__all__ = ["COMMON", "DOUBLED", "preamble_end"]

COMMON = frozenset(
    """
    the of and to in is that it was for on are as with his they at be this from have or by one had not but what all
    were when we there can an your which their said if do will each about how up out them then she many some so these
    would other into has more her two like him see time could no make than first been its who now my made over did
    only way find use may down long very after words called just where most know must through before because between
    der die das und ist von den mit sich des auf für im dem nicht ein eine als auch es an werden aus er hat dass sie
    nach wird bei einer um am sind noch wie einem über einen so zum war haben nur oder aber vor zur bis mehr durch man
    a i without within onto upon another maybe does something nothing everything someone anyone cannot however whether
    therefore herself himself itself themselves somewhere anything everyone today
    sein wurde sei wenn kann ohne dann unter soll ich eines jahr zwei diese dieser wieder keine seine ihre
    """.split()  # noqa: SIM905
)
"""Words that need no proof that they are whole ones."""

DOUBLED = frozenset(
    """
    had that very so no bye ha he ho hey yes yeah blah bla la na row far long many again never wait knock tut
    die der das den dem sehr nein ja vous nous
    """.split()  # noqa: SIM905
)
"""Words that languages set twice in a row."""

_INTERJECTION = (
    r"(?:(?:sure(?:\ thing)?|certainly|of\ course|absolutely|okay|ok|understood|right|no\ problem|got\ it)[,.!:]*\s+)"
)
_APOLOGY = r"(?:(?:sorry|apologies|I\ apologi[sz]e|my\ apologies)\b[^.:\n]{0,60}[.!,]\s+)"
_ENGLISH = rf"""
    {_INTERJECTION}*{_APOLOGY}?{_INTERJECTION}?
    (?:
        here(?:['\u2019]s|\ is|\ are)\b[^.:\n]{{0,40}}\b(?:continu\w+|rest|remainder)\b[^:\n]{{0,80}}:
      | (?:I(?:['\u2019]ll|\ will)\ |let\ me\ |let['\u2019]s\ )?
        (?:continu(?:e|ing)|pick(?:ing)?\ up|resum(?:e|ing))\ (?:from\ )?
        (?:exactly\ |right\ )?(?:where\ (?:I|we|you|it|the\ text)\b|the\ (?:text|answer|response)\b)
        [^:.\n]{{0,60}}(?::|\.{{1,3}}(?=\s)|…|\n)
      | [\[(]continu(?:ed|ing|ation)[^\])\n]{{0,40}}[\])]
      | continu(?:ed|ing|ation)(?::|\s*(?:\.{{3}}|…))
    )
"""
_GERMAN = r"""
    (?:(?:natürlich|gerne?|klar|sicher|selbstverständlich|okay)[,.!]*\s+)*
    (?:
        hier\ (?:ist|folgt|kommt|geht)\b[^.:\n]{0,40}\b(?:fortsetzung|rest|weiter)\b[^:\n]{0,60}:
      | (?:fortsetzung|weiter\ geht\ es|es\ geht\ weiter)[^:.\n]{0,30}:
      | \(fortsetzung\)
    )
"""
_CHINESE = r"""
    (?:(?:好的|当然|没问题|抱歉)[，。！,!\s]*)*(?:以下|下面|这|接)?[^：:。\n]{0,12}
    (?:续写|继续|接着|剩余|后续|下文)[^：:。\n]{0,16}[：:]
"""  # noqa: RUF001
_PREAMBLE = re.compile(
    rf"\s*(?:[*_#]+\ ?)?(?:{_ENGLISH}|{_GERMAN}|{_CHINESE})[*_]*(?:[ \t]*\n{{1,2}}|[ \t])?", re.VERBOSE | re.IGNORECASE
)


def preamble_end(start: str) -> int:
    """Where the announcement of a continuation ends, with the line breaks behind it; 0 if *start* begins with none."""
    match = _PREAMBLE.match(start)
    return match.end() if match is not None else 0
