"""This project's guard, through the protocol of the others."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]))

from benchmarks.peers.driver import KEY_REGEX, KEYWORD, Setting, Show, serve


class _Redact(Setting):
    label = "redact"

    def __init__(self) -> None:
        from utils.events import Redacted, TextDelta
        from utils.guardrails.patterns import CardPattern, EmailPattern, KeywordsPattern, RegularPattern
        from utils.guardrails.redactor import Redactor
        from utils.guardrails.rules import Rule, RuleSet

        self._text, self._redacted, self._redactor = TextDelta, Redacted, Redactor
        self._rules = RuleSet.compile(
            [
                Rule("keyword", "[KEYWORD]", KeywordsPattern((KEYWORD,))),
                Rule("card", "[CARD]", CardPattern()),
                Rule("email", "[EMAIL]", EmailPattern()),
                Rule("key", "[KEY]", RegularPattern(KEY_REGEX)),
            ]
        )

    def stream(self, source: Iterator[Any], show: Show) -> bool:
        redactor = self._redactor(self._rules)
        for token in source:
            for event in redactor.feed(token):
                if isinstance(event, self._text):
                    show(event.text)
                elif isinstance(event, self._redacted):
                    show(event.replacement)
        for event in redactor.finish():
            if isinstance(event, self._text):
                show(event.text)
            elif isinstance(event, self._redacted):
                show(event.replacement)
        return True


if __name__ == "__main__":
    serve(lambda: [_Redact()], ())
