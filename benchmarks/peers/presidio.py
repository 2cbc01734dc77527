"""Presidio: it reads finished texts; what a caller can do with a stream is to hand it over sentence by sentence."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]))

from benchmarks.peers.driver import KEY_REGEX, KEYWORD, Setting, Show, serve

_SENTENCE_END = re.compile(r"[.!?]\s+|\n+")


class _Redact(Setting):
    def __init__(self, label: str, note: str) -> None:
        analyzer: Any = importlib.import_module("presidio_analyzer")
        engines: Any = importlib.import_module("presidio_analyzer.nlp_engine")
        own: Any = importlib.import_module("presidio_analyzer.predefined_recognizers")
        suffixes: Any = importlib.import_module("tldextract")
        suffixes.extract = suffixes.TLDExtract(suffix_list_urls=())  # the list in the package, not today's
        engine = engines.SpacyNlpEngine(models=[{"lang_code": "en", "model_name": "blank"}])
        engine.nlp = {"en": importlib.import_module("spacy").blank("en")}  # the default downloads a model
        recognizers = [
            own.CreditCardRecognizer(),
            own.EmailRecognizer(),
            analyzer.PatternRecognizer("KEYWORD", deny_list=[KEYWORD]),
            analyzer.PatternRecognizer("KEY", patterns=[analyzer.Pattern("key", KEY_REGEX, 1.0)]),
        ]
        registry = analyzer.RecognizerRegistry(recognizers=recognizers)
        self._analyzer = analyzer.AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=["en"])
        self._anonymizer: Any = importlib.import_module("presidio_anonymizer").AnonymizerEngine()
        self.label, self.note = label, note

    def _redact(self, text: str) -> str:
        found = self._analyzer.analyze(text, language="en")
        return str(self._anonymizer.anonymize(text=text, analyzer_results=found).text)


class _Finished(_Redact):
    def stream(self, source: Iterator[Any], show: Show) -> bool:
        show(self._redact("".join(source)))
        return True


class _Sentences(_Redact):
    def stream(self, source: Iterator[Any], show: Show) -> bool:
        held = ""
        for token in source:
            held += token
            while (end := _SENTENCE_END.search(held)) and end.end() < len(held):
                show(self._redact(held[: end.end()]))
                held = held[end.end() :]
        show(self._redact(held))
        return True


def load() -> list[Setting]:
    return [
        _Finished("finished text (default)", "no streaming interface: the answer is held to its end"),
        _Sentences("sentence by sentence", "the caller splits and holds; the splitter is this benchmark's own"),
    ]


if __name__ == "__main__":
    serve(load, ("presidio-analyzer", "presidio-anonymizer", "spacy"))
