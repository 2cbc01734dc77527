"""OpenAI's vocabularies, offline, where the optional package is installed. The only importer of rs_bpe.

It is loaded when tokens are to be counted that no server counted, and not before: it takes some 0.1 s and 100 MB.
"""

from __future__ import annotations

from functools import cache

from utils.metrics.tokenizer import Tokenizer, Vocabulary, vocabulary_of

__all__ = ["ESTIMATING", "BytePairTokenizer", "load_vocabulary", "tokenizer_for"]

ESTIMATING: Vocabulary = "o200k_base"
"""Stands in for vocabularies that we do not have."""


class BytePairTokenizer:
    """A `Tokenizer` over one of the vocabularies."""

    def __init__(self, inner: Tokenizer) -> None:
        self._inner = inner

    def count(self, text: str) -> int:
        """The number of tokens of *text*, no character of which is taken for a special token."""
        try:
            return self._inner.count(text)
        except UnicodeEncodeError:
            # Half of a surrogate pair, which a model may write; it stands for bytes that no text has.
            return self._inner.count(text.encode("utf-8", "replace").decode())


@cache
def load_vocabulary(name: Vocabulary) -> BytePairTokenizer | None:
    """The vocabulary *name*; None if the package is not installed or does not have it."""
    try:
        from rs_bpe import openai
    except ImportError:
        return None
    make = getattr(openai, name, None)
    return None if make is None else BytePairTokenizer(make())


def tokenizer_for(model: str | None) -> tuple[Tokenizer, bool] | None:
    """What counts the tokens of *model*, and whether that is the model's own vocabulary; None without the package.

    A count by another vocabulary is an estimate (often 10 % off, for some languages far more) and has to be called one.
    """
    own = vocabulary_of(model) if model else None
    tokenizer = load_vocabulary(own or ESTIMATING)
    return None if tokenizer is None else (tokenizer, own is not None)
