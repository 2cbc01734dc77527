"""The member names of a JSON document, read while it streams: each once per object, none spelled in escapes.

JSON permits both, and a grammar cannot forbid them: it does not count, and to it `"\\u0061"` is another name than
`"a"`. To the reader of the document they are the same, so a second member, or a member in disguise, would carry a
value that no schema has looked at.

The text must be the beginning of a well-formed document; whether it is one is not checked here. Memory: the names of
the open objects.
"""

from __future__ import annotations

import json
import re

__all__ = ["MemberNames"]

_STRUCTURE = re.compile(r'["{}\[\],:]')
_IN_STRING = re.compile(r'["\\]')


class MemberNames:
    """`feed` returns where in the piece the first name ends that must not stand there, and why."""

    def __init__(self) -> None:
        self._open: list[set[str] | None] = []
        """The names seen in each open object; None for an array."""
        self._expects_name = False
        self._in_string = False
        self._is_escaped = False
        self._name: list[str] | None = None
        """The pieces of the name that is being read."""

    def feed(self, text: str) -> tuple[int, str] | None:
        """Read the next piece: (offset of the closing quote in *text*, reason), or None."""
        place, end = 0, len(text)
        while place < end:
            if self._in_string:
                place, closes = self._rest_of_string(text, place)
                if closes and self._name is not None:
                    reason = self._take_name("".join(self._name))
                    self._name = None
                    if reason:
                        return place - 1, reason
                continue
            match = _STRUCTURE.search(text, place)
            if match is None:
                return None
            place = match.end()
            self._take(match[0])
        return None

    def _rest_of_string(self, text: str, place: int) -> tuple[int, bool]:
        """Where the string, or the piece, ends, and which of the two."""
        start = place
        closes = False
        while place < len(text) and not closes:
            if self._is_escaped:
                self._is_escaped = False
                place += 1
                continue
            match = _IN_STRING.search(text, place)
            if match is None:
                place = len(text)
            else:
                place = match.end()
                self._is_escaped = match[0] == "\\"
                closes = match[0] == '"'
        if self._name is not None:
            self._name.append(text[start : place - closes])
        self._in_string = not closes
        return place, closes

    def _take(self, c: str) -> None:
        match c:
            case '"':
                self._in_string = True
                self._name = [] if self._expects_name else None
            case "{":
                self._open.append(set())
                self._expects_name = True
            case "[":
                self._open.append(None)
                self._expects_name = False
            case "}" | "]":
                self._open.pop()
                self._expects_name = False
            case ",":
                self._expects_name = self._open[-1] is not None
            case _:
                self._expects_name = False

    def _take_name(self, spelled: str) -> str:
        names = self._open[-1]
        assert names is not None
        if "\\" in spelled:
            plain = json.dumps(json.loads(f'"{spelled}"'), ensure_ascii=False)[1:-1]
            if plain != spelled:
                return "a member name with escapes that it does not need"
        if spelled in names:
            return "a member name that the object already has"
        names.add(spelled)
        return ""
