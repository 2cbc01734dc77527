"""The lexical model: its data are what the header says, its scores are the library's, its worth is what we say."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import re
import sys
import zlib
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

import utils.guardrails.toxicity as toxicity
from utils.errors import ConfigError
from utils.guardrails.toxicity import DEFAULT_THRESHOLD, LexicalToxicity
from utils.guardrails.toxicity_weights import WEIGHTS_FILE, read_weights

ROOT = Path(__file__).resolve().parents[2]
RECORDED = [
    json.loads(line) for line in (Path(__file__).parent / "test_toxicity_scores.jsonl").read_text().splitlines()
]
MODEL = LexicalToxicity()
EPSILON = 1e-6


def script(path: str) -> ModuleType:
    """A file that is run, not imported, elsewhere."""
    name = f"_{Path(path).stem}_under_test"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.mark.parametrize("row", RECORDED, ids=lambda row: repr(row["text"][:40]))
def test_a_score_is_the_score_of_the_library(row: dict[str, object]) -> None:
    assert abs(MODEL.score(str(row["text"])) - float(str(row["score"]))) < EPSILON


def test_the_library_scored_every_labelled_sentence_and_every_edge_case() -> None:
    bench, export = script("benchmarks/bench_toxicity.py"), script("tools/export_toxicity_model.py")
    assert [row["text"] for row in RECORDED] == [*export.EDGE_CASES, *(row.text for row in bench.labelled())]


@given(st.text(max_size=200))
def test_every_text_has_a_score_between_zero_and_one(text: str) -> None:
    assert 0.0 <= MODEL.score(text) <= 1.0


@given(st.lists(st.sampled_from(["idiot", "the", "book", "kill", "2024", "josé", "unheardofword"]), max_size=30))
def test_order_case_and_unknown_words_do_not_matter_to_the_score(words: list[str]) -> None:
    score = MODEL.score(" ".join(words))
    assert MODEL.score("-".join([*reversed(words), "Zzqxw"]).upper()) == pytest.approx(score, abs=1e-12)


def test_the_hash_in_the_header_is_the_hash_of_the_table() -> None:
    head, _, packed = WEIGHTS_FILE.read_bytes().partition(b"\n")
    header = json.loads(head)
    assert hashlib.sha256(zlib.decompress(packed)).hexdigest() == header["table_sha256"]
    export = script("tools/export_toxicity_model.py")
    assert (header["source"], header["version"]) == (export.PACKAGE, export.VERSION)
    assert header["wheel_sha256"] == export.WHEEL_SHA256
    assert header["fraction_bits"] == export.FRACTION_BITS
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in header["files_sha256"].values())
    assert WEIGHTS_FILE.stat().st_size < 500_000


def test_the_licence_stands_beside_the_data() -> None:
    header = read_weights().header
    name = header["licence"].removeprefix("MIT, see ")
    licence = (WEIGHTS_FILE.parent / name).read_text(encoding="utf-8")
    assert licence.startswith("MIT License\n\nCopyright (c) 2018 Victor Zhou")
    assert "The above copyright notice and this permission notice shall be included" in licence


def test_rounding_is_too_fine_to_move_a_score_for_the_words_of_a_window() -> None:
    weights = read_weights()
    words = 1100
    assert words**0.5 * weights.scale / 2 / 4 < EPSILON


def test_what_the_export_packs_is_what_is_read(tmp_path: Path) -> None:
    export = script("tools/export_toxicity_model.py")
    columns = [[-(2**31), 2**31 - 1, 0], [1, -1, 258]]
    table = export._packed(["aa", "bb", "é連"], [1, 70000, 3], columns)
    header = {
        "words": 3,
        "table_sha256": hashlib.sha256(table).hexdigest(),
        "documents_plus_one": 140000,
        "fraction_bits": 1,
        "intercepts": [0.5, -1.0],
    }
    path = tmp_path / "weights.bin"
    path.write_bytes(json.dumps(header).encode() + b"\n" + zlib.compress(table))
    weights = read_weights(path)
    assert weights.index == {"aa": 0, "bb": 1, "é連": 2}
    assert [list(column) for column in weights.columns] == columns
    assert weights.idf[1] == pytest.approx(1.6931471805599454, abs=1e-15)
    assert (weights.scale, weights.intercepts) == (0.5, (0.5, -1.0))


def test_document_counts_are_recovered_exactly_or_not_at_all() -> None:
    export = script("tools/export_toxicity_model.py")
    counts = [20, 21, 900, 25000]
    assert export._document_counts([math.log(184351 / n) + 1 for n in counts]) == (184351, counts)
    with pytest.raises(SystemExit, match="cannot be recovered"):
        export._document_counts([9.123456, 3.3333333, 1.7777777])


def damaged(case: str) -> bytes:
    head, _, packed = WEIGHTS_FILE.read_bytes().partition(b"\n")
    table = zlib.decompress(packed)
    match case:
        case "a changed weight":
            return head + b"\n" + zlib.compress(table[:-1] + bytes([table[-1] ^ 1]), 1)
        case "cut":
            return head + b"\n" + packed[: len(packed) // 2]
        case "a table that is too short, with its own hash":
            header = json.loads(head) | {"table_sha256": hashlib.sha256(table[:-4]).hexdigest()}
            return json.dumps(header).encode() + b"\n" + zlib.compress(table[:-4], 1)
        case "another number of words":
            return json.dumps(json.loads(head) | {"words": 15441}).encode() + b"\n" + packed
        case "no header":
            return packed
        case "a header without a hash":
            return b'{"words": 1}\n' + packed
        case "a header that is no object":
            return b"[]\n" + packed
        case "text behind the header":
            return head + b"\nnot packed"
        case _:
            return b""


@pytest.mark.parametrize(
    "case",
    [
        "a changed weight",
        "cut",
        "a table that is too short, with its own hash",
        "another number of words",
        "no header",
        "a header without a hash",
        "a header that is no object",
        "text behind the header",
        "empty",
    ],
)
def test_a_damaged_file_is_refused(case: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(damaged(case))
    with pytest.raises(ConfigError) as caught:
        read_weights(path)
    assert caught.value.message.startswith(f"the toxicity model {str(path)!r} cannot be used: it")
    assert "--toxicity off" in caught.value.hint


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be used: No such file or directory"):
        read_weights(tmp_path / "none.bin")


def test_the_data_are_read_at_the_first_score_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    weights = read_weights()
    monkeypatch.setattr(toxicity, "read_weights", lambda: reads.append(1) or weights)
    model = LexicalToxicity()
    assert reads == []
    model.score("one")
    model.score("two")
    model.load()
    assert reads == [1]


def test_the_worth_that_the_documentation_states_is_the_measured_one() -> None:
    bench = script("benchmarks/bench_toxicity.py")
    rows = bench.labelled()
    scores = {row.text: MODEL.score(row.text) for row in rows}
    everything = bench.confusion(rows, scores, DEFAULT_THRESHOLD)
    unseen = bench.confusion([row for row in rows if not row.chooses], scores, DEFAULT_THRESHOLD)
    said = " ".join((toxicity.__doc__ or "").split())
    size = f"({sum(row.is_toxic for row in rows)} toxic sentences, {sum(not row.is_toxic for row in rows)} neutral ones"
    assert size in said
    assert f"precision {everything.precision:.2f}, recall {everything.recall:.2f}, F1 {everything.f(1):.2f}." in said
    assert f"threshold: {unseen.precision:.2f}, {unseen.recall:.2f}, {unseen.f(1):.2f}." in said
    assert bench.chosen_threshold(rows, scores) == DEFAULT_THRESHOLD


def test_the_labelled_set_holds_what_word_lists_get_wrong() -> None:
    rows = script("benchmarks/bench_toxicity.py").labelled()
    neutral = {row.category for row in rows if not row.is_toxic}
    assert {"technical", "idiom", "news", "medical", "legal", "history", "quotation", "identity", "code"} <= neutral
    assert sum(not row.is_toxic for row in rows) >= 100
