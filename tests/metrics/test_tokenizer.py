"""Tokens of a text that comes in pieces: as many as the whole text has, and honest where that cannot be promised."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from utils.metrics.tokenizer import MAX_TAIL_CHARS, TAIL_CHARS, IncrementalCounter, Tokenizer, vocabulary_of
from utils.vocabularies import BytePairTokenizer, load_vocabulary, tokenizer_for

ROOT = Path(__file__).resolve().parents[2]
VOCABULARIES = ("o200k_base", "cl100k_base")
PIECE = re.compile(r" ?[^\W\d_]+|\d{1,3}| ?[^\s\w]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+|_")


class Toy:
    """Splits like the real ones and gives a token to each four characters of a piece. Remembers how much it read."""

    def __init__(self) -> None:
        self.read_chars = 0
        self.calls = 0

    def count(self, text: str) -> int:
        self.read_chars += len(text)
        self.calls += 1
        return sum((len(piece) + 3) // 4 for piece in PIECE.findall(text))


def fed(tokenizer: Tokenizer, pieces: Iterable[str]) -> IncrementalCounter:
    counter = IncrementalCounter(tokenizer)
    for piece in pieces:
        counter.feed(piece)
    return counter


def cut(text: str, seed: int) -> list[str]:
    rng = random.Random(seed)
    pieces = []
    while text:
        size = rng.randint(1, 12)
        pieces.append(text[:size])
        text = text[size:]
    return pieces


WORDS = st.sampled_from(
    [
        *(
            "a",
            "the",
            "don't",
            "I'll",
            "x1",
            "12345",
            "naïve",
            "été",
            "日本語",
            "東京タワー",
            "🙂",
            "👩‍👩‍👧",
            "e\u0301",
        ),
        *("--", "...", "{}", "=>", "'s", "'", '"', "_", "<|endoftext|>", "A", "HTTPServer", "ß", "\u200b", "\u0301"),
    ]
)
SPACES = st.sampled_from([" ", "  ", "\n", "\n\n", " \n ", "\t", "", "\u00a0", "\u3000", "\r\n", "\x1c", "\x85"])
TEXTS = st.lists(st.tuples(WORDS, SPACES), min_size=1, max_size=40).map(
    lambda parts: "".join(word + space for word, space in parts)
)
LONG_TEXTS = st.tuples(TEXTS, st.integers(1, 12)).map(lambda both: both[0] * both[1])


@given(LONG_TEXTS, st.integers(0, 2**32))
def test_as_many_as_the_whole_text_has_toy(text: str, seed: int) -> None:
    counter = fed(Toy(), cut(text, seed))
    assert counter.count == Toy().count(text) or not counter.is_exact


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@hypothesis_settings(deadline=None)
@given(text=LONG_TEXTS, seed=st.integers(0, 2**32))
def test_as_many_as_the_whole_text_has(vocabulary: str, text: str, seed: int) -> None:
    tokenizer = real(vocabulary)
    pieces = cut(text, seed)
    counter = IncrementalCounter(tokenizer)
    for number, piece in enumerate(pieces):
        counter.feed(piece)
        if number % 7 == 0 and counter.is_exact:
            assert counter.count == tokenizer.count("".join(pieces[: number + 1]))
    assert counter.count == tokenizer.count(text) or not counter.is_exact


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.parametrize("name", ["README.md", "nodes.py", "Makefile", "docs/resilience.md"])
def test_real_texts_token_by_token(vocabulary: str, name: str) -> None:
    tokenizer = real(vocabulary)
    text = (ROOT / name).read_text(encoding="utf-8")[:30_000]
    pieces = cut(text, 1)
    counter = fed(tokenizer, pieces)
    assert counter.is_exact
    assert counter.count == tokenizer.count(text)
    # What adding up the pieces would make of it.
    assert sum(map(tokenizer.count, pieces)) > 1.2 * counter.count


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_a_list_of_hashes_has_few_boundaries_and_is_nearly_right(vocabulary: str) -> None:
    tokenizer = real(vocabulary)
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")[:40_000]
    counter = fed(tokenizer, cut(text, 1))
    assert not counter.is_exact
    assert counter.count == pytest.approx(tokenizer.count(text), rel=0.002)


@given(LONG_TEXTS, st.integers(0, 2**32), st.lists(st.booleans(), max_size=40))
def test_asking_changes_nothing(text: str, seed: int, asks: list[bool]) -> None:
    asked = IncrementalCounter(Toy())
    pieces = cut(text, seed)
    for piece, ask in zip(pieces, asks + [False] * len(pieces), strict=False):
        asked.feed(piece)
        if ask:
            assert asked.count >= 0
    silent = fed(Toy(), pieces)
    assert (asked.count, asked.is_exact) == (silent.count, silent.is_exact)


def test_each_character_is_counted_about_twice() -> None:
    toy = Toy()
    text = "every word of it is short and plain " * 2_000
    counter = fed(toy, cut(text, 3))
    assert counter.count == Toy().count(text)
    assert counter.count == Toy().count(text)
    assert toy.read_chars < 1.1 * len(text)


def test_a_tail_that_is_asked_for_often_is_counted_again_and_no_more() -> None:
    toy = Toy()
    counter = IncrementalCounter(toy)
    pieces = cut("every word of it is short and plain " * 500, 3)
    for piece in pieces:
        counter.feed(piece)
        assert counter.count
    assert toy.read_chars < (TAIL_CHARS + 50) * len(pieces)


def test_what_was_counted_is_forgotten() -> None:
    toy = Toy()
    counter = fed(toy, ["every word of it is short and plain " * 500])
    assert counter.count
    before = toy.read_chars
    counter.feed("x")
    assert counter.count
    assert toy.read_chars - before < 50


def test_a_text_of_single_characters_has_its_boundaries_too() -> None:
    for text in ("every word of it is short and plain " * 300, "x" * 300 + " " + "a" * (MAX_TAIL_CHARS - 200)):
        counter = fed(Toy(), text)
        assert counter.is_exact
        assert counter.count == Toy().count(text)


def test_a_short_text_is_counted_in_one_go() -> None:
    toy = Toy()
    assert fed(toy, "every word of it is short and plain " * 7).count == Toy().count(
        "every word of it is short and plain " * 7
    )
    assert toy.calls == 1


def test_text_without_boundaries_is_counted_in_pieces_and_says_so() -> None:
    toy = Toy()
    text = "日本語は空白を使わない。" * 1_000
    pieces = cut(text, 5)
    counter = IncrementalCounter(toy)
    most = 0
    for piece in pieces:
        before = toy.read_chars
        counter.feed(piece)
        assert counter.count
        most = max(most, toy.read_chars - before)
    assert not counter.is_exact
    assert most <= 2 * MAX_TAIL_CHARS
    assert counter.count == pytest.approx(Toy().count(text), rel=0.01)


def test_shorter_text_without_boundaries_is_exact() -> None:
    text = "あ" * MAX_TAIL_CHARS
    counter = fed(Toy(), cut(text, 7))
    assert counter.is_exact
    assert counter.count == Toy().count(text)


@pytest.mark.parametrize("gap", ["  a", " 1", "\na", "\u00a0a", " é", " \u0301a", "a"])
def test_only_one_space_before_an_ascii_letter_is_a_boundary(gap: str) -> None:
    """Anything else may be joined to what stands before it; a text of nothing else is kept whole."""
    toy = Toy()
    text = ("x" + gap) * ((TAIL_CHARS // (1 + len(gap))) + 60)
    counter = fed(toy, [text])
    assert counter.count == Toy().count(text)
    assert (toy.calls, toy.read_chars) == (1, len(text))
    bounded = Toy()
    assert fed(bounded, [text + " a"]).count == Toy().count(text + " a")
    assert bounded.calls == 2


def test_nothing_has_no_tokens() -> None:
    counter = IncrementalCounter(Toy())
    assert (counter.count, counter.is_exact) == (0, True)
    counter.feed("")
    assert counter.count == 0


# -- vocabularies ----------------------------------------------------------------------------------------------------


def real(vocabulary: str) -> BytePairTokenizer:
    pytest.importorskip("rs_bpe", reason="the package of the extra `tokens` is not installed")
    tokenizer = load_vocabulary(vocabulary)
    assert tokenizer is not None
    return tokenizer


@pytest.mark.parametrize(
    ("model", "vocabulary"),
    [
        *((name, "o200k_base") for name in ("gpt-4o", "gpt-4o-mini-2024-07-18", "GPT-4.1-nano", "gpt-4.5-preview")),
        *((name, "o200k_base") for name in ("gpt-5", "gpt-5.2-mini", "o1", "o3-mini", "o4-mini", "chatgpt-4o-latest")),
        *((name, "o200k_base") for name in ("openai/gpt-4o", "ft:gpt-4o-mini-2024-07-18:acme::id")),
        *((name, "cl100k_base") for name in ("gpt-4", "gpt-4-turbo", "gpt-4-0613", "gpt-3.5-turbo", "gpt-35-turbo")),
        *((name, None) for name in ("", "llama-3.1-8b", "gpt-4all", "gpt-oss-120b", "gpt-2", "gpt-40", "o10", "omni")),
        *((name, None) for name in ("smollm2-135m-instruct", "my-gpt-4o", "gpt-4.7", "davinci-002", "o")),
    ],
)
def test_only_models_whose_vocabulary_it_is(model: str, vocabulary: str | None) -> None:
    assert vocabulary_of(model) == vocabulary


def test_the_vocabularies_are_the_real_ones() -> None:
    # Counts that OpenAI published.
    for text, count in (("tiktoken is great!", 6), ("antidisestablishmentarianism", 6), ("2 + 2 = 4", 7)):
        assert [real(vocabulary).count(text) for vocabulary in VOCABULARIES] == [count, count]
    assert real("cl100k_base").count("お誕生日おめでとう") == 9
    assert real("o200k_base").count("お誕生日おめでとう") == 8


def test_half_a_surrogate_pair_does_not_stop_the_counting() -> None:
    assert real("o200k_base").count("a\ud83d") > 0


def test_another_model_is_counted_by_estimate() -> None:
    real("o200k_base")
    exact, estimated = tokenizer_for("gpt-4"), tokenizer_for("llama-3.1-8b")
    assert exact is not None
    assert estimated is not None
    assert (exact[1], estimated[1]) == (True, False)
    assert exact[0] is load_vocabulary("cl100k_base")
    assert estimated[0] is load_vocabulary("o200k_base")
    unknown = tokenizer_for(None)
    assert unknown is not None
    assert not unknown[1]


def test_without_the_package_nothing_is_counted_and_nothing_said() -> None:
    program = (
        "import sys; sys.modules['rs_bpe'] = None\n"
        "from utils.vocabularies import tokenizer_for\n"
        "assert tokenizer_for('gpt-4o') is None\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_vocabulary_that_the_package_does_not_have() -> None:
    assert load_vocabulary("p50k_base") is None
